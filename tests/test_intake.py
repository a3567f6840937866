"""What happens when a process takes a partition: what is refused changes nothing, and what is journaled holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
import pytest

from alumicatalyst._core import Dictionary
from alumicatalyst.dictionary import draft
from alumicatalyst.errors import InputError
from alumicatalyst.lake import Lake
from alumicatalyst.lake.doctor import examine
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from alumicatalyst.sources.replay import ReplaySource

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [f"2026-01-01T00:00:{second:02d}Z,{second / 10}" for second in range(25)]
    path = tmp_path / "meter.csv"
    path.write_text("\n".join(["time,level", *rows]) + "\n")
    return path


def pipeline(file: Path, text: str, lake: Lake, *, accept_dictionary: bool = False, partitions: int = 1) -> Pipeline:
    dictionary = Dictionary.from_toml(text)
    source = ReplaySource([file], dictionary, name="meter", partitions=partitions)
    return Pipeline(source, dictionary, lake, accept_dictionary=accept_dictionary)


def journal(lake: Lake) -> list[tuple[str, int]]:
    rows = lake.table("journal").select("SELECT kind, after_sequence FROM journal ORDER BY ordinal")
    return [(row["kind"], row["after_sequence"]) for row in rows]


def test_i2_a_replay_that_is_refused_neither_claims_nor_journals(file: Path, tmp_path: Path) -> None:
    text = draft(file)
    lake = Lake.open(f"file:{tmp_path / 'lake'}")
    working = pipeline(file, text, lake)
    intake = working.intake(working.partitions()[0])
    before = journal(lake)
    other = pipeline(
        file, text.replace('version   = "1"', 'version   = "2"'), lake, accept_dictionary=True, partitions=2
    )
    with pytest.raises(InputError):
        other.intake(other.partitions()[0])
    assert journal(lake) == before
    claims = lake.table("batches").refresh().claim(intake.partition)
    assert claims == intake.resume.claim, "the working process still holds the partition"
    intake.close()


def test_i5_a_dictionary_accepted_behind_a_journaled_flush_takes_effect_where_the_journal_says(
    file: Path, tmp_path: Path
) -> None:
    text = draft(file)
    lake = Lake.open(f"file:{tmp_path / 'lake'}")
    # A process reads everything and journals the flush, and dies before it has committed a row.
    first = pipeline(file, text, lake)
    intake = first.intake(first.partitions()[0])
    while not intake.finished:
        intake.next()
    intake.close()
    later = text.replace('version   = "1"', 'version   = "2"')
    run_loop(pipeline(file, later, lake, accept_dictionary=True))
    assert [kind for kind, _ in journal(lake)] == ["dictionary", "input", "flush", "dictionary"]
    afters = [after for _, after in journal(lake)]
    assert afters == sorted(afters)
    batches = pl.scan_delta(str(tmp_path / "lake" / "batches")).collect()
    assert set(batches["dictionary_sha256"]) == {Dictionary.from_toml(text).sha256}
    assert max(batches["last_sequence"].to_list()) <= afters[-1], "what is stored was made before the change"
    readings = pl.scan_delta(str(tmp_path / "lake" / "readings")).collect()
    assert readings.height == 25
    assert examine(lake).ok
    body = lake.table("journal").select("SELECT body FROM journal WHERE kind = 'dictionary' ORDER BY ordinal")[-1][
        "body"
    ]
    assert json.loads(body)["version"] == "2"

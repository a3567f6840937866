"""A replay from a lake: the same dictionary gives the same lake, another one its own, and what cannot be done is refused."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from alumicatalyst._core import Dictionary, Partition
from alumicatalyst.errors import IncarnationChanged, InputError, LakeError
from alumicatalyst.lake import Lake
from alumicatalyst.lake.doctor import examine
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from alumicatalyst.sources import stored_files, stored_reader
from alumicatalyst.sources.stored import StoredSource, check_target
from tests.compare import feed
from tests.logs import Envelope, seeded_log, write_log
from tests.plants import PLANTS, SECOND
from tests.replaying import assert_same, run, stored, sums
from tests.test_exactness_journal import dictionary_of, revised

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from alumicatalyst.operator import Analysed

PARTITIONS = ("hub/1/0", "hub/1/1")


def replay(
    source: Path, into: Path, dictionary: Dictionary | None = None, *, on_item: Any = None, **given: Any
) -> StoredSource:
    """Replay a lake into another; None keeps its dictionaries."""
    accept = given.pop("accept_missing", False)
    lake, target = Lake.open(f"file:{source}", create=False), Lake.open(f"file:{into}")
    found = StoredSource(lake, dictionary, accept_missing=accept)
    check_target(found, target)
    wanted = {"flush_at_end": False, "flush_rows_max": 100, "flush_interval_s": 3600.0} | given
    anything = dictionary or dictionary_of(PLANTS["narrow"])
    run_loop(Pipeline(found, anything, target, **wanted), on_item=on_item)
    return found


def monotone(dictionary: Dictionary, log: Sequence[Envelope]) -> list[Envelope]:
    """The log without envelopes that leave no row, raise partition time, and are followed by earlier times.

    What those did to partition time in between, no lake can tell.
    """
    kept = list(log)
    while True:
        run = feed(Partition("hub/1/0", dictionary), kept)
        told = {
            row["sequence_number"] for name in ("readings", "windows", "alarms", "rejected") for row in run.rows(name)
        }
        newest, risen, bad = -(2**63), -(2**63), None
        seen = -1
        for at, envelope in enumerate(kept):
            if envelope.sequence_number <= seen:
                continue
            seen = envelope.sequence_number
            if envelope.sequence_number not in told:
                if envelope.enqueued_us > newest:
                    risen, bad = envelope.enqueued_us, at if bad is None else bad
            elif envelope.enqueued_us < risen and bad is not None:
                break
            newest = max(newest, envelope.enqueued_us)
            if envelope.sequence_number in told:
                risen, bad = -(2**63), None
        else:
            return kept
        del kept[bad]


History = tuple[list[dict[str, Any]], list[dict[str, list[Envelope]]], list[bool]]


def history(seed: int) -> History:
    """What a flow goes through in some runs: dictionaries, what each run's logs hold, and which end with a flush."""
    rng = random.Random(seed)
    plant = sorted(PLANTS)[seed % len(PLANTS)]
    dictionaries = [PLANTS[plant]]
    for _ in range(rng.randint(0, 2)):
        dictionaries.append(revised(dictionaries[-1], rng))
    logs = {each: monotone(dictionary_of(PLANTS[plant]), write_log(rng, PLANTS[plant], 60)) for each in PARTITIONS}
    runs, moved = [], dict.fromkeys(PARTITIONS, 0)
    flushes = [rng.random() < 0.6 for _ in dictionaries]
    grown: dict[str, list[Envelope]] = {each: [] for each in PARTITIONS}
    for number, flush in enumerate(flushes):
        for each, log in logs.items():
            share = log[len(log) * number // len(flushes) : len(log) * (number + 1) // len(flushes)]
            # A flush takes the number behind the last envelope.
            new = [replace(e, sequence_number=e.sequence_number + 100 * moved[each]) for e in share]
            grown[each] = grown[each] + new
            moved[each] += flush
        runs.append(dict(grown))
    return dictionaries, runs, flushes


@pytest.mark.parametrize("seed", range(9))
def test_i2_a_lake_replayed_under_its_own_dictionaries_is_the_same_bit_for_bit(tmp_path, seed):
    dictionaries, runs, flushes = history(seed)
    for dictionary, logs, flush in zip(dictionaries, runs, flushes, strict=True):
        run(tmp_path / "one", dictionary_of(dictionary), logs, flush=flush)
    replay(tmp_path / "one", tmp_path / "two")
    assert_same(tmp_path / "two", tmp_path / "one")
    counts = ("rows_total", "rows_windowed", "rows_late", "rows_duplicate", "rows_rejected", "rows_windows")
    assert sums(tmp_path / "two", *counts) == sums(tmp_path / "one", *counts)
    report = examine(Lake.open(f"file:{tmp_path / 'two'}"))
    assert report.ok, report.checks

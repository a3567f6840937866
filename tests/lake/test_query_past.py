"""`lake query --as-of`: what a time or a version means for each table, on both stores, and what can be read no more."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from alumicatalyst.cli.lake_query import query as command
from alumicatalyst.errors import InputError
from alumicatalyst.lake import Lake, as_of, log, tables
from alumicatalyst.lake.query import select
from alumicatalyst.maintenance.compact import compact
from alumicatalyst.maintenance.lease import Lease
from alumicatalyst.maintenance.vacuum import vacuum
from tests.lake import plant
from tests.parts.azurite import Azurite, azurite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["azurite"]

BEGIN_MS = 1_795_300_000_000
ACCOUNT = """
    SELECT b.partition, sum(b.rows_windowed + b.rows_late) AS said, (
        SELECT count(*) FROM readings r WHERE r.partition = b.partition AND sequence_number <= max(b.last_sequence)
    ) AS stored, sum(b.rows_windows) AS windows_said, (
        SELECT count(*) FROM windows w WHERE w.partition = b.partition AND sequence_number <= max(b.last_sequence)
    ) AS windows_stored
    FROM batches b GROUP BY b.partition
"""


class Clock:
    """The wall clock of the commits: each is a second after the one before, unless somebody has set it wrong."""

    def __init__(self) -> None:
        self.now_ms = BEGIN_MS
        self.wrong_by_ms: Iterator[int] = iter(())

    def __call__(self) -> int:
        self.now_ms += 1_000
        return self.now_ms + next(self.wrong_by_ms, 0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(log, "now_ms", clock)
    return clock


def ask(lake: Lake, sql: str, *texts: str) -> list[dict[str, Any]]:
    return [row for batch in select(lake, sql, as_of.parse(texts)) for row in batch.to_pylist()]


def versions(lake: Lake, *texts: str, names: tuple[str, ...] = tuple(tables.SPECS)) -> dict[str, int]:
    found = as_of.look(lake, as_of.parse(texts), names)
    return {name: each.snapshot.version for name, each in found.items()}


def shown(time_ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)).isoformat()


def timestamps(lake: Lake, name: str) -> list[int]:
    """Return when each version was committed, as Delta's readers correct it."""
    corrected: list[int] = []
    for version in range(lake.table(name).refresh().version + 1):
        (info, *_) = lake.store.get(log.commit_path(name, version)).split(b"\n")
        told = json.loads(info)["commitInfo"]["timestamp"]
        corrected.append(max(told, corrected[-1] + 1 if corrected else 0))
    return corrected


@pytest.mark.parametrize("looked_at", [256, 5])
def test_a_time_means_the_newest_commit_at_or_before_it(
    clock: Clock, lake: Lake, monkeypatch: pytest.MonkeyPatch, looked_at: int
) -> None:
    monkeypatch.setattr(as_of, "COMMITS_LOOKED_AT", looked_at)
    plant.run(lake, 100, flush_every=5)
    when = {name: timestamps(lake, name) for name in tables.SPECS}
    begin = max(each[0] for each in when.values())
    for time_ms in range(begin, clock.now_ms + 3_000, 4_700):
        expected = {name: sum(each <= time_ms for each in found) - 1 for name, found in when.items()}
        assert versions(lake, shown(time_ms)) == expected
    assert versions(lake, "2999-01-01T00:00:00Z") == {name: len(found) - 1 for name, found in when.items()}
    with pytest.raises(InputError, match=r"the oldest version that can be read is 0 of 2026-11-21T22:26:"):
        versions(lake, "2026-11-20T00:00:00+01:00")


@pytest.mark.parametrize("seed", range(2))
def test_i1_whatever_was_sealed_at_a_time_is_there_whole_though_clocks_jump(
    clock: Clock, lake: Lake, seed: int
) -> None:
    wrong = random.Random(seed)
    clock.wrong_by_ms = iter(lambda: wrong.choice((0, 0, 0, -7_000, 5_000, -500, 20_000)), None)
    for until in (20, 40, 60):
        for partition in (plant.PARTITION, "telemetry/1/1"):
            plant.run(lake, until, flush_every=5, partition=partition)
    begin = max(timestamps(lake, name)[0] for name in tables.SPECS)
    seen = set()
    end = max(timestamps(lake, "batches"))
    for time_ms in range(begin, end, (end - begin) // 14):
        for row in ask(lake, ACCOUNT, shown(time_ms)):
            assert (row["stored"], row["windows_stored"]) == (row["said"], row["windows_said"])
            seen.add(row["stored"])
    assert len(seen) > 3


def test_a_version_is_what_deltas_own_reader_takes_it_for(lake: Lake) -> None:
    plant.run(lake, 70, flush_every=5)
    with Lease(lake, expires_s=0) as lease:
        compact(lake, lease, ["readings"], files_min=2)
    plant.run(lake, 80, flush_every=5)
    newest = lake.table("readings").refresh().version
    for version in range(newest + 1):
        (found,) = as_of.look(lake, as_of.parse([f"readings@{version}"]), ["readings"]).values()
        theirs = DeltaTable(f"{lake.store.root}/readings", version=version)
        assert {f"{lake.store.root}/readings/{path}" for path in found.paths} == set(theirs.file_uris())
        assert found.snapshot.version == version
        assert found.snapshot.mark(plant.PARTITION) == (theirs.transaction_version(plant.PARTITION) or -1)
        assert found.rows == ask(lake, "SELECT count(*) AS n FROM readings", str(version))[0]["n"]


def test_a_version_of_one_table_leaves_the_others_as_they_are(lake: Lake) -> None:
    plant.run(lake, 60, flush_every=5)
    newest = versions(lake, "readings@3")
    assert newest.pop("readings") == 3
    assert newest == {name: lake.table(name).refresh().version for name in newest}
    both = "SELECT (SELECT count(*) FROM readings) AS r, (SELECT count(*) FROM batches) AS b"
    (found,) = ask(lake, both, "readings@3", "batches@4")
    assert found == {
        "r": lake_rows(lake, "readings", 3),
        "b": lake_rows(lake, "batches", 4),
    }
    # A time for the rest.
    assert versions(lake, "readings@3", "2999-01-01T00:00:00Z")["readings"] == 3


def lake_rows(lake: Lake, name: str, version: int) -> int:
    actions = pa.table(DeltaTable(f"{lake.store.root}/{name}", version=version).get_add_actions(flatten=True))
    return sum(actions.column("num_records").to_pylist())


def test_a_version_that_was_trimmed_is_refused_with_the_oldest_that_can_be_read(lake: Lake) -> None:
    plant.run(lake, 120, flush_every=5)
    for version in range(15):
        lake.store.delete(log.commit_path("readings", version))
    with pytest.raises(InputError, match=r"as of version 13: its log begins later; .* is 14$"):
        ask(lake, "SELECT count(*) FROM readings", "13")
    (found,) = ask(lake, "SELECT max(sequence_number) AS last FROM readings", "14")
    assert found["last"] < ask(lake, "SELECT max(sequence_number) AS last FROM readings", "16")[0]["last"]
    with pytest.raises(InputError, match=r"the oldest version that can be read is 15 of 20\d\d-"):
        ask(lake, "SELECT count(*) FROM readings", shown(timestamps(lake, "batches")[10]))


def test_a_version_whose_files_were_vacuumed_is_refused_with_the_oldest_that_can_be_read(lake: Lake) -> None:
    plant.run(lake, 60, flush_every=5)
    with Lease(lake, expires_s=0) as lease:
        (done,) = compact(lake, lease, ["readings"], files_min=2)
        plant.run(lake, 80, flush_every=5)
        vacuum(lake, lease, ["readings"], signed=None, days=0)
    compacted = done.versions[-1]
    gone = done.files_before
    with pytest.raises(InputError, match=f"{gone - 1} of its {gone - 1} files were vacuumed; .* is {compacted} of 20"):
        # One flush before the last that was compacted.
        ask(lake, "SELECT count(*) FROM readings", str(compacted - 3))
    assert ask(lake, "SELECT count(*) AS n FROM readings", str(compacted))[0]["n"] == done.rows
    # Before its first row a table has no files to miss.
    assert ask(lake, "SELECT count(*) AS n FROM readings", "0") == [{"n": 0}]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["2026-11-21T06:00:00"], "a time with its offset"),
        (["yesterday"], "a time with its offset"),
        (["reading@3"], "there is no table reading; tables are readings,"),
        (["readings@3", "readings@4"], "as of two versions: 3 and 4"),
        (["3", "2026-11-21T06:00:00Z"], "give one time, or one version a table"),
        (["readings@99999"], "its newest is"),
        (["3"], "which table version 3 is of: the query may read readings, batches"),
    ],
)
def test_what_cannot_be_meant_is_refused(lake: Lake, texts: list[str], message: str) -> None:
    plant.run(lake, 10)
    with pytest.raises(InputError, match=message):
        ask(lake, "SELECT 1 FROM readings, batches", *texts)


def test_the_versions_that_were_read_can_be_handed_back(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    plant.run(lake, 30, flush_every=5)
    sql = "SELECT (SELECT count(*) FROM readings) AS r, (SELECT count(*) FROM windows) AS w"
    command(sql, uri=lake.store.root, as_of=["2999-01-01T00:00:00Z"], as_json=True)
    first = capsys.readouterr()
    told = first.err.removeprefix("as of ").strip()
    assert told == " ".join(f"{name}@{lake.table(name).refresh().version}" for name in ("readings", "windows"))
    plant.run(lake, 60, flush_every=5)
    command(sql, uri=lake.store.root, as_of=[told], as_json=True)
    assert capsys.readouterr().out == first.out


def test_a_lake_in_a_storage_account_is_read_as_it_was(azurite: Azurite, tmp_path: Path, clock: Clock) -> None:
    secret = tmp_path / "connection"
    secret.write_text(azurite.connection_string)
    lake = Lake.open(azurite.container("past") + "/north", credential=f"file:{secret}")
    plant.run(lake, 40, flush_every=10)
    then_ms = clock.now_ms
    plant.run(lake, 70, flush_every=10)
    (found,) = ask(lake, ACCOUNT, shown(then_ms))
    readings, windows = (len(plant.undisturbed(40)[name]) for name in ("readings", "windows"))
    assert (found["said"], found["stored"], found["windows_stored"]) == (readings, readings, windows)
    (found,) = ask(lake, "SELECT max(sequence_number) AS last FROM readings", "3")
    assert 10 < found["last"] <= 20

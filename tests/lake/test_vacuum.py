"""Vacuum: what nobody can need goes, and never a file that a table has, that a flow is about to commit, or unsigned."""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst import _core
from alumicatalyst.lake import Lake, tables
from alumicatalyst.lake.store import LocalStore
from alumicatalyst.maintenance.vacuum import Vacuumed, vacuum
from tests.lake import plant, upkeep
from tests.lake.upkeep import Hooked, NoLease

if TYPE_CHECKING:
    from collections.abc import Iterator

UNTIL = 20
DAY_S = 86_400


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a lake whose files were replaced, that nobody may change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_core, "state_info", plant.state_info)
        folder = tmp_path_factory.mktemp("compacted") / "lake"
        plant.run(Lake.open(str(folder)), UNTIL, flush_every=4)
        upkeep.squeeze(Lake.open(str(folder)), ["readings"])
        yield folder


@pytest.fixture
def lake(compacted: Path, tmp_path: Path) -> Lake:
    return Lake.open(str(upkeep.copy(compacted, tmp_path / "lake")))


def data_files(lake: Lake, table: str = "readings") -> set[str]:
    return {path.partition("/")[2] for path, _ in lake.store.list(table) if "/_" not in path}


def run(lake: Lake, **options: Any) -> Vacuumed:
    lease: Any = NoLease(options.pop("clock_s", None))
    found = vacuum(lake, lease, ["readings"], **{"signed": None, "days": 0} | options)
    return found[0]


def operations(lake: Lake, table: str = "readings") -> list[str]:
    return [info["operation"] for info in lake.table(table).commit_infos()]


def test_files_that_were_replaced_go_and_two_commits_say_so(lake: Lake) -> None:
    before = data_files(lake)
    live = set(lake.table("readings").files())
    report = run(lake)
    assert data_files(lake) == live
    assert report.files == len(before) - len(live) > 3
    assert operations(lake)[-2:] == ["VACUUM START", "VACUUM END"]
    *_, start, end = lake.table("readings").commit_infos()
    assert start["operationMetrics"]["numFilesToDelete"] == end["operationMetrics"]["numDeletedFiles"]
    assert end["operationMetrics"] == {"numDeletedFiles": str(report.files), "numDeletedBytes": str(report.bytes)}
    plant.assert_exact(lake, UNTIL)


def test_where_nothing_is_to_be_deleted_nothing_is_committed(lake: Lake) -> None:
    run(lake)
    before = {name: lake.table(name).refresh().version for name in tables.SPECS}
    assert run(lake).files == 0
    assert {name: lake.table(name).refresh().version for name in tables.SPECS} == before


def test_a_dry_run_tells_what_would_go_and_writes_nothing(lake: Lake) -> None:
    before = list(lake.store.list(""))
    (told, _) = vacuum(lake, None, ["readings"], signed=None, days=0)
    assert list(lake.store.list("")) == before
    assert told.files == run(lake).files


def test_files_stay_for_some_days_after_they_were_written_and_after_they_were_taken_out(lake: Lake) -> None:
    assert run(lake, days=1).files == 0
    # Two days on by the store's clock, and written long ago: only when they were taken out counts still.
    for path in data_files(lake):
        os.utime(Path(lake.store.root, "readings", path), (0, 0))
    assert run(lake, days=1).files == 0
    assert run(lake, days=1, clock_s=time.time() + 2 * DAY_S).files > 3
    plant.assert_exact(lake, UNTIL)


def test_files_that_no_commit_names_stay_until_they_are_old(lake: Lake) -> None:
    run(lake)
    orphan = Path(lake.store.root, "readings", "date=2026-11-21", "part-of-another-tool.parquet")
    orphan.write_bytes(b"x")
    assert run(lake, days=1).files == 0
    assert run(lake, days=1, clock_s=time.time() + 2 * DAY_S).files == 1
    assert not orphan.exists()


def test_files_of_commits_that_the_ledger_has_not_signed_stay(lake: Lake) -> None:
    last = lake.table("readings").refresh().version
    # The compaction's commits are the last two: what they replaced has to wait.
    assert run(lake, signed={"readings": last - 2}).files == 0
    report = run(lake, signed={"readings": last - 1})
    assert report.files > 0
    assert report.unsigned > 0
    assert run(lake, signed={}).files == 0
    assert run(lake, signed={"readings": last}).files == report.unsigned
    plant.assert_exact(lake, UNTIL)


def test_folders_of_other_tools_and_young_unfinished_writes_stay(lake: Lake) -> None:
    kept = [Path(lake.store.root, "readings", name) for name in ("_sidecars/a", ".hidden", "date=2026-11-21/a.tmp")]
    kept.append(Path(lake.store.root, "_state", "b.tmp"))
    for each in kept:
        each.parent.mkdir(exist_ok=True)
        each.write_bytes(b"x")
    vacuum(lake, NoLease(), ["readings"], signed=None, days=0)  # type: ignore[arg-type]
    assert all(each.exists() for each in kept)
    late: Any = NoLease(time.time() + 2 * DAY_S)
    *_, leftovers = vacuum(lake, late, ["readings"], signed=None, days=0)
    assert (leftovers.table, leftovers.files) == ("", 2)
    assert [each.exists() for each in kept] == [True, True, False, False]


def test_paths_that_the_log_has_to_encode_are_told_from_others(lake: Lake) -> None:
    from alumicatalyst.lake import log
    from alumicatalyst.lake.commit import Plan, append

    table = lake.table("readings")
    files = table.files()
    path, action = min(files.items())
    strange = "date=2026-11-21/part a%b.parquet"
    Path(lake.store.root, "readings", path).rename(Path(lake.store.root, "readings", strange))
    moved = {"add": action | {"path": "date=2026-11-21/part%20a%25b.parquet"}}
    removal = log.removal(action, data_change=False)
    append(table, {}, lambda _: Plan({}, actions=[removal, moved]), lake.retry)
    run(lake)
    assert strange in data_files(lake)
    plant.assert_exact(lake, UNTIL)


def test_i5_a_vacuum_after_any_write_of_a_flow_takes_none_of_its_files(compacted: Path, tmp_path: Path) -> None:
    """Even of a flow that sleeps between putting a file and committing it, and with files of no age at all."""
    taken = 0
    for at in itertools.count():
        folder = upkeep.copy(compacted, tmp_path / "lake")

        def clear(folder: Path = folder) -> None:
            nonlocal taken
            lease: Any = NoLease()
            found = vacuum(Lake.open(str(folder)), lease, tables.SPECS, signed=None, days=0)
            taken += sum(each.files for each in found)

        upkeep.sweep(Lake.open(str(folder)), tuple(tables.SPECS))
        store = Hooked(LocalStore(folder), at, clear, after=True)
        plant.run(upkeep.open_hooked(folder, store), UNTIL + 4, flush_every=4)
        lake = Lake.open(str(folder))
        plant.assert_exact(lake, UNTIL + 4)
        upkeep.assert_whole(lake)
        if at >= store.writes:
            break
    # Some of them did come between a file and its commit, and the flow put the file again.
    assert taken >= len(plant.TABLES)


def test_a_vacuum_that_was_killed_is_done_by_the_next_one(compacted: Path, tmp_path: Path) -> None:
    folder = upkeep.copy(compacted, tmp_path / "lake")
    store = Hooked(LocalStore(folder), 3, upkeep.kill)
    assert not upkeep.survive(lambda: upkeep.sweep(upkeep.open_hooked(folder, store)))
    lake = Lake.open(str(folder))
    assert operations(lake)[-1] == "VACUUM START"
    run(lake)
    assert data_files(lake) == set(lake.table("readings").files())
    assert json.dumps(operations(lake)[-3:]) == json.dumps(["VACUUM START", "VACUUM START", "VACUUM END"])

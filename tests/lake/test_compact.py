"""Compaction: rows and their locators stay what they are, whatever happens meanwhile and wherever it is killed."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst import _core
from alumicatalyst.lake import Lake
from alumicatalyst.lake.doctor import examine
from alumicatalyst.lake.store import LocalStore
from alumicatalyst.maintenance import rewrite
from alumicatalyst.maintenance.compact import Compacted, compact, jobs
from alumicatalyst.maintenance.lease import Lease, Stopped
from tests.lake import plant, upkeep
from tests.lake.upkeep import Hooked, NoLease

if TYPE_CHECKING:
    from collections.abc import Iterator

UNTIL = 34


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a lake of a few flushes that nobody may change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_core, "state_info", plant.state_info)
        folder = tmp_path_factory.mktemp("grown") / "lake"
        plant.run(Lake.open(str(folder)), UNTIL, flush_every=2)
        yield folder


def actions_of(lake: Lake, table: str, kind: str) -> list[dict[str, Any]]:
    data = lake.store.get(f"{table}/_delta_log/{lake.table(table).refresh().version:020d}.json")
    return [action[kind] for line in data.splitlines() if kind in (action := json.loads(line))]


def test_i5_small_files_of_a_day_become_one_sorted_file_with_the_same_rows(grown: Path, tmp_path: Path) -> None:
    lake = Lake.open(str(upkeep.copy(grown, tmp_path / "lake")))
    before = upkeep.rows(lake, plant.TABLES)
    with Lease(lake) as lease:
        done = {each.table: each for each in compact(lake, lease, plant.TABLES, files_min=2)}
    assert upkeep.rows(lake, plant.TABLES) == before
    plant.assert_exact(lake, UNTIL)
    assert examine(lake).ok
    days = {each["partitionValues"]["date"] for each in lake.table("readings").files().values()}
    assert len(lake.table("readings").files()) == len(days) == done["readings"].files_after
    assert done["readings"].rows == sum(before["readings"].values())
    for path in lake.table("readings").files():
        found = pl.read_parquet(Path(lake.store.root, "readings", path), hive_partitioning=False)
        keys = list(found.select("device", "metric", "event_time", "sequence_number", "item").iter_rows())
        assert keys == sorted(keys)


def test_the_commit_says_what_it_replaced_and_by_what(grown: Path, tmp_path: Path) -> None:
    lake = Lake.open(str(upkeep.copy(grown, tmp_path / "lake")))
    replaced = set(lake.table("windows").files())
    (done,) = compact(lake, NoLease(), ["windows"], files_min=2)  # type: ignore[arg-type]
    (info,) = actions_of(lake, "windows", "commitInfo")
    adds, removes = actions_of(lake, "windows", "add"), actions_of(lake, "windows", "remove")
    assert info["operation"] == "OPTIMIZE"
    assert [each["path"] for each in info["files"]] == [each["path"] for each in adds]
    assert all(each.keys() == {"path", "sha256", "bytes", "rows"} for each in info["files"])
    assert {each["path"] for each in removes} <= replaced
    assert all(each["dataChange"] is False for each in [*adds, *removes])
    assert all(each["size"] > 0 and each["partitionValues"] for each in removes)
    assert actions_of(lake, "windows", "txn")[0]["appId"] == "claim/maintenance"
    assert done.versions[-1] == lake.table("windows").refresh().version
    # Readers other than ours see the same table.
    assert DeltaTable(f"{lake.store.root}/windows").count() == len(plant.stored(lake)["windows"])


def test_columns_keep_their_types_and_locators_have_no_statistics(grown: Path, tmp_path: Path) -> None:
    lake = Lake.open(str(upkeep.copy(grown, tmp_path / "lake")))
    former = {each.name: each for each in schema_of(lake, "readings")}
    upkeep.squeeze(lake)
    found = {each.name: each for each in schema_of(lake, "readings")}
    assert {name: str(each.logical_type) for name, each in found.items()} == {
        name: str(each.logical_type) for name, each in former.items()
    }
    assert {name: each.max_definition_level for name, each in found.items()} == {
        name: each.max_definition_level for name, each in former.items()
    }
    for action in lake.table("readings").files().values():
        told = json.loads(action["stats"])
        assert {"device", "event_time", "value"} <= told["minValues"].keys()
        assert not [name for name in told["minValues"] if name.startswith("_")]


def schema_of(lake: Lake, table: str) -> Any:
    with lake.table(table).lock:
        lake.table(table).refresh()
        path = min(lake.table(table).files())
    return pq.ParquetFile(Path(lake.store.root, table, path)).schema


# ---------------------------------------------------------------------- what is worth it


def action(size: int, day: str | None = "2026-01-01", at: int = 0) -> dict[str, Any]:
    values = {} if day is None else {"date": day}
    return {"path": f"{day}-{at}-{size}", "size": size, "partitionValues": values, "modificationTime": at}


def sizes(files: list[dict[str, Any]], *, files_min: int = 8, today: str = "2026-01-02") -> list[list[int]]:
    found = jobs("readings", files, target_bytes=100, files_min=files_min, today=today)
    return [[each["size"] for each in job.files] for job in found]


def test_only_small_files_are_rewritten_in_the_order_in_which_they_came() -> None:
    assert sizes([action(40, at=2), action(50, at=1), action(30, at=0)]) == [[30, 40]]
    assert sizes([action(40, at=at) for at in range(5)]) == [[40, 40], [40, 40]]
    assert sizes([action(40)]) == []


def test_a_day_that_grows_waits_for_some_files_and_a_large_file_for_more_than_a_few_rows() -> None:
    assert sizes([action(1, at=at) for at in range(7)], today="2026-01-01") == []
    assert sizes([action(1, at=at) for at in range(8)], today="2026-01-01") == [[1] * 8]
    assert sizes([action(1, None, at) for at in range(7)]) == []
    assert sizes([action(49, at=0), action(1, at=1)]) == []
    assert sizes([action(49, at=0), action(7, at=1)]) == [[49, 7]]


def test_a_job_opens_a_bounded_number_of_files() -> None:
    found = sizes([action(0, at=at) for at in range(1_001)])
    assert [len(each) for each in found] == [500, 500]


def test_days_are_never_mixed() -> None:
    files = [action(1, f"2026-01-0{day}", at) for at, day in itertools.product(range(2), (1, 2, 3))]
    assert sizes(files, today="2026-02-01") == [[1, 1]] * 3


def test_a_dry_run_changes_nothing_and_tells_what_would_be(grown: Path) -> None:
    lake = Lake.open(str(grown))
    before = list(lake.store.list(""))
    (told,) = compact(lake, None, ["readings"], files_min=2)
    assert (told.files_after, told.bytes_after) == (2, 0)
    assert told.files_before == len(lake.table("readings").files())
    assert list(lake.store.list("")) == before


# ---------------------------------------------------------------------- safety


@pytest.mark.parametrize("deed", ["compact", "vacuum", "trim"])
def test_i5_a_kill_at_any_write_of_maintenance_loses_and_doubles_nothing(
    grown: Path, tmp_path: Path, deed: str
) -> None:
    ready = upkeep.copy(grown, tmp_path / "ready")
    before = upkeep.rows(Lake.open(str(ready)))
    if deed != "compact":
        upkeep.squeeze(Lake.open(str(ready)))
    for at in itertools.count():
        folder = upkeep.copy(ready, tmp_path / "lake")
        store = Hooked(LocalStore(folder), at, upkeep.kill, after=True)
        ended = upkeep.survive(lambda store=store, folder=folder: upkeep.DEEDS[deed](upkeep.open_hooked(folder, store)))  # type: ignore[misc]
        lake = Lake.open(str(folder))
        assert upkeep.rows(lake) == before, f"killed at write {at}"
        upkeep.assert_whole(lake)
        if ended:
            break
    assert at > 3
    # What the last kill left, the next round clears away; the flow goes on.
    for each in upkeep.DEEDS.values():
        each(lake)
    assert upkeep.rows(lake) == before
    upkeep.assert_whole(lake)


@pytest.mark.parametrize("after", [False, True])
def test_i5_a_store_that_fails_at_any_write_of_a_compaction_loses_and_doubles_nothing(
    grown: Path, tmp_path: Path, after: bool
) -> None:
    before = upkeep.rows(Lake.open(str(grown)))
    for at in itertools.count():
        folder = upkeep.copy(grown, tmp_path / "lake")
        store = Hooked(LocalStore(folder), at, upkeep.fail, after=after)
        upkeep.survive(lambda store=store, folder=folder: upkeep.squeeze(upkeep.open_hooked(folder, store)))  # type: ignore[misc]
        lake = Lake.open(str(folder))
        assert upkeep.rows(lake) == before
        upkeep.assert_whole(lake)
        if at > store.writes:
            break


@pytest.mark.parametrize("deed", ["compact", "vacuum", "trim"])
def test_i5_two_at_once_without_a_lease_lose_and_double_nothing(grown: Path, tmp_path: Path, deed: str) -> None:
    before = upkeep.rows(Lake.open(str(grown)))

    def meanwhile() -> None:
        other = Lake.open(str(tmp_path / "lake"))
        upkeep.squeeze(other)
        upkeep.DEEDS[deed](other)

    for at in itertools.count():
        folder = upkeep.copy(grown, tmp_path / "lake")
        store = Hooked(LocalStore(folder), at, meanwhile, after=True)
        upkeep.squeeze(upkeep.open_hooked(folder, store))
        lake = Lake.open(str(folder))
        assert upkeep.rows(lake) == before, f"{deed} at write {at}"
        upkeep.assert_whole(lake)
        if at >= store.writes:
            break


def test_i5_appends_during_a_compaction_only_move_its_commit_on(grown: Path, tmp_path: Path) -> None:
    folder = upkeep.copy(grown, tmp_path / "lake")
    other = Lake.open(str(folder))
    store = Hooked(LocalStore(folder), 1, lambda: plant.run(other, UNTIL + 9, flush_every=3))
    done = compact(upkeep.open_hooked(folder, store), NoLease(), ["readings"], files_min=2)  # type: ignore[arg-type]
    assert (done[0].files_after, done[0].dropped) == (2, 0)
    plant.assert_exact(Lake.open(str(folder)), UNTIL + 9)


def test_a_compaction_whose_files_others_replaced_is_dropped(grown: Path, tmp_path: Path) -> None:
    folder = upkeep.copy(grown, tmp_path / "lake")
    store = Hooked(LocalStore(folder), 0, lambda: upkeep.squeeze(Lake.open(str(folder))))
    (done,) = compact(upkeep.open_hooked(folder, store), NoLease(), ["readings"], files_min=2)  # type: ignore[arg-type]
    assert done == Compacted("readings", dropped=2)
    plant.assert_exact(Lake.open(str(folder)), UNTIL)


def test_a_file_that_is_damaged_keeps_its_group_as_it_is_and_nothing_else(grown: Path, tmp_path: Path) -> None:
    lake = Lake.open(str(upkeep.copy(grown, tmp_path / "lake")))
    path = Path(lake.store.root, "readings", min(lake.table("readings").files()))
    path.write_bytes(path.read_bytes()[:-7])
    for _ in range(2):
        before = lake.table("readings").files().keys()
        with Lease(lake) as lease:
            readings, windows = compact(lake, lease, ["readings", "windows"], files_min=2)
        assert readings.unreadable == 1
        assert windows.unreadable == 0
        # Other days are compacted; the group of the damaged file stays, and is tried again.
        assert str(path.relative_to(lake.store.root + "/readings")) in before & lake.table("readings").files().keys()
        path.unlink(missing_ok=True)
    assert windows.files_before == 0


def test_a_compaction_that_is_told_to_stop_leaves_the_table_as_it_is(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.open(str(upkeep.copy(grown, tmp_path / "lake")))
    before = lake.table("readings").refresh().version
    real = rewrite.rewrite
    with Lease(lake) as lease:

        def stopped(*args: Any, **options: Any) -> Any:
            lease.stop()
            return real(*args, **options)

        monkeypatch.setattr(rewrite, "rewrite", stopped)
        with pytest.raises(Stopped):
            compact(lake, lease, ["readings"], files_min=2)
    assert lake.table("readings").refresh().version == before


# ---------------------------------------------------------------------- all of it in any order

_DEEDS = st.sampled_from(["compact", "vacuum", "trim", "append"])
_STEPS = st.lists(
    st.tuples(_DEEDS, st.one_of(st.none(), st.sampled_from(["killed"]), _DEEDS), st.integers(0, 12), st.booleans()),
    min_size=2,
    max_size=6,
)


@settings(max_examples=6)
@given(steps=_STEPS)
def test_i5_any_order_of_appends_maintenance_and_kills_keeps_every_row_where_it_was_written(
    steps: list[tuple[str, str | None, int, bool]],
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="alumicatalyst-"))
    try:
        run_all(folder, steps)
    finally:
        shutil.rmtree(folder)


def run_all(folder: Path, steps: list[tuple[str, str | None, int, bool]]) -> None:
    until = 8
    plant.run(Lake.open(str(folder)), until, flush_every=2)
    known: dict[tuple[Any, ...], Any] = {}

    def do(deed: str, lake: Lake) -> None:
        nonlocal until
        if deed == "append":
            until += 4
            plant.run(lake, until, flush_every=2)
        elif deed == "killed":
            upkeep.kill()
        else:
            upkeep.DEEDS[deed](lake)

    for deed, other, at, after in steps:
        act = None if other is None else lambda other=other: do(other, Lake.open(str(folder)))
        store = Hooked(LocalStore(folder), at, act, after=after)
        upkeep.survive(lambda deed=deed, store=store: do(deed, upkeep.open_hooked(folder, store)))  # type: ignore[misc]
        lake = Lake.open(str(folder))
        upkeep.assert_whole(lake)
        found = plant.scan(lake, "readings").select("partition", "sequence_number", "item", "_batch", "_row").rows()
        where = {row[:3]: row[3:] for row in found}
        assert len(where) == len(found), "a reading is stored twice"
        assert known.items() <= where.items(), "a reading is gone, or somewhere else than it was written"
        known = where
    plant.run(Lake.open(str(folder)), until, flush_every=2)
    plant.assert_exact(Lake.open(str(folder)), until)
    assert examine(Lake.open(str(folder))).ok

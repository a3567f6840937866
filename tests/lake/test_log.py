"""The Delta log as we write it: checkpoints say what commits say, and each version follows the last one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import Lake, checkpoint, log
from alumicatalyst.lake import table as lake_table
from alumicatalyst.lake.log import LogState
from alumicatalyst.lake.table import NotNext
from alumicatalyst.lake.tables import CHECKPOINT_INTERVAL
from tests.lake import plant

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.lake.table import Table

names = st.text(st.sampled_from("ab%é /=\n\"'"), min_size=1, max_size=6)


@st.composite
def actions(draw: st.DrawFn) -> dict[str, Any]:
    name = draw(names)
    add = {
        "path": name,
        "partitionValues": draw(st.dictionaries(st.sampled_from(["date", "x"]), st.none() | names, max_size=2)),
        "size": draw(st.integers(0, 2**62)),
        "modificationTime": draw(st.integers(0, 2**50)),
        "dataChange": draw(st.booleans()),
    }
    if draw(st.booleans()):
        add["stats"] = json.dumps({"numRecords": draw(st.integers(0, 9)), "minValues": {"a": name}})
    return draw(
        st.sampled_from(
            [
                {"add": add},
                log.removal(add, data_change=draw(st.booleans())),
                log.transaction(name, draw(st.integers(0, 2**62))),
                {"metaData": {"id": name, "format": {"provider": "parquet", "options": {}}, "partitionColumns": [name],
                              "configuration": {name: name}, "schemaString": name, "createdTime": 7}},
            ]
        )
    )  # fmt: skip


def comparable(state: LogState) -> tuple[Any, ...]:
    def plain(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {path: action | {"dataChange": False} for path, action in found.items()}

    before = () if state.removed_before is None else checkpoint.plain(state.removed_before)
    return (
        state.version,
        plain(state.files),
        plain({each["path"]: each for each in before} | state.removed),
        state.transactions,
        state.metadata,
        state.protocol,
    )


@settings(max_examples=60, deadline=None)
@given(commits=st.lists(st.lists(actions(), max_size=4), min_size=1, max_size=6))
def test_a_checkpoint_says_what_the_commits_before_it_say(commits: list[list[dict[str, Any]]]) -> None:
    state = LogState(protocol={"minReaderVersion": 1, "minWriterVersion": 2}, metadata={"id": "x"})
    for version, each in enumerate(commits):
        state.apply(version, log.encode([log.commit_info("WRITE", {"said": "\n"}), *each]), "t")
    data, pointer = checkpoint.encode(state)
    found = LogState()
    checkpoint.decode(data, state.version, "t", found)
    assert comparable(found) == comparable(state)
    again = LogState()
    checkpoint.decode(checkpoint.encode(found)[0], state.version, "t", again)
    assert comparable(again) == comparable(state), "a checkpoint of what a checkpoint told"
    told = json.loads(pointer)
    assert (told["version"], told["numOfAddFiles"], told["sizeInBytes"]) == (state.version, len(state.files), len(data))


def test_files_that_were_removed_long_ago_are_forgotten_by_checkpoints() -> None:
    state = LogState(version=3)
    for path, age_ms in (("old", checkpoint.REMOVED_KEPT_MS + 60_000), ("new", 60_000)):
        state.removed[path] = {"path": path, "deletionTimestamp": log.now_ms() - age_ms, "partitionValues": {}}
    for _ in range(2):
        data, _ = checkpoint.encode(state)
        state = LogState()
        checkpoint.decode(data, 3, "t", state)
        assert state.removed_before is not None
        assert [each["path"] for each in checkpoint.plain(state.removed_before)] == ["new"]


def add(path: str) -> dict[str, Any]:
    stats = json.dumps({"numRecords": 0})
    values = {"date": "2026-01-01"}
    return {
        "add": {
            "path": path,
            "partitionValues": values,
            "size": 1,
            "modificationTime": 1,
            "dataChange": True,
            "stats": stats,
        }
    }


def test_another_reader_sees_files_removals_and_transactions_through_checkpoints(lake: Lake) -> None:
    table = lake.table("readings")
    live: set[str] = set()
    for number in range(2 * CHECKPOINT_INTERVAL + 4):
        wanted = [add(f"part-{number}.parquet")]
        live.add(f"part-{number}.parquet")
        snapshot = table.refresh()
        if number % 5 == 4:
            gone = sorted(live)[:2]
            wanted += [log.removal(table.files()[each], data_change=True) for each in gone if each in table.files()]
            live -= set(gone) & table.files().keys()
        table.commit(snapshot, wanted, {"p/1/0": number, "claim/p/1/0": 7}, {"said": [1, 2]})
        handle = DeltaTable(f"{lake.store.root}/readings")
        assert handle.version() == snapshot.version + 1
        assert set(pa.table(handle.get_add_actions()).column("path").to_pylist()) == live
        assert handle.transaction_version("p/1/0") == number
    assert set(Lake.open(lake.store.root).table("readings").contents().paths) == live


def commit(table: Table, number: int) -> None:
    table.commit(table.refresh(), [], {"p/1/0": number}, {})


def test_of_two_commits_on_one_snapshot_one_is_made(lake: Lake) -> None:
    one, other = lake.table("alarms"), Lake.open(lake.store.root).table("alarms")
    snapshot = one.refresh()
    assert other.refresh() == snapshot
    one.commit(snapshot, [], {"p/1/0": 1}, {})
    with pytest.raises(NotNext):
        other.commit(snapshot, [], {"p/1/0": 2}, {})
    assert other.refresh().mark("p/1/0") == 1


def trim(lake: Lake, table: str, below: int) -> None:
    """As maintenance does it: oldest first, nothing of the last checkpoint or after it."""
    for version in range(below):
        lake.store.delete(log.commit_path(table, version))


def test_i5_a_writer_that_slept_while_its_place_was_trimmed_commits_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper, table = Lake.open(lake.store.root).table("alarms"), lake.table("alarms")
    snapshot = sleeper.refresh()
    for number in range(1, CHECKPOINT_INTERVAL + 3):
        commit(table, number)
    trim(lake, "alarms", CHECKPOINT_INTERVAL - 1)
    # Its version is free again, as far as the store can tell.
    clock = lake_table._clock_s() + lake_table.LOOK_S_MAX + 1
    monkeypatch.setattr(lake_table, "_clock_s", lambda: clock)
    with pytest.raises(NotNext, match="trimmed"):
        sleeper.commit(snapshot, [], {"p/1/0": 99}, {})
    assert sleeper.refresh() == table.refresh()
    assert sleeper.refresh().mark("p/1/0") == CHECKPOINT_INTERVAL + 2


def test_i5_a_stray_commit_of_a_writer_that_slept_is_built_on_by_nobody(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [Lake.open(lake.store.root).table("alarms") for _ in range(2)]
    snapshot = others[0].refresh()
    assert others[1].refresh() == snapshot
    table = lake.table("alarms")
    for number in range(1, CHECKPOINT_INTERVAL + 3):
        commit(table, number)
    trim(lake, "alarms", CHECKPOINT_INTERVAL - 1)
    # As the store has it when the writer's place was trimmed between its last look and its request.
    stray = log.encode([log.commit_info("WRITE", {}), log.transaction("p/1/0", 99)])
    assert lake.store.create_if_absent(log.commit_path("alarms", snapshot.version + 1), stray)
    clock = lake_table._clock_s() + lake_table.LOOK_S_MAX + 1
    monkeypatch.setattr(lake_table, "_clock_s", lambda: clock)
    for each in others:
        assert each.refresh() == table.refresh()
        commit(each, each.refresh().mark("p/1/0") + 1)
    newest = table.refresh()
    assert newest.mark("p/1/0") == CHECKPOINT_INTERVAL + 4
    assert Lake.open(lake.store.root).table("alarms").refresh() == newest


def test_a_checkpoint_that_is_late_points_nobody_back(lake: Lake) -> None:
    table = lake.table("alarms")
    for number in range(2 * CHECKPOINT_INTERVAL):
        commit(table, number)
    pointer = f"alarms/{log.FOLDER}/{log.LAST_CHECKPOINT}"
    newest = lake.store.get(pointer)
    late = LogState()
    version = CHECKPOINT_INTERVAL - 1
    path = log.checkpoint_path("alarms", version)
    kept = lake.store.get(path)
    checkpoint.decode(kept, version, path, late)
    late.transactions["p/1/0"]["version"] = 99
    table._write_checkpoint(late)
    assert lake.store.get(pointer) == newest
    assert lake.store.get(path) == kept


def test_a_table_that_has_become_older_is_read_anew(lake: Lake) -> None:
    table = lake.table("alarms")
    for number in range(4):
        commit(table, number)
    newest = table.refresh().version
    for version in (newest, newest - 1):
        lake.store.delete(log.commit_path("alarms", version))
    assert table.refresh().mark("p/1/0") == 1
    assert table.refresh().version == newest - 2


def test_a_checkpoint_that_cannot_be_written_harms_no_commit(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    table = lake.table("alarms")
    monkeypatch.setattr(checkpoint, "encode", full)
    for number in range(CHECKPOINT_INTERVAL + 1):
        commit(table, number)
    monkeypatch.undo()
    assert Lake.open(lake.store.root).table("alarms").refresh() == table.refresh()
    for number in range(CHECKPOINT_INTERVAL):
        commit(table, 100 + number)
    assert Lake.open(lake.store.root).table("alarms").refresh() == table.refresh()


@pytest.mark.parametrize("pointer", [b"", b"{", b'{"version": 9999}', b'{"version": "x"}', None])
def test_checkpoints_are_found_without_the_pointer_to_them(lake: Lake, tmp_path: Path, pointer: bytes | None) -> None:
    plant.run(lake, 90, flush_every=4)
    folder = tmp_path / "lake" / "readings" / "_delta_log"
    trim(lake, "readings", CHECKPOINT_INTERVAL - 1)
    if pointer is None:
        (folder / "_last_checkpoint").unlink()
    else:
        (folder / "_last_checkpoint").write_bytes(pointer)
    assert Lake.open(lake.store.root).table("readings").refresh() == lake.table("readings").refresh()


def test_i9_a_log_that_is_damaged_is_a_clear_error(lake: Lake, tmp_path: Path) -> None:
    plant.run(lake, 90, flush_every=4)
    folder = tmp_path / "lake" / "readings" / "_delta_log"
    last = lake.table("readings").refresh().version
    for damage in (b"\xff", b"[]", b'{"add": 1}', b'{"txn": {"appId": "a"}}', b'{"remove": {}}'):
        path = folder / f"{last:020d}.json"
        kept = path.read_bytes()
        path.write_bytes(damage)
        with pytest.raises(LakeError, match=f"couldn't read the commit readings/_delta_log/{last:020d}.json"):
            Lake.open(lake.store.root)
        path.write_bytes(kept)
    path = max(folder.glob("*.checkpoint.parquet"))
    for data in (b"", path.read_bytes()[:-9]):
        path.write_bytes(data)
        with pytest.raises(LakeError, match="couldn't read the checkpoint readings/_delta_log/"):
            Lake.open(lake.store.root)


def test_a_table_that_another_tool_upgraded_is_left_alone(lake: Lake) -> None:
    table, other = lake.table("alarms"), Lake.open(lake.store.root).table("alarms")
    data = log.encode(
        [{"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"]}}]
    )
    lake.store.put(log.commit_path("alarms", table.refresh().version + 1), data)
    for each in (table, other):
        with pytest.raises(LakeError, match="upgraded to Delta reader 3 / writer 7"):
            each.refresh()


def test_a_log_that_was_cut_at_its_checkpoint_is_not_taken_for_an_older_table(lake: Lake, tmp_path: Path) -> None:
    table = lake.table("alarms")
    while (table.refresh().version + 1) % CHECKPOINT_INTERVAL or table.refresh().version < CHECKPOINT_INTERVAL:
        commit(table, table.refresh().version)
    lake.store.delete(log.commit_path("alarms", table.refresh().version))
    with pytest.raises(LakeError, match="the log was cut, restore it"):
        Lake.open(lake.store.root)

"""Trimming: every commit stays readable, in the log or in an archive, and readers of the table notice nothing."""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable

from alumicatalyst import _core
from alumicatalyst.errors import LakeError
from alumicatalyst.lake import Lake, archive, log
from alumicatalyst.lake.store import LocalStore
from alumicatalyst.maintenance.trim import Trimmed, trim
from tests.lake import plant, upkeep
from tests.lake.upkeep import Hooked, NoLease

if TYPE_CHECKING:
    from collections.abc import Iterator

UNTIL = 98
DAY_S = 86_400


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a lake whose readings have some checkpoints, that nobody may change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_core, "state_info", plant.state_info)
        folder = tmp_path_factory.mktemp("grown") / "lake"
        plant.run(Lake.open(str(folder)), UNTIL, flush_every=2)
        yield folder


@pytest.fixture
def lake(grown: Path, tmp_path: Path) -> Lake:
    return Lake.open(str(upkeep.copy(grown, tmp_path / "lake")))


def run(lake: Lake, **options: Any) -> Trimmed:
    lease: Any = NoLease(options.pop("clock_s", None))
    (found,) = trim(lake, lease, ["readings"], **{"signed": None, "days": 0, "age_s_min": 0, "known_s": 0} | options)
    return found


def in_log(lake: Lake) -> list[int]:
    found = (log.version_of(path) for path, _ in lake.store.list("readings/_delta_log"))
    return sorted(each for each in found if each is not None)


def checkpoints(lake: Lake) -> list[int]:
    found = (log.checkpoint_version_of(path) for path, _ in lake.store.list("readings/_delta_log"))
    return sorted(each for each in found if each is not None)


def commits(lake: Lake) -> dict[int, bytes]:
    return {each: lake.store.get(log.commit_path("readings", each)) for each in in_log(lake)}


def test_commits_before_the_second_newest_checkpoint_move_into_an_archive_byte_for_byte(lake: Lake) -> None:
    before = commits(lake)
    assert checkpoints(lake) == [14, 29, 44]
    report = run(lake)
    assert (report.commits, report.archives, report.checkpoints) == (29, 1, 1)
    assert in_log(lake) == list(range(29, len(before)))
    assert checkpoints(lake) == [29, 44]
    assert dict(archive.commits(lake.store, "readings")) == {each: before[each] for each in range(29)}
    assert archive.get(lake.store, "readings", 7) == before[7]
    assert archive.get(lake.store, "readings", 29) is None
    # Ours and others read the table as before, and the flow goes on.
    assert DeltaTable(f"{lake.store.root}/readings").version() == max(before)
    plant.run(Lake.open(lake.store.root), UNTIL + 6, flush_every=3)
    plant.assert_exact(Lake.open(lake.store.root), UNTIL + 6)
    upkeep.assert_whole(Lake.open(lake.store.root))
    assert run(lake).commits == 0


def test_nothing_goes_beyond_the_ledger_the_age_or_the_checkpoints(lake: Lake) -> None:
    assert run(lake, signed={}).commits == 0
    assert run(lake, days=1).commits == 0
    assert run(lake, age_s_min=3_600).commits == 0
    assert run(lake, signed={"readings": 9}).commits == 9
    assert in_log(lake)[0] == 9
    # Old by the store's clock, but young by their own words.
    for each in in_log(lake):
        path = Path(lake.store.root, log.commit_path("readings", each))
        path.touch()
    assert run(lake, days=1).commits == 0
    assert run(lake, days=1, clock_s=time.time() + 2 * DAY_S).commits == 20


def test_a_log_without_a_checkpoint_stays_as_it_is(lake: Lake) -> None:
    for each in checkpoints(lake):
        lake.store.delete(log.checkpoint_path("readings", each))
    assert run(lake) == Trimmed("readings")


def test_a_dry_run_changes_nothing_and_tells_what_would_move(lake: Lake) -> None:
    before = list(lake.store.list(""))
    (told,) = trim(lake, None, ["readings"], signed=None, days=0, age_s_min=0, known_s=0)
    assert list(lake.store.list("")) == before
    assert told == run(lake)


def test_large_logs_make_several_archives(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    before = commits(lake)
    monkeypatch.setattr("alumicatalyst.maintenance.trim.ARCHIVE_COMMITS_MAX", 10)
    assert run(lake).archives == 3
    assert dict(archive.commits(lake.store, "readings")) == {each: before[each] for each in range(29)}
    names = [path.rpartition("/")[2] for path, _ in lake.store.list("_archive/readings")]
    assert names[0] == f"{0:020d}-{9:020d}.zip"


def test_an_archive_that_cannot_be_read_back_costs_no_commit(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    before = in_log(lake)
    put = LocalStore.put
    monkeypatch.setattr(LocalStore, "put", lambda store, path, data: put(store, path, data[:-9]))
    with pytest.raises(LakeError, match="couldn't read the archive"):
        run(lake)
    monkeypatch.undo()
    assert in_log(lake) == before
    assert run(lake).commits == 29


def test_a_damaged_checkpoint_keeps_the_commits_that_it_stands_for(lake: Lake) -> None:
    before = in_log(lake)
    Path(lake.store.root, log.checkpoint_path("readings", 29)).write_bytes(b"PAR1")
    with pytest.raises(LakeError, match="couldn't read the checkpoint"):
        run(lake)
    assert in_log(lake) == before


def test_what_two_at_once_have_archived_is_the_same(grown: Path, tmp_path: Path) -> None:
    folder = upkeep.copy(grown, tmp_path / "lake")
    before = commits(Lake.open(str(folder)))
    # The other one ends in the middle of ours, and began with fewer commits than we have.
    act = lambda: upkeep.cut(Lake.open(str(folder)), ["readings"], {"readings": 20})  # noqa: E731
    store = Hooked(LocalStore(folder), 5, act)
    upkeep.cut(upkeep.open_hooked(folder, store))
    lake = Lake.open(str(folder))
    upkeep.assert_whole(lake)
    assert dict(archive.commits(lake.store, "readings")) == {each: before[each] for each in range(29)}


def test_a_commit_that_came_after_its_version_was_trimmed_is_set_aside(lake: Lake) -> None:
    run(lake)
    late = log.encode([log.commit_info("WRITE", {})])
    lake.store.put(log.commit_path("readings", 5), late)
    run(lake)
    assert 5 not in in_log(lake)
    (kept,) = [path for path, _ in lake.store.list("_archive/readings") if path.endswith(".json")]
    assert lake.store.get(kept) == late
    assert b"WRITE" not in (archive.get(lake.store, "readings", 0) or b"")


@pytest.mark.parametrize("damage", ["other bytes", "another name", "a member more", "a bomb"])
def test_a_damaged_archive_is_named(lake: Lake, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(lake)
    ((path, _),) = lake.store.list("_archive/readings")
    file = Path(lake.store.root, path)
    if damage == "other bytes":
        data = file.read_bytes()
        file.write_bytes(data[:60] + bytes([data[60] ^ 255]) + data[61:])
    elif damage == "another name":
        path = archive.path_of("readings", 1, 29)
        file.rename(Path(lake.store.root, path))
    elif damage == "a member more":
        with zipfile.ZipFile(file, "a") as found:
            found.writestr("more", b"")
    else:
        monkeypatch.setattr(archive, "COMMIT_BYTES_MAX", 10)
    with pytest.raises(LakeError, match=rf"couldn't read the archive {path}.*restore it"):
        archive.decode(lake.store.get(path), path)


def test_archives_are_the_same_bytes_for_the_same_commits() -> None:
    found = {3: b'{"a":1}\n', 4: json.dumps({"b": "c" * 100}).encode()}
    path = archive.path_of("readings", 3, 4)
    assert archive.encode(found) == archive.encode(dict(reversed(found.items())))
    assert archive.decode(archive.encode(found), path) == found


def test_i5_commits_are_deleted_only_when_writers_have_had_to_look_again(lake: Lake) -> None:
    """However old a clock that jumped makes them seem: what is waited for is time that passes."""
    from alumicatalyst.lake import table

    waited: list[tuple[float, list[int]]] = []

    class Waiting(NoLease):
        def wait(self, seconds: float) -> None:
            waited.append((seconds, in_log(lake)))

    lease: Any = Waiting(time.time() + 400 * DAY_S)
    before = in_log(lake)
    begun = time.monotonic()
    (done,) = trim(lake, lease, ["readings"], signed=None)
    ((seconds, there),) = waited
    assert seconds + (time.monotonic() - begun) > table.LOOK_S_MAX
    assert there == before
    assert done.commits == 29
    # All of them were in the archive by then, as a kill in between would leave them.
    (again,) = trim(lake, lease, ["readings"], signed=None)
    assert (again.commits, len(waited)) == (0, 1)

"""The lease of maintenance: one process has it, the others are told who, and whoever slept is stopped."""

from __future__ import annotations

import itertools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from alumicatalyst.errors import ClaimLost
from alumicatalyst.lake import Lake
from alumicatalyst.lake.store import LocalStore
from alumicatalyst.maintenance.compact import compact
from alumicatalyst.maintenance.lease import Holder, Lease, Stopped, holder, today
from alumicatalyst.maintenance.trim import trim
from alumicatalyst.maintenance.vacuum import vacuum
from tests.lake import plant, upkeep
from tests.lake.upkeep import Hooked


def test_a_second_process_is_told_who_is_at_it_and_since_when(lake: Lake) -> None:
    with Lease(lake) as lease:
        found = holder(lake.store)
        assert found is not None
        with pytest.raises(ClaimLost) as told:
            Lease(lake)
        assert found.owner in str(told.value)
        assert found.since in str(told.value)
    assert (found.number, lease.number) == (1, 1)


def test_a_lease_that_was_given_back_is_taken_at_once(lake: Lake) -> None:
    for number in (1, 2, 3):
        with Lease(lake) as lease:
            assert lease.number == number
    assert [path for path, _ in lake.store.list("_lease/maintenance")] == [f"_lease/maintenance/{3:020d}"]


def test_a_lease_of_a_process_that_is_gone_expires(lake: Lake) -> None:
    gone = Lease(lake)
    with pytest.raises(ClaimLost):
        Lease(lake)
    with Lease(lake, expires_s=0) as taken:
        assert taken.number == 2
        with pytest.raises(ClaimLost, match="lease 2 was taken after ours, 1"):
            gone.renew()
    with pytest.raises(ClaimLost):
        gone.check()


def test_a_clock_that_was_set_back_keeps_nobody_out(lake: Lake) -> None:
    gone = Lease(lake)
    later = time.time() + 7_200
    os.utime(Path(lake.store.root, "_lease", "maintenance", f"{gone.number:020d}"), (later, later))
    assert Lease(lake).number == 2


def test_of_several_that_ask_at_once_one_gets_it(lake: Lake) -> None:
    def ask(_: int) -> bool:
        try:
            Lease(Lake.open(lake.store.root, create=False))
        except ClaimLost:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1


def test_a_holder_that_slept_is_fenced_by_the_commits_of_its_successor(lake: Lake, tmp_path: Path) -> None:
    plant.run(lake, 24, flush_every=3)
    slept = Lease(lake)
    other = Lake.open(lake.store.root)
    with Lease(other, expires_s=0) as lease:
        compact(other, lease, ["readings"], files_min=2)
    plant.run(lake, 36, flush_every=3)
    before = lake.table("readings").refresh().version
    for act in (
        lambda: compact(lake, slept, ["readings"], files_min=2),
        lambda: vacuum(lake, slept, ["readings"], signed=None, days=0),
    ):
        with pytest.raises(ClaimLost, match="couldn't go on with maintenance"):
            act()
        slept._lost = None  # As if it had not been told, and tried the next thing.
    assert lake.table("readings").refresh().version == before
    plant.assert_exact(lake, 36)


def test_leases_that_were_removed_by_hand_begin_beyond_what_the_tables_have_seen(lake: Lake) -> None:
    plant.run(lake, 12, flush_every=3)
    for _ in range(3):
        with Lease(lake) as lease:
            pass
    with Lease(lake) as lease:
        compact(lake, lease, ["readings"], files_min=2)
    for path, _ in list(lake.store.list("_lease")):
        lake.store.delete(path)
    with Lease(lake) as lease:
        assert lease.number == 5
        compact(lake, lease, ["windows"], files_min=2)


def test_a_lease_that_cannot_be_read_is_waited_for(lake: Lake) -> None:
    with Lease(lake):
        pass
    lake.store.put(f"_lease/maintenance/{2:020d}", b"\xff{")
    with pytest.raises(ClaimLost, match="an unknown process"):
        Lease(lake)
    assert Lease(lake, expires_s=0).number == 3
    assert Holder.parse(1, b'{"owner": 1}').owner == "an unknown process"


def test_who_works_under_a_lease_can_be_told_to_stop(lake: Lake) -> None:
    called: list[int] = []
    with Lease(lake) as lease:
        with lease.interruptible(lambda: called.append(1)):
            lease.stop()
        assert called == [1]
        for act in (
            lambda: compact(lake, lease, ["readings"], files_min=2),
            lambda: trim(lake, lease, ["readings"], signed=None),
        ):
            plant.run(lake, 12, flush_every=3)
            with pytest.raises(Stopped):
                act()
    found = holder(lake.store)
    assert found is not None
    assert found.released


def test_the_lake_is_none_the_worse_for_leases(lake: Lake) -> None:
    plant.run(lake, 12, flush_every=3)
    with Lease(lake) as lease:
        upkeep.squeeze(lake, lease=lease)
    plant.run(Lake.open(lake.store.root), 20, flush_every=3)
    plant.assert_exact(lake, 20)


def test_i5_a_kill_at_any_write_under_the_lease_leaves_it_to_the_next_process(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    plant.run(Lake.open(str(ready)), 12, flush_every=3)
    for at in itertools.count():
        folder = upkeep.copy(ready, tmp_path / "lake")
        store = Hooked(LocalStore(folder), at, upkeep.kill, after=True)

        def work(folder: Path = folder, store: Hooked = store) -> None:
            lake = upkeep.open_hooked(folder, store)
            with Lease(lake) as lease:
                upkeep.squeeze(lake, lease=lease)

        ended = upkeep.survive(work)
        lake = Lake.open(str(folder))
        with Lease(lake, expires_s=0) as lease:
            upkeep.squeeze(lake, lease=lease)
            upkeep.sweep(lake, lease=lease)
        plant.assert_exact(lake, 12)
        upkeep.assert_whole(lake)
        if ended:
            break
    assert at > 3


def test_a_lake_in_a_folder_whose_name_is_a_pattern_is_compacted(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "a[1]*{b}?"))
    plant.run(lake, 12, flush_every=3)
    with Lease(lake) as lease:
        (done,) = compact(lake, lease, ["readings"], files_min=2)
    assert done.files_after == 1
    files = [Path(lake.store.root, "readings", each) for each in lake.table("readings").files()]
    found = pl.concat(pl.read_parquet(each.read_bytes()) for each in files)
    assert found.height == len(plant.undisturbed(12)["readings"])


def test_a_lease_whose_answer_was_lost_is_ours_all_the_same(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    create = LocalStore.create_if_absent

    def lost(self: LocalStore, path: str, data: bytes) -> bool:
        create(self, path, data)
        return create(self, path, data)  # As an HTTP client does that has lost its connection.

    monkeypatch.setattr(LocalStore, "create_if_absent", lost)
    with Lease(lake) as lease:
        assert lease.number == 1
        with pytest.raises(ClaimLost, match="has been at it since"):
            Lease(lake)


def test_days_are_counted_by_the_clock_of_the_store(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lease(lake) as lease:
        right, real = today(lease), time.time
        monkeypatch.setattr(time, "time", lambda: real() + 400 * 86_400)
        assert today(lease) - right < timedelta(days=2)

"""Claims and marks: the last process to take a partition keeps it, and what another has committed is never doubled."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst.errors import ClaimLost, StateError
from alumicatalyst.lake import Lake, claim, tables
from alumicatalyst.lake.commit import Retry
from alumicatalyst.lake.doctor import examine
from alumicatalyst.lake.table import Table
from alumicatalyst.operator import Analysis
from tests.conftest import ROOT
from tests.lake import plant

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.lake import Resume

OTHER = "telemetry/1/1"


def take(lake: Lake, partition: str = plant.PARTITION) -> Resume:
    return lake.resume(partition, dictionary=plant.FakeDictionary(), first_sequence=0)


def versions(lake: Lake) -> dict[str, int]:
    return {name: lake.table(name).refresh().version for name in tables.SPECS}


def test_i2_a_process_whose_claim_is_old_commits_nothing(lake: Lake, tmp_path: Path) -> None:
    zombie = take(lake)
    sink, operator = plant.sink_of(lake), plant.Operator()
    sink.write(plant.item(zombie, operator.take(0, 30), (30, operator.snapshot())))
    other = Lake.open(str(tmp_path / "lake"))
    assert take(other).mark == -1
    before = versions(other)
    with pytest.raises(ClaimLost, match=r"claimed by another process \(claim 2, ours 1\)"):
        sink.flush()
    with pytest.raises(ClaimLost):
        lake.append_journal(zombie, "tick", 30, "{}")
    assert versions(other) == before
    assert not (tmp_path / "lake" / "_state").exists()
    plant.run(other, 40)
    plant.assert_exact(other, 40)


@pytest.mark.parametrize("table", [*tables.ROW_TABLES[1:], "batches"])
def test_i5_a_claim_in_the_middle_of_a_flush_stops_the_loser_and_the_winner_cuts(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    winner = Lake.open(str(tmp_path / "lake"))
    commit = Table.commit
    done: list[Any] = []

    def claimed_before(self: Table, *given: Any) -> None:
        if self.name == table and "ranges" in given[3] and not done:
            done.append(take(winner))
        commit(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Table, "commit", claimed_before)
        with pytest.raises(ClaimLost):
            plant.run(lake, 30, flush_every=100)
    assert winner.table("readings").refresh().mark(plant.PARTITION) == 30
    assert done[0].mark == -1
    plant.run(winner, 45, flush_every=4)
    plant.assert_exact(winner, 45)


def test_i5_rows_are_cut_again_after_a_conflict(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resume = take(lake)
    sink, twin = plant.sink_of(lake), plant.sink_of(Lake.open(str(tmp_path / "lake")))
    sink.write(plant.item(resume, plant.Operator().take(0, 30)))
    # The same claim: as if a commit that was thought lost had been stored, for a part of the rows.
    twin.write(plant.item(resume, plant.Operator().take(0, 12)))
    commit = Table.commit
    done: list[Any] = []

    def after_the_twin(self: Table, *given: Any) -> None:
        if not done:
            done.append(True)
            twin.flush()
        commit(self, *given)

    monkeypatch.setattr(Table, "commit", after_the_twin)
    sink.flush()
    plant.assert_exact(lake, 30)
    assert plant.ranges(lake) == [(0, 12), (13, 30)]


def test_commits_of_other_partitions_only_make_one_try_again(lake: Lake) -> None:
    def go(partition: str) -> None:
        plant.run(Lake.open(lake.store.root), 120, flush_every=6, partition=partition)

    names = [f"telemetry/1/{number}" for number in range(4)]
    threads = [threading.Thread(target=go, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = plant.stored(lake)
    for name in names:
        mine = {table: [row for row in rows if row["partition"] == name] for table, rows in stored.items()}
        assert mine == plant.undisturbed(120, name)
    report = examine(lake)
    assert report.ok, report.checks


def test_one_commit_carries_several_partitions(lake: Lake) -> None:
    sink = plant.sink_of(lake)
    before = versions(lake)
    for partition, until in ((plant.PARTITION, 20), (OTHER, 35)):
        sink.write(plant.item(take(lake, partition), plant.Operator(partition).take(0, until)))
    sink.flush()
    assert sink.marks() == {plant.PARTITION: 20, OTHER: 35}
    claims = 2
    assert versions(lake)["readings"] == before["readings"] + claims + 1
    assert examine(lake).ok
    info = list(lake.table("readings").commit_infos())[-1]
    assert info["ranges"] == {
        plant.PARTITION: [{"follows": -1, "first": 0, "last": 20}],
        OTHER: [{"follows": -1, "first": 0, "last": 35}],
    }
    assert info["dictionary"] == [plant.FakeDictionary().sha256]
    assert info["software"]
    for file in info["files"]:
        assert len(lake.store.get(f"readings/{file['path']}")) == file["bytes"]


def test_i5_two_live_threads_on_one_partition_end_with_one_of_them(lake: Lake) -> None:
    lost: list[ClaimLost] = []
    barrier = threading.Barrier(3)

    def go() -> None:
        barrier.wait()
        try:
            plant.run(Lake.open(lake.store.root), 150, flush_every=5)
        except ClaimLost as error:
            lost.append(error)

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) <= 2
    plant.run(lake, 150)
    plant.assert_exact(lake, 150)


def test_i5_of_two_live_processes_one_stops_and_nothing_is_lost_or_doubled(lake: Lake) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.lake.writer", lake.store.root, "100"]
    # It pauses for so long that it is at work yet when the other one has started, and meets its end a pause later.
    first = subprocess.Popen([*command, "2"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "committed\n"
    second = subprocess.run([*command, "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=100)
    rest, _ = first.communicate(timeout=60)
    assert (rest, second.stdout) == ("claim lost\n", "committed\ndone\n")
    plant.assert_exact(lake, 100)


def test_a_claim_that_failed_but_was_stored_is_passed_over(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = Table.commit
    failed: list[str] = []

    def lost_answer(self: Table, *given: Any) -> None:
        commit(self, *given)
        if len(failed) < 2:
            failed.append(self.name)
            raise OSError("the answer was lost")

    monkeypatch.setattr(Table, "commit", lost_answer)
    resume = take(lake)
    assert failed == ["readings", "readings"]
    assert resume.claim == 3
    sink = plant.sink_of(lake)
    sink.write(plant.item(resume, plant.Operator().take(0, 20)))
    sink.flush()
    plant.assert_exact(lake, 20)


def test_of_two_that_claim_at_once_the_first_table_decides(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    handles = [lake.table(name) for name in tables.CLAIM_ORDER]
    follow = claim._follow
    taken: list[int] = []

    def overtaken(table: Table, partition: str, number: int, retry: Retry) -> None:
        if not taken:
            taken.append(0)
            taken[0] = claim.take(handles, partition, retry)
        follow(table, partition, number, retry)

    monkeypatch.setattr(claim, "_follow", overtaken)
    with pytest.raises(ClaimLost, match=r"claimed it meanwhile \(claim 2, ours 1\)"):
        claim.take(handles, plant.PARTITION, Retry())
    assert {name: lake.table(name).refresh().claim(plant.PARTITION) for name in tables.SPECS} == dict.fromkeys(
        tables.SPECS, 2
    )


def test_a_partition_taken_again_in_one_process_drops_what_the_former_run_buffered(lake: Lake) -> None:
    sink, former = plant.sink_of(lake), take(lake)
    sink.write(plant.item(former, plant.Operator().take(0, 9)))
    sink.write(plant.item(take(lake), plant.Operator().take(0, 20)))
    with pytest.raises(ClaimLost, match="was taken again"):
        sink.write(plant.item(former, plant.Operator().take(0, 9)))
    sink.close()
    plant.assert_exact(lake, 20)


def test_i2_a_state_that_the_next_owner_has_removed_is_a_claim_that_is_lost(lake: Lake) -> None:
    plant.run(lake, 60)
    former = take(lake)
    assert former.state_sequence >= 0
    lake.store.delete(f"_state/{plant.PARTITION}/{former.state_sequence:020d}")
    with pytest.raises(StateError, match="it was removed"):
        Analysis(lake, 60.0)._start(former)
    take(Lake.open(lake.store.root))
    with pytest.raises(ClaimLost, match="claimed by another process"):
        Analysis(lake, 60.0)._start(former)


def test_marks_survive_checkpoints_and_new_handles(lake: Lake) -> None:
    plant.run(lake, 90, flush_every=4)
    fresh = Lake.open(lake.store.root)
    for name in tables.SPECS:
        told, found = lake.table(name).refresh(), fresh.table(name).refresh()
        assert told == found
    assert fresh.table("batches").refresh().version > tables.CHECKPOINT_INTERVAL
    from deltalake import DeltaTable

    delta = DeltaTable(f"{lake.store.root}/readings")
    assert delta.transaction_version(plant.PARTITION) == fresh.table("readings").refresh().mark(plant.PARTITION)


def test_a_handle_that_fell_behind_a_trimmed_log_starts_from_a_checkpoint(lake: Lake, tmp_path: Path) -> None:
    behind = Lake.open(lake.store.root)
    behind.table("readings").refresh()
    plant.run(lake, 90, flush_every=4)
    for log in sorted((tmp_path / "lake" / "readings" / "_delta_log").glob("*.json"))[:14]:
        log.unlink()
    resume = take(behind)
    assert resume.mark == 90


def test_several_processes_may_create_the_tables_at_once(tmp_path: Path) -> None:
    failures: list[Exception] = []
    barrier = threading.Barrier(6)

    def go() -> None:
        barrier.wait()
        try:
            Lake.open(str(tmp_path))
        except Exception as error:  # noqa: BLE001 whatever it is
            failures.append(error)

    threads = [threading.Thread(target=go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(versions(Lake.open(str(tmp_path))).values()) == {0}

"""Maintenance beside a flow: on a thread of its own, by one of many processes, stopped at once, told when it fails."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst.lake import Lake
from alumicatalyst.maintenance.lease import Lease, holder
from alumicatalyst.maintenance.maintain import Limits
from alumicatalyst.maintenance.schedule import Schedule
from alumicatalyst.settings import load_settings
from tests.lake import plant

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = Limits(vacuum_days=0, log_days=0)
UNTIL = 30


@pytest.fixture
def grown(lake: Lake) -> Lake:
    plant.run(lake, UNTIL, flush_every=2)
    return lake


def schedule(lake: Lake, signed: Any = lambda _: None, **options: Any) -> Schedule:
    return Schedule(
        lambda closed: Lake.open(lake.store.root, draining=closed, create=False),
        signed,
        LIMITS,
        **{"interval_s": 3_600.0} | options,
    )


def files(lake: Lake) -> int:
    with lake.table("readings").lock:
        lake.table("readings").refresh()
        return len(lake.table("readings").files())


def test_a_round_does_what_is_due_and_gives_the_lease_back(grown: Lake) -> None:
    before = files(grown)
    schedule(grown).round()
    assert files(grown) < before
    assert "VACUUM END" in [info["operation"] for info in grown.table("readings").commit_infos()]
    plant.assert_exact(grown, UNTIL)
    found = holder(grown.store)
    assert found is not None
    assert found.released


def test_a_round_is_left_to_the_process_that_is_at_it(grown: Lake) -> None:
    before = files(grown)
    with Lease(grown):
        schedule(grown).round()
    assert files(grown) == before


def test_a_round_that_fails_is_told_and_the_next_one_tries_again(grown: Lake, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Lake) -> None:
        raise OSError("the disk is gone")

    found = schedule(grown, broken)
    before = files(grown)
    found.round()
    assert "maintenance failed" in caplog.text
    # What needs no ledger was done all the same.
    assert files(grown) < before
    found.round()
    assert holder(grown.store) is not None


def test_the_thread_runs_rounds_until_it_is_closed(grown: Lake) -> None:
    rounds = threading.Semaphore(0)

    def signed(_: Lake) -> None:
        rounds.release()

    found = schedule(grown, signed, interval_s=0.01)
    found.start()
    # Each round asks twice; the third request is the second round's.
    for _ in range(3):
        assert rounds.acquire(timeout=60)
    found.close()
    assert not any(each.name == "maintenance" for each in threading.enumerate())
    plant.assert_exact(grown, UNTIL)


def test_a_round_that_is_closed_in_the_middle_stops_there(grown: Lake) -> None:
    reached, closed = threading.Event(), threading.Event()

    def signed(_: Lake) -> None:
        reached.set()
        assert closed.wait(60)

    found = schedule(grown, signed, interval_s=0.01)
    found.start()
    assert reached.wait(60)
    closer = threading.Thread(target=found.close)
    closer.start()
    assert found._closed.wait(60)
    closed.set()
    closer.join()
    assert "VACUUM START" not in [info["operation"] for info in grown.table("readings").commit_infos()]
    given_back = holder(grown.store)
    assert given_back is not None
    assert given_back.released


def test_settings_start_it_or_do_not(tmp_path: Path) -> None:
    assert Schedule.of(load_settings(lake__uri=f"file:{tmp_path}")) is None
    made = Schedule.of(load_settings(lake__uri=f"file:{tmp_path}", maintenance__interval_s=3_600))
    assert made is not None
    made.close()

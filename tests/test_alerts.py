"""The alert sink on a stand-in for the API: what it posts, in which order, and how it finds together with the lake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.lake import plant
from tests.lake.plant import PARTITION
from tests.posting import Process, assert_same, is_settled, key, lake, recorder
from tests.recorder import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.recorder import Recorder

__all__ = ["key", "lake", "recorder"]


def has_come_to(mark: int) -> Callable[[Recorder], bool]:
    return lambda it: all(it.mark(kind, PARTITION) >= mark for kind in ("alarms", "windows", "latest"))


def test_an_alarm_is_posted_ahead_of_the_commit_and_confirmed_behind_it(lake, recorder, key):
    process = Process(lake, recorder.url, key)
    process.go(60)
    recorder.wait_until(lambda it: len(it.transitions) == 5)
    assert recorder.mark("committed", PARTITION) == -1
    assert plant.stored(lake)["alarms"] == []
    process.commit()
    recorder.wait_until(lambda it: is_settled(it, lake))
    process.end()
    assert_same(recorder, lake)
    assert not [post for post in recorder.posts if post.get("committed")], "nothing had to come from the lake"


def test_what_comes_while_a_post_is_under_way_goes_into_one(lake, recorder, key):
    recorder.order(Fault("hang", 1))
    process = Process(lake, recorder.url, key)
    process.go(2)
    recorder.wait_until(lambda it: len(it.posts) == 1)
    process.go(300)
    recorder.released.set()
    recorder.wait_until(lambda it: it.mark("alarms", PARTITION) == 300)
    alarms = [post for post in recorder.posts if post["what"] == "alarms" and post["fault"] is None]
    assert len(alarms) < 5, "a hundred outputs"
    process.end()
    assert_same(recorder, lake)


def test_marks_move_where_there_are_no_rows(lake, recorder, key, monkeypatch):
    monkeypatch.setattr("alumicatalyst.sinks.alerts_held.MARK_S", 0.02)
    process = Process(lake, recorder.url, key)
    for last in (3, 5, 8):
        process.go(last)
        recorder.wait_until(has_come_to(last))
    assert recorder.transitions == {}
    process.end()


def test_a_clean_end_posts_what_is_queued(lake, recorder, key):
    process = Process(lake, recorder.url, key)
    process.go(100)
    process.end()
    assert is_settled(recorder, lake)
    assert_same(recorder, lake)


@pytest.mark.parametrize("behind", ["nothing", "alarms", "windows", "latest", "committed", "everything"])
def test_i5_an_api_that_is_behind_gets_the_lakes_rows(behind, lake, recorder, key):
    first = Process(lake, recorder.url, key)
    for last in (40, 90):
        first.go(last)
        first.commit()
    first.end()
    with recorder.lock:
        for name in list(recorder.marks):
            if behind in {name[0], "everything"}:
                recorder.marks[name] = -1
        if behind in {"alarms", "committed", "everything"}:
            recorder.transitions.clear()
            recorder.marks["committed", PARTITION] = -1
        if behind in {"windows", "everything"}:
            recorder.windows.clear()
        if behind in {"latest", "everything"}:
            recorder.latest.clear()
    second = Process(lake, recorder.url, key)
    # The source is silent: that the process has the partition is enough.
    second.beat()
    recorder.wait_until(lambda it: is_settled(it, lake))
    assert_same(recorder, lake)
    second.go(120)
    second.end()
    assert is_settled(recorder, lake)
    assert_same(recorder, lake)


def test_i5_an_api_that_lost_its_database_while_the_flow_runs_is_filled_again(lake, recorder, key):
    process = Process(lake, recorder.url, key)
    process.go(80)
    process.commit()
    recorder.wait_until(lambda it: is_settled(it, lake))
    recorder.forget()
    process.go(110)
    # What is not committed yet waits for its commit; what is, comes at once.
    recorder.wait_until(lambda it: it.mark("committed", PARTITION) == 80)
    process.commit()
    recorder.wait_until(lambda it: is_settled(it, lake))
    process.end()
    assert_same(recorder, lake)


def test_i5_commits_are_told_again_after_a_dispute_while_the_lake_goes_on_without_a_pause(lake, recorder, key):
    first = Process(lake, recorder.url, key)
    recorder.order(untold := Fault("503", -1, ("commits",)))
    first.go(40)
    first.commit()
    first.kill()
    untold.times = 0
    second = Process(lake, recorder.url, key)
    refill = recorder._refill

    def refill_and_go_on(*post: Any) -> Any:
        # Whatever the API is sent from the lake, the lake is further when that has arrived.
        if second.operator.last < 300:
            second.go(second.operator.last + 10)
            second.commit()
        return refill(*post)

    recorder._refill = refill_and_go_on
    second.beat()
    recorder.wait_until(lambda it: it.mark("committed", PARTITION) > 40)
    with recorder.lock:
        recorder._refill = refill
    second.go(310)
    second.end()
    assert is_settled(recorder, lake)
    assert_same(recorder, lake)
    refills = [post["last"] for post in recorder.posts if post["what"] == "alarms" and "committed" in post]
    assert refills == ["40"], "what the lake had when the process took over; the rest by digests"


def test_i6_what_the_queue_cannot_hold_comes_from_the_lake(lake, recorder, key, caplog):
    down = Fault("503", -1)
    recorder.order(down)
    process = Process(lake, recorder.url, key, queue_rows_max=10)
    for last in range(50, 400, 50):
        process.go(last)
        process.commit()
    told = [record for record in caplog.records if "queue for the api full" in record.getMessage()]
    assert len(told) == 3, "once for each kind"
    down.times = 0
    recorder.wait_until(lambda it: is_settled(it, lake))
    process.go(420)
    process.end()
    assert_same(recorder, lake)
    refilled = [post for post in recorder.posts if post.get("committed")]
    assert {post["what"] for post in refilled} == {"alarms", "windows", "latest"}


@pytest.mark.parametrize(("committed_after", "step"), [(70, 3), (100, 7), (160, 3), (160, 1_000)])
def test_i5_what_was_posted_ahead_of_a_commit_that_never_came_is_taken_back(lake, recorder, key, committed_after, step):
    first = Process(lake, recorder.url, key)
    first.go(50)
    first.commit()
    first.go(110)
    recorder.wait_until(has_come_to(110))
    first.kill()
    ghosts = recorder.held_transitions()
    second = Process(lake, recorder.url, key, version="2")
    second.go(committed_after, step=step)
    second.commit()
    recorder.wait_until(lambda it: is_settled(it, lake))
    second.go(200)
    second.end()
    assert_same(recorder, lake)
    assert ghosts - recorder.held_transitions(), "some were never committed"


def test_i5_what_was_posted_before_the_first_commit_is_taken_back(lake, recorder, key):
    first = Process(lake, recorder.url, key)
    first.go(60)
    recorder.wait_until(has_come_to(60))
    first.kill()
    second = Process(lake, recorder.url, key, version="2")
    second.go(90, step=1_000)
    second.end()
    assert is_settled(recorder, lake)
    assert_same(recorder, lake)


def test_i5_what_was_posted_ahead_is_taken_back_where_the_api_was_away_at_the_start_too(lake, recorder, key):
    first = Process(lake, recorder.url, key)
    first.go(50)
    first.commit()
    first.go(110)
    recorder.wait_until(has_come_to(110))
    first.kill()
    recorder.order(away := Fault("503", -1))
    second = Process(lake, recorder.url, key, version="2")
    second.go(150)
    second.commit()
    away.times = 0
    recorder.wait_until(lambda it: is_settled(it, lake))
    second.end()
    assert_same(recorder, lake)


@pytest.mark.parametrize("committed", [60, 180])
def test_i5_ghosts_are_taken_back_by_a_third_process_where_the_second_died_on_the_way(lake, recorder, key, committed):
    first = Process(lake, recorder.url, key)
    first.go(50)
    first.commit()
    first.go(110)
    recorder.wait_until(has_come_to(110))
    first.kill()
    second = Process(lake, recorder.url, key, version="2")
    second.go(60)
    recorder.wait_until(lambda it: any(post["what"] == "latest" and post["follows"] == "50" for post in it.posts))
    recorder.order(Fault("500", -1))
    second.go(committed)
    second.commit()
    second.kill()
    recorder.faults.clear()
    third = Process(lake, recorder.url, key, version="2")
    third.go(200)
    third.end()
    assert is_settled(recorder, lake)
    assert_same(recorder, lake)


def test_partitions_of_one_process_do_not_mix(lake, recorder, key):
    names = ("telemetry/1/0", "telemetry/1/1")
    processes = [Process(lake, recorder.url, key, partition=name) for name in names]
    shared = processes[0].alerts
    processes[1].alerts.close()
    processes[1].alerts = shared
    processes[1].sink._on_committed = shared.on_committed
    for last in (30, 77):
        for process in processes:
            process.go(last)
            process.commit()
    for name in names:
        recorder.wait_until(lambda it: is_settled(it, lake, name))  # noqa: B023
    shared.close()
    assert_same(recorder, lake)


def test_a_partition_that_lost_its_state_begins_behind_what_is_stored(lake, recorder, key):
    first = Process(lake, recorder.url, key)
    first.go(100)
    first.commit(state=False)
    first.kill()
    second = Process(lake, recorder.url, key, first_sequence=90, accept_state_loss=True)
    assert second.resume.state_loss
    second.write(second.operator.take(101, 130))
    second.end()
    assert is_settled(recorder, lake)
    assert_same(recorder, lake)

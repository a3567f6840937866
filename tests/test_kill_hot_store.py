"""kill -9 of the API, of the flow, and of both: the hot store ends up with what the lake holds, and only that (I5)."""

from __future__ import annotations

import copy
import pickle
import resource
import shutil
import sqlite3
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.kill.harness import BYTEWAX, LOOP, Ground, is_quiet, make_logs
from tests.kill.hot_store import Alternating, Api, HotGround, is_alive
from tests.parts.postgres import Postgres, postgres
from tests.plants import NARROW, rule

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kill.harness import Child

__all__ = ["postgres"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

BYTEWAX_TWO_WORKERS = BYTEWAX + " -w 2"

# Other limits, so other alarms, and fewer windows.
LATER = copy.deepcopy(NARROW) | {"version": "2"}
for _metric in LATER["metrics"]:
    _metric["alarms"] = [rule("new", above=30.0, deadband=1.0)] if _metric["name"] == "cell_voltage" else []
    _metric["windows"] = [each for each in _metric["windows"] if each["name"] != "10s"]

API_POINTS = [
    "ingest:alarms before 3",
    "ingest:alarms inside 2",
    "ingest:alarms after 2",
    "ingest:windows inside 3",
    "ingest:latest after 3",
    "ingest:commits before 2",
    "ingest:commits inside 1",
    "ingest:commits after 2",
    "refill:alarms inside 1",
]

FLOW_POINTS = [
    "post:alarms before 3",
    "post:alarms after 3",
    "post:windows after 3",
    "post:latest before 3",
    "post:commits before 3",
    "post:commits after 3",
    "commit:alarms after 2",
    "commit:batches before 2",
    "commit:batches after 2",
]


def has_ended(child: Child) -> bool:
    return not is_alive(child)


def allow_until(hot: HotGround, child: Child, done: Callable[[], bool], what: str) -> None:
    """Let envelopes come, a few at a time, until something has happened."""
    until = time.monotonic() + 180
    before, waited = 0, 0
    while not done():
        # It may die as it is asked to, between the two questions.
        assert is_alive(child) or done(), child.output.read_text()[-4_000:]
        assert time.monotonic() < until, (what, child.entries()[-5:], hot.api.log())
        # Not before it has done something with the last ones, or on a slow machine the log would be at its end.
        told, waited = len(child.entries()), waited + 1
        if told > before or waited % 20 == 0:
            hot.allow_more(4)
            before = told
        time.sleep(0.1)


def test_i5_an_api_that_is_killed_at_any_point_has_the_lakes_alarms_in_the_end(tmp_path: Path) -> None:
    with HotGround.of(Ground(tmp_path, make_logs(700, 900))) as hot:
        child = hot.start(LOOP, stays=True, metered=True)
        for point in API_POINTS:
            hot.api.start(point)
            if point.startswith("refill"):
                # It knows of no commit any more, so the lake's alarms come.
                with sqlite3.connect(tmp_path / "hot.sqlite") as database:
                    database.execute("UPDATE marks SET committed = -1")
                database.close()
            allow_until(hot, child, hot.api.has_died, point)
            assert is_alive(child), "the flow goes on whatever happens to the API"
            hot.api.kill()
        hot.api.start()
        hot.drain(child)
        hot.ground.finish(LOOP)
        hot.settle()
        hot.ground.assert_whole()
        hot.assert_same()


@pytest.mark.parametrize("runner", [LOOP, BYTEWAX_TWO_WORKERS])
def test_i5_a_flow_that_is_killed_at_any_point_around_its_posts_leaves_no_ghost(runner: str, tmp_path: Path) -> None:
    with HotGround.of(Ground(tmp_path, make_logs(710, 2500))) as hot:
        hot.api.start()
        for point in FLOW_POINTS:
            hot.allow(0)
            child = hot.start(runner, point=point, metered=True)
            allow_until(hot, child, partial(has_ended, child), point)
            life = hot.bury(child)
            assert life.diary[-1]["event"] == "killed", (point, life.diary[-5:])
        hot.ground.finish(runner)
        hot.settle(runner)
        hot.ground.assert_whole()
        hot.assert_same()


def has_done_some(hot: HotGround, child: Child) -> bool:
    return hot.count(child, "post:") >= 6 and hot.count(child, "commit:") >= 2


def test_i5_api_and_flow_are_killed_in_turn_and_together(tmp_path: Path) -> None:
    with HotGround.of(Ground(tmp_path, make_logs(720, 500))) as hot:
        for victims in ("both", "flow", "api", "both", "api"):
            if hot.api.process is None:
                hot.api.start()
            hot.allow(0)
            child = hot.start(BYTEWAX, metered=True, stays=True)
            allow_until(hot, child, partial(has_done_some, hot, child), victims)
            if victims in {"both", "api"}:
                hot.api.kill()
            if victims == "api":
                # The flow ends in order, and what it would tell is told by the next one.
                hot.drain(child)
            else:
                hot.bury(child)
        hot.ground.finish(BYTEWAX)
        hot.api.start()
        hot.settle()
        hot.ground.assert_whole()
        hot.assert_same()


def test_i6_an_api_that_is_away_for_longer_than_the_queue_holds_is_filled_from_the_lake(tmp_path: Path) -> None:
    with HotGround.of(Ground(tmp_path, make_logs(730, 500))) as hot:
        hot.api.start()
        child = hot.start(LOOP, metered=True, stays=True, api__queue_rows_max=15)
        allow_until(hot, child, lambda: hot.count(child, "post:commits") >= 2, "something is posted")
        hot.api.kill()
        for _ in range(60):
            hot.allow_more(5)
            time.sleep(0.05)
        hot.allow_more(1_000)
        child.wait_until(is_quiet)
        hot.api.start()
        hot.wait_for(hot.is_settled)
        assert hot.count(child, "refill:alarms") > 0
        hot.drain(child)
        assert "queue for the api full" in hot.ground.lives[-1].output
        hot.ground.finish(LOOP)
        hot.settle()
        hot.ground.assert_whole()
        hot.assert_same()


def test_i5_ghosts_of_a_dictionary_that_was_never_committed_are_retracted(tmp_path: Path) -> None:
    with HotGround.of(Ground(tmp_path, make_logs(740, 260))) as hot:
        hot.api.start()
        post_ahead(hot)
        before = hot.all("alarms")
        ghosts = {alarm["alarm_id"] for alarm in before if alarm["provisional"]}
        assert len(ghosts) > 3
        hot.ground.use(LATER)
        child = hot.start(LOOP + " --accept-dictionary", metered=True)
        allow_until(hot, child, lambda: hot.count(child, "commit:batches") >= 1, "a commit under the other dictionary")
        hot.bury(child)
        hot.ground.finish(LOOP)
        hot.settle()
        hot.ground.assert_whole()
        hot.assert_same()
        assert_retracted(hot, ghosts)


def test_i5_ghosts_of_a_log_that_was_lost_are_retracted(tmp_path: Path) -> None:
    with HotGround.of(Ground(tmp_path, make_logs(750, 260))) as hot:
        hot.api.start()
        post_ahead(hot)
        ghosts = {alarm["alarm_id"] for alarm in hot.all("alarms") if alarm["provisional"]}
        assert len(ghosts) > 3
        # The states are gone, and of the log everything up to some envelopes behind what was posted.
        if (states := hot.ground.lake / "_state").exists():  # It may have been killed before it wrote one.
            shutil.rmtree(states)
        logs = {name: log[180:] for name, log in hot.ground.logs.items()}
        (tmp_path / "logs").write_bytes(pickle.dumps(logs))
        life = hot.start(LOOP + " --accept-state-loss").end()
        assert life.code == 0, life.output[-4_000:]
        hot.settle()
        hot.assert_same()
        assert_retracted(hot, ghosts)


def post_ahead(hot: HotGround) -> None:
    """Commit some, settle, and then have a process post without a commit until it is killed."""
    child = hot.start(LOOP, metered=True, stays=True)
    hot.allow(60)
    hot.wait_for(lambda: len(hot.ground.marks()) == 2 and hot.is_settled())
    hot.bury(child)
    hot.allow(0)
    child = hot.start(LOOP, metered=True, stays=True, lake__flush_rows_max=10**9, lake__flush_interval_s=3_600)
    hot.wait_for(lambda: len(child.opened()) == 2)
    # A state may be older than what is committed, and that is read again first.
    marks, logs = hot.ground.marks(), hot.ground.logs
    begun = child.opened().items()
    again = [sum(after < each.sequence_number <= marks[name] for each in logs[name]) for name, after in begun]
    hot.allow(60 + max(again))

    def is_ahead() -> bool:
        marks, lake = hot.marks(), hot.ground.marks()
        kinds = ("alarms", "windows", "latest")
        return all(marks[partition, kind] > mark + 30 for partition, mark in lake.items() for kind in kinds)

    hot.wait_for(is_ahead)
    hot.bury(child)


def assert_retracted(hot: HotGround, ghosts: set[str]) -> None:
    """Some of these were never committed: they are found by their id, and in no list."""
    listed = {alarm["alarm_id"] for alarm in hot.all("alarms")}
    gone = ghosts - listed
    assert gone
    for alarm_id in gone:
        assert hot.get(f"alarms/{alarm_id}")["retracted"]


def test_i5_a_database_that_is_locked_holds_up_nothing(tmp_path: Path) -> None:
    with HotGround.of(Ground(tmp_path, make_logs(760, 300))) as hot:
        hot.api.start()
        child = hot.start(LOOP, metered=True, stays=True)
        allow_until(hot, child, lambda: hot.count(child, "post:commits") >= 2, "something is posted")
        database = sqlite3.connect(tmp_path / "hot.sqlite", isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        before = hot.ground.marks()
        failures = hot.errors(child)
        hot.allow_more(1_000)
        # Longer than the API waits for a lock: it has said that it is busy, and the flow has committed all the same.
        hot.wait_for(lambda: hot.errors(child) > failures)
        child.wait_until(is_quiet)
        hot.wait_for(lambda: all(hot.ground.marks()[name] > mark for name, mark in before.items()))
        database.execute("ROLLBACK")
        database.close()
        hot.wait_for(hot.is_settled)
        hot.drain(child)
        hot.ground.finish(LOOP)
        hot.settle()
        hot.assert_same()


def test_i5_a_disk_that_is_full_holds_up_nothing(tmp_path: Path) -> None:
    with HotGround.of(Ground(tmp_path, make_logs(770, 300))) as hot:
        hot.api.start()
        child = hot.start(LOOP, metered=True, stays=True)
        allow_until(hot, child, lambda: hot.count(child, "post:commits") >= 2, "something is posted")
        assert hot.api.process is not None
        assert hot.api.process.pid is not None
        # As if the disk were full: no file of that process may grow beyond where the database stands.
        size = max(file.stat().st_size for file in tmp_path.glob("hot.sqlite*"))
        pid = hot.api.process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        failures = hot.errors(child)
        hot.allow_more(1_000)
        hot.wait_for(lambda: hot.errors(child) > failures)
        child.wait_until(is_quiet)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        hot.wait_for(hot.is_settled)
        hot.drain(child)
        hot.ground.finish(LOOP)
        hot.settle()
        hot.assert_same()


def test_i5_two_replicas_on_postgresql_serve_one_stream(tmp_path: Path, postgres: Postgres) -> None:
    name = postgres.database()
    url = postgres.url(name)
    with HotGround.of(Ground(tmp_path, make_logs(780, 400)), url) as hot:
        replicas = [hot.api, Api(tmp_path, url)]
        try:
            for replica in replicas:
                replica.start()
            with Alternating(replicas) as proxy:
                hot.ground.settings["api__url"] = proxy.url
                child = hot.start(BYTEWAX_TWO_WORKERS, metered=True, stays=True)
                allow_until(hot, child, lambda: min(proxy.served) >= 5, "both serve")
                replicas[1].kill()
                served = proxy.served[0]
                allow_until(hot, child, lambda: proxy.served[0] >= served + 5, "one serves")
                replicas[1].start()
                allow_until(hot, child, lambda: min(proxy.served) >= served + 3, "both serve again")
                hot.drain(child)
                hot.ground.finish(BYTEWAX)
                hot.settle()
                hot.ground.assert_whole()
                hot.assert_same()
        finally:
            replicas[1].kill()
    postgres.drop(name)

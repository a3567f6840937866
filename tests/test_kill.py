"""kill -9 at named points and at random times, on both runners: the lake ends up as if nothing had happened (I5).

Children run the real flow on logs of the tests (`tests/kill/child.py`); the lake they leave is compared bit for
bit with the core's tables over the whole log and journal, and those with the oracle.
"""

from __future__ import annotations

import copy
import random
import signal
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.kill.harness import BYTEWAX, LOOP, Ground, make_logs
from tests.plants import NARROW, SECOND, metric

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

BYTEWAX_TWO_WORKERS = BYTEWAX + " -w 2"
RUNNERS = {"loop": (LOOP, LOOP), "bytewax": (BYTEWAX, BYTEWAX_TWO_WORKERS)}
QUOTA = 90

LATER = copy.deepcopy(NARROW) | {"version": "2"}
for _metric in LATER["metrics"]:
    _metric["out_of_orderness_us"] = 12 * SECOND
    _metric["range"] = _metric["range"] and [_metric["range"][0], _metric["range"][1] / 2]
    # A narrower range leaves no room for their limits, so what is active clears.
    _metric["alarms"] = []
LATER["metrics"][0]["windows"] += metric("", 120)["windows"]

# The second or third call in a life, so that there is something to lose.
POINTS = [
    "put:readings before 3",
    "put:readings inside 2",
    "put:readings after 2",
    "commit:readings before 2",
    "commit:readings after 2",
    "put:windows before 2",
    "put:windows inside 3",
    "commit:windows before 2",
    "commit:windows after 2",
    "put:rejected inside 2",
    "commit:rejected before 3",
    "commit:rejected after 2",
    "put:batches inside 2",
    "commit:batches before 2",
    "commit:batches after 1",
    "commit:batches after 3",
    "create:_state before 1",
    "create:_state inside 2",
    "create:_state after 1",
]
RANDOM_KILLS = 5


def campaign(ground: Ground, runners: tuple[str, str], seed: int) -> Ground:
    """Kill one child after another, then let a last one finish."""
    rng = random.Random(seed)
    for point in POINTS:
        ground.kill_at(rng.choice(runners), point, QUOTA)
    for _ in range(RANDOM_KILLS):
        ground.kill_after(rng.choice(runners), rng.randint(1, 9), rng.uniform(0, 0.3), QUOTA)
    ground.finish(runners[0])
    return ground


@pytest.fixture(scope="module", autouse=True)
def campaigns(request, tmp_path_factory):
    """Both runners' campaigns, behind the other tests' backs: a child mostly waits, and theirs come last."""
    found: dict[str, Future[Ground]] = {}
    wanted = [item.name for item in request.session.items if "kills_at_any_point" in item.name]
    with ThreadPoolExecutor(2) as pool:
        for seed, (name, runners) in enumerate(RUNNERS.items()):
            if any(name in test for test in wanted):
                ground = Ground(tmp_path_factory.mktemp(name), make_logs(100 + seed, 2_300))
                found[name] = pool.submit(campaign, ground, runners, seed)
        yield found


def assert_doctor_finds_nothing(ground: Ground) -> None:
    found = ground.doctor()
    assert found.returncode == 0, found.stdout + found.stderr


# Of the journal's rows the first two are the dictionaries', the next two the flushes.
ENDS = [
    (LOOP, "commit:journal before 3"),
    (LOOP, "commit:journal after 3"),
    (LOOP, "commit:windows before 1"),
    (LOOP, "commit:batches after 1"),
    (BYTEWAX, "commit:journal before 4"),
    (BYTEWAX, "commit:journal after 4"),
    (BYTEWAX_TWO_WORKERS, "commit:windows after 1"),
]


@pytest.mark.parametrize(("runner", "point"), ENDS)
def test_i5_a_kill_around_the_flush_at_the_end_of_the_input_leaves_no_window_open(runner, point, tmp_path):
    # Everything fits into one flush of the lake, so that what is written is the end.
    ground = Ground(tmp_path, make_logs(300, 40))
    life = ground.start(runner, point=point, pace_s=0.0, lake__flush_rows_max=10**6, lake__flush_interval_s=60).end()
    assert life.diary[-1] == {"event": "killed", "at": point.split()[0]}
    ground.finish(runner)
    ground.assert_whole()


@pytest.mark.parametrize("point", ["commit:journal after 3", "commit:journal after 4"])
@pytest.mark.parametrize("runner", [LOOP, BYTEWAX])
def test_i5_a_flush_is_not_forgotten_where_the_state_covers_all_the_input(runner, point, tmp_path):
    # Every batch is committed and followed by a state: after the kill there is no envelope left to read.
    ground = Ground(tmp_path, make_logs(320, 40))
    child = ground.start(runner, point=point, pace_s=0.05, lake__flush_rows_max=1, lake__state_interval_s=0.001)
    ground.lives.append(child.end())
    assert ground.lives[-1].diary[-1] == {"event": "killed", "at": "commit:journal"}
    ground.finish(runner)
    ground.assert_whole()


def test_i5_a_replay_that_has_ended_ends_again_without_a_trace(tmp_path):
    ground = Ground(tmp_path, make_logs(310, 40))
    for runner in (LOOP, BYTEWAX, LOOP):
        ground.finish(runner)
        ground.assert_whole()
    assert ground.replayed() == 0


def test_i5_a_run_that_one_runner_begins_the_other_continues(tmp_path):
    ground = Ground(tmp_path, make_logs(200, 600))
    for number, runner in enumerate([LOOP, BYTEWAX, LOOP, BYTEWAX_TWO_WORKERS]):
        child = ground.start(runner, quota=QUOTA)
        child.wait_for("commit:batches", 1)
        child.process.send_signal(signal.SIGKILL if number % 2 else signal.SIGTERM)
        life = child.end()
        assert life.code == (-signal.SIGKILL if number % 2 else 0), life.output
        assert life.committed
        ground.lives.append(life)
    ground.finish(BYTEWAX)
    ground.assert_whole()
    assert_doctor_finds_nothing(ground)


@pytest.mark.parametrize("point", ["commit:readings after 3", "commit:batches before 2"])
def test_i5_a_dictionary_that_changes_after_a_kill_takes_effect_behind_what_is_stored(point, tmp_path):
    ground = Ground(tmp_path, make_logs(500, 400))
    assert ground.kill_at(LOOP, point, QUOTA).committed
    ground.use(LATER)
    refused = ground.start(LOOP).end()
    assert refused.code == 6
    assert "--accept-dictionary" in refused.output
    ground.kill_at(LOOP + " --accept-dictionary", "commit:readings after 2", QUOTA)
    ground.kill_at(LOOP, "commit:windows before 2", QUOTA)
    ground.finish(LOOP)
    ground.assert_whole()
    assert_doctor_finds_nothing(ground)


def test_a_drained_run_leaves_nothing_to_replay(tmp_path):
    ground = Ground(tmp_path, make_logs(250, 400))
    for runner in (LOOP, BYTEWAX):
        child = ground.start(runner, quota=QUOTA)
        child.wait_for("commit:batches", 1)
        child.process.send_signal(signal.SIGTERM)
        life = child.end()
        assert life.code == 0, life.output
        ground.lives.append(life)
    ground.finish(LOOP)
    assert ground.replayed() == 0
    ground.assert_whole()


def test_i2_of_two_live_writers_of_a_partition_one_stops_and_nothing_is_lost_or_doubled(tmp_path):
    ground = Ground(tmp_path, make_logs(400, 900))
    runners = [LOOP, "run --runner bytewax", LOOP]
    ground.allow(30)
    former = ground.start(runners[0], metered=True, stays=True)
    former.wait_for("commit:batches", 1)
    for number, runner in enumerate(runners[1:], 2):
        heir = ground.start(runner, metered=True, stays=True)
        heir.wait_for("commit:batches", 1)
        # It finds out at its next write, for which something has to come.
        ground.allow(30 * number)
        life = former.end()
        assert life.code == 5, life.output[-3000:]
        assert "claimed by another process" in life.output
        ground.lives.append(life)
        former = heir
    former.kill()
    ground.lives.append(former.end())
    ground.finish(LOOP)
    ground.assert_whole()
    assert_doctor_finds_nothing(ground)


@pytest.mark.parametrize("runner", sorted(RUNNERS))
def test_i5_after_kills_at_any_point_every_row_is_there_once(runner, campaigns):
    ground = campaigns[runner].result()
    killed = ground.lives[:-1]
    assert len(killed) >= 20
    assert {life.code for life in killed} == {-signal.SIGKILL}
    in_the_middle = [life for life in killed if life.committed and life.taken()]
    assert len(in_the_middle) >= 0.8 * len(killed)
    at_their_point = [life for life in killed if life.diary[-1]["event"] == "killed"]
    # On a slow machine flushes are larger, so that there may be no third one.
    assert len(at_their_point) >= 0.6 * len(POINTS)
    assert ground.replayed() > 0
    ground.assert_whole()
    assert_doctor_finds_nothing(ground)

"""Several processes on one lake: each has its partitions, all commit to the same tables, nothing is lost or doubled.

Children are real processes of either runner (`tests/kill`); what they leave is compared bit for bit with what one
undisturbed run would have written (I5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kill.harness import BYTEWAX, LOOP, Address, Ground
from tests.parts.azurite import Azurite, azurite
from tests.parts.ports import free_ports
from tests.scale_ground import (
    COMMITS,
    CONFLICTS,
    counted,
    drain,
    forks,
    logs_of,
    share,
    wait_for_all_rows,
    wait_for_commits,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kill.forks import Forks
    from tests.kill.harness import Child
    from tests.scale_ground import Counts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
__all__ = ["azurite", "forks"]

RUN_BYTEWAX = "run --runner bytewax"
BYTEWAX_TWO_WORKERS = BYTEWAX + " -w 2"


def assert_exact(ground: Ground) -> None:
    ground.assert_whole()
    doctor = ground.doctor()
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr


def run_together(ground: Ground, runners: list[str], **settings: Any) -> list[Counts]:
    """Run one process of each runner, with equal shares, to the end of the logs; return what each counted."""
    ports = free_ports(len(runners))
    ground.allow(0)
    children = [
        ground.start(runner, stays=True, metered=True, runner__metrics_port=port, **share(at, len(runners)), **settings)
        for at, (runner, port) in enumerate(zip(runners, ports, strict=True))
    ]
    # They begin together, so that they are in each other's way, however long each took to start.
    wait_for_readers(children)
    ground.allow(max(map(len, ground.logs.values())))
    wait_for_all_rows(ground, children)
    counts = [counted(port) for port in ports]
    lives = drain(ground, children)
    for at, life in enumerate(lives):
        assert life.opened().keys() == {f"scale/1/{n}" for n in range(len(ground.logs)) if n % len(runners) == at}
    ground.finish(LOOP)
    assert ground.replayed() == 0
    return counts


def wait_for_readers(children: list[Child]) -> None:
    """Wait until each child has taken partitions, and reads."""
    wait_until(lambda: all(child.opened() for child in children), children, "every process to read")


def conflicts(counts: list[Counts]) -> int:
    return sum(each[CONFLICTS].total() for each in counts)


@pytest.mark.parametrize("second", [LOOP, BYTEWAX_TWO_WORKERS])
def test_i5_processes_that_commit_to_the_same_tables_lose_and_double_nothing(
    second: str, tmp_path: Path, forks: Forks
) -> None:
    ground = Ground(tmp_path, logs_of(700, 5, 120), forks=forks)
    counts = run_together(ground, [LOOP, second, RUN_BYTEWAX], lake__flush_rows_max=20)
    assert conflicts(counts) > 0
    assert_exact(ground)


def test_i5_processes_that_commit_to_the_same_tables_on_azure_lose_and_double_nothing(
    azurite: Azurite, tmp_path: Path, forks: Forks
) -> None:
    secret = tmp_path / "connection"
    secret.write_text(azurite.connection_string)
    address = Address(azurite.container("scale") + "/plants", f"file:{secret}", azurite.storage_options)
    ground = Ground(tmp_path / "ground", logs_of(720, 4, 60), address=address, forks=forks)
    counts = run_together(ground, [LOOP, RUN_BYTEWAX], lake__flush_rows_max=15)
    assert conflicts(counts) > 0
    assert_exact(ground)


def test_i5_of_four_processes_that_commit_all_the_time_none_starves(tmp_path: Path, forks: Forks) -> None:
    ground = Ground(tmp_path, logs_of(740, 4, 250), forks=forks)
    # Each batch is committed at once, so that everybody is always at it.
    counts = run_together(ground, [LOOP] * 4, lake__flush_rows_max=1)
    assert conflicts(counts) > 0
    # Somebody's commit is behind every attempt that was refused, and refuses each of the others once at most.
    for at, each in enumerate(counts):
        others = [other[COMMITS] for other in counts[:at] + counts[at + 1 :]]
        for table, refused in each[CONFLICTS].items():
            assert refused <= sum(other[table] for other in others), (table, counts)
    assert_exact(ground)


@pytest.mark.parametrize(("former", "heir"), [(LOOP, RUN_BYTEWAX), ("run --runner bytewax -w 2", LOOP)])
def test_i2_a_partition_that_another_process_takes_stops_the_one_that_had_it(
    former: str, heir: str, tmp_path: Path, forks: Forks
) -> None:
    ground = Ground(tmp_path, logs_of(760, 4, 300), forks=forks)
    ground.allow(60)
    old = ground.start(former, source__partitions="0,1,2", stays=True, metered=True)
    wait_for_commits([old], 1)
    new = ground.start(heir, source__partitions="2,3", stays=True, metered=True)
    wait_for_readers([new])
    # It finds out at its next write, for which something has to come.
    ground.allow(max(map(len, ground.logs.values())))
    # A process stops as a whole, so that one that should be dead does nothing more; started again with what is left
    # to it, it goes on.
    life = old.end()
    assert life.code == 5, life.output[-3000:]
    assert "scale/1/2 is claimed by another process" in life.output
    ground.lives.append(life)
    again = ground.start(former, source__partitions="0,1", stays=True)
    wait_for_all_rows(ground, [new, again])
    taken, kept = drain(ground, [new, again])
    assert taken.opened().keys() == {"scale/1/2", "scale/1/3"}
    assert kept.opened().keys() == {"scale/1/0", "scale/1/1"}
    ground.finish(LOOP)
    assert_exact(ground)


# How many processes there are, and how each of them ends: drained, killed from outside, or killed at a point, which is
# one of the first flush: there may be only that one.
STEPS = [
    [(LOOP, "drain")],
    [(RUN_BYTEWAX, "commit:batches after 1"), (LOOP, "kill")],
    [(LOOP, "drain"), (BYTEWAX_TWO_WORKERS, "commit:readings after 1"), (RUN_BYTEWAX, "drain")],
    [(BYTEWAX, "kill"), (LOOP, "drain")],
    [(RUN_BYTEWAX, "drain")],
]


def test_i5_partitions_are_dealt_anew_to_more_and_fewer_processes_in_mid_stream(tmp_path: Path, forks: Forks) -> None:
    ground = Ground(tmp_path, logs_of(780, 5, 420), forks=forks)
    for step in STEPS:
        points = [how if ":" in how else "" for _, how in step]
        children = [
            ground.start(runner, point=point, quota=90, **share(at, len(step)))
            for at, ((runner, _), point) in enumerate(zip(step, points, strict=True))
        ]
        running = [child for child, point in zip(children, points, strict=True) if not point]
        wait_for_commits(running, 2)
        for child, (_, how) in zip(children, step, strict=True):
            if how == "kill":
                ground.bury(child)
            elif ":" in how:
                life = child.end()
                assert life.diary[-1] == {"event": "killed", "at": how.split()[0]}
                ground.lives.append(life)
        drain(ground, [child for child, (_, how) in zip(children, step, strict=True) if how == "drain"])
    assert all(life.committed for life in ground.lives)
    assert ground.replayed() > 0
    ground.finish(LOOP)
    assert_exact(ground)

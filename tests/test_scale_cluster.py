"""A Bytewax cluster of two processes: what each reads it analyses and commits itself, and kills lose nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kill.harness import Ground
from tests.scale_ground import Cluster, analysed, drain, forks, logs_of, wait_for_commits

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kill.forks import Forks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
__all__ = ["forks"]


@pytest.mark.parametrize("workers", [1, 2])
def test_i5_a_cluster_is_killed_drained_and_ends_exact(workers: int, tmp_path: Path, forks: Forks) -> None:
    ground = Ground(tmp_path, logs_of(800 + workers, 5, 300), settings={"log_format": "json"}, forks=forks)
    for killed in (0, 1):
        cluster = Cluster(ground, workers, quota=90)
        wait_for_commits(cluster.children, 2)
        cluster.kill(killed)
    cluster = Cluster(ground, workers, quota=90)
    wait_for_commits(cluster.children, 2)
    drain(ground, cluster.children)
    Cluster(ground, workers, pace_s=0.0, lake__flush_rows_max=1_000).end()
    for life in ground.lives:
        # No item crosses from one process to the other, so neither is without work, and nothing is pickled.
        assert set() != analysed(life) <= life.opened().keys()
    assert all(life.committed for life in ground.lives)
    assert ground.replayed() > 0
    ground.assert_whole()
    doctor = ground.doctor()
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr

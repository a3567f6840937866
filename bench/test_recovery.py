"""kill -9 in the middle of a run, and the time until the next process commits: the tier R, by the wall's clock.

The time runs from the start of the process, so it holds interpreter and imports, the claim, loading the state, reading
again what came after it, and the commit itself. The source is a file in memory: a hub's reconnect is not in it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from bench.load import SCALE, load, scaled
from bench.results import ROOT, Figure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

READINGS = {"smelter": scaled(4_000_000, 1_600_000), "site": scaled(4_000_000, 1_600_000)}
SERIES = {"smelter": "112 series", "site": "40,000 series"}
KILLS = 5 if SCALE == 1 else 2
GOAL_S = 1.0
_WAIT_S = 60.0
_LOOK_S = 0.002


def commits(folder: Path) -> int:
    """Return how many commits of `batches` hold rows, which seals what they cover; a claim is a commit without."""
    return sum(b'"add"' in path.read_bytes() for path in (folder / "lake/batches/_delta_log").glob("*.json"))


def wait_for_commit(folder: Path, child: subprocess.Popen[bytes], more_than: int) -> None:
    """Return once the child has committed."""
    until = time.monotonic() + _WAIT_S
    while commits(folder) <= more_than:
        assert child.poll() is None, f"the child ended with {child.returncode} before it was killed"
        assert time.monotonic() < until, "the child did not commit"
        time.sleep(_LOOK_S)


@pytest.mark.parametrize("plant", READINGS)
def test_recovery(plant: str, tmp_path: Path, figure: Callable[[Figure], None]) -> None:
    made = load(plant, READINGS[plant], per_envelope=100)
    (tmp_path / "dictionary.toml").write_text(made.dictionary)
    with pa.ipc.new_file(str(tmp_path / "envelopes.arrow"), made.batches[0].schema) as file:
        for batch in made.batches:
            file.write_batch(batch)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "bench.recovery_child", tmp_path], cwd=ROOT)

    took: list[float] = []
    child = start()
    wait_for_commit(tmp_path, child, more_than=1)
    for _ in range(KILLS):
        child.kill()
        child.wait()
        before, started = commits(tmp_path), time.perf_counter()
        child = start()
        wait_for_commit(tmp_path, child, more_than=before)
        took.append(time.perf_counter() - started)
    assert child.wait(_WAIT_S) == 0
    tables = {
        name: pl.read_parquet(DeltaTable(str(tmp_path / "lake" / name)).file_uris()) for name in ("readings", "batches")
    }
    assert tables["readings"].height == READINGS[plant] == tables["batches"]["rows_total"].sum()
    assert tables["readings"].select("sequence_number", "item").n_unique() == READINGS[plant]
    figure(
        Figure(
            layer="recovery",
            load=f"{SERIES[plant]}, a state each half second",
            who="AlumiCatalyst, kill -9 to the next commit",
            unit="s",
            median=statistics.median(took),
            lowest=min(took),
            highest=max(took),
            rounds=KILLS,
            readings=READINGS[plant],
            goal=GOAL_S,
            lower_is_better=True,
            tier="R",
        )
    )

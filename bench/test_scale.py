"""One, two and four processes on the same partitions and one lake: what they gain, and what they cost each other.

On a machine of two cores two processes are all that can run at once, so four show only what crowding costs.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from bench.load import load, scaled
from bench.results import ROOT, Figure
from bench.scale_child import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.conftest import Measure

READINGS = scaled(800_000, 100_000)
LOAD = f"{PARTITIONS} partitions, all on, smelter, arrays of 100, {os.cpu_count()} cores"
NAMES = {1: "1 process", 2: "2 processes", 4: "4 processes"}


class Processes:
    """So many processes, each with its share, that wait to be told to begin.

    Attributes:
        cpu_s: The processor time of all that have run.
        conflicts: Commits that were made again, for each that was made, by run.
    """

    def __init__(self, folder: Path, replicas: int) -> None:
        self._folder, self._replicas = folder, replicas
        self._children: list[subprocess.Popen[str]] = []
        self.cpu_s = 0.0
        self.conflicts: list[float] = []

    def prepare(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Begin with no lake, and let them load what they need."""
        self.end()
        shutil.rmtree(self._folder / "lake", ignore_errors=True)
        self._children = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.scale_child", str(self._folder), f"{ordinal}/{self._replicas}"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for ordinal in range(self._replicas)
        ]
        for child in self._children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        return (), {}

    def run(self) -> None:
        """Let them run, all at once, until the last has committed."""
        for child in self._children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        told = [json.loads(child.stdout.readline()) for child in self._children if child.stdout is not None]
        self.cpu_s += sum(each["cpu_s"] for each in told)
        self.conflicts.append(sum(each["conflicts"] for each in told) / sum(each["commits"] for each in told))

    def end(self) -> None:
        """Wait for them to end."""
        for child in self._children:
            child.communicate(timeout=60)
            assert child.returncode == 0
        self._children = []


@pytest.mark.parametrize("replicas", NAMES)
def test_scale(replicas: int, tmp_path: Path, measure: Measure, figure: Callable[[Figure], None]) -> None:
    made = load("smelter", READINGS, per_envelope=100)
    (tmp_path / "dictionary.toml").write_text(made.dictionary)
    with pa.ipc.new_file(str(tmp_path / "envelopes.arrow"), made.batches[0].schema) as file:
        for batch in made.batches:
            file.write_batch(batch)
    processes = Processes(tmp_path, replicas)
    processes.prepare()
    processes.run()
    processes.end()
    tables = {
        name: pl.read_parquet(DeltaTable(str(tmp_path / "lake" / name)).file_uris()) for name in ("readings", "batches")
    }
    assert tables["readings"].height == PARTITIONS * READINGS == tables["batches"]["rows_total"].sum()
    assert tables["readings"].select("partition", "sequence_number", "item").n_unique() == PARTITIONS * READINGS
    who = f"AlumiCatalyst, {NAMES[replicas]}"
    measure(
        processes.run,
        setup=processes.prepare,
        layer="scale",
        load=LOAD,
        who=who,
        readings=PARTITIONS * READINGS,
        rounds=4,
        clock=lambda: processes.cpu_s,
    )
    processes.end()
    found = processes.conflicts[1:]
    if replicas == 1 or not found:
        return
    figure(
        Figure(
            layer="scale",
            load=LOAD,
            who=who,
            unit="conflicts a commit",
            median=statistics.median(found),
            lowest=min(found),
            highest=max(found),
            rounds=len(found),
            readings=PARTITIONS * READINGS,
            lower_is_better=True,
        )
    )

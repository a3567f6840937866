"""Envelopes to a committed lake on a local directory, by both runners, beside Bytewax's own windows.

The peer has the easier task: readings come decoded, an item each, nothing is checked, and nothing is stored. It is slow
enough that a part of the readings must do.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import polars as pl
import pytest
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
from bytewax.testing import TestingSink, TestingSource
from deltalake import DeltaTable

from alumicatalyst._core import Dictionary
from alumicatalyst.lake import Lake
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from bench.load import LATENESS_US, START_US, WINDOW_US, Load, load
from flows.telemetry import flow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa

    from bench.conftest import Measure

READINGS = 3_000_000
PEER_READINGS = 60_000
LOAD = "all on, smelter, arrays of 100"
PARTITION = "bench/1/0"
GOAL = 2.0


@cache
def made(readings: int) -> Load:
    return load("smelter", readings, per_envelope=100)


class MemorySource:
    """A finite source of one partition that holds its batches ready."""

    def __init__(self, batches: list[pa.RecordBatch]) -> None:
        self._batches = batches

    def partitions(self) -> list[str]:
        return [PARTITION]

    def first_sequence(self, _partition: str) -> int:
        return 0

    def open(self, _partition: str, _after: int, _owner_level: int) -> MemoryReader:
        return MemoryReader(self._batches)

    def input(self) -> dict[str, Any]:
        return {}

    def check_input(self, _previous: Mapping[str, Any]) -> None:
        """Nothing can have changed."""


class MemoryReader:
    """Hands out the batches in turn."""

    def __init__(self, batches: list[pa.RecordBatch]) -> None:
        self._left = batches[::-1]

    @property
    def finished(self) -> bool:
        return not self._left

    @property
    def queued(self) -> int:
        return len(self._left)

    def take(self) -> pa.RecordBatch | None:
        return self._left.pop() if self._left else None

    def lag(self) -> tuple[int, float] | None:
        return None

    def close(self) -> None:
        self._left.clear()


def by_loop(pipeline: Pipeline) -> None:
    run_loop(pipeline)


def by_bytewax(pipeline: Pipeline) -> None:
    cli_main(flow(pipeline))


@pytest.mark.parametrize("runner", [by_loop, by_bytewax], ids=["loop", "bytewax"])
def test_flow(runner: Any, tmp_path: Path, measure: Measure) -> None:
    wanted = made(READINGS)
    dictionary = Dictionary.from_toml(wanted.dictionary)
    root = tmp_path / "lake"

    def started() -> tuple[tuple[Any, ...], dict[str, Any]]:
        shutil.rmtree(root, ignore_errors=True)
        lake = Lake.open(f"file:{root}")
        return (Pipeline(MemorySource(wanted.batches), dictionary, lake),), {}

    (pipeline,), _ = started()
    runner(pipeline)
    readings, windows, batches = (
        pl.read_parquet(DeltaTable(str(root / name)).file_uris()) for name in ("readings", "windows", "batches")
    )
    assert (readings.height, readings["outcome"].unique().to_list()) == (READINGS, ["windowed"])
    windows = windows.filter(pl.col("window_name") == "10s")
    assert (windows["count"].sum(), windows.height) == (READINGS, wanted.windows)
    assert (windows["mean"] * windows["count"]).sum() == pytest.approx(readings["value"].sum(), rel=1e-9)
    assert batches["rows_total"].sum() == READINGS
    who = "AlumiCatalyst, plain loop" if runner is by_loop else "AlumiCatalyst in Bytewax"
    measure(runner, setup=started, layer="flow", load=LOAD, who=who, readings=READINGS, goal=GOAL, rounds=4)


def test_bytewax_windows(measure: Measure) -> None:
    wanted = made(PEER_READINGS)
    columns = wanted.columns
    start = datetime.fromtimestamp(START_US / 1e6, UTC)
    items = [
        (str(series), (start + timedelta(microseconds=int(time_us) - START_US), value))
        for series, time_us, value in zip(columns.series, columns.time_us, columns.value.tolist(), strict=True)
    ]

    def run() -> list[Any]:
        closed: list[Any] = []
        dataflow = Dataflow("peer")
        readings = op.input("input", dataflow, TestingSource(items, batch_size=1_000))
        windows = win.fold_window(
            "windows",
            readings,
            win.EventClock(
                ts_getter=lambda reading: reading[0], wait_for_system_duration=timedelta(microseconds=LATENESS_US)
            ),
            win.TumblingWindower(align_to=start, length=timedelta(microseconds=WINDOW_US)),
            lambda: (0, 0.0, 0.0, float("inf"), float("-inf")),
            lambda sums, reading: (
                sums[0] + 1,
                sums[1] + reading[1],
                sums[2] + reading[1] * reading[1],
                min(sums[3], reading[1]),
                max(sums[4], reading[1]),
            ),
            lambda one, other: (
                *(a + b for a, b in zip(one[:3], other[:3], strict=True)),
                min(one[3], other[3]),
                max(one[4], other[4]),
            ),
        )
        op.output("output", windows.down, TestingSink(closed))
        cli_main(dataflow)
        return closed

    closed = run()
    assert len(closed) == wanted.windows
    assert sum(sums[0] for _, (_, sums) in closed) == PEER_READINGS
    assert sum(sums[1] for _, (_, sums) in closed) == pytest.approx(wanted.value_sum, rel=1e-9)
    measure(
        run,
        layer="flow",
        load=LOAD,
        who="peer: Bytewax fold_window, no JSON, no lake",
        readings=PEER_READINGS,
        rounds=3,
    )

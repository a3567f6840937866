"""Envelopes to a committed lake on a local directory, by both runners, beside Bytewax's own windows.

The peer has the easier task: readings come decoded, an item each, nothing is checked, and nothing is stored. It is slow
enough that a part of the readings must do.
"""

from __future__ import annotations

import shutil
from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from bytewax.run import cli_main
from deltalake import DeltaTable

from alumicatalyst._core import Dictionary
from alumicatalyst.lake import Lake
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from bench import peers
from bench.load import Load, load, scaled
from bench.memory import MemorySource
from flows.telemetry import flow

if TYPE_CHECKING:
    from pathlib import Path

    from bench.conftest import Measure

READINGS = scaled(3_000_000, 200_000)
PEER_READINGS = scaled(60_000, 20_000)
LOAD = "all on, smelter, arrays of 100"
GOAL = 2.0


@cache
def made(readings: int) -> Load:
    return load("smelter", readings, per_envelope=100)


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
    measure(runner, setup=started, layer="flow", load=LOAD, who=who, readings=READINGS, goal=GOAL, rounds=4, tier="E")


def test_bytewax_windows(measure: Measure) -> None:
    wanted = made(PEER_READINGS)
    items = peers.bytewax_items(wanted.columns)
    closed = peers.bytewax_windows(items)
    assert len(closed["count"]) == wanted.windows
    assert closed["count"].sum() == PEER_READINGS
    assert (closed["mean"] * closed["count"]).sum() == pytest.approx(wanted.value_sum, rel=1e-9)
    measure(
        lambda: peers.bytewax_windows(items),
        layer="flow",
        load=LOAD,
        who="peer: Bytewax fold_window, no JSON, no lake",
        readings=PEER_READINGS,
        rounds=3,
        tier="E",
        note="decoded readings, an item each; ten statistics; no checks, scores, alarms, hopping windows or storage",
    )

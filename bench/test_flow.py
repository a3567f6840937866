"""Envelopes to a committed lake on a local directory, by both runners, beside Bytewax's own windows.

The peer has the easier task: readings come decoded, an item each, nothing is checked, and nothing is stored. It is slow
enough that a part of the readings must do. What the row digests of the ledger take of ours is measured here as well.
"""

from __future__ import annotations

import gc
import shutil
import statistics
import time
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from bytewax.run import cli_main
from deltalake import DeltaTable

from alumicatalyst import _core
from alumicatalyst._core import Dictionary
from alumicatalyst.lake import Lake
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from bench import peers
from bench.load import SCALE, Load, load, scaled
from bench.memory import MemorySource
from bench.results import Figure
from flows.telemetry import flow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa

    from bench.conftest import Measure

READINGS = scaled(3_000_000, 200_000)
PEER_READINGS = scaled(60_000, 20_000)
LOAD = "all on, smelter, arrays of 100"
GOAL = 2.0
DIGESTS_GOAL = 4.0
SHARE_ROUNDS = 5 if SCALE == 1 else 2


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


class Digests:
    """Takes the place of `_core.file_rows`, and notes the processor time of what it does.

    The core orders rows and digests them in one call, so leaves and tree are done once more for each file, from the
    rows as they were written: the whole of `rows_root` less its reading of the columns. How long that takes shows a
    batch that lacks its last column, as it is refused when all others have been read; were it refused earlier, the
    digests would only seem dearer than they are.

    Attributes:
        ordered_s: All of `file_rows`: order, locators, leaves and tree.
        alone_s: Leaves and tree.
        added_s: What is measured here beside the flow's own work.
        rows: How many rows were stored, by table.
    """

    def __init__(self) -> None:
        self._file_rows = _core.file_rows
        self.ordered_s = self.alone_s = self.added_s = 0.0
        self.rows: Counter[str] = Counter()

    def file_rows(self, table: str, batches: list[pa.RecordBatch], batch: bytes) -> tuple[pa.RecordBatch, bytes]:
        started = time.process_time()
        rows, root = self._file_rows(table, batches, batch)
        ordered = time.process_time()
        again = _core.rows_root(table, rows, batch)
        digested = time.process_time()
        assert again == root
        # The two locators come behind the table's columns.
        last = rows.schema.names[-3]
        lacking = rows.drop_columns([last])
        before = time.process_time()
        with pytest.raises(ValueError, match=f"column {last} is missing"):
            _core.rows_root(table, lacking, batch)
        ended = time.process_time()
        self.ordered_s += ordered - started
        self.alone_s += digested - ordered - (ended - before)
        self.added_s += ended - ordered
        self.rows[table] += rows.num_rows
        return rows, root


def test_row_digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: Callable[[Figure], None]) -> None:
    """What share of the flow's processor time the ledger's row digests take, in the very runs they are part of."""
    wanted = made(READINGS)
    dictionary = Dictionary.from_toml(wanted.dictionary)
    root = tmp_path / "lake"
    alone, ordered = [], []
    for _ in range(SHARE_ROUNDS):
        shutil.rmtree(root, ignore_errors=True)
        pipeline = Pipeline(MemorySource(wanted.batches), dictionary, Lake.open(f"file:{root}"))
        digests = Digests()
        gc.collect()
        with monkeypatch.context() as patched:
            patched.setattr(_core, "file_rows", digests.file_rows)
            started = time.process_time()
            run_loop(pipeline)
            whole_s = time.process_time() - started - digests.added_s
        assert digests.rows["readings"] == READINGS
        alone.append(100 * digests.alone_s / whole_s)
        ordered.append(100 * digests.ordered_s / whole_s)
    for what, shares, goal in (
        ("row digests, leaves and tree", alone, DIGESTS_GOAL),
        ("row digests with the order of rows, all of file_rows", ordered, None),
    ):
        figure(
            Figure(
                layer="flow",
                load=f"{LOAD}: {what}",
                who="AlumiCatalyst, plain loop",
                unit="% of the flow's CPU",
                median=statistics.median(shares),
                lowest=min(shares),
                highest=max(shares),
                rounds=SHARE_ROUNDS,
                readings=READINGS,
                goal=goal,
                lower_is_better=True,
            )
        )


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

"""Bytes that a reading takes in the lake: of values with a resolution, of half of them without, and of all without.

A plant of 100 machines that send ten metrics together, 1 Hz with 20 ms of jitter, values that drift as a process does.
Rows are encoded as a flush encodes them, scores, coordinates and locators included; beside it pyarrow's writer with the
same rows, and deltalake's, both as they come.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from alumicatalyst.lake.encode import encode
from alumicatalyst.lake.tables import columns
from bench.load import START_US, scaled
from bench.results import Figure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEVICES, METRICS = 100, 10
PER_BATCH = 10_000
JITTER_US = 20_000
KINDS = {
    # The goals hold for flushes of many readings; a small one pays for its names and dictionaries anew.
    "quantised": (1.0, 3.0),
    "mixed": (0.5, 7.0),
    "full precision": (0.0, None),
}
"""Share of the series that have a resolution, and the goal."""


@cache
def made(quantised: float, readings: int, per_envelope: int) -> list[pa.RecordBatch]:
    """Make readings as the operator emits them, in order of arrival."""
    random = np.random.default_rng(7)
    series = DEVICES * METRICS
    tick, number = np.divmod(np.arange(readings, dtype=np.int64), series)
    walks = np.cumsum(random.normal(0, 0.02, (int(tick[-1]) + 1, series)), axis=0)
    levels = random.uniform(1, 900, series)
    values = levels[number] + walks[tick, number] + random.normal(0, 0.05, readings)
    rounded = number % 10 < quantised * 10
    # Sensors resolve a hundredth or a tenth.
    values[rounded] = np.round(values[rounded], 2)
    coarse = rounded & (number % 2 == 0)
    values[coarse] = np.round(values[coarse], 1)
    # A machine sends its metrics together.
    jitter = random.integers(0, JITTER_US, (int(tick[-1]) + 1, DEVICES))
    time_us = START_US + tick * 1_000_000 + jitter[tick, number // METRICS]
    order = np.argsort(time_us, kind="stable")
    sequence = np.arange(readings) // per_envelope
    enqueued = np.maximum.accumulate(time_us[order])[np.minimum((sequence + 1) * per_envelope, readings) - 1] + 50_000
    # A detector that has learned scores every reading, most of them low.
    score = np.abs(random.normal(0, 1, readings)).astype(np.float32).round(2)
    devices = pa.array([f"pot-{each:03}" for each in range(DEVICES)])
    metrics = pa.array([f"metric_{each}" for each in range(METRICS)])
    schema = columns("readings")
    batches = []
    for start in range(0, readings, PER_BATCH):
        at = slice(start, min(start + PER_BATCH, readings))
        rows = order[at]
        count = len(rows)
        column: dict[str, Any] = {
            "partition": constant("bench/1/0", count),
            "sequence_number": pa.array(sequence[at]),
            "item": pa.array((np.arange(readings)[at] % per_envelope).astype(np.int32)),
            "enqueued_time": pa.array(enqueued[at], schema.field("enqueued_time").type),
            "device": pa.DictionaryArray.from_arrays(pa.array((number[rows] // METRICS).astype(np.int32)), devices),
            "metric": pa.DictionaryArray.from_arrays(pa.array((number[rows] % METRICS).astype(np.int32)), metrics),
            "event_time": pa.array(time_us[rows], schema.field("event_time").type),
            "value": pa.array(values[rows]),
            "quality": pa.array(np.full(count, 192, np.int16)),
            "outcome": constant("windowed", count),
            "windows_missed": pa.array(np.zeros(count, np.int16)),
            "lateness_us": pa.nulls(count, pa.int64()),
            "score_state": constant("scored", count),
            "score": pa.array(score[rows]),
        }
        batches.append(pa.RecordBatch.from_arrays([column[name] for name in schema.names], schema=schema))
    return batches


def constant(text: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [text])


def without_scores(batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """The same without a detector: what the values alone take."""
    at = batches[0].schema.get_field_index("score")
    field = batches[0].schema.field(at)
    return [each.set_column(at, field, pa.nulls(each.num_rows, field.type)) for each in batches]


@pytest.mark.parametrize("per_envelope", [100, 1])
@pytest.mark.parametrize("rows", [1_000_000, 10_000])
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_a_reading(
    kind: str, rows: int, per_envelope: int, tmp_path: Path, figure: Callable[[Figure], None]
) -> None:
    share, goal = KINDS[kind]
    readings = scaled(rows)
    batches = made(share, readings, per_envelope)
    packed = "arrays of 100" if per_envelope > 1 else "an object an envelope"
    load = f"{kind} values, {packed}, {readings:,} rows a file"
    plain = pa.Table.from_batches(batches).unify_dictionaries()

    def told(who: str, size: int, goal: float | None = None, note: str = "") -> None:
        each = size / readings
        figure(
            Figure(
                "lake", load, who, "bytes/reading", each, each, each, 1, readings,
                goal=goal, lower_is_better=True, note=note,
            )
        )  # fmt: skip

    (file,) = encode("readings", batches)
    found = pl.from_arrow(pq.read_table(pa.BufferReader(file.data)))
    assert isinstance(found, pl.DataFrame)
    keys = ["device", "metric", "event_time", "sequence_number", "item"]
    given = pl.from_arrow(plain)
    assert isinstance(given, pl.DataFrame)
    names = [name for name in keys if name in ("device", "metric")]
    as_text = [pl.col(name).cast(pl.String) for name in names]
    wanted = [*keys, "value", "score", "enqueued_time"]
    assert found.select(wanted).sort(keys).equals(given.with_columns(as_text).select(wanted).sort(keys))
    large = rows == 1_000_000 and per_envelope > 1
    (bare,) = encode("readings", without_scores(batches))
    told("AlumiCatalyst", len(file.data), goal=goal if large else None)
    told("AlumiCatalyst, no detector", len(bare.data))
    sink = pa.BufferOutputStream()
    pq.write_table(plain, sink, compression="zstd", compression_level=1)
    told("peer: pyarrow write_table, zstd 1", sink.getvalue().size, note="as it comes, without locators")
    write_deltalake(str(tmp_path / "peer"), plain)
    size = sum(path.stat().st_size for path in (tmp_path / "peer").glob("*.parquet"))
    told("peer: write_deltalake", size, note="snappy, as it comes, without locators")

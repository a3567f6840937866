"""The window stage alone: columns of numbers to windows with all statistics, beside numpy and polars.

The peers see all readings at once and know nothing of lateness, duplicates or windows that must close in time.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from alumicatalyst._core import FixedWindows
from bench.load import LATENESS_US, WINDOW_US, Columns, columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.conftest import Measure

READINGS = 5_000_000
PEER_READINGS = 2_500_000
PER_BATCH = 50_000
SERIES = (1_000, 40_000)
GOAL = 30.0
HOPPING_US = 60_000_000
HOPPING_READINGS = 600_000
KEYS = [("series", "ascending"), ("window_start", "ascending")]
STATISTICS = ("count", "mean", "std", "min", "max", "first", "last", "first_time", "last_time", "slope_per_s")

Answer = dict[str, Any]


@cache
def made(readings: int, series: int, *, shuffled: bool) -> Columns:
    return columns(readings, series, shuffled=shuffled)


def numpy_windows(readings: Columns, length_us: int = WINDOW_US) -> Answer:
    """Sort by series, window and time, each reading once for every window that covers it; then reduce each run."""
    value, time_us, number = readings.value, readings.time_us, readings.series.astype(np.int64)
    start_us = time_us.min() // WINDOW_US * WINDOW_US - length_us
    order = np.argsort(number * (time_us.max() - start_us + 1) + (time_us - start_us))
    windows = length_us // WINDOW_US
    value, time_us, number = (
        np.tile(value[order], windows),
        np.tile(time_us[order], windows),
        np.tile(number[order], windows),
    )
    covering = time_us // WINDOW_US - np.repeat(np.arange(windows), len(order))
    first_window = int(covering.min())
    group = number * (int(covering.max()) - first_window + 1) + (covering - first_window)
    if windows > 1:
        order = np.argsort(group, kind="stable")
        value, time_us, number = value[order], time_us[order], number[order]
        covering, group = covering[order], group[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    ends = np.append(starts[1:], len(group))
    count = ends - starts
    mean = np.add.reduceat(value, starts) / count
    window_start = covering[starts] * WINDOW_US
    offset = (time_us - np.repeat(window_start, count)).astype(np.float64)
    value_off = value - np.repeat(mean, count)
    offset -= np.repeat(np.add.reduceat(offset, starts) / count, count)
    with np.errstate(divide="ignore", invalid="ignore"):
        std = np.sqrt(np.add.reduceat(value_off * value_off, starts) / (count - 1))
        slope = np.add.reduceat(value_off * offset, starts) / np.add.reduceat(offset * offset, starts) * 1e6
    return {
        "series": number[starts],
        "window_start": window_start,
        "count": count,
        "mean": mean,
        "std": std,
        "min": np.minimum.reduceat(value, starts),
        "max": np.maximum.reduceat(value, starts),
        "first": value[starts],
        "last": value[ends - 1],
        "first_time": time_us[starts],
        "last_time": time_us[ends - 1],
        "slope_per_s": slope,
    }


def polars_windows(readings: Columns, length_us: int = WINDOW_US) -> Answer:
    value, time_us = pl.col("value"), pl.col("time_us")
    frame = pl.DataFrame({"series": readings.series, "time_us": readings.time_us, "value": readings.value})
    if length_us > WINDOW_US:
        hops = pl.DataFrame({"hops_back": np.arange(length_us // WINDOW_US)})
        frame = frame.join(hops, how="cross")
    start_us = (time_us // WINDOW_US - (pl.col("hops_back") if length_us > WINDOW_US else 0)) * WINDOW_US
    grouped = frame.group_by("series", start_us.alias("window_start")).agg(
        count=pl.len(),
        mean=value.mean(),
        std=value.std(),
        min=value.min(),
        max=value.max(),
        first=value.get(time_us.arg_min()),
        last=value.get(time_us.arg_max()),
        first_time=time_us.min(),
        last_time=time_us.max(),
        slope_per_s=pl.cov("value", time_us - time_us.min()) / time_us.var() * 1e6,
    )
    return {name: grouped[name].to_numpy() for name in grouped.columns}


def our_windows(readings: Columns, length_us: int = WINDOW_US) -> Answer:
    """Hand the readings over in batches, as a stream comes."""
    batch = pa.RecordBatch.from_arrays(
        [pa.array(readings.series), pa.array(readings.time_us), pa.array(readings.value)],
        names=["series", "event_time", "value"],
    )
    windows = FixedWindows(length_us=length_us, hop_us=WINDOW_US, out_of_orderness_us=LATENESS_US)
    closed = [windows.on_readings(batch.slice(at, PER_BATCH)) for at in range(0, batch.num_rows, PER_BATCH)]
    table = pa.Table.from_batches([*closed, windows.flush()])
    return {name: table[name].to_numpy() for name in table.column_names}


def assert_same(found: Answer, expected: Answer) -> None:
    order = np.lexsort((found["window_start"], found["series"]))
    for name in ("series", "window_start", *STATISTICS):
        np.testing.assert_allclose(
            found[name][order].astype(float), expected[name].astype(float), rtol=1e-6, atol=1e-9, err_msg=name
        )


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("order", ["in order", "shuffled"])
@pytest.mark.parametrize("who", ["AlumiCatalyst, 5 s of lateness", "peer: numpy", "peer: polars"])
def test_windows(who: str, order: str, series: int, measure: Measure) -> None:
    readings = made(READINGS if who.startswith("Alumi") else PEER_READINGS, series, shuffled=order == "shuffled")
    work: Callable[[Columns], Answer] = {
        "AlumiCatalyst, 5 s of lateness": our_windows,
        "peer: numpy": numpy_windows,
        "peer: polars": polars_windows,
    }[who]
    assert_same(work(readings), numpy_windows(readings))
    count = len(readings.series)
    ours = work is our_windows
    load = f"{series:,} series, {order}"
    measure(
        lambda: work(readings),
        layer="windows",
        load=load,
        who=who,
        readings=count,
        rounds=9 if ours else 3,
        goal=GOAL if ours else None,
    )


@pytest.mark.parametrize("who", ["AlumiCatalyst, 5 s of lateness", "peer: numpy", "peer: polars"])
def test_hopping_windows(who: str, measure: Measure) -> None:
    ours = who.startswith("Alumi")
    readings = made(READINGS if ours else HOPPING_READINGS, 1_000, shuffled=False)
    work = our_windows if ours else numpy_windows if "numpy" in who else polars_windows
    part = made(HOPPING_READINGS, 1_000, shuffled=False)
    assert_same(work(part, HOPPING_US), numpy_windows(part, HOPPING_US))
    measure(
        lambda: work(readings, HOPPING_US),
        layer="windows",
        load="1,000 series, in order, 60 s every 10 s",
        who=who,
        readings=len(readings.series),
        rounds=5 if ours else 3,
    )

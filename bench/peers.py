"""Windows as others make them: the same statistics of the same readings, by the libraries one would reach for.

All but Bytewax see all readings at once and know nothing of lateness, duplicates or windows that must close in time;
Bytewax's own windows do, and take readings one by one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import duckdb
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
from bytewax.testing import TestingSink, TestingSource

from bench.load import LATENESS_US, START_US, WINDOW_US, Columns

STATISTICS = ("count", "mean", "std", "min", "max", "first", "last", "first_time", "last_time", "slope_per_s")

Answer = dict[str, Any]
"""A column each of series, window_start (microseconds) and the statistics."""


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
    """Group by series and window."""
    value, time_us = pl.col("value"), pl.col("time_us")
    frame = pl.DataFrame({"series": readings.series, "time_us": readings.time_us, "value": readings.value})
    if length_us > WINDOW_US:
        hops = pl.DataFrame({"hops_back": np.arange(length_us // WINDOW_US)})
        frame = frame.join(hops, how="cross")
    start_us = (time_us // WINDOW_US - (pl.col("hops_back") if length_us > WINDOW_US else 0)) * WINDOW_US
    grouped = frame.group_by("series", start_us.alias("window_start")).agg(**polars_statistics(value, time_us))
    return {name: grouped[name].to_numpy() for name in grouped.columns}


def polars_statistics(value: pl.Expr, time_us: pl.Expr) -> dict[str, pl.Expr]:
    """Return the statistics of a window; `value` is also the name of its column."""
    return {
        "count": pl.len(),
        "mean": value.mean(),
        "std": value.std(),
        "min": value.min(),
        "max": value.max(),
        "first": value.get(time_us.arg_min()),
        "last": value.get(time_us.arg_max()),
        "first_time": time_us.min(),
        "last_time": time_us.max(),
        "slope_per_s": pl.cov("value", time_us - time_us.min()) / time_us.var() * 1e6,
    }


def duckdb_windows(readings: Columns, length_us: int = WINDOW_US) -> Answer:
    """Group by series and window in SQL, on one thread."""
    table = pa.table({"series": readings.series, "time_us": readings.time_us, "value": readings.value})
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("readings", table)
        found = connection.execute(
            f"""
            SELECT series, (time_us // {WINDOW_US} - hop) * {WINDOW_US} AS window_start,
                count(*) AS count, avg(value) AS mean, stddev_samp(value) AS std, min(value) AS min, max(value) AS max,
                arg_min(value, time_us) AS first, arg_max(value, time_us) AS last,
                min(time_us) AS first_time, max(time_us) AS last_time,
                regr_slope(value, time_us % {WINDOW_US} + hop * {WINDOW_US}) * 1e6 AS slope_per_s
            FROM readings, range({length_us // WINDOW_US}) AS hops(hop) GROUP BY ALL
            """
        )
        return dict(found.fetchnumpy())


def pandas_windows(readings: Columns, length_us: int = WINDOW_US) -> Answer:
    """Sort by time, then group by series and window; a slope is what two more columns give."""
    frame = pd.DataFrame({"series": readings.series, "time_us": readings.time_us, "value": readings.value})
    frame = frame.sort_values("time_us", kind="stable")
    hops = range(length_us // WINDOW_US)
    frame = pd.concat([frame.assign(window_start=(frame.time_us // WINDOW_US - hop) * WINDOW_US) for hop in hops])
    frame["offset"] = (frame.time_us - frame.window_start) / 1e6
    frame["product"] = frame.offset * frame.value
    frame["square"] = frame.offset * frame.offset
    found = (
        frame.groupby(["series", "window_start"], sort=False)
        .agg(
            count=("value", "size"),
            mean=("value", "mean"),
            std=("value", "std"),
            min=("value", "min"),
            max=("value", "max"),
            first=("value", "first"),
            last=("value", "last"),
            first_time=("time_us", "first"),
            last_time=("time_us", "last"),
            offset=("offset", "mean"),
            product=("product", "mean"),
            square=("square", "mean"),
        )
        .reset_index()
    )
    spread = found.square - found.offset * found.offset
    found["slope_per_s"] = ((found["product"] - found.offset * found["mean"]) / spread).where(found["count"] > 1)
    return {name: found[name].to_numpy() for name in ("series", "window_start", *STATISTICS)}


def bytewax_items(readings: Columns) -> list[tuple[str, tuple[datetime, float]]]:
    """Return the readings as Bytewax takes them: an item each, keyed by its series."""
    start = datetime.fromtimestamp(START_US / 1e6, UTC)
    times = ((readings.time_us - START_US).tolist(), readings.value.tolist())
    return [
        (str(series), (start + timedelta(microseconds=time_us), value))
        for series, time_us, value in zip(readings.series.tolist(), *times, strict=True)
    ]


def bytewax_windows(items: list[tuple[str, tuple[datetime, float]]], length_us: int = WINDOW_US) -> Answer:
    """Run Bytewax's own `fold_window`, with the same lateness and a clock for each series, as ours."""
    closed: list[Any] = []
    start = datetime.fromtimestamp(START_US // WINDOW_US * WINDOW_US / 1e6, UTC)
    length, hop = timedelta(microseconds=length_us), timedelta(microseconds=WINDOW_US)
    windower = win.SlidingWindower if length_us > WINDOW_US else win.TumblingWindower
    about: dict[str, Any] = {"offset": hop} if length_us > WINDOW_US else {}
    dataflow = Dataflow("peer")
    windows = win.fold_window(
        "windows",
        op.input("input", dataflow, TestingSource(items, batch_size=1_000)),
        # Its clock also runs on by the wall's: readings would be late because a benchmark is slow, so that one stands.
        win.EventClock(
            ts_getter=_time, wait_for_system_duration=timedelta(microseconds=LATENESS_US), now_getter=lambda: start
        ),
        windower(align_to=start, length=length, **about),
        _Sums,
        _Sums.take,
        _Sums.join,
    )
    op.output("output", windows.down, TestingSink(closed))
    cli_main(dataflow)
    rows = [(int(series), start_us(window, start), *sums.statistics()) for series, (window, sums) in closed]
    return {
        name: np.array(column)
        for name, column in zip(("series", "window_start", *STATISTICS), zip(*rows, strict=True), strict=True)
    }


def start_us(window: int, start: datetime) -> int:
    """Return when a window of Bytewax starts, by its number."""
    return round(start.timestamp()) * 1_000_000 + window * WINDOW_US


def _time(reading: tuple[datetime, float]) -> datetime:
    return reading[0]


class _Sums:
    """What a window's statistics need, in plain Python; times in seconds from the start of the readings."""

    __slots__ = ("first", "high", "last", "low", "n", "t", "tt", "tv", "v", "vv")

    def __init__(self) -> None:
        self.n = 0
        self.v = self.vv = self.t = self.tt = self.tv = 0.0
        self.low, self.high = float("inf"), float("-inf")
        self.first: tuple[datetime, float] | None = None
        self.last: tuple[datetime, float] | None = None

    def take(self, reading: tuple[datetime, float]) -> _Sums:
        time, value = reading
        if self.first is None or time < self.first[0]:
            self.first = reading
        if self.last is None or time > self.last[0]:
            self.last = reading
        at = (time - _EPOCH).total_seconds()
        self.n += 1
        self.v += value
        self.vv += value * value
        self.t += at
        self.tt += at * at
        self.tv += at * value
        self.low, self.high = min(self.low, value), max(self.high, value)
        return self

    def join(self, other: _Sums) -> _Sums:
        raise AssertionError(f"only session windows are joined: {other}")

    def statistics(self) -> tuple[float, ...]:
        assert self.first is not None
        assert self.last is not None
        n, mean = self.n, self.v / self.n
        spread_t = self.tt - self.t * self.t / n
        std = (max(0.0, self.vv - n * mean * mean) / (n - 1)) ** 0.5 if n > 1 else float("nan")
        slope = (self.tv - self.t * mean) / spread_t if n > 1 else float("nan")
        times = (round(each[0].timestamp() * 1e6) for each in (self.first, self.last))
        return (n, mean, std, self.low, self.high, self.first[1], self.last[1], *times, slope)


_EPOCH = datetime.fromtimestamp(START_US / 1e6, UTC)

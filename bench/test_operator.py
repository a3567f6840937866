"""The operator of a partition from Python: envelopes to readings, scores, windows, alarms and counts, beside two peers.

The peers decode, keep the readings whose window is still open, and group the rest. They check nothing: no dictionary,
units, duplicates, late readings or clocks, one watermark for all series, and no rows of what they have read. The tier P
is what has windows of 10 s alone.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import orjson
import polars as pl
import pytest

from alumicatalyst._core import Dictionary, Partition
from bench.load import LATENESS_US, WINDOW_US, Columns, Load, load, scaled
from bench.peers import Answer, numpy_windows, polars_statistics
from bench.test_decode import Reading, columns_of

if TYPE_CHECKING:
    import pyarrow as pa

    from bench.conftest import Measure

READINGS = scaled(2_000_000, 1_000_000)
PEER_READINGS = scaled(500_000, 50_000)
# Plant, readings in an envelope, and the readings that come before the clock starts: each series has then appeared.
LOADS = {
    "all on, smelter, arrays of 100": ("smelter", 100, 50_000),
    "all on, smelter, objects": ("smelter", 1, 50_000),
    "all on, 40,000 series, arrays of 100": ("site", 100, 200_000),
    "10 s windows, smelter, arrays of 100": ("smelter, plain", 100, 50_000),
    "10 s windows, smelter, objects": ("smelter, plain", 1, 50_000),
    "10 s windows, 40,000 series, arrays of 100": ("site, plain", 100, 200_000),
}
GOALS = {"all on": 4.0, "10 s windows": 5.0}


@cache
def made(kind: str, readings: int) -> Load:
    plant, per_envelope, _ = LOADS[kind]
    return load(plant, readings, per_envelope=per_envelope)


def cut(kind: str, batches: list[pa.RecordBatch]) -> tuple[list[pa.RecordBatch], list[pa.RecordBatch]]:
    """Return the batches before the clock starts, and those after."""
    _, per_envelope, before = LOADS[kind]
    first = before // (batches[0].num_rows * per_envelope)
    return batches[:first], batches[first:]


@pytest.mark.parametrize("kind", LOADS)
def test_partition(kind: str, measure: Measure) -> None:
    wanted = made(kind, READINGS)
    dictionary = Dictionary.from_toml(wanted.dictionary)
    before, timed = cut(kind, wanted.batches)

    def started() -> tuple[tuple[Any, ...], dict[str, Any]]:
        partition = Partition("bench/1/0", dictionary)
        for batch in before:
            partition.on_batch(batch)
        return (partition,), {}

    def run(partition: Partition) -> None:
        # Each output is let go, as a sink does once it has stored some.
        for batch in timed:
            partition.on_batch(batch)

    partition = Partition("bench/1/0", dictionary)
    outputs = [partition.on_batch(batch) for batch in wanted.batches]
    outputs.append(partition.flush(partition.last_sequence + 1, 0))
    assert sum(output.readings.num_rows for output in outputs) == READINGS
    windows = pl.concat([frame_of(output.windows) for output in outputs])
    states = pl.concat([frame_of(output.readings)["score_state"].value_counts() for output in outputs])
    assert ("scored" in states["score_state"].to_list()) == kind.startswith("all on")
    windows = windows.filter(pl.col("window_name") == "10s")
    assert (windows["count"].sum(), windows.height) == (READINGS, wanted.windows)
    assert (windows["mean"] * windows["count"]).sum() == pytest.approx(
        sum(float(frame_of(output.readings)["value"].sum()) for output in outputs), rel=1e-9
    )
    measure(
        run,
        setup=started,
        layer="operator",
        load=kind,
        who="AlumiCatalyst",
        goal=GOALS[kind.split(",", maxsplit=1)[0]],
        readings=READINGS - LOADS[kind][2],
        rounds=7,
        tier=tier_of(kind),
    )


def tier_of(kind: str) -> str:
    return "P" if kind.startswith("10 s") else ""


def frame_of(batch: pa.RecordBatch) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame


class Peer:
    """What one would write in an afternoon, with the fastest libraries for it."""

    def __init__(self, *, several: bool) -> None:
        self._decode: Any = msgspec.json.Decoder(list[Reading] if several else Reading).decode
        self._several = several
        self._open: pl.DataFrame | None = None

    def on_batch(self, bodies: list[bytes]) -> pl.DataFrame:
        decoded = [self._decode(body) for body in bodies]
        readings = frame_of(columns_of([each for items in decoded for each in items] if self._several else decoded))
        readings = readings.select("device", "metric", "event_time", "value")
        if self._open is not None:
            readings = pl.concat([self._open, readings])
        time_us = pl.col("event_time").to_physical()
        newest = readings.select(time_us.max()).item()
        ends = time_us // WINDOW_US * WINDOW_US + WINDOW_US
        closed = ends <= newest - LATENESS_US
        self._open = readings.filter(~closed)
        return self._windows(readings.filter(closed))

    def flush(self) -> pl.DataFrame:
        assert self._open is not None
        return self._windows(self._open)

    def _windows(self, readings: pl.DataFrame) -> pl.DataFrame:
        value, time_us = pl.col("value"), pl.col("event_time").to_physical()
        return readings.group_by("device", "metric", (time_us // WINDOW_US * WINDOW_US).alias("window_start")).agg(
            **polars_statistics(value, time_us)
        )


class PlainPeer:
    """The same with what is most at hand: objects, a number for each name, and numpy."""

    def __init__(self, *, several: bool) -> None:
        self._several = several
        self._series: dict[tuple[str, str], int] = {}
        self._open = Columns(np.empty(0, np.uint32), np.empty(0, np.int64), np.empty(0, np.int64))

    def on_batch(self, bodies: list[bytes]) -> Answer | None:
        decoded = [orjson.loads(body) for body in bodies]
        objects = [each for items in decoded for each in items] if self._several else decoded
        numbers, series = self._series, []
        for each in objects:
            name = each["deviceId"], each["metric"]
            number = numbers.get(name)
            if number is None:
                number = numbers[name] = len(numbers)
            series.append(number)
        texts = np.array([each["ts"][:-1] for each in objects], "datetime64[us]")
        values = np.rint(np.array([each["value"] for each in objects]) * 1000)
        return self._close(
            Columns(
                np.concatenate([self._open.series, np.array(series, np.uint32)]),
                np.concatenate([self._open.time_us, texts.astype(np.int64)]),
                np.concatenate([self._open.thousandths, values.astype(np.int64)]),
            )
        )

    def _close(self, readings: Columns) -> Answer | None:
        closed = readings.time_us // WINDOW_US * WINDOW_US + WINDOW_US <= readings.time_us.max() - LATENESS_US
        self._open = _rows(readings, ~closed)
        return numpy_windows(_rows(readings, closed)) if closed.any() else None

    def flush(self) -> Answer:
        return numpy_windows(self._open)


def _rows(readings: Columns, where: np.ndarray[Any, Any]) -> Columns:
    return Columns(readings.series[where], readings.time_us[where], readings.thousandths[where])


@pytest.mark.parametrize("kind", [kind for kind in LOADS if kind.startswith("10 s")])
def test_msgspec_and_polars(kind: str, measure: Measure) -> None:
    wanted = made(kind, PEER_READINGS)
    bodies = [batch.column("body").to_pylist() for batch in wanted.batches]

    def run() -> list[pl.DataFrame]:
        peer = Peer(several=LOADS[kind][1] > 1)
        return [*(peer.on_batch(batch) for batch in bodies), peer.flush()]

    windows = pl.concat(run())
    assert (windows["count"].sum(), windows.height) == (PEER_READINGS, wanted.windows)
    assert (windows["mean"] * windows["count"]).sum() == pytest.approx(wanted.value_sum, rel=1e-9)
    measure(
        run,
        layer="operator",
        load=kind,
        who="peer: msgspec, polars, no checks",
        readings=PEER_READINGS,
        rounds=3,
        tier=tier_of(kind),
        note=NOTE,
    )


@pytest.mark.parametrize("kind", [kind for kind in LOADS if kind.startswith("10 s")])
def test_orjson_and_numpy(kind: str, measure: Measure) -> None:
    wanted = made(kind, PEER_READINGS)
    bodies = [batch.column("body").to_pylist() for batch in wanted.batches]

    def run() -> list[Answer]:
        peer = PlainPeer(several=LOADS[kind][1] > 1)
        found = [*(peer.on_batch(batch) for batch in bodies), peer.flush()]
        return [each for each in found if each is not None]

    found = run()
    count, mean = (np.concatenate([each[name] for each in found]) for name in ("count", "mean"))
    assert (count.sum(), len(count)) == (PEER_READINGS, wanted.windows)
    assert (mean * count).sum() == pytest.approx(wanted.value_sum, rel=1e-9)
    measure(
        run,
        layer="operator",
        load=kind,
        who="peer: orjson, numpy, no checks",
        readings=PEER_READINGS,
        rounds=3,
        tier=tier_of(kind),
        note=NOTE,
    )


NOTE = "no dictionary, units, duplicates or late readings; one watermark; no rows but windows"

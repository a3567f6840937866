"""The readings that every benchmark measures itself on: seeded, with disorder, as columns and as JSON envelopes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from alumicatalyst.sources import envelopes

if TYPE_CHECKING:
    import pyarrow as pa

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
"""A short run works on this share of the readings: it shows that everything runs, and no figure to quote."""

ROOT = Path(__file__).resolve().parent.parent
START_US = 1_795_256_130_000_000
WINDOW_US = 10_000_000
LATENESS_US = 5_000_000

# A hundredth of the readings arrives up to four seconds late: out of order, but before their window closes.
DELAYED_SHARE = 0.01
_DELAY_TICKS = 4
_BODY_BYTES = 128

SMELTER = (ROOT / "flows/smelter.toml").read_text()


def _plain(dictionary: str) -> str:
    """Return a dictionary with windows of ten seconds alone: no hopping ones, detectors or alarms."""
    changes = {
        r'^windows  = \["10s".*': 'windows  = ["10s"]',
        r'^detector = "ewma".*': 'detector = "none"',
        r"^alarm\..*": "",
        r", alarm\.\w+=\{[^}]*\}": "",
        r"^\[\[override\]\](.*\n)*": "",
    }
    for pattern, text in changes.items():
        dictionary = re.sub(pattern, text, dictionary, flags=re.MULTILINE)
    return dictionary


# A site of a size that does not fit the cache.
_RULES = 'alarm.H={above=200, on="10s", priority="high"}, alarm.odd={score_above=6, on="30s", priority="low"}'
SITE_METRICS = ("cell_voltage", "anode_signal", "bath_tempera", "alumina_feed")
SITE = f"""
name = "bench-site"
version = "1"
site = "bench/site"

[payload]
device = ["deviceId"]
time = {{field = "ts", format = "rfc3339"}}
metric = "metric"
value = "value"
quality = "q"
ignore = ["id"]
unknown = "reject"

[time]
out_of_orderness = "5s"
idle = "2min"
duplicates = 8

[default]
windows  = ["10s", "5min/1min"]
detector = "ewma"

[detector.ewma]
learn = 20

[machine.pot]
device = "pot-{{00001..10000}}"
{"".join(f'{name} = {{unit = "V", range = [0, 1000], {_RULES}}}{chr(10)}' for name in SITE_METRICS)}
"""
DICTIONARIES = {
    "smelter": SMELTER,
    "smelter, plain": _plain(SMELTER),
    "site": SITE,
    "site, plain": _plain(SITE),
}

SITE_SERIES = list(product([f"pot-{number:05}" for number in range(1, 10_001)], SITE_METRICS))
# The measured quantities of the smelter, of those that it windows by 10 seconds.
SMELTER_SERIES = [
    ("rectifier-1", "line_current"),
    *product([f"pot-{number:03}" for number in range(1, 49)], ["cell_voltage", "alumina_feed"]),
    *((f"furnace-{number}", "temperature") for number in range(1, 5)),
    *product([f"press-{number}" for number in range(1, 4)], ["pressure", "temperature", "vibration"]),
    *product(["hall-1"], ["temperature", "humidity"]),
]
# As sent, between the limits of the plant's rules: nearly all readings of a plant that works are quiet.
_VALUES = {
    "line_current": (280_000, 320_000),
    "cell_voltage": (4.2, 4.6),
    "temperature": (70, 70.1),
    "alumina_feed": (0, 5),
    "humidity": (20, 90),
    "vibration": (1, 6),
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings in arrival order, a second apart in each series and no two of a series at the same time.

    Attributes:
        series: Number of the series, from 0.
        time_us: Event time, in whole milliseconds.
        thousandths: The value, times 1000.
    """

    series: np.ndarray[Any, np.dtype[np.uint32]]
    time_us: np.ndarray[Any, np.dtype[np.int64]]
    thousandths: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def value(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        return self.thousandths / 1000


def scaled(readings: int, multiple_of: int = 10_000) -> int:
    """Return how many readings a benchmark works on: all it asks for, or less in a short run."""
    return max(multiple_of, round(readings * SCALE / multiple_of) * multiple_of)


def columns(
    readings: int,
    series: int,
    *,
    shuffled: bool,
    ranges: list[tuple[float, float]] | None = None,
    delayed_share: float = DELAYED_SHARE,
) -> Columns:
    """Make readings of so many series, each second all of them, in their order or in a new one each second."""
    random = np.random.default_rng(20261121)
    tick, number = np.divmod(np.arange(readings, dtype=np.int64), series)
    if shuffled:
        number = np.concatenate([random.permutation(series) for _ in range(int(tick[-1]) + 1)])[:readings]
    edges = np.rint(np.asarray(ranges or [(1, 999)]).T * 1000).astype(np.int64)
    low, high = edges[:, number if ranges else np.zeros(readings, int)]
    time_us = START_US + tick * 1_000_000 + random.integers(0, 200, readings) * 1000
    thousandths = random.integers(low, high)
    delayed = random.random(readings) < delayed_share
    arrival = np.arange(readings, dtype=np.float64)
    arrival[delayed] += random.random(int(delayed.sum())) * _DELAY_TICKS * series
    order = np.argsort(arrival, kind="stable")
    return Columns(number[order].astype(np.uint32), time_us[order], thousandths[order])


@dataclass(frozen=True, slots=True)
class Load:
    """Readings as a source hands them over, and what must come out.

    Attributes:
        dictionary: The data dictionary, as TOML.
        batches: The envelopes of one partition.
        readings: How many readings they hold.
        value_sum: Of the values as sent.
        windows: How many windows of ten seconds the readings fall into.
        columns: The readings.
        names: Device and metric of each series.
    """

    dictionary: str
    batches: list[pa.RecordBatch]
    readings: int
    value_sum: float
    windows: int
    columns: Columns
    names: list[tuple[str, str]]


def load(plant: str, readings: int, *, per_envelope: int, per_batch: int = 50_000) -> Load:
    """Make envelopes of one reading or an array of several; an object alone has 128 bytes.

    Args:
        plant: "smelter", the 112 quick series of the example dictionary, or "site", 40,000 in an order that changes
            every second; ", plain" behind it leaves windows of ten seconds alone.
        readings: How many in all.
        per_envelope: 1 makes an object of each, more an array.
        per_batch: Readings in each batch of envelopes.
    """
    smelter = plant.startswith("smelter")
    names = SMELTER_SERIES if smelter else SITE_SERIES
    ranges = [_VALUES.get(metric, (1, 99)) for _, metric in names]
    made = columns(readings, len(names), shuffled=not smelter, ranges=ranges)
    objects = _objects(made, names)
    rows = np.arange(0, readings, per_envelope)
    if per_envelope > 1:
        frame = pl.DataFrame({"object": objects, "envelope": np.arange(readings) // per_envelope})
        joined = frame.group_by("envelope", maintain_order=True).agg(pl.col("object").str.join(","))
        objects = "[" + joined["object"] + "]"
    newest = np.maximum.accumulate(np.maximum.reduceat(made.time_us, rows)) + 50_000
    bodies = [text.encode() for text in objects.to_list()]
    edges = [*range(0, len(bodies), max(1, per_batch // per_envelope)), len(bodies)]
    batches = [
        envelopes(bodies[start:end], range(start, end), newest[start:end].tolist()) for start, end in pairwise(edges)
    ]
    windows = len(np.unique(made.series.astype(np.int64) << 40 | (made.time_us - START_US) // WINDOW_US))
    return Load(DICTIONARIES[plant], batches, readings, made.value.sum(), windows, made, names)


def _objects(made: Columns, names: list[tuple[str, str]]) -> pl.Series:
    heads = pl.Series([f'{{"deviceId":"{device}","metric":"{metric}","ts":"' for device, metric in names])
    frame = pl.DataFrame(
        {
            "head": heads.gather(made.series),
            "time": pl.Series(made.time_us).cast(pl.Datetime("us")).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"),
            "whole": made.thousandths // 1000,
            "rest": pl.Series(made.thousandths % 1000).cast(pl.String).str.zfill(3),
        }
    ).with_columns(text=pl.format('{}{}","value":{}.{},"q":192,"id":"', "head", "time", "whole", "rest"))
    # An id, which the dictionary does not read, makes every object as long as the next.
    filler = pl.lit("3f9a61c07be24d558e1b6ac0").str.slice(0, _BODY_BYTES - 2 - pl.col("text").str.len_bytes())
    return frame.select(pl.col("text") + filler + '"}').to_series()

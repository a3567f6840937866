"""Machines of a draft: devices that have the same metrics, with what their values suggest."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.draft.table import DEVICE, TIME, Table
from alumicatalyst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

_DEVICES_MAX: Final = 10_000
_MACHINES_MAX: Final = 200
_STATES_MAX: Final = 20
_STATE_CHARS_MAX: Final = 64
# An hour, a minute, a second and a millisecond, in microseconds.
_SCALES: Final = (3_600_000_000, 60_000_000, 1_000_000, 1_000)
# What evaluations write beside the measurements.
_LABELS: Final = {"anomaly", "anomalies", "changepoint", "class", "fault", "is_anomaly", "label", "labels", "target"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: a measured one with what was seen, or a status with its states."""

    name: str
    lowest: float | None = None
    highest: float | None = None
    every_us: int | None = None
    states: tuple[str, ...] = ()

    def range(self) -> tuple[float, float] | None:
        """Return a generous range in round figures; zero bounds what was never negative."""
        if self.lowest is None or self.highest is None:
            return None
        room = max(2 * (self.highest - self.lowest), abs(self.lowest) / 2, abs(self.highest) / 2) or 1.0
        digits = -math.floor(math.log10(room)) if math.isfinite(room) else 0
        step = 10.0**-digits if -300 < digits < 300 else 0.0
        if step == 0.0 or not math.isfinite(2 * (abs(self.lowest) + abs(self.highest) + room)):
            return None
        low = round(math.floor((self.lowest - room) / step) * step, digits)
        high = round(math.ceil((self.highest + room) / step) * step, digits)
        return (0.0 if self.lowest >= 0 else low), high


@dataclass(frozen=True, slots=True)
class Machine:
    """Devices with the same metrics."""

    name: str
    devices: list[str]
    metrics: list[Metric]


def machines(table: Table) -> list[Machine]:
    """Group a file's devices by what they measure.

    Raises:
        InputError: There are too many devices to be devices.
    """
    by_device = table.metrics_by_device()
    if len(by_device) > _DEVICES_MAX:
        raise InputError(
            f"couldn't draft a dictionary: {table.device} has {len(by_device)} values; name the column of the devices"
        )
    groups: dict[tuple[str, ...], list[str]] = {}
    for device, names in by_device.items():
        groups.setdefault(names, []).append(device)
    if len(groups) > _MACHINES_MAX:
        # Nearly every device is unlike the others: one machine that has all of their metrics.
        every = tuple(dict.fromkeys(name for names in groups for name in names))
        groups = {every: list(by_device)}
    found: list[Machine] = []
    for names, devices in groups.items():
        rows = table.rows_of(devices)
        metrics = [metric for name in names if (metric := _metric(table, name, rows)) is not None]
        if metrics:
            found.append(Machine(_called(devices, {machine.name for machine in found}), devices, metrics))
    return found


def _metric(table: Table, name: str, rows: Any) -> Metric | None:
    """Return a metric, or None for a label and for text that is no status."""
    import pyarrow.compute as pc

    if table.metric is None and name.casefold() in _LABELS:
        return None
    if table.metric is None and name in table.texts:
        return Metric(name, states=table.texts[name]) if _is_status(table.texts[name], rows.num_rows) else None
    values = table.values_of(name, rows)
    seen = pc.min_max(values["value"].filter(pc.is_finite(values["value"])))
    return Metric(name, seen["min"].as_py(), seen["max"].as_py(), _interval_us(values))


def _is_status(words: tuple[str, ...], rows: int) -> bool:
    """Whether a column of text tells a status: a few short words, again and again, that are not true and false."""
    short = all(word and len(word) <= _STATE_CHARS_MAX and word.isprintable() for word in words)
    boolean = {word.casefold() for word in words} <= {"true", "false"}
    return short and not boolean and len(words) <= _STATES_MAX and 2 * len(words) <= rows


def _interval_us(values: Any) -> int | None:
    """Return the median time between values of the first device, in a round figure since intervals wander."""
    import pyarrow.compute as pc

    if not len(values):
        return None
    first = values.filter(pc.equal(values[DEVICE], values[DEVICE][0]))
    times = pc.unique(first[TIME].drop_null()).sort()
    if len(times) < 2:
        return None
    median = int(pc.quantile(pc.pairwise_diff(times), q=0.5, interpolation="lower")[0].as_py())
    scale = next((scale for scale in _SCALES if median >= 20 * scale), 1)
    return round(median / scale) * scale


def _called(devices: Iterable[str], taken: set[str]) -> str:
    """Name a machine by what its devices' names begin with."""
    first, last = min(devices), max(devices)
    common = next(
        (first[:at] for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(first, last, key=len)
    )
    base = slug(re.sub(r"[\d\W_]+$", "", common)) or "machine"
    return (
        base
        if base not in taken
        else next(name for number in range(2, len(taken) + 3) if (name := f"{base}-{number}") not in taken)
    )


def slug(name: str) -> str:
    """Return what of a name can stand unquoted as a key."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:64]


def patterns(devices: list[str]) -> list[str]:
    """Write neighbours that differ in the number at their end as one pattern.

    Example:
        >>> patterns(["pot-1", "pot-2", "pot-3", "hall"])
        ['hall', 'pot-{1..3}']
    """
    runs: dict[tuple[str, int], list[int]] = {}
    written = []
    for device in devices:
        found = re.fullmatch(r"(.*?)([0-9]{1,9})", device, re.DOTALL)
        if found is None:
            written.append(device)
        else:
            # Numbers of one length are padded alike; others of the same beginning are runs of their own.
            runs.setdefault((found[1], len(found[2])), []).append(int(found[2]))
    for (head, width), numbers in runs.items():
        numbers.sort()
        start = 0
        for end, number in enumerate(numbers, 1):
            if end == len(numbers) or numbers[end] != number + 1:
                first, last = f"{numbers[start]:0{width}d}", f"{number:0{width}d}"
                written.append(f"{head}{first}" if first == last else f"{head}{{{first}..{last}}}")
                start = end
    return sorted(written)

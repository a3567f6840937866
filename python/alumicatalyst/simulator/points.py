"""Where signals are evaluated: the instants of many series at once, and the curves that all machines are made of.

Every curve is a function of a key and the time alone. What is random is a number for each cell of a grid of times, so
nothing has to be carried from one instant to the next, and any instant can be evaluated by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from alumicatalyst.simulator.noise import levels, normal, smooth, uniform
from alumicatalyst.simulator.plan import MINUTE_US, SECOND_US

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Keys = NDArray[np.uint64]

HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
# Streams of numbers of one device: its curves have small numbers, the draws of its cycles stand above them.
_DRAWS = 1_000


@dataclass(frozen=True, slots=True)
class Points:
    """The instants at which the series of one kind are to be evaluated.

    Attributes:
        device_keys: One key per series, the same for all metrics of a device.
        series_keys: One key per series.
        plant_keys: One key per series, the same for all devices of a plant.
        row: For each instant, the position of its series in these three.
        times_us: Event times.
        index: Number of the measurement since 1970, for noise that differs at each.
        every_us: The time between two measurements.
        metric: The compiled metric.
    """

    device_keys: Keys
    series_keys: Keys
    plant_keys: Keys
    row: Ints
    times_us: Ints
    index: Ints
    every_us: int
    metric: Mapping[str, Any]

    def constant(self, number: int, low: float, high: float) -> Floats:
        """Return a property of the device, such as its working point: always the same, between low and high."""
        drawn = uniform(self.device_keys, np.array([number], dtype=np.int64))
        return np.asarray(low + (high - low) * drawn)[self.row]

    def wander(self, number: int, period_us: int) -> Floats:
        """Return a slow curve of the device in [-1, 1]."""
        return smooth(self.device_keys + np.uint64(number), self.row, self.times_us, period_us)

    def plant_wander(self, number: int, period_us: int) -> Floats:
        """Return a slow curve in [-1, 1], the same for all devices of a plant."""
        return smooth(self.plant_keys + np.uint64(number), self.row, self.times_us, period_us)

    def steps(self, number: int, period_us: int) -> Floats:
        """Return a level in [-1, 1] that jumps once in a period."""
        (level,) = levels(self.device_keys + np.uint64(number), self.row, self.times_us // period_us)
        return 2.0 * level - 1.0

    def noise(self) -> Floats:
        """Return white noise of standard deviation 1."""
        return normal(self.series_keys[self.row], self.index)

    def cycle(self, number: int, period_us: int, jitter: float = 0.0, *, plant: bool = False) -> Cycle:
        """Return where the device (or the plant) is in a cycle that begins anew about once in a period.

        Each begin is up to `jitter` of a period late, which is less than 1.
        """
        keys = self.plant_keys if plant else self.device_keys
        own = keys + np.uint64(number)
        offsets = (uniform(own, np.array([-1], dtype=np.int64)) * period_us).astype(np.int64)
        shifted = self.times_us + offsets[self.row]
        count = shifted // period_us
        before, here, after = (
            (count + further) * period_us + (late * (jitter * period_us)).astype(np.int64)
            for further, late in zip((-1, 0, 1), levels(own, self.row, count - 1, 2), strict=True)
        )
        early = shifted < here
        begin = np.where(early, before, here)
        length = np.where(early, here, after) - begin
        return Cycle(own, self.row, count - early, second(shifted - begin), second(length))

    def at(self, row: Ints, times_us: Ints) -> Points:
        """Return other instants of the same series; they are no measurements, so they have no white noise."""
        return replace(self, row=row, times_us=times_us, index=times_us)

    def between(self, step_us: int, curves: Callable[[Points], tuple[Floats, ...]]) -> tuple[Floats, ...]:
        """Return curves that are evaluated once in a step of time only, with straight lines between.

        So what changes slowly costs next to nothing, however rich it is.
        """
        if not len(self.row):
            return curves(self)
        cell = self.times_us // step_us
        part = (self.times_us - cell * step_us) * (1.0 / step_us)
        first = int(cell.min())
        width = int(cell.max()) - first + 2
        count = len(self.device_keys)
        if width * count <= 2 * len(cell):
            grid = self.at(
                np.repeat(np.arange(count), width), np.tile(np.arange(first, first + width) * step_us, count)
            )
            here = self.row * width
            here += cell
            here -= first
            there = here + 1
        else:
            grid = self.at(np.tile(self.row, 2), np.concatenate([cell, cell + 1]) * step_us)
            here = np.arange(len(cell))
            there = here + len(cell)
        out = []
        for curve in curves(grid):
            value, following = curve.take(here), curve.take(there)
            following -= value
            following *= part
            value += following
            out.append(value)
        return tuple(out)


@dataclass(frozen=True, slots=True)
class Cycle:
    """Where each instant is in a cycle of its device.

    Attributes:
        count: Number of the cycle.
        since_s: How long it has lasted.
        length_s: How long it will have lasted.
    """

    keys: Keys
    row: Ints
    count: Ints
    since_s: Floats
    length_s: Floats

    @property
    def part(self) -> Floats:
        """How far the cycle is, from 0 to 1."""
        return self.since_s / self.length_s

    def draw(self, number: int, low: float, high: float) -> Floats:
        """Return a property of the cycle, the same all through it."""
        (drawn,) = levels(self.keys + np.uint64(_DRAWS * number), self.row, self.count)
        drawn *= high - low
        drawn += low
        return drawn


Signal = Callable[[Points], "Floats"]


def second(times_us: Ints) -> Floats:
    """Return times, or lengths of time, in seconds."""
    return np.asarray(times_us * (1.0 / SECOND_US), dtype=np.float64)

"""What goes wrong in the plant itself: anode effects, stuck and drifting sensors, spikes.

Time is cut into slots, each series' own. Whether a slot holds a fault, which, when and how strong is a function of the
seed, the series and the slot, so a fault is the same however time is advanced and wherever a simulation begins.
Anode effects have longer slots of their own: a sensor can fail during one, and then shows what it shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from alumicatalyst.simulator import anode, sensors
from alumicatalyst.simulator.noise import keys_of, normal, uniform
from alumicatalyst.simulator.plan import FAULT_SLOT_US, MINUTE_US, ProcessFaults
from alumicatalyst.simulator.points import HOUR_US
from alumicatalyst.simulator.pot import alumina_feed, bath_temperature, cell_voltage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from alumicatalyst.simulator.plant import Group

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

Kind = Literal["anode_effect", "stuck", "drift", "spike"]
# Metrics that are measured less often than this have no faults: one would hardly be seen.
_EVERY_MAX_US = 2 * MINUTE_US
_DRAWS = 9
# What an anode effect changes.
_OF_CELLS = frozenset({cell_voltage, alumina_feed, bath_temperature})


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one series.

    Attributes:
        kind: Which.
        series: Index of the series in the fleet.
        slot: The slot of the series that holds it.
        begin_us: The first instant at which values are touched; of an anode effect, when it begins to build up.
        onset_us: Of an anode effect, when it breaks out; else the begin.
        end_us: The first instant at which values are not touched any more.
        draws: Numbers in [0, 1) that decide its shape.
    """

    kind: Kind
    series: int
    slot: int
    begin_us: int
    onset_us: int
    end_us: int
    draws: tuple[float, ...]


class _Layer:
    """Slots of time, each of which holds one fault or none."""

    def __init__(self, keys: NDArray[np.uint64], slot_us: int) -> None:
        self.slot_us = slot_us
        self._keys = keys
        self._offsets = (keys % np.uint64(slot_us)).astype(np.int64)

    def slots(self, series: Ints, times_us: Ints) -> Ints:
        """Return the slots of series at some times."""
        return np.asarray((times_us + self._offsets[series]) // self.slot_us)

    def among(self, group: Group, kinds: list[tuple[Kind, float]], series: Ints, slots: Ints) -> Iterator[Fault]:
        """Yield the faults that some slots hold, each slot given once; series and slots belong together."""
        if not kinds or not len(series):
            return
        shares = np.cumsum([rate * self.slot_us / HOUR_US for _, rate in kinds])
        chosen = np.searchsorted(shares, uniform(self._keys[series], slots * _DRAWS), side="right")
        holds = np.flatnonzero(chosen < len(kinds))
        series, slots, chosen = series[holds], slots[holds], chosen[holds]
        draws = [uniform(self._keys[series], slots * _DRAWS + number).tolist() for number in range(1, _DRAWS)]
        for one, slot, kind, *shape in zip(series.tolist(), slots.tolist(), chosen.tolist(), *draws, strict=True):
            if kinds[kind][0] == "anode_effect":
                rise, length = anode.spans_us(tuple(shape), self.slot_us)
            else:
                rise, length = 0, sensors.length_us(kinds[kind][0], group, tuple(shape))
            begin = slot * self.slot_us - int(self._offsets[one]) + int(shape[0] * (self.slot_us - length))
            yield Fault(kinds[kind][0], one, slot, begin, begin + rise, begin + length, tuple(shape))

    def between(
        self, group: Group, kinds: list[tuple[Kind, float]], series: Ints, begin_us: int, end_us: int
    ) -> Iterator[Fault]:
        """Yield the faults of some series, each given once, that last at some time from `begin_us` to `end_us`."""
        if not kinds or not len(series):
            return
        first, last = (self.slots(series, np.full(len(series), time)) for time in (begin_us, end_us))
        counts = last - first + 1
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        for fault in self.among(group, kinds, np.repeat(series, counts), np.repeat(first, counts) + within):
            if fault.begin_us <= end_us and fault.end_us > begin_us:
                yield fault


class _Rows:
    """The rows of each of a group's series."""

    def __init__(self, position: Ints, count: int) -> None:
        ordered = bool((position[1:] >= position[:-1]).all())
        self._order = None if ordered else np.argsort(position, kind="stable")
        self._ends = np.searchsorted(position if self._order is None else position[self._order], np.arange(count + 1))

    def of(self, place: int, times_us: Ints, begin_us: int, end_us: int) -> Ints:
        """Return the rows of one series from one time to another."""
        rows = np.arange(self._ends[place], self._ends[place + 1])
        if self._order is not None:
            rows = self._order[rows]
        times = times_us[rows]
        return rows[(times >= begin_us) & (times < end_us)]


class Faults:
    """The faults of all series of a fleet.

    Args:
        rates: How often each kind happens.
        keys: One key per series.
        phase_us: When in its interval each series is measured.
        cells: For each series, that of its device's cell voltage; -1: it has none.
    """

    def __init__(self, rates: ProcessFaults, keys: NDArray[np.uint64], phase_us: Ints, cells: Ints) -> None:
        self._rates = rates
        self._keys = keys
        self._phase_us = phase_us
        self._cells = cells
        hourly = max(1, math.ceil(rates.anode_effects))
        self._sensors = _Layer(keys, FAULT_SLOT_US)
        self._anodes = _Layer(keys ^ keys_of(0, "layer", ["anode effect"]), HOUR_US // hourly)

    def slots(self, times_us: Ints) -> Ints:
        """Return the slots of all series, each at its time, for each of the two kinds of slots."""
        series = np.arange(len(times_us))
        return np.stack([layer.slots(series, times_us) for layer in (self._sensors, self._anodes)])

    def among(self, group: Group, series: int, first: Ints, until: Ints) -> Iterator[Fault]:
        """Yield the faults of a series of a group in the slots from `first` to before `until`, of both kinds."""
        for layer, kinds, low, high in zip(
            (self._sensors, self._anodes), self._kinds(group), first.tolist(), until.tolist(), strict=True
        ):
            slots = np.arange(low, high)
            yield from layer.among(group, kinds, np.full(len(slots), series), slots)

    def at(self, group: Group, series: int, time_us: int) -> Iterator[Fault]:
        """Yield the faults of a series of a group that last at a time, the end of each included."""
        for layer, kinds in zip((self._sensors, self._anodes), self._kinds(group), strict=True):
            yield from layer.between(group, kinds, np.array([series]), time_us - 1, time_us)

    def befall(self, group: Group, position: Ints, index: Ints, times_us: Ints, values: Floats) -> Floats:
        """Return what a group's series measure as anode effects leave it.

        Args:
            group: The group.
            position: For each measurement its series, as a place in the group.
            index: Its number since 1970.
            times_us: Event times.
            values: Canonical values.
        """
        if group.signal not in _OF_CELLS or not self._rates.anode_effects or not len(times_us):
            return values
        cells = self._cells[group.series]
        place = {cell: one for one, cell in enumerate(cells.tolist()) if cell >= 0}
        before = anode.HOT_US if group.signal is bath_temperature else 0
        kinds: list[tuple[Kind, float]] = [("anode_effect", self._rates.anode_effects)]
        begin, end = int(times_us.min()), int(times_us.max())
        rows_of = None
        for fault in self._anodes.between(group, kinds, np.array(list(place), np.int64), begin - before, end):
            rows_of = rows_of or _Rows(position, len(group.series))
            rows = rows_of.of(place[fault.series], times_us, fault.begin_us, fault.end_us + before)
            if group.signal is cell_voltage:
                noise = normal(self._keys[fault.series : fault.series + 1], index[rows])
                values[rows] = anode.volts(fault, times_us[rows], values[rows], noise)
            elif group.signal is alumina_feed:
                values[rows] = anode.kilograms(fault, times_us[rows], values[rows])
            else:
                values[rows] += anode.degrees(fault, times_us[rows])
        return values

    def disturb(
        self,
        group: Group,
        position: Ints,
        index: Ints,
        times_us: Ints,
        values: Floats,
        undisturbed: Callable[[Ints, Ints], Floats],
    ) -> Floats:
        """Return the values of a group's measurements as faults of sensors leave them.

        Args:
            group: The group.
            position: For each measurement its series, as a place in the group.
            index: Its number since 1970.
            times_us: Event times.
            values: Canonical values, or codes of states.
            undisturbed: Gives the values of other measurements, by position and index.
        """
        kinds = self._kinds(group)[0]
        if not kinds or not len(times_us):
            return values
        begin, end = int(times_us.min()), int(times_us.max())
        found = list(self._sensors.between(group, kinds, group.series, begin, end))
        if not found:
            return values
        series = np.array([fault.series for fault in found])
        places = np.searchsorted(group.series, series)
        begins = np.array([fault.begin_us for fault in found])
        before = undisturbed(places, -((self._phase_us[series] - begins) // group.every_us) - 1)
        rows_of = _Rows(position, len(group.series))
        for fault, place, last in zip(found, places.tolist(), before.tolist(), strict=True):
            rows = rows_of.of(place, times_us, fault.begin_us, fault.end_us)
            noise = normal(self._keys[fault.series : fault.series + 1], index[rows])
            values[rows] = sensors.shaped(fault, group.metric, times_us[rows], values[rows], last, noise)
        return values

    def _kinds(self, group: Group) -> tuple[list[tuple[Kind, float]], list[tuple[Kind, float]]]:
        """Return what can befall the sensors of a group, and its cells, and how often an hour."""
        rates = self._rates
        cells: list[tuple[Kind, float]] = []
        if group.signal is cell_voltage and rates.anode_effects:
            cells.append(("anode_effect", rates.anode_effects))
        if group.every_us > _EVERY_MAX_US:
            return [], cells
        failing: list[tuple[Kind, float]] = [("stuck", rates.stuck)]
        if group.metric["states"] is None:
            failing += [("drift", rates.drifts), ("spike", rates.spikes)]
        return [(kind, rate) for kind, rate in failing if rate], cells

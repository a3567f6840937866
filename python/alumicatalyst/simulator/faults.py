"""What goes wrong in the plant itself: anode effects, stuck and drifting sensors, spikes.

Time is cut into slots, each series' own. Whether a slot holds a fault, which, when and how strong is a function of the
seed, the series and the slot, so a fault is the same however time is advanced and wherever a simulation begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from alumicatalyst.simulator.noise import normal, uniform
from alumicatalyst.simulator.plan import FAULT_SLOT_US, FAULTS_PER_HOUR_MAX, MINUTE_US, SECOND_US, ProcessFaults
from alumicatalyst.simulator.signals import cell_voltage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from alumicatalyst.simulator.plant import Group

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

Kind = Literal["anode_effect", "stuck", "drift", "spike"]
# Metrics that are measured less often than this have no faults: one would hardly be seen.
_EVERY_MAX_US = 2 * MINUTE_US
_DRAWS = 8
# A drifting sensor still follows a little of what it measures.
_DRIFT_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one series.

    Attributes:
        kind: Which.
        series: Index of the series in the fleet.
        slot: The slot of the series that holds it.
        begin_us: The first instant at which values are touched.
        end_us: The first instant at which they are not any more.
        draws: Numbers in [0, 1) that decide its shape.
    """

    kind: Kind
    series: int
    slot: int
    begin_us: int
    end_us: int
    draws: tuple[float, ...]


class Faults:
    """The faults of all series of a fleet.

    Args:
        rates: How often each kind happens.
        keys: One key per series.
        phase_us: When in its interval each series is measured.
    """

    def __init__(self, rates: ProcessFaults, keys: NDArray[np.uint64], phase_us: Ints) -> None:
        self._rates = rates
        self._keys = keys
        self._phase_us = phase_us
        self._offsets = (keys % np.uint64(FAULT_SLOT_US)).astype(np.int64)

    def slot(self, series: Ints, times_us: Ints) -> Ints:
        """Return the slots of series at some times."""
        return np.asarray((times_us + self._offsets[series]) // FAULT_SLOT_US)

    def among(self, group: Group, series: Ints, slots: Ints) -> Iterator[Fault]:
        """Yield the faults that some slots hold; series and slots belong together and all are of one group."""
        kinds = self._kinds(group)
        if not kinds or not len(series):
            return
        pairs = np.unique(np.stack([series, slots]), axis=1)
        draws = np.stack([uniform(self._keys[pairs[0]], pairs[1] * _DRAWS + number) for number in range(_DRAWS)])
        shares = np.cumsum([rate / FAULTS_PER_HOUR_MAX for _, rate in kinds])
        chosen = np.searchsorted(shares, draws[0], side="right")
        for pair in np.flatnonzero(chosen < len(kinds)).tolist():
            kind = kinds[int(chosen[pair])][0]
            one, slot = int(pairs[0, pair]), int(pairs[1, pair])
            shape = tuple(draws[1:, pair].tolist())
            length = _length_us(kind, group, shape)
            begin = slot * FAULT_SLOT_US - int(self._offsets[one]) + int(shape[0] * (FAULT_SLOT_US - length))
            yield Fault(kind, one, slot, begin, begin + length, shape)

    def disturb(
        self,
        group: Group,
        series: Ints,
        index: Ints,
        times_us: Ints,
        values: Floats,
        undisturbed: Callable[[Fault, int], float],
    ) -> Floats:
        """Return the values of a group's measurements as the faults leave them.

        Args:
            group: The group.
            series: The series of each measurement.
            index: Its number since 1970.
            times_us: Event times.
            values: Canonical values, or codes of states.
            undisturbed: Gives the value of a fault's series at another index.
        """
        out = values
        for fault in self.among(group, series, self.slot(series, times_us)):
            rows = np.flatnonzero((series == fault.series) & (times_us >= fault.begin_us) & (times_us < fault.end_us))
            if not len(rows):
                continue
            if out is values:
                out = values.astype(np.float64)
            last = -((int(self._phase_us[fault.series]) - fault.begin_us) // group.every_us) - 1
            noise = normal(self._keys[fault.series : fault.series + 1], index[rows])
            out[rows] = _shaped(fault, group.metric, times_us[rows], out[rows], undisturbed(fault, last), noise)
        return out

    def _kinds(self, group: Group) -> list[tuple[Kind, float]]:
        """Return what can befall the series of a group, and how often an hour."""
        rates = self._rates
        if group.every_us > _EVERY_MAX_US:
            return []
        kinds: list[tuple[Kind, float]] = [("stuck", rates.stuck)]
        if group.metric["states"] is None:
            kinds += [("drift", rates.drifts), ("spike", rates.spikes)]
        if group.signal is cell_voltage:
            kinds.append(("anode_effect", rates.anode_effects))
        return [(kind, rate) for kind, rate in kinds if rate]


def _between(draw: float, low: float, high: float) -> float:
    return low + draw * (high - low)


def _anode_effect_s(shape: tuple[float, ...]) -> tuple[float, float, float]:
    """Return how long the voltage rises, how long it stays above 8 V, and how long it takes to fall back."""
    return _between(shape[1], 150, 300), _between(shape[2], 70, 175), _between(shape[3], 5, 15)


def _creep_us(shape: tuple[float, ...]) -> int:
    return int(_between(shape[1], 4, 8) * MINUTE_US)


def _length_us(kind: Kind, group: Group, shape: tuple[float, ...]) -> int:
    match kind:
        case "anode_effect":
            return int(sum(_anode_effect_s(shape)) * SECOND_US)
        case "stuck":
            return int(_between(shape[1], 4, 10) * MINUTE_US)
        case "drift":
            # Past the limit for longer than its alarm waits.
            longest = max((alarm["on_us"] for alarm in group.metric["alarms"]), default=0)
            return _creep_us(shape) + min(3 * longest // 2 + 10 * group.every_us + MINUTE_US, 11 * MINUTE_US)
        case "spike":
            return (2 + int(shape[1] * 7)) * group.every_us


def _shaped(
    fault: Fault, metric: Mapping[str, Any], times_us: Ints, values: Floats, before: float, noise: Floats
) -> Floats:
    """Return a series' values during a fault; `before` is its value at the last measurement before it."""
    shape = fault.draws
    elapsed_s = (times_us - fault.begin_us) / SECOND_US
    match fault.kind:
        case "anode_effect":
            return _anode_effect(shape, elapsed_s, values, noise)
        case "stuck":
            ends = _noticed_ends(metric)
            half = int(shape[2] * 2 * len(ends))
            return np.full(len(values), ends[half] if half < len(ends) else before)
        case "drift":
            share = _DRIFT_SHARE * np.minimum(1.0, elapsed_s * SECOND_US / _creep_us(shape))
            return values + share * (_drift_target(metric, before, shape[3]) - values)
        case "spike":
            low, high = metric["range"] or (0.0, 100.0)
            toward = np.where(high - values > values - low, 1.0, -1.0)
            return values + toward * (high - low) * (_between(shape[2], 0.2, 0.45) + 0.01 * noise)


def _anode_effect(shape: tuple[float, ...], elapsed_s: Floats, values: Floats, noise: Floats) -> Floats:
    """The bath runs out of alumina: the voltage rises faster and faster, gas covers the anodes, the cell is quenched.

    A rise of constant pace would become normal to a detector that adapts; that the pace grows is what it notices.
    """
    rise_s, high_s, fall_s = _anode_effect_s(shape)
    rise = _between(shape[4], 0.8, 1.5) * np.exp(np.minimum(0.0, elapsed_s - rise_s) / _between(shape[5], 20, 30))
    level = _between(shape[6], 12.0, 36.0) * (1.0 + 0.03 * noise)
    fallen = np.clip((elapsed_s - rise_s - high_s) / fall_s, 0.0, 1.0)
    return np.where(elapsed_s < rise_s, values + rise, level + fallen * (values - level))


def _noticed_ends(metric: Mapping[str, Any]) -> list[float]:
    """Return the ends of a metric's scale, or its states, that an alarm rule notices."""
    conditions = [alarm["condition"] for alarm in metric["alarms"]]
    if metric["states"] is not None:
        return sorted({float(one["code"]) for one in conditions if one["kind"] == "is"})
    if metric["range"] is None:
        return []
    ends = {"below": metric["range"][0], "above": metric["range"][1]}
    return sorted({float(ends[one["kind"]]) for one in conditions if one["kind"] in ends})


def _drift_target(metric: Mapping[str, Any], before: float, draw: float) -> float:
    """Return where a drift leads: past the nearest limit, or away by a part of the range where there is none."""
    limits = [
        (alarm["condition"]["limit"], alarm["deadband"], 1.0 if alarm["condition"]["kind"] == "above" else -1.0)
        for alarm in metric["alarms"]
        if alarm["condition"]["kind"] in {"above", "below"}
    ]
    if limits:
        limit, deadband, past = min(limits, key=lambda one: abs(one[0] - before))
        return float(limit + past * max(3 * deadband, 0.15 * abs(limit - before)))
    low, high = metric["range"] or (0.0, 100.0)
    away = _between(draw, 0.1, 0.2) * (high - low)
    return before + away if high - before > before - low else before - away

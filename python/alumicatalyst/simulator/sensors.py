"""What a failing sensor shows: a value that sticks, one that creeps away, a few that are far off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from alumicatalyst.simulator.plan import MINUTE_US, SECOND_US

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from alumicatalyst.simulator.faults import Fault, Kind
    from alumicatalyst.simulator.plant import Group

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

# A drifting sensor still follows a little of what it measures.
_DRIFT_SHARE = 0.95


def _between(draw: float, low: float, high: float) -> float:
    return low + draw * (high - low)


def _creep_us(shape: tuple[float, ...]) -> int:
    return int(_between(shape[1], 4, 8) * MINUTE_US)


def length_us(kind: Kind, group: Group, shape: tuple[float, ...]) -> int:
    """Return how long a fault takes."""
    match kind:
        case "stuck":
            return int(_between(shape[1], 4, 10) * MINUTE_US)
        case "drift":
            # Past the limit for longer than its alarm waits.
            longest = max((alarm["on_us"] for alarm in group.metric["alarms"]), default=0)
            return _creep_us(shape) + min(3 * longest // 2 + 10 * group.every_us + MINUTE_US, 11 * MINUTE_US)
        case _:
            return (2 + int(shape[1] * 7)) * group.every_us


def shaped(
    fault: Fault, metric: Mapping[str, Any], times_us: Ints, values: Floats, before: float, noise: Floats
) -> Floats:
    """Return a series' values while its sensor fails; `before` is its value at the last measurement before it."""
    shape = fault.draws
    elapsed_s = (times_us - fault.begin_us) / SECOND_US
    match fault.kind:
        case "stuck":
            ends = _noticed_ends(metric)
            half = int(shape[2] * 2 * len(ends))
            return np.full(len(values), ends[half] if half < len(ends) else before)
        case "drift":
            share = _DRIFT_SHARE * np.minimum(1.0, elapsed_s * SECOND_US / _creep_us(shape))
            return values + share * (_drift_target(metric, before, shape[3]) - values)
        case _:
            low, high = metric["range"] or (0.0, 100.0)
            toward = np.where(high - values > values - low, 1.0, -1.0)
            return values + toward * (high - low) * (_between(shape[2], 0.2, 0.45) + 0.01 * noise)


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

"""A machine that the simulator does not know: quantities by kind, which follow its status where it has one."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from alumicatalyst.simulator.ambient import day_curve
from alumicatalyst.simulator.plan import MINUTE_US, SECOND_US
from alumicatalyst.simulator.points import HOUR_US

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alumicatalyst.simulator.points import Cycle, Floats, Points, Signal

_STEP_US = 10 * SECOND_US
# Words that names of states are known by; every other state is one in which the machine works.
_FAULTY: Final = frozenset({"fault", "faulty", "error", "alarm", "failed", "failure", "trip", "tripped", "emergency"})
_IDLE: Final = frozenset(
    {"off", "idle", "stopped", "stop", "standby", "down", "waiting", "paused", "ready", "closed", "maintenance"}
)
# Kinds of quantities: a word of the name, or else the unit, decides.
_WORDS: Final = {
    "temp": "temperature",
    "humid": "humidity",
    "press": "pressure",
    "vibr": "vibration",
    "accel": "vibration",
    "power": "power",
    "load": "power",
    "current": "current",
    "amps": "current",
    "flow": "flow",
    "speed": "speed",
    "rpm": "speed",
    "level": "level",
    "fill": "level",
}
_UNITS: Final = {
    "temperature": {"°c", "°f", "k", "degc", "degf"},
    "pressure": {"bar", "mbar", "pa", "hpa", "kpa", "mpa", "psi"},
    "vibration": {"mm/s", "g", "m/s2", "m/s²"},
    "power": {"w", "kw", "mw", "kva"},
    "current": {"a", "ma", "ka"},
    "flow": {"l/min", "l/s", "l/h", "m3/h", "m³/h", "kg/h", "kg/s", "t/h"},
    "speed": {"rpm", "1/min", "m/min", "m/s", "mm/min"},
}
# What follows the machine's work: its share of the range at rest and at work, how far load moves it, and noise.
_AT_WORK: Final = {
    "pressure": (0.12, 0.55, 0.05, 0.006),
    "vibration": (0.02, 0.25, 0.04, 0.020),
    "power": (0.04, 0.60, 0.10, 0.012),
    "current": (0.03, 0.55, 0.10, 0.010),
    "flow": (0.01, 0.60, 0.06, 0.010),
    "speed": (0.00, 0.65, 0.02, 0.003),
}
_WARMING_S = 600.0


def kind_of(metric: Mapping[str, Any]) -> str:
    """Return what kind of quantity a metric is; "other" where neither its name nor its unit tells."""
    name = str(metric["name"]).lower()
    for word, kind in _WORDS.items():
        if word in name:
            return kind
    unit = str(metric["unit"] or "").lower().replace(" ", "")
    return next((kind for kind, units in _UNITS.items() if unit in units), "other")


def _codes(states: Mapping[str, int], *, idle: bool) -> list[int]:
    """Return the codes of the states in which a machine rests, or works; none of a fault."""
    parts = {code: set(re.split(r"[^a-z]+", name.lower())) for name, code in states.items()}
    return sorted(code for code, words in parts.items() if not words & _FAULTY and bool(words & _IDLE) == idle)


def rests(states: Mapping[str, int]) -> bool:
    """Say whether a machine with these states is at rest now and then, and at work else."""
    return bool(_codes(states, idle=True) and _codes(states, idle=False))


def _band(metric: Mapping[str, Any]) -> tuple[float, float]:
    """Return the range of a metric as far as no alarm is raised in it."""
    low, high = metric["range"] or (0.0, 100.0)
    limits: dict[str, list[float]] = {"below": [low], "above": [high]}
    for alarm in metric["alarms"]:
        if alarm["condition"]["kind"] in limits:
            limits[alarm["condition"]["kind"]].append(float(alarm["condition"]["limit"]))
    inner = max(limits["below"]), min(limits["above"])
    return inner if inner[0] < inner[1] else (low, high)


def _within(metric: Mapping[str, Any], share: Floats) -> Floats:
    low, high = _band(metric)
    return np.asarray(low + (high - low) * np.clip(share, 0.0, 1.0))


def _duty(points: Points) -> tuple[Cycle, Floats]:
    """Return a machine's cycle of rest and work, and the seconds of rest that it begins with."""
    cycle = points.cycle(1, 100 * MINUTE_US, 0.4)
    return cycle, cycle.draw(1, 300.0, 1_200.0)


def _load(points: Points) -> Floats:
    """Return how hard a machine works, in [-1, 1]."""
    return 0.7 * points.wander(2, 20 * MINUTE_US) + 0.3 * points.wander(3, MINUTE_US)


def status(points: Points) -> Floats:
    """Return the codes of a machine at rest and at work; several for either hold for some minutes each."""
    states = points.metric["states"]
    idle, work = _codes(states, idle=True), _codes(states, idle=False)
    # Both in turn, whatever their number: a level chooses among them.
    level = (points.steps(4, 10 * MINUTE_US) + 1.0) / 2.0

    def among(codes: list[int]) -> Floats:
        table = np.array(codes, dtype=np.float64)
        return np.asarray(table[np.minimum((level * len(table)).astype(np.int64), len(table) - 1)])

    if not (idle and work):
        return among(idle or work or sorted(states.values()))
    cycle, rest_s = _duty(points)
    return np.where(cycle.since_s < rest_s, among(idle), among(work))


def _heat(points: Points) -> Floats:
    """Return how warm a machine is, from 0 to 1: it cools while it rests, and warms up at work."""
    cycle, rest_s = _duty(points)
    cooling = 1.0 + np.minimum(cycle.since_s, rest_s) * (1.0 / _WARMING_S)
    heat = 1.0 / (cooling * cooling)
    warming = 1.0 + np.maximum(0.0, cycle.since_s - rest_s) * (1.0 / _WARMING_S)
    return 1.0 - (1.0 - heat) / (warming * warming * warming)


@lru_cache(maxsize=64)
def signal_of(kind: str, *, resting: bool) -> Signal:
    """Return the signal of a kind of quantity, for a machine that rests now and then or for one that always works."""
    if kind == "level":
        return _level
    if kind == "temperature":
        return _warm if resting else _tempered
    if kind not in _AT_WORK:
        return any_value
    rest, work, swing, rough = _AT_WORK[kind]

    def curve(points: Points) -> tuple[Floats]:
        share = points.constant(5, 0.9, 1.1) * (work + swing * _load(points))
        if resting:
            cycle, rest_s = _duty(points)
            share = np.where(cycle.since_s < rest_s, rest, share)
        return (share,)

    def at_work(points: Points) -> Floats:
        (share,) = points.between(_STEP_US, curve)
        # A machine at rest hardly shakes.
        share *= 1.0 + (rough / work) * points.noise()
        return _within(points.metric, share)

    return at_work


def _warm(points: Points) -> Floats:
    """A part of a machine that is warmed by its work."""
    (share,) = points.between(
        _STEP_US,
        lambda grid: (0.2 + 0.4 * _heat(grid) + 0.05 * grid.wander(2, 20 * MINUTE_US) + 0.02 * day_curve(grid),),
    )
    return _within(points.metric, share + 0.002 * points.noise())


def _tempered(points: Points) -> Floats:
    """Something that is kept at its temperature."""
    (share,) = points.between(
        _STEP_US,
        lambda grid: (grid.constant(5, 0.42, 0.58) + 0.04 * grid.wander(2, 20 * MINUTE_US) + 0.03 * day_curve(grid),),
    )
    return _within(points.metric, share + 0.002 * points.noise())


def _level(points: Points) -> Floats:
    """A vessel that is drawn down for hours and filled up within one of them."""
    filled = points.cycle(6, 5 * HOUR_US, 0.3).part
    share = 0.3 + 0.5 * np.minimum(filled * (1.0 / 0.15), (1.0 - filled) * (1.0 / 0.85))
    return _within(points.metric, share + 0.002 * points.noise())


def any_value(points: Points) -> Floats:
    """A quantity of which nothing is known: around the middle of its range, drawn back to it, with a daily swing."""
    (share,) = points.between(
        _STEP_US,
        lambda grid: (
            0.5
            + 0.09 * grid.wander(16, 12 * MINUTE_US)
            + 0.04 * grid.wander(17, MINUTE_US)
            + 0.03 * grid.wander(18, 3 * HOUR_US)
            + 0.03 * day_curve(grid),
        ),
    )
    return _within(points.metric, share + 0.008 * points.noise())

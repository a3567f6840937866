"""A direct extrusion press: billet after billet with a dead cycle between them, die changes and breaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from alumicatalyst.simulator.plan import SECOND_US
from alumicatalyst.simulator.points import HOUR_US

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alumicatalyst.simulator.points import Cycle, Floats, Points

_DEAD_CYCLE_S = 17.0
_BREAK_US, _BREAKS_EVERY_US = 1_500 * SECOND_US, 8 * HOUR_US
# How far a billet is pressed, and the share of the pressure at which it breaks through; friction falls with its length.
_PRESSED = (0.0, 0.015, 0.035, 0.09, 0.3, 0.97, 1.0)
_PRESSURE = (0.05, 0.7, 1.0, 0.92, 0.85, 0.70, 0.68)
_HEATED, _PROFILE_C = (0.0, 0.1, 1.0, 1.15), (508.0, 512.0, 536.0, 509.0)


@dataclass(frozen=True, slots=True)
class _Work:
    """What a press is doing.

    Attributes:
        order: The order that it works on, as it was when the billet's turn began.
        billet: The billet's cycle.
        pressed: How far the billet is pressed; beyond 1 the press is between two billets.
        runs: Not while the die is changed, nor in breaks, for which a billet is finished first.
    """

    order: Cycle
    billet: Cycle
    pressed: Floats
    runs: NDArray[np.bool_]


def _work(points: Points) -> _Work:
    billet = points.cycle(3, 115 * SECOND_US, 0.2)
    begun_us = points.times_us - np.rint(billet.since_s * SECOND_US).astype(np.int64)
    order = points.at(points.row, begun_us).cycle(1, 4 * HOUR_US, 0.35)
    apart = (points.constant(2, 0.0, 1.0) * _BREAKS_EVERY_US).astype(np.int64)
    working = (begun_us + apart) % _BREAKS_EVERY_US >= _BREAK_US
    runs = (order.since_s >= order.draw(1, 480.0, 1_080.0)) & working
    return _Work(order, billet, billet.since_s / (billet.length_s - _DEAD_CYCLE_S), runs)


def press_pressure(points: Points) -> Floats:
    """Return the main cylinder's pressure in bar: breakthrough, then falling as the billet gets shorter."""
    work = _work(points)
    peak = work.order.draw(2, 200.0, 232.0) * work.billet.draw(1, 0.98, 1.02)
    curve = np.where(work.pressed < 1.0, peak * np.interp(work.pressed, _PRESSED, _PRESSURE), 12.0)
    noise = points.noise()
    return np.where(work.runs, curve + 1.2 * noise, 4.0 + 0.2 * noise)


def press_temperature(points: Points) -> Floats:
    """Return the profile's temperature in degrees Celsius: rising with each billet, and over the first of an order."""
    work = _work(points)
    hot = np.interp(work.pressed, _HEATED, _PROFILE_C) + work.order.draw(3, -8.0, 8.0)
    warming = work.order.since_s * (1.0 / 1_500.0)
    hot -= 34.0 / (1.0 + warming * warming * warming)
    return np.where(work.runs, hot, 466.0) + 3.0 * points.wander(4, HOUR_US // 2) + 0.8 * points.noise()


def press_vibration(points: Points) -> Floats:
    """Return the pump's vibration velocity in mm/s: it grows with the load."""
    work = _work(points)
    load = np.where(work.pressed < 1.0, np.interp(work.pressed, _PRESSED, _PRESSURE), 0.2)
    level = np.where(work.runs, 0.5 + points.constant(5, 2.0, 3.0) * load, 0.3)
    return np.abs(level * (1.0 + 0.13 * points.noise()))


def press_status(points: Points) -> Floats:
    """Return the code of `running` or `stopped`."""
    states = points.metric["states"]
    return np.where(_work(points).runs, float(states["running"]), float(states["stopped"]))

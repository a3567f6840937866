"""A direct extrusion press: billet after billet with a dead cycle between them, die changes and breaks."""

from __future__ import annotations

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


def _order(points: Points) -> tuple[Cycle, NDArray[np.bool_]]:
    """Return the order that a press works on, and whether it runs: not while the die is changed, nor in breaks."""
    order = points.cycle(1, 4 * HOUR_US, 0.35)
    change_s = order.draw(1, 480.0, 1_080.0)
    apart = (points.constant(2, 0.0, 1.0) * _BREAKS_EVERY_US).astype(np.int64)
    working = (points.times_us + apart) % _BREAKS_EVERY_US >= _BREAK_US
    return order, (order.since_s >= change_s) & working


def _billet(points: Points) -> tuple[Cycle, Floats]:
    """Return a billet's cycle and how far it is pressed; beyond 1 the press is between two billets."""
    billet = points.cycle(3, 115 * SECOND_US, 0.2)
    return billet, billet.since_s / (billet.length_s - _DEAD_CYCLE_S)


def press_pressure(points: Points) -> Floats:
    """Return the main cylinder's pressure in bar: breakthrough, then falling as the billet gets shorter."""
    order, runs = _order(points)
    billet, pressed = _billet(points)
    peak = order.draw(2, 200.0, 232.0) * billet.draw(1, 0.98, 1.02)
    curve = np.where(pressed < 1.0, peak * np.interp(pressed, _PRESSED, _PRESSURE), 12.0)
    noise = points.noise()
    return np.where(runs, curve + 1.2 * noise, 4.0 + 0.2 * noise)


def press_temperature(points: Points) -> Floats:
    """Return the profile's temperature in degrees Celsius: rising with each billet, and over the first of an order."""
    order, runs = _order(points)
    _, pressed = _billet(points)
    hot = np.interp(pressed, (0.0, 0.1, 1.0, 1.15), (508.0, 512.0, 536.0, 509.0)) + order.draw(3, -8.0, 8.0)
    warming = order.since_s * (1.0 / 1_500.0)
    hot -= 34.0 / (1.0 + warming * warming * warming)
    return np.where(runs, hot, 466.0) + 3.0 * points.wander(4, HOUR_US // 2) + 0.8 * points.noise()


def press_vibration(points: Points) -> Floats:
    """Return the pump's vibration velocity in mm/s: it grows with the load."""
    _, runs = _order(points)
    _, pressed = _billet(points)
    load = np.where(pressed < 1.0, np.interp(pressed, _PRESSED, _PRESSURE), 0.2)
    level = np.where(runs, 0.5 + points.constant(5, 2.0, 3.0) * load, 0.3)
    return np.abs(level * (1.0 + 0.13 * points.noise()))


def press_status(points: Points) -> Floats:
    """Return the code of `running` or `stopped`."""
    states = points.metric["states"]
    _, runs = _order(points)
    return np.where(runs, float(states["running"]), float(states["stopped"]))

"""Anode effects: when one begins to build up, when it breaks out, and what it does to all that its cell measures.

A feeder gives too little, so alumina runs out: the voltage rises faster and faster for 20 to 40 minutes, hardly at
first. Then gas covers the anodes and the voltage jumps, until the cell is quenched; it is hot and unruly for a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alumicatalyst.simulator.plan import MINUTE_US, SECOND_US
from alumicatalyst.simulator.points import HOUR_US

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alumicatalyst.simulator.faults import Fault

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

# The longest that one takes, and the part of it that is never cut short.
_WHOLE_MIN = 54.0
_HIGH_MAX_MIN = 4.0
# A cell that had one is hotter for so long.
HOT_US = 10 * HOUR_US
_QUENCH_US = 5 * MINUTE_US


def _between(draw: float, low: float, high: float) -> float:
    return low + draw * (high - low)


def spans_us(draws: tuple[float, ...], slot_us: int) -> tuple[int, int]:
    """Return how long one builds up and how long it takes in all; less than usual where it has to fit into a slot."""
    room = min(1.0, (slot_us / MINUTE_US - _HIGH_MAX_MIN) / (_WHOLE_MIN - _HIGH_MAX_MIN))
    rise = _between(draws[1], 20.0, 40.0) * room
    recovery = _between(draws[4], 5.0, 9.0) * room
    high_s, fall_s = _high_s(draws)
    return int(rise * MINUTE_US), int((rise + recovery) * MINUTE_US + (high_s + fall_s) * SECOND_US)


def _high_s(draws: tuple[float, ...]) -> tuple[float, float]:
    """Return how long the voltage stays above 8 V, and how long it takes to fall."""
    return _between(draws[2], 65.0, 200.0), _between(draws[3], 5.0, 15.0)


def volts(fault: Fault, times_us: Ints, usual: Floats, noise: Floats) -> Floats:
    """Return a cell's voltages during an anode effect."""
    draws = fault.draws
    high_s, fall_s = _high_s(draws)
    since_s = (times_us - fault.onset_us) / SECOND_US
    # The rise heads for a pole that it does not reach. The nearer it comes, the more sudden it is.
    short = 0.004 + 0.056 * draws[7] * (0.5 + 0.5 * draws[7])
    part = (1.0 - short) * np.clip((times_us - fault.begin_us) / (fault.onset_us - fault.begin_us), 0.0, 1.0)
    rise = _between(draws[5], 0.8, 1.4) * (part / (1.0 - part)) * (short / (1.0 - short))
    # Gas comes and goes under the anodes, so now and then the voltage shoots up.
    high = _between(draws[6], 14.0, 38.0) * (1.0 + 0.08 * noise + 0.30 * np.maximum(0.0, noise - 1.2))
    fallen = np.clip((since_s - high_s) / fall_s, 0.0, 1.0)
    end_s = (fault.end_us - fault.onset_us) / SECOND_US
    left = np.clip((end_s - since_s) / (end_s - high_s), 0.0, 1.0)
    after = usual + 0.22 * left * left + 0.02 * left * noise
    return np.where(since_s < 0.0, usual + rise, high + fallen * (after - high))


def kilograms(fault: Fault, times_us: Ints, usual: Floats) -> Floats:
    """Return a feeder's shots: light ones while the effect builds up, then as much as it can give to quench it."""
    light = usual * _between(fault.draws[0], 0.25, 0.6)
    quench = np.minimum(1.6 * usual + 0.8, 4.5)
    # The shots of a while are weighed together, and count from the first measurement after the outbreak.
    return np.where(times_us < fault.onset_us, light, np.where(times_us < fault.onset_us + _QUENCH_US, quench, usual))


def degrees(fault: Fault, times_us: Ints) -> Floats:
    """Return what an anode effect adds to the bath's temperature: at once, and less with every hour."""
    high_s, _ = _high_s(fault.draws)
    left = np.clip(1.0 - (times_us - fault.onset_us) / HOT_US, 0.0, 1.0)
    added = (5.0 + high_s / 15.0) * left * left
    return np.where(times_us < fault.onset_us, 0.0, added)

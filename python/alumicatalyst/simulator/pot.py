"""A potline: the current that all its cells share, and what a prebake cell with point feeders measures.

A cell's voltage is Vext + R x I. R follows the alumina in the bath, which the controller keeps swinging by feeding less
and then more than is used up; the anodes' distance, which it corrects in small steps; the waves of the metal pad; and
is done to the cell: metal is tapped once a day, anodes are changed in pairs, their beam is raised once in two weeks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alumicatalyst.simulator.noise import wave
from alumicatalyst.simulator.plan import MINUTE_US, SECOND_US
from alumicatalyst.simulator.points import DAY_US, HOUR_US, second

if TYPE_CHECKING:
    from alumicatalyst.simulator.points import Floats, Points

LINE_CURRENT_KA = 300.0
# The part of a cell's voltage that does not follow the current (reversible and anodic overvoltage).
EXTRAPOLATED_V = 1.65
# Faraday's law gives 8.0534 kg of metal for each kA and day; 94 % of it comes out; a kilogram takes 1.93 of alumina.
METAL_KG_PER_DAY = 8.0534 * LINE_CURRENT_KA * 0.94
ALUMINA_KG_PER_S = 1.93 * METAL_KG_PER_DAY / 86_400
# A cell has so many point feeders; the one whose shots are weighed speaks for all.
FEEDERS = 3
_BATH_KG = 6_500.0
# Voltage follows alumina c as _LEAN_V / (c - _LEAN_END), with c in percent by weight.
_LEAN_V, _LEAN_END = 0.12, 1.6
# Underfed, a cell gets this share of what it uses up; overfeeding makes up for it.
_UNDERFED = 0.7
# What changes over minutes is evaluated so often.
_STEP_US = 10 * SECOND_US
# Of 24 anodes that last 28 days each, two are changed at a time.
_ANODES_EVERY_US = 56 * HOUR_US

# Seconds since metal is drawn off, and what that adds: the pad sinks, then the beam follows step by step.
_TAPPING_S = (0.0, 240.0, 360.0, 480.0, 600.0, 720.0, 900.0, 1_200.0, 9_000.0)
_TAPPING_V = (0.0, 0.095, 0.090, 0.062, 0.050, 0.025, 0.012, -0.014, 0.0)
# Seconds since two anodes are pulled: the others carry their current, then the cold new ones take hours to carry it.
_CHANGE_S = (0.0, 120.0, 600.0, 900.0, 3_600.0, 7_200.0, 14_400.0, 21_600.0)
_CHANGE_V = (0.0, 0.035, 0.045, 0.085, 0.065, 0.040, 0.010, 0.0)
# Seconds since the anode beam, at its lowest, is raised: the anodes are gripped anew, one after the other.
_BEAM_EVERY_US = 14 * DAY_US
_BEAM_S = (0.0, 200.0, 1_000.0, 1_800.0)
_BEAM_V = (0.0, 0.030, 0.022, 0.0)


def _slow_current(points: Points) -> Floats:
    """Return how far the rectifier's set point is from nominal, as a share: it drifts, and is lowered for the grid."""
    dip = points.cycle(100, 5 * HOUR_US, 0.6, plant=True)
    depth = np.maximum(0.0, dip.draw(1, -0.003, 0.0065))
    held = np.minimum(dip.since_s, dip.draw(2, 900.0, 2_700.0) - dip.since_s)
    lowered = np.asarray(depth * np.clip(held * (1.0 / 60.0), 0.0, 1.0), dtype=np.float64)
    return 0.0025 * points.plant_wander(101, 20 * MINUTE_US) - lowered


def _with_ripple(points: Points, share: Floats) -> Floats:
    """Return the current as a share of nominal, with what the rectifier does not control away within seconds."""
    ripple = points.plant_wander(102, 7 * SECOND_US)
    ripple *= 0.0009
    ripple += share
    ripple += 1.0
    return ripple


def line_current(points: Points) -> Floats:
    """Return the current of the potline in kA: the same for all that hang on it."""
    (share,) = points.between(_STEP_US, lambda grid: (_slow_current(grid),))
    current = _with_ripple(points, share)
    current *= LINE_CURRENT_KA
    return current


def missing_alumina(points: Points) -> Floats:
    """Return how far a cell is fed behind what it used up, in seconds of use; nothing at a cycle's begin and end."""
    cycle = points.cycle(1, 72 * MINUTE_US, 0.3)
    under = cycle.draw(1, 0.5, 0.58)
    overfed = (1.0 - _UNDERFED * under) / (1.0 - under)
    return np.where(
        cycle.since_s < under * cycle.length_s,
        (1.0 - _UNDERFED) * cycle.since_s,
        (overfed - 1.0) * (cycle.length_s - cycle.since_s),
    )


def _alumina_v(points: Points) -> Floats:
    """Return what missing alumina adds to the voltage: the leaner the bath, the steeper."""
    rich = points.constant(2, 2.8, 3.1) - _LEAN_END
    lean = rich - missing_alumina(points) * (100.0 * ALUMINA_KG_PER_S / _BATH_KG)
    return _LEAN_V / lean - _LEAN_V / rich


def _changed(points: Points) -> Floats:
    """Return the seconds since two anodes were changed."""
    return points.cycle(4, _ANODES_EVERY_US, 0.07).since_s


def warmth(points: Points) -> Floats:
    """Return how far a cell is above its usual energy input, in [-1, 1]; the bath's temperature follows."""
    return points.wander(5, 14 * HOUR_US)


def _slowly(points: Points) -> tuple[Floats, ...]:
    """Return voltage over the resistance at nominal current, height and phase of the metal's waves, and the current."""
    changed = _changed(points)
    ohmic = points.constant(3, 4.20, 4.30) - EXTRAPOLATED_V
    ohmic += 0.012 * warmth(points)
    ohmic += 0.006 * points.steps(6, 6 * MINUTE_US)
    ohmic += _alumina_v(points)
    ohmic += np.interp(points.cycle(7, DAY_US, 0.08).since_s, _TAPPING_S, _TAPPING_V)
    ohmic += np.interp(changed, _CHANGE_S, _CHANGE_V)
    ohmic += np.interp(points.cycle(16, _BEAM_EVERY_US, 0.2).since_s, _BEAM_S, _BEAM_V)
    calm = points.constant(8, 0.06, 0.13)
    height = calm * calm * (1.2 + 0.6 * points.wander(9, DAY_US))
    height += 0.075 * np.maximum(0.0, points.wander(10, 5 * HOUR_US) - 0.55)
    height += np.maximum(0.0, 0.012 - changed * (0.012 / 14_400.0))
    # Waves of several lengths: their sum swells and fades.
    height *= 0.8 + 0.6 * points.wander(15, 80 * SECOND_US)
    phase = second(points.times_us) * points.constant(11, 0.026, 0.041) + 0.7 * points.wander(12, 150 * SECOND_US)
    return ohmic, height, phase, _slow_current(points)


def cell_voltage(points: Points) -> Floats:
    """Return the voltage of a cell in V."""
    volts, height, phase, share = points.between(_STEP_US, _slowly)
    height *= wave(phase)
    volts += height
    volts *= _with_ripple(points, share)
    volts += EXTRAPOLATED_V
    volts += 0.004 * points.noise()
    return volts


def _fed(points: Points) -> Floats:
    """Return how much a cell has been fed since 1970, in seconds of what it uses up."""
    return second(points.times_us) - missing_alumina(points)


def alumina_feed(points: Points) -> Floats:
    """Return what a point feeder gave since the measurement before, in kg: whole shots, 0 to 2 of them at a time."""
    shot_kg = points.constant(13, 1.42, 1.58)
    shots_per_s = ALUMINA_KG_PER_S / FEEDERS / shot_kg
    now = np.floor(_fed(points) * shots_per_s)
    before = np.floor(_fed(points.at(points.row, points.times_us - points.every_us)) * shots_per_s)
    return (now - before) * shot_kg * (1.0 + 0.02 * points.noise())


def bath_temperature(points: Points) -> Floats:
    """Return a bath temperature in degrees Celsius, as measured by hand; cold anodes cool the bath for a while."""
    cold = np.maximum(0.0, 1.0 - _changed(points) * (1.0 / 21_600.0))
    return points.constant(14, 956.0, 963.0) + 3.0 * warmth(points) - 5.0 * cold + 1.0 * points.noise()

"""A melting and holding furnace of a cast house: cold charges, the melt's plateau, heating, holding, tapping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alumicatalyst.simulator.plan import MINUTE_US
from alumicatalyst.simulator.points import HOUR_US

if TYPE_CHECKING:
    from alumicatalyst.simulator.points import Cycle, Floats, Points

# How far a furnace is through its campaign, and the melt's temperature. Solid and liquid share one temperature until
# all has melted; then it rises until the metal is ready.
_PART = (0.0, 0.10, 0.14, 0.30, 0.44, 0.48, 0.55, 0.92, 1.0)
_MELT_C = (734.0, 676.0, 661.0, 665.0, 753.0, 755.0, 746.0, 745.0, 734.0)
_MELTED = 0.48
_TAPPED = 0.92
# Three charges, and how far each one pulls the melt down.
_CHARGE_PART = (0.0, 0.008, 0.03, 0.038, 0.06, 0.068, 0.10)
_CHARGE_C = (0.0, -26.0, -6.0, -30.0, -8.0, -24.0, 0.0)


def _campaign(points: Points) -> Cycle:
    return points.cycle(1, 6 * HOUR_US, 0.15)


def furnace_temperature(points: Points) -> Floats:
    """Return a melt's temperature in degrees Celsius."""
    campaign = _campaign(points)
    part = campaign.part
    melt = np.interp(part, _PART, _MELT_C) + campaign.draw(1, 0.7, 1.1) * np.interp(part, _CHARGE_PART, _CHARGE_C)
    # While it holds, the burner goes on and off between two limits.
    burner = points.cycle(2, 9 * MINUTE_US, 0.2).part
    swing = np.minimum(burner * (1.0 / 0.35), (1.0 - burner) * (1.0 / 0.65)) - 0.5
    holds = np.clip(np.minimum(part - _MELTED, _TAPPED - part) * 25.0, 0.0, 1.0)
    return melt + holds * (7.0 * swing + campaign.draw(2, -2.0, 2.0)) + 0.4 * points.noise()


def furnace_status(points: Points) -> Floats:
    """Return the code of `melting` from the first charge until the metal is ready, else of `holding`."""
    states = points.metric["states"]
    return np.where(_campaign(points).part < _MELTED, float(states["melting"]), float(states["holding"]))

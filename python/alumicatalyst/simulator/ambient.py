"""The air: outdoors by season and time of day, in a pot room, and in any other room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alumicatalyst.simulator.noise import wave
from alumicatalyst.simulator.points import DAY_US, HOUR_US, second

if TYPE_CHECKING:
    from alumicatalyst.simulator.points import Floats, Points

_YEAR_US = 365.2425 * DAY_US
# Coldest in the middle of January, and before dawn; warmest in July, and at three in the afternoon (UTC).
_WARMEST_OF_YEAR = 0.54
_WARMEST_OF_DAY = 15.0 / 24.0


def day_curve(points: Points) -> Floats:
    """Return a daily swing from -1 to 1."""
    return wave(second(points.times_us) * (1e6 / DAY_US) + (0.25 - _WARMEST_OF_DAY))


def season(points: Points) -> Floats:
    """Return a yearly swing from -1 to 1."""
    return wave(second(points.times_us) * (1e6 / _YEAR_US) + (0.25 - _WARMEST_OF_YEAR))


def outdoors(points: Points) -> Floats:
    """Return the temperature of the air outdoors in degrees Celsius: the same for all of a plant."""
    summer = season(points)
    weather = 4.0 * points.plant_wander(110, 2 * DAY_US) + 0.6 * points.plant_wander(111, 2 * HOUR_US)
    return 7.0 + 10.0 * summer + (3.5 + 1.5 * summer) * day_curve(points) + weather


def _dew_point(points: Points) -> Floats:
    """Return the dew point of the air in degrees Celsius; it follows the season, hardly the time of day."""
    return 2.0 + 7.5 * season(points) + 3.0 * points.plant_wander(112, DAY_US)


def _humidity(points: Points, warm: Floats) -> Floats:
    """Return the relative humidity in percent of outdoor air that was warmed, so it falls as the temperature rises."""
    # Saturation pressure grows by a factor e in about 16 degrees; the power stands for the exponential function.
    dry = 1.0 - (warm - _dew_point(points)) * (1.0 / (8.0 * 16.0))
    dry *= dry
    dry *= dry
    return np.clip(100.0 * dry * dry + 0.3 * points.noise(), 3.0, 97.0)


def _hall(points: Points) -> Floats:
    return 20.0 + 0.8 * outdoors(points) + 0.5 * points.plant_wander(113, HOUR_US)


def hall_temperature(points: Points) -> Floats:
    """Return the air temperature of a pot room in degrees Celsius: outdoor air, warmed by the cells."""
    return _hall(points) + 0.1 * points.noise()


def hall_humidity(points: Points) -> Floats:
    """Return the relative humidity of a pot room in percent."""
    return _humidity(points, _hall(points))


def _room(points: Points) -> Floats:
    return 15.0 + 0.35 * outdoors(points) + points.constant(114, -1.5, 1.5) + 0.5 * points.wander(115, HOUR_US)


def room_temperature(points: Points) -> Floats:
    """Return the air temperature of a room in degrees Celsius."""
    return _room(points) + 0.05 * points.noise()


def room_humidity(points: Points) -> Floats:
    """Return the relative humidity of a room in percent."""
    return _humidity(points, _room(points))

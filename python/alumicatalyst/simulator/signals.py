"""What each machine measures: values in the canonical unit as functions of device, time and seed.

The figures are those of a prebake smelter with point feeders (cells of 4.2 to 4.5 V whose voltage rises as the alumina
in the bath runs down), of melting and holding furnaces, and of a direct extrusion press.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from alumicatalyst.simulator.noise import normal, smooth, uniform
from alumicatalyst.simulator.plan import MINUTE_US, SECOND_US

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

HOUR_US = 60 * MINUTE_US
_DAY_US = 24 * HOUR_US
_LINE_CURRENT_KA = 300.0
# The part of a cell's voltage that does not follow the current (reversible and anodic overvoltage).
_EXTRAPOLATED_V = 1.65


@dataclass(frozen=True, slots=True)
class Points:
    """The instants at which the series of one kind are to be evaluated.

    Attributes:
        device_keys: One key per series, the same for all metrics of a device.
        series_keys: One key per series.
        plant_keys: One key per series, the same for all devices of a plant.
        row: For each instant, the position of its series in these three.
        times_us: Event times.
        index: Number of the measurement since 1970, for noise that differs at each.
        metric: The compiled metric.
    """

    device_keys: NDArray[np.uint64]
    series_keys: NDArray[np.uint64]
    plant_keys: NDArray[np.uint64]
    row: NDArray[np.int64]
    times_us: NDArray[np.int64]
    index: NDArray[np.int64]
    metric: Mapping[str, Any]

    def constant(self, number: int, low: float, high: float) -> Floats:
        """Return a property of the device, such as its working point: always the same, between low and high."""
        levels = uniform(self.device_keys, np.array([number], dtype=np.int64))
        return np.asarray(low + (high - low) * levels)[self.row]

    def phase(self, number: int, shortest_us: int, longest_us: int) -> Floats:
        """Return how far the device is through a cycle of its own length, from 0 to 1."""
        one = np.array([number], dtype=np.int64)
        period = shortest_us + (uniform(self.device_keys, one) * (longest_us - shortest_us)).astype(np.int64)
        offset = (uniform(self.device_keys, -one) * period).astype(np.int64)
        lengths = period[self.row]
        return np.asarray(((self.times_us + offset[self.row]) % lengths) / lengths)

    def wander(self, number: int, period_us: int) -> Floats:
        """Return a slow curve of the device in [-1, 1]."""
        return smooth((self.device_keys + np.uint64(number))[self.row], self.times_us, period_us)

    def noise(self) -> Floats:
        """Return white noise of standard deviation 1."""
        return normal(self.series_keys[self.row], self.index)


Signal = Callable[[Points], "Floats"]


def line_current(points: Points) -> Floats:
    """Return the current of the potline in kA: the same for all that hang on it."""
    keys = points.plant_keys[points.row]
    return _LINE_CURRENT_KA * (
        1.0
        + 0.004 * smooth(keys, points.times_us, 20 * MINUTE_US)
        + 0.0015 * smooth(keys + np.uint64(1), points.times_us, 7 * SECOND_US)
    )


def _feeding(points: Points) -> tuple[Floats, NDArray[np.bool_]]:
    """Return how depleted the bath is (0 rich, 1 lean) and whether the cell is underfed."""
    phase = points.phase(1, 55 * MINUTE_US, 85 * MINUTE_US)
    under = phase < 0.62
    return np.where(under, phase / 0.62, (1.0 - phase) / 0.38), under


def cell_voltage(points: Points) -> Floats:
    """Return the voltage of a cell in V: working point, alumina, metal roll and noise, all times the line current."""
    lean, _ = _feeding(points)
    roll = np.sin((points.times_us / SECOND_US) * (2 * np.pi / 33.0) + points.constant(2, 0.0, 2 * np.pi))
    ohmic = points.constant(3, 4.20, 4.34) - _EXTRAPOLATED_V
    ohmic += 0.09 * lean * lean
    ohmic += 0.012 * (1.0 + points.wander(4, 15 * MINUTE_US)) * roll
    return _EXTRAPOLATED_V + ohmic * (line_current(points) / _LINE_CURRENT_KA) + 0.006 * points.noise()


def alumina_feed(points: Points) -> Floats:
    """Return the weight of a point feeder's shot in kg: fewer and lighter ones while the cell is underfed."""
    _, under = _feeding(points)
    return np.where(under, 1.3, 2.6) + 0.03 * points.noise()


def bath_temperature(points: Points) -> Floats:
    """Return a bath temperature in degrees Celsius, as measured by hand."""
    return points.constant(5, 956.0, 963.0) + 3.0 * points.wander(6, 16 * HOUR_US) + 1.0 * points.noise()


def _furnace_phase(points: Points) -> Floats:
    return points.phase(7, 5 * HOUR_US, 7 * HOUR_US)


def furnace_temperature(points: Points) -> Floats:
    """Return a melt temperature in degrees Celsius: cold charge, melting, holding with two-point control, tapping."""
    base = np.interp(
        _furnace_phase(points), [0.0, 0.08, 0.5, 0.55, 0.95, 1.0], [728.0, 672.0, 752.0, 745.0, 742.0, 728.0]
    )
    burner = np.abs(2.0 * points.phase(8, 8 * MINUTE_US, 12 * MINUTE_US) - 1.0) - 0.5
    return base + 4.0 * burner + 0.4 * points.noise()


def furnace_status(points: Points) -> Floats:
    """Return the code of `melting` for the first half of the cycle, else of `holding`."""
    states = points.metric["states"]
    return np.where(_furnace_phase(points) < 0.5, float(states["melting"]), float(states["holding"]))


def _press_stroke(points: Points) -> tuple[Floats, NDArray[np.bool_]]:
    """Return how far the press is through a billet, and whether it runs (it stands for die changes)."""
    return points.phase(9, 95 * SECOND_US, 140 * SECOND_US), points.phase(10, 3 * HOUR_US, 5 * HOUR_US) < 0.93


def press_pressure(points: Points) -> Floats:
    """Return the main cylinder's pressure in bar: breakthrough, falling as the billet gets shorter, dead cycle."""
    stroke, runs = _press_stroke(points)
    curve = np.interp(stroke, [0.0, 0.04, 0.1, 0.82, 0.84, 1.0], [12.0, 228.0, 212.0, 165.0, 14.0, 12.0])
    return np.where(runs, curve + 1.5 * points.noise(), 4.0 + 0.2 * points.noise())


def press_temperature(points: Points) -> Floats:
    """Return the profile's exit temperature in degrees Celsius."""
    stroke, runs = _press_stroke(points)
    hot = np.interp(stroke, [0.0, 0.1, 0.82, 1.0], [505.0, 512.0, 541.0, 505.0])
    return np.where(runs, hot, 470.0) + 4.0 * points.wander(11, 30 * MINUTE_US) + 0.8 * points.noise()


def press_vibration(points: Points) -> Floats:
    """Return the pump's vibration velocity in mm/s."""
    stroke, runs = _press_stroke(points)
    level = np.where(runs & (stroke < 0.83), points.constant(12, 2.0, 3.2), 0.6)
    return np.abs(level * (1.0 + 0.15 * points.noise()))


def press_status(points: Points) -> Floats:
    """Return the code of `running` or `stopped`."""
    states = points.metric["states"]
    _, runs = _press_stroke(points)
    return np.where(runs, float(states["running"]), float(states["stopped"]))


def _day(points: Points) -> Floats:
    """Return a daily swing from -1 to 1, highest at 15:00 UTC."""
    return np.asarray(np.cos((points.times_us % _DAY_US - 15 * HOUR_US) * (2 * np.pi / _DAY_US)))


def hall_temperature(points: Points) -> Floats:
    """Return the air temperature of a pot room in degrees Celsius."""
    return 27.0 + 5.0 * _day(points) + 1.5 * points.wander(13, 2 * HOUR_US) + 0.1 * points.noise()


def hall_humidity(points: Points) -> Floats:
    """Return the relative humidity of a pot room in percent."""
    return 45.0 - 10.0 * _day(points) + 5.0 * points.wander(14, 3 * HOUR_US) + 0.3 * points.noise()


def any_state(points: Points) -> Floats:
    """Return the codes of a status that the simulator does not know: each holds for some minutes."""
    codes = np.array(sorted(points.metric["states"].values()), dtype=np.float64)
    level = (points.wander(15, 10 * MINUTE_US) + 1.0) / 2.0
    return np.asarray(codes[np.minimum((level * len(codes)).astype(np.int64), len(codes) - 1)])


def any_value(points: Points) -> Floats:
    """Return a quantity that the simulator does not know: somewhere in the middle third of its range."""
    low, high = points.metric["range"] or (0.0, 100.0)
    middle, reach = (low + high) / 2.0, (high - low) / 6.0
    slow = 0.55 * points.wander(16, 12 * MINUTE_US) + 0.25 * points.wander(17, MINUTE_US)
    return np.asarray(middle + reach * (slow + 0.05 * points.noise()))


def signal_for(metric: Mapping[str, Any], metrics_of_device: frozenset[str]) -> Signal:
    """Choose the signal of a metric by its name and by what else the device measures."""
    name, states = str(metric["name"]), metric["states"]
    if states is not None:
        if {"melting", "holding"} <= set(states):
            return furnace_status
        return press_status if {"running", "stopped"} <= set(states) else any_state
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name == "temperature":
        if "pressure" in metrics_of_device:
            return press_temperature
        if "humidity" in metrics_of_device:
            return hall_temperature
        return furnace_temperature if "status" in metrics_of_device else any_value
    if name in _OF_A_PRESS and "status" in metrics_of_device:
        return _OF_A_PRESS[name]
    return hall_humidity if name == "humidity" else any_value


_BY_NAME: dict[str, Signal] = {
    "line_current": line_current,
    "cell_voltage": cell_voltage,
    "alumina_feed": alumina_feed,
    "bath_temperature": bath_temperature,
}
_OF_A_PRESS: dict[str, Signal] = {"pressure": press_pressure, "vibration": press_vibration}

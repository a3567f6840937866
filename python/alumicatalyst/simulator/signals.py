"""Which signal each metric of a device gets: by its name, unit and range, and by what else the device measures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alumicatalyst.simulator import ambient, furnace, machine, pot, press

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alumicatalyst.simulator.points import Signal


@dataclass(frozen=True, slots=True)
class _Known:
    """A signal with figures of its own, for metrics of its unit whose range has room for them."""

    signal: Signal
    unit: str
    low: float
    high: float

    def fits(self, metric: Mapping[str, Any]) -> bool:
        """Say whether a metric can have the signal's values."""
        low, high = metric["range"] or (self.low, self.high)
        return metric["states"] is None and metric["unit"] == self.unit and low <= self.low and high >= self.high


@dataclass(frozen=True, slots=True)
class _Machine:
    """A machine that the simulator knows: told by the states it has and by one quantity."""

    states: frozenset[str]
    status: Signal
    told_by: str
    known: Mapping[str, _Known]

    def is_one(self, of_device: Sequence[Mapping[str, Any]]) -> bool:
        """Say whether a device that measures all this is such a machine."""
        told = any(one["name"] == self.told_by and self.known[self.told_by].fits(one) for one in of_device)
        return told and any(self.states <= set(one["states"] or ()) for one in of_device)


_BY_NAME = {
    "line_current": _Known(pot.line_current, "kA", 290.0, 310.0),
    "cell_voltage": _Known(pot.cell_voltage, "V", 3.0, 60.0),
    "alumina_feed": _Known(pot.alumina_feed, "kg", 0.0, 4.0),
    "bath_temperature": _Known(pot.bath_temperature, "°C", 930.0, 1_000.0),
}
_MACHINES = (
    _Machine(
        frozenset({"melting", "holding"}),
        furnace.furnace_status,
        "temperature",
        {"temperature": _Known(furnace.furnace_temperature, "°C", 600.0, 780.0)},
    ),
    _Machine(
        frozenset({"running", "stopped"}),
        press.press_status,
        "pressure",
        {
            "pressure": _Known(press.press_pressure, "bar", 0.0, 250.0),
            "temperature": _Known(press.press_temperature, "°C", 400.0, 570.0),
            "vibration": _Known(press.press_vibration, "mm/s", 0.0, 6.0),
        },
    ),
)
_HALL = {
    "temperature": _Known(ambient.hall_temperature, "°C", 0.0, 50.0),
    "humidity": _Known(ambient.hall_humidity, "%", 0.0, 100.0),
}
_ROOM = {
    "temperature": _Known(ambient.room_temperature, "°C", 5.0, 30.0),
    "humidity": _Known(ambient.room_humidity, "%", 0.0, 100.0),
}
# A sensor of the air: it has humidity beside it, or its name says so.
_AIR = frozenset({"ambient", "air", "room", "hall", "indoor", "outdoor"})


def signal_for(metric: Mapping[str, Any], device: str, of_device: Sequence[Mapping[str, Any]]) -> Signal:
    """Choose the signal of a metric of a device, which measures all of `of_device`."""
    name, states = str(metric["name"]), metric["states"]
    like = next((one for one in _MACHINES if one.is_one(of_device)), None)
    if states is not None:
        return like.status if like is not None and like.states <= set(states) else machine.status
    known = _BY_NAME.get(name) or (like.known.get(name) if like is not None else None)
    if known is not None and known.fits(metric):
        return known.signal
    kind = machine.kind_of(metric)
    statuses = [one["states"] for one in of_device if one["states"] is not None]
    air = (_HALL if "hall" in device else _ROOM).get(kind)
    if air is not None and air.fits(metric):
        damp = not statuses and any(machine.kind_of(one) == "humidity" for one in of_device)
        if kind == "humidity" or damp or _AIR & set(re.split(r"[^a-z]+", f"{device} {name}".lower())):
            return air.signal
    return machine.signal_of(kind, resting=any(machine.rests(one) for one in statuses))

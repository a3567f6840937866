"""Clocks of devices that are wrong: how far each is off, and how far one may be without its readings being refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from alumicatalyst.errors import InputError
from alumicatalyst.simulator.noise import keys_of, uniform
from alumicatalyst.simulator.plan import SECOND_US

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alumicatalyst.simulator.plan import Plan
    from alumicatalyst.simulator.plant import Fleet

_MILLISECOND_US = 1000


@dataclass(frozen=True, slots=True)
class Clocks:
    """How many devices have a wrong clock. It is off by the same all the time, ahead or behind.

    Such readings are good ones: everything is analysed per series in the device's own time, so nothing is lost.

    Attributes:
        skew: Share of devices, between 0 and 1.
        skew_max_us: By so much at most.
    """

    skew: float = 0.0
    skew_max_us: int = 30 * SECOND_US

    def __post_init__(self) -> None:
        """Check that the share is one and that clocks are off by something."""
        if not 0.0 <= self.skew <= 1.0:
            raise InputError(f"couldn't use the rate of clock_skew: {self.skew}; give a share between 0 and 1")
        if self.skew_max_us < 1000:
            raise InputError(f"couldn't use clock_skew_max: {self.skew_max_us / SECOND_US:g} s; give at least 0.001 s")

    def offsets(self, fleet: Fleet, plan: Plan) -> NDArray[np.int64]:
        """Return for each device how far its clock is ahead, in microseconds.

        Raises:
            InputError: A clock could be so wrong that its readings would be refused, or come after their windows.
        """
        if not self.skew or not fleet.devices:
            return np.zeros(len(fleet.devices), dtype=np.int64)
        ahead = min(int(metric["clock_skew_us"]) for metric in fleet.metrics)
        behind = min(int(metric["idle_us"]) for metric in fleet.metrics) - plan.pack_us - SECOND_US
        allowed = min(ahead, behind)
        if self.skew_max_us > allowed:
            why = "clock_skew" if ahead <= behind else "idle, less a pack"
            raise InputError(
                f"couldn't set clocks wrong by {self.skew_max_us / SECOND_US:g} s: the dictionary's {why} allows "
                f"{max(0, allowed) / SECOND_US:g} s; give less, or allow more there"
            )
        wrong, size = keys_of(plan.seed, "purpose", ["clock", "clock offset"])
        place = np.zeros(1, dtype=np.int64)
        offsets = (2.0 * uniform(fleet.device_keys ^ size, place) - 1.0) * self.skew_max_us
        # Whole milliseconds, as far as devices send no more than that.
        whole = (offsets / _MILLISECOND_US).astype(np.int64) * _MILLISECOND_US
        return np.where(uniform(fleet.device_keys ^ wrong, place) < self.skew, whole, 0)

"""How unusual a reading is, given the readings of its series before it."""

from __future__ import annotations

import math
import struct
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = sys.float_info.max
SCORE_MAX = 1_000_000.0


class Ewma:
    """Mean and variance of a series that forget half of the past in every half life.

    Attributes:
        before: In-order readings so far.
        newest: The event time of the last of them.
    """

    def __init__(self, half_life_us: int, learn: int, resolution: float | None) -> None:
        self.half_life_us = half_life_us
        self.learn = learn
        self.resolution = resolution or 0.0
        self.before = 0
        self.newest = 0
        self.mean = 0.0
        self.variance = 0.0

    @classmethod
    def of(cls, metric: Mapping[str, Any]) -> Ewma | None:
        """Return a metric's detector in its first state; None if it has none."""
        detector = metric["detector"]
        if detector["kind"] == "none":
            return None
        return cls(detector["half_life_us"], detector["learn"], metric["resolution"])

    def take(self, event_time: int, value: float) -> float | None:
        """Take an in-order reading; return its exact score, None while the detector still learns."""
        if self.before == 0:
            score = None
            self.mean = value
        else:
            distance = finite(value - self.mean)
            score = self._score(abs(distance)) if self.before >= self.learn else None
            # How much of the past is still remembered, and how much weight that leaves to this reading.
            kept = 2.0 ** (-(event_time - self.newest) / self.half_life_us)
            alpha = 1.0 - kept
            self.mean += alpha * distance
            self.variance = kept * finite(self.variance + alpha * distance * distance)
        self.newest = event_time
        self.before += 1
        return score

    def _score(self, distance: float) -> float:
        if distance == 0:
            return 0.0
        unit = max(math.sqrt(self.variance), self.resolution)
        return min(distance / unit, SCORE_MAX) if unit > 0 else SCORE_MAX


def finite(number: float) -> float:
    """Clamp what overflowed to the largest number there is."""
    return max(-LARGEST, min(number, LARGEST))


def rounded(score: float) -> float:
    """Round to sixteenths, halves up, as tables keep a score."""
    return as_float32(math.floor(score * 16 + 0.5) / 16)


def as_float32(number: float) -> float:
    """Round to single precision."""
    single: float = struct.unpack("f", struct.pack("f", number))[0]
    return single

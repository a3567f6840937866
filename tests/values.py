"""What generated readings say: values that stay a while, cross the limits of their metric, hover and jump."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

# What a metric without a range may send.
WILD = (0, -0.0, 5e-324, 1e15, 1e-15, 7, 1.7e308, -1.7e308)


@dataclass
class Mood:
    """How a series behaves at present: around which level, and how far from it."""

    level: float
    spread: float
    last: Any = None


class Values:
    """Draws the values of a log; every series has its mood, which changes now and then."""

    def __init__(self, rng: random.Random) -> None:
        self.rng: random.Random = rng
        self.moods: dict[tuple[str, str], Mood] = {}

    def next(self, device: str, metric: Mapping[str, Any]) -> Any:
        """A value as the device sends it."""
        key = (device, metric["name"])
        if key not in self.moods or self.rng.random() < 0.15:
            last = self.moods[key].last if key in self.moods else None
            self.moods[key] = Mood(*self._mood(metric), last)
        mood = self.moods[key]
        if mood.last is None or self.rng.random() > 0.2:
            mood.last = self._value(metric, mood)
        return mood.last

    def _mood(self, metric: Mapping[str, Any]) -> tuple[float, float]:
        if metric["states"] is not None:
            return self.rng.choice(list(metric["states"].values())), 0.0
        levels = [rule for rule in metric["alarms"] if rule["condition"]["kind"] in ("above", "below")]
        if not levels or self.rng.random() < 0.2:
            lowest, highest = metric["range"] or (-1e3, 1e3)
            return self.rng.uniform(lowest, highest), self.rng.choice([0.0, 0.01, 0.1]) * (highest - lowest)
        rule = self.rng.choice(levels)
        limit, deadband = rule["condition"]["limit"], rule["deadband"] or abs(rule["condition"]["limit"]) * 0.05
        outward = 1 if rule["condition"]["kind"] == "above" else -1
        # Beyond the limit, in the deadband, where it clears, and on the edges.
        away = self.rng.choice([2.0, 0.5, 0.0, -0.5, -1.0, -1.5, -4.0])
        return limit + outward * away * deadband, self.rng.choice([0.0, 0.2, 1.0]) * deadband

    def _value(self, metric: Mapping[str, Any], mood: Mood) -> Any:
        states = metric["states"]
        if states is not None:
            code = mood.level if self.rng.random() < 0.8 else self.rng.choice(list(states.values()))
            return self.rng.choice([code, *(name for name, each in states.items() if each == code)])
        if metric["range"] is None and self.rng.random() < 0.15:
            return self.rng.choice(WILD)
        stored = mood.level + mood.spread * self.rng.uniform(-1, 1)
        if self.rng.random() < 0.08:
            # A spike: far away for one reading.
            stored += self.rng.choice([-1, 1]) * (abs(stored) + 1)
        lowest, highest = metric["range"] or (-math.inf, math.inf)
        how = metric["conversion"]
        return min(max(round(stored, 3), lowest), highest) / how["multiply"] * how["divide"] + how["subtract"]

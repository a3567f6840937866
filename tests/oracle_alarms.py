"""One alarm rule on one series: what it measures, when it raises and clears, and what it says."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tests.oracle_score import finite

if TYPE_CHECKING:
    from collections.abc import Mapping

MINUTE_US = 60_000_000
DURATIONS_US = {
    "w": 604_800_000_000,
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "min": MINUTE_US,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}
# Texts, and numbers where a message gives one.
Message = list[str | float]


@dataclass
class Watch:
    """What is remembered of a rule on a series.

    Attributes:
        state: normal, pending (it exceeds, but not for long enough) or active.
        onset: Event time at which it began to exceed.
        peak: The most extreme measure since then.
        off_since: Event time since which it has been clear; None while it is not.
        step, told, told_time: Number, peak and event time of the alarm's last transition.
    """

    rule: Mapping[str, Any]
    metric: Mapping[str, Any]
    state: str = "normal"
    onset: int = 0
    peak: float = 0.0
    off_since: int | None = None
    alarm_id: str = ""
    step: int = 0
    told: float = 0.0
    told_time: int = 0

    @property
    def condition(self) -> Mapping[str, Any]:
        condition: Mapping[str, Any] = self.rule["condition"]
        return condition

    @property
    def kind(self) -> str:
        return str(self.condition["kind"])

    # ------------------------------------------------------------------ what is measured

    def measure(
        self, event_time: int, value: float, previous: tuple[int, float | None] | None, score: float | None
    ) -> float | None:
        """The number that the rule looks at; None where this reading has none."""
        if self.kind == "score_above":
            return score
        if not self.kind.startswith("rate"):
            return value
        if previous is None or previous[1] is None:
            return None
        return finite((value - previous[1]) / (event_time - previous[0]) * self.condition["per_us"])

    def exceeds(self, measured: float) -> bool:
        if self.kind == "is":
            return bool(measured == self.condition["code"])
        limit = self.condition["limit"]
        return bool(measured > limit if self.kind.endswith("above") else measured < limit)

    def clears(self, measured: float) -> bool:
        if self.kind == "is":
            return bool(measured != self.condition["code"])
        limit, deadband = self.condition["limit"], self.rule["deadband"]
        return bool(measured <= limit - deadband if self.kind.endswith("above") else measured >= limit + deadband)

    def _worse(self, measured: float) -> float:
        if self.kind == "is":
            return float(self.condition["code"])
        return max(self.peak, measured) if self.kind.endswith("above") else min(self.peak, measured)

    # ------------------------------------------------------------------ what happens

    def look(self, event_time: int, measured: float) -> str | None:
        """Take one measure; return the transition that it makes, if any."""
        if self.state == "active":
            return self._look_if_over(event_time, measured)
        if not self.exceeds(measured):
            self.state = "normal"
            return None
        if self.state == "normal":
            self.state, self.onset, self.peak = "pending", event_time, measured
        self.peak = self._worse(measured)
        if event_time - self.onset < self.rule["on_us"]:
            return None
        self.state, self.step, self.off_since = "active", 0, None
        self.told, self.told_time = self.peak, event_time
        return "raised"

    def _look_if_over(self, event_time: int, measured: float) -> str | None:
        self.peak = self._worse(measured)
        if not self.clears(measured):
            self.off_since = None
        else:
            if self.off_since is None:
                self.off_since = event_time
            if event_time - self.off_since >= self.rule["off_us"]:
                self.state = "normal"
                self.step += 1
                return "cleared"
        grown = abs(self.peak - self.told)
        if grown > 0 and grown >= self.rule["deadband"] and event_time - self.told_time >= MINUTE_US:
            self.step += 1
            self.told, self.told_time = self.peak, event_time
            return "updated"
        return None

    def goes_on_as(self, rule: Mapping[str, Any] | None, metric: Mapping[str, Any]) -> bool:
        """Whether another dictionary's rule of the same name, on a series that lives on, is this one."""
        if rule is None or metric["unit"] != self.metric["unit"]:
            return False
        if self.kind == "score_above" and not same_scores(metric, self.metric):
            return False
        # Limits may change; a state, and what a rate is measured over, may not.
        mine, new = ({k: v for k, v in each["condition"].items() if k != "limit"} for each in (self.rule, rule))
        return mine == new

    # ------------------------------------------------------------------ what it says

    def message(self, transition: str, value: float, measured: float) -> Message:
        """The message of a transition at a reading, in pieces."""
        head, metric = self.rule["text"] or self.rule["rule"], self.metric["name"]
        if self.kind == "is":
            return [f"{head}: {metric} is {min(n for n, code in self.metric['states'].items() if code == value)}"]
        what = {"rate": f"rate of {metric}", "scor": f"score of {metric}"}.get(self.kind[:4], metric)
        unit = self._unit()
        if transition == "cleared":
            return [f"{head}: {what} back at ", measured, f"{unit}, peak ", self.peak, unit]
        side = f"{unit}, {'above' if self.kind.endswith('above') else 'below'} "
        reached = [f"{head}: {what} reached ", self.peak] if transition == "updated" else [f"{head}: {what} ", measured]
        return [*reached, side, self.condition["limit"], unit]

    def farewell(self) -> Message:
        """The message when a dictionary does without the rule."""
        return [f"{self.rule['text'] or self.rule['rule']}: cleared, the rule was removed or changed"]

    def _unit(self) -> str:
        unit = "" if self.metric["unit"] == "1" else self.metric["unit"]
        if self.kind.startswith("rate"):
            return f" {unit}/{duration(self.condition['per_us'])}"
        return "" if self.kind == "score_above" or not unit else f" {unit}"


def same_scores(metric: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the scores of two definitions can be held against each other."""
    return all(metric[each] == other[each] for each in ("detector", "unit", "resolution"))


def alarm_id(*parts: object) -> str:
    """Who is who: partition, device, metric, rule, and where the raising reading stood."""
    text = "".join(f"{part}\n" for part in parts)
    return hashlib.sha256(text.encode()).digest()[:16].hex()


def number(value: float) -> str:
    """The number to six significant digits, as short as that can be and without an exponent."""
    # The smallest numbers there are have fewer digits than six.
    text = f"{Decimal(repr(float(f'{value:.5e}'))):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def duration(us: int) -> str:
    """A duration in its largest whole unit."""
    return next(f"{us // length}{unit}" for unit, length in DURATIONS_US.items() if us % length == 0)


def written(message: Message) -> str:
    return "".join(piece if isinstance(piece, str) else number(piece) for piece in message)

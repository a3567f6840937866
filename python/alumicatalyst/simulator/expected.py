"""Which alarms the faults of a run must raise: the dictionary's rules, evaluated on the readings that were really sent.

It states the rules again, reading by reading and in plain Python, and shares nothing with the core that it is held
against. Only readings that count are seen: what is rejected, or comes after a later one of its series, decides nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from alumicatalyst.simulator.plan import MINUTE_US

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from alumicatalyst.simulator.engine import Released
    from alumicatalyst.simulator.faults import Fault, Faults
    from alumicatalyst.simulator.plant import Fleet, Group

_SCORE_MAX = 1_000_000.0
# An anode effect counts as complete if so much was sent of the time before it breaks out.
_SHOWN_US = 3 * MINUTE_US


@dataclass(frozen=True, slots=True)
class Found:
    """A fault of a run.

    Attributes:
        fault: Which.
        alarms: The rules that must raise an alarm while it lasts, in order of raising; none: nothing can find it.
        complete: Readings before it (or before an anode effect breaks out) and after it were sent; else it was cut by
            the beginning or the end of the run.
    """

    fault: Fault
    alarms: tuple[str, ...]
    complete: bool


class Expected:
    """Follows the readings of a run, in sending order.

    Args:
        fleet: The fleet, which has faults.
        faults: Those faults.
        start_us: Where the run begins.
    """

    def __init__(self, fleet: Fleet, faults: Faults, start_us: int) -> None:
        self._fleet = fleet
        self._faults = faults
        self._start_us = start_us
        count = len(fleet.metric)
        self._newest = np.full(count, start_us, dtype=np.int64)
        self._slots = faults.slots(self._newest)
        self._groups: list[Group] = [group for group in fleet.groups for _ in group.series]
        order = np.concatenate([group.series for group in fleet.groups])
        self._groups = [self._groups[place] for place in np.argsort(order).tolist()]
        self._rules = [_Series(group.metric) if group.metric["alarms"] else None for group in self._groups]
        self._raised: dict[Fault, list[str]] = {}

    def add(self, released: Released) -> list[Found]:
        """Take in what was released; return the faults that are over in all series that were heard of since."""
        rows = released.rows.take(_valid(released))
        order = np.argsort(rows.series, kind="stable")
        series, opens = np.unique(rows.series[order], return_index=True)
        for one, places in zip(series.tolist(), np.split(order, opens[1:]) if len(series) else [], strict=True):
            times = rows.times_us[places]
            before = np.maximum.accumulate(np.concatenate([[self._newest[one]], times[:-1]]))
            # The first reading may stand at the very start.
            first = self._newest[one] == self._start_us
            in_order = (times > before) | (first & (times == before) & (np.arange(len(times)) == 0))
            if in_order.any():
                self._newest[one] = max(int(self._newest[one]), int(times.max()))
                self._evaluate(one, times[in_order], rows.mantissas[places][in_order])
        return self._over(self._faults.slots(self._newest))

    def close(self, now_us: int) -> list[Found]:
        """Return the faults that were not over, as far as they began before `now_us`."""
        last = self._faults.slots(np.full(len(self._newest), now_us)) + 1
        return [found for found in self._over(last) if found.fault.begin_us < now_us]

    def _over(self, until: NDArray[np.int64]) -> list[Found]:
        """Return the faults of all slots before those given that were not returned before."""
        found = []
        for one in np.flatnonzero((until > self._slots).any(axis=0)).tolist():
            for fault in self._faults.among(self._groups[one], one, self._slots[:, one], until[:, one]):
                alarms = tuple(self._raised.pop(fault, ()))
                if fault.end_us > self._start_us:
                    # What an anode effect shows long before it breaks out, no rule sees.
                    shown_us = max(fault.begin_us, fault.onset_us - _SHOWN_US)
                    complete = shown_us >= self._start_us and int(self._newest[one]) >= fault.end_us
                    found.append(Found(fault, alarms, complete))
            self._slots[:, one] = until[:, one]
        return found

    def _evaluate(self, one: int, times_us: NDArray[np.int64], mantissas: NDArray[np.int64]) -> None:
        rules = self._rules[one]
        if rules is None:
            return
        values = self._fleet.canonical(one, mantissas)
        for time_us, value in zip(times_us.tolist(), values.tolist(), strict=True):
            for rule in rules.raised(time_us, value):
                for fault in self._faults.at(self._groups[one], one, time_us):
                    self._raised.setdefault(fault, []).append(rule)


def _valid(released: Released) -> NDArray[np.bool_]:
    """Mark the readings that nothing was done to for which they are rejected."""
    valid = np.ones(len(released.rows), dtype=bool)
    starts = released.row_ends - np.diff(released.row_ends, prepend=0)
    for one in released.impaired:
        if one.reason is not None:
            envelope = one.envelope - released.first
            begin = int(starts[envelope])
            if one.item < 0:
                valid[begin : int(released.row_ends[envelope])] = False
            else:
                valid[begin + one.item] = False
    return valid


@dataclass(slots=True)
class _Rule:
    """An alarm rule of one series and how far it is."""

    name: str
    kind: str
    limit: float
    per_us: float
    clears_at: float
    on_us: int
    off_us: int
    onset_us: int | None = None
    active: bool = False
    off_since_us: int | None = None

    def step(self, time_us: int, measured: float) -> bool:
        """Take in what the rule measures; return whether it raises an alarm."""
        exceeds = measured == self.limit if self.kind == "is" else measured > self.limit
        if self.active:
            clears = not exceeds if self.kind == "is" else measured <= self.clears_at
            self.off_since_us = (self.off_since_us or time_us) if clears else None
            if self.off_since_us is not None and time_us - self.off_since_us >= self.off_us:
                self.active, self.onset_us = False, None
            return False
        if not exceeds:
            self.onset_us = None
            return False
        if self.onset_us is None:
            self.onset_us = time_us
        if time_us - self.onset_us < self.on_us:
            return False
        self.active, self.off_since_us = True, None
        return True


def _rule(alarm: Mapping[str, Any]) -> _Rule:
    condition = alarm["condition"]
    kind = str(condition["kind"])
    # What has to fall below a limit is turned round, so that one comparison serves both.
    sign = -1.0 if kind in {"below", "rate_below"} else 1.0
    limit = sign * float(condition["code" if kind == "is" else "limit"])
    per_us = float(condition.get("per_us", 0))
    return _Rule(alarm["rule"], kind, limit, per_us, limit - alarm["deadband"], alarm["on_us"], alarm["off_us"])


class _Series:
    """The rules of one series, with what they need of its past."""

    def __init__(self, metric: Mapping[str, Any]) -> None:
        self._rules = [_rule(alarm) for alarm in sorted(metric["alarms"], key=lambda alarm: alarm["rule"])]
        detector = metric["detector"]
        scored = detector["kind"] == "ewma" and any(rule.kind == "score_above" for rule in self._rules)
        self._detector = _Ewma(detector, metric["resolution"] or 0.0) if scored else None
        self._last: tuple[int, float] | None = None

    def raised(self, time_us: int, value: float) -> list[str]:
        """Take in a reading in order; return the rules that raise an alarm."""
        score = None if self._detector is None else self._detector.score(time_us, value)
        raised = [
            rule.name
            for rule in self._rules
            if (measured := self._measured(rule, time_us, value, score)) is not None and rule.step(time_us, measured)
        ]
        self._last = time_us, value
        return raised

    def _measured(self, rule: _Rule, time_us: int, value: float, score: float | None) -> float | None:
        match rule.kind:
            case "score_above":
                return score
            case "rate_above" | "rate_below":
                if self._last is None:
                    return None
                rate = (value - self._last[1]) / (time_us - self._last[0]) * rule.per_us
                return rate if rule.kind == "rate_above" else -rate
            case _:
                return -value if rule.kind == "below" else value


@dataclass(slots=True)
class _Ewma:
    """Exponentially weighted mean and variance in event time, and how far a value is from them."""

    detector: Mapping[str, Any]
    resolution: float
    mean: float = 0.0
    variance: float = 0.0
    readings: int = 0
    last_us: int = field(default=0)

    def score(self, time_us: int, value: float) -> float | None:
        """Return the score of a reading in order, None while learning; then learn from it."""
        before, self.readings = self.readings, self.readings + 1
        if not before:
            self.mean, self.last_us = value, time_us
            return None if self.detector["learn"] else 0.0
        away = value - self.mean
        width = max(math.sqrt(self.variance), self.resolution)
        score = 0.0 if away == 0 else min(_SCORE_MAX, abs(away) / width if width else _SCORE_MAX)
        alpha = -math.expm1(-(time_us - self.last_us) / self.detector["half_life_us"] * math.log(2))
        self.mean += alpha * away
        self.variance = (1 - alpha) * (self.variance + alpha * away * away)
        self.last_us = time_us
        return score if before >= self.detector["learn"] else None

"""One series: what is remembered of it, what its readings do, and what it keeps when the dictionary changes."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.oracle_alarms import Watch, alarm_id, same_scores, written
from tests.oracle_score import Ewma, as_float32
from tests.oracle_windows import Windows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.oracle_alarms import Message
    from tests.oracle_windows import Reading, Window

Row = dict[str, Any]
# A row of a window, and its place among the rows of one cause: by end, definition, first appearance of the series.
Closed = tuple[tuple[int, int, int], Row]


@dataclass
class Series:
    """All that is remembered of one device and metric.

    Attributes:
        order: How many series appeared before this one.
        asset: Where the dictionary has it; None for an accepted one.
        recent: The last distinct event times, in the order of arrival.
        windows: One for every definition of the metric, in its order.
        detector: None where the metric has none.
        watches: One for every alarm rule of the metric, in the order of their names.
        watermark: No earlier event time is expected; minus infinity before the first reading.
        newest: The last in-order reading's event time and value; the value may be lost with a dictionary.
        seen: Partition time at the last valid reading.
        taken: How many valid readings it had.
    """

    order: int
    device: str
    asset: str | None
    metric: Mapping[str, Any]
    recent: deque[int]
    windows: list[Windows]
    detector: Ewma | None
    watches: list[Watch]
    watermark: float | int = -math.inf
    newest: tuple[int, float | None] | None = None
    seen: int = 0
    taken: int = 0

    @classmethod
    def first_seen(
        cls, order: int, device: str, asset: str | None, metric: Mapping[str, Any], closed_until: Mapping[str, float]
    ) -> Series:
        """Return a series that just appears; `closed_until` says of window names how far they had come before."""
        windows = [Windows(each, closed_until.get(each["name"], -math.inf)) for each in metric["windows"]]
        watches = [Watch(rule, metric) for rule in metric["alarms"]]
        recent: deque[int] = deque(maxlen=metric["duplicates"])
        return cls(order, device, asset, metric, recent, windows, Ewma.of(metric), watches)

    # ------------------------------------------------------------------ one reading

    def is_duplicate(self, event_time: int) -> bool:
        return event_time in self.recent

    def is_in_order(self, event_time: int) -> bool:
        return not self.is_duplicate(event_time) and (self.newest is None or event_time > self.newest[0])

    def score(self, event_time: int, value: float) -> tuple[str, float | None]:
        """What the detector makes of a reading: a state, and the exact score where that is `scored`."""
        if self.detector is None:
            return "off", None
        if not self.is_in_order(event_time):
            return "out_of_order", None
        score = self.detector.take(event_time, value)
        return ("learning" if score is None else "scored"), score

    def place(self, reading: Reading) -> tuple[str, int, int | None]:
        """Late or windowed; the windows it missed; how late it was."""
        taken = [windows.take(reading, self.watermark) for windows in self.windows]
        entered, missed = sum(entered for entered, _ in taken), sum(missed for _, missed in taken)
        if entered or (not taken and reading.event_time >= self.watermark):
            return "windowed", missed, None
        return "late", missed, int(max(0, self.watermark - reading.event_time))

    def watch(self, event_time: int, value: float, score: float | None, cause: Row) -> list[Row]:
        """Hold an in-order reading against every rule; the rows of those that raise, update or clear."""
        rows = []
        for watch in self.watches:
            measured = watch.measure(event_time, value, self.newest, score)
            transition = None if measured is None else watch.look(event_time, measured)
            if measured is None or transition is None:
                continue
            if transition == "raised":
                name = (cause["partition"], self.device, self.metric["name"], watch.rule["rule"])
                watch.alarm_id = alarm_id(*name, cause["sequence_number"], cause["item"])
            row = self._alarm_row(watch, transition, event_time, value, watch.message(transition, value, measured))
            rows.append(row | {"score": None if score is None else as_float32(score), "exact_score": score})
        return [cause | row for row in rows]

    def _alarm_row(self, watch: Watch, transition: str, event_time: int, value: float, message: Message) -> Row:
        return {
            "alarm_id": watch.alarm_id,
            "step": watch.step,
            "transition": transition,
            "device": self.device,
            "metric": self.metric["name"],
            "asset": self.asset,
            "alarm_rule": watch.rule["rule"],
            "priority": watch.rule["priority"],
            "onset_time": watch.onset,
            "event_time": event_time,
            "value": value,
            "threshold": watch.condition.get("limit"),
            "peak": watch.peak,
            "score": None,
            "exact_score": None,
            "message": written(message),
            "pieces": message,
            "kind": watch.kind,
        }

    # ------------------------------------------------------------------ closing windows

    def close(self, until: float, by: str) -> list[Closed]:
        """Close the windows that end by then."""
        closed = enumerate([windows.close(until) for windows in self.windows])
        return [self._window_row(place, window, by) for place, ended in closed for window in ended]

    def _window_row(self, place: int, window: Window, by: str) -> Closed:
        row = {
            "device": self.device,
            "metric": self.metric["name"],
            "window_name": self.windows[place].definition["name"],
            "window_start": window.start,
            "window_end": window.end,
            "closed_by": by,
        }
        return (window.end, place, self.order), row | window.figures()

    # ------------------------------------------------------------------ a change of dictionary

    def end_windows(self, kept: Sequence[Mapping[str, Any]]) -> tuple[list[Closed], dict[str, float]]:
        """Close the windows of all definitions but these; how far each of those that end had come."""
        rows, closed_until = [], {}
        for place, windows in enumerate(self.windows):
            if windows.definition not in kept:
                rows += [self._window_row(place, window, "flush") for window in windows.close(math.inf)]
                closed_until[windows.definition["name"]] = windows.closed_until
        return rows, closed_until

    def end_alarms(self, metric: Mapping[str, Any] | None) -> list[Row]:
        """Clear the active alarms whose rules the series does not have any longer; None: there is no such series."""
        rules = {} if metric is None else {rule["rule"]: rule for rule in metric["alarms"]}
        rows = []
        for watch in self.watches:
            goes_on = metric is not None and watch.goes_on_as(rules.get(watch.rule["rule"]), metric)
            if watch.state == "active" and not goes_on:
                assert self.newest is not None
                event_time, value = self.newest
                assert value is not None
                watch.step += 1
                rows.append(self._alarm_row(watch, "cleared", event_time, value, watch.farewell()))
        return rows

    def go_on_from(self, before: Series) -> None:
        """Take over, under this dictionary, what still holds of the series under the last one."""
        self.recent.extend(before.recent)
        self.watermark, self.seen, self.taken = before.watermark, before.seen, before.taken
        same_unit = self.metric["unit"] == before.metric["unit"]
        self.newest = before.newest
        # A value is remembered for rates, so in one unit, and while there are rules.
        if before.newest is not None and not (same_unit and before.metric["alarms"]):
            self.newest = (before.newest[0], None)
        for place, windows in enumerate(self.windows):
            same = [each for each in before.windows if same_unit and each.definition == windows.definition]
            self.windows[place] = same[0] if same else windows
        if same_scores(self.metric, before.metric):
            self.detector = before.detector
        for place, watch in enumerate(self.watches):
            for old in before.watches:
                if old.rule["rule"] == watch.rule["rule"] and old.goes_on_as(watch.rule, self.metric):
                    old.rule, old.metric = watch.rule, self.metric
                    self.watches[place] = old

"""What the core must compute, written to be read: slow, obvious, one partition, one envelope at a time.

The oracle is the semantics of the product in plain Python and knows nothing of the core's code: it keeps every
reading of every open window, collects all the failures of a reading before it looks for the first one, and computes
statistics exactly. The tests hold the core to it (I1, I2, I3, I8).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.oracle_body import items_of_body
from tests.oracle_decode import Item, first_failure
from tests.oracle_statistics import statistics

if TYPE_CHECKING:
    from collections.abc import Mapping

Row = dict[str, Any]

BODY_KEPT_READING = 1024
BODY_KEPT_ENVELOPE = 4096


@dataclass
class Emission:
    """The rows that one envelope, or one flush, makes the core emit; times are microseconds since 1970."""

    readings: list[Row] = field(default_factory=list)
    windows: list[Row] = field(default_factory=list)
    rejected: list[Row] = field(default_factory=list)
    counts: list[Row] = field(default_factory=list)
    redelivered: int = 0


@dataclass
class Series:
    """All that is remembered of one device and metric.

    Attributes:
        order: How many series appeared before this one.
        watermark: No earlier event time is expected; minus infinity before the first reading.
        seen: Partition time at the last valid reading.
        recent: The last distinct event times, in the order of arrival.
        open: Window (length, start) -> its readings (event time, value), in the order of arrival.
        closed_until: Length -> the latest end of the windows of this length that were emitted.
    """

    order: int
    device: str
    metric: Mapping[str, Any]
    recent: deque[int]
    watermark: float | int = -math.inf
    seen: int = 0
    open: dict[tuple[int, int], list[tuple[int, float]]] = field(default_factory=dict)
    closed_until: dict[int, int] = field(default_factory=dict)

    def tumbling(self) -> dict[int, int]:
        """The definitions that are evaluated: length -> place among all of the metric's. Hopping ones are not yet."""
        windows = enumerate(self.metric["windows"])
        return {window["length_us"]: place for place, window in windows if window["hop_us"] == window["length_us"]}


class Oracle:
    """One partition under one data dictionary (its compiled form, as JSON reads it)."""

    def __init__(self, partition: str, dictionary: Mapping[str, Any]) -> None:
        self.partition = partition
        self.last_sequence = -1
        self.partition_time: int | None = None
        self.series: dict[tuple[str, str], Series] = {}
        self._use(dictionary)

    def _use(self, dictionary: Mapping[str, Any]) -> None:
        self.dictionary = dictionary
        metrics = dictionary["metrics"]
        self.listed = {(s["device"], metrics[s["metric"]]["name"]): metrics[s["metric"]] for s in dictionary["series"]}
        self.devices = {device for device, _ in self.listed}

    # ------------------------------------------------------------------ what happens to a partition

    def envelope(
        self, body: bytes, sequence_number: int, enqueued_us: int, properties: Mapping[str, str | None] | None = None
    ) -> Emission:
        """Take one envelope."""
        out = Emission()
        if sequence_number <= self.last_sequence:
            out.redelivered = 1
            return out
        self.last_sequence = sequence_number
        known = self.partition_time
        self.partition_time = enqueued_us if known is None else max(known, enqueued_us)
        cause = self._cause(sequence_number, -1, enqueued_us)

        self._close_silent(cause, out)
        for number, item in enumerate(self._items(body, properties or {})):
            # An envelope rejected whole is one row of its own, item -1.
            place = cause | {"item": -1 if item.whole_envelope else number}
            self._take(item, place, body, out)
        out.counts.append(self._count(cause, len(body), out))
        return out

    def flush(self, sequence_number: int) -> Emission:
        """Close all open windows, as the journal says at the end of a finite input."""
        assert sequence_number > self.last_sequence
        self.last_sequence = sequence_number
        out = Emission()
        if self.partition_time is None:
            return out
        cause = self._cause(sequence_number, -1, self.partition_time)
        everything = [(series, window) for series in self.series.values() for window in series.open]
        self._close(everything, "flush", cause, out)
        out.counts.append(self._count(cause, 0, out))
        return out

    def change_dictionary(self, dictionary: Mapping[str, Any]) -> None:
        """Go on under another dictionary whose series and windows are the old ones, or more."""
        self._use(dictionary)
        for key, series in self.series.items():
            series.metric = self._definition(*key) or series.metric
            series.recent = deque(series.recent, maxlen=series.metric["duplicates"])

    # ------------------------------------------------------------------ an envelope's items

    def _items(self, body: bytes, properties: Mapping[str, str | None]) -> list[Item]:
        """Its readings and rejected readings in their order, or the one reason to reject it whole."""
        return items_of_body(body, self.dictionary["payload"], self.dictionary["bounds"], properties)

    def _definition(self, device: str, metric: str) -> Mapping[str, Any] | None:
        """What the dictionary says of a series: listed, or accepted as unknown, or nothing."""
        listed = self.listed.get((device, metric))
        unknown = self.dictionary["unknown"]
        return listed if listed is not None or unknown is None else {**unknown, "name": metric}

    def _judge(self, item: Item) -> None:
        """Add the failures that only show once the series and partition time are known; convert the value."""
        if item.device is None:
            return
        assert self.partition_time is not None
        accept = self.dictionary["unknown"] is not None
        if item.device not in self.devices and not accept:
            item.fail("unknown_device")
            return
        metric = None if item.metric is None else self._definition(item.device, item.metric)
        if metric is None:
            item.fail("unknown_metric")
            return
        self._convert(item, metric)
        if item.number is not None and metric["range"] is not None:
            lowest, highest = metric["range"]
            if not lowest <= item.number <= highest:
                item.fail("out_of_range")
        if item.event_time is not None:
            if item.event_time > self.partition_time + metric["clock_skew_us"]:
                item.fail("future_event_time")
            if item.event_time < self.partition_time - metric["max_age_us"]:
                item.fail("past_event_time")
        if (item.device, item.metric) not in self.series and len(self.series) >= self.dictionary["bounds"]["series"]:
            item.fail("too_many_series")

    def _convert(self, item: Item, metric: Mapping[str, Any]) -> None:
        """What was sent, as it is stored: a status as its code, a quantity in the canonical unit."""
        states = metric["states"]
        if isinstance(item.value, str):
            if states is None:
                item.fail("wrong_type", at="unknown_status")
            elif item.value not in states:
                item.fail("unknown_status")
            else:
                item.number = float(states[item.value])
        elif item.value is not None and states is not None:
            item.number = item.value
            if item.value not in states.values():
                item.fail("unknown_status")
        elif item.value is not None:
            how = metric["conversion"]
            item.number = (item.value - how["subtract"]) * how["multiply"] / how["divide"]
            if not math.isfinite(item.number):
                item.fail("not_finite")

    # ------------------------------------------------------------------ one reading

    def _take(self, item: Item, cause: Row, body: bytes, out: Emission) -> None:
        if not (item.whole_envelope or item.whole_object):
            self._judge(item)
        if item.failures:
            out.rejected.append(self._rejected(item, cause, body))
            return
        assert item.device is not None
        assert item.metric is not None
        assert item.event_time is not None
        assert item.number is not None
        series = self._series(item.device, item.metric)
        outcome, missed, lateness = self._place(series, item.event_time, item.number)
        out.readings.append(
            cause
            | {
                "device": item.device,
                "metric": item.metric,
                "event_time": item.event_time,
                "value": item.number,
                "quality": item.quality,
                "outcome": outcome,
                "windows_missed": missed,
                "lateness_us": lateness,
                "score_state": "off",
                "score": None,
            }
        )
        assert self.partition_time is not None
        series.seen = self.partition_time
        if outcome == "duplicate":
            return
        series.recent.append(item.event_time)
        newest = min(item.event_time, self.partition_time) - series.metric["out_of_orderness_us"]
        series.watermark = max(series.watermark, newest)
        passed = [(series, window) for window in series.open if sum(window) <= series.watermark]
        self._close(passed, "watermark", cause, out)

    def _series(self, device: str, metric: str) -> Series:
        if (device, metric) not in self.series:
            definition = self._definition(device, metric)
            assert definition is not None
            recent: deque[int] = deque(maxlen=definition["duplicates"])
            self.series[device, metric] = Series(len(self.series), device, definition, recent)
        return self.series[device, metric]

    def _place(self, series: Series, event_time: int, value: float) -> tuple[str, int, int | None]:
        """Duplicate, late or windowed; the windows it missed; how late it was."""
        if event_time in series.recent:
            return "duplicate", 0, None
        still_open, missed = [], 0
        for length in series.tumbling():
            start = event_time // length * length
            if start + length > max(series.watermark, series.closed_until.get(length, -math.inf)):
                still_open.append((length, start))
            else:
                missed += 1
        late = not still_open if series.tumbling() else event_time < series.watermark
        if late:
            return "late", missed, int(max(0, series.watermark - event_time))
        for window in still_open:
            series.open.setdefault(window, []).append((event_time, value))
        return "windowed", missed, None

    # ------------------------------------------------------------------ closing windows

    def _close_silent(self, cause: Row, out: Emission) -> None:
        """Before an envelope's readings: close what series that have gone quiet still hold open."""
        assert self.partition_time is not None
        now = self.partition_time
        closing = []
        for series in self.series.values():
            idle = series.metric["idle_us"]
            if now - series.seen >= idle:
                horizon = now - max(idle, series.metric["out_of_orderness_us"])
                closing += [(series, window) for window in series.open if sum(window) <= horizon]
        self._close(closing, "idle", cause, out)

    def _close(self, closing: list[tuple[Series, tuple[int, int]]], by: str, cause: Row, out: Emission) -> None:
        """Emit windows of one cause by end, then definition, then first appearance of the series."""
        for series, window in sorted(closing, key=lambda c: (sum(c[1]), c[0].tumbling()[c[1][0]], c[0].order)):
            length, start = window
            end = start + length
            series.closed_until[length] = max(end, series.closed_until.get(length, end))
            out.windows.append(
                cause
                | {
                    "device": series.device,
                    "metric": series.metric["name"],
                    "window_name": series.metric["windows"][series.tumbling()[length]]["name"],
                    "window_start": start,
                    "window_end": end,
                    "closed_by": by,
                }
                | statistics(series.open.pop(window))
            )

    # ------------------------------------------------------------------ rows

    def _cause(self, sequence_number: int, item: int, enqueued_us: int) -> Row:
        return {
            "partition": self.partition,
            "sequence_number": sequence_number,
            "item": item,
            "enqueued_time": enqueued_us,
        }

    def _rejected(self, item: Item, cause: Row, body: bytes) -> Row:
        span = body if item.whole_envelope or item.node is None else body[item.node.start : item.node.end]
        kept = BODY_KEPT_ENVELOPE if item.whole_envelope else BODY_KEPT_READING
        return cause | {
            "reason": first_failure(item.failures),
            "device": item.device,
            "metric": item.metric,
            "event_time": item.event_time,
            "body": span[:kept],
            "body_bytes": len(span),
        }

    def _count(self, cause: Row, body_bytes: int, out: Emission) -> Row:
        outcomes = [row["outcome"] for row in out.readings]
        times = [row["event_time"] for row in out.readings]
        return {
            "sequence_number": cause["sequence_number"],
            "enqueued_time": cause["enqueued_time"],
            "body_bytes": body_bytes,
            "rows_total": len(out.readings) + len(out.rejected),
            "rows_windowed": outcomes.count("windowed"),
            "rows_late": outcomes.count("late"),
            "rows_duplicate": outcomes.count("duplicate"),
            "rows_rejected": len(out.rejected),
            "rows_unscored": sum(row["score_state"] != "scored" for row in out.readings),
            "rows_windows": len(out.windows),
            "rows_alarms": 0,
            "event_time_min": min(times, default=None),
            "event_time_max": max(times, default=None),
        }

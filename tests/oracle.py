"""What the core must compute, written to be read: slow, obvious, one partition, one envelope at a time.

The oracle is the semantics of the product in plain Python and knows nothing of the core's code: it keeps every
reading of every open window, collects all the failures of a reading before it looks for the first one, and computes
statistics exactly. The tests hold the core to it (I1, I2, I3, I8). A figure that the core may compute with other
roundings stands in a row twice: as the table has it, and exact for those who compare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.oracle_body import items_of_body
from tests.oracle_decode import Item, first_failure
from tests.oracle_score import rounded
from tests.oracle_series import Row, Series
from tests.oracle_windows import Reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.oracle_series import Closed

BODY_KEPT_READING = 1024
BODY_KEPT_ENVELOPE = 4096


@dataclass
class Emission:
    """The rows that one envelope, or one flush, makes the core emit; times are microseconds since 1970.

    Attributes:
        in_order: Those of `readings` that were; the last one of each series in a batch is the batch's `latest`.
    """

    readings: list[Row] = field(default_factory=list)
    windows: list[Row] = field(default_factory=list)
    alarms: list[Row] = field(default_factory=list)
    rejected: list[Row] = field(default_factory=list)
    counts: list[Row] = field(default_factory=list)
    in_order: list[Row] = field(default_factory=list)
    redelivered: int = 0


class Oracle:
    """One partition under one data dictionary (its compiled form, as JSON reads it)."""

    def __init__(self, partition: str, dictionary: Mapping[str, Any]) -> None:
        self.partition = partition
        self.last_sequence = -1
        self.partition_time: int | None = None
        self.series: dict[tuple[str, str], Series] = {}
        # What a change of dictionary leaves behind: rows for the next cause, and how far lost definitions had come.
        self.due_windows: list[Row] = []
        self.due_alarms: list[Row] = []
        self.closed_until: dict[tuple[str, str], dict[str, float]] = {}
        self._use(dictionary)

    def _use(self, dictionary: Mapping[str, Any]) -> None:
        self.dictionary = dictionary
        metrics = dictionary["metrics"]
        self.listed = {(s["device"], metrics[s["metric"]]["name"]): metrics[s["metric"]] for s in dictionary["series"]}
        self.assets = {(s["device"], metrics[s["metric"]]["name"]): s["asset"] for s in dictionary["series"]}
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

        self._emit_due(cause, out)
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
        self._emit_due(cause, out)
        self._emit((row for series in self.series.values() for row in series.close(math.inf, "flush")), cause, out)
        out.counts.append(self._count(cause, 0, out))
        return out

    def change_dictionary(self, dictionary: Mapping[str, Any]) -> None:
        """Go on under another dictionary; what ends with the old one comes out with the next cause."""
        old, self.series = self.series, {}
        self._use(dictionary)
        ended: list[Closed] = []
        for key, before in old.items():
            metric = self._definition(*key)
            goes_on = metric is not None and metric["unit"] == before.metric["unit"]
            rows, closed_until = before.end_windows(metric["windows"] if metric is not None and goes_on else [])
            ended += rows
            self.closed_until.setdefault(key, {}).update(closed_until)
            self.due_alarms += before.end_alarms(metric)
            if metric is not None:
                self._series(*key).go_on_from(before)
        self.due_windows += in_order(ended)

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
        at, value = item.event_time, item.number
        duplicate, ordered = series.is_duplicate(at), series.is_in_order(at)
        score_state, score = series.score(at, value)
        outcome, missed, lateness = "duplicate", 0, None
        if not duplicate:
            outcome, missed, lateness = series.place(Reading(series.taken, at, value, score))
        store_above = series.metric["detector"].get("store_above")
        row = cause | {
            "device": item.device,
            "metric": item.metric,
            "event_time": at,
            "value": value,
            "quality": item.quality,
            "outcome": outcome,
            "windows_missed": missed,
            "lateness_us": lateness,
            "score_state": score_state,
            "score": rounded(score) if score is not None and score >= store_above else None,
            "exact_score": score,
            "store_above": store_above,
        }
        out.readings.append(row)
        assert self.partition_time is not None
        series.seen = self.partition_time
        series.taken += 1
        if duplicate:
            return
        if ordered:
            out.in_order.append(row)
            out.alarms += series.watch(at, value, score, cause)
            series.newest = (at, value)
        series.recent.append(at)
        advanced = min(at, self.partition_time) - series.metric["out_of_orderness_us"]
        series.watermark = max(series.watermark, advanced)
        self._emit(series.close(series.watermark, "watermark"), cause, out)

    def _series(self, device: str, metric: str) -> Series:
        key = (device, metric)
        if key not in self.series:
            definition = self._definition(device, metric)
            assert definition is not None
            self.series[key] = Series.first_seen(
                len(self.series), device, self.assets.get(key), definition, self.closed_until.get(key, {})
            )
        return self.series[key]

    # ------------------------------------------------------------------ what comes out beside the readings

    def _close_silent(self, cause: Row, out: Emission) -> None:
        """Before an envelope's readings: close what series that have gone quiet still hold open."""
        assert self.partition_time is not None
        now = self.partition_time
        closed = []
        for series in self.series.values():
            idle = series.metric["idle_us"]
            if now - series.seen >= idle:
                closed += series.close(now - max(idle, series.metric["out_of_orderness_us"]), "idle")
        self._emit(closed, cause, out)

    def _emit(self, closed: Iterable[Closed], cause: Row, out: Emission) -> None:
        out.windows += [cause | row for row in in_order(closed)]

    def _emit_due(self, cause: Row, out: Emission) -> None:
        """What a change of dictionary ended."""
        out.windows += [cause | row for row in self.due_windows]
        out.alarms += [cause | row for row in self.due_alarms]
        self.due_windows, self.due_alarms = [], []

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
            "rows_alarms": len(out.alarms),
            "event_time_min": min(times, default=None),
            "event_time_max": max(times, default=None),
        }


def in_order(closed: Iterable[Closed]) -> list[Row]:
    """The rows of windows that close together."""
    return [row for _, row in sorted(closed, key=lambda each: each[0])]

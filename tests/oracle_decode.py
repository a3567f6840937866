"""How the oracle reads one JSON object as readings: where the device, time, metric, value and quality stand."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_FLOOR, Context, Decimal, localcontext
from typing import TYPE_CHECKING, Any

from tests.oracle_json import Node

if TYPE_CHECKING:
    from collections.abc import Mapping

# The closed list of reasons, in the order of the checks.
ENVELOPE_CHECKS = ("too_large", "empty_body", "bad_encoding", "bad_json", "too_deep", "too_many_readings")
READING_CHECKS = (
    "missing_device",
    "missing_time",
    "bad_time",
    "missing_value",
    "wrong_type",
    "repeated_key",
    "not_finite",
    "unknown_device",
    "unknown_metric",
    "unknown_status",
    "bad_quality",
    "out_of_range",
    "future_event_time",
    "past_event_time",
    "too_many_series",
)
CHECKS = ENVELOPE_CHECKS + READING_CHECKS

NAME_BYTES_MAX = 256
QUALITY_GOOD = 192
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_US = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
LAST_US = (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)

RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


@dataclass
class Item:
    """A reading, or what was meant to be one, with everything that is wrong with it.

    Attributes:
        node: The object it stands in; several readings of a wide object share it.
        whole_envelope: It stands for an envelope that is rejected whole.
        whole_object: It stands for a wide object that is rejected whole, whichever metrics it holds.
        failures: (place in the order of checks, reason); the earliest place wins.
        value: The number or string as sent; `number` is what is stored, once the series is known.
    """

    node: Node | None
    failures: set[tuple[str, str]] = field(default_factory=set)
    whole_envelope: bool = False
    whole_object: bool = False
    device: str | None = None
    metric: str | None = None
    event_time: int | None = None
    value: float | str | None = None
    number: float | None = None
    quality: int | None = None

    @classmethod
    def envelope(cls, reason: str) -> Item:
        """The one row of an envelope that is rejected whole."""
        return cls(None, {(reason, reason)}, whole_envelope=True)

    def fail(self, reason: str, *, at: str | None = None) -> None:
        """Note a failure; `at` is its place in the order where that is not the reason's own."""
        self.failures.add((at or reason, reason))


def first_failure(failures: set[tuple[str, str]]) -> str:
    """The reason that is reported."""
    return min(failures, key=lambda failure: CHECKS.index(failure[0]))[1]


def items_of_object(node: Node, payload: Mapping[str, Any], properties: Mapping[str, str | None]) -> list[Item]:
    """The readings of one object: one if it is narrow, one per metric member if it is wide."""
    wide = payload["metric"] is None
    candidates = payload["device"] + payload["time"]
    roles = {name for name in candidates if not name.startswith("@")}
    roles |= {payload[role] for role in ("metric", "value", "quality") if payload[role] is not None}

    whole = Item(node)
    _read_device(whole, _first(payload["device"], node, properties))
    _read_time(whole, _first(payload["time"], node, properties), payload["time_format"])
    _read_quality(whole, _given(node, payload["quality"]))
    names = [name for name, _ in node.members]
    if any(names.count(role) > 1 for role in roles):
        whole.fail("repeated_key")

    if not wide:
        _read_metric(whole, _given(node, payload["metric"]), payload["rename"])
        _read_value(whole, _given(node, payload["value"]))
        return [whole]

    metrics = [
        (payload["rename"].get(name, name), value)
        for name, value in node.members
        if name not in roles and name not in payload["ignore"]
    ]
    if not metrics:
        whole.fail("missing_value")
    if len({name for name, _ in metrics}) < len(metrics):
        whole.fail("repeated_key")
    # A device whose name is too long is known and unknown: that fails each reading, not the object.
    of_device = whole.failures & {("unknown_device", "unknown_device")}
    if whole.failures > of_device:
        whole.failures -= of_device
        whole.whole_object = True
        return [whole]
    items = []
    for name, value in metrics:
        if value.kind == "null":
            continue
        item = Item(node, set(of_device), device=whole.device, event_time=whole.event_time, quality=whole.quality)
        item.metric = _metric_name(name, {})
        if item.metric is None:
            item.fail("unknown_metric")
        _read_value(item, [value])
        items.append(item)
    return items


def _given(node: Node, name: str | None) -> list[Node]:
    """What an object's member says; a null one counts as absent. A repeated one says all of it, and each is judged."""
    return [value for member, value in node.members if member == name and value.kind != "null"]


def _first(candidates: list[str], node: Node, properties: Mapping[str, str | None]) -> list[Node]:
    """The first candidate that is there; `@` names a property of the envelope, whose value is text."""
    for candidate in candidates:
        if not candidate.startswith("@"):
            found = _given(node, candidate)
        else:
            text = properties.get(candidate[1:])
            found = [] if text is None else [Node("property", -1, text=text)]
        if found:
            return found
    return []


def _read_device(item: Item, found: list[Node]) -> None:
    if not found:
        item.fail("missing_device")
    names = [_device_name(item, each) for each in found]
    # Where it is repeated and one of them is none, there is no saying which was meant.
    item.device = names[-1] if names and None not in names else None


def _device_name(item: Item, found: Node) -> str | None:
    if found.kind not in ("string", "property"):
        item.fail("wrong_type")
    elif found.text == "":
        item.fail("missing_device")
    elif len(found.text.encode()) > NAME_BYTES_MAX:
        item.fail("unknown_device")
    else:
        return found.text
    return None


def _read_time(item: Item, found: list[Node], time_format: str) -> None:
    if not found:
        item.fail("missing_time")
    times = [_time(item, each, time_format) for each in found]
    item.event_time = times[-1] if times and None not in times else None


def _time(item: Item, found: Node, time_format: str) -> int | None:
    if found.kind in ("bool", "array", "object"):
        item.fail("wrong_type")
        return None
    written_as = "string" if time_format == "rfc3339" else "number"
    read = rfc3339_us if time_format == "rfc3339" else lambda text: epoch_us(text, time_format)
    instant = read(found.text) if found.kind in (written_as, "property") else None
    if instant is None:
        item.fail("bad_time")
    return instant


def _read_metric(item: Item, found: list[Node], rename: Mapping[str, str]) -> None:
    texts = [each.text for each in found if each.kind == "string"]
    if len(texts) < len(found):
        item.fail("wrong_type")
    item.metric = _metric_name(texts[-1], rename) if texts else None
    if item.metric is None:
        item.fail("unknown_metric")


def _metric_name(text: str, rename: Mapping[str, str]) -> str | None:
    """The name of a metric as the dictionary has it; None if no metric can have it."""
    name = rename.get(text, text)
    return name if 0 < len(name.encode()) <= NAME_BYTES_MAX else None


def _read_value(item: Item, found: list[Node]) -> None:
    if not found:
        item.fail("missing_value")
    for each in found:
        if each.kind == "string":
            item.value = each.text
        elif each.kind != "number":
            item.fail("wrong_type")
        else:
            item.value = float(each.text)
            if item.value - item.value != 0:
                item.fail("not_finite")


def _read_quality(item: Item, found: list[Node]) -> None:
    if not found:
        item.quality = QUALITY_GOOD
    for each in found:
        if each.kind != "number":
            item.fail("wrong_type")
            continue
        quality = float(each.text)
        if 64 <= quality <= 32767 and quality.is_integer():
            item.quality = int(quality)
        else:
            item.fail("bad_quality")


def rfc3339_us(text: str) -> int | None:
    """Microseconds of a time like `2026-01-31T23:59:59.25+01:00`; None if it is not one."""
    found = RFC3339.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(found[group]) for group in range(1, 7))
    ahead_minutes = 0
    if found[8] is not None:
        if int(found[9]) > 23 or int(found[10]) > 59:
            return None
        ahead_minutes = (int(found[9]) * 60 + int(found[10])) * (-1 if found[8] == "-" else 1)
    try:
        local = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    micros = int((found[7] or "").ljust(6, "0")[:6])
    instant = (local - EPOCH) // timedelta(microseconds=1) + micros - ahead_minutes * 60_000_000
    return instant if FIRST_US <= instant <= LAST_US else None


def epoch_us(text: str, unit: str) -> int | None:
    """Microseconds of a JSON number of seconds, milli- or microseconds, computed exactly and rounded down."""
    if JSON_NUMBER.fullmatch(text) is None:
        return None
    with localcontext(EXACT):
        instant = Decimal(text).scaleb({"epoch_s": 6, "epoch_ms": 3, "epoch_us": 0}[unit])
        if not FIRST_US <= instant < LAST_US + 1:
            return None
        return int(instant.to_integral_value(ROUND_FLOOR))

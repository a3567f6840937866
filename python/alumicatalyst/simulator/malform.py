"""Bodies and readings that have to be rejected, one recipe for each reason of rejection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from alumicatalyst.simulator.payload import Members, members_text, quoted
from alumicatalyst.simulator.plan import BODY_REASONS, READING_REASONS, SECOND_US
from alumicatalyst.simulator.sent import sent_range

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alumicatalyst.simulator.plant import Compiled

_YEAR_US = 366 * 86_400 * SECOND_US
_NOT_FINITE = ("NaN", "Infinity", "-Infinity", "1e999")
_WRONG_VALUES = ("true", "[1]", '{"v":1}', '"4.2"')


@dataclass(frozen=True, slots=True)
class Good:
    """A reading as it would have been sent.

    Attributes:
        device: Its device.
        metric: The name that the device gives to its metric.
        time: The event time as a JSON value.
        value: The value as a JSON value.
        definition: The compiled metric.
        bits: Seeded bits that choose between the variants of a reason.
    """

    device: str
    metric: str
    time: str
    value: str
    definition: Mapping[str, Any]
    bits: int


def body_reasons(compiled: Compiled, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the reasons for which whole bodies can be made, out of those wanted (none: all)."""
    # A broker takes no body beyond 1 MiB, so a larger bound cannot be broken on the way through one.
    feasible = [r for r in BODY_REASONS if r != "too_large" or compiled["bounds"]["body_bytes"] < 1_000_000]
    return tuple(reason for reason in (feasible if not wanted else BODY_REASONS) if not wanted or reason in wanted)


def reading_reasons(compiled: Compiled, definition: Mapping[str, Any], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the reasons for which a reading of a metric can be made, out of those wanted (none: all)."""
    payload = compiled["payload"]
    members = Members.of(payload)
    possible = {
        "missing_device": members.device is not None,
        "unknown_device": compiled["unknown"] is None and members.device is not None,
        "unknown_metric": compiled["unknown"] is None,
        "missing_value": True,
        "unknown_status": definition["states"] is not None,
        "bad_quality": members.quality is not None,
        "out_of_range": definition["range"] is not None,
        "repeated_key": True,
        # A stranger's metric has no states, so a status of it would be rejected for another reason.
        "too_many_series": (
            compiled["unknown"] is not None and members.device is not None and definition["states"] is None
        ),
    }
    return tuple(
        reason for reason in READING_REASONS if possible.get(reason, True) and (not wanted or reason in wanted)
    )


def spoil_body(reason: str, body: bytes, compiled: Compiled, bits: int) -> bytes:
    """Return a body that is rejected whole for a reason."""
    bounds = compiled["bounds"]
    match reason:
        case "too_large":
            return body.ljust(int(bounds["body_bytes"]) + 1)
        case "empty_body":
            return b""
        case "bad_encoding":
            at = body.index(b'"') + 1
            return body[:at] + b"\xff" + body[at:]
        case "too_deep":
            nesting = int(bounds["depth"]) + 1
            return b"[" * nesting + b"]" * nesting
        case "too_many_readings":
            return b"[" + b",".join([b"{}"] * (int(bounds["readings_per_envelope"]) + 1)) + b"]"
        case _:
            return body[: 1 + bits % (len(body) - 1)]


def spoil_reading(reason: str, good: Good, members: Members, event_time_us: int) -> str:  # noqa: C901, PLR0912
    """Return the JSON object of a reading that is rejected for a reason."""
    device, time = quoted(good.device), good.time
    metric, value, quality = good.metric, good.value, None
    extra: list[tuple[str, str]] = []
    definition = good.definition
    match reason:
        case "missing_device":
            device = "null"
        case "missing_time":
            time = "null"
        case "bad_time":
            time = _bad_time(members, event_time_us, good.bits)
        case "missing_value":
            value = "null"
        case "wrong_type":
            value = _WRONG_VALUES[good.bits % (3 if definition["states"] is not None else 4)]
        case "repeated_key":
            extra = [(members.time, time)]
        case "not_finite":
            value = _NOT_FINITE[good.bits % len(_NOT_FINITE)]
        case "unknown_device":
            device = quoted(f"{good.device}-spare")
        case "too_many_series":
            device = quoted(f"stray-{good.bits % 1_000_000_007}")
        case "unknown_metric":
            metric = "" if members.metric is not None and good.bits % 4 == 0 else f"{metric}_2"
        case "unknown_status":
            value = ('"?"', "-12345")[good.bits % 2]
        case "bad_quality":
            quality = ("0", "63", "64.5", "40000")[good.bits % 4]
        case "out_of_range":
            low, high = sent_range(definition) or (0.0, 0.0)
            value = repr(high + (high - low) + 1.0 if good.bits % 2 else low - (high - low) - 1.0)
        case "future_event_time":
            time = as_time(event_time_us + definition["clock_skew_us"] + _YEAR_US, members.time_format)
        case "past_event_time":
            time = as_time(event_time_us - definition["max_age_us"] - _YEAR_US, members.time_format)
    parts: list[tuple[str, str]] = [] if members.device is None else [(members.device, device)]
    parts.append((members.time, time))
    if members.metric is not None and members.value is not None:
        parts += [(members.metric, quoted(metric)), (members.value, value)]
    elif reason != "missing_value":
        # A wide object without any metric is what lacks a value; one that is null is no reading at all.
        parts.append((metric, value))
    if quality is not None and members.quality is not None:
        parts.append((members.quality, quality))
    return members_text(parts + extra)


def _bad_time(members: Members, event_time_us: int, bits: int) -> str:
    """Return an event time that cannot be read: an impossible day, no offset, or a number where text belongs."""
    if members.time_format != "rfc3339":
        return '"yesterday"'
    good = as_time(event_time_us, "rfc3339")
    return ('"2026-02-30T00:00:00Z"', good.replace("Z", ""), "1234567890")[bits % 3]


def as_time(time_us: int, time_format: str) -> str:
    """Return an event time as a JSON value in the mapping's format, to the second where that counts seconds."""
    if time_format == "rfc3339":
        return f'"{np.datetime64(time_us, "us")}Z"'
    return str(time_us // {"epoch_us": 1, "epoch_ms": 1000}.get(time_format, SECOND_US))

"""Tables of alarms, windows and latest values as a process would post them, in the core's own schema."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from alumicatalyst import _core, transitions

P = "plant/1/0"
START = datetime(2026, 11, 1, tzinfo=UTC)


def schema(kind: str) -> pa.Schema:
    """Return the schema of a post: the core's, without the lake's own column."""
    return _core.schema(kind)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def table(kind: str, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema(kind))


def alarm_id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def transition(name: str, step: int, sequence_number: int, kind: str | None = None, **changed: Any) -> dict[str, Any]:
    """Return a row of `alarms`: step 0 raises; further ones update unless told otherwise."""
    row = {
        "partition": P,
        "sequence_number": sequence_number,
        "item": 0,
        "enqueued_time": at(sequence_number),
        "alarm_id": alarm_id(name),
        "step": step,
        "transition": kind or ("raised" if step == 0 else "updated"),
        "device": "pot-001",
        "metric": "cell_voltage",
        "asset": "site/hall-1/pot-001",
        "alarm_rule": "HH",
        "priority": "high",
        "onset_time": at(sequence_number - step - 3),
        "event_time": at(sequence_number),
        "value": 8.0 + step,
        "threshold": 8.0,
        "peak": 8.5 + step,
        "score": None,
        "message": f"anode effect: cell_voltage {8 + step} V, above 8 V",
    }
    assert not changed.keys() - row.keys()
    return row | changed


def window(start: int, sequence_number: int, **changed: Any) -> dict[str, Any]:
    row = {
        "partition": P,
        "sequence_number": sequence_number,
        "item": 0,
        "enqueued_time": at(sequence_number),
        "device": "pot-001",
        "metric": "cell_voltage",
        "window_name": "10s",
        "window_start": at(start),
        "window_end": at(start + 10),
        "closed_by": "watermark",
        "count": 10,
        "mean": 4.3,
        "min": 4.0,
        "max": 4.6,
        "first": 4.1,
        "last": 4.2,
        "std": None,
        "first_time": at(start),
        "last_time": at(start + 9),
        "slope_per_s": 0.01,
        "score_max": None,
    }
    return row | changed


def latest(seconds: float, sequence_number: int, **changed: Any) -> dict[str, Any]:
    row = {
        "partition": P,
        "sequence_number": sequence_number,
        "item": 0,
        "enqueued_time": at(sequence_number),
        "device": "pot-001",
        "metric": "cell_voltage",
        "event_time": at(seconds),
        "value": 4.3,
        "quality": 192,
    }
    return row | changed


def digest(rows: list[dict[str, Any]]) -> tuple[int, str]:
    """Return the number and digest of the lake's transitions, as the sink posts them."""
    return transitions.digest(table("alarms", rows).to_batches())

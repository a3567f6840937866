"""Times of a file as microseconds, and as text with an offset where it has none: what all kinds of replay share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from alumicatalyst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Times = NDArray[np.int64]

# Stands for a time that is absent or cannot be read; earlier than any other.
UNKNOWN: Final = -(2**63)
# Years 0001 to 9999; what lies outside is no time.
_TIME_MIN_US: Final = -62_135_596_800_000_000
_TIME_MAX_US: Final = 253_402_300_799_999_999

_NAIVE: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d(?::?\d\d(?::?\d\d(?:[.,]\d+)?)?)?)?")
_OFFSET: Final = re.compile(r"([+-])(\d\d):?(\d\d)")
_BYTES: Final = pa.large_binary()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PER_UNIT: Final = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
_SAMPLES_MAX: Final = 3


def parse_offset(text: str) -> timedelta:
    """Read an offset from UTC: `Z` or `+02:00`.

    Raises:
        InputError: It is neither.
    """
    if text in {"Z", "z"}:
        return timedelta(0)
    match = _OFFSET.fullmatch(text)
    if match is None or int(match[2]) > 23 or int(match[3]) > 59:
        raise InputError(f"couldn't read --utc-offset: {text!r}; write Z, or hours and minutes as +02:00")
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return -offset if match[1] == "-" else offset


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """Times as read: microseconds since 1970, and the text to be sent instead where an offset had to be added."""

    times_us: Times
    texts: pa.Array | None


def read_times(column: pa.Array, time_format: str, offset: timedelta | None, where: str) -> TimeColumn:
    """Read a column of times.

    Args:
        column: Byte strings.
        time_format: The dictionary's.
        offset: What times without one are taken for.
        where: Column and file, for errors.

    Raises:
        InputError: A time has no offset, and none was given.
    """
    if time_format != "rfc3339":
        return TimeColumn(_epochs(column, _PER_UNIT[time_format]), None)
    try:
        texts = column.cast(pa.large_string())
    except pa.ArrowInvalid:
        return _one_by_one(column, offset, where)
    for unit in ("us", "ns"):
        try:
            times = texts.cast(pa.timestamp(unit, tz="UTC"))
            return TimeColumn(_microseconds(times), None)
        except pa.ArrowInvalid:
            continue
    try:
        times = texts.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return _one_by_one(column, offset, where)
    if not len(column):
        return TimeColumn(np.zeros(0, np.int64), None)
    times_us = _microseconds(times) - _offset_us(offset, texts[0].as_py(), where)
    return TimeColumn(times_us, rfc3339(times_us))


def _offset_us(offset: timedelta | None, text: str, where: str) -> int:
    if offset is None:
        raise InputError(
            f"couldn't tell the instant of {text!r} in {where}: it has no offset from UTC; give --utc-offset Z or such "
            "as --utc-offset +02:00"
        )
    return offset // timedelta(microseconds=1)


def _microseconds(times: pa.Array) -> Times:
    whole = times.cast(pa.timestamp("us", tz=times.type.tz), safe=False).cast(pa.int64())
    return np.asarray(whole.fill_null(UNKNOWN).to_numpy(zero_copy_only=False), dtype=np.int64)


def rfc3339(times_us: Times) -> pa.Array:
    """Return times as text with an offset of Z, to the microsecond where they have any."""
    times = times_us.astype("datetime64[us]")
    texts = np.datetime_as_string(times, unit="s")
    if (times_us % 1_000_000).any():
        texts = np.where(times_us % 1_000_000 == 0, texts, np.datetime_as_string(times, unit="us"))
    return pa.array(np.char.add(texts, "Z").astype("S")).cast(_BYTES)


def _one_by_one(column: pa.Array, offset: timedelta | None, where: str) -> TimeColumn:
    """Read times of which some are of another form than the rest, or none at all."""
    times, texts, changed = [], [], False
    for raw in column.to_pylist():
        text = raw.decode(errors="replace") if raw else ""
        time_us, naive = read_time(text, offset, where)
        times.append(time_us)
        if naive:
            changed = True
            raw = bytes(rfc3339(np.array([time_us]))[0].as_py())  # noqa: PLW2901
        texts.append(raw)
    return TimeColumn(np.array(times, dtype=np.int64), pa.array(texts, _BYTES) if changed else None)


def read_time(text: str, offset: timedelta | None, where: str) -> tuple[int, bool]:
    """Read one RFC 3339 time; return it (UNKNOWN: it is none) and whether it lacked its offset.

    Raises:
        InputError: It has no offset, and none was given.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return UNKNOWN, False
    naive = time.tzinfo is None
    if naive:
        if not _NAIVE.fullmatch(text):
            return UNKNOWN, False
        _offset_us(offset, text, where)
        time = time.replace(tzinfo=timezone(offset or timedelta(0)))
    return (time - _EPOCH) // timedelta(microseconds=1), naive


def _epochs(column: pa.Array, per_unit: int) -> Times:
    """Read numbers since 1970, exactly; what is no number is UNKNOWN."""
    try:
        whole = column.cast(pa.string()).cast(pa.int64())
        numbers = np.asarray(whole.fill_null(UNKNOWN).to_numpy(zero_copy_only=False), dtype=np.int64)
        known = (numbers >= _TIME_MIN_US // per_unit) & (numbers <= _TIME_MAX_US // per_unit)
        return np.where(known, np.where(known, numbers, 0) * per_unit, UNKNOWN)
    except pa.ArrowInvalid:
        pass
    return np.array([epoch_us(text, per_unit) for text in column.to_pylist()], dtype=np.int64)


def epoch_us(number: bytes | str | float | None, per_unit: int) -> int:
    """Return a number since 1970 in microseconds, rounded down; UNKNOWN if it is none."""
    if number is None:
        return UNKNOWN
    try:
        exact = Decimal(number.decode() if isinstance(number, bytes) else str(number)) * per_unit
        value = int(exact // 1) - (exact < 0 and exact != exact // 1)
    except (InvalidOperation, ValueError, OverflowError):
        return UNKNOWN
    return value if _TIME_MIN_US <= value <= _TIME_MAX_US else UNKNOWN


def per_unit(time_format: str) -> int:
    """Return the microseconds in a unit of an epoch format."""
    return _PER_UNIT[time_format]


def refuse_times(samples: Iterator[Any], time_format: str, where: str) -> InputError:
    """Return the error for a file of whose first rows none has a time that can be read."""
    shown = ", ".join(repr(sample) for sample, _ in zip(samples, range(_SAMPLES_MAX), strict=False))
    return InputError(
        f"couldn't read the times of {where}: {shown}; the dictionary says {time_format}: correct [payload] time "
        "there, or name another column with --time"
    )

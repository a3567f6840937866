"""Columns of a file as JSON text, and their times: what replays of CSV and Parquet share."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alumicatalyst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Times = NDArray[np.int64]

# Stands for a time that is absent or cannot be read; earlier than any other.
UNKNOWN: Final = -(2**63)
# Years 0001 to 9999; what lies outside is no time.
_TIME_MIN_US: Final = -62_135_596_800_000_000
_TIME_MAX_US: Final = 253_402_300_799_999_999

_NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"
_NOT_FINITE = r"(?i)^[+-]?(?:nan|inf|infinity)$"
_SPECIAL = r'["\\\x00-\x1f]'
_SPECIAL_BYTES: Final = re.compile(rb'["\\\x00-\x1f]')
_NAIVE: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt ]\d\d(?::?\d\d(?::?\d\d(?:[.,]\d+)?)?)?)?")
_OFFSET: Final = re.compile(r"([+-])(\d\d):?(\d\d)")
_BYTES: Final = pa.large_binary()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PER_UNIT: Final = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
_UNKNOWN_LIST_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Roles:
    """Which columns are what: the dictionary's payload mapping and the user's own words.

    Attributes:
        device: Members and "@properties" that may name the device, the first one found wins.
        time: Members that may hold the event time.
        time_format: rfc3339, epoch_s, epoch_ms or epoch_us.
        metric: The member that names the metric; None: rows are wide.
        time_column: A column to be sent as the first of `time`.
        enqueued_column: The column with the time at which a row reached the log; None: the newest event time so far.
        utc_offset: What times without an offset are taken for; None refuses them.
    """

    device: tuple[str, ...]
    time: tuple[str, ...]
    time_format: str
    metric: str | None
    time_column: str | None = None
    enqueued_column: str | None = None
    utc_offset: timedelta | None = None

    @classmethod
    def of(cls, payload: Mapping[str, Any], **words: Any) -> Roles:
        """Read the payload mapping of a compiled dictionary."""
        return cls(
            device=tuple(payload["device"]),
            time=tuple(name for name in payload["time"] if not name.startswith("@")),
            time_format=payload["time_format"],
            metric=payload["metric"],
            **words,
        )

    def member(self, column: str) -> str:
        """Return the name under which a column is sent."""
        return self.time[0] if column == self.time_column and self.time else column

    def is_text(self, member: str) -> bool:
        """Whether a member is a name, so that even `007` is no number."""
        return member in self.device or member == self.metric


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a file, each of them an envelope.

    Attributes:
        rows: Their numbers in the file, from 0, rising.
        bodies: Their bodies.
        event_us: Event times; UNKNOWN where there is none that can be read.
        enqueued_us: When they reached the log, if the file says so.
        devices: What partitions are chosen by; None: the file as a whole is one device.
        properties: Envelope properties, where rows have their own.
        unreadable: How many rows could not be taken apart and stand as they are.
    """

    rows: NDArray[np.int64]
    bodies: pa.Array
    event_us: Times
    enqueued_us: Times | None
    devices: list[bytes | None] | pa.Array | None
    properties: list[dict[str, str] | None] | None
    unreadable: int


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


def quote_texts(column: pa.Array) -> pa.Array:
    """Return byte strings as JSON strings; bytes that are not UTF-8 stay as they are, for the decoder to reject."""
    if pc.any(pc.match_substring_regex(column, _SPECIAL)).as_py():
        encoded = pc.dictionary_encode(column)
        escaped = [_SPECIAL_BYTES.sub(_escape, text) for text in encoded.dictionary.to_pylist()]
        column = pa.array(escaped, _BYTES).take(encoded.indices)
    return join([b'"', column, b'"'], len(column))


def _escape(match: re.Match[bytes]) -> bytes:
    character = match[0]
    return b"\\" + character if character in b'"\\' else b"\\u%04x" % character[0]


def join(parts: list[pa.Array | bytes], rows: int) -> pa.Array:
    """Return the concatenation of columns and constants, row by row."""
    columns = [pa.scalar(part, _BYTES) if isinstance(part, bytes) else part for part in parts]
    if all(isinstance(part, bytes) for part in parts):
        return pa.repeat(pa.scalar(b"".join(parts), _BYTES), rows)
    return pc.binary_join_element_wise(*columns, pa.scalar(b"", _BYTES))


def json_of_texts(column: pa.Array, *, as_text: bool) -> pa.Array:
    """Return the cells of a CSV as JSON: numbers with exactly their digits, nothing as null, all else strings."""
    blank = pc.equal(pc.binary_length(column), 0)
    null = pa.scalar(b"null", _BYTES)
    if as_text:
        return pc.if_else(blank, null, quote_texts(column))
    number = pc.match_substring_regex(column, _NUMBER)
    if pc.all(number).as_py():
        return column
    out = pc.if_else(blank, null, column)
    other = pc.invert(pc.or_(number, blank))
    if not pc.any(other).as_py():
        return out
    endless = pc.match_substring_regex(column, _NOT_FINITE)
    texts = pc.if_else(endless, _not_finite(column), quote_texts(column))
    return pc.if_else(other, texts, out)


def _not_finite(column: pa.Array) -> pa.Array:
    """Return the names that the decoder has for what is no number, so that it says so."""
    nan = pc.match_substring_regex(column, r"(?i)nan$")
    minus = pc.starts_with(column, b"-")
    names = [pa.scalar(name, _BYTES) for name in (b"NaN", b"-Infinity", b"Infinity")]
    return pc.if_else(nan, names[0], pc.if_else(minus, names[1], names[2]))


def objects(names: list[str], cells: list[pa.Array], rows: int) -> pa.Array:
    """Return one JSON object for each row."""
    parts: list[pa.Array | bytes] = []
    for position, (name, cell) in enumerate(zip(names, cells, strict=True)):
        lead = b"," if position else b"{"
        parts += [lead + json.dumps(name, ensure_ascii=False).encode() + b":", cell]
    return join([*parts, b"}" if names else b"{}"], rows)


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


def first_of(columns: list[pa.Array]) -> pa.Array:
    """Return row by row the first of several columns that is not empty or null."""
    filled = [
        pc.if_else(pc.greater(pc.binary_length(column), 0), column, pa.scalar(None, column.type)) for column in columns
    ]
    return pc.coalesce(*filled)


def check_columns(names: list[str], roles: Roles, path: Path) -> None:
    """Check that columns have distinct names and that those named by the user exist.

    Raises:
        InputError: One of that is not so.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"couldn't read {path}: its columns {', '.join(twice)} have the same name; rename them")
    for option, column in (("--time", roles.time_column), ("--enqueued", roles.enqueued_column)):
        if column is not None and column not in names:
            raise InputError(f"couldn't find {option} {column} in {path}: it has {', '.join(names)}")
    members = [roles.member(name) for name in names]
    if len(set(members)) < len(members):
        raise InputError(
            f"couldn't send column {roles.time_column} of {path} as {roles.time[0]}: there is a column of that name; "
            "leave --time out, or rename one"
        )
    if not any(member in roles.time for member in members):
        raise InputError(
            f"couldn't find the event time in {path}: the dictionary reads {', '.join(roles.time) or 'none'}, the "
            f"file has {', '.join(names)}; name the column with --time"
        )


def refuse_times(samples: Iterator[Any], time_format: str, where: str) -> InputError:
    """Return the error for a file of whose first rows none has a time that can be read."""
    shown = ", ".join(repr(sample) for sample, _ in zip(samples, range(_UNKNOWN_LIST_MAX), strict=False))
    return InputError(
        f"couldn't read the times of {where}: {shown}; the dictionary says {time_format}: correct [payload] time "
        "there, or name another column with --time"
    )

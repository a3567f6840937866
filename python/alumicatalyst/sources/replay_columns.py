"""Columns of a file as JSON text: what replays of CSV and Parquet share."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from alumicatalyst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from alumicatalyst.sources.replay_times import Times

_NUMBER = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"
_NOT_FINITE = r"(?i)^[+-]?(?:nan|inf|infinity)$"
_SPECIAL = r'["\\\x00-\x1f]'
_SPECIAL_BYTES: Final = re.compile(rb'["\\\x00-\x1f]')
_BYTES: Final = pa.large_binary()


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

"""The leaves of row digests (dtl1) in plain Python: read back offline for people, and written a second way for tests.

The flow's leaves are made in the core. This module shares nothing with it but the description of the format, so that
each of the two finds the other's mistakes.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn

from alumicatalyst.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MAGIC: Final = b"dtl1/rows\0"
SCHEMA_HEADER: Final = "dtl1/schema"
ROWS_MAX: Final = 64
BATCH_BYTES: Final = 16

_FIELD: Final = re.compile(r"([^\s\x00-\x1f]{1,128}) ([a-z0-9_]{1,16})")
_FIELDS_MAX: Final = 1_024
_HEAD: Final = struct.Struct(f"<{len(MAGIC)}s32s{BATCH_BYTES}sQH")
_COUNT: Final = struct.Struct("<H")
_LENGTH: Final = struct.Struct("<I")
_INT: Final = struct.Struct("<q")
_FLOAT: Final = struct.Struct("<d")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WORD: Final = 1 << 64

Value = int | float | bool | str | bytes | datetime | None


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a leaf says.

    Attributes:
        batch: The file in which its rows were first written, 16 bytes.
        first: The number of its first row in that file.
        rows: The rows: field to value.
    """

    batch: bytes
    first: int
    rows: list[dict[str, Value]]


def schema_id(schema: str) -> bytes:
    """Return the digest by which leaves and entries name a schema text."""
    return hashlib.sha256(schema.encode()).digest()


def fields(schema: str) -> list[tuple[str, str]]:
    """Return name and type of a schema text's fields.

    Raises:
        LedgerError: It is no schema text, or has a type that this software does not know.
    """
    header, *lines = schema.split("\n")
    matches = [_FIELD.fullmatch(line) for line in lines[:-1]]
    if header != SCHEMA_HEADER or lines[-1:] != [""] or not 1 <= len(matches) <= _FIELDS_MAX:
        _refuse("schema", "it does not begin or end as one")
    found = [(match[1], match[2]) if match else ("", "") for match in matches]
    names = {name for name, _ in found}
    if len(names) != len(found) or not all(kind in _KINDS for _, kind in found):
        _refuse("schema", "it has a field twice, or of a type that this version does not know")
    return found


def encode(schema: str, rows: Sequence[Mapping[str, Value]], batch: bytes, first: int) -> bytes:
    """Return the bytes of a leaf.

    Args:
        schema: The schema text.
        rows: 1 to 64 rows with a value for each field; times as microseconds or datetimes with a zone.
        batch: The file's identity, 16 bytes.
        first: Number of the first row in the file, a multiple of 64.

    Raises:
        LedgerError: A value cannot be written, or numbers are out of bounds.
    """
    if not 1 <= len(rows) <= ROWS_MAX or first % ROWS_MAX or first < 0 or len(batch) != BATCH_BYTES:
        _refuse("leaf", f"{len(rows)} rows from {first} of {batch.hex()} make none")
    parts = [_HEAD.pack(MAGIC, schema_id(schema), batch, first, len(rows))]
    for name, kind in fields(schema):
        values = [row[name] for row in rows]
        present = [value is not None for value in values]
        if all(present):
            parts.append(b"\0")
        else:
            bits = sum(1 << at for at, here in enumerate(present) if here)
            parts.append(b"\1" + bits.to_bytes((len(rows) + 7) // 8, "little"))
        try:
            parts.append(_KINDS[kind].write(values))
        except (TypeError, ValueError, OverflowError, struct.error, AttributeError) as error:
            raise LedgerError(f"couldn't write a leaf: {name} does not fit {kind}: {error}") from error
    return b"".join(parts)


def decode(schema: str, data: bytes) -> Leaf:
    """Read a leaf back; times come as datetimes in UTC.

    Raises:
        LedgerError: These are not exactly the bytes of a leaf of this schema.
    """
    if len(data) < _HEAD.size:
        _refuse("leaf", f"it has {len(data)} bytes")
    magic, identity, batch, first, count = _HEAD.unpack_from(data)
    if magic != MAGIC or identity != schema_id(schema):
        _refuse("leaf", "it is of another format or schema")
    if not 1 <= count <= ROWS_MAX or first % ROWS_MAX:
        _refuse("leaf", f"it has {count} rows from {first}")
    names = fields(schema)
    reader = _Reader(data, _HEAD.size)
    columns = []
    for _, kind in names:
        present = reader.present(count)
        values = _KINDS[kind].read(reader, count)
        columns.append([value if here else None for value, here in zip(values, present, strict=True)])
    rows: list[dict[str, Value]] = [
        dict(zip((name for name, _ in names), row, strict=True)) for row in zip(*columns, strict=True)
    ]
    # One text for one set of rows: runs that could be longer, null slots that hold something, numbers written long.
    if reader.at != len(data) or encode(schema, rows, batch, first) != data:
        _refuse("leaf", "it is not written as a leaf is")
    return Leaf(batch, first, rows)


class _Reader:
    """Takes a leaf apart, never beyond its end."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        taken = self._data[self.at : self.at + size]
        if len(taken) != size:
            _refuse("leaf", "it ends too early")
        self.at += size
        return taken

    def number(self, form: struct.Struct) -> Any:
        """Return the next number."""
        return form.unpack(self.take(form.size))[0]

    def varint(self) -> int:
        """Return the next LEB128 number of at most 64 bits."""
        found = shift = 0
        while True:
            (byte,) = self.take(1)
            found |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= 70:
                _refuse("leaf", "it has a number of more than 64 bits")
        if found >= _WORD:
            _refuse("leaf", "it has a number of more than 64 bits")
        return found

    def present(self, count: int) -> list[bool]:
        """Return which of a column's values are there."""
        (flag,) = self.take(1)
        if flag == 0:
            return [True] * count
        bits = int.from_bytes(self.take((count + 7) // 8), "little")
        return [bool(bits >> at & 1) for at in range(count)]

    def runs(self, count: int, value: Callable[[], Value]) -> Iterator[Value]:
        """Yield the values of runs, exactly so many."""
        left = count
        for _ in range(self.number(_COUNT)):
            length = self.number(_COUNT)
            left -= length
            if length == 0 or left < 0:
                _refuse("leaf", "its runs do not fit its rows")
            each = value()
            yield from (each for _ in range(length))
        if left:
            _refuse("leaf", "its runs do not fit its rows")


@dataclass(frozen=True, slots=True)
class _Kind:
    """How values of a type are written and read."""

    write: Callable[[Sequence[Any]], bytes]
    read: Callable[[_Reader, int], list[Value]]


def _microseconds(value: Any) -> int:
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1)
    return 0 if value is None else int(value)


def _time(microseconds: int) -> Value:
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        # Beyond the years that a datetime knows: the number says it as well.
        return microseconds


def _int(value: Any) -> bytes:
    return _INT.pack(0 if value is None else int(value))


def _float(value: Any) -> bytes:
    number = 0.0 if value is None else float(value)
    if math.isnan(number):
        raise ValueError("it is no number")
    return _FLOAT.pack(number + 0.0)


def _bytes(value: Any) -> bytes:
    raw = b"" if value is None else value.encode() if isinstance(value, str) else bytes(value)
    return _LENGTH.pack(len(raw)) + raw


def _plain(write: Callable[[Any], bytes], read: Callable[[_Reader], Value]) -> _Kind:
    return _Kind(
        lambda values: b"".join(write(value) for value in values),
        lambda reader, count: [read(reader) for _ in range(count)],
    )


def _runs(write: Callable[[Any], bytes], read: Callable[[_Reader], Value]) -> _Kind:
    def written(values: Sequence[Any]) -> bytes:
        found: list[tuple[bytes, int]] = []
        for value in map(write, values):
            if found and found[-1][0] == value:
                found[-1] = value, found[-1][1] + 1
            else:
                found.append((value, 1))
        return _COUNT.pack(len(found)) + b"".join(_COUNT.pack(length) + value for value, length in found)

    return _Kind(written, lambda reader, count: list(reader.runs(count, lambda: read(reader))))


def _differences(number: Callable[[Any], int], value: Callable[[int], Value]) -> _Kind:
    """Zigzag LEB128 of the wrapping difference to the row before; a null counts as 0."""

    def written(values: Sequence[Any]) -> bytes:
        made, before = bytearray(), 0
        for each in values:
            now = 0 if each is None else number(each)
            _INT.pack(now)
            difference = _signed(now - before)
            zigzag = (difference << 1 ^ difference >> 63) % _WORD
            while zigzag >= 0x80:
                made.append(zigzag & 0x7F | 0x80)
                zigzag >>= 7
            made.append(zigzag)
            before = now
        return bytes(made)

    def read(reader: _Reader, count: int) -> list[Value]:
        found: list[Value] = []
        before = 0
        for _ in range(count):
            zigzag = reader.varint()
            before = _signed(before + (zigzag >> 1 ^ -(zigzag & 1)))
            found.append(value(before))
        return found

    return _Kind(written, read)


def _signed(number: int) -> int:
    """Wrap a number to 64 bits."""
    return (number + _WORD // 2) % _WORD - _WORD // 2


def _bool(reader: _Reader) -> Value:
    return reader.take(1) != b"\0"


def _text(reader: _Reader) -> Value:
    raw = reader.take(reader.number(_LENGTH))
    try:
        return raw.decode()
    except UnicodeDecodeError:
        _refuse("leaf", "it has a text that is not UTF-8")


_KINDS: Final = {
    "ts_us": _plain(lambda value: _INT.pack(_microseconds(value)), lambda reader: _time(reader.number(_INT))),
    "i64": _plain(_int, lambda reader: reader.number(_INT)),
    "f64": _plain(_float, lambda reader: reader.number(_FLOAT)),
    "bool": _plain(lambda value: bytes([bool(value)]), _bool),
    "code": _runs(_int, lambda reader: reader.number(_INT)),
    "str": _runs(_bytes, _text),
    "bytes": _runs(_bytes, lambda reader: reader.take(reader.number(_LENGTH))),
    "f64r": _runs(_float, lambda reader: reader.number(_FLOAT)),
    "i64d": _differences(int, lambda number: number),
    "tsd": _differences(_microseconds, _time),
}


def _refuse(what: str, why: str) -> NoReturn:
    raise LedgerError(f"couldn't read a {what} of row digests: {why}; it was not written by this software")

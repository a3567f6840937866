"""Reads AMQP 1.0 values, messages and frames from bytes that a peer has sent.

Every length is checked before it is believed, nesting is bounded, and the only exception that leaves this module for
bad bytes is `DecodeError`.
"""

from __future__ import annotations

import struct
import uuid
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.testing.eventhubs.amqp import (
    FOOTER,
    HEADER,
    Described,
    Long,
    Symbol,
    Timestamp,
    UByte,
    UInt,
    ULong,
    UShort,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEPTH_MAX: Final = 16
# Array elements such as null take no bytes at all, so their number is not bounded by the size of the frame.
EMPTY_ELEMENTS_MAX: Final = 1024


class DecodeError(ValueError):
    """The bytes are not what AMQP 1.0 allows here."""


def _unsigned(kind: Callable[[int], Any]) -> Callable[[bytes], Any]:
    return lambda raw: kind(int.from_bytes(raw, "big"))


def _signed(kind: Callable[[int], Any]) -> Callable[[bytes], Any]:
    return lambda raw: kind(int.from_bytes(raw, "big", signed=True))


# Constructor -> (width in bytes, value from those bytes).
_FIXED: dict[int, tuple[int, Callable[[bytes], Any]]] = {
    0x40: (0, lambda _: None),
    0x41: (0, lambda _: True),
    0x42: (0, lambda _: False),
    0x43: (0, lambda _: UInt(0)),
    0x44: (0, lambda _: ULong(0)),
    0x45: (0, lambda _: []),
    0x50: (1, _unsigned(UByte)),
    0x51: (1, _signed(int)),
    0x52: (1, _unsigned(UInt)),
    0x53: (1, _unsigned(ULong)),
    0x54: (1, _signed(int)),
    0x55: (1, _signed(Long)),
    0x56: (1, lambda raw: raw != b"\x00"),
    0x60: (2, _unsigned(UShort)),
    0x61: (2, _signed(int)),
    0x70: (4, _unsigned(UInt)),
    0x71: (4, _signed(int)),
    0x72: (4, lambda raw: struct.unpack(">f", raw)[0]),
    0x73: (4, bytes),
    0x74: (4, bytes),
    0x80: (8, _unsigned(ULong)),
    0x81: (8, _signed(Long)),
    0x82: (8, lambda raw: struct.unpack(">d", raw)[0]),
    0x83: (8, _signed(Timestamp)),
    0x84: (8, bytes),
    0x94: (16, bytes),
    0x98: (16, lambda raw: uuid.UUID(bytes=raw)),
}


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DecodeError("a string is not UTF-8") from error


# Constructor -> (bytes of the length, value from the bytes).
_VARIABLE: dict[int, tuple[int, Callable[[bytes], Any]]] = {
    0xA0: (1, bytes),
    0xA1: (1, _text),
    0xA3: (1, lambda raw: Symbol(_text(raw))),
    0xB0: (4, bytes),
    0xB1: (4, _text),
    0xB3: (4, lambda raw: Symbol(_text(raw))),
}
_COMPOUND = frozenset((0xC0, 0xC1, 0xD0, 0xD1, 0xE0, 0xF0))


def _cut_short(end: int) -> DecodeError:
    return DecodeError(f"a value runs past byte {end}, the end of what holds it")


def decode(data: bytes, at: int, end: int, depth: int = 0) -> tuple[Any, int]:
    """Read the value that starts at `at` and must not run past `end`: (value, position after it)."""
    if depth > DEPTH_MAX:
        raise DecodeError(f"values nest deeper than {DEPTH_MAX}")
    if at >= end:
        raise _cut_short(end)
    code = data[at]
    if code == 0:
        descriptor, at = decode(data, at + 1, end, depth + 1)
        value, at = decode(data, at, end, depth + 1)
        return Described(descriptor, value), at
    return _decode_body(code, data, at + 1, end, depth)


def _decode_body(code: int, data: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    fixed = _FIXED.get(code)
    if fixed is not None:
        stop = at + fixed[0]
        if stop > end:
            raise _cut_short(end)
        return fixed[1](data[at:stop]), stop
    variable = _VARIABLE.get(code)
    if variable is not None:
        start = at + variable[0]
        stop = start + int.from_bytes(data[at:start], "big")
        if start > end or stop > end:
            raise _cut_short(end)
        return variable[1](data[start:stop]), stop
    if code not in _COMPOUND:
        raise DecodeError(f"0x{code:02x} is no constructor")
    start, stop, count = _compound(code, data, at, end)
    if code in (0xE0, 0xF0):
        return _decode_array(data, start, stop, count, depth), stop
    if count > stop - start:
        raise DecodeError(f"{count} elements in {stop - start} bytes")
    items = []
    for _ in range(count):
        item, start = decode(data, start, stop, depth + 1)
        items.append(item)
    if code in (0xC0, 0xD0):
        return items, stop
    if count % 2:
        raise DecodeError("a map has a key without a value")
    try:
        return dict(zip(items[::2], items[1::2], strict=True)), stop
    except TypeError as error:
        raise DecodeError("a key of a map is a list or a map") from error


def _compound(code: int, data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Of a list, map or array whose size is at `at`: (start of the elements, end, number of them)."""
    width = 4 if code & 0x10 else 1
    stop = at + width + int.from_bytes(data[at : at + width], "big")
    start = at + 2 * width
    if start > stop or stop > end:
        raise _cut_short(end)
    return start, stop, int.from_bytes(data[at + width : start], "big")


def _decode_array(data: bytes, at: int, end: int, count: int, depth: int) -> list[Any]:
    if count == 0:
        return []
    if at < end and data[at] == 0:
        _, at = decode(data, at + 1, end, depth + 1)
    if at >= end:
        raise _cut_short(end)
    code = data[at]
    at += 1
    if count > max(end - at, EMPTY_ELEMENTS_MAX) or depth >= DEPTH_MAX:
        raise DecodeError(f"an array of {count} elements in {end - at} bytes")
    items = []
    for _ in range(count):
        item, at = _decode_body(code, data, at, end, depth + 1)
        items.append(item)
    return items


def skip(data: bytes, at: int, end: int, depth: int = 0) -> int:
    """The position after the value that starts at `at`, without looking into it."""
    if depth > DEPTH_MAX:
        raise DecodeError(f"values nest deeper than {DEPTH_MAX}")
    if at >= end:
        raise _cut_short(end)
    code = data[at]
    at += 1
    if code == 0:
        return skip(data, skip(data, at, end, depth + 1), end, depth + 1)
    if code in _FIXED:
        stop = at + _FIXED[code][0]
    elif code in _VARIABLE or code in _COMPOUND:
        start = at + (4 if code & 0x10 else 1)
        stop = start + int.from_bytes(data[at:start], "big")
        if start > end:
            raise _cut_short(end)
    else:
        raise DecodeError(f"0x{code:02x} is no constructor")
    if stop > end:
        raise _cut_short(end)
    return stop


def map_entries(data: bytes, at: int, end: int) -> Iterator[tuple[Any, int, int, int]]:
    """Walk a map: (key, start of the key, start of its value, end of its value) for each entry."""
    if at >= end or data[at] not in (0xC1, 0xD1):
        raise DecodeError("not a map")
    start, stop, count = _compound(data[at], data, at + 1, end)
    if count % 2 or count > stop - start:
        raise DecodeError(f"a map of {count} keys and values in {stop - start} bytes")
    for _ in range(count // 2):
        key, value_at = decode(data, start, stop)
        following = skip(data, value_at, stop)
        yield key, start, value_at, following
        start = following


def sections(message: bytes) -> list[tuple[int, int, int, int]]:
    """Find the sections of an encoded message: (descriptor, start, start of the value, end) of each, in order."""
    at, end, last = 0, len(message), 0
    found: list[tuple[int, int, int, int]] = []
    code: Any
    while at < end:
        if message[at] != 0:
            raise DecodeError("a section without a descriptor")
        if message[at + 1 : at + 2] == b"\x53" and at + 2 < end:
            code, value_at = message[at + 2], at + 3
        else:
            code, value_at = decode(message, at + 1, end)
        if not isinstance(code, int) or not HEADER <= code <= FOOTER or code < last:
            raise DecodeError(f"a section {code!r} after a section {last:#x}")
        stop = skip(message, value_at, end)
        found.append((code, at, value_at, stop))
        at, last = stop, code
    return found


def performative(body: bytes) -> tuple[int, list[Any], int]:
    """Read the body of a frame: (descriptor, fields padded with nulls to the widest performative, payload's start)."""
    described, at = decode(body, 0, len(body))
    if not isinstance(described, Described) or not isinstance(described.value, list):
        raise DecodeError("a frame without a performative")
    if not isinstance(described.descriptor, int):
        raise DecodeError("a performative that is named by a symbol")
    return int(described.descriptor), described.value + [None] * (14 - len(described.value)), at

"""The part of AMQP 1.0 that an Event Hubs broker writes: types, values, frames; and the numbers of the standard.

The numbers are those of OASIS "AMQP 1.0 part 1: types" and "part 2: transport". Reading is in `decode`.
"""

from __future__ import annotations

import struct
import uuid
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# A batch that the SDK sends is one transfer of this message format; each data section is one encoded event.
BATCH_FORMAT: Final = 0x80013700

OPEN, BEGIN, ATTACH, FLOW, TRANSFER, DISPOSITION, DETACH, END, CLOSE = range(0x10, 0x19)
SASL_MECHANISMS, SASL_INIT, SASL_OUTCOME = 0x40, 0x41, 0x44
HEADER, DELIVERY_ANNOTATIONS, MESSAGE_ANNOTATIONS, PROPERTIES, APPLICATION_PROPERTIES = range(0x70, 0x75)
DATA, SEQUENCE, VALUE, FOOTER = range(0x75, 0x79)


class Symbol(str):
    """An ASCII name from a fixed vocabulary, as opposed to a text."""

    __slots__ = ()


class Long(int):
    """A signed 64-bit number, also where it would fit in 32 bits."""


class ULong(int):
    """An unsigned 64-bit number."""


class UInt(int):
    """An unsigned 32-bit number."""


class UShort(int):
    """An unsigned 16-bit number."""


class UByte(int):
    """An unsigned 8-bit number."""


class Timestamp(int):
    """Milliseconds since 1970 UTC."""


class Described:
    """A value with a descriptor that says what it is."""

    __slots__ = ("descriptor", "value")

    def __init__(self, descriptor: Any, value: Any) -> None:
        self.descriptor = descriptor
        self.value = value


def _sized(small: int, large: int, body: bytes) -> bytes:
    if len(body) < 256:
        return bytes((small, len(body))) + body
    return struct.pack(">BI", large, len(body)) + body


def _encode_int(value: int) -> bytes:
    return struct.pack(">Bi", 0x71, value) if -(2**31) <= value < 2**31 else struct.pack(">Bq", 0x81, value)


def _encode_ulong(value: int) -> bytes:
    return bytes((0x53, value)) if value < 256 else struct.pack(">BQ", 0x80, value)


def _encode_map(value: dict[Any, Any]) -> bytes:
    body = b"".join(encode(key) + encode(item) for key, item in value.items())
    return struct.pack(">BII", 0xD1, len(body) + 4, 2 * len(value)) + body


def encode_list(values: Sequence[Any]) -> bytes:
    """A list with every element written out.

    Trailing nulls may be left out in AMQP, but azure-eventhub 5.15.1 reads the fields of a performative by a fixed
    index and fails on a shorter list.
    """
    body = b"".join(map(encode, values))
    if len(body) < 255 and len(values) < 256:
        return bytes((0xC0, len(body) + 1, len(values))) + body
    return struct.pack(">BII", 0xD0, len(body) + 4, len(values)) + body


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"\x40",
    bool: lambda value: b"\x41" if value else b"\x42",
    Symbol: lambda value: _sized(0xA3, 0xB3, value.encode("ascii", "replace")),
    str: lambda value: _sized(0xA1, 0xB1, value.encode()),
    bytes: lambda value: _sized(0xA0, 0xB0, value),
    int: _encode_int,
    Long: lambda value: struct.pack(">Bq", 0x81, value),
    ULong: _encode_ulong,
    UInt: lambda value: struct.pack(">BI", 0x70, value),
    UShort: lambda value: struct.pack(">BH", 0x60, value),
    UByte: lambda value: struct.pack(">BB", 0x50, value),
    Timestamp: lambda value: struct.pack(">Bq", 0x83, value),
    float: lambda value: struct.pack(">Bd", 0x82, value),
    uuid.UUID: lambda value: b"\x98" + value.bytes,
    dict: _encode_map,
    list: encode_list,
    tuple: encode_list,
    Described: lambda value: b"\x00" + encode(value.descriptor) + encode(value.value),
}


def encode(value: Any) -> bytes:
    """Write one value. The Python type chooses the AMQP type; the classes above tell apart what Python does not."""
    try:
        return _ENCODERS[type(value)](value)
    except KeyError:
        raise TypeError(f"no AMQP type for {type(value).__name__}") from None


def frame(channel: int, code: int, fields: Sequence[Any], payload: bytes = b"", kind: int = 0) -> bytes:
    """One frame with a performative; `kind` 1 is a SASL frame."""
    body = described(code, encode_list(fields)) + payload
    return struct.pack(">IBBH", len(body) + 8, 2, kind, channel) + body


def described(code: int, encoded: bytes) -> bytes:
    """A section or performative around an encoded value."""
    return bytes((0x00, 0x53, code)) + encoded


def sasl_mechanisms(names: Sequence[str]) -> bytes:
    """The frame with which a server says how one may log in: an array of symbols."""
    symbols = b"\xa3" + b"".join(bytes((len(name),)) + name.encode("ascii") for name in names)
    array = bytes((0xE0, len(symbols) + 1, len(names))) + symbols
    body = described(SASL_MECHANISMS, bytes((0xC0, len(array) + 1, 1)) + array)
    return struct.pack(">IBBH", len(body) + 8, 2, 1, 0) + body

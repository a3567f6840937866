"""Reads NDJSON files: a line is a body as it stands, or an envelope as `simulate` writes it."""

from __future__ import annotations

import base64
import json
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from alumicatalyst.errors import InputError
from alumicatalyst.sources.replay_columns import Block
from alumicatalyst.sources.replay_times import UNKNOWN, epoch_us, per_unit, read_time, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from alumicatalyst.sources.replay_columns import Roles

_BLOCK_BYTES: Final = 4 << 20
# A longer line is cut: the decoder rejects it, and memory stays bounded.
LINE_BYTES_MAX: Final = 8 << 20
_BOM: Final = b"\xef\xbb\xbf"
_ENVELOPE_KEYS: Final = {"enqueued_time", "partition_key", "properties", "body", "body_base64"}

_Members = dict[str, msgspec.Raw]
_decode_members = msgspec.json.Decoder(_Members).decode
_decode_list = msgspec.json.Decoder(list[_Members]).decode
_decode_any = msgspec.json.Decoder(Any).decode


def line_blocks(file: IO[bytes], path: Path, roles: Roles) -> Iterator[Block]:
    """Read an NDJSON file.

    Raises:
        InputError: A time lacks its offset and none was given, or no line of the beginning has a time.
    """
    reader: _Envelopes | _Bodies | None = None
    for row, lines in _lines(file):
        if reader is None:
            first = next((line for line in lines if line), b"")
            if not first:
                continue
            reader = _Envelopes(roles, path) if _is_envelope(first) else _Bodies(roles, path)
        yield reader.block(row, lines)


def _lines(file: IO[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Return the lines of a file, block by block, with the number of the first one."""
    row, carry = 0, file.read(len(_BOM)).removeprefix(_BOM)
    overlong = False
    while True:
        more = file.read(_BLOCK_BYTES)
        if not more:
            if carry and not overlong:
                yield row, [carry.rstrip(b"\r")]
            return
        lines = (carry + more).split(b"\n")
        carry = lines.pop()
        if overlong and lines:
            # The rest of a line whose beginning was handed out.
            lines, overlong = lines[1:], False
        elif overlong:
            carry = b""
        if lines:
            yield row, [line.rstrip(b"\r") for line in lines]
            row += len(lines)
        if len(carry) > LINE_BYTES_MAX:
            yield row, [carry[:LINE_BYTES_MAX]]
            row, carry, overlong = row + 1, b"", True


def _is_envelope(line: bytes) -> bool:
    try:
        members = _decode_members(line)
    except msgspec.DecodeError:
        return False
    return (
        "enqueued_time" in members and bool({"body", "body_base64"} & set(members)) and set(members) <= _ENVELOPE_KEYS
    )


def _text(raw: msgspec.Raw | None) -> str | None:
    """Return the string that a piece of JSON is, if it is one."""
    if raw is None or not bytes(raw).startswith(b'"'):
        return None
    value = _decode_any(raw)
    return value if isinstance(value, str) else None


class _Bodies:
    """Takes each line for the body of an envelope, verbatim."""

    def __init__(self, roles: Roles, path: Path) -> None:
        self._roles = roles
        self._path = path
        self._seen_time = False

    def block(self, first_row: int, lines: list[bytes]) -> Block:
        rows, bodies, times, enqueued, devices = [], [], [], [], []
        unreadable = 0
        for row, line in enumerate(lines, first_row):
            if not line.strip():
                continue
            rows.append(row)
            body, time, arrival, device = line, UNKNOWN, UNKNOWN, None
            try:
                if line.lstrip()[:1] == b"[":
                    found = _decode_list(line)
                    many = True
                else:
                    found, many = [_decode_members(line)], False
                changed = False
                for members in found:
                    reading_time, rewritten = self._time(members)
                    time, changed = max(time, reading_time), changed or rewritten
                if changed:
                    body = _written(found, many=many)
                if found:
                    device = self._device(found[0])
                    arrival = self._enqueued(found[-1])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                # Not JSON, or no object: the decoder says why it rejects it.
                unreadable += 1
            bodies.append(body)
            times.append(time)
            enqueued.append(arrival)
            devices.append(device)
        event_us = np.array(times, dtype=np.int64)
        if not self._seen_time and rows:
            self._seen_time = bool((event_us != UNKNOWN).any())
            if not self._seen_time:
                raise InputError(
                    f"couldn't find event times in {self._path}: no line at its beginning has one under "
                    f"{' or '.join(self._roles.time) or 'any name'} as {self._roles.time_format}; correct [payload] "
                    "time in the dictionary, or name the member with --time"
                )
        return Block(
            rows=np.array(rows, dtype=np.int64),
            bodies=pa.array(bodies, pa.large_binary()),
            event_us=event_us,
            enqueued_us=np.array(enqueued, dtype=np.int64) if self._roles.enqueued_column is not None else None,
            devices=devices,
            properties=None,
            unreadable=unreadable,
        )

    def _time(self, members: _Members) -> tuple[int, bool]:
        """Return the event time of an object; where it had to be written anew, change the object and say so."""
        roles, changed = self._roles, False
        if roles.time_column in members and roles.time and roles.time_column != roles.time[0]:
            members[roles.time[0]] = members.pop(roles.time_column)
            changed = True
        for name in roles.time:
            raw = members.get(name)
            if raw is None or bytes(raw) == b"null":
                continue
            if roles.time_format != "rfc3339":
                return epoch_us(bytes(raw), per_unit(roles.time_format)), changed
            text = _text(raw)
            if text is None:
                return UNKNOWN, changed
            time, naive = read_time(text, roles.utc_offset, f"member {name} of {self._path}")
            if naive:
                written = b'"' + rfc3339(np.array([time]))[0].as_py() + b'"'
                members[name] = msgspec.Raw(written)
            return time, changed or naive
        return UNKNOWN, changed

    def _enqueued(self, members: _Members) -> int:
        name = self._roles.enqueued_column
        text = None if name is None else _text(members.get(name))
        return UNKNOWN if text is None else read_time(text, self._roles.utc_offset, f"member {name} of {self._path}")[0]

    def _device(self, members: _Members) -> bytes | None:
        for name in self._roles.device:
            text = _text(members.get(name))
            if text:
                return text.encode()
        return None


def _written(found: list[_Members], *, many: bool) -> bytes:
    """Return objects as JSON, their values with exactly the text that they had."""
    objects = [
        b"{"
        + b",".join(json.dumps(name, ensure_ascii=False).encode() + b":" + bytes(raw) for name, raw in one.items())
        + b"}"
        for one in found
    ]
    return b"[" + b",".join(objects) + b"]" if many else objects[0]


class _Envelopes:
    """Takes each line for an envelope: {"enqueued_time", "partition_key", "properties"?, "body" or "body_base64"}."""

    def __init__(self, roles: Roles, path: Path) -> None:
        self._path = path
        if roles.enqueued_column is not None or roles.time_column is not None:
            raise InputError(
                f"couldn't use --enqueued or --time with {path}: its lines are envelopes, which carry their own times"
            )

    def block(self, first_row: int, lines: list[bytes]) -> Block:
        rows, bodies, enqueued, keys, properties = [], [], [], [], []
        unreadable = 0
        for row, line in enumerate(lines, first_row):
            if not line.strip():
                continue
            rows.append(row)
            try:
                body, time, key, own = self._envelope(line)
            except (msgspec.DecodeError, ValueError, KeyError, RecursionError):
                body, time, key, own = line, UNKNOWN, None, None
                unreadable += 1
            bodies.append(body)
            enqueued.append(time)
            keys.append(key)
            properties.append(own)
        times = np.array(enqueued, dtype=np.int64)
        return Block(
            rows=np.array(rows, dtype=np.int64),
            bodies=pa.array(bodies, pa.large_binary()),
            event_us=times,
            enqueued_us=times,
            devices=keys,
            properties=properties,
            unreadable=unreadable,
        )

    def _envelope(self, line: bytes) -> tuple[bytes, int, bytes | None, dict[str, str] | None]:
        members = _decode_members(line)
        time, _ = read_time(_text(members["enqueued_time"]) or "", None, f"enqueued_time of {self._path}")
        key = _text(members.get("partition_key"))
        own = None
        if "properties" in members:
            own = msgspec.json.decode(members["properties"], type=dict[str, str])
        encoded = members.get("body_base64")
        body = bytes(members["body"]) if encoded is None else base64.b64decode(_text(encoded) or "", validate=True)
        return body, time, None if key is None else key.encode(), own

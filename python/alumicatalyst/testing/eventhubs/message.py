"""Turns what a producer sent into what a consumer receives: batches are split, the broker's annotations are put on."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.testing.eventhubs.amqp import (
    APPLICATION_PROPERTIES,
    DATA,
    FOOTER,
    MESSAGE_ANNOTATIONS,
    PROPERTIES,
    Symbol,
    described,
    encode,
)
from alumicatalyst.testing.eventhubs.decode import DecodeError, decode, map_entries, sections

if TYPE_CHECKING:
    from collections.abc import Mapping

PARTITION_KEY: Final = "x-opt-partition-key"
_OWNED: Final = frozenset(("x-opt-sequence-number", "x-opt-offset", "x-opt-enqueued-time"))
_SEQUENCE_KEY: Final = encode(Symbol("x-opt-sequence-number")) + b"\x81"
_OFFSET_KEY: Final = encode(Symbol("x-opt-offset"))
_TIME_KEY: Final = encode(Symbol("x-opt-enqueued-time")) + b"\x83"


class Event:
    """One event on its way into a partition: the producer's annotations and the sections behind them, still encoded."""

    __slots__ = ("annotation_count", "annotations", "body", "partition_key")

    def __init__(self, raw: bytes) -> None:
        self.annotations = b""
        self.annotation_count = 0
        self.partition_key: str | None = None
        kept_from, has_body = len(raw), False
        for code, start, value_at, end in sections(raw):
            if code == MESSAGE_ANNOTATIONS:
                self._annotate(raw, value_at, end)
            elif code >= PROPERTIES:
                # Sections are in order, so everything from the first of these on reaches the consumer unchanged.
                kept_from = min(kept_from, start)
                has_body = has_body or DATA <= code < FOOTER
        if not has_body:
            raise DecodeError("an event without a body")
        self.body = raw[kept_from:]

    def _annotate(self, raw: bytes, value_at: int, end: int) -> None:
        kept = []
        for key, start, entry_at, stop in map_entries(raw, value_at, end):
            if key in _OWNED:
                continue
            kept.append(raw[start:stop])
            if key == PARTITION_KEY:
                value, _ = decode(raw, entry_at, stop)
                self.partition_key = value if isinstance(value, str) else None
        self.annotations = b"".join(kept)
        self.annotation_count = 2 * len(kept)

    def stored(self, sequence_number: int, offset: int, enqueued_ms: int) -> bytes:
        """The message as every consumer will get it."""
        annotations = b"".join(
            (
                self.annotations,
                _SEQUENCE_KEY,
                struct.pack(">q", sequence_number),
                _OFFSET_KEY,
                encode(str(offset)),
                _TIME_KEY,
                struct.pack(">q", enqueued_ms),
            )
        )
        head = struct.pack(">3sBII", b"\x00\x53\x72", 0xD1, len(annotations) + 4, self.annotation_count + 6)
        return head + annotations + self.body


def split(raw: bytes, *, batch: bool) -> tuple[list[Event], str | None]:
    """The events of one transfer and the partition key that it asks for.

    Raises:
        DecodeError: The transfer, or any event in it, is not a well-formed message; then none of it counts.
    """
    if not batch:
        event = Event(raw)
        return [event], event.partition_key
    key, events = None, []
    for code, _, value_at, end in sections(raw):
        if code == MESSAGE_ANNOTATIONS:
            for name, _, entry_at, stop in map_entries(raw, value_at, end):
                if name == PARTITION_KEY:
                    key, _ = decode(raw, entry_at, stop)
        elif code == DATA:
            body, _ = decode(raw, value_at, end)
            if not isinstance(body, bytes):
                raise DecodeError("a data section without binary data")
            events.append(Event(body))
    if not events:
        raise DecodeError("a batch without events")
    return events, key if isinstance(key, str) else None


def event_from(
    body: bytes, properties: Mapping[str, Any] | None = None, annotations: Mapping[str, Any] | None = None
) -> Event:
    """An event made in this process, as if a producer had sent it."""
    raw = b""
    if annotations:
        raw += described(MESSAGE_ANNOTATIONS, encode({Symbol(name): v for name, v in annotations.items()}))
    if properties:
        raw += described(APPLICATION_PROPERTIES, encode(dict(properties)))
    return Event(raw + described(DATA, encode(body)))

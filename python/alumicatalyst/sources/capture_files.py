"""Reads the Avro files of Event Hubs Capture: what each holds, and its events, whatever bytes it turns out to be."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# {Namespace}/{EventHub}/{PartitionId}/{Year}/{Month}/{Day}/{Hour}/{Minute}/{Second}, with any of these in between.
_LAYOUT: Final = re.compile(r"(?:([^/]+)/)?([A-Za-z0-9-]{1,40})[/_-](\d{4})((?:[/_-]\d{2}){5})\.avro", re.IGNORECASE)
_US_TIME: Final = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d{2}):(\d{2})(?:\.(\d{1,7}))? ([AP]M)")
_ENQUEUED: Final = "x-opt-enqueued-time"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BLOCK_BYTES: Final = 1 << 20
# What Capture writes each member as; others are passed over, so they may be of any of these types too.
_TYPES: Final = {
    "SequenceNumber": {"long", "int"},
    "Offset": {"string", "null", "long", "int"},
    "EnqueuedTimeUtc": {"string"},
    "SystemProperties": {"map", "null"},
    "Properties": {"map", "null"},
    "Body": {"bytes", "null"},
}
_REQUIRED: Final = ("SequenceNumber", "EnqueuedTimeUtc", "Body")
_PLAIN: Final = {"null", "boolean", "int", "long", "float", "double", "string", "bytes"}


@dataclass(frozen=True, slots=True)
class Event:
    """One captured event.

    Attributes:
        sequence_number: The hub's own.
        enqueued_us: When it reached the hub, in microseconds.
        offset: The hub's own; None where there is none.
        body: Its bytes.
        system: What the service put on.
        properties: What the sender put on.
    """

    sequence_number: int
    enqueued_us: int
    offset: str | None
    body: bytes
    system: dict[str, Any]
    properties: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CaptureFile:
    """A file as it was when the replay began.

    Attributes:
        path: Where it is.
        hub: The hub that its path names, None if it names none.
        partition: The partition that its path names, None if it names none.
        name: The part of its path that tells it from the others.
        size: Bytes.
        sha256: Its digest.
        events: How many events it holds; none, as Capture writes where nothing came, is fine.
        first: Its first sequence number.
        last: Its last one.
    """

    path: Path
    hub: str | None
    partition: str | None
    name: str
    size: int
    sha256: str
    events: int
    first: int
    last: int

    @classmethod
    def of(cls, path: Path) -> CaptureFile:
        """Look at a file, and read it for its digest and its numbers.

        Raises:
            InputError: It is missing, damaged, or none of Capture's.
        """
        hub, partition, name = None, None, path.name
        found = _LAYOUT.search(path.as_posix())
        if found and found.end() == len(path.as_posix()):
            hub, partition, name = found[1], found[2], f"{found[2]}/{found[3]}{found[4]}"
        digest, size = hashlib.sha256(), 0
        events, first, last = 0, -1, -1
        with _reported(path):
            with path.open("rb") as file:
                while part := file.read(_BLOCK_BYTES):
                    digest.update(part)
                    size += len(part)
            for block in _blocks(path):
                numbers = [int(record["SequenceNumber"]) for record in block]
                if not numbers:
                    continue
                if min(numbers) < 0 or numbers != sorted(numbers) or (events and numbers[0] < last):
                    raise ValueError("its sequence numbers do not rise")
                first = first if events else numbers[0]
                last = numbers[-1]
                events += len(numbers)
        return cls(path, hub, partition, name, size, digest.hexdigest(), events, first, last)

    def read(self) -> Iterator[Event]:
        """Yield its events.

        Raises:
            InputError: It has changed, or is damaged.
        """
        with _reported(self.path):
            for block in _blocks(self.path):
                for record in block:
                    yield _event(record)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except (InputError, GeneratorExit):
        raise
    except OSError as error:
        raise InputError(f"couldn't read {path}: {error.strerror or error}; check the path") from None
    except Exception as error:
        # Avro's reader raises whatever the bytes lead it to.
        raise InputError(
            f"couldn't read {path}: {str(error) or type(error).__name__}; it is damaged, cut short, or no file of "
            "Event Hubs Capture: fetch it again"
        ) from error


def _blocks(path: Path) -> Iterator[Any]:
    try:
        import fastavro
    except ModuleNotFoundError as error:
        raise InputError(
            "couldn't read Avro files: fastavro is not installed; install alumicatalyst[capture]"
        ) from error
    with path.open("rb") as file:
        reader = fastavro.block_reader(file)
        _check_schema(reader.writer_schema)
        yield from reader


def _check_schema(schema: Any) -> None:
    """Raise ValueError unless records are Capture's: no other schema is let loose on bytes from anywhere."""
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ValueError("its records are not events")
    fields = {field["name"]: field["type"] for field in schema["fields"]}
    missing = [name for name in _REQUIRED if name not in fields]
    if missing:
        raise ValueError(f"its records have no {missing[0]}, without which there is no order of events")
    for name, kind in fields.items():
        allowed = _TYPES.get(name, _PLAIN)
        for each in kind if isinstance(kind, list) else [kind]:
            inner = each.get("type") if isinstance(each, dict) else each
            if inner not in allowed:
                raise ValueError(f"{name} is of type {inner}")
            if inner == "map":
                values = each["values"]
                if (
                    not {v if isinstance(v, str) else "" for v in (values if isinstance(values, list) else [values])}
                    <= _PLAIN
                ):
                    raise ValueError(f"{name} holds more than plain values")


def _event(record: dict[str, Any]) -> Event:
    system, offset = record.get("SystemProperties") or {}, record.get("Offset")
    precise = system.get(_ENQUEUED)
    return Event(
        sequence_number=int(record["SequenceNumber"]),
        # The text ends at seconds, the annotation at milliseconds.
        enqueued_us=precise * 1000 if type(precise) is int else time_us(record["EnqueuedTimeUtc"]),
        offset=None if offset is None else str(offset),
        body=record["Body"] or b"",
        system=system,
        properties=record.get("Properties") or {},
    )


def time_us(text: str) -> int:
    """Return a time as Capture writes it, `1/31/2026 3:04:05 PM`, or as RFC 3339 has it, in microseconds.

    Raises:
        ValueError: It is neither.

    Example:
        >>> time_us("1/1/1970 12:00:01 AM")
        1000000
    """
    us = _US_TIME.fullmatch(text)
    if us:
        month, day, year, hour, minute, second = (int(each) for each in us.groups()[:6])
        if not 1 <= hour <= 12:
            raise ValueError(f"the time {text!r} has no such hour")
        time = datetime(year, month, day, hour % 12 + 12 * (us[8] == "PM"), minute, second, tzinfo=UTC)
        return (time - _EPOCH) // timedelta(microseconds=1) + int((us[7] or "").ljust(6, "0")[:6])
    # Of seven digits, as .NET writes them, Python takes six.
    time = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)

"""A namespace apart from the wire: its hubs, what links and requests lead to, and how hubs are kept in a directory."""

from __future__ import annotations

import json
import os
import re
import time
import zlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from alumicatalyst.testing.eventhubs.amqp import Timestamp
from alumicatalyst.testing.eventhubs.decode import DecodeError
from alumicatalyst.testing.eventhubs.log import RETENTION_BYTES, SEGMENT_BYTES, PartitionLog
from alumicatalyst.testing.eventhubs.message import split
from alumicatalyst.testing.eventhubs.partition import NOT_FOUND, HubError, Partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

PARTITIONS_MAX: Final = 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Hub:
    """A named set of partitions. Its creation time tells it from an earlier hub of the same name."""

    def __init__(self, name: str, created_ms: int, partitions: list[Partition], groups: Iterable[str]) -> None:
        self.name = name
        self.created_ms = created_ms
        self.partitions = {partition.name: partition for partition in partitions}
        self.groups = {"$default", *(group.lower() for group in groups)}
        self._next = 0

    def choose(self, key: str | None) -> Partition:
        """The partition of a key; without one, the next in turn."""
        if key is None:
            self._next += 1
            number = self._next - 1
        else:
            number = zlib.crc32(key.encode("utf-8", "surrogatepass"))
        return self.partitions[str(number % len(self.partitions))]

    def partition(self, name: str) -> Partition:
        """The partition of that name; HubError if there is none."""
        try:
            return self.partitions[name]
        except KeyError:
            raise HubError(
                "com.microsoft:argument-out-of-range",
                "The specified partition is invalid for an EventHub "
                "partition sender or receiver. "
                f"It should be between 0 and {len(self.partitions) - 1}.",
            ) from None

    def properties(self) -> dict[str, Any]:
        """The answer to a management request for the hub."""
        return {
            "name": self.name,
            "type": "com.microsoft:eventhub",
            "created_at": Timestamp(self.created_ms),
            "partition_count": len(self.partitions),
            "partition_ids": list(self.partitions),
        }


def _metadata(directory: Path, name: str, partitions: int, now_ms: int) -> int:
    """Creation time of the hub kept in a directory, which is made now if there is none."""
    path = directory / "hub.json"
    if path.exists():
        try:
            kept = json.loads(path.read_text("utf-8"))
            found, created_ms = (kept["name"], int(kept["partitions"])), int(kept["created_at"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"couldn't read {path}: it is damaged; restore it or use an empty directory") from error
        if found != (name, partitions):
            raise ValueError(
                f"couldn't open hub {name}:{partitions}: {directory} holds {found[0]}:{found[1]}; "
                "use that, or another directory"
            )
        return created_ms
    directory.mkdir(parents=True, exist_ok=True)
    kept = {"format": 1, "name": name, "partitions": partitions, "created_at": now_ms}
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(kept) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return now_ms


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class Namespace:
    """All hubs of one stand-in.

    Args:
        hubs: Name -> number of partitions.
        directory: Where the hubs are kept; None: gone at the end of the process.
        groups: Consumer groups besides `$Default`.
        clock_ms: The broker's clock, which gives enqueued and creation times.
        segment_bytes: See `PartitionLog`.
        retention_bytes: See `PartitionLog`; of each partition.

    Raises:
        ValueError: A name or number that no hub can have, or a directory that holds another hub.
    """

    def __init__(
        self,
        hubs: Mapping[str, int],
        directory: Path | None = None,
        *,
        groups: Iterable[str] = (),
        clock_ms: Callable[[], int] = _wall_clock_ms,
        segment_bytes: int = SEGMENT_BYTES,
        retention_bytes: int = RETENTION_BYTES,
    ) -> None:
        self.clock_ms = clock_ms
        self._hubs: dict[str, Hub] = {}
        groups = tuple(groups)
        for name, count in hubs.items():
            if not _NAME.fullmatch(name) or not 1 <= count <= PARTITIONS_MAX or name.lower() in self._hubs:
                raise ValueError(
                    f"couldn't make hub {name!r} with {count} partitions: names are letters, digits, '.', '_' "
                    f"and '-' (64 at most), each once; partitions 1 to {PARTITIONS_MAX}"
                )
            home = None if directory is None else directory / name.lower()
            created_ms = clock_ms() if home is None else _metadata(home, name, count, clock_ms())
            partitions = [
                Partition(
                    name,
                    str(number),
                    PartitionLog(
                        None if home is None else home / str(number),
                        segment_bytes=segment_bytes,
                        retention_bytes=retention_bytes,
                    ),
                )
                for number in range(count)
            ]
            self._hubs[name.lower()] = Hub(name, created_ms, partitions, groups)

    def hub(self, name: str) -> Hub:
        """The hub of that name, in any case; HubError if there is none."""
        try:
            return self._hubs[name.lower()]
        except KeyError:
            raise HubError(NOT_FOUND, f"The messaging entity '{name[:100]}' could not be found.") from None

    def target(self, address: str) -> tuple[Hub, Partition | None]:
        """Where a sender's link leads: `amqps://host/HUB` or `.../HUB/Partitions/N`."""
        parts = path_of(address)
        hub = self.hub(parts[0])
        if len(parts) == 3 and parts[1].lower() == "partitions":
            return hub, hub.partition(parts[2])
        if len(parts) != 1:
            raise HubError(NOT_FOUND, f"The messaging entity '{address[:200]}' could not be found.")
        return hub, None

    def source(self, address: str) -> tuple[Hub, str, Partition]:
        """What a receiver's link reads: `amqps://host/HUB/ConsumerGroups/GROUP/Partitions/N`."""
        parts = path_of(address)
        hub = self.hub(parts[0])
        if len(parts) != 5 or (parts[1].lower(), parts[3].lower()) != ("consumergroups", "partitions"):
            raise HubError(NOT_FOUND, f"The messaging entity '{address[:200]}' could not be found.")
        group = parts[2].lower()
        if group not in hub.groups:
            raise HubError(
                NOT_FOUND,
                f"The messaging entity 'sb://./{hub.name}/consumergroups/{parts[2][:100]}' could not be found.",
            )
        return hub, group, hub.partition(parts[4])

    def ingest(self, hub: Hub, partition: Partition | None, raw: bytes, *, batch: bool) -> None:
        """Store one transfer of a producer: all of its events or none."""
        try:
            events, key = split(raw, batch=batch)
        except DecodeError as error:
            raise HubError("amqp:decode-error", f"The message could not be read: {error}.") from error
        try:
            (partition or hub.choose(key)).append(events, self.clock_ms())
        except OSError as error:
            raise HubError("com.microsoft:server-busy", f"The log could not be written: {error.strerror}.") from error

    def manage(self, request: Mapping[str, Any]) -> tuple[int, str, Any]:
        """Answer a management request: (status, description, body)."""
        kind = request.get("type")
        if request.get("operation") != "READ" or kind not in ("com.microsoft:eventhub", "com.microsoft:partition"):
            return 400, "The operation is not supported.", None
        try:
            hub = self.hub(str(request.get("name")))
            if kind == "com.microsoft:eventhub":
                return 200, "OK", hub.properties()
            return 200, "OK", hub.partition(str(request.get("partition"))).properties()
        except HubError as error:
            return (404 if error.condition == NOT_FOUND else 400), error.description, None

    def close(self) -> None:
        """Close the logs."""
        for hub in self._hubs.values():
            for partition in hub.partitions.values():
                partition.log.close()


def path_of(address: str) -> list[str]:
    """The parts of an address behind the host."""
    if "://" in address:
        address = address.split("://", 1)[1].partition("/")[2]
    return [unquote(part) for part in address.strip("/").split("/")]

"""One partition: its log, the links that wait at its end, and who owns it in which consumer group."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Protocol

from alumicatalyst.testing.eventhubs.amqp import Long, Timestamp
from alumicatalyst.testing.eventhubs.log import RECORD_BYTES, PartitionLog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alumicatalyst.testing.eventhubs.message import Event

RECEIVERS_MAX: Final = 5  # without an owner level, per consumer group and partition
_SELECTOR: Final = re.compile(r"\s*amqp\.annotation\.x-opt-([a-z-]{1,32})\s*(>=?)\s*'([^']{0,64})'\s*")

NOT_FOUND: Final = "amqp:not-found"
STOLEN: Final = "amqp:link:stolen"
UNAUTHORIZED: Final = "amqp:unauthorized-access"
ARGUMENT: Final = "com.microsoft:argument-error"


class HubError(Exception):
    """A refusal that the client gets as an AMQP error: a condition and a text."""

    def __init__(self, condition: str, description: str) -> None:
        super().__init__(description)
        self.condition = condition
        self.description = description


class Receiver(Protocol):
    """What a partition knows of a link that reads it."""

    def wake(self) -> None:
        """New events have arrived."""

    def steal(self, error: HubError) -> None:
        """Another link has taken the partition."""


class Partition:
    """A log, the links that wait at its end, and who owns it in which consumer group."""

    def __init__(self, hub: str, name: str, log: PartitionLog) -> None:
        self.hub = hub
        self.name = name
        self.log = log
        self.waiting: set[Receiver] = set()
        self._owners: dict[str, tuple[int, Receiver]] = {}
        self._receivers: dict[str, set[Receiver]] = {}

    def append(self, events: Iterable[Event], now_ms: int) -> None:
        """Store events and wake who waits for them. Enqueued times never go back, whatever the clock does."""
        last = self.log.last()
        if last is not None:
            now_ms = max(now_ms, last[1])
        sequence_number, offset, messages = self.log.end, self.log.end_offset, []
        for event in events:
            message = event.stored(sequence_number, offset, now_ms)
            messages.append(message)
            sequence_number += 1
            offset += RECORD_BYTES + len(message)
        self.log.append(messages, now_ms)
        for receiver in list(self.waiting):
            receiver.wake()

    def position(self, selector: str | None) -> int:
        """Sequence number of the first event that a filter selects; without a filter, the oldest."""
        if selector is None:
            return self.log.begin
        match = _SELECTOR.fullmatch(selector)
        if match is None:
            raise HubError(ARGUMENT, f"The filter {selector[:100]!r} is not understood.")
        key, inclusive, value = match[1], match[2] == ">=", match[3]
        if key == "offset" and value in ("-1", "@latest"):
            return self.log.begin if value == "-1" else self.log.end
        try:
            number = int(value)
        except ValueError:
            raise HubError(ARGUMENT, f"The supplied {key} '{value}' is invalid.") from None
        if key == "offset":
            if number > self.log.end_offset:
                raise HubError(
                    ARGUMENT,
                    f"The supplied offset '{value}' is invalid. "
                    f"The last offset in the system is '{self.log.end_offset}'.",
                )
            return self.log.find_offset(number, inclusive=inclusive)
        if key == "sequence-number":
            wanted = number if inclusive else number + 1
            if wanted > self.log.end:
                raise HubError(
                    ARGUMENT,
                    f"The supplied sequence number '{value}' is invalid. "
                    f"The last sequence number in the system is '{self.log.end - 1}'.",
                )
            return max(wanted, self.log.begin)
        if key == "enqueued-time":
            return self.log.find_time(number, inclusive=inclusive)
        raise HubError(ARGUMENT, f"The filter {selector[:100]!r} is not understood.")

    def attach(self, receiver: Receiver, group: str, epoch: int | None) -> None:
        """Let a link read: an owner level at least as high as the present one wins, and then everyone else must go."""
        owner = self._owners.get(group)
        readers = self._receivers.setdefault(group, set())
        if epoch is None:
            if owner is not None:
                raise HubError(
                    STOLEN,
                    f"At least one receiver for the endpoint is created with epoch of '{owner[0]}', "
                    "and so non-epoch receiver is not allowed.",
                )
            if len(readers) >= RECEIVERS_MAX:
                raise HubError(
                    "amqp:resource-limit-exceeded",
                    "Exceeded the maximum number of allowed receivers per "
                    f"partition in a consumer group which is {RECEIVERS_MAX}.",
                )
        else:
            if owner is not None and owner[0] > epoch:
                raise HubError(
                    STOLEN,
                    f"Receiver with a higher epoch '{owner[0]}' already exists. Receiver with epoch "
                    f"{epoch} cannot be created.",
                )
            for other in list(readers):
                other.steal(
                    HubError(
                        STOLEN,
                        f"New receiver with higher epoch of '{epoch}' is created hence current "
                        f"receiver with epoch '{owner[0] if owner else None}' is getting disconnected.",
                    )
                )
            readers.clear()
            self._owners[group] = (epoch, receiver)
        readers.add(receiver)

    def detach(self, receiver: Receiver, group: str) -> None:
        """Forget a link."""
        self.waiting.discard(receiver)
        self._receivers.get(group, set()).discard(receiver)
        owner = self._owners.get(group)
        if owner is not None and owner[1] is receiver:
            del self._owners[group]

    @property
    def readers(self) -> int:
        """Links that read the partition, of all groups."""
        return sum(len(readers) for readers in self._receivers.values())

    def properties(self) -> dict[str, Any]:
        """The answer to a management request for the partition."""
        offset, time_ms = self.log.last() or (-1, 0)
        return {
            "name": self.hub,
            "type": "com.microsoft:partition",
            "partition": self.name,
            "begin_sequence_number": Long(self.log.begin if self.log.end else -1),
            "last_enqueued_sequence_number": Long(self.log.end - 1),
            "last_enqueued_offset": str(offset),
            "last_enqueued_time_utc": Timestamp(time_ms),
            "is_partition_empty": self.log.begin == self.log.end,
        }

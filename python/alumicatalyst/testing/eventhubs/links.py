"""Sessions and links of a connection: what the server remembers of each, and how a link delivers a partition's log."""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from alumicatalyst.testing.eventhubs.amqp import DETACH, FLOW, Described, Symbol, Timestamp, UInt, ULong, encode

if TYPE_CHECKING:
    from alumicatalyst.testing.eventhubs.connection import Connection
    from alumicatalyst.testing.eventhubs.model import Hub
    from alumicatalyst.testing.eventhubs.partition import HubError, Partition

WINDOW: Final = 5000
CREDIT: Final = 1000
_PUMP_BYTES: Final = 1 << 18
_TRANSFER_OVERHEAD: Final = 64
_UINT32: Final = 0xFFFFFFFF


def error_of(error: HubError) -> Described:
    """The AMQP form of a refusal."""
    return Described(ULong(0x1D), [Symbol(error.condition), error.description, None])


@dataclass(eq=False)
class Session:
    """The windows of a session; ids are those of the standard and wrap at 32 bits."""

    channel: int
    remote_window: int
    next_incoming_id: int
    next_outgoing_id: int = 0
    next_delivery_id: int = 0
    transfers_since_flow: int = 0
    blocked: set[Delivery] = field(default_factory=set)

    def flow(
        self, handle: int | None = None, delivery_count: int | None = None, credit: int | None = None
    ) -> list[object]:
        """The fields of a flow performative."""
        link = [None, None, None] if handle is None else [UInt(handle), UInt(delivery_count or 0), UInt(credit or 0)]
        ours = [UInt(self.next_incoming_id), UInt(WINDOW), UInt(self.next_outgoing_id), UInt(WINDOW)]
        return [*ours, *link, None, None, None, None]


@dataclass(eq=False)
class Intake:
    """A link on which a producer sends, or (`service`) a request to $cbs or $management."""

    handle: int
    hub: Hub | None = None
    partition: Partition | None = None
    service: str = ""
    delivery_count: int = 0
    credit: int = CREDIT
    delivery_id: int = 0
    batch: bool = False
    partial: bytearray | None = None

    def assemble(self, payload: bytes, *, more: bool) -> bytes | None:
        """Take one frame's part of a message; the message once it is complete."""
        if more or self.partial is not None:
            self.partial = self.partial if self.partial is not None else bytearray()
            self.partial += payload
            if more:
                return None
            payload, self.partial = bytes(self.partial), None
        self.delivery_count += 1
        self.credit -= 1
        return payload


@dataclass(eq=False)
class Answers:
    """A link on which $cbs or $management answers."""

    handle: int
    service: str
    delivery_count: int = 0


class Delivery:
    """A link on which a consumer receives: pushes the log from a position on, within credit and window."""

    def __init__(
        self,
        connection: Connection,
        session: Session,
        handle: int,
        group: str,
        partition: Partition,
        *,
        start: int,
        metrics: bool,
    ) -> None:
        self.handle = handle
        self._next_sequence = start
        self._connection = connection
        self._session = session
        self._group = group
        self._partition = partition
        self._metrics = metrics
        self._delivered = 0
        self._limit = 0
        self._closed = False

    def grant(self, delivery_count: int, credit: int, *, drain: bool) -> None:
        """The consumer takes `credit` more after the first `delivery_count`."""
        self._limit = delivery_count + credit
        self.wake()
        if drain and not self._closed:
            self._delivered = max(self._delivered, self._limit)
            self._connection.send(self._session.channel, FLOW, self._session.flow(self.handle, self._delivered, 0))

    def wake(self) -> None:
        """Send what there is, as far as credit, window and the socket allow; then wait where it makes sense."""
        session, connection = self._session, self._connection
        self._partition.waiting.discard(self)
        if self._closed:
            return
        if connection.paused:
            connection.stalled.add(self)
            return
        self._next_sequence = max(self._next_sequence, self._partition.log.begin)
        wanted = min(self._limit - self._delivered, session.remote_window)
        messages = self._partition.log.read(self._next_sequence, wanted, _PUMP_BYTES) if wanted > 0 else []
        if messages:
            prefix = self._runtime_metrics() if self._metrics else b""
            for message in messages:
                self._transfer(prefix + message if prefix else message)
        if self._limit <= self._delivered:
            return
        if session.remote_window <= 0:
            session.blocked.add(self)
        elif messages:
            asyncio.get_running_loop().call_soon(self.wake)
        else:
            self._partition.waiting.add(self)

    def _transfer(self, message: bytes) -> None:
        """One delivery, settled (the SDK never sends a disposition), in as many frames as it needs."""
        session, connection = self._session, self._connection
        delivery_id = struct.pack(">I", session.next_delivery_id)
        # handle, delivery-id, delivery-tag, message-format 0, settled; then more, and five nulls: see encode_list.
        head = b"\x00\x53\x14\xc0\x19\x0b\x70%b\x70%b\xa0\x04%b\x43\x41" % (
            struct.pack(">I", self.handle),
            delivery_id,
            delivery_id,
        )
        room = connection.frame_bytes_max - _TRANSFER_OVERHEAD
        frames: list[bytes] = []
        for at in range(0, len(message), room):
            more = at + room < len(message)
            chunk = message if at == 0 and not more else message[at : at + room]
            frames += (
                struct.pack(">IBBH", len(head) + 6 + len(chunk) + 8, 2, 0, session.channel),
                head,
                b"\x41\x40\x40\x40\x40\x40" if more else b"\x42\x40\x40\x40\x40\x40",
                chunk,
            )
            session.next_outgoing_id = (session.next_outgoing_id + 1) & _UINT32
            session.remote_window -= 1
        connection.write(b"".join(frames))
        session.next_delivery_id = (session.next_delivery_id + 1) & _UINT32
        self._delivered += 1
        self._next_sequence += 1

    def _runtime_metrics(self) -> bytes:
        known = self._partition.properties()
        names = ("last_enqueued_sequence_number", "last_enqueued_offset", "last_enqueued_time_utc")
        annotations = {Symbol(name): known[name] for name in names}
        annotations[Symbol("runtime_info_retrieval_time_utc")] = Timestamp(time.time_ns() // 1_000_000)
        return b"\x00\x53\x71" + encode(annotations)

    def steal(self, error: HubError) -> None:
        """Tell the consumer that the partition is no longer its own."""
        self._closed = True
        self._partition.waiting.discard(self)
        self._connection.send(self._session.channel, DETACH, [UInt(self.handle), True, error_of(error)])

    def close(self) -> bool:
        """Give up the partition; False if it was already taken away."""
        was_open = not self._closed
        self._closed = True
        self._session.blocked.discard(self)
        self._connection.stalled.discard(self)
        self._partition.detach(self, self._group)
        return was_open


Link = Intake | Answers | Delivery

"""The sessions and links of one connection: what each performative of the client does."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.testing.eventhubs import amqp
from alumicatalyst.testing.eventhubs.amqp import Described, UByte, UInt, ULong, UShort
from alumicatalyst.testing.eventhubs.decode import DecodeError
from alumicatalyst.testing.eventhubs.links import CREDIT, WINDOW, Answers, Delivery, Intake, Link, Session, error_of
from alumicatalyst.testing.eventhubs.partition import ARGUMENT, HubError
from alumicatalyst.testing.eventhubs.service import NAMES, Services

if TYPE_CHECKING:
    from collections.abc import Callable

    from alumicatalyst.testing.eventhubs.connection import Connection
    from alumicatalyst.testing.eventhubs.model import Namespace

MESSAGE_BYTES_MAX: Final = 1 << 20
LINKS_MAX: Final = 256
SESSIONS_MAX: Final = 64
PARTIAL_BYTES_MAX: Final = 8 << 20  # unfinished multi-frame messages of one connection together
_RUNTIME_METRICS: Final = "com.microsoft:enable-receiver-runtime-metric"
_UINT32: Final = 0xFFFFFFFF


def number(value: Any, default: int | None = None) -> int:
    """Return a field that must be an unsigned number; a default where it may be absent."""
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DecodeError(f"{value!r:.40} where a number belongs")
    return value


def _terminus(value: Any) -> tuple[str, list[Any]]:
    """Address and fields of a source or target."""
    fields = value.value if isinstance(value, Described) and isinstance(value.value, list) else []
    return (fields[0] if fields and isinstance(fields[0], str) else ""), fields


def _selector(source: list[Any]) -> str | None:
    """The filter of a source, if it has one."""
    filters = source[7] if len(source) > 7 else None
    found = next(iter(filters.values()), None) if isinstance(filters, dict) else None
    found = found.value if isinstance(found, Described) else found
    if isinstance(found, bytes):
        return found.decode("utf-8", "replace")
    if found is not None and not isinstance(found, str):
        raise HubError(ARGUMENT, "The filter is not a text.")
    return found


class Endpoint:
    """Handles the performatives between open and close.

    Args:
        connection: Takes what is sent.
        namespace: What links lead to.
        services: Answers `$cbs` and `$management`, and says what the client may do.
    """

    def __init__(self, connection: Connection, namespace: Namespace, services: Services) -> None:
        self._connection = connection
        self._send = connection.send
        self._namespace = namespace
        self._services = services
        self._sessions: dict[int, Session] = {}
        self._links: dict[tuple[int, int], Link] = {}
        self._answers: dict[tuple[int, str], Answers] = {}
        self._partial_bytes = 0
        self._handlers: dict[int, Callable[[int, list[Any]], None]] = {
            amqp.BEGIN: self._on_begin,
            amqp.ATTACH: self._on_attach,
            amqp.FLOW: self._on_flow,
            amqp.DETACH: self._on_detach,
            amqp.END: self._on_end,
        }

    def handle(self, channel: int, code: int, fields: list[Any], payload: bytes) -> None:
        """Do what a performative says; DecodeError if that makes no sense."""
        if code == amqp.TRANSFER:
            self._on_transfer(channel, fields, payload)
        elif code in self._handlers:
            self._handlers[code](channel, fields)
        elif code != amqp.DISPOSITION:  # deliveries are sent settled, so there is nothing that one could say
            raise DecodeError(f"performative {code:#x}")

    def close(self) -> None:
        """Let go of every partition."""
        for key in list(self._links):
            self._drop(key)

    # --- sessions ---

    def _on_begin(self, channel: int, fields: list[Any]) -> None:
        if channel in self._sessions or channel >= SESSIONS_MAX:
            raise DecodeError(f"begin on channel {channel}")
        self._sessions[channel] = Session(channel, number(fields[2]), number(fields[1]))
        limits = [UShort(channel), UInt(0), UInt(WINDOW), UInt(WINDOW), UInt(LINKS_MAX - 1)]
        self._send(channel, amqp.BEGIN, [*limits, None, None, None])

    def _on_end(self, channel: int, _fields: list[Any]) -> None:
        for key in [key for key in self._links if key[0] == channel]:
            self._drop(key)
        self._sessions.pop(channel, None)
        self._send(channel, amqp.END, [None])

    def _on_flow(self, channel: int, fields: list[Any]) -> None:
        session = self._session(channel)
        received, window = number(fields[0], 0), number(fields[1])
        # Serial-number arithmetic of RFC 1982: what is in flight is taken off the window.
        session.remote_window = window - ((session.next_outgoing_id - received) & _UINT32)
        if fields[4] is not None:
            link = self._links.get((channel, number(fields[4])))
            if isinstance(link, Delivery):
                link.grant(number(fields[5], 0), number(fields[6], 0), drain=bool(fields[8]))
        blocked, session.blocked = session.blocked, set()
        for delivery in blocked:
            delivery.wake()
        if fields[9]:
            self._send(channel, amqp.FLOW, session.flow())

    def _session(self, channel: int) -> Session:
        try:
            return self._sessions[channel]
        except KeyError:
            raise DecodeError(f"a frame on channel {channel}, which has no session") from None

    # --- links ---

    def _on_attach(self, channel: int, fields: list[Any]) -> None:
        session, handle = self._session(channel), number(fields[1])
        if (channel, handle) in self._links or len(self._links) >= LINKS_MAX:
            raise DecodeError(f"attach to handle {handle}")
        receives = fields[2] is True
        modes = UByte(number(fields[3], 2) & 3), UByte(number(fields[4], 0) & 1)
        # An attach is always answered with one; a refusal follows as a detach.
        reply = [fields[0], UInt(handle), not receives, *modes, fields[5], fields[6], None, None]
        reply += [UInt(0) if receives else None, ULong(MESSAGE_BYTES_MAX), None, None, None]
        self._send(channel, amqp.ATTACH, reply)
        try:
            link = self._giving(session, handle, fields) if receives else self._taking(handle, fields)
        except HubError as error:
            self._send(channel, amqp.DETACH, [UInt(handle), True, error_of(error)])
            return
        self._links[channel, handle] = link
        if isinstance(link, Intake):
            self._send(channel, amqp.FLOW, session.flow(handle, 0, CREDIT))

    def _taking(self, handle: int, fields: list[Any]) -> Intake:
        """A link on which the client sends."""
        address, _ = _terminus(fields[6])
        if address in NAMES:
            return Intake(handle, service=address)
        hub, partition = self._namespace.target(address)
        self._services.authorize(hub.name)
        return Intake(handle, hub, partition)

    def _giving(self, session: Session, handle: int, fields: list[Any]) -> Link:
        """A link on which the client receives."""
        address, source = _terminus(fields[5])
        if address in NAMES:
            answers = self._answers[session.channel, address] = Answers(handle, address)
            return answers
        hub, group, partition = self._namespace.source(address)
        self._services.authorize(hub.name)
        start = partition.position(_selector(source))
        wanted = fields[12] if isinstance(fields[12], list) else [fields[12]]
        epoch = fields[13].get("com.microsoft:epoch") if isinstance(fields[13], dict) else None
        epoch = None if epoch is None else number(epoch)
        delivery = Delivery(
            self._connection, session, handle, group, partition, start=start, metrics=_RUNTIME_METRICS in wanted
        )
        partition.attach(delivery, group, epoch)
        return delivery

    def _on_detach(self, channel: int, fields: list[Any]) -> None:
        key = (channel, number(fields[0]))
        if key in self._links and self._drop(key):
            self._send(channel, amqp.DETACH, [UInt(key[1]), True, None])

    def _drop(self, key: tuple[int, int]) -> bool:
        """Forget a link; False if its detach has been sent before."""
        link = self._links.pop(key)
        if isinstance(link, Delivery):
            return link.close()
        if isinstance(link, Answers):
            self._answers.pop((key[0], link.service), None)
        elif link.partial is not None:
            self._partial_bytes -= len(link.partial)
        return True

    # --- messages from the client ---

    def _on_transfer(self, channel: int, fields: list[Any], payload: bytes) -> None:
        session = self._session(channel)
        session.next_incoming_id = (session.next_incoming_id + 1) & _UINT32
        session.transfers_since_flow += 1
        link = self._links.get((channel, number(fields[0])))
        if isinstance(link, Intake):
            self._take(session, link, fields, payload)
        if session.transfers_since_flow >= WINDOW // 2:
            session.transfers_since_flow = 0
            self._send(channel, amqp.FLOW, session.flow())

    def _take(self, session: Session, link: Intake, fields: list[Any], payload: bytes) -> None:
        before = len(link.partial or b"")
        if before + len(payload) > MESSAGE_BYTES_MAX or self._partial_bytes + len(payload) > PARTIAL_BYTES_MAX:
            error = HubError("amqp:link:message-size-exceeded", f"A message may have {MESSAGE_BYTES_MAX} bytes.")
            self._send(session.channel, amqp.DETACH, [UInt(link.handle), True, error_of(error)])
            self._drop((session.channel, link.handle))
            return
        if link.partial is None:
            link.delivery_id = number(fields[1], 0)
            link.batch = fields[3] == amqp.BATCH_FORMAT
        message = link.assemble(payload, more=bool(fields[5]))
        self._partial_bytes += len(link.partial or b"") - before
        if message is None:
            return
        if not fields[9]:  # else its sender has thought better of it
            self._complete(session, link, message, settled=bool(fields[4]))
        if link.credit < CREDIT // 2:
            link.credit = CREDIT
            self._send(session.channel, amqp.FLOW, session.flow(link.handle, link.delivery_count, CREDIT))

    def _complete(self, session: Session, link: Intake, message: bytes, *, settled: bool) -> None:
        state = Described(ULong(0x24), [])
        if link.hub is not None:
            try:
                self._namespace.ingest(link.hub, link.partition, message, batch=link.batch)
            except HubError as error:
                state = Described(ULong(0x25), [error_of(error)])
        if not settled:
            first = UInt(link.delivery_id)
            self._send(session.channel, amqp.DISPOSITION, [True, first, first, True, state, None])
        answers = self._answers.get((session.channel, link.service))
        if answers is not None:  # only after the disposition: uamqp insists on that order
            self._answer(session, answers, self._services.answer(link.service, message))

    def _answer(self, session: Session, answers: Answers, reply: bytes) -> None:
        delivery = session.next_delivery_id
        session.next_delivery_id = (delivery + 1) & _UINT32
        session.next_outgoing_id = (session.next_outgoing_id + 1) & _UINT32
        session.remote_window -= 1
        head = [UInt(answers.handle), UInt(delivery), struct.pack(">I", delivery), UInt(0), True, False]
        self._send(session.channel, amqp.TRANSFER, [*head, None, None, None, None, None], reply)

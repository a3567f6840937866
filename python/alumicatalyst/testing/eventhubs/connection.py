"""One client's connection: frames in, frames out. Any bytes that are not AMQP end it with a line in the log."""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from typing import Any, Final

from alumicatalyst.testing.eventhubs import amqp
from alumicatalyst.testing.eventhubs.amqp import DecodeError, Described, UByte, UInt, ULong, UShort, frame
from alumicatalyst.testing.eventhubs.auth import check_token
from alumicatalyst.testing.eventhubs.links import CREDIT, WINDOW, Answers, Delivery, Intake, Link, Session, error_of
from alumicatalyst.testing.eventhubs.model import UNAUTHORIZED, HubError, Namespace

_LOGGER = logging.getLogger(__name__)

FRAME_BYTES_MAX: Final = 65_536
MESSAGE_BYTES_MAX: Final = 1 << 20
LINKS_MAX: Final = 256
SESSIONS_MAX: Final = 64
PARTIAL_BYTES_MAX: Final = 8 << 20  # unfinished multi-frame messages of one connection together
UNREAD_BYTES_MAX: Final = 16 << 20  # answers that a client does not read
IDLE_S: Final = 240
_SERVICES: Final = ("$cbs", "$management")
_RUNTIME_METRICS: Final = "com.microsoft:enable-receiver-runtime-metric"
_ACCEPTED: Final = Described(ULong(0x24), [])


def _number(value: Any, default: int | None = None) -> int:
    """A field that must be an unsigned number; a default where it may be absent."""
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DecodeError(f"{value!r} where a number belongs")
    return value


def _address(terminus: Any) -> tuple[str, list[Any]]:
    """Address and fields of a source or target."""
    if not isinstance(terminus, Described) or not isinstance(terminus.value, list) or not terminus.value:
        return "", []
    return terminus.value[0] if isinstance(terminus.value[0], str) else "", terminus.value


class Connection(asyncio.Protocol):
    """The server's side of a connection.

    Args:
        namespace: What is served.
        key: The key of shared access signatures; None: anyone may do anything.
        connections: All open connections; this one adds and removes itself.
        connections_max: Above this number a new connection is closed at once.
    """

    def __init__(
        self, namespace: Namespace, key: str | None, connections: set[Connection], connections_max: int
    ) -> None:
        self.paused = False
        self.stalled: set[Delivery] = set()
        self.frame_bytes_max = 512
        self._namespace = namespace
        self._key = key
        self._connections = connections
        self._connections_max = connections_max
        self._buffer = bytearray()
        self._expected = [b"AMQP\x03\x01\x00\x00", b"AMQP\x00\x01\x00\x00"]
        self._open = False
        self._sessions: dict[int, Session] = {}
        self._links: dict[tuple[int, int], Link] = {}
        self._answers: dict[tuple[int, str], Answers] = {}
        self._partial_bytes = 0
        self._granted: dict[str, float] = {}
        self._heartbeat_s = 0.0
        self._heard = self._spoke = time.monotonic()
        self._handlers = {
            amqp.BEGIN: self._on_begin,
            amqp.ATTACH: self._on_attach,
            amqp.FLOW: self._on_flow,
            amqp.DETACH: self._on_detach,
            amqp.END: self._on_end,
        }

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peer = transport.get_extra_info("peername")
        if len(self._connections) >= self._connections_max:
            _LOGGER.warning("refused a connection from %s: %d are open", self._peer, len(self._connections))
            transport.abort()
            return
        transport.set_write_buffer_limits(1 << 20)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        for key in list(self._links):
            self._drop(key)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        stalled, self.stalled = self.stalled, set()
        for delivery in stalled:
            delivery.wake()

    def data_received(self, data: bytes) -> None:
        self._heard = time.monotonic()
        self._buffer += data
        try:
            self._consume()
        except DecodeError as error:
            self._fail("amqp:connection:framing-error", str(error))
        except Exception as error:  # whatever a hostile peer found, it loses its own connection and no more
            _LOGGER.debug("a frame could not be handled", exc_info=True)
            self._fail("amqp:internal-error", f"{type(error).__name__} in handling a frame")

    # --- output ---

    def write(self, data: bytes) -> None:
        """Hand bytes to the socket; a client that reads nothing is cut off."""
        if self._transport.is_closing():
            return
        self._spoke = time.monotonic()
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            _LOGGER.warning("closed the connection from %s: it does not read", self._peer)
            self._transport.abort()

    def send(self, channel: int, code: int, fields: list[Any], payload: bytes = b"") -> None:
        """Send one frame."""
        self.write(frame(channel, code, fields, payload))

    def abort(self) -> None:
        """Cut the connection without a word, as a broken network does."""
        self._transport.abort()

    def shut(self) -> None:
        """Close the connection as a server that goes down does."""
        if self._open:
            error = HubError("amqp:connection:forced", "The service is shutting down.")
            self.send(0, amqp.CLOSE, [error_of(error)])
        self._transport.close()

    def tick(self, now: float) -> None:
        """Called every few seconds: send the heartbeat that the client asked for, end silent connections."""
        if self._heartbeat_s and now - self._spoke > self._heartbeat_s:
            self.write(b"\x00\x00\x00\x08\x02\x00\x00\x00")
        if now - self._heard > 2 * IDLE_S or (not self._open and now - self._heard > IDLE_S / 8):
            self._fail("amqp:connection:forced", "the connection was silent for too long")

    def _fail(self, condition: str, description: str) -> None:
        if self._transport.is_closing():
            return
        _LOGGER.warning("closed the connection from %s: %s", self._peer, description)
        if self._open:
            self.send(0, amqp.CLOSE, [error_of(HubError(condition, description))])
        self._transport.close()

    # --- input ---

    def _consume(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 8 and not self._transport.is_closing():
            if self._expected and (len(self._expected) == 2 or buffer[at : at + 4] == b"AMQP"):
                self._on_header(bytes(buffer[at : at + 8]))
                at += 8
                continue
            size, offset, kind, channel = struct.unpack_from(">IBBH", buffer, at)
            if not 8 <= 4 * offset <= size <= FRAME_BYTES_MAX:
                raise DecodeError(f"a frame of {size} bytes with its body at {4 * offset}")
            if len(buffer) - at < size:
                break
            body = bytes(buffer[at + 4 * offset : at + size])
            at += size
            if body:
                self._on_frame(kind, channel, body)
        del buffer[:at]

    def _on_header(self, header: bytes) -> None:
        if header != self._expected.pop(0):
            raise DecodeError(f"{header!r} instead of an AMQP 1.0 header")
        self.write(header)
        if self._expected:
            mechanisms = b"\x00\x53\x40" + self._one_field(amqp.symbol_array(["ANONYMOUS", "MSSBCBS"]))
            self.write(struct.pack(">IBBH", len(mechanisms) + 8, 2, 1, 0) + mechanisms)

    @staticmethod
    def _one_field(encoded: bytes) -> bytes:
        return bytes((0xC0, len(encoded) + 1, 1)) + encoded

    def _on_frame(self, kind: int, channel: int, body: bytes) -> None:
        code, fields, payload_at = amqp.performative(body)
        if kind == 1:
            if code != amqp.SASL_INIT:
                raise DecodeError(f"SASL frame {code:#x}")
            known = fields[0] in ("ANONYMOUS", "MSSBCBS")
            self.write(frame(0, amqp.SASL_OUTCOME, [UByte(0 if known else 1), None], kind=1))
            if not known:
                self._fail("", "an unknown SASL mechanism")
            return
        if kind != 0 or self._expected:
            raise DecodeError(f"a frame of type {kind} before the headers were exchanged")
        if code == amqp.OPEN and not self._open:
            self._on_open(fields)
        elif not self._open:
            raise DecodeError(f"performative {code:#x} before open")
        elif code == amqp.TRANSFER:
            self._on_transfer(channel, fields, body[payload_at:])
        elif code == amqp.CLOSE:
            self.send(0, amqp.CLOSE, [None])
            self._transport.close()
        elif code in self._handlers:
            self._handlers[code](channel, fields)
        elif code != amqp.DISPOSITION:  # deliveries are sent settled, so there is nothing that one could say
            raise DecodeError(f"performative {code:#x}")

    def _on_open(self, fields: list[Any]) -> None:
        self.frame_bytes_max = min(max(_number(fields[2], FRAME_BYTES_MAX), 512), FRAME_BYTES_MAX)
        self._heartbeat_s = _number(fields[4], 0) / 2000
        self._open = True
        self.send(
            0,
            amqp.OPEN,
            [
                "alumicatalyst-emulator",
                None,
                UInt(FRAME_BYTES_MAX),
                UShort(SESSIONS_MAX - 1),
                UInt(IDLE_S * 1000),
                None,
                None,
                None,
                None,
                None,
            ],
        )

    def _on_begin(self, channel: int, fields: list[Any]) -> None:
        if channel in self._sessions or channel >= SESSIONS_MAX:
            raise DecodeError(f"begin on channel {channel}")
        self._sessions[channel] = Session(channel, _number(fields[2]), _number(fields[1]))
        self.send(
            channel,
            amqp.BEGIN,
            [UShort(channel), UInt(0), UInt(WINDOW), UInt(WINDOW), UInt(LINKS_MAX - 1), None, None, None],
        )

    def _on_end(self, channel: int, fields: list[Any]) -> None:
        for key in [key for key in self._links if key[0] == channel]:
            self._drop(key)
        self._sessions.pop(channel, None)
        self.send(channel, amqp.END, [None])

    def _on_flow(self, channel: int, fields: list[Any]) -> None:
        session = self._session(channel)
        received, window = _number(fields[0], 0), _number(fields[1])
        # Serial-number arithmetic of RFC 1982: what is in flight is taken off the window.
        session.remote_window = window - ((session.next_outgoing_id - received) & 0xFFFFFFFF)
        if fields[4] is not None:
            link = self._links.get((channel, _number(fields[4])))
            if isinstance(link, Delivery):
                link.grant(_number(fields[5], 0), _number(fields[6], 0), drain=bool(fields[8]))
        blocked, session.blocked = session.blocked, set()
        for delivery in blocked:
            delivery.wake()
        if fields[9]:
            self.send(channel, amqp.FLOW, session.flow())

    def _session(self, channel: int) -> Session:
        try:
            return self._sessions[channel]
        except KeyError:
            raise DecodeError(f"a frame on channel {channel}, which has no session") from None

    # --- links ---

    def _on_attach(self, channel: int, fields: list[Any]) -> None:
        session, handle = self._session(channel), _number(fields[1])
        if (channel, handle) in self._links or len(self._links) >= LINKS_MAX:
            raise DecodeError(f"attach to handle {handle}")
        receives = fields[2] is True
        # An attach is always answered with one; a refusal follows as a detach.
        self.send(
            channel,
            amqp.ATTACH,
            [
                fields[0],
                UInt(handle),
                not receives,
                UByte(_number(fields[3], 2) & 3),
                UByte(_number(fields[4], 0) & 1),
                fields[5],
                fields[6],
                None,
                None,
                UInt(0) if receives else None,
                ULong(MESSAGE_BYTES_MAX),
                None,
                None,
                None,
            ],
        )
        try:
            link = self._answering(session, handle, fields) if receives else self._taking(handle, fields)
        except HubError as error:
            self.send(channel, amqp.DETACH, [UInt(handle), True, error_of(error)])
            return
        self._links[channel, handle] = link
        if isinstance(link, Intake):
            self.send(channel, amqp.FLOW, session.flow(handle, 0, CREDIT))

    def _taking(self, handle: int, fields: list[Any]) -> Intake:
        address, _ = _address(fields[6])
        if address in _SERVICES:
            return Intake(handle, service=address)
        hub, partition = self._namespace.target(address)
        self._authorize(hub.name)
        return Intake(handle, hub, partition)

    def _answering(self, session: Session, handle: int, fields: list[Any]) -> Link:
        address, source = _address(fields[5])
        if address in _SERVICES:
            link = self._answers[session.channel, address] = Answers(handle, address)
            return link
        hub, group, partition = self._namespace.source(address)
        self._authorize(hub.name)
        filters = source[7] if len(source) > 7 else None
        selector = next(iter(filters.values()), None) if isinstance(filters, dict) else None
        selector = selector.value if isinstance(selector, Described) else selector
        if isinstance(selector, bytes):
            selector = selector.decode("utf-8", "replace")
        if selector is not None and not isinstance(selector, str):
            raise HubError("com.microsoft:argument-error", "The filter is not a text.")
        wanted = fields[12] if isinstance(fields[12], list) else [fields[12]]
        epoch = fields[13].get("com.microsoft:epoch") if isinstance(fields[13], dict) else None
        start = partition.position(selector)
        delivery = Delivery(self, session, handle, group, partition, metrics=_RUNTIME_METRICS in wanted)
        partition.attach(delivery, group, None if epoch is None else _number(epoch))
        delivery.next_sequence = start
        return delivery

    def _on_detach(self, channel: int, fields: list[Any]) -> None:
        key = (channel, _number(fields[0]))
        if key in self._links and self._drop(key):
            self.send(channel, amqp.DETACH, [UInt(key[1]), True, None])

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
        session.next_incoming_id = (session.next_incoming_id + 1) & 0xFFFFFFFF
        session.transfers_since_flow += 1
        link = self._links.get((channel, _number(fields[0])))
        if isinstance(link, Intake):
            self._take(session, link, fields, payload)
        if session.transfers_since_flow >= WINDOW // 2:
            session.transfers_since_flow = 0
            self.send(channel, amqp.FLOW, session.flow())

    def _take(self, session: Session, link: Intake, fields: list[Any], payload: bytes) -> None:
        if link.partial is None:
            link.delivery_id = _number(fields[1], 0)
            link.batch = fields[3] == amqp.BATCH_FORMAT
        held = len(link.partial or b"")
        if held + len(payload) > MESSAGE_BYTES_MAX or self._partial_bytes + len(payload) > PARTIAL_BYTES_MAX:
            error = HubError("amqp:link:message-size-exceeded", f"A message may have {MESSAGE_BYTES_MAX} bytes.")
            self.send(session.channel, amqp.DETACH, [UInt(link.handle), True, error_of(error)])
            self._drop((session.channel, link.handle))
            return
        if fields[5] or link.partial is not None:
            link.partial = link.partial if link.partial is not None else bytearray()
            link.partial += payload
            self._partial_bytes += len(payload)
            if fields[5]:
                return
            payload, link.partial = bytes(link.partial), None
            self._partial_bytes -= len(payload)
        link.delivery_count += 1
        link.credit -= 1
        if not fields[9]:  # aborted by its sender
            self._complete(session, link, payload, settled=bool(fields[4]))
        if link.credit < CREDIT // 2:
            link.credit = CREDIT
            self.send(session.channel, amqp.FLOW, session.flow(link.handle, link.delivery_count, CREDIT))

    def _complete(self, session: Session, link: Intake, payload: bytes, *, settled: bool) -> None:
        state = _ACCEPTED
        if link.hub is not None:
            try:
                self._namespace.ingest(link.hub, link.partition, payload, batch=link.batch)
            except HubError as error:
                state = Described(ULong(0x25), [error_of(error)])
        if not settled:
            number = UInt(link.delivery_id)
            self.send(session.channel, amqp.DISPOSITION, [True, number, number, True, state, None])
        if link.service:  # only after the disposition: uamqp insists on that order
            self._serve(session, link.service, payload)

    def _serve(self, session: Session, service: str, request: bytes) -> None:
        answers = self._answers.get((session.channel, service))
        if answers is None:
            return
        message_id, properties, value = None, {}, None
        for code, _, value_at, end in amqp.sections(request):
            if code == amqp.PROPERTIES:
                header, _ = amqp.decode(request, value_at, end)
                message_id = header[0] if header else None
            elif code == amqp.APPLICATION_PROPERTIES:
                properties, _ = amqp.decode(request, value_at, end)
            elif code == amqp.VALUE:
                value, _ = amqp.decode(request, value_at, end)
        status, text, body = self._put_token(properties, value) if service == "$cbs" else self._manage(properties)
        reply = b"".join(
            (
                b"\x00\x53\x73",
                amqp.encode_list([None] * 5 + [message_id] + [None] * 7),
                b"\x00\x53\x74",
                amqp.encode({"status-code": status, "status-description": text}),
                b"\x00\x53\x77",
                amqp.encode(body),
            )
        )
        number = session.next_delivery_id
        session.next_delivery_id = (number + 1) & 0xFFFFFFFF
        session.next_outgoing_id = (session.next_outgoing_id + 1) & 0xFFFFFFFF
        session.remote_window -= 1
        answers.delivery_count += 1
        self.send(
            session.channel,
            amqp.TRANSFER,
            [
                UInt(answers.handle),
                UInt(number),
                struct.pack(">I", number),
                UInt(0),
                True,
                False,
                None,
                None,
                None,
                None,
                None,
            ],
            reply,
        )

    # --- who may do what ---

    def _put_token(self, request: dict[Any, Any], token: Any) -> tuple[int, str, Any]:
        if request.get("operation") != "put-token":
            return 400, "The operation is not supported.", None
        if self._key is not None:
            granted = check_token(self._key, token, request.get("type"))
            if granted is None:
                _LOGGER.warning("refused a token from %s: wrong or expired signature", self._peer)
                return 401, "InvalidSignature: The token has an invalid signature.", None
            self._granted[granted[0]] = granted[1]
        return 202, "Accepted", None

    def _manage(self, request: dict[Any, Any]) -> tuple[int, str, Any]:
        try:
            self._authorize(str(request.get("name")))
        except HubError as error:
            return 401, error.description, None
        return self._namespace.manage(request)

    def _authorize(self, hub: str) -> None:
        if self._key is None:
            return
        if time.time() >= max(self._granted.get(hub.lower(), 0.0), self._granted.get("", 0.0)):
            raise HubError(UNAUTHORIZED, "Unauthorized access. 'Send' or 'Listen' claims are required.")

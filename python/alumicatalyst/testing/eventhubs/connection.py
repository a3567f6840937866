"""One client's connection: bytes to frames and back. Any bytes that are not AMQP end it with a line in the log."""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.testing.eventhubs import amqp
from alumicatalyst.testing.eventhubs.amqp import UByte, UInt, UShort, frame
from alumicatalyst.testing.eventhubs.decode import DecodeError, performative
from alumicatalyst.testing.eventhubs.endpoint import SESSIONS_MAX, Endpoint, number
from alumicatalyst.testing.eventhubs.links import Delivery, error_of
from alumicatalyst.testing.eventhubs.partition import HubError
from alumicatalyst.testing.eventhubs.service import Services

if TYPE_CHECKING:
    from collections.abc import MutableSet

    from alumicatalyst.testing.eventhubs.model import Namespace

_LOGGER = logging.getLogger(__name__)

FRAME_BYTES_MAX: Final = 65_536
UNREAD_BYTES_MAX: Final = 16 << 20  # what a client has not read yet
IDLE_S: Final = 240
_OPEN_S: Final = 30
_MECHANISMS: Final = ("ANONYMOUS", "MSSBCBS")
_HEADERS: Final = (b"AMQP\x03\x01\x00\x00", b"AMQP\x00\x01\x00\x00")  # SASL, then AMQP
_EMPTY_FRAME: Final = b"\x00\x00\x00\x08\x02\x00\x00\x00"


class Connection(asyncio.Protocol):
    """The server's side of a connection.

    Args:
        namespace: What is served.
        key: The key of shared access signatures; None: everybody may do everything.
        connections: All open connections; this one adds and removes itself.
        connections_max: With so many open, a new one is closed at once.
    """

    def __init__(
        self, namespace: Namespace, key: str | None, connections: MutableSet[Connection], connections_max: int
    ) -> None:
        self.paused = False
        self.stalled: set[Delivery] = set()
        self.frame_bytes_max = 512
        self._namespace = namespace
        self._key = key
        self._connections = connections
        self._connections_max = connections_max
        self._buffer = bytearray()
        self._headers = list(_HEADERS)
        self._open = False
        self._heartbeat_s = 0.0
        self._heard = self._spoke = time.monotonic()

    # --- called by asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, unless there are too many."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peer = transport.get_extra_info("peername")
        self._endpoint = Endpoint(self, self._namespace, Services(self._namespace, self._key, self._peer))
        if len(self._connections) >= self._connections_max:
            _LOGGER.warning("refused a connection from %s: %d are open", self._peer, len(self._connections))
            transport.abort()
            return
        transport.set_write_buffer_limits(1 << 20)
        self._connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """Let go of every partition."""
        self._connections.discard(self)
        self._endpoint.close()

    def pause_writing(self) -> None:
        """Deliver no more: the client reads slower than we write."""
        self.paused = True

    def resume_writing(self) -> None:
        """Go on where `pause_writing` stopped."""
        self.paused = False
        stalled, self.stalled = self.stalled, set()
        for delivery in stalled:
            delivery.wake()

    def data_received(self, data: bytes) -> None:
        """Handle what has come."""
        self._heard = time.monotonic()
        self._buffer += data
        try:
            self._consume()
        except DecodeError as error:
            self._fail("amqp:connection:framing-error", str(error))
        except Exception as error:
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
            _LOGGER.warning("cut the connection from %s: it does not read", self._peer)
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
            self.send(0, amqp.CLOSE, [error_of(HubError("amqp:connection:forced", "The service is shutting down."))])
        self._transport.close()

    def tick(self, now: float) -> None:
        """Send the heartbeat that the client asked for, end silent connections; called every few seconds."""
        if self._heartbeat_s and now - self._spoke > self._heartbeat_s:
            self.write(_EMPTY_FRAME)
        if now - self._heard > (2 * IDLE_S if self._open else _OPEN_S):
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
            # The second header comes after the SASL frames.
            if self._headers and (len(self._headers) == 2 or buffer[at : at + 4] == b"AMQP"):
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
        if header != self._headers.pop(0):
            raise DecodeError(f"{header!r} instead of the header of AMQP 1.0")
        self.write(header)
        if self._headers:
            self.write(amqp.sasl_mechanisms(_MECHANISMS))

    def _on_frame(self, kind: int, channel: int, body: bytes) -> None:
        code, fields, payload_at = performative(body)
        if kind == 1:
            self._on_sasl(code, fields)
        elif kind != 0 or self._headers:
            raise DecodeError(f"a frame of type {kind} before the headers were exchanged")
        elif not self._open:
            self._on_open(code, fields)
        elif code == amqp.CLOSE:
            self.send(0, amqp.CLOSE, [None])
            self._transport.close()
        else:
            self._endpoint.handle(channel, code, fields, body[payload_at:])

    def _on_sasl(self, code: int, fields: list[Any]) -> None:
        if code != amqp.SASL_INIT:
            raise DecodeError(f"SASL frame {code:#x}")
        known = fields[0] in _MECHANISMS
        self.write(frame(0, amqp.SASL_OUTCOME, [UByte(0 if known else 1), None], kind=1))
        if not known:
            raise DecodeError("an unknown SASL mechanism")

    def _on_open(self, code: int, fields: list[Any]) -> None:
        if code != amqp.OPEN:
            raise DecodeError(f"performative {code:#x} before open")
        self.frame_bytes_max = min(max(number(fields[2], FRAME_BYTES_MAX), 512), FRAME_BYTES_MAX)
        self._heartbeat_s = number(fields[4], 0) / 2000
        self._open = True
        limits = [UInt(FRAME_BYTES_MAX), UShort(SESSIONS_MAX - 1), UInt(IDLE_S * 1000)]
        self.send(0, amqp.OPEN, ["alumicatalyst-emulator", None, *limits, None, None, None, None, None])

"""Sends changes to every stream: one task of the process reads each change once, bounded queues hand it on.

No gap and no double: changes have commit-ordered numbers, `seq`. A stream first reads from the store what it missed.
Only when it has seen all that the broadcaster has handed out, and without giving way in between, does it join; from
then on it gets every later change, and skips what it had already read.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, NamedTuple

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from alumicatalyst.log import get_logger
from api.metrics import Metrics
from api.problems import Problem
from api.security.limits import Limits
from api.store import Change, HotStore, StoreError

MEDIA_TYPE: Final = "text/event-stream"
_HEARTBEAT: Final = b": heartbeat\n\n"
# How long a client is to wait before it comes again.
_RETRY_MS: Final = 1_000
_RETRY_AFTER_S: Final = 5
_log = get_logger(__name__)


class Event(NamedTuple):
    """A change as it goes over the wire."""

    seq: int
    wire: bytes


class Client:
    """One stream: the last change that it has sent, and what it has been handed since."""

    def __init__(self, seq: int, backlog_max: int) -> None:
        self.seq = seq
        self.ended = False
        self.scope = anyio.CancelScope()
        self._backlog_max = backlog_max
        self._waiting: deque[Event] = deque()
        self._wake = asyncio.Event()

    def hand(self, events: list[Event]) -> bool:
        """Queue changes; return False if the client is too slow for them."""
        self._waiting.extend(events)
        self._wake.set()
        return len(self._waiting) <= self._backlog_max

    def end(self) -> None:
        """Let the stream send what it has and finish."""
        self.ended = True
        self._wake.set()

    async def wait(self, seconds: float) -> list[Event]:
        """Return what waits to be sent: at once if there is anything, else after a while, possibly nothing."""
        if not self._waiting and not self.ended:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
        taken = [event for event in self._waiting if event.seq > self.seq]
        self._waiting.clear()
        return taken


class Broadcaster:
    """Reads the store's changes and hands them to the streams."""

    def __init__(self, store: HotStore, limits: Limits, metrics: Metrics) -> None:
        self.store = store
        self.limits = limits
        self.metrics = metrics
        self._clients: set[Client] = set()
        self._places = limits.streams_max
        self._seq = 0
        self._wake = asyncio.Event()
        self._closed = False

    def wake(self) -> None:
        """Look for changes now; the store calls it after a commit of this process."""
        self._wake.set()

    def close(self) -> None:
        """End every stream, so that the server can stop. Each client comes again, to whoever then serves."""
        self._closed = True
        for client in self._clients:
            client.end()
        self._wake.set()

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places for streams.

        Raises:
            Problem: They are all taken, or the server stops.
        """
        if self._places <= 0 or self._closed:
            raise Problem(
                "too-many-streams",
                f"couldn't open a stream: all {self.limits.streams_max} are taken; try again in {_RETRY_AFTER_S} s",
                headers={"Retry-After": str(_RETRY_AFTER_S)},
            )
        self._places -= 1
        self.metrics.streams.inc()
        try:
            yield
        finally:
            self._places += 1
            self.metrics.streams.dec()

    def join(self, client: Client) -> bool:
        """Hand every later change to a client; False if it has to read on first. Nothing else runs in between."""
        if self._closed:
            client.end()
        if client.seq < self._seq and not client.ended:
            return False
        self._clients.add(client)
        self._wake.set()
        return True

    def leave(self, client: Client) -> None:
        """Forget a client."""
        self._clients.discard(client)

    def drop(self, client: Client, reason: str) -> None:
        """Cut a client off, even in the middle of sending; it comes again with the last id that it saw."""
        self._clients.discard(client)
        self.metrics.streams_dropped.labels(reason).inc()
        client.scope.cancel()

    async def run(self) -> None:
        """Read and hand on until closed. A store that is away is asked again."""
        away = False
        while not self._closed:
            try:
                more = await self._step()
                away = False
            except StoreError as error:
                if not away:
                    _log.warning("changes cannot be read; trying on", error=str(error))
                more, away = False, True
            except Exception:  # noqa: BLE001
                # A stream that says nothing looks like a plant without alarms, so none may outlive a defect here.
                if not away:
                    _log.exception("changes cannot be read; every stream is ended, and comes again")
                for client in list(self._clients):
                    self.drop(client, "defect")
                more, away = False, True
            if not more:
                await self._pause(self.limits.poll_s if self._clients and not away else self.limits.idle_poll_s)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    async def _step(self) -> bool:
        """Hand on the next changes; return whether there may be more."""
        if not self._clients:
            newest = (await self.store.position()).newest
            # A client that joined meanwhile counts on everything after the former place.
            if not self._clients:
                self._seq = newest
            return False
        changes = await self.store.changes(self._seq, self.limits.stream_page)
        if not changes:
            return False
        if changes[0].seq > self._seq + 1 and (await self.store.position()).oldest > self._seq + 1:
            # What lies between was removed before it was read: whoever comes again is told to load the list anew.
            for client in list(self._clients):
                self.drop(client, "behind")
        events = [encode(change) for change in changes]
        self._seq = changes[-1].seq
        for client in list(self._clients):
            if not client.hand(events):
                self.drop(client, "slow")
        return len(changes) == self.limits.stream_page


def encode(change: Change) -> Event:
    """Return a change as a server-sent event; JSON has no line breaks, so it is one line of data."""
    data = json.dumps(change.alarm, ensure_ascii=False, separators=(",", ":"))
    return Event(change.seq, f"event: alarm\nid: {change.seq}\ndata: {data}\n\n".encode())


class EventStream(Response):
    """The answer that goes on: what was missed, then what happens, until the client, its key or the server ends it."""

    media_type = MEDIA_TYPE
    charset = "utf-8"

    def __init__(
        self, broadcaster: Broadcaster, after: int | None, key_is_valid: Callable[[], Awaitable[bool]]
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        # Tells nginx not to collect events before it passes them on.
        self.headers["X-Accel-Buffering"] = "no"
        self._broadcaster = broadcaster
        self._after = after
        self._key_is_valid = key_is_valid

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until it ends. What the store refuses before the first byte is answered as any problem."""
        del scope
        with self._broadcaster.place():
            client, first = await self._begin()
            try:
                async with anyio.create_task_group() as tasks:
                    client.scope = tasks.cancel_scope
                    tasks.start_soon(_until_gone, receive, client)
                    await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                    await self._feed(client, first, send)
                    tasks.cancel_scope.cancel()
            finally:
                self._broadcaster.leave(client)

    async def _begin(self) -> tuple[Client, bytes]:
        """Return where the stream begins, and the event that says so."""
        position = await self._broadcaster.store.position()
        after, name = self._after, b""
        if after is None:
            after, name = position.newest, b"hello"
        elif not position.oldest - 1 <= after <= position.newest:
            after, name = position.newest, b"reset"
        client = Client(after, self._broadcaster.limits.stream_backlog_max)
        retry = b"retry: %d\n" % _RETRY_MS
        if not name:
            return client, retry + b"\n"
        return client, retry + b'event: %s\nid: %d\ndata: {"seq":%d}\n\n' % (name, after, after)

    async def _feed(self, client: Client, first: bytes, send: Send) -> None:
        await _send(send, first)
        limits = self._broadcaster.limits
        checked = time.monotonic()
        goes_on = await self._catch_up(client, send)
        while goes_on:
            events = await client.wait(limits.heartbeat_s)
            if events:
                await self._send_events(client, events, send)
            elif client.ended:
                break
            else:
                await _send(send, _HEARTBEAT)
            if time.monotonic() - checked >= limits.heartbeat_s:
                checked = time.monotonic()
                goes_on = await self._may_go_on()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _catch_up(self, client: Client, send: Send) -> bool:
        """Send what was missed, until the client can join; False if that is no longer there."""
        broadcaster = self._broadcaster
        while not broadcaster.join(client):
            try:
                changes = await broadcaster.store.changes(client.seq, broadcaster.limits.stream_page)
                oldest = (await broadcaster.store.position()).oldest
            except StoreError as error:
                _log.warning("a stream cannot read what it missed; the client comes again", error=str(error))
                return False
            # Asked after the read: what was still there then had not been removed while reading.
            if oldest > client.seq + 1 or not changes:
                broadcaster.metrics.streams_dropped.labels("behind").inc()
                return False
            await self._send_events(client, [encode(change) for change in changes], send)
        return True

    async def _send_events(self, client: Client, events: list[Event], send: Send) -> None:
        await _send(send, b"".join(event.wire for event in events))
        client.seq = events[-1].seq
        self._broadcaster.metrics.stream_events.inc(len(events))

    async def _may_go_on(self) -> bool:
        try:
            valid = await self._key_is_valid()
        except StoreError:
            return True
        if not valid:
            self._broadcaster.metrics.streams_dropped.labels("key").inc()
        return valid


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _until_gone(receive: Receive, client: Client) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    client.scope.cancel()

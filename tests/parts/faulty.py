"""A proxy in front of an HTTP service that lets chosen requests fail: before they are passed on, behind it, or halfway.

It stands where the network is: clients get the address of the proxy, and what arrives at the service is only what a
rule lets through. Every request that was asked for is kept, with what became of it.
"""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tests.parts.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

FAULTS = (
    "500",
    "503",
    "503 retry-after",
    "429",
    "429 retry-after",
    "403",
    "reset",
    "hang",
    "garbage",
    "slow",
    "cut",
    "applied 500",
    "applied reset",
    "applied hang",
)
"""What may become of a request: an answer without the service, a reset connection, no answer, an answer that is no
HTTP, a service that takes its time, an answer that breaks off in its body; and a request that the service carried out
and whose answer is an error, a reset or nothing."""

NOT_APPLIED = ("500", "503", "503 retry-after", "429", "429 retry-after", "reset", "hang", "garbage")
APPLIED = ("applied 500", "applied reset", "applied hang")

SLOW_S = 0.3
_LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class Request:
    """What a rule is told of a request.

    Attributes:
        method: GET, PUT and so on.
        path: Its path with the query.
        conditional: Whether it is to be refused where the name is taken.
    """

    method: str
    path: str
    conditional: bool


def once(method: str, pattern: str, fault: str, *, skip: int = 0, times: int = 1) -> Callable[[Request], str | None]:
    """Return a rule: requests of a method whose path matches meet a fault, after the first few, so many times."""
    seen = 0

    def rule(request: Request) -> str | None:
        nonlocal seen
        if request.method != method or not re.search(pattern, request.path):
            return None
        seen += 1
        return fault if skip < seen <= skip + times else None

    return rule


def nothing(_request: Request) -> str | None:
    """Let every request through."""
    return None


@dataclass
class Faulty:
    """The proxy; a context manager.

    Attributes:
        service: Address of what it stands before, with a path if there is one.
        rule: Decides what becomes of a request; may be replaced at any time.
        met: Faults that were met, as "PUT /path 500".
        asked: Every request.
    """

    service: str
    rule: Callable[[Request], str | None] = nothing
    met: list[str] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = urlsplit(self.service)
        self._host, self._service_port, self._path = parts.hostname, parts.port, parts.path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty", daemon=True)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = free_port()

    def __enter__(self) -> Self:
        self._thread.start()
        self.come_back()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_away()
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def endpoint(self) -> str:
        """The address to give to clients."""
        return f"http://127.0.0.1:{self.port}{self._path}"

    def go_away(self) -> None:
        """Refuse connections, and reset those that are open."""
        self._call(self._go_away())

    def come_back(self) -> None:
        """Listen again, at the same port."""
        self._call(self._come_back())

    def _call(self, coroutine: object) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)  # type: ignore[arg-type]

    async def _come_back(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=_LINE_BYTES_MAX)

    async def _go_away(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for each in list(self._open):
            _reset(each)

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a client, with one to the service behind it."""
        self._open.add(writer)
        behind: asyncio.StreamWriter | None = None
        try:
            answers, behind = await asyncio.open_connection(self._host, self._service_port, limit=_LINE_BYTES_MAX)
            while (head := await _head(reader)) is not None:
                body = await reader.readexactly(int(_header(head, b"content-length") or 0))
                if not await self._handle(head, body, reader, writer, answers, behind):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass  # One of the two sides is gone.
        finally:
            self._open.discard(writer)
            for each in (writer, behind):
                if each is not None:
                    each.close()
                    with suppress(OSError):
                        await each.wait_closed()

    async def _handle(
        self,
        head: bytes,
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        behind: asyncio.StreamWriter,
    ) -> bool:
        """Handle one request; whether the connection is still good for another."""
        method, path = head.split(b" ", 2)[:2]
        request = Request(method.decode(), path.decode(), _header(head, b"if-none-match") == b"*")
        self.asked.append(request)
        fault = self.rule(request)
        if fault is not None:
            self.met.append(f"{request.method} {request.path} {fault}")
        if fault in NOT_APPLIED or fault == "403":
            return await self._fail(fault, request, reader, writer)
        if fault == "slow":
            await asyncio.sleep(SLOW_S)
        behind.write(head + body)
        await behind.drain()
        answer = await _answer(answers, request.method)
        if fault in APPLIED:
            return await self._fail(fault.removeprefix("applied "), request, reader, writer)
        if fault == "cut":
            end = answer.index(b"\r\n\r\n") + 4
            writer.write(answer[: end + (len(answer) - end) // 2])
            await writer.drain()
            _reset(writer)
            return False
        writer.write(answer)
        await writer.drain()
        return True

    async def _fail(
        self, fault: str, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if fault == "reset":
            _reset(writer)
            return False
        if fault == "hang":
            await reader.read(1)  # Until the client gives up, or the proxy ends.
            return False
        if fault == "garbage":
            writer.write(b"SSH-2.0-what\r\n\r\n")
            await writer.drain()
            return False
        code, _, wish = fault.partition(" ")
        reason = HTTPStatus(int(code)).phrase
        text = b"" if request.method == "HEAD" else _ERROR % (reason.replace(" ", "").encode(), reason.encode())
        wished = b"Retry-After: 1\r\n" if wish else b""
        writer.write(
            b"HTTP/1.1 %s %s\r\nContent-Type: application/xml\r\n%sContent-Length: %d\r\n\r\n"
            % (code.encode(), reason.encode(), wished, len(text))
            + text
        )
        await writer.drain()
        return True


_ERROR = b'<?xml version="1.0" encoding="utf-8"?><Error><Code>%s</Code><Message>%s, by the proxy.</Message></Error>'


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset instead of in order."""
    writer.transport.abort()


async def _head(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next request's line and headers, None at the end."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None


def _header(head: bytes, name: bytes) -> bytes | None:
    found = re.search(rb"(?im)^" + name + rb":[ \t]*(.*?)[ \t]*\r$", head)
    return found[1] if found else None


async def _answer(reader: asyncio.StreamReader, method: str) -> bytes:
    """Return a whole answer of the service."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    if method == "HEAD" or status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        return head
    length = _header(head, b"content-length")
    if length is not None:
        return head + await reader.readexactly(int(length))
    parts = [head]
    if (_header(head, b"transfer-encoding") or b"").lower() == b"chunked":
        while True:
            line = await reader.readuntil(b"\r\n")
            parts += [line, await reader.readexactly(int(line.split(b";")[0], 16) + 2)]
            if int(line.split(b";")[0], 16) == 0:
                return b"".join(parts)
    raise AssertionError(f"an answer without a length: {head!r}")

"""The gate that every request passes before anything of it is read: id, key, rates, sizes, time, headers, log.

It stands before routing, so nothing can be added behind it that forgets to ask for a key. Which scope a route needs
is said by the route and checked by `api.deps.ScopedRoute`.
"""

import asyncio
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alumicatalyst.log import get_logger
from api.metrics import Metrics
from api.problems import RETRY_AFTER_S, Problem, of_store
from api.security.keys import Keys, Principal
from api.security.limits import Buckets, Limits, network
from api.store import StoreError

EXCHANGE: Final = "alumicatalyst.exchange"
# What a load balancer asks; everything else needs a key, paths that do not exist included.
OPEN_PATHS: Final = frozenset({"/livez", "/readyz"})
STREAM_PATH: Final = "/v1/stream"
_TABLES: Final = re.compile(r"/v1/ingest/(alarms|windows|latest)")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_GONE: Final = 499
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_log = get_logger(__name__)


@dataclass
class Exchange:
    """One request and its answer, as far as they have come."""

    request_id: str
    client: str
    body_bytes_max: int
    started: float = field(default_factory=time.monotonic)
    principal: Principal | None = None
    status: int | None = None
    body_bytes: int = 0
    body_done: bool = False


class Gate:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, *, keys: Keys, limits: Limits, metrics: Metrics) -> None:
        self._app = app
        self._keys = keys
        self._limits = limits
        self._metrics = metrics
        self._readers = Buckets(limits.requests_per_s, limits.requests_burst)
        self._sinks = Buckets(limits.ingest_requests_per_s, limits.ingest_requests_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        exchange = self._exchange(scope, headers)
        scope[EXCHANGE] = exchange
        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            await self._serve(scope, headers, exchange, receive, send)

    def _exchange(self, scope: Scope, headers: Headers) -> Exchange:
        given = headers.get("x-request-id", "")
        limits = self._limits
        exchange = Exchange(
            request_id=given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex,
            client=network(scope["client"][0]) if scope.get("client") else "unknown",
            body_bytes_max=limits.table_bytes_max if _TABLES.fullmatch(scope["path"]) else limits.body_bytes_max,
        )
        exchange.body_done = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        return exchange

    async def _serve(self, scope: Scope, headers: Headers, exchange: Exchange, receive: Receive, send: Send) -> None:
        async def bounded_receive() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                exchange.body_bytes += len(message.get("body", b""))
                exchange.body_done = not message.get("more_body", False)
                if exchange.body_bytes > exchange.body_bytes_max:
                    raise _too_large(exchange)
            return message

        async def noted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                answer = MutableHeaders(scope=message)
                for name, value in {**_HEADERS, "X-Request-Id": exchange.request_id}.items():
                    answer[name] = value
                if not exchange.body_done:
                    # The rest of the body would otherwise be read, however much of it comes.
                    answer["Connection"] = "close"
            await send(message)

        endless = scope["path"] == STREAM_PATH
        problem = None
        try:
            async with asyncio.timeout(None if endless else self._limits.request_s_max) as bound:
                problem = await self._answer(scope, headers, exchange, bounded_receive, noted_send)
        except TimeoutError:
            if not bound.expired():
                raise
            problem = self._timed_out(exchange)
        # Once an answer has begun nothing else can be said: to return is to cut it off, which the client notices.
        if problem is not None and exchange.status is None:
            await self._drain(exchange, receive)
            await problem.response(exchange.request_id)(scope, receive, noted_send)
        self._note(scope, exchange, endless=endless)

    async def _answer(
        self, scope: Scope, headers: Headers, exchange: Exchange, receive: Receive, send: Send
    ) -> Problem | None:
        try:
            _check_declared_size(headers, exchange)
            await self._admit(scope, headers, exchange)
            await self._app(scope, receive, send)
        except StoreError as error:
            return of_store(error)
        except Problem as problem:
            return problem
        except ClientDisconnect:
            exchange.status = exchange.status or _CLIENT_GONE
        except Exception:  # noqa: BLE001 - the last resort: whatever it is, the client gets no detail of it
            _log.exception("request failed", method=scope["method"], route=_route(scope))
            return Problem("internal", "couldn't answer the request: a defect of the API; report the request_id")
        return None

    async def _admit(self, scope: Scope, headers: Headers, exchange: Exchange) -> None:
        """Find out who asks, and whether not too often."""
        if scope["path"] in OPEN_PATHS:
            return
        try:
            principal = await self._keys.identify(headers.get("authorization"), exchange.client)
        except Problem as problem:
            if problem.slug == "rate-limited":
                self._metrics.rate_limited.labels("address").inc()
            raise
        exchange.principal = principal
        buckets = self._sinks if "ingest" in principal.scopes else self._readers
        wait = buckets.take(principal.id)
        if wait:
            self._metrics.rate_limited.labels("key").inc()
            raise Problem(
                "rate-limited",
                f"couldn't take the request: too many came with this key; wait {wait} s",
                headers={"Retry-After": str(wait)},
            )

    async def _drain(self, exchange: Exchange, receive: Receive) -> None:
        """Read on a little in a body that is refused: a connection closed on unread bytes loses the answer too."""
        taken = 0
        try:
            async with asyncio.timeout(self._limits.refused_body_s_max):
                while not exchange.body_done and taken < self._limits.refused_body_bytes_max:
                    message = await receive()
                    if message["type"] != "http.request":
                        return
                    taken += len(message.get("body", b""))
                    exchange.body_done = not message.get("more_body", False)
        except TimeoutError:
            return

    def _timed_out(self, exchange: Exchange) -> Problem:
        seconds = self._limits.request_s_max
        if exchange.body_done:
            return Problem(
                "timeout",
                f"couldn't answer within {seconds:g} s: the store is slow; try again, or ask for less",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        return Problem("request-timeout", f"couldn't read the body within {seconds:g} s; send it faster, or less of it")

    def _note(self, scope: Scope, exchange: Exchange, *, endless: bool) -> None:
        seconds = time.monotonic() - exchange.started
        route = _route(scope)
        status = exchange.status or _CLIENT_GONE
        self._metrics.observe(method=scope["method"], route=route, status=status, seconds=None if endless else seconds)
        log = _log.info if scope["method"] != "GET" or status >= 400 else _log.debug
        log(
            "request",
            method=scope["method"],
            route=route,
            status=status,
            ms=round(seconds * 1000, 1),
            actor=exchange.principal.name if exchange.principal else None,
            client=exchange.client,
        )


def _check_declared_size(headers: Headers, exchange: Exchange) -> None:
    declared = headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared) > exchange.body_bytes_max:
        raise _too_large(exchange)


def _too_large(exchange: Exchange) -> Problem:
    return Problem(
        "too-large", f"couldn't take the body: more than {exchange.body_bytes_max} bytes; send it in smaller parts"
    )


def _route(scope: Scope) -> str:
    """Return the template of the route, so that no id or made-up path becomes a label."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "unmatched"

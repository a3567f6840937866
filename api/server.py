"""Runs the application on uvicorn: the store opened and migrated, the socket bound, TLS, and an end without loss."""

import asyncio
import ipaddress
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn

from alumicatalyst import log
from alumicatalyst.errors import SettingsError
from alumicatalyst.settings import Settings
from api.app import create_app
from api.opening import open_store

if TYPE_CHECKING:
    from fastapi import FastAPI

    from api.security.limits import Limits
    from api.store import HotStore

# Requests may take 30 s; a process manager waits no longer than that by default.
_GRACE_S: Final = 20
# Beyond it uvicorn answers 503 itself; each connection costs a file descriptor.
_CONNECTIONS_MAX: Final = 1_000
_BACKLOG: Final = 128
_log = log.get_logger(__name__)


class Server(uvicorn.Server):
    """Ends the streams before it waits for the requests that run, as a stream never ends by itself."""

    def __init__(self, config: uvicorn.Config, app: "FastAPI") -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop serving."""
        self._app.state.broadcaster.close()
        await super().shutdown(sockets)


def configuration(app: "FastAPI", *, tls: tuple[Path, Path] | None = None) -> uvicorn.Config:
    """Return how uvicorn runs the application: no log, headers or trust in proxies of its own."""
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS_MAX,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
    )


def serve(settings: Settings, *, tls: tuple[Path, Path] | None = None, limits: "Limits | None" = None) -> None:
    """Serve until SIGTERM, or until Ctrl-C.

    Args:
        settings: Where to listen, and the hot store.
        tls: The certificate's chain and key; without them plain HTTP.
        limits: Other bounds than the usual ones.

    Raises:
        SettingsError: The address cannot be had, or the certificate not be read.
        StoreError: The hot store cannot be opened.
        KeyboardInterrupt: Ctrl-C, once everything is closed.
    """
    log.configure(settings.log_format)
    logging.getLogger("api").setLevel(logging.INFO)
    # Counts until uvicorn has its own handler, and again when that is done, as uvicorn then raises the signal anew.
    signal.signal(signal.SIGTERM, _end)
    with listen(settings.api.host, settings.api.port) as listener:
        asyncio.run(_serve(settings, listener, tls, limits))


def _end(*_: object) -> None:
    """End the process as asked to; whatever is open is closed on the way out."""
    sys.exit(0)


async def _serve(
    settings: Settings, listener: socket.socket, tls: tuple[Path, Path] | None, limits: "Limits | None"
) -> None:
    store = await open_store(settings.api.reveal_database_url())
    try:
        app = create_app(settings, store, limits)
        config = configuration(app, tls=tls)
        try:
            config.load()
        except OSError as error:
            raise SettingsError(
                f"couldn't set up TLS with {tls}: {error.strerror or error}; give the PEM files of one certificate"
            ) from error
        host, port = listener.getsockname()[:2]
        url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        if not tls and not ipaddress.ip_address(host).is_loopback:
            _log.warning(
                "KEYS TRAVEL IN PLAIN TEXT: other machines can reach this API and it has no TLS; put a proxy with TLS "
                "in front and bind to 127.0.0.1, or give --tls-cert and --tls-key",
                url=url,
            )
        _log.info("serving", url=url)
        await Server(config, app).serve([listener])
    finally:
        await _close(store)


async def _close(store: "HotStore") -> None:
    """Close the store, and see it closed even on Ctrl-C: uvicorn raises that anew, which cancels what runs."""
    closing = asyncio.create_task(store.close())
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await closing
        raise
    finally:
        _log.info("stopped")


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, so that an address in use is an error of ours and the port is known.

    Raises:
        SettingsError: The address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise SettingsError(
            f"couldn't listen on {host}:{port}: {error.strerror or error}; set api.host to an address of this machine "
            "and api.port to a free port, or 0 for any"
        ) from error
    return listener

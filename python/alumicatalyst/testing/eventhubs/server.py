"""Starts and stops the stand-in: in a thread for tests, or in the foreground for `alumicatalyst emulator`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self, TypeVar

from alumicatalyst.testing.eventhubs.connection import Connection
from alumicatalyst.testing.eventhubs.log import RETENTION_BYTES, SEGMENT_BYTES
from alumicatalyst.testing.eventhubs.message import event_from
from alumicatalyst.testing.eventhubs.model import Namespace
from alumicatalyst.testing.eventhubs.service import POLICY

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from alumicatalyst.testing.eventhubs.partition import Partition

_LOGGER = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 256
# Addresses to bind to that are none to connect to.
_ANY: Final = frozenset(("", "0.0.0.0", "::"))  # noqa: S104
_TICK_S: Final = 5.0
_T = TypeVar("_T")


def _lock(directory: Path) -> IO[str]:
    """Hold the directory, so that two stand-ins never write to one log."""
    directory.mkdir(parents=True, exist_ok=True)
    file = (directory / "lock").open("a")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        _LOGGER.warning("cannot lock %s on this system: see that only one emulator uses it", directory)
    except OSError as error:
        file.close()
        raise ValueError(f"couldn't use {directory}: another emulator is running on it; stop it first") from error
    return file


class Emulator:
    """An Event Hubs namespace on this machine that the real azure-eventhub SDK talks to.

    Use it as a context manager, or call `start` and `stop`. It runs in a thread of its own.

    Args:
        hubs: Name -> number of partitions.
        directory: Where events are kept over restarts; None: until `stop`.
        port: TCP port; 0 takes a free one, see `port`.
        host: Address to bind to.
        key: The shared access key that clients must sign with; None lets everyone in.
        groups: Consumer groups besides `$Default`.
        tls: Server context for TLS; None: plain TCP, which the SDK takes with `UseDevelopmentEmulator=true`.
        connections_max: Further connections are refused.
        segment_bytes: Size of a file of a partition's log.
        retention_bytes: Size of a partition's log above which its oldest files go.
        clock_ms: The broker's clock; None is the machine's.

    Raises:
        ValueError: The hubs, or what the directory holds, do not fit.
        OSError: The port is taken.

    Example:
        >>> with Emulator({"telemetry": 4}) as emulator:
        ...     emulator.append("telemetry", 0, [b'{"deviceId": "pot-001"}'])
        ...     emulator.connection_string("telemetry").startswith("Endpoint=sb://127.0.0.1:")
        True
    """

    def __init__(
        self,
        hubs: Mapping[str, int],
        directory: str | Path | None = None,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        key: str | None = None,
        groups: Iterable[str] = (),
        tls: ssl.SSLContext | None = None,
        connections_max: int = CONNECTIONS_MAX,
        segment_bytes: int = SEGMENT_BYTES,
        retention_bytes: int = RETENTION_BYTES,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._hubs = dict(hubs)
        self._directory = None if directory is None else Path(directory)
        self._key = key
        self._tls = tls
        self._connections_max = connections_max
        self._options: dict[str, Any] = {
            "groups": tuple(groups),
            "segment_bytes": segment_bytes,
            "retention_bytes": retention_bytes,
        }
        if clock_ms is not None:
            self._options["clock_ms"] = clock_ms
        self._connections: set[Connection] = set()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Open the logs, listen, and return when clients can connect."""
        with contextlib.ExitStack() as undo:
            if self._directory is not None:
                undo.callback(_lock(self._directory).close)
            self._namespace = Namespace(self._hubs, self._directory, **self._options)
            undo.callback(self._namespace.close)
            self._loop = asyncio.new_event_loop()
            undo.callback(self._loop.close)
            server = self._loop.run_until_complete(
                self._loop.create_server(
                    lambda: Connection(self._namespace, self._key, self._connections, self._connections_max),
                    self.host,
                    self.port,
                    ssl=self._tls,
                    reuse_address=True,
                )
            )
            self.port = server.sockets[0].getsockname()[1]
            self._server = server
            self._release = undo.pop_all()
        self._thread = threading.Thread(target=self._run, name="eventhubs-emulator", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        tick = self._loop.create_task(self._tick())
        self._loop.run_forever()
        tick.cancel()
        self._loop.run_until_complete(asyncio.gather(tick, return_exceptions=True))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            for connection in list(self._connections):
                connection.tick(time.monotonic())

    def stop(self) -> None:
        """Close all connections and the logs. Calling it again does nothing."""
        if self._thread is None:
            return
        self._call(self._server.close)
        for farewell in (Connection.shut, Connection.abort):
            # Each call is at least one turn of the loop, in which the sockets are written to.
            self._call(partial(self._each, farewell))
            self._call(lambda: None)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._thread = None
        self._connections.clear()
        self._release.close()

    def _each(self, action: Callable[[Connection], None]) -> int:
        connections = list(self._connections)
        for connection in connections:
            action(connection)
        return len(connections)

    def _call(self, function: Callable[[], _T]) -> _T:
        """Run a function in the server's thread and return what it returns."""

        async def run() -> _T:
            return function()

        if self._thread is None:
            raise RuntimeError("couldn't reach the emulator: it is not running; call start() first")
        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def connection_string(self, hub: str | None = None) -> str:
        """What a client needs to connect; with a hub, it has its EntityPath."""
        host = "127.0.0.1" if self.host in _ANY else self.host
        parts = [
            f"Endpoint=sb://{host}:{self.port}",
            f"SharedAccessKeyName={POLICY}",
            f"SharedAccessKey={self._key or 'not-checked'}",
        ]
        if hub is not None:
            parts.append(f"EntityPath={hub}")
        if self._tls is None:
            parts.append("UseDevelopmentEmulator=true")
        return ";".join(parts)

    def append(
        self,
        hub: str,
        partition: int | str,
        bodies: Sequence[bytes],
        *,
        properties: Mapping[str, Any] | None = None,
        annotations: Mapping[str, Any] | None = None,
        enqueued_ms: int | None = None,
    ) -> None:
        """Store events without a client, all with the same properties, annotations and enqueued time."""
        events = [event_from(body, properties, annotations) for body in bodies]

        def add() -> None:
            now_ms = self._namespace.clock_ms() if enqueued_ms is None else enqueued_ms
            self._partition(hub, partition).append(events, now_ms)

        self._call(add)

    def cut(self) -> int:
        """Break all connections, as a network does; the number of them."""
        return self._call(lambda: self._each(Connection.abort))

    def expire(self, hub: str, partition: int | str, before: int) -> None:
        """Drop the events of a partition below a sequence number, as the end of their retention does."""
        self._call(lambda: self._partition(hub, partition).log.expire(before))

    def held(self, hub: str, partition: int | str) -> range:
        """The sequence numbers that a partition holds; `held(...).stop` is the next one to be given."""
        return self._call(
            lambda: range(self._partition(hub, partition).log.begin, self._partition(hub, partition).log.end)
        )

    def readers(self, hub: str, partition: int | str) -> int:
        """How many links read a partition now."""
        return self._call(lambda: self._partition(hub, partition).readers)

    def _partition(self, hub: str, partition: int | str) -> Partition:
        return self._namespace.hub(hub).partition(str(partition))

"""The connections to a SQLite file and to a PostgreSQL server: how many, with which settings, and what runs on them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine

from api.store.inline import Inline, at_once

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

T = TypeVar("T")

# How long a transaction waits for another's lock, or for a free connection, before the caller is told to come back.
WAIT_S = 5.0
READERS = 4
POSTGRES_CONNECTIONS = 8
# A request ends after half a minute; what it asked of the database must not outlive it by much.
STATEMENT_S = 30.0
WAL_BYTES_KEPT = 64 * 1024 * 1024


def sqlite_path(url: URL) -> Path:
    """Return the file of a SQLite database."""
    return Path(url.database or "")


class File:
    """A SQLite file: one connection that writes, several that read, and threads that run each transaction whole."""

    def __init__(self, url: URL) -> None:
        self._writer = _sqlite_engine(url, connections=1, begin="BEGIN IMMEDIATE", pragmas=("synchronous=FULL",))
        self._reader = _sqlite_engine(url, connections=READERS, begin="BEGIN", pragmas=("query_only=ON",))
        # More than there are connections, so that who waits for one is told in time.
        self._threads = ThreadPoolExecutor(4 * READERS, thread_name_prefix="sqlite")

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` on a connection that only reads."""

        def run() -> T:
            with self._reader.connect() as connection:
                return at_once(work(cast("AsyncConnection", Inline(connection))))

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in a transaction."""

        def run() -> T:
            with self._writer.begin() as connection:
                return at_once(work(cast("AsyncConnection", Inline(connection))))

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.to_thread(self._threads.shutdown)
        self._writer.dispose()
        self._reader.dispose()


class Server:
    """A PostgreSQL database, shared with other processes."""

    def __init__(self, url: URL) -> None:
        self._engine = _postgres_engine(url)

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` on a connection."""
        async with self._engine.connect() as connection:
            return await work(connection)

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in a transaction."""
        async with self._engine.begin() as connection:
            return await work(connection)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


def _sqlite_engine(url: URL, *, connections: int, begin: str, pragmas: tuple[str, ...]) -> Engine:
    engine = create_engine(
        # mode=rw: a file that is not there is an error, never an empty database.
        URL.create(
            "sqlite+pysqlite",
            database=f"file:{quote(str(sqlite_path(url).absolute()))}",
            query={"mode": "rw", "uri": "true"},
        ),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=WAIT_S,
        # A connection serves whichever thread has taken it from the pool.
        connect_args={"timeout": WAIT_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        # The driver must not begin transactions by itself: its own BEGIN takes the lock too late to wait for it.
        connection.isolation_level = None
        cursor = connection.cursor()
        try:
            for pragma in (*pragmas, f"journal_size_limit={WAL_BYTES_KEPT}", "cache_size=-65536"):
                cursor.execute(f"PRAGMA {pragma}")
        finally:
            cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgres_engine(url: URL) -> AsyncEngine:
    limits = {
        "lock_timeout": WAIT_S,
        "statement_timeout": STATEMENT_S,
        # A replica that stalls inside a transaction would hold the counter of seqs, and with it every other writer.
        "idle_in_transaction_session_timeout": 2 * WAIT_S,
    }
    options = " ".join(f"-c {name}={int(seconds * 1000)}" for name, seconds in limits.items())
    return create_async_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=POSTGRES_CONNECTIONS,
        max_overflow=0,
        pool_timeout=WAIT_S,
        # After a restart of the server every connection in the pool is a dead one.
        pool_pre_ping=True,
        connect_args={"connect_timeout": int(WAIT_S), "options": options},
    )

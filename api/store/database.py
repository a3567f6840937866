"""Transactions of the hot store on SQLite and PostgreSQL, and what their failures mean.

SQLite has one connection that writes, in WAL mode, beside several that only read. Every commit is synced to disk
(synchronous=FULL): a post is one transaction of many rows, so it costs little, and a power cut can neither take back an
operator's acknowledgement nor a seq that a stream has shown.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.store.connections import WAIT_S, File, Server
from api.store.errors import StoreBusy, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")

ATTEMPTS = 5

# PostgreSQL's classes: connection, resources, intervention by an operator, and the system's own errors (I/O).
BUSY_CLASSES = ("08", "53", "57", "58")
# A lock not had in time, a session that stood still in a transaction for too long, a standby, and a database that is
# being dropped or recovered.
BUSY_STATES = ("55P03", "25P03", "25006", "55006")
# Serialization failure, deadlock, and a key that another inserted at the same time: begun again, the transaction sees
# what the other did and decides otherwise.
COLLISION_STATES = ("40001", "40P01", "23505")
# Authorization and a database that is not there; permission; damage.
BROKEN_CLASSES = ("28", "3D", "XX")
BROKEN_STATES = ("42501",)
# SQLite's: busy, locked, no memory, read-only, interrupted, I/O, full, cannot open.
BUSY_CODES = frozenset({5, 6, 7, 8, 9, 10, 13, 14})


def url_of(text: str) -> URL:
    """Return a database's address, checked, without a driver.

    Raises:
        StoreError: It is neither `sqlite:///PATH` nor `postgresql://...`.
    """
    remedy = "use sqlite:///PATH or postgresql://USER@HOST/DATABASE"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        # The text may hold a password, so it is not shown.
        raise StoreError(f"couldn't understand the address of the hot store's database; {remedy}") from error
    if url.drivername not in {"sqlite", "postgresql"}:
        raise StoreError(f"couldn't open a hot store on {url.drivername}; {remedy}")
    if url.drivername == "sqlite" and url.database in {None, "", ":memory:"}:
        raise StoreError(f"couldn't open a hot store in memory; {remedy}")
    return url


def is_sqlite(url: URL) -> bool:
    """Return whether an address is a file."""
    return url.drivername == "sqlite"


def shown(url: URL) -> str:
    """Return an address as a message may show it: without its password."""
    return url.render_as_string(hide_password=True)


class Database:
    """The connections to one database.

    Attributes:
        url: Its address.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        self._begun: set[asyncio.Task[Any]] = set()
        self._connections: File | Server = File(url) if is_sqlite(url) else Server(url)

    async def close(self) -> None:
        """Close every connection, once what was begun has ended."""
        await asyncio.gather(*self._begun, return_exceptions=True)
        await self._connections.close()

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Look, on a connection whose statements see one and the same state of a SQLite database.

        Raises:
            StoreBusy: The database is out of reach.
        """

        async def run() -> T:
            with failures(self.url):
                return await self._connections.read(work)

        return await self._to_its_end(run())

    async def write(
        self, work: Callable[[AsyncConnection], Awaitable[T]], then: Callable[[T], None] | None = None
    ) -> T:
        """Run a transaction: all of `work` is stored, or nothing.

        Args:
            work: Is run again, from its start, after a deadlock and the like.
            then: Is called with what `work` gave, once it is stored.

        Raises:
            StoreBusy: Nothing was stored; or, if the server went away while it committed, all was. Every write of the
                store may be repeated then: a post by its marks, an operator's by its idempotency key.
        """

        async def run() -> T:
            attempt = 0
            while True:
                attempt += 1
                try:
                    with failures(self.url):
                        done = await self._connections.write(work)
                except Collision:
                    if attempt == ATTEMPTS:
                        raise
                    # Two that collided must not come back together.
                    await asyncio.sleep(random.uniform(0.0, 0.02 * attempt))  # noqa: S311
                else:
                    if then is not None:
                        then(done)
                    return done

        return await self._to_its_end(run())

    async def _to_its_end(self, run: Coroutine[Any, Any, T]) -> T:
        """Let what was begun end by itself, even if the caller's request is cancelled meanwhile.

        A connection that is torn down in the middle of a statement can keep its lock until the collector comes by. The
        database's own limits bound how long the rest takes.
        """
        task = asyncio.create_task(run)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return await asyncio.shield(task)


class Collision(StoreBusy):
    """Two transactions met; this one was undone, and is expected to pass when it is run once more."""


@contextmanager
def failures(url: URL) -> Iterator[None]:
    """Turn what a driver raises into StoreBusy or StoreError; a defect of ours passes as it is."""
    try:
        yield
    except PoolTimeout as error:
        raise StoreBusy(f"couldn't get a connection to {shown(url)} within {WAIT_S:g} s; try again") from error
    except DBAPIError as error:
        raise _meaning(error, error.orig, url) from error
    except psycopg.Error as error:
        # COPY is spoken to the driver itself.
        raise _meaning(error, error, url) from error
    except OSError as error:
        raise StoreBusy(f"couldn't reach {shown(url)}: {error}; try again") from error


def _meaning(error: Exception, cause: BaseException | None, url: URL) -> Exception:
    """Return what an error of a driver means for the caller, or the error itself if the defect is ours."""
    said = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    code = _sqlite_code(cause)
    if code is not None:
        busy, broken = code in BUSY_CODES, True
    else:
        state = getattr(cause, "sqlstate", None) or ""
        if state in COLLISION_STATES:
            return Collision(f"couldn't write to {shown(url)}: {said}; try again")
        # psycopg tells of a server that is not there without any state.
        gone = not state and isinstance(cause, psycopg.OperationalError)
        busy = gone or state.startswith(BUSY_CLASSES) or state in BUSY_STATES
        broken = state.startswith(BROKEN_CLASSES) or state in BROKEN_STATES
    if busy:
        return StoreBusy(f"couldn't use {shown(url)}: {said}; try again")
    return StoreError(f"couldn't use {shown(url)}: {said}; mend the database") if broken else error


def _sqlite_code(error: BaseException | None) -> int | None:
    """Return SQLite's primary result code, unless it says that a statement is wrong: that is a defect of ours."""
    while error is not None and not isinstance(error, sqlite3.Error):
        error = error.__cause__
    code = getattr(error, "sqlite_errorcode", 1) & 0xFF
    return None if code in {1, 19, 20, 21, 25} else code

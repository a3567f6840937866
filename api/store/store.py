"""The hot store as its callers see it: each method is one transaction, or one look, of another module."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from alumicatalyst.transitions import storable
from api.store import access, confirm, ingest, listing, marks, operate, prune, schema, values
from api.store.clock import number_of
from api.store.connections import sqlite_path
from api.store.contract import Change, Position, Retention
from api.store.database import Database, is_sqlite, url_of
from api.store.migrate import check_version, version
from api.store.publish import decoded
from api.store.rows import check_range, checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Self

    import pyarrow as pa
    from sqlalchemy.ext.asyncio import AsyncConnection

    from api.store.contract import Accepted, AlarmFilter, Key, Kind, Marks, Page, Scope, SeriesFilter, WindowFilter


class HotStore:
    """A database of alarms, windows, latest values and keys.

    Attributes:
        on_change: Called on the event loop after a commit of this process that published changes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.on_change: Callable[[], None] | None = None

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open a database that `migrate` has brought to the version of this code.

        Args:
            url: `sqlite:///PATH` or `postgresql://...`.

        Raises:
            StoreError: It is missing or of another version; the message says what to run.
            StoreBusy: It is out of reach.
        """
        database = Database(url_of(url))
        store = cls(database)
        try:
            await store.ready()
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Close every connection."""
        await self._database.close()

    async def ready(self) -> None:
        """Return if the database answers and has the version of this code, else raise StoreError."""
        url = self._database.url
        if is_sqlite(url) and not await asyncio.to_thread(sqlite_path(url).exists):
            check_version(None, url)
        check_version(await self._database.read(lambda connection: connection.run_sync(version)), url)

    async def ingest(
        self, kind: Kind, partition: str, follows: int, last: int, rows: pa.Table, *, committed: bool
    ) -> Accepted:
        """Store the rows of a partition with sequence numbers in (follows, last], in one transaction.

        Raises:
            Gap: `follows` is above the mark (of a refill of alarms: is not what is confirmed).
            BadRows: The table breaks its schema, or holds rows outside of the range or partition.
            StoreBusy: Nothing was stored; try again.
        """
        # Checked before the transaction, which must not be held while a large table is looked through.
        rows = await asyncio.to_thread(checked, kind, rows, partition, follows, last)

        async def work(connection: AsyncConnection) -> tuple[Accepted, int]:
            return await ingest.ingest(connection, kind, storable(partition), follows, last, rows, committed=committed)

        accepted, _ = await self._database.write(work, lambda done: self._tell(done[1]))
        return accepted

    async def commit(self, partition: str, follows: int, last: int, transitions: int, sha256: str) -> Accepted:
        """Confirm that the lake holds a partition through `last`, with as many transitions of this digest.

        Raises:
            Gap: `follows` is not what is confirmed.
            Mismatch: The store's transitions of the range are others.
            StoreBusy: Nothing was stored; try again.
        """
        check_range(follows, last)

        async def work(connection: AsyncConnection) -> Accepted:
            return await confirm.commit(connection, storable(partition), follows, last, transitions, sha256)

        return await self._database.write(work, lambda done: self._tell(done.accepted))

    async def marks(self) -> list[Marks]:
        """Return the marks of every partition, by name."""
        return await self._database.read(marks.listed)

    async def alarms(self, where: AlarmFilter, *, limit: int, cursor: str | None) -> Page:
        """List alarms, newest raised first.

        Raises:
            BadCursor: No page ended with this cursor.
        """
        return await self._database.read(
            lambda connection: listing.alarms(connection, where, limit=limit, cursor=cursor)
        )

    async def alarm(self, alarm_id: str) -> dict[str, Any] | None:
        """Return one alarm, with `"retracted": true` if the lake does not have it, or None."""
        return await self._database.read(lambda connection: listing.alarm(connection, alarm_id))

    async def history(self, alarm_id: str) -> list[dict[str, Any]] | None:
        """Return what the process and the operators did to an alarm, in order of arrival, or None."""
        return await self._database.read(lambda connection: listing.history(connection, alarm_id))

    async def acknowledge(
        self, alarm_id: str, *, actor: str, comment: str, idempotency_key: str | None
    ) -> dict[str, Any]:
        """Acknowledge an alarm and return it.

        Raises:
            NotFound: There is no such alarm.
            NotAllowed: It is acknowledged or retracted.
            KeyReused: The actor used the idempotency key for another request.
            StoreBusy: Nothing was stored; try again.
        """

        async def work(connection: AsyncConnection) -> tuple[dict[str, Any], int]:
            return await operate.acknowledge(
                connection, alarm_id, actor=actor, comment=comment, idempotency_key=idempotency_key
            )

        alarm, _ = await self._database.write(work, lambda done: self._tell(done[1]))
        return alarm

    async def series(self, where: SeriesFilter, *, limit: int, cursor: str | None) -> Page:
        """List the latest value of each series, by device and metric."""
        return await self._database.read(
            lambda connection: values.series(connection, where, limit=limit, cursor=cursor)
        )

    async def windows(self, where: WindowFilter, *, limit: int, cursor: str | None) -> Page:
        """List windows, newest start first."""
        return await self._database.read(
            lambda connection: values.windows(connection, where, limit=limit, cursor=cursor)
        )

    async def position(self) -> Position:
        """Return which changes are retained."""
        counter, seq = schema.counters.c, schema.changes.c.seq
        newest = select(counter.value).where(counter.name == "changes").scalar_subquery()

        async def work(connection: AsyncConnection) -> Position:
            first, last = (await connection.execute(select(func.min(seq), newest))).one()
            return Position(last + 1 if first is None else first, last)

        return await self._database.read(work)

    async def changes(self, after: int, limit: int) -> list[Change]:
        """Return changes with a greater seq than `after`, ascending; whoever has seen n has seen all below n."""
        columns = schema.changes.c
        statement = select(columns.seq, columns.alarm).where(columns.seq > after).order_by(columns.seq).limit(limit)

        async def work(connection: AsyncConnection) -> list[Change]:
            return [Change(seq, decoded(alarm)) for seq, alarm in await connection.execute(statement)]

        return await self._database.read(work)

    async def create_key(
        self,
        name: str,
        scopes: frozenset[Scope],
        expires: datetime | None,
        *,
        id: str,  # noqa: A002 -- the word that keys are shown with.
        sha256: bytes,
        actor: str = "console",
    ) -> None:
        """Add an API key.

        Raises:
            StoreError: There is a key of this id.
        """

        async def work(connection: AsyncConnection) -> None:
            await access.create(
                connection, name=name, scopes=scopes, expires=expires, id=id, sha256=sha256, actor=actor
            )

        await self._database.write(work)

    async def key(self, id: str) -> Key | None:  # noqa: A002
        """Return one key, also an expired or revoked one."""
        return await self._database.read(lambda connection: access.one(connection, id))

    async def keys(self) -> list[Key]:
        """Return every key, oldest first."""
        return await self._database.read(access.every)

    async def revoke_key(self, name_or_id: str, *, actor: str = "console") -> bool:
        """Revoke the key of this id, or every key of this name; return whether one was revoked."""

        async def work(connection: AsyncConnection) -> bool:
            return await access.revoke(connection, name_or_id, actor=actor)

        return await self._database.write(work)

    async def prune(self, *, now: datetime, retention: Retention | None = None) -> None:
        """Remove what is older than its retention, a bounded number of rows a transaction."""
        for work in prune.steps(retention or Retention(), number_of(now)):
            while await self._database.write(work):
                pass

    def _tell(self, published: int) -> None:
        if published and self.on_change is not None:
            self.on_change()

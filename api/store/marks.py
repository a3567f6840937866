"""How far each partition is: its row is read first in every post, and locks the partition until the post has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select, update

from api.store import schema
from api.store.bulk import put
from api.store.contract import Marks

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_KINDS = ("alarms", "windows", "latest", "committed")
_COLUMNS = schema.marks.c
_ALL = select(_COLUMNS.partition, *(_COLUMNS[kind] for kind in _KINDS))
_ONE = _ALL.where(_COLUMNS.partition == bindparam("name")).with_for_update()


async def locked(connection: AsyncConnection, partition: str) -> Marks:
    """Return the marks of a partition, -1 each for a new one, and keep other writers away from it."""
    row = (await connection.execute(_ONE, {"name": partition})).one_or_none()
    if row is None:
        # Another replica may add it at the same moment; then its row is waited for, and read.
        new: dict[str, list[str] | list[int]] = {"partition": [partition], **{kind: [-1] for kind in _KINDS}}
        await put(connection, schema.marks, new, "ON CONFLICT DO NOTHING")
        row = (await connection.execute(_ONE, {"name": partition})).one()
    return Marks(*row)


async def move(connection: AsyncConnection, partition: str, **marks: int) -> None:
    """Set some marks of a partition that is locked."""
    await connection.execute(update(schema.marks).where(_COLUMNS.partition == partition).values(marks))


async def listed(connection: AsyncConnection) -> list[Marks]:
    """Return the marks of every partition, by name."""
    return [Marks(*row) for row in await connection.execute(_ALL.order_by(_COLUMNS.partition))]

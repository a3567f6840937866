"""Removes what is older than its retention, a bounded number of rows in each transaction.

Keys and the audit are kept. Of alarms, only those that are over are removed: normal ones, whose last transition the
lake has confirmed, and retracted ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, delete, func, or_, select

from api.store import schema
from api.store.bulk import among
from api.store.clock import DAY_US
from api.store.fold import RETRACTED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from api.store.contract import Retention

PART = 2_000


def steps(retention: Retention, now: int) -> list[Callable[[AsyncConnection], Awaitable[int]]]:
    """Return one transaction's work for each table; each is repeated until it returns 0, the rows it removed."""
    windows, answers = schema.windows.c, schema.answers.c
    old_window = now - _us(retention.windows_days)
    return [
        # A window starts before it ends: the first condition is the one that has an index.
        _removing(schema.windows, and_(windows.window_start < old_window, windows.window_end < old_window)),
        _removing(schema.answers, answers.time < now - _us(retention.answers_days)),
        lambda connection: _changes(connection, now - _us(retention.changes_days), retention.changes_max),
        lambda connection: _alarms(connection, now - _us(retention.alarms_days)),
    ]


def _us(days: float) -> int:
    return int(days * DAY_US)


def _removing(table: Table, condition: ColumnElement[bool]) -> Callable[[AsyncConnection], Awaitable[int]]:
    key = list(table.primary_key.columns)

    async def remove(connection: AsyncConnection) -> int:
        some = select(*key).where(condition).limit(PART)
        ids = [tuple(row) for row in await connection.execute(some)]
        return await _delete(connection, table, ids)

    return remove


async def _delete(connection: AsyncConnection, table: Table, ids: list[tuple[object, ...]]) -> int:
    """Delete rows by their primary keys."""
    if ids:
        key = list(table.primary_key.columns)
        names = [f"key_{place}" for place in range(len(key))]
        matches = and_(*(column == bindparam(name) for column, name in zip(key, names, strict=True)))
        await connection.execute(delete(table).where(matches), [dict(zip(names, id_, strict=True)) for id_ in ids])
    return len(ids)


async def _changes(connection: AsyncConnection, old: int, changes_max: int) -> int:
    """Remove a run of the oldest changes, so that those that are left have no gap."""
    columns = schema.changes.c
    oldest, newest = (await connection.execute(select(func.min(columns.seq), func.max(columns.seq)))).one()
    if oldest is None:
        return 0
    some = select(columns.seq, columns.time).where(columns.seq < oldest + PART).order_by(columns.seq)
    last = None
    for seq, time in await connection.execute(some):
        if time >= old and seq > newest - changes_max:
            break
        last = seq
    if last is None:
        return 0
    result = await connection.execute(delete(schema.changes).where(columns.seq <= last))
    return result.rowcount


async def _alarms(connection: AsyncConnection, old: int) -> int:
    columns = schema.alarms.c
    over = or_(
        and_(columns.state == "normal", columns.cleared_time < old, columns.acknowledged_time < old),
        columns.state == RETRACTED,
    )
    # Locked, so that none is taken while its next transition is on its way; one that is locked can wait for next time.
    some = (
        select(columns.alarm_id)
        .where(over, columns.raised_time < old, ~columns.provisional)
        .limit(PART)
        .with_for_update(skip_locked=True)
    )
    ids = [row.alarm_id for row in await connection.execute(some)]
    for table in (schema.transitions, schema.actions, schema.alarms):
        await connection.execute(delete(table).where(among(connection, table.c.alarm_id, ids)))
    return len(ids)

"""Confirms what the lake holds: a digest over a range, and the alarms that are provisional no longer."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sqlalchemy import select

from api.store import schema
from api.store.clock import now
from api.store.contract import Accepted
from api.store.errors import Gap, Mismatch
from api.store.marks import locked, move
from api.store.publish import COLUMNS, publish, stored_of, take_seqs

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

PART = 2_000


async def commit(
    connection: AsyncConnection, partition: str, follows: int, last: int, transitions: int, sha256: str
) -> Accepted:
    """Confirm a range, if the store's transitions are the lake's; see HotStore.commit."""
    marks = await locked(connection, partition)
    if last <= marks.committed:
        return Accepted(marks.committed, 0)
    if follows != marks.committed:
        raise Gap(marks.alarms, marks.committed)
    if await digest(connection, partition, follows, last) != (transitions, sha256.lower()):
        raise Mismatch(marks.committed)
    # The digest says that nothing is missing, so a post of these rows that comes later holds nothing new.
    await move(connection, partition, committed=last, alarms=max(marks.alarms, last))
    return Accepted(last, await confirm(connection, partition, last))


async def digest(connection: AsyncConnection, partition: str, follows: int, last: int) -> tuple[int, str]:
    """Return how many transitions stand in a range, and the SHA-256 of their identities."""
    columns = schema.transitions.c
    statement = (
        select(columns.alarm_id, columns.step)
        .where(
            columns.partition == partition,
            columns.sequence_number > follows,
            columns.sequence_number <= last,
            columns.retracted_seq == 0,
        )
        .order_by(columns.alarm_id, columns.step)
    )
    hashed, number = hashlib.sha256(), 0
    async with connection.stream(statement) as rows:
        async for part in rows.partitions(PART):
            hashed.update("".join(f"{alarm_id} {step}\n" for alarm_id, step in part).encode())
            number += len(part)
    return number, hashed.hexdigest()


async def confirm(connection: AsyncConnection, partition: str, committed: int) -> int:
    """Publish the alarms of a partition that are provisional no longer, and return how many."""
    columns = schema.alarms.c
    statement = (
        select(*COLUMNS)
        .where(columns.partition == partition, columns.provisional, columns.sequence_last <= committed)
        .order_by(columns.sequence_last, columns.alarm_id)
        .limit(PART)
        .with_for_update()
    )
    confirmed = 0
    while rows := [stored_of(row) for row in await connection.execute(statement)]:
        first = await take_seqs(connection, len(rows))
        await publish(
            connection,
            [row._replace(provisional=False, seq=first + place) for place, row in enumerate(rows)],
            time=now(),
        )
        confirmed += len(rows)
    return confirmed

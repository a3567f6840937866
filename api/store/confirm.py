"""Confirms what the lake holds: a digest over a range, and the alarms that are provisional no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, select

from alumicatalyst.transitions import FIELDS, Digest
from api.store import schema
from api.store.clock import now
from api.store.contract import Accepted
from api.store.cursor import above
from api.store.errors import Gap, Mismatch
from api.store.marks import locked, move
from api.store.publish import load, publish, take_seqs

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
    return Accepted(last, await confirm(connection, partition, follows, last))


async def digest(connection: AsyncConnection, partition: str, follows: int, last: int) -> tuple[int, str]:
    """Return how many transitions stand in a range, and their digest."""
    columns = schema.transitions.c
    statement = (
        select(*(columns[name] for name in FIELDS))
        .where(
            columns.partition == partition,
            columns.sequence_number > follows,
            columns.sequence_number <= last,
            columns.retracted_seq == 0,
        )
        .order_by(columns.alarm_id, columns.step)
    )
    found = Digest()
    async with connection.stream(statement) as rows:
        async for part in rows.partitions(PART):
            found.add(part)
    return found.number, found.hexdigest()


async def confirm(connection: AsyncConnection, partition: str, follows: int, last: int) -> int:
    """Publish the alarms that are provisional no longer, now that a range is confirmed, and return how many."""
    columns = schema.transitions.c
    order = (columns.sequence_number, columns.alarm_id, columns.step, columns.retracted_seq)
    statement = select(*order).where(columns.partition == partition, columns.sequence_number <= last).order_by(*order)
    # Before the first row of the range.
    place: tuple[Any, ...] = (follows + 1, "", -1, -1)
    confirmed, time = 0, now()
    # An alarm is provisional by its last transition, so it becomes firm with the range that this one is in.
    while True:
        # The first condition follows from the second; the index begins with it.
        behind = and_(columns.sequence_number >= place[0], above(order, place))
        found = (await connection.execute(statement.where(behind).limit(PART))).all()
        known = await load(connection, list(dict.fromkeys(row.alarm_id for row in found)), lock=True)
        firm = [row for row in known.values() if row.provisional and row.alarm.sequence_last <= last]
        if firm:
            first = await take_seqs(connection, len(firm))
            rows = [row._replace(provisional=False, seq=seq) for seq, row in enumerate(firm, first)]
            await publish(connection, rows, known, time=time)
            confirmed += len(firm)
        if len(found) < PART:
            return confirmed
        place = tuple(found[-1])

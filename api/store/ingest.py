"""Takes what the process posts: alarms, windows and latest values, each range once, in one transaction.

The marks are written in the transaction of the rows. So a post that failed, at any point and in any way, is posted
again and either finds its mark in place or starts from nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete

from api.store import schema
from api.store.bulk import or_update, put
from api.store.clock import now
from api.store.confirm import confirm
from api.store.contract import Accepted
from api.store.errors import Gap
from api.store.fold import Transition
from api.store.marks import locked, move
from api.store.merge import Merged, merge
from api.store.publish import audit
from api.store.rows import KEYS, after, last_of_each, newest, parts

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy.ext.asyncio import AsyncConnection

    from api.store.contract import Kind, Marks

# Rows that are Python objects at a time: larger parts are hardly faster, and hold up the event loop.
PART = 4_000
_WINDOWS = or_update(schema.windows, ("device", "metric", "window_start", "window_name", "partition"))
_LATEST = or_update(
    schema.latest,
    ("device", "metric"),
    only_if="(excluded.event_time, excluded.sequence_number) > (latest.event_time, latest.sequence_number)",
)
PROCESS = "process"
IDS_AUDITED = 100


async def ingest(
    connection: AsyncConnection,
    kind: Kind,
    partition: str,
    follows: int,
    last: int,
    rows: pa.Table,
    *,
    committed: bool,
) -> tuple[Accepted, int]:
    """Store rows that `rows.checked` gave; see HotStore.ingest.

    Returns:
        What became of them, and how many changes there were.
    """
    marks = await locked(connection, partition)
    if kind == "alarms":
        return await (_refill if committed else _alarms)(connection, marks, follows, last, rows)
    mark = getattr(marks, kind)
    if follows > mark:
        raise Gap(mark, marks.committed)
    if kind == "latest":
        table, on_conflict = schema.latest, _LATEST
    else:
        table, on_conflict = schema.windows, _WINDOWS
    if committed:
        # What comes from the lake is all that there is in the range. What a process posted there ahead of a commit that
        # never came goes.
        place = table.c
        await connection.execute(
            delete(table).where(
                place.partition == partition, place.sequence_number > follows, place.sequence_number <= last
            )
        )
    else:
        # What comes from the process is not looked at twice.
        rows = after(rows, mark)
    rows = newest(rows) if kind == "latest" else last_of_each(rows, KEYS["windows"])
    for _, columns in parts(rows, PART):
        await put(connection, table, columns, on_conflict)
    if last > mark:
        await move(connection, partition, **{kind: last})
    return Accepted(max(mark, last), rows.num_rows), 0


async def _alarms(
    connection: AsyncConnection, marks: Marks, follows: int, last: int, rows: pa.Table
) -> tuple[Accepted, int]:
    if follows > marks.alarms:
        raise Gap(marks.alarms, marks.committed)
    total, time = Merged(), now()
    for _, columns in parts(after(rows, marks.alarms), PART):
        total.add(
            await merge(
                connection,
                marks.partition,
                _transitions(columns),
                confirmed=marks.committed,
                provisional_after=marks.committed,
                authoritative=None,
                time=time,
            )
        )
    if last > marks.alarms:
        await move(connection, marks.partition, alarms=last)
    await _audit(connection, marks.partition, follows, last, total, time)
    return Accepted(max(marks.alarms, last), total.accepted), total.published


async def _refill(
    connection: AsyncConnection, marks: Marks, follows: int, last: int, rows: pa.Table
) -> tuple[Accepted, int]:
    """Make the transitions of a range exactly the lake's, and confirm it."""
    if last <= marks.committed:
        return Accepted(marks.alarms, 0), 0
    if follows != marks.committed:
        raise Gap(marks.alarms, marks.committed)
    total, time, done = Merged(), now(), follows
    for covered, columns in parts(rows, PART):
        through = last if covered is None else covered
        total.add(
            await merge(
                connection,
                marks.partition,
                _transitions(columns),
                confirmed=done,
                provisional_after=last,
                authoritative=(done, through),
                time=time,
            )
        )
        done = through
    mark = max(marks.alarms, last)
    await move(connection, marks.partition, alarms=mark, committed=last)
    total.published += await confirm(connection, marks.partition, follows, last)
    await _audit(connection, marks.partition, follows, last, total, time)
    return Accepted(mark, total.accepted), total.published


def _transitions(columns: dict[str, list[object]]) -> list[Transition]:
    return list(map(Transition._make, zip(*(columns[name] for name in Transition._fields), strict=True)))


async def _audit(
    connection: AsyncConnection, partition: str, follows: int, last: int, total: Merged, time: int
) -> None:
    """Write down what was taken back; what was added is a history of its own."""
    if total.retracted:
        shown = [f"{alarm_id} {step}" for alarm_id, step in total.retracted[:IDS_AUDITED]]
        detail = {"follows": follows, "last": last, "transitions": len(total.retracted), "first": shown}
        await audit(connection, time=time, actor=PROCESS, action="retract", subject=partition, detail=detail)

"""Brings transitions of the process into what is stored, and takes back what the lake does not have.

Of two transitions with the same identity (alarm_id, step) one stands: the one that the lake has confirmed, else the one
of the greater sequence number, which a process that started again has made anew. The other is kept, flagged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, update

from api.store import schema
from api.store.bulk import among, cut, put
from api.store.errors import BadRows
from api.store.fold import RETRACTED, Acknowledgement, Alarm, Transition, fold, of_transition, with_transition
from api.store.publish import Stored, load, of_fold, publish, take_seqs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

_T = schema.transitions.c
_FIELDS = [_T[name] for name in Transition._fields]
_STANDS = _T.retracted_seq == 0
_RETRACT = (
    update(schema.transitions)
    .where(_T.alarm_id == bindparam("id"), _T.step == bindparam("of_step"), _STANDS)
    .values(retracted_seq=bindparam("by"), retracted_time=bindparam("at"))
)


@dataclass(slots=True)
class Merged:
    """What became of transitions.

    Attributes:
        accepted: How many were new.
        retracted: Identities of those that were taken back.
        published: How many changes there were.
    """

    accepted: int = 0
    retracted: list[tuple[str, int]] = field(default_factory=list)
    published: int = 0

    def add(self, other: Merged) -> None:
        """Count another part's in."""
        self.accepted += other.accepted
        self.retracted += other.retracted
        self.published += other.published


async def merge(
    connection: AsyncConnection,
    partition: str,
    new: list[Transition],
    *,
    confirmed: int,
    provisional_after: int,
    authoritative: tuple[int, int] | None,
    time: int,
) -> Merged:
    """Store transitions of one partition, re-fold the alarms that they touch, and publish these.

    Args:
        connection: In a transaction that holds the partition's marks.
        partition: Whose they are.
        new: In the order in which the process made them; each identity once.
        confirmed: What stands at or below this sequence number is the lake's, and stays.
        provisional_after: An alarm with a greater sequence number is shown as provisional.
        authoritative: A range (follows, last] that `new` is all of.
        time: The system time.

    Raises:
        BadRows: An alarm belongs to another partition.
    """
    retract: list[Transition] = []
    if authoritative is not None:
        new, retract = await _compared(connection, partition, new, authoritative)
    ids = list(dict.fromkeys(row.alarm_id for row in (*retract, *new)))
    known = await load(connection, ids, lock=True)
    for stored in known.values():
        if stored.alarm.partition != partition:
            raise BadRows(f"couldn't take the alarm {stored.alarm.alarm_id}: it is one of {stored.alarm.partition}")
    new = await _decided(connection, new, known, retract, confirmed)

    # An alarm's place among the changes is that of its last transition here.
    affected: dict[str, int] = {}
    for row in (*retract, *new):
        affected.pop(row.alarm_id, None)
        affected[row.alarm_id] = 0
    if not affected:
        return Merged()
    first = await take_seqs(connection, len(affected))
    affected = {alarm_id: first + place for place, alarm_id in enumerate(affected)}

    if retract:
        flags = [{"id": row.alarm_id, "of_step": row.step, "by": affected[row.alarm_id], "at": time} for row in retract]
        await connection.execute(_RETRACT, flags)
    await _insert(connection, new, affected, time)

    # Taking a step back is the one thing that cannot be done to a fold: those are folded from their histories.
    again = {row.alarm_id for row in retract}
    again.update(alarm_id for alarm_id, stored in known.items() if stored.state == RETRACTED)
    folded: dict[str, Stored] = {}
    alarms = {alarm_id: stored.alarm for alarm_id, stored in known.items()}
    for row in new:
        if row.alarm_id not in again:
            alarm = alarms.get(row.alarm_id)
            alarms[row.alarm_id] = of_transition(row) if alarm is None else with_transition(alarm, row)
    for alarm_id in affected:
        if alarm_id not in again:
            seq = affected[alarm_id]
            folded[alarm_id] = of_fold(alarms[alarm_id], retracted=False, committed=provisional_after, seq=seq)
    async for alarm, retracted in refolded(connection, sorted(again & affected.keys())):
        seq = affected[alarm.alarm_id]
        folded[alarm.alarm_id] = of_fold(alarm, retracted=retracted, committed=provisional_after, seq=seq)
    await publish(connection, [folded[alarm_id] for alarm_id in affected], known, time=time)
    return Merged(len(new), [(row.alarm_id, row.step) for row in retract], len(affected))


async def _compared(
    connection: AsyncConnection, partition: str, rows: list[Transition], authoritative: tuple[int, int]
) -> tuple[list[Transition], list[Transition]]:
    """Return the rows that are not stored as they are, and what is stored in the range and is none of them."""
    follows, last = authoritative
    wanted = {(row.alarm_id, row.step): row for row in rows}
    retract = []
    statement = select(*_FIELDS).where(
        _T.partition == partition, _T.sequence_number > follows, _T.sequence_number <= last, _STANDS
    )
    for found in map(Transition._make, await connection.execute(statement)):
        if wanted.get((found.alarm_id, found.step)) == found:
            del wanted[found.alarm_id, found.step]
        else:
            retract.append(found)
    return list(wanted.values()), retract


async def _decided(
    connection: AsyncConnection,
    new: list[Transition],
    known: dict[str, Stored],
    retract: list[Transition],
    confirmed: int,
) -> list[Transition]:
    """Return the rows to insert, and add to `retract` what they take the place of."""
    # A step above all that is known is new: the usual case needs no look at the history.
    doubtful = {row.alarm_id for row in new if row.alarm_id in known and row.step <= known[row.alarm_id].alarm.step}
    if not doubtful:
        return new
    gone = {(row.alarm_id, row.step) for row in retract}
    standing: dict[tuple[str, int], Transition] = {}
    steps = {(row.alarm_id, row.step) for row in new if row.alarm_id in doubtful}
    for ids in cut(sorted(doubtful)):
        statement = select(*_FIELDS).where(among(connection, _T.alarm_id, ids), _STANDS)
        async with connection.stream(statement) as rows:
            async for fields in rows:
                stands = Transition._make(fields)
                if (stands.alarm_id, stands.step) in steps:
                    standing[stands.alarm_id, stands.step] = stands
    kept = []
    for row in new:
        found = standing.get((row.alarm_id, row.step))
        if found is None or (row.alarm_id, row.step) in gone:
            kept.append(row)
        elif found.sequence_number > confirmed and found != row:
            retract.append(found)
            kept.append(row)
    return kept


async def _insert(connection: AsyncConnection, rows: list[Transition], seqs: dict[str, int], time: int) -> None:
    if not rows:
        return
    columns: dict[str, Sequence[Any]] = dict(zip(Transition._fields, map(list, zip(*rows, strict=True)), strict=True))
    columns["retracted_seq"] = [0] * len(rows)
    columns["seq"] = [seqs[row.alarm_id] for row in rows]
    columns["received_time"] = [time] * len(rows)
    await put(connection, schema.transitions, columns)


async def refolded(connection: AsyncConnection, ids: list[str]) -> AsyncIterator[tuple[Alarm, bool]]:
    """Yield alarms folded from their histories, and whether nothing of them stands.

    An alarm of which nothing stands shows what was retracted.
    """
    for some in cut(ids):
        acknowledged = await _acknowledged(connection, some)
        # Rows of one alarm follow each other, so that no more than its own history is held at a time.
        statement = (
            select(*_FIELDS, _T.retracted_seq)
            .where(among(connection, _T.alarm_id, some))
            .order_by(_T.alarm_id, _T.retracted_seq)
        )
        history: list[tuple[Transition, bool]] = []
        async with connection.stream(statement) as rows:
            async for *fields, retracted_seq in rows:
                row = Transition._make(fields)
                if history and history[0][0].alarm_id != row.alarm_id:
                    yield _folded(history, acknowledged)
                    history = []
                history.append((row, retracted_seq == 0))
        if history:
            yield _folded(history, acknowledged)


def _folded(
    history: list[tuple[Transition, bool]], acknowledged: dict[str, list[Acknowledgement]]
) -> tuple[Alarm, bool]:
    standing = [row for row, stands in history if stands]
    # Of a step that was taken back twice, the first is shown: a fold takes each step once.
    shown = standing or list({row.step: row for row, _ in reversed(history)}.values())
    alarm = fold(shown, acknowledged.get(shown[0].alarm_id, ()))
    assert alarm is not None
    return alarm, not standing


async def _acknowledged(connection: AsyncConnection, ids: list[str]) -> dict[str, list[Acknowledgement]]:
    actions = schema.actions.c
    statement = (
        select(actions.alarm_id, actions.actor, actions.time, actions.comment)
        .where(among(connection, actions.alarm_id, ids), actions.action == "acknowledge")
        .order_by(actions.id)
    )
    found: dict[str, list[Acknowledgement]] = {}
    for alarm_id, *by in await connection.execute(statement):
        found.setdefault(alarm_id, []).append(Acknowledgement._make(by))
    return found

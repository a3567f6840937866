"""Writes alarms as the fold left them, and the change of each under the next seq."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from sqlalchemy import Row, bindparam, select, update

from api.store import schema
from api.store.bulk import among, change, cut, or_update, put
from api.store.clock import texts_of
from api.store.fold import RETRACTED, Alarm, state_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

_COUNTED = (
    update(schema.counters)
    .where(schema.counters.c.name == "changes")
    .values(value=schema.counters.c.value + bindparam("number"))
    .returning(schema.counters.c.value)
)
COLUMNS = [schema.alarms.c[name] for name in (*Alarm._fields, "state", "provisional", "seq")]
# What an alarm hardly ever changes once it is there.
PLACE = ("alarm_id", "partition", "device", "metric", "asset", "alarm_rule", "priority", "onset_time", "raised_time")
_place = attrgetter(*PLACE)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Stored(NamedTuple):
    """A row of the table `alarms`."""

    alarm: Alarm
    state: str
    provisional: bool
    seq: int


def stored_of(row: Row[Any]) -> Stored:
    """Return what a row of `COLUMNS` holds."""
    values = tuple(row)
    return Stored(Alarm._make(values[:-3]), values[-3], bool(values[-2]), values[-1])


def of_fold(alarm: Alarm, *, retracted: bool, committed: int, seq: int) -> Stored:
    """Return the row of an alarm."""
    provisional = not retracted and alarm.sequence_last > committed
    return Stored(alarm, RETRACTED if retracted else state_of(alarm), provisional, seq)


def view(rows: Sequence[Stored]) -> list[dict[str, Any]]:
    """Return alarms as the API shows them."""
    alarms = [row.alarm for row in rows]
    onset, raised, cleared, acknowledged = (
        texts_of([getattr(alarm, name) for alarm in alarms])
        for name in ("onset_time", "raised_time", "cleared_time", "acknowledged_time")
    )
    return list(map(_view, rows, onset, raised, cleared, acknowledged))


def _view(
    stored: Stored, onset: str | None, raised: str | None, cleared: str | None, acknowledged: str | None
) -> dict[str, Any]:
    alarm, state, provisional, seq = stored
    shown = {
        "alarm_id": alarm.alarm_id,
        "state": state_of(alarm) if state == RETRACTED else state,
        "active": cleared is None,
        "acknowledged": acknowledged is not None,
        "priority": alarm.priority,
        "device": alarm.device,
        "metric": alarm.metric,
        "asset": alarm.asset,
        "alarm_rule": alarm.alarm_rule,
        "message": alarm.message,
        "onset_time": onset,
        "raised_time": raised,
        "cleared_time": cleared,
        "value": alarm.value,
        "threshold": alarm.threshold,
        "peak": alarm.peak,
        "score": alarm.score,
        "step": alarm.step,
        "partition": alarm.partition,
        "provisional": provisional,
        "seq": seq,
        "acknowledged_by": alarm.acknowledged_by,
        "acknowledged_time": acknowledged,
        "comment": alarm.comment,
    }
    if state == RETRACTED:
        shown["retracted"] = True
    return shown


def encoded(value: Any) -> str:
    """Return a value as JSON."""
    return _encode(value).decode()


def decoded(text: str) -> Any:
    """Return the value of a JSON text."""
    return _decode(text)


async def take_seqs(connection: AsyncConnection, number: int) -> int:
    """Return the first of as many new seqs.

    From here to the end of the transaction every other one that publishes waits, so that seqs become visible in order.
    """
    return int((await connection.execute(_COUNTED, {"number": number})).scalar_one()) - number + 1


async def publish(
    connection: AsyncConnection, rows: Sequence[Stored], known: Mapping[str, Stored], *, time: int
) -> None:
    """Write alarms, and each as a change under the seq that it carries.

    Args:
        connection: In a transaction.
        rows: The alarms as they are now.
        known: As they were, those that there were.
        time: The system time.
    """
    new: list[Stored] = []
    changed: list[Stored] = []
    moved: list[Stored] = []
    for row in rows:
        before = known.get(row.alarm.alarm_id)
        if before is None:
            new.append(row)
        else:
            (changed if _place(before.alarm) == _place(row.alarm) else moved).append(row)
    # Most changes leave an alarm where it is in all indexes but that of states: these are spared.
    columns = _columns(changed)
    kept = {name: values for name, values in columns.items() if name not in PLACE}
    await put(connection, schema.alarms, _columns(new))
    await change(connection, schema.alarms, "alarm_id", kept | {"alarm_id": columns["alarm_id"]})
    await put(connection, schema.alarms, _columns(moved), or_update(schema.alarms, ("alarm_id",)))
    shown = list(map(encoded, view(rows)))
    seqs = [row.seq for row in rows]
    await put(connection, schema.changes, {"seq": seqs, "time": [time] * len(rows), "alarm": shown})


def _columns(rows: Sequence[Stored]) -> dict[str, Sequence[Any]]:
    if not rows:
        return {column.name: [] for column in COLUMNS}
    values = zip(*((*row.alarm, *row[1:]) for row in rows), strict=True)
    return dict(zip((column.name for column in COLUMNS), values, strict=True))


async def load(connection: AsyncConnection, ids: list[str], *, lock: bool) -> dict[str, Stored]:
    """Return the alarms of these ids that there are, kept from other writers until the transaction ends."""
    found: dict[str, Stored] = {}
    for some in cut(ids):
        statement = select(*COLUMNS).where(among(connection, schema.alarms.c.alarm_id, some))
        if lock:
            # One order for all writers; SQLite has only one writer, and leaves this out.
            statement = statement.order_by(schema.alarms.c.alarm_id).with_for_update()
        found.update((row[0], stored_of(row)) for row in await connection.execute(statement))
    return found


async def audit(
    connection: AsyncConnection, *, time: int, actor: str, action: str, subject: str, detail: dict[str, Any]
) -> None:
    """Write down who did what."""
    row = {"time": time, "actor": actor, "action": action, "subject": subject, "detail": encoded(detail)}
    await connection.execute(schema.audit.insert(), row)

"""Lists of alarms: filters, and the index that each question is answered from.

The order is newest raised first, then by alarm_id, whatever the filter, so a page's cursor is a place in that order:
what is inserted before it moves nothing, and what was there behind it is still to come.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, not_, or_, select, union_all

from alumicatalyst.transitions import storable
from api.store import cursor as cursors
from api.store import schema
from api.store.clock import maybe_text_of, number_of, text_of
from api.store.contract import PRIORITIES, STATES, Page
from api.store.fold import RETRACTED
from api.store.publish import COLUMNS, load, stored_of, view

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from api.store.contract import AlarmFilter

_A = schema.alarms.c
_ORDER = (_A.raised_time.desc(), _A.alarm_id)
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_T, _M = schema.transitions.c, schema.marks.c
# The alarms of transitions beyond what is confirmed: an index has these, and provisional alarms are among them.
_UNCONFIRMED = select(_T.alarm_id).join(
    schema.marks, and_(_T.partition == _M.partition, _T.sequence_number > _M.committed)
)
# Up to as many alarms are sorted; what there is more of is met soon enough by walking in the order of the list.
RARE = 1_000
# As many assets are walked side by side; below more of them there are enough alarms to meet some in any walk.
ASSETS = 32


async def alarms(connection: AsyncConnection, where: AlarmFilter, *, limit: int, cursor: str | None) -> Page:
    """Return a page of alarms; see HotStore.alarms."""
    limit = cursors.bounded(limit)
    conditions = _conditions(where)
    if cursor is not None:
        conditions.append(cursors.older(_A.raised_time, _A.alarm_id, cursors.read("alarms", (int, str), cursor)))
    statement = await _planned(connection, where, conditions, limit + 1)
    rows = [stored_of(row) for row in await connection.execute(statement)]
    last = rows[limit - 1].alarm if len(rows) > limit else None
    following = None if last is None else cursors.made("alarms", (last.raised_time, last.alarm_id))
    return Page(view(rows[:limit]), following)


async def _planned(
    connection: AsyncConnection, where: AlarmFilter, conditions: list[ColumnElement[bool]], limit: int
) -> Select[Any]:
    """Return the query in the form whose index answers it with few rows looked at.

    SQLite's planner knows nothing about the values, and either's may change its mind, so the form decides.
    """
    every = select(*COLUMNS).order_by(*_ORDER).limit(limit)
    sqlite = connection.dialect.name == "sqlite"
    beside, below = _beside(where, sqlite=sqlite), _below(where, sqlite=sqlite)
    if where.device is not None:
        # A device has few alarms: they are looked through in order.
        return every.where(*conditions, *below, *beside)
    if where.provisional:
        found = select(func.count()).select_from(_UNCONFIRMED.limit(RARE + 1).subquery())
        if (await connection.execute(found)).scalar_one() <= RARE:
            return every.where(_A.alarm_id.in_(_UNCONFIRMED), *conditions, *below, *beside)
    if where.asset is not None:
        path = _path(storable(where.asset))
        inside = [row[0] for row in await connection.execute(_assets(path))]
        # In a state that few are in, many walks would each go far to find none; that state's own walks are shorter.
        if not inside or (len(inside) <= ASSETS and not where.states and not where.priorities):
            walks = [(_A.asset == asset, *conditions, *beside) for asset in (path, *inside)]
            return every.where(_first(walks, limit))
    if not where.states and not where.priorities:
        return every.where(*conditions, *below, *beside)
    pairs = product(sorted(where.states or STATES), sorted(where.priorities or PRIORITIES))
    rest = (*conditions, *below)
    return every.where(_first([(_A.state == state, _A.priority == each, *rest) for state, each in pairs], limit))


def _first(each: list[tuple[ColumnElement[bool], ...]], limit: int) -> ColumnElement[bool]:
    """Return the condition for the first alarms of several walks, each in the list's order through an index.

    The first of the list are among them.
    """
    walks = (select(_A.alarm_id).where(*some).order_by(*_ORDER).limit(limit).subquery() for some in each)
    return _A.alarm_id.in_(union_all(*(select(walk.c.alarm_id) for walk in walks)))


def _assets(path: str) -> Select[Any]:
    """Return the query for the assets inside one that have alarms, and one too many if they are too many.

    Each is found from the one before, as neither database skips by itself from one value of an index to the next.
    """
    first = select(func.min(_A.asset).label("asset")).where(_inside(_A.asset, path)).cte("assets", recursive=True)
    following = select(func.min(_A.asset)).where(_inside(_A.asset, path), _A.asset > first.c.asset).scalar_subquery()
    found = first.union_all(select(following).where(first.c.asset.is_not(None)))
    return select(found.c.asset).where(found.c.asset.is_not(None)).limit(ASSETS + 1)


def _conditions(where: AlarmFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter, other than those on states, priorities and assets."""
    found: list[ColumnElement[bool]] = []
    for column, value in ((_A.device, where.device), (_A.metric, where.metric), (_A.alarm_rule, where.rule)):
        if value is not None:
            found.append(column == storable(value))
    if where.start is not None:
        found.append(_A.raised_time >= number_of(where.start))
    if where.end is not None:
        found.append(_A.raised_time < number_of(where.end))
    if where.provisional is not None:
        found.append(_A.provisional if where.provisional else not_(_A.provisional))
    if where.text:
        # Lower-cased the same way on both databases: only ASCII, as their byte-wise collations do.
        text = storable(where.text).translate(_LOWER)
        searched = (_A.message, _A.device, _A.asset, _A.alarm_rule)
        found.append(or_(*(func.lower(column).contains(text, autoescape=True) for column in searched)))
    return found


def _path(asset: str) -> str:
    return asset.strip("/")


def _inside(asset: ColumnElement[Any], path: str) -> ColumnElement[bool]:
    """Return the condition for what lies below an asset; "0" is the character after "/"."""
    return and_(asset > f"{path}/", asset < f"{path}0")


def _below(where: AlarmFilter, *, sqlite: bool) -> tuple[ColumnElement[bool], ...]:
    """Return the condition for an asset and what lies below it, for a walk through another index than theirs."""
    if where.asset is None:
        return ()
    path = _path(storable(where.asset))
    asset = func.coalesce(_A.asset, "") if sqlite else _A.asset
    return (or_(asset == path, _inside(asset, path)),)


def _beside(where: AlarmFilter, *, sqlite: bool) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions on state and priority for a walk through another index than theirs.

    SQLite would take theirs if it could; as expressions they have none. PostgreSQL weighs them by what it knows of the
    values, and would know nothing of an expression.
    """
    if not where.states and not where.priorities:
        return (_A.state != RETRACTED,)
    pairs = ((_A.state, where.states or STATES), (_A.priority, where.priorities or PRIORITIES))
    return tuple((func.coalesce(column, "") if sqlite else column).in_(sorted(some)) for column, some in pairs)


async def alarm(connection: AsyncConnection, alarm_id: str) -> dict[str, Any] | None:
    """Return one alarm; see HotStore.alarm."""
    found = await load(connection, [storable(alarm_id)], lock=False)
    return next(iter(view(list(found.values()))), None)


async def history(connection: AsyncConnection, alarm_id: str) -> list[dict[str, Any]] | None:
    """Return what was done to an alarm; see HotStore.history."""
    alarm_id = storable(alarm_id)
    transitions, actions = schema.transitions, schema.actions
    process = await connection.execute(select(transitions).where(transitions.c.alarm_id == alarm_id))
    operator = await connection.execute(select(actions).where(actions.c.alarm_id == alarm_id))
    entries = [((row.seq, 0, row.step), _process_entry(row)) for row in process]
    entries += [((row.seq, 1, row.id), _operator_entry(row)) for row in operator]
    if not entries and await alarm(connection, alarm_id) is None:
        return None
    entries.sort(key=lambda entry: entry[0])
    return [entry for _, entry in entries]


def _process_entry(row: Row[Any]) -> dict[str, Any]:
    return {
        "side": "process",
        "seq": row.seq,
        "time": text_of(row.received_time),
        "actor": "process",
        "action": row.transition,
        "step": row.step,
        "event_time": text_of(row.event_time),
        "partition": row.partition,
        "sequence_number": row.sequence_number,
        "item": row.item,
        "value": row.value,
        "threshold": row.threshold,
        "peak": row.peak,
        "score": row.score,
        "priority": row.priority,
        "message": row.message,
        "retracted": row.retracted_seq != 0,
        "retracted_seq": row.retracted_seq or None,
        "retracted_time": maybe_text_of(row.retracted_time),
    }


def _operator_entry(row: Row[Any]) -> dict[str, Any]:
    return {
        "side": "operator",
        "seq": row.seq,
        "time": text_of(row.time),
        "actor": row.actor,
        "action": row.action,
        "comment": row.comment,
    }

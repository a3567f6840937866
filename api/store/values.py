"""Lists of recent windows and of each series' latest value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from alumicatalyst.transitions import storable
from api.store import cursor as cursors
from api.store import schema
from api.store.clock import number_of, text_of
from api.store.contract import Page

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from api.store.contract import SeriesFilter, WindowFilter

_L = schema.latest.c
_W = schema.windows.c
_SERIES = (_L.device, _L.metric)
_WINDOW = (_W.window_start, _W.device, _W.metric, _W.window_name, _W.partition)
_TIMES = frozenset({"enqueued_time", "event_time", "window_start", "window_end", "first_time", "last_time"})


async def series(connection: AsyncConnection, where: SeriesFilter, *, limit: int, cursor: str | None) -> Page:
    """Return a page of latest values; see HotStore.series."""
    limit = cursors.bounded(limit)
    statement = select(schema.latest).order_by(*_SERIES).limit(limit + 1)
    for column, value in ((_L.device, where.device), (_L.metric, where.metric)):
        if value is not None:
            statement = statement.where(column == storable(value))
    if cursor is not None:
        statement = statement.where(cursors.above(_SERIES, cursors.read("series", (str, str), cursor)))
    rows = (await connection.execute(statement)).all()
    last = rows[limit - 1] if len(rows) > limit else None
    following = None if last is None else cursors.made("series", (last.device, last.metric))
    return Page([_view(row) for row in rows[:limit]], following)


async def windows(connection: AsyncConnection, where: WindowFilter, *, limit: int, cursor: str | None) -> Page:
    """Return a page of windows; see HotStore.windows."""
    limit = cursors.bounded(limit)
    # Descending in every column, so that one index serves the list and another the list of one series, read backwards.
    statement = select(schema.windows).order_by(*(column.desc() for column in _WINDOW)).limit(limit + 1)
    named = ((_W.device, where.device), (_W.metric, where.metric), (_W.window_name, where.window_name))
    for column, value in named:
        if value is not None:
            statement = statement.where(column == storable(value))
    if where.start is not None:
        statement = statement.where(_W.window_start >= number_of(where.start))
    if where.end is not None:
        statement = statement.where(_W.window_start < number_of(where.end))
    if cursor is not None:
        place = cursors.read("windows", (int, str, str, str, str), cursor)
        # The first condition follows from the second; the index of one series can begin with it.
        statement = statement.where(_W.window_start <= place[0], cursors.below(_WINDOW, place))
    rows = (await connection.execute(statement)).all()
    last = rows[limit - 1] if len(rows) > limit else None
    following = None
    if last is not None:
        place = [last.window_start, last.device, last.metric, last.window_name, last.partition]
        following = cursors.made("windows", place)
    return Page([_view(row) for row in rows[:limit]], following)


def _view(row: Row[Any]) -> dict[str, Any]:
    return {name: text_of(value) if name in _TIMES else value for name, value in zip(row._fields, row, strict=True)}

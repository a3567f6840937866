"""Cursors: the place after a row in the order of its list, as an opaque text that survives a restart."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import and_, or_, tuple_

from alumicatalyst.transitions import storable
from api.store.contract import LIMIT_MAX
from api.store.errors import BadCursor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement

_INT64 = 2**63
_LENGTH_MAX = 8_192


def made(name: str, values: Sequence[int | str]) -> str:
    """Return the cursor of a list after the row with these values."""
    return base64.urlsafe_b64encode(msgspec.json.encode([name, *values])).decode().rstrip("=")


def read(name: str, kinds: Sequence[type], cursor: str) -> list[Any]:
    """Return the values of a cursor of this list.

    Raises:
        BadCursor: It is none.
    """
    try:
        if len(cursor) > _LENGTH_MAX:
            raise ValueError("it is too long")
        found = msgspec.json.decode(
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True), type=list
        )
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise _bad(name) from error
    head, values = found[:1], found[1:]
    if head != [name] or [type(value) for value in values] != list(kinds):
        raise _bad(name)
    for value in values:
        wrong = not -_INT64 <= value < _INT64 if isinstance(value, int) else value != storable(value)
        if wrong:
            raise _bad(name)
    return values


def _bad(name: str) -> BadCursor:
    return BadCursor(f"couldn't go on in the list {name}: it gave no such cursor; leave the cursor out to begin anew")


def bounded(limit: int) -> int:
    """Return how many rows a page has at most."""
    return max(1, min(limit, LIMIT_MAX))


def below(columns: Sequence[ColumnElement[Any]], values: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition for rows behind a place, in an order that descends in every column."""
    return tuple_(*columns) < tuple_(*values)


def above(columns: Sequence[ColumnElement[Any]], values: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition for rows behind a place, in an order that ascends in every column."""
    return tuple_(*columns) > tuple_(*values)


def older(time: ColumnElement[int], id: ColumnElement[str], values: Sequence[Any]) -> ColumnElement[bool]:  # noqa: A002
    """Return the condition for rows behind a place, in an order of descending times and ascending ids."""
    # The first condition follows from the second; it is what an index can begin with.
    return and_(time <= values[0], or_(time < values[0], id > values[1]))

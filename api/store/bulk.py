"""Many rows in one statement, the same way on both databases: columns in, no object per row.

SQLite takes rows through `executemany`; PostgreSQL takes whole columns as arrays and unnests them, which is one round
trip and one plan, with ON CONFLICT, however many rows there are.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Boolean, Double, Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection

# SQLite takes 32,766 parameters a statement.
IDS_MAX = 5_000
ARRAYS = {BigInteger: "bigint[]", Boolean: "boolean[]", Double: "double precision[]", Text: "text[]"}


async def put(
    connection: AsyncConnection, table: Table, columns: Mapping[str, Sequence[Any]], on_conflict: str = ""
) -> None:
    """Insert rows.

    Args:
        connection: In a transaction.
        table: Where to.
        columns: A list of values for each column that is given, all of one length.
        on_conflict: The `ON CONFLICT` clause. No two of the rows may conflict with each other.
    """
    if not columns or not next(iter(columns.values())):
        return
    if connection.dialect.name == "sqlite":
        statement = _sqlite(table, tuple(columns), on_conflict)
        await connection.exec_driver_sql(statement, list(zip(*columns.values(), strict=True)))
    else:
        statement = _postgres(table, tuple(columns), on_conflict)
        await connection.exec_driver_sql(statement, tuple(columns.values()))


@cache
def _sqlite(table: Table, names: tuple[str, ...], on_conflict: str) -> str:
    slots = ", ".join("?" * len(names))
    return f"INSERT INTO {table.name} ({_listed(names)}) VALUES ({slots}) {on_conflict}"  # noqa: S608 -- our own names


@cache
def _postgres(table: Table, names: tuple[str, ...], on_conflict: str) -> str:
    slots = ", ".join(f"%s::{_array(table, name)}" for name in names)
    return f"INSERT INTO {table.name} ({_listed(names)}) SELECT * FROM unnest({slots}) {on_conflict}"  # noqa: S608


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _array(table: Table, name: str) -> str:
    return next(array for kind, array in ARRAYS.items() if isinstance(table.c[name].type, kind))


@cache
def or_update(table: Table, key: tuple[str, ...], only_if: str = "") -> str:
    """Return the clause that lets new rows replace those of the same key.

    Args:
        table: Where to.
        key: Its columns of the conflict.
        only_if: A condition on `excluded` and the table, without which a row stays.
    """
    others = [column.name for column in table.columns if column.name not in key]
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in others)
    return f"ON CONFLICT ({_listed(key)}) DO UPDATE SET {changes}" + (f" WHERE {only_if}" if only_if else "")


def cut(ids: list[str]) -> Iterator[list[str]]:
    """Yield ids, as many at a time as one statement takes."""
    return (ids[begin : begin + IDS_MAX] for begin in range(0, len(ids), IDS_MAX))

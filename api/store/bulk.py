"""Many rows at once, the same way on both databases: columns in, no object per row.

SQLite takes rows through `executemany`. PostgreSQL takes them by COPY, which costs a third of an INSERT; where rows may
meet others of the same key, it takes them into a temporary table first.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import JSON, Text, bindparam, cast, func, select

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

# Ids that a statement is given at a time.
IDS_MAX = 5_000


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
    names = _listed(tuple(columns))
    rows = zip(*columns.values(), strict=True)
    if connection.dialect.name == "sqlite":
        slots = ", ".join("?" * len(columns))
        insert = f"INSERT INTO {table.name} ({names}) VALUES ({slots}) {on_conflict}"  # noqa: S608 -- our own names
        await connection.exec_driver_sql(insert, list(rows))
    elif not on_conflict:
        await _copy(connection, f"COPY {table.name} ({names}) FROM STDIN", rows)
    else:
        insert = f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {_stage(table)} {on_conflict}"  # noqa: S608
        await _staged(connection, table, names, rows, insert)


async def change(connection: AsyncConnection, table: Table, key: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """Set some columns of rows that there are.

    Args:
        connection: In a transaction.
        table: Whose rows.
        key: The column that finds a row, and stands last among the columns.
        columns: A list of values for each column that is set, and the keys, all of one length.
    """
    if not columns[key]:
        return
    rows = zip(*columns.values(), strict=True)
    set_ = [name for name in columns if name != key]
    if connection.dialect.name == "sqlite":
        slots = ", ".join(f'"{name}" = ?' for name in set_)
        await connection.exec_driver_sql(f'UPDATE {table.name} SET {slots} WHERE "{key}" = ?', list(rows))  # noqa: S608
    else:
        values = ", ".join(f'"{name}" = new."{name}"' for name in set_)
        update = f'UPDATE {table.name} old SET {values} FROM {_stage(table)} new WHERE old."{key}" = new."{key}"'  # noqa: S608
        await _staged(connection, table, _listed(tuple(columns)), rows, update)


def _stage(table: Table) -> str:
    return f"new_{table.name}"


async def _staged(
    connection: AsyncConnection, table: Table, names: str, rows: Iterable[tuple[Any, ...]], statement: str
) -> None:
    """Copy rows into a temporary table of this connection, and run a statement that takes them from there."""
    stage = _stage(table)
    columns = f"SELECT {names} FROM {table.name} WITH NO DATA"  # noqa: S608
    await connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {stage} ON COMMIT DROP AS {columns}")
    await _copy(connection, f"COPY {stage} ({names}) FROM STDIN", rows)
    await connection.exec_driver_sql(statement)
    # The next rows of this transaction may have other columns.
    await connection.exec_driver_sql(f"DROP TABLE {stage}")


async def _copy(connection: AsyncConnection, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    driver: Any = (await connection.get_raw_connection()).driver_connection
    async with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            await copy.write_row(row)


@cache
def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)


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


def among(connection: AsyncConnection, column: ColumnElement[str], ids: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a column is one of these ids: one parameter, however many they are."""
    listed = bindparam("ids", msgspec.json.encode(ids).decode(), Text, unique=True)
    if connection.dialect.name == "sqlite":
        return column.in_(select(func.json_each(listed).table_valued("value").c.value))
    return column.in_(select(func.json_array_elements_text(cast(listed, JSON)).column_valued("value")))


def cut(ids: list[str]) -> Iterator[list[str]]:
    """Yield ids, as many at a time as one statement takes."""
    return (ids[begin : begin + IDS_MAX] for begin in range(0, len(ids), IDS_MAX))

"""Many rows at once, the same way on both databases: columns in, no object per row.

SQLite takes rows through `executemany`. PostgreSQL takes them by COPY, which costs a third of an INSERT; where rows may
meet others of the same key, it takes them into a temporary table first.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection

# SQLite takes 32,766 parameters a statement.
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
        stage = f"new_{table.name}"
        made = f"CREATE TEMPORARY TABLE IF NOT EXISTS {stage} (LIKE {table.name}) ON COMMIT DELETE ROWS"
        await connection.exec_driver_sql(made)
        await _copy(connection, f"COPY {stage} ({names}) FROM STDIN", rows)
        insert = f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {stage} {on_conflict}"  # noqa: S608
        await connection.exec_driver_sql(insert)
        # The next rows of this transaction come to the same place.
        await connection.exec_driver_sql(f"TRUNCATE {stage}")


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


def cut(ids: list[str]) -> Iterator[list[str]]:
    """Yield ids, as many at a time as one statement takes."""
    return (ids[begin : begin + IDS_MAX] for begin in range(0, len(ids), IDS_MAX))

"""SQL over the lake's tables, for people and for the doctor: DuckDB on the data files of one version of each table."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from alumicatalyst.errors import InputError
from alumicatalyst.lake import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.table import Contents

MEMORY_MAX = "1GB"
"""What a query may hold in memory; beyond it DuckDB goes on in a temporary directory."""

_READ_ONLY = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


@contextmanager
def connect(lake: Lake) -> Iterator[tuple[duckdb.DuckDBPyConnection, dict[str, Contents]]]:
    """Open a database in memory in which every table of the lake is a view.

    `batches` is looked at first: whatever it has sealed is in the other tables by then, so that a running flow never
    makes the tables disagree up to its marks.
    """
    names = sorted(tables.SPECS, key=lambda name: name != "batches")
    contents = {name: lake.table(name).contents() for name in names}
    with (
        tempfile.TemporaryDirectory(prefix="alumicatalyst-") as folder,
        duckdb.connect(":memory:", config={"memory_limit": MEMORY_MAX, "temp_directory": folder}) as connection,
    ):
        connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        filesystem = lake.store.filesystem()
        if filesystem is not None:
            connection.register_filesystem(filesystem)
        for name in names:
            _create_view(connection, name, contents[name].uris)
        yield connection, contents


def select(lake: Lake, query: str) -> Iterator[pa.RecordBatch]:
    """Run one read-only statement and yield its result batch by batch.

    Args:
        lake: The lake.
        query: A SELECT, or DESCRIBE, SUMMARIZE, SHOW or EXPLAIN; tables go by their names.

    Raises:
        InputError: The statement is not SQL, is not one, would write, or fails.

    Example:
        >>> for batch in select(lake, "SELECT outcome, count(*) AS n FROM readings GROUP BY outcome"):
        ...     print(batch.to_pylist())
    """
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise InputError(f"couldn't understand the query: {_first_line(error)}; give one SELECT") from None
    if len(statements) != 1 or statements[0].type not in _READ_ONLY:
        raise InputError(
            "couldn't run the query: it is not one reading statement; give one SELECT, DESCRIBE or EXPLAIN"
        )
    with connect(lake) as (connection, _):
        try:
            yield from connection.sql(query).to_arrow_reader(65_536)
        except duckdb.Error as error:
            raise InputError(
                f"couldn't run the query: {_first_line(error)}; tables are {', '.join(tables.SPECS)}"
            ) from None


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, uris: list[str]) -> None:
    if not uris:
        empty = f"empty_{name}"
        connection.register(empty, tables.schema(name).empty_table())
        connection.execute(f"CREATE VIEW {name} AS FROM {empty}")
        return
    files = ", ".join("'" + uri.replace("'", "''") + "'" for uri in uris)
    if tables.SPECS[name].partition_by:
        source = f"read_parquet([{files}], hive_partitioning = true, hive_types = {{'date': DATE}})"
        connection.execute(f"CREATE VIEW {name} AS SELECT date, * EXCLUDE (date) FROM {source}")  # noqa: S608 own names
    else:
        connection.execute(f"CREATE VIEW {name} AS FROM read_parquet([{files}])")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

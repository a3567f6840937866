"""SQL over the lake's tables, for people and for the doctor: DuckDB on the data files of one version of each table."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import duckdb

from alumicatalyst.errors import InputError, LakeError
from alumicatalyst.lake import tables
from alumicatalyst.lake.fault import first_line, reported

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.table import Contents

MEMORY_MAX = "512MB"
"""What a query may hold in memory; beyond it DuckDB goes on in a temporary directory."""

_READ_ONLY = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def look(lake: Lake) -> dict[str, Contents]:
    """Return one version of every table.

    `batches` is looked at first: whatever it has sealed is in the other tables by then, so that a running flow never
    makes the tables disagree up to its marks.
    """
    names = sorted(tables.SPECS, key=lambda name: name != "batches")
    with reported("read the lake"):
        return {name: lake.table(name).contents() for name in names}


@contextmanager
def connect(lake: Lake, contents: dict[str, Contents]) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database in memory in which every table of the lake is a view of the files given."""
    with (
        tempfile.TemporaryDirectory(prefix="alumicatalyst-") as folder,
        duckdb.connect(":memory:", config={"memory_limit": MEMORY_MAX, "temp_directory": folder}) as connection,
    ):
        connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        filesystem = lake.store.filesystem()
        if filesystem is not None:
            connection.register_filesystem(filesystem)
        try:
            for name, each in contents.items():
                _create_view(connection, name, [f"{lake.store.root}/{name}/{path}" for path in each.paths])
        except duckdb.Error as error:
            raise LakeError(
                f"couldn't read the lake: {first_line(error)}; see `alumicatalyst lake doctor` for what is damaged"
            ) from error
        yield connection


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
        raise InputError(f"couldn't understand the query: {first_line(error)}; give one SELECT") from None
    if len(statements) != 1 or statements[0].type not in _READ_ONLY:
        raise InputError(
            "couldn't run the query: it is not one reading statement; give one SELECT, DESCRIBE or EXPLAIN"
        )
    with connect(lake, look(lake)) as connection:
        try:
            yield from connection.sql(query).to_arrow_reader(65_536)
        except duckdb.Error as error:
            raise InputError(
                f"couldn't run the query: {first_line(error)}; tables are {', '.join(tables.SPECS)}"
            ) from None


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, uris: list[str]) -> None:
    if not uris:
        empty = f"empty_{name}"
        connection.register(empty, tables.schema(name).empty_table())
        connection.execute(f"CREATE VIEW {name} AS FROM {empty}")
        return
    files = ", ".join(_literal(uri) for uri in uris)
    if tables.SPECS[name].partition_by:
        source = f"read_parquet([{files}], hive_partitioning = true, hive_types = {{'date': DATE}})"
        connection.execute(f"CREATE VIEW {name} AS SELECT date, * EXCLUDE (date) FROM {source}")  # noqa: S608 own names
    else:
        connection.execute(f"CREATE VIEW {name} AS FROM read_parquet([{files}])")


def _literal(uri: str) -> str:
    """Quote an address for SQL, and for the patterns that DuckDB takes addresses for."""
    plain = re.sub(r"([*?\[])", r"[\1]", uri)
    return "'" + plain.replace("'", "''") + "'"

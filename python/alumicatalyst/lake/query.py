"""SQL over the lake's tables, for people and for the doctor: DuckDB on the data files of one version of each table."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from alumicatalyst.errors import InputError, LakeError
from alumicatalyst.lake import seen, tables
from alumicatalyst.lake.fault import first_line, reported
from alumicatalyst.lake.seen import Seen

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import pyarrow as pa

    from alumicatalyst.lake.as_of import AsOf
    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.table import Contents

MEMORY_MAX = "512MB"
"""What a query may hold in memory; beyond it DuckDB goes on in a temporary directory."""

_READ_ONLY = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def look(lake: Lake, names: Collection[str] = tuple(tables.SPECS)) -> dict[str, Seen]:
    """Return the newest version of every table, or of those named.

    `batches` is looked at first: whatever it has sealed is in the other tables by then, so that a running flow never
    makes the tables disagree up to its marks.
    """
    with reported("read the lake"):
        return {name: seen.look(lake.table(name)) for name in sorted(names, key=lambda name: name != "batches")}


@contextmanager
def connect(lake: Lake, contents: Mapping[str, Contents]) -> Iterator[duckdb.DuckDBPyConnection]:
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
                _create_view(connection, name, f"{lake.store.root}/{name}", each)
        except duckdb.Error as error:
            raise LakeError(
                f"couldn't read the lake: {first_line(error)}; see `alumicatalyst lake doctor` for what is damaged"
            ) from error
        yield connection


@dataclass(frozen=True, slots=True)
class Rows:
    """A query's result, which is read once.

    Attributes:
        schema: Its columns.
        versions: The version of each table that was read, as TABLE@VERSION.
        reader: DuckDB's stream.
    """

    schema: pa.Schema
    versions: list[str]
    reader: pa.RecordBatchReader

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the result batch by batch; InputError if the statement fails on the way."""
        import pyarrow as pa

        batches = iter(self.reader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            # What DuckDB raises in the midst of a stream comes through Arrow.
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                raise _failed(error) from None
            yield batch


@contextmanager
def reading(lake: Lake, query: str, cut: AsOf | None = None) -> Iterator[Rows]:
    """Run one read-only statement; its result can be read within the context.

    Args:
        lake: The lake.
        query: A SELECT, or DESCRIBE, SUMMARIZE, SHOW or EXPLAIN; tables go by their names.
        cut: Which versions to read instead of the newest.

    Raises:
        InputError: The statement is not SQL, is not one, would write, or fails; or a version cannot be read.
    """
    from alumicatalyst.lake import as_of

    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise InputError(f"couldn't understand the query: {first_line(error)}; give one SELECT") from None
    if len(statements) != 1 or statements[0].type not in _READ_ONLY:
        raise InputError(
            "couldn't run the query: it is not one reading statement; give one SELECT, DESCRIBE or EXPLAIN"
        )
    names = _tables_of(query)
    if cut is None:
        contents = look(lake, names)
    else:
        with reported("read the lake"):
            contents = as_of.look(lake, cut, names)
    with connect(lake, contents) as connection:
        try:
            reader = connection.sql(query).to_arrow_reader(65_536)
        except duckdb.Error as error:
            raise _failed(error) from None
        versions = [f"{name}@{contents[name].snapshot.version}" for name in names]
        yield Rows(reader.schema, versions, reader)


def select(lake: Lake, query: str, cut: AsOf | None = None) -> Iterator[pa.RecordBatch]:
    """Run one read-only statement and yield its result batch by batch; see `reading`.

    Example:
        >>> for batch in select(lake, "SELECT outcome, count(*) AS n FROM readings GROUP BY outcome"):
        ...     print(batch.to_pylist())
    """
    with reading(lake, query, cut) as rows:
        yield from rows


def _failed(error: Exception) -> InputError:
    return InputError(f"couldn't run the query: {first_line(error)}; tables are {', '.join(tables.SPECS)}")


def _tables_of(query: str) -> list[str]:
    """Return the tables that a statement reads; all where that cannot be told before they are there."""
    try:
        with duckdb.connect(":memory:") as connection:
            found = {name.lower() for name in connection.get_table_names(query)}
    except duckdb.Error:
        found = set()
    return [name for name in tables.SPECS if name in found or not found & tables.SPECS.keys()]


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, root: str, contents: Contents) -> None:
    """Make a table's view, with the columns of its schema in their order; a column that a file lacks is null there."""
    partial = contents.partial if isinstance(contents, Seen) else frozenset()
    whole = [f"{root}/{path}" for path in contents.paths if path not in partial]
    if whole and not partial:
        connection.execute(f"CREATE VIEW {name} AS {_read(name, whole)}")
        return
    # To look into each of 2,000 small files for its columns takes a query a second: only those are looked into that
    # the log does not say to have all of them.
    empty = f"empty_{name}"
    connection.register(empty, tables.schema(name).empty_table())
    sources = [f"FROM {empty}"]
    if whole:
        sources.append(_read(name, whole))
    if partial:
        sources.append(_read(name, [f"{root}/{path}" for path in contents.paths if path in partial], by_name=True))
    connection.execute(f"CREATE VIEW {name} AS {' UNION ALL BY NAME '.join(sources)}")


def _read(name: str, uris: Sequence[str], *, by_name: bool = False) -> str:
    """Return the SELECT that reads files of a table."""
    options = ["union_by_name = true"] if by_name else []
    columns = "*"
    if tables.SPECS[name].partition_by:
        options += ["hive_partitioning = true", "hive_types = {'date': DATE}"]
        columns = "date, * EXCLUDE (date)"
    files = ", ".join(_literal(uri) for uri in uris)
    return f"SELECT {columns} FROM read_parquet({', '.join([f'[{files}]', *options])})"  # noqa: S608 own names


def _literal(uri: str) -> str:
    """Quote an address for SQL, and for the patterns that DuckDB takes addresses for."""
    plain = re.sub(r"([*?\[])", r"[\1]", uri)
    return "'" + plain.replace("'", "''") + "'"

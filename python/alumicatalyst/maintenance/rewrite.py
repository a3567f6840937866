"""Many data files of a table into one: its rows sorted as readers want them, through a disk if memory is too small.

Nothing here decides what is part of the table; `compact` does.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alumicatalyst.lake import encode, tables
from alumicatalyst.lake.fault import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from duckdb import DuckDBPyConnection

    from alumicatalyst.maintenance.lease import Lease

MEMORY_MAX: Final = "256MB"
"""What sorting may hold in memory; beyond it DuckDB goes on in a temporary directory."""

ORDER: Final = {
    "readings": ("device", "metric", "event_time", "sequence_number", "item"),
    "windows": ("device", "metric", "window_start", "sequence_number", "item"),
    "alarms": ("device", "metric", "event_time", "sequence_number", "item"),
    "rejected": ("partition", "sequence_number", "item"),
    "batches": ("partition", "first_sequence"),
    "journal": ("partition", "ordinal"),
}
"""By what rows are sorted: a series stays together, as in the flow's own files, but over all that were rewritten."""

COMPRESSION_LEVEL: Final = 3
"""Rows are rewritten once and read often; flushes use 1."""

_BATCH_ROWS: Final = 131_072
_PAGE_ROWS_MAX: Final = 131_072
_WRITE_BATCH_ROWS: Final = 16_384
_WRITE_BATCH_ROWS_OF_BODIES: Final = 1_024
# A row group's dictionary of a megabyte is given up half way, and what follows is stored plainly. Where a dictionary is
# worth it, most of what is distinct in the group is met among as many rows as a page has.
_DICTIONARY_BYTES_MAX: Final = 500_000


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A Parquet file in memory.

    Attributes:
        data: The file.
        rows: Its rows.
        sha256: Hex digest of `data`.
        statistics: The Delta statistics, as JSON.
    """

    data: bytes
    rows: int
    sha256: str
    statistics: str


class Unreadable(Exception):
    """A file cannot be read, or has not the rows that it should have."""


def rewrite(table: str, files: Sequence[Path], folder: Path, lease: Lease, *, threads: int = 1) -> Rewritten:
    """Sort the rows of some data files of a table into one.

    Args:
        table: The table.
        files: The files, on a local disk.
        folder: A directory for what does not fit into memory, and for the new file until it is complete.
        lease: Checked now and then.
        threads: Threads that sort.

    Raises:
        Unreadable: A file is damaged, or lacks a column.
    """
    import duckdb

    target = folder / "sorted.parquet"
    try:
        expected = sum(int(pq.read_metadata(each).num_rows) for each in files)
        config: dict[str, Any] = {
            "memory_limit": MEMORY_MAX,
            "temp_directory": str(folder / "sorting"),
            "threads": threads,
        }
        with duckdb.connect(":memory:", config=config) as connection, lease.interruptible(connection.interrupt):
            connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
            rows, statistics = _write(table, _sorted(connection, table, files, lease.check), target)
    except (duckdb.Error, pa.ArrowException, OSError, ValueError) as error:
        lease.check()  # An interrupted query says so in words of its own.
        raise Unreadable(first_line(error)) from error
    if rows != expected:
        raise Unreadable(f"{expected} rows were to be rewritten, and {rows} came out")
    data = target.read_bytes()
    target.unlink()
    return Rewritten(data, rows, hashlib.sha256(data).hexdigest(), statistics)


def stored_schema(table: str) -> pa.Schema:
    """Return the columns of a table's files; `date` stands in their paths."""
    return pa.schema([field for field in tables.schema(table) if field.name != "date"])


def _sorted(
    connection: DuckDBPyConnection, table: str, files: Sequence[Path], check: Callable[[], None]
) -> Iterator[pa.Table]:
    """Yield the rows in their order, a row group at a time."""
    schema = stored_schema(table)
    present = {name for path in files for name in pq.read_schema(path).names}
    # A column that was added later is missing in some older files, or in all of them, and null there.
    columns = ", ".join(f'"{name}"' if name in present else f'NULL AS "{name}"' for name in schema.names)
    order = ", ".join(f'"{name}"' for name in ORDER[table])
    query = f"SELECT {columns} FROM read_parquet($files, union_by_name = true) ORDER BY {order}"  # noqa: S608 own names
    found = connection.sql(query, params={"files": [_plain(each) for each in files]})
    waiting: list[pa.Table] = []
    rows = 0
    for batch in found.to_arrow_reader(_BATCH_ROWS):
        check()
        waiting.append(_typed(batch, schema))
        rows += batch.num_rows
        if rows >= encode.ROW_GROUP_ROWS_MAX:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, encode.ROW_GROUP_ROWS_MAX).unify_dictionaries()
            waiting = [whole.slice(encode.ROW_GROUP_ROWS_MAX)]
            rows = waiting[0].num_rows
    if rows:
        yield pa.concat_tables(waiting).unify_dictionaries()


def _typed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    """Return rows with the types of the table; names are told once, which takes a fraction of the memory."""
    columns = []
    for field in schema:
        column = batch.column(field.name)
        if pa.types.is_dictionary(field.type):
            column = column.dictionary_encode()
        columns.append(column.cast(field.type))
        if not field.nullable and columns[-1].null_count:
            raise ValueError(f"{field.name} is missing in some rows")
    return pa.Table.from_arrays(columns, schema=schema)


def _write(table: str, groups: Iterator[pa.Table], target: Path) -> tuple[int, str]:
    """Write the file; return its rows and statistics.

    How columns are encoded is chosen by the first row group: the series that follow are of the same plant.
    """
    writer: pq.ParquetWriter | None = None
    rows = 0
    try:
        for group in groups:
            if writer is None:
                writer = pq.ParquetWriter(target, group.schema, **_layout(group))
            writer.write_table(group, row_group_size=encode.ROW_GROUP_ROWS_MAX)
            rows += group.num_rows
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise ValueError(f"the files of {table} have no rows")
    return rows, json.dumps(encode.statistics(pq.read_metadata(target)), allow_nan=False)


def _layout(group: pa.Table) -> dict[str, Any]:
    """Return how the writer lays columns out; numbers and times by trying each way on a page of them."""
    chosen = {field.name: _encoding(group.column(field.name)) for field in group.schema}
    dictionary = [name for name, encoding in chosen.items() if encoding is None]
    return _options(
        use_dictionary=dictionary or False,
        column_encoding={name: encoding for name, encoding in chosen.items() if encoding is not None} or None,
        # Whole bodies are written a few at a time: a page of sixteen thousand would be too large to read at once.
        write_batch_size=_WRITE_BATCH_ROWS_OF_BODIES if "body" in chosen else _WRITE_BATCH_ROWS,
        # Where rows were first written nobody searches for by a range.
        write_statistics=[name for name in chosen if not name.startswith("_")],
    )


def _options(**more: Any) -> dict[str, Any]:
    # Without Arrow's own schema every reader sees plain strings, as the Delta schema says.
    common = {"compression": "zstd", "compression_level": COMPRESSION_LEVEL, "store_schema": False}
    return common | {"max_rows_per_page": _PAGE_ROWS_MAX} | more


def _encoding(column: pa.ChunkedArray) -> str | None:
    """Return the encoding by which a column is smallest, None for a dictionary.

    What is sorted by series rises evenly, repeats, or neither, as senders will have it; no rule is right for all. Only
    encodings that readers of ten years ago know are tried: splitting the bytes of integers is not among them.
    """
    kind = column.type
    if pa.types.is_floating(kind):
        # BYTE_STREAM_SPLIT would be smaller at full precision, and Spark's default reader refuses it.
        others = ["PLAIN"]
    elif pa.types.is_integer(kind) or pa.types.is_timestamp(kind):
        others = ["DELTA_BINARY_PACKED", "PLAIN"]
    else:
        return None
    first = max(0, (len(column) - _PAGE_ROWS_MAX) // 2)
    sample = pa.table({"column": column.slice(first, _PAGE_ROWS_MAX)})
    # Rows spaced evenly stand for the column: its series follow one another.
    spread = column.take(pa.array(range(0, len(column), -(-len(column) // _PAGE_ROWS_MAX))))
    repeats = pc.count_distinct(spread).as_py() * (kind.bit_width // 8) <= _DICTIONARY_BYTES_MAX
    return min([None, *others] if repeats else others, key=lambda each: _size_of(sample, each))


def _size_of(sample: pa.Table, encoding: str | None) -> int:
    how = {"use_dictionary": True} if encoding is None else {"use_dictionary": False}
    sink = pa.BufferOutputStream()
    told = None if encoding is None else {"column": encoding}
    pq.write_table(sample, sink, column_encoding=told, write_batch_size=_WRITE_BATCH_ROWS, **_options(**how))
    return int(sink.tell())


def _plain(path: Path) -> str:
    """Return a path as it is meant, for DuckDB takes some characters for patterns."""
    return "".join(f"[{each}]" if each in "*?[" else each for each in str(path))

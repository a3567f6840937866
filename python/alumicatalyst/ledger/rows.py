"""Rows of a table out of its Parquet files, in the form of which row digests are made, wherever they are by now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.lake import tables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import pyarrow as pa

BATCH: Final = "_batch"
ROW: Final = "_row"


class Unreadable(Exception):
    """A file whose bytes are not, or not wholly, a Parquet file of the table."""


def names(table: str) -> list[str]:
    """Return the columns of a table that row digests are of."""
    found: list[str] = tables.columns(table).names
    return found


def read(table: str, data: bytes) -> pa.Table:
    """Return all rows of a data file, locators at the end.

    Raises:
        Unreadable: It cannot be read, or has not the table's columns.
    """
    import pyarrow as pa

    groups = list(read_groups(table, data))
    return pa.concat_tables(groups) if groups else files_schema(table).empty_table()


def read_groups(table: str, data: bytes, only: Collection[str] | None = None) -> Iterator[pa.Table]:
    """Yield the row groups of a data file one by one.

    Args:
        table: The table.
        data: The file.
        only: Columns wanted; all, and the locators, without it.

    Raises:
        Unreadable: It cannot be read, or has not the table's columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = files_schema(table)
    if only is not None:
        schema = pa.schema([field for field in schema if field.name in only])
    try:
        # Names are a few, told once: as plain strings they would take several times the memory of all the rest.
        names_once = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=names_once)
        for number in range(file.num_row_groups):
            found = file.read_row_group(number, columns=schema.names, use_threads=False)
            yield found.select(schema.names).cast(schema)
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        raise Unreadable(str(error).partition("\n")[0][:200]) from error


def normal(table: str, found: pa.Table) -> pa.Table:
    """Return rows that a query gave with the types of the table's files."""
    schema = files_schema(table)
    return found.select(schema.names).cast(schema)


def root(table: str, rows: pa.Table, batch: bytes) -> bytes:
    """Return the root over the rows of a batch, given in the order of `_row`."""
    from alumicatalyst import _core

    return _core.rows_root(table, whole(rows.select(names(table))), batch)


def whole(rows: pa.Table) -> pa.RecordBatch:
    """Return a table as one batch."""
    import pyarrow as pa

    batches = rows.unify_dictionaries().combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=rows.schema)


def mislocated(rows: pa.Table, batch: bytes) -> str | None:
    """Return what is wrong with the locators of a file's own rows, None if they count it from its first row on."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    own = pc.equal(rows.column(BATCH), pa.scalar(batch, pa.binary()))
    strange = rows.num_rows - (pc.sum(own).as_py() or 0)
    if strange:
        return f"{strange} of its rows name another batch"
    if not np.array_equal(rows.column(ROW).to_numpy(), np.arange(rows.num_rows)):
        return "its rows are not numbered from 0 in their order"
    return None


def files_schema(table: str) -> pa.Schema:
    """Return the columns of a table's files as rows are read from them, locators at the end."""
    import pyarrow as pa

    fields: list[Any] = [pa.field(each.name, each.type) for each in tables.columns(table)]
    return pa.schema([*fields, pa.field(BATCH, pa.binary()), pa.field(ROW, pa.int32())])

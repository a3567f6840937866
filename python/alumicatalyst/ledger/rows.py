"""Rows of a table out of its Parquet files, in the form of which row digests are made, wherever they are by now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.errors import LedgerError
from alumicatalyst.lake import tables
from alumicatalyst.ledger import leaf, merkle
from alumicatalyst.ledger.tiles import split_hashes

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

    A column that the file lacks and that may be empty reads as null: a former version wrote the file.

    Raises:
        Unreadable: It cannot be read, or has not the table's columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = files_schema(table)
    if only is not None:
        schema = pa.schema([field for field in schema if field.name in only])
    optional = {field.name for field in tables.columns(table) if field.nullable}
    try:
        # Names are a few, told once: as plain strings they would take several times the memory of all the rest.
        names_once = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=names_once)
        for number in range(file.num_row_groups):
            found = file.read_row_group(number, columns=schema.names, use_threads=False)
            for field in schema:
                if field.name in optional and field.name not in found.column_names:
                    found = found.append_column(field, pa.nulls(found.num_rows, field.type))
            yield found.select(schema.names).cast(schema)
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        raise Unreadable(str(error).partition("\n")[0][:200]) from error


def normal(table: str, found: pa.Table) -> pa.Table:
    """Return rows that a query gave with the types of the table's files."""
    schema = files_schema(table)
    return found.select(schema.names).cast(schema)


def root(table: str, rows: pa.Table, batch: bytes, schema: str | None = None) -> bytes:
    """Return the root over the rows of a batch, given in the order of `_row`.

    Args:
        table: The table.
        rows: Its rows, with all columns of this version.
        batch: The batch.
        schema: The schema text by which they were digested, if that is a former version's.

    Raises:
        ValueError: They cannot be digested, or have values in columns that came after that schema.
    """
    from alumicatalyst import _core

    if _is_former(table, schema):
        return merkle.root(hashes(table, rows, batch, schema))
    return _core.rows_root(table, whole(rows.select(names(table))), batch)


def hashes(table: str, rows: pa.Table, batch: bytes, schema: str | None = None) -> list[bytes]:
    """Return the hashes of the leaves over the rows of a batch; see `root`."""
    from alumicatalyst import _core

    if not _is_former(table, schema):
        return split_hashes(_core.leaf_hashes(table, whole(rows.select(names(table))), batch))
    return [
        merkle.leaf_hash(row_leaf(table, rows.slice(first, leaf.ROWS_MAX), batch, first, schema))
        for first in range(0, rows.num_rows, leaf.ROWS_MAX)
    ]


def row_leaf(table: str, rows: pa.Table, batch: bytes, first: int, schema: str | None = None) -> bytes:
    """Return the bytes of the leaf over some rows of a batch, the first of which has that number; see `root`."""
    from alumicatalyst import _core

    if schema is None or not _is_former(table, schema):
        return _core.row_leaf(table, whole(rows.select(names(table))), batch, first)
    # In plain Python, which is slow and changes no more: the core knows only the columns of its own version.
    written = {name for name, _ in leaf.fields(schema)}
    if not written <= set(names(table)):
        raise ValueError("they were digested with columns that this version does not know")
    later = [name for name in names(table) if name not in written and rows.column(name).null_count < rows.num_rows]
    if later:
        raise ValueError(f"they have values that nobody has digested: {', '.join(later)}")
    try:
        return leaf.encode(schema, rows.select(names(table)).to_pylist(), batch, first)
    except LedgerError as error:
        raise ValueError(str(error)) from error


def _is_former(table: str, schema: str | None) -> bool:
    from alumicatalyst import _core

    return schema is not None and schema != _core.leaf_schema(table)


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

"""CSV, NDJSON and Parquet files as an Arrow table of numbers, text and times, large ones by their beginning."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

# Larger files are judged by their beginning.
_BYTES_MAX: Final = 64 << 20
_ROWS_MAX: Final = 1_000_000
_COLUMNS_MAX: Final = 10_000


def read(path: Path) -> tuple[pa.Table, bool]:
    """Read a file, its numbers as float64, text as string, timestamps as they are and anything else as nulls.

    Returns:
        The rows, and whether the file goes on after them.

    Raises:
        InputError: The file cannot be read, has no rows, or two columns of one name.
    """
    import pyarrow as pa

    readers = {".csv": _csv, ".tsv": _csv, ".txt": _csv, ".ndjson": _ndjson, ".jsonl": _ndjson, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"couldn't read the file: {path}: its ending is none of {', '.join(readers)}; name it by what it is"
        )
    try:
        data, cut = reader(path)
    except OSError as error:
        raise InputError(
            f"couldn't read the file: {path}: {error.strerror or error}; name a file that exists"
        ) from error
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"couldn't read the file: {path}: {reason}; mend it, or name another") from error
    names = data.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"couldn't read the file: {path}: two columns are called {twice[0]!r}; rename one")
    if not data.num_rows:
        raise InputError(f"couldn't read the file: {path}: it has no rows; name one that has readings")
    return pa.table({name: _typed(data[name]) for name in names}), cut


def _beginning(path: Path) -> tuple[bytes, bool]:
    """Return the file, or as many whole lines of a large one as fit."""
    with path.open("rb") as file:
        content = file.read(_BYTES_MAX + 1)
    if len(content) <= _BYTES_MAX:
        return content, False
    return content[: content.rfind(b"\n", 0, _BYTES_MAX) + 1], True


def _csv(path: Path) -> tuple[pa.Table, bool]:
    import pyarrow as pa
    from pyarrow import csv as arrow

    content, cut = _beginning(path)
    header = content.split(b"\n", 1)[0].decode("utf-8-sig").rstrip("\r")
    delimiter = max((",", ";", "\t"), key=header.count)
    names = next(csv.reader(io.StringIO(header), delimiter=delimiter), [])
    _check_width(path, names)
    if not names:
        return pa.table({}), cut
    data = arrow.read_csv(
        pa.BufferReader(content),
        parse_options=arrow.ParseOptions(delimiter=delimiter),
        convert_options=arrow.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True),
    )
    return data, cut


def _ndjson(path: Path) -> tuple[pa.Table, bool]:
    import pyarrow as pa
    from pyarrow import json as arrow

    content, cut = _beginning(path)
    if not content.strip():
        return pa.table({}), cut
    # A line may not be longer than a block, and times are to stay the text that a replay will send.
    options = arrow.ReadOptions(block_size=len(content))
    data = arrow.read_json(pa.BufferReader(content), read_options=options)
    texts = [field.with_type(pa.string()) for field in data.schema if pa.types.is_timestamp(field.type)]
    if texts:
        parsing = arrow.ParseOptions(explicit_schema=pa.schema(texts))
        data = arrow.read_json(pa.BufferReader(content), read_options=options, parse_options=parsing)
    _check_width(path, data.column_names)
    return data, cut


def _parquet(path: Path) -> tuple[pa.Table, bool]:
    import pyarrow as pa
    from pyarrow import parquet as arrow

    with arrow.ParquetFile(path) as file:
        _check_width(path, file.schema_arrow.names)
        batches, rows = [], 0
        for batch in file.iter_batches(batch_size=65_536):
            batches.append(batch)
            rows += batch.num_rows
            if rows >= _ROWS_MAX:
                break
        return pa.Table.from_batches(batches, file.schema_arrow), rows < file.metadata.num_rows


def _check_width(path: Path, names: list[str]) -> None:
    if len(names) > _COLUMNS_MAX:
        raise InputError(f"couldn't read the file: {path}: {len(names)} columns; split it, {_COLUMNS_MAX} are allowed")


def _typed(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return column.cast(pa.float64(), safe=False)
    if types.is_timestamp(kind):
        return column
    if not (types.is_string(kind) or types.is_large_string(kind)) or not pc.any(pc.is_valid(column)).as_py():
        return pa.nulls(len(column))
    column = column.cast(pa.string())
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        return column

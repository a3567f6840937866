"""A query's result as CSV, JSON lines, Parquet or an Arrow stream: batch by batch, and a file is whole or not there."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
import uuid
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from alumicatalyst.cli.lake_shown import text
from alumicatalyst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from alumicatalyst.lake.query import Rows

STANDARD_OUTPUT = "-"

ROW_GROUP_ROWS_MAX = 524_288
ROW_GROUP_BYTES_MAX = 64 * 1024 * 1024
"""A row group of a Parquet file is held in memory until it is full, so this bounds what writing one takes."""

_ENDINGS = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
}


def format_of(named: Sequence[str], output: str) -> str | None:
    """Return csv, json, parquet or arrow; None for a table to look at.

    Raises:
        InputError: Several are asked for, or the file's name tells none.
    """
    if len(named) > 1:
        raise InputError(f"couldn't choose a format: {', '.join('--' + each for each in named)}; give one of them")
    if named:
        return named[0]
    if output == STANDARD_OUTPUT:
        return None
    try:
        return _ENDINGS[Path(output).suffix.lower()]
    except KeyError:
        raise InputError(
            f"couldn't tell the format from the file's name: {output}; end it in .csv, .json, .parquet or .arrow, or "
            "give --csv, --json, --parquet or --arrow"
        ) from None


def to_standard_output(rows: Rows, form: str) -> None:
    """Print a result; a reader that has enough, such as `head`, ends it.

    Raises:
        InputError: The format is binary and standard output a terminal.
    """
    if form in _BINARY and sys.stdout.isatty():
        raise InputError(f"couldn't print {form}: standard output is a terminal; name a file with --output, or pipe it")
    try:
        if form in _BINARY:
            _BINARY[form](rows, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            _TEXT[form](rows, sys.stdout)
            sys.stdout.flush()
    except BrokenPipeError:
        # Whatever Python would still flush at its end has no reader either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def to_file(rows: Rows, form: str, path: str) -> None:
    """Write a result beside its file and rename it when it is complete and durable; a file of that name is replaced.

    Raises:
        InputError: The file cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with _told(target):
            with temporary.open("xb") as file:
                if form in _BINARY:
                    _BINARY[form](rows, file)
                else:
                    lines = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
                    _TEXT[form](rows, lines)
                    lines.detach()
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _told(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"couldn't write {target}: {error.strerror or error}; name a file in a folder that you may write to"
        ) from error
    except pa.ArrowException as error:
        raise InputError(
            f"couldn't write {target}: {error}; cast the column to another type, or take --csv or --json"
        ) from error


def _write_csv(rows: Rows, file: Any) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows.schema.names)
    for batch in rows:
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            writer.writerow("" if value is None else text(value) for value in row)


def _write_json(rows: Rows, file: Any) -> None:
    for batch in rows:
        for row in batch.to_pylist():
            file.write(json.dumps(_plain(row), default=text, ensure_ascii=False, allow_nan=False) + "\n")


def _write_parquet(rows: Rows, file: BinaryIO) -> None:
    held: list[pa.RecordBatch] = []
    with pq.ParquetWriter(file, rows.schema, compression="zstd") as writer:

        def write() -> None:
            writer.write_table(pa.Table.from_batches(held, rows.schema), row_group_size=ROW_GROUP_ROWS_MAX)
            held.clear()

        for batch in rows:
            held.append(batch)
            if (
                sum(each.num_rows for each in held) >= ROW_GROUP_ROWS_MAX
                or sum(each.nbytes for each in held) >= ROW_GROUP_BYTES_MAX
            ):
                write()
        write()


def _write_arrow(rows: Rows, file: BinaryIO) -> None:
    with pa.ipc.new_stream(file, rows.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)


_BINARY: dict[str, Callable[[Rows, BinaryIO], None]] = {"parquet": _write_parquet, "arrow": _write_arrow}
_TEXT: dict[str, Callable[[Rows, Any], None]] = {"csv": _write_csv, "json": _write_json}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: it knows no NaN, and DuckDB's sums of whole numbers come as decimals."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value

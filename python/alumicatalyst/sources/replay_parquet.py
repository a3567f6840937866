"""Reads Parquet files: typed columns become JSON with exactly their values."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alumicatalyst.errors import InputError
from alumicatalyst.sources.replay_columns import Block, check_columns, first_of, join, objects, quote_texts
from alumicatalyst.sources.replay_times import UNKNOWN, per_unit, read_times, refuse_times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from alumicatalyst.sources.replay_columns import Roles

_BATCH_ROWS: Final = 16_384
_TEXT: Final = pa.large_binary()
_NULL: Final = pa.scalar(b"null", _TEXT)


def parquet_blocks(file: IO[bytes], path: Path, roles: Roles) -> Iterator[Block]:
    """Read a Parquet file.

    Raises:
        InputError: It is none, is damaged, or has no column with times that can be read.
    """
    try:
        parquet = pq.ParquetFile(file)
        names = parquet.schema_arrow.names
        check_columns(names, roles, path)
        row, seen_time = 0, False
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
            block = _block(batch, row, roles, path)
            row += batch.num_rows
            if not seen_time and batch.num_rows:
                seen_time = bool((block.event_us != UNKNOWN).any())
                if not seen_time:
                    name = next(name for name in names if roles.member(name) in roles.time)
                    samples = iter(batch.column(name).to_pylist())
                    raise refuse_times(samples, roles.time_format, f"column {name} in {path}")
            yield block
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"couldn't read {path} as Parquet: {reason}; check the file") from None


def _block(batch: pa.RecordBatch, row: int, roles: Roles, path: Path) -> Block:
    names, rows = batch.schema.names, batch.num_rows
    event_us = np.full(rows, UNKNOWN, dtype=np.int64)
    cells = {name: _json(batch.column(name), as_text=roles.is_text(name)) for name in names}
    held = {roles.member(name): name for name in names}
    for member in reversed([member for member in roles.time if member in held]):
        name = held[member]
        times_us, texts = _times(batch.column(name), roles.time_format, roles, f"column {name} of {path}")
        event_us = np.where(times_us == UNKNOWN, event_us, times_us)
        if texts is not None:
            cells[name] = texts
    enqueued_us = None
    if roles.enqueued_column is not None:
        where = f"column {roles.enqueued_column} of {path}"
        enqueued_us, _ = _times(batch.column(roles.enqueued_column), "rfc3339", roles, where)
    candidates = [_plain(batch.column(name)) for name in roles.device if name in names]
    return Block(
        rows=np.arange(row, row + rows),
        bodies=objects([roles.member(name) for name in names], [cells[name] for name in names], rows),
        event_us=event_us,
        enqueued_us=enqueued_us,
        devices=first_of(candidates) if candidates else None,
        properties=None,
        unreadable=0,
    )


def _plain(column: pa.Array) -> pa.Array:
    """Return values as text, null as nothing."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.large_string()).cast(_TEXT).fill_null(b"")


def _times(column: pa.Array, time_format: str, roles: Roles, where: str) -> tuple[Any, pa.Array | None]:
    """Return times and, where the column's own JSON will not do, the JSON to be sent instead."""
    kind = column.type
    if not pa.types.is_timestamp(kind):
        times = read_times(_plain(column), time_format, roles.utc_offset, where)
        return times.times_us, None if times.texts is None else _or_null(column, quote_texts(times.texts))
    if kind.tz is None:
        # Goes through text once, so that an offset is asked for in the same words as for any other file.
        first = column.drop_null()[:1].cast(pa.string()).cast(_TEXT)
        read_times(first, "rfc3339", roles.utc_offset, where)
    whole = column.cast(pa.timestamp("us", tz=kind.tz), safe=False).cast(pa.int64())
    times_us = np.asarray(whole.fill_null(UNKNOWN).to_numpy(zero_copy_only=False), dtype=np.int64)
    if kind.tz is None and roles.utc_offset is not None:
        shifted = times_us - int(roles.utc_offset.total_seconds() * 1_000_000)
        times_us = np.where(times_us == UNKNOWN, UNKNOWN, shifted)
    shown = pa.array(np.where(times_us == UNKNOWN, 0, times_us))
    if time_format != "rfc3339":
        places = len(str(per_unit(time_format))) - 1
        numbers = [str(Decimal(time).scaleb(-places)).encode() for time in shown.to_pylist()]
        return times_us, _or_null(column, pa.array(numbers, _TEXT))
    return times_us, _or_null(column, quote_texts(_rfc3339(shown, kind.unit)))


def _rfc3339(times_us: pa.Array, unit: str) -> pa.Array:
    """Return times with as many decimals as the column's unit has, at most six."""
    shown = "us" if unit == "ns" else unit
    texts = times_us.cast(pa.timestamp("us")).cast(pa.timestamp(shown), safe=False).cast(pa.string())
    return join([pc.replace_substring(texts, " ", "T", max_replacements=1).cast(_TEXT), b"Z"], len(texts))


def _or_null(column: pa.Array, texts: pa.Array) -> pa.Array:
    return pc.if_else(column.is_valid(), texts, _NULL)


def _json(column: pa.Array, *, as_text: bool) -> pa.Array:
    """Return a typed column as JSON."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
        kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _or_null(column, quote_texts(_plain(column)))
    if pa.types.is_boolean(kind):
        texts = pc.if_else(column, pa.scalar(b"true", _TEXT), pa.scalar(b"false", _TEXT))
        return _or_null(column, quote_texts(texts.fill_null(b"")) if as_text else texts)
    if pa.types.is_floating(kind):
        texts = _plain(column.cast(pa.float32()) if pa.types.is_float16(kind) else column)
        for written, name in ((b"nan", b"NaN"), (b"inf", b"Infinity"), (b"-inf", b"-Infinity")):
            texts = pc.if_else(pc.equal(texts, pa.scalar(written, _TEXT)), pa.scalar(name, _TEXT), texts)
        return _or_null(column, quote_texts(texts) if as_text else texts)
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return _or_null(column, quote_texts(_plain(column)) if as_text else _plain(column))
    if pa.types.is_timestamp(kind):
        text = _rfc3339(_shown_us(column), kind.unit)
        return _or_null(column, quote_texts(text))
    if pa.types.is_null(kind):
        return pa.repeat(_NULL, len(column))
    # Lists, structures and the like: no readings, but ignored members may be so.
    return pa.array([json.dumps(value, default=str).encode() for value in column.to_pylist()], _TEXT)


def _shown_us(column: pa.Array) -> pa.Array:
    return column.cast(pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.int64()).fill_null(0)

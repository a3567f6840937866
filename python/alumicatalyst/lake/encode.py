"""Record batches to Parquet files in memory: an encoding for each column, one file for each date, Delta statistics."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alumicatalyst import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

ROW_GROUP_ROWS_MAX = 1_048_576
_DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1)

# Numbers that rise by small steps pack to a few bits as differences. Event times do not: their jitter costs more as
# differences than as plain values under zstd (measured; 0.28 against 0.63 bytes a reading). The first and last times of
# windows are event times too: as a dictionary they are no smaller (measured), and a seventh of the work.
_DELTA_PACKED = frozenset({"sequence_number", "item"})
_PLAIN = frozenset({"event_time", "first_time", "last_time"})

# What these hold depends on the sender: values with or without a resolution, envelopes with many readings or with one.
_ADAPTIVE = {pa.float64(): "BYTE_STREAM_SPLIT", pa.timestamp("us", tz="UTC"): "PLAIN"}

# The writer looks after each such batch whether a page is full; its own 1,024 rows cost a seventh more (measured).
# Whole bodies are written in those: a page of sixteen thousand would be too large to read at once.
_WRITE_BATCH_ROWS = 16_384
_WRITE_BATCH_ROWS_OF_BODIES = 1_024

_SAMPLE_ROWS = 16_384
# A sample of 16,384 from 60,000 equally likely values holds about 87 % distinct ones; beyond that a row group's
# dictionary outgrows its page and splitting bytes into streams is smaller. A column shorter than the sample is counted
# whole, and there a dictionary pays below about two thirds.
_DISTINCT_SHARE_MAX_SAMPLED = 0.87
_DISTINCT_SHARE_MAX_COUNTED = 0.65

# Strings worth a statistic: readers skip files by them. Longer values would only swell the log.
_STATISTICS_STRINGS = frozenset(
    {"partition", "device", "metric", "outcome", "window_name", "alarm_rule", "reason", "kind"}
)
_STATISTICS_CHARS_MAX = 64


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """A Parquet file in memory, ready to be put and committed.

    Attributes:
        day: UTC date of its rows, None for a table without that partition column.
        data: The file.
        rows: Number of rows.
        sha256: Hex digest of `data`.
        statistics: The Delta statistics, as JSON.
    """

    day: date | None
    data: bytes
    rows: int
    sha256: str
    statistics: str


def encode(batches: Sequence[pa.RecordBatch], day_column: str | None) -> list[EncodedFile]:
    """Encode rows, one file for each UTC date; the order of rows within a date is kept.

    Args:
        batches: Rows of one table without its `date` column; strings are best given as dictionaries.
        day_column: The timestamp column whose UTC date is the Delta partition; None: the table has no such column.

    Returns:
        The files by date; none for no rows.
    """
    started = time.perf_counter()
    by_day: dict[date | None, list[pa.RecordBatch]] = {}
    for batch in batches:
        if batch.num_rows:
            for day, part in _split(batch, day_column):
                by_day.setdefault(day, []).append(part)
    files = [_encode_day(day, by_day[day]) for day in sorted(by_day, key=lambda each: each or date.min)]
    metrics.STAGE_SECONDS.labels("encode").observe(time.perf_counter() - started)
    return files


def day_of(time_us: int) -> date:
    """Return the UTC date of a time in microseconds."""
    return _EPOCH + timedelta(days=time_us // _DAY_US)


def _split(batch: pa.RecordBatch, day_column: str | None) -> list[tuple[date | None, pa.RecordBatch]]:
    if day_column is None:
        return [(None, batch)]
    column = batch.column(day_column)
    extremes = pc.min_max(column)
    first, last = (extremes[end].value // _DAY_US for end in ("min", "max"))
    if first == last:
        return [(_EPOCH + timedelta(days=first), batch)]
    days = column.cast(pa.int64()).to_numpy(zero_copy_only=False) // _DAY_US
    return [(_EPOCH + timedelta(days=int(day)), batch.filter(pa.array(days == day))) for day in np.unique(days)]


def _encode_day(day: date | None, batches: list[pa.RecordBatch]) -> EncodedFile:
    # Unified dictionaries are written as they are; with differing ones the writer would expand every string.
    table = pa.Table.from_batches(batches).unify_dictionaries()
    dictionary: list[str] = []
    encodings: dict[str, str] = {}
    for field in table.schema:
        if field.name in _DELTA_PACKED:
            encodings[field.name] = "DELTA_BINARY_PACKED"
        elif field.name in _PLAIN:
            encodings[field.name] = "PLAIN"
        elif field.type in _ADAPTIVE and not _few_distinct(table.column(field.name)):
            encodings[field.name] = _ADAPTIVE[field.type]
        else:
            dictionary.append(field.name)
    bodies = any(pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type) for field in table.schema)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        write_batch_size=_WRITE_BATCH_ROWS_OF_BODIES if bodies else _WRITE_BATCH_ROWS,
        row_group_size=ROW_GROUP_ROWS_MAX,
        compression="zstd",
        compression_level=1,
        use_dictionary=dictionary or False,
        column_encoding=encodings or None,
        # Without Arrow's own schema every reader sees plain strings, as the Delta schema says.
        store_schema=False,
    )
    buffer = sink.getvalue()
    data = buffer.to_pybytes()
    return EncodedFile(
        day=day,
        data=data,
        rows=table.num_rows,
        sha256=hashlib.sha256(data).hexdigest(),
        statistics=json.dumps(_statistics(pq.read_metadata(pa.BufferReader(buffer))), allow_nan=False),
    )


def _few_distinct(column: pa.ChunkedArray) -> bool:
    """Estimate from a sample whether a dictionary is smaller than the values themselves."""
    rows = len(column)
    sampled = rows > 4 * _SAMPLE_ROWS
    if sampled:
        # Chunks are batches of the same partition, so equal shares of evenly spaced rows stand for the column.
        share = _SAMPLE_ROWS / rows
        chunks = [chunk.to_numpy(zero_copy_only=False)[:: max(1, int(1 / share))] for chunk in column.chunks]
    else:
        chunks = [chunk.to_numpy(zero_copy_only=False) for chunk in column.chunks]
    values = np.concatenate(chunks)
    limit = _DISTINCT_SHARE_MAX_SAMPLED if sampled else _DISTINCT_SHARE_MAX_COUNTED
    return len(np.unique(values)) <= limit * len(values)


def _statistics(metadata: Any) -> dict[str, Any]:
    """Fold the statistics that the Parquet writer has computed anyway into those that Delta's readers prune by."""
    lowest: dict[str, Any] = {}
    highest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    dropped: set[str] = set()
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for at in range(row_group.num_columns):
            chunk = row_group.column(at)
            name, found = chunk.path_in_schema, chunk.statistics
            if found is None:
                dropped.add(name)
                continue
            nulls[name] = nulls.get(name, 0) + (found.null_count if found.has_null_count else 0)
            if not found.has_min_max:
                # All null in this row group, or not comparable: only the former leaves the others usable.
                if found.null_count != chunk.num_values:
                    dropped.add(name)
                continue
            low, high = found.min, found.max
            lowest[name] = low if name not in lowest else min(lowest[name], low)
            highest[name] = high if name not in highest else max(highest[name], high)
    kept = [name for name in lowest if name not in dropped and _worth(name, lowest[name], highest[name])]
    return {
        "numRecords": metadata.num_rows,
        "minValues": {name: _plain(lowest[name]) for name in kept},
        "maxValues": {name: _plain(highest[name]) for name in kept},
        "nullCount": {name: count for name, count in nulls.items() if name not in dropped},
    }


def _worth(name: str, low: Any, high: Any) -> bool:
    if isinstance(low, str):
        return name in _STATISTICS_STRINGS and max(len(low), len(high)) <= _STATISTICS_CHARS_MAX
    if isinstance(low, float):
        return math.isfinite(low) and math.isfinite(high)
    return isinstance(low, int | datetime) and not isinstance(low, bool)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value

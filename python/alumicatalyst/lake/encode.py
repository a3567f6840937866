"""Record batches to Parquet files in memory: one for each date, rows sorted and digested, each column well encoded."""

from __future__ import annotations

import hashlib
import json
import math
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alumicatalyst import _core, metrics
from alumicatalyst.lake.tables import SPECS

if TYPE_CHECKING:
    from collections.abc import Sequence

ROW_GROUP_ROWS_MAX = 1_048_576
_DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1)

# Within a series these rise by steps that are nearly alike, and pack to a few bits as differences: event times that
# keep to their interval cost nothing, jittered ones less than plain (measured: 0.01 for 2.5, and 2.4 for 3.1 bytes).
_DELTA_PACKED = frozenset({"sequence_number", "item", "event_time", "first_time", "last_time", "_row"})

# What these hold depends on the sender: values with or without a resolution, envelopes with many readings or with one.
# Split into streams of bytes, values at full precision would take a byte less; Spark's default reader refuses that.
_ADAPTIVE = frozenset({pa.float64(), pa.timestamp("us", tz="UTC")})

# The writer looks after each such batch whether a page is full; its own 1,024 rows cost a seventh more (measured).
# Whole bodies are written in those: a page of sixteen thousand would be too large to read at once.
_WRITE_BATCH_ROWS = 16_384
_WRITE_BATCH_ROWS_OF_BODIES = 1_024

# Pages are compressed one by one: the writer's own 20,000 rows make files a sixth larger and the work too (measured).
_PAGE_ROWS_MAX = 131_072

_SAMPLE_ROWS = 16_384
# A sample of 16,384 from 60,000 equally likely values holds about 87 % distinct ones; beyond that a row group's
# dictionary outgrows its page and values as they are are smaller. A column shorter than the sample is counted
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
        batch: What the rows are located by for good, and the file's name.
        data: The file.
        rows: Number of rows.
        sha256: Hex digest of `data`.
        rows_root: Hex digest of the rows themselves, whatever file they are in later.
        statistics: The Delta statistics, as JSON.
    """

    day: date | None
    batch: uuid.UUID
    data: bytes
    rows: int
    sha256: str
    rows_root: str
    statistics: str


def encode(table: str, batches: Sequence[pa.RecordBatch]) -> list[EncodedFile]:
    """Encode rows, one file for each UTC date, in the order of `_core.file_rows`.

    Args:
        table: Whose rows they are.
        batches: Rows with the columns of `tables.columns(table)`.

    Returns:
        The files by date; none for no rows.
    """
    started = time.perf_counter()
    by_day: dict[date | None, list[pa.RecordBatch]] = {}
    for batch in batches:
        if batch.num_rows:
            for day, part in _split(batch, SPECS[table].day_column):
                by_day.setdefault(day, []).append(part)
    files = [_encode_day(table, day, by_day[day]) for day in sorted(by_day, key=lambda each: each or date.min)]
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


def _encode_day(name: str, day: date | None, batches: list[pa.RecordBatch]) -> EncodedFile:
    batch = uuid.uuid4()
    started = time.perf_counter()
    # Its names are told once, as dictionaries, which the writer takes as they are.
    rows, rows_root = _core.file_rows(name, batches, batch.bytes)
    metrics.STAGE_SECONDS.labels("digest").observe(time.perf_counter() - started)
    dictionary: list[str] = []
    encodings: dict[str, str] = {}
    for field in rows.schema:
        if field.name in _DELTA_PACKED:
            encodings[field.name] = "DELTA_BINARY_PACKED"
        elif field.type in _ADAPTIVE and not _few_distinct(rows.column(field.name)):
            encodings[field.name] = "PLAIN"
        else:
            dictionary.append(field.name)
    bodies = any(pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type) for field in rows.schema)
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_batches([rows]),
        sink,
        write_batch_size=_WRITE_BATCH_ROWS_OF_BODIES if bodies else _WRITE_BATCH_ROWS,
        row_group_size=ROW_GROUP_ROWS_MAX,
        max_rows_per_page=_PAGE_ROWS_MAX,
        compression="zstd",
        compression_level=1,
        # Where rows were first written the file's own name says.
        write_statistics=[each for each in rows.schema.names if not each.startswith("_")],
        use_dictionary=dictionary or False,
        column_encoding=encodings or None,
        # Without Arrow's own schema every reader sees plain strings, as the Delta schema says.
        store_schema=False,
    )
    buffer = sink.getvalue()
    data = buffer.to_pybytes()
    return EncodedFile(
        day=day,
        batch=batch,
        data=data,
        rows=rows.num_rows,
        sha256=hashlib.sha256(data).hexdigest(),
        rows_root=rows_root.hex(),
        statistics=json.dumps(statistics(pq.read_metadata(pa.BufferReader(buffer))), allow_nan=False),
    )


def _few_distinct(column: pa.Array) -> bool:
    """Estimate from a sample whether a dictionary is smaller than the values themselves."""
    values = column.to_numpy(zero_copy_only=False)
    sampled = len(values) > 4 * _SAMPLE_ROWS
    if sampled:
        # Evenly spaced rows stand for the column: its series follow one another.
        values = values[:: len(values) // _SAMPLE_ROWS]
    limit = _DISTINCT_SHARE_MAX_SAMPLED if sampled else _DISTINCT_SHARE_MAX_COUNTED
    return len(np.unique(values)) <= limit * len(values)


def statistics(metadata: Any) -> dict[str, Any]:
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

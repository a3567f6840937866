"""Reads from the lake what the API lacks of a partition's alarms, windows or latest values, in bounded pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from alumicatalyst.lake.fault import reported
from alumicatalyst.lake.query import connect
from alumicatalyst.lake.table import Contents, Snapshot
from alumicatalyst.sinks.alerts_client import Post
from alumicatalyst.sinks.alerts_rows import plain_schema

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import duckdb

    from alumicatalyst.lake import Lake
    from alumicatalyst.sinks.alerts_client import Kind

READINGS_MAX = 2_000_000
"""Readings that are looked through for the latest values of one piece: about a second's work."""

_TABLES: Final[dict[Kind, str]] = {"alarms": "alarms", "windows": "windows", "latest": "readings"}
_COUNTS: Final[dict[Kind, str]] = {"alarms": "rows_alarms", "windows": "rows_windows", "latest": "rows_total"}

_BORDERS = """
SELECT last_sequence, {count} AS rows FROM batches
WHERE partition = $partition AND last_sequence > $after AND last_sequence <= $until ORDER BY last_sequence
"""
_BACK = """
SELECT coalesce(max(last_sequence), -1) FROM (
    SELECT last_sequence, sum(rows_total) OVER (ORDER BY last_sequence DESC) AS rows FROM batches
    WHERE partition = $partition AND last_sequence <= $after
) WHERE rows > $rows
"""
_ROWS = """
SELECT {columns} FROM {table}
WHERE partition = $partition AND sequence_number > $after AND sequence_number <= $until
ORDER BY sequence_number, item
"""
# The newest in-order reading of a series is the first one that arrived with its greatest event time: in order means
# after all that came before.
_LATEST = """
SELECT {columns} FROM {table}
WHERE partition = $partition AND sequence_number > $after AND sequence_number <= $until AND outcome <> 'duplicate'
QUALIFY row_number() OVER (PARTITION BY device, metric ORDER BY event_time DESC, sequence_number, item) = 1
ORDER BY sequence_number, item
"""


def refill(
    lake: Lake, kind: Kind, partition: str, after: int, until: int, rows_max: int, *, replaces: bool = False
) -> Generator[Post]:
    """Yield the lake's rows of (after, until] as posts that follow one another; the last one ends at `until`.

    Args:
        lake: The lake; `batches` has sealed `until`.
        kind: Which rows.
        partition: Whose.
        after: The API has everything up to here.
        until: The end, an envelope that `batches` has sealed.
        rows_max: Rows in one post, unless one envelope made more.
        replaces: The API may hold other rows in the range. A latest value that is taken back uncovers an older one, so
            these are looked for some way before it.

    Raises:
        LakeError: The lake cannot be read.
    """
    with reported(f"read {kind} of {partition} for the API"):
        if replaces and kind == "latest":
            with connect(lake, {"batches": _contents(lake, "batches", partition, -1, after)}) as connection:
                found = connection.sql(_BACK, params={"partition": partition, "after": after, "rows": READINGS_MAX})
                after = found.fetchall()[0][0]
        # Tables of this process's own, so that the flow's commits never wait for a refill to read a log.
        contents = {name: _contents(lake, name, partition, after, until) for name in ("batches", _TABLES[kind])}
        with connect(lake, contents) as connection:
            connection.execute("SET threads = 1")
            for last in _borders(connection, kind, partition, after, until, rows_max):
                rows = _read(connection, kind, partition, after, last)
                for follows, part_last, part in _cut(rows, after, last, rows_max):
                    yield Post(kind, partition, follows, part_last, part, committed=True)
                after = last


def _contents(lake: Lake, name: str, partition: str, after: int, until: int) -> Contents:
    """Return the files of a table that may hold rows of a partition's range, by the log's statistics."""
    from deltalake import DeltaTable

    table = DeltaTable(f"{lake.store.root}/{name}", storage_options=lake.store.options())
    files = pa.table(table.get_add_actions(flatten=True))
    first, last = ("first_sequence", "last_sequence") if name == "batches" else ("sequence_number", "sequence_number")

    def bound(column: str, default: str | int) -> list[str | int]:
        if column not in files.column_names:
            return [default] * files.num_rows
        return [default if value is None else value for value in files.column(column).to_pylist()]

    kept = [
        path
        for path, lowest, highest, low, high in zip(
            files.column("path").to_pylist(),
            bound("min.partition", partition),
            bound("max.partition", partition),
            bound(f"min.{first}", until),
            bound(f"max.{last}", until),
            strict=True,
        )
        if str(lowest) <= partition <= str(highest) and int(low) <= until and int(high) > after
    ]
    return Contents(Snapshot(table.version(), {}), kept, [], 0)


def _borders(
    connection: duckdb.DuckDBPyConnection, kind: Kind, partition: str, after: int, until: int, rows_max: int
) -> list[int]:
    """Return where to cut so that what is read at once is bounded, by the counts of `batches`."""
    limit = READINGS_MAX if kind == "latest" else rows_max
    query = _BORDERS.format(count=_COUNTS[kind])
    sealed = connection.sql(query, params={"partition": partition, "after": after, "until": until}).fetchall()
    borders, rows, former = [], 0, after
    for last, count in sealed:
        if rows + count > limit and former > after and former not in borders:
            borders.append(former)
            rows = 0
        rows += count
        former = last
    return [*(border for border in borders if border < until), until]


def _read(connection: duckdb.DuckDBPyConnection, kind: Kind, partition: str, after: int, until: int) -> pa.Table:
    schema = plain_schema(kind)
    columns = ", ".join(f'"{name}"' for name in schema.names)
    query = (_LATEST if kind == "latest" else _ROWS).format(columns=columns, table=_TABLES[kind])
    found = connection.sql(query, params={"partition": partition, "after": after, "until": until})
    return found.to_arrow_table().cast(schema).combine_chunks()


def _cut(rows: pa.Table, after: int, until: int, rows_max: int) -> Iterator[tuple[int, int, pa.Table]]:
    """Yield follows, last and rows of parts that end with an envelope."""
    numbers = rows.column("sequence_number").to_numpy()
    borders = [*(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    start = 0
    for at, following in zip(borders, [*borders[1:], len(numbers)], strict=True):
        if at > start and at < len(numbers) and following - start > rows_max:
            last = int(numbers[at - 1])
            yield after, last, rows.slice(start, at - start)
            after, start = last, at
    yield after, until, rows.slice(start)

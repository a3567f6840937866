"""Reads from the lake what the API lacks of a partition's alarms, windows or latest values, in bounded pieces."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from alumicatalyst.lake import seen, tables
from alumicatalyst.lake.fault import reported
from alumicatalyst.lake.query import connect
from alumicatalyst.lake.table import Table
from alumicatalyst.sinks.alerts_client import Post
from alumicatalyst.sinks.alerts_rows import plain_schema

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import duckdb
    import pyarrow as pa

    from alumicatalyst.lake import Lake
    from alumicatalyst.lake.seen import Seen
    from alumicatalyst.sinks.alerts_client import Kind

READINGS_MAX = 2_000_000
"""Readings that are looked through for the latest values of one piece: about a second's work."""

_TABLES: Final[dict[Kind, str]] = {"alarms": "alarms", "windows": "windows", "latest": "readings"}
_COUNTS: Final[dict[Kind, str]] = {
    "alarms": "rows_alarms",
    "windows": "CASE WHEN epoch_us(enqueued_time_max) >= $since_us THEN rows_windows ELSE 0 END",
    "latest": "rows_total",
}

_BORDERS = """
SELECT last_sequence, {count} AS rows FROM batches
WHERE partition = $partition AND last_sequence > $after AND last_sequence <= $until ORDER BY last_sequence
"""
_BACK = """
SELECT coalesce(max(last_sequence), -1) FROM (
    SELECT last_sequence, sum(rows_total) OVER (ORDER BY last_sequence DESC) AS rows FROM batches
    WHERE partition = $partition AND last_sequence <= $until
) WHERE rows > $rows
"""
_ALARMS = """
SELECT {columns} FROM alarms
WHERE partition = $partition AND sequence_number > $after AND sequence_number <= $until
ORDER BY sequence_number, item
"""
_WINDOWS = """
SELECT {columns} FROM windows
WHERE partition = $partition AND sequence_number > $after AND sequence_number <= $until
    AND epoch_us(window_end) >= $since_us
ORDER BY sequence_number, item
"""
# The newest in-order reading of a series is the first one that arrived with its greatest event time: in order means
# after all that came before.
_LATEST = """
SELECT {columns} FROM readings
WHERE partition = $partition AND sequence_number > $after AND sequence_number <= $until AND outcome <> 'duplicate'
QUALIFY row_number() OVER (PARTITION BY device, metric ORDER BY event_time DESC, sequence_number, item) = 1
ORDER BY sequence_number, item
"""
_QUERIES: Final[dict[Kind, str]] = {"alarms": _ALARMS, "windows": _WINDOWS, "latest": _LATEST}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read: the rows of a kind of a partition in (after, until].

    Attributes:
        until: The end, an envelope that `batches` has sealed.
        replaces: The API may hold other rows in the range. A latest value that is taken back uncovers an older one, so
            a bounded number of readings before the end is looked through, wherever the range begins.
        since_us: Windows that ended earlier are left out: the API would remove them again.
    """

    kind: Kind
    partition: str
    after: int
    until: int
    replaces: bool = False
    since_us: int = 0


def refill(lake: Lake, wanted: Wanted, rows_max: int) -> Generator[Post]:
    """Yield the lake's rows as posts that follow one another, the last one up to the end of the range.

    Args:
        lake: The lake.
        wanted: Which rows.
        rows_max: Rows in one post, unless one envelope made more.

    Raises:
        LakeError: The lake cannot be read.
    """
    with reported(f"read {wanted.kind} of {wanted.partition} for the API"):
        if wanted.replaces and wanted.kind == "latest":
            wanted = replace(wanted, after=_where_to_begin(lake, wanted))
        # Tables of this process's own, so that the flow's commits never wait for a refill to read a log.
        contents = {name: _contents(lake, name, wanted) for name in ("batches", _TABLES[wanted.kind])}
        with connect(lake, contents) as connection:
            connection.execute("SET threads = 1")
            after = wanted.after
            for last in _borders(connection, wanted, rows_max):
                rows = _read(connection, replace(wanted, after=after, until=last))
                for follows, part_last, part in _cut(rows, after, last, rows_max):
                    yield Post(wanted.kind, wanted.partition, follows, part_last, part, committed=True)
                after = last


def _where_to_begin(lake: Lake, wanted: Wanted) -> int:
    """Return where about as many readings as are looked through at once come before the end of the range."""
    before = replace(wanted, after=-1)
    with connect(lake, {"batches": _contents(lake, "batches", before)}) as connection:
        parameters = {"partition": wanted.partition, "until": wanted.until, "rows": READINGS_MAX}
        return int(connection.sql(_BACK, params=parameters).fetchall()[0][0])


def _contents(lake: Lake, name: str, wanted: Wanted) -> Seen:
    """Return the files of a table that may hold rows of a partition's range, by the log's statistics."""
    table = Table(lake.store, tables.SPECS[name])
    snapshot = table.refresh()
    first, last = ("first_sequence", "last_sequence") if name == "batches" else ("sequence_number", "sequence_number")

    def may_hold(action: dict[str, Any]) -> bool:
        told = json.loads(action.get("stats") or "{}")
        low, high = told.get("minValues", {}), told.get("maxValues", {})
        here = low.get("partition", wanted.partition) <= wanted.partition <= high.get("partition", wanted.partition)
        return bool(
            here and low.get(first, wanted.until) <= wanted.until and high.get(last, wanted.until) > wanted.after
        )

    return seen.seen(name, snapshot, [action for action in table.files().values() if may_hold(action)])


def _borders(connection: duckdb.DuckDBPyConnection, wanted: Wanted, rows_max: int) -> list[int]:
    """Return where to cut so that what is read at once is bounded, by the counts of `batches`."""
    limit = READINGS_MAX if wanted.kind == "latest" else rows_max
    sealed = connection.sql(_BORDERS.format(count=_COUNTS[wanted.kind]), params=_parameters(wanted)).fetchall()
    borders, rows, former = [], 0, wanted.after
    for last, count in sealed:
        if rows and rows + count > limit:
            borders.append(former)
            rows = 0
        rows += count
        former = last
    return [*(border for border in borders if border < wanted.until), wanted.until]


def _read(connection: duckdb.DuckDBPyConnection, wanted: Wanted) -> pa.Table:
    schema = plain_schema(wanted.kind)
    query = _QUERIES[wanted.kind].format(columns=", ".join(f'"{name}"' for name in schema.names))
    found = connection.sql(query, params=_parameters(wanted))
    return found.to_arrow_table().cast(schema).combine_chunks()


def _parameters(wanted: Wanted) -> dict[str, str | int]:
    """Return what the queries name; DuckDB refuses a value that a query has no use for."""
    named: dict[str, str | int] = {"partition": wanted.partition, "after": wanted.after, "until": wanted.until}
    return named | ({"since_us": wanted.since_us} if wanted.kind == "windows" else {})


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

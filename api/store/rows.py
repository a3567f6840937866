"""Tables that are handed in: checked at the door, whole columns at a time, and cut into parts of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from alumicatalyst.transitions import storable
from api.store.clock import EARLIEST, LATEST
from api.store.contract import PRIORITIES
from api.store.errors import BadRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.store.contract import Kind

_CAUSE = {"partition": pa.string(), "sequence_number": pa.int64(), "item": pa.int64(), "enqueued_time": pa.int64()}
_SERIES = {"device": pa.string(), "metric": pa.string()}
_STATISTICS = ("mean", "min", "max", "first", "last", "std")

# What each kind brings, in the types that the database takes. A test holds it against the core's own schema.
COLUMNS: dict[Kind, dict[str, pa.DataType]] = {
    "alarms": {
        **_CAUSE,
        "alarm_id": pa.string(),
        "step": pa.int64(),
        "transition": pa.string(),
        **_SERIES,
        "asset": pa.string(),
        "alarm_rule": pa.string(),
        "priority": pa.string(),
        "onset_time": pa.int64(),
        "event_time": pa.int64(),
        "value": pa.float64(),
        "threshold": pa.float64(),
        "peak": pa.float64(),
        "score": pa.float64(),
        "message": pa.string(),
    },
    "windows": {
        **_CAUSE,
        **_SERIES,
        "window_name": pa.string(),
        "window_start": pa.int64(),
        "window_end": pa.int64(),
        "closed_by": pa.string(),
        "count": pa.int64(),
        **dict.fromkeys(_STATISTICS, pa.float64()),
        "first_time": pa.int64(),
        "last_time": pa.int64(),
        "slope_per_s": pa.float64(),
        "score_max": pa.float64(),
    },
    "latest": {**_CAUSE, **_SERIES, "event_time": pa.int64(), "value": pa.float64(), "quality": pa.int64()},
}
NULLABLE = frozenset({"asset", "threshold", "score", *_STATISTICS, "slope_per_s", "score_max"})
KEYS: dict[Kind, list[str]] = {
    "alarms": ["alarm_id", "step"],
    "windows": ["device", "metric", "window_start", "window_name"],
    "latest": ["device", "metric"],
}
TRANSITIONS = ("raised", "updated", "cleared")
_TIMES = frozenset(name for each in COLUMNS.values() for name in each if name.endswith(("_time", "_start", "_end")))


def checked(kind: Kind, table: pa.Table, partition: str, follows: int, last: int) -> pa.Table:
    """Return the columns that are stored, in the database's types, in order of their causes.

    Args:
        kind: What the rows are.
        table: With at least the columns of the core's schema; texts plain or dictionary-encoded.
        partition: Every row's.
        follows: The sequence number before the range.
        last: The last of the range.

    Raises:
        BadRows: The table breaks any of this.
    """
    check_range(follows, last)
    columns = []
    for name, wanted in COLUMNS[kind].items():
        found = table.schema.get_all_field_indices(name)
        if len(found) != 1:
            raise BadRows(f"couldn't take the table {kind}: {len(found)} columns are named {name}; send one")
        columns.append(_column(kind, name, table.column(found[0]), wanted))
    rows = pa.table(columns, names=list(COLUMNS[kind]))
    if rows.num_rows:
        _check_range(kind, rows, partition, follows, last)
    # Rows of one envelope stay in the order in which the core made them.
    order = pc.sort_indices(rows, sort_keys=[("sequence_number", "ascending")]) if not _is_sorted(rows) else None
    return rows if order is None else rows.take(order)


def check_range(follows: int, last: int) -> None:
    """Refuse what is no range of sequence numbers.

    Raises:
        BadRows: It ends before it begins, or its numbers are none of a partition's.
    """
    if not -1 <= follows <= last < 2**63:
        raise BadRows(f"couldn't take the range ({follows}, {last}]; send -1 <= follows <= last < 2^63")


def _column(kind: Kind, name: str, column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    bad = f"couldn't take the table {kind}: column {name}"
    try:
        # What comes over the wire is not trusted to be what its schema says; a cast would follow its offsets blindly.
        column.validate(full=True)
        if name in _TIMES:
            if not pa.types.is_timestamp(column.type):
                raise BadRows(f"{bad} has the type {column.type}; send timestamp[us, UTC]")
            column = column.cast(pa.timestamp("us", "UTC"))
        column = column.cast(wanted)
    except (pa.ArrowException, ValueError) as error:
        raise BadRows(f"{bad} has the type {column.type}: {error}; send the core's schema") from error
    if column.null_count and name not in NULLABLE:
        raise BadRows(f"{bad} has {column.null_count} nulls; send none")
    if pa.types.is_floating(wanted) and not _all(pc.is_finite(column)):
        raise BadRows(f"{bad} holds a number that is not finite; send a null or none")
    if name in _TIMES and not _within(column, EARLIEST, LATEST):
        raise BadRows(f"{bad} holds a time outside of the years 1 to 9999; correct it")
    if name in {"item", "step", "count"} and not _within(column, -1, 2**53):
        raise BadRows(f"{bad} holds a number below -1 or above 2^53; correct it")
    if pa.types.is_string(wanted) and pc.any(pc.match_substring(column, "\0")).as_py():
        return pc.replace_substring(column, "\0", "\ufffd")
    return column


def _check_range(kind: Kind, rows: pa.Table, partition: str, follows: int, last: int) -> None:
    if not _all(pc.equal(rows["partition"], storable(partition))):
        raise BadRows(f"couldn't take the table {kind}: it has rows of other partitions; send those of {partition}")
    if not _within(rows["sequence_number"], follows + 1, last):
        raise BadRows(f"couldn't take the table {kind}: it has rows outside of ({follows}, {last}]; cut them away")
    if kind != "alarms":
        return
    if rows.select(KEYS[kind]).group_by(KEYS[kind]).aggregate([]).num_rows != rows.num_rows:
        raise BadRows("couldn't take the table alarms: two rows have the same alarm_id and step; send each once")
    for name, allowed in (("transition", TRANSITIONS), ("priority", PRIORITIES)):
        if not _all(pc.is_in(rows[name], pa.array(allowed))):
            raise BadRows(f"couldn't take the table alarms: a {name} is none of {', '.join(allowed)}; correct it")
    if not _within(rows["step"], 0, 2**53):
        raise BadRows("couldn't take the table alarms: a step is below 0; correct it")


def _is_sorted(rows: pa.Table) -> bool:
    numbers = rows["sequence_number"]
    return rows.num_rows < 2 or _all(pc.greater_equal(numbers[1:], numbers[:-1]))


def _all(mask: pa.ChunkedArray) -> bool:
    # Nulls are decided elsewhere; `all` of nothing is null.
    return pc.all(mask).as_py() is not False


def _within(column: pa.ChunkedArray, lowest: int, highest: int) -> bool:
    bounds = pc.min_max(column).as_py()
    return bounds["min"] is None or (bounds["min"] >= lowest and bounds["max"] <= highest)


def after(rows: pa.Table, mark: int) -> pa.Table:
    """Return the rows above a mark, of rows in the order of their causes."""
    numbers = rows["sequence_number"]
    if not rows.num_rows or numbers[0].as_py() > mark:
        return rows
    return rows.filter(pc.greater(numbers, mark))


def last_of_each(rows: pa.Table, key: list[str]) -> pa.Table:
    """Return the last row of each key, in the order of the keys' last rows."""
    places = rows.select(key).append_column("place", pa.array(range(rows.num_rows), pa.int64()))
    kept = places.group_by(key).aggregate([("place", "max")])["place_max"]
    return rows if len(kept) == rows.num_rows else rows.take(kept.take(pc.sort_indices(kept)))


def newest(rows: pa.Table) -> pa.Table:
    """Return the row of each series with the greatest (event_time, sequence_number), by series.

    Two partitions may hold one series: with one order of the rows, their transactions wait instead of blocking each
    other for good.
    """
    rows = rows.sort_by([("event_time", "ascending"), ("sequence_number", "ascending")])
    return last_of_each(rows, KEYS["latest"]).sort_by([(name, "ascending") for name in KEYS["latest"]])


def parts(rows: pa.Table, size: int) -> Iterator[tuple[int | None, dict[str, list[Any]]]]:
    """Cut rows between envelopes, into parts of `size` rows or one envelope, whichever is more.

    Yields:
        The last sequence number that the part covers, None for the last part, and its columns as lists.
    """
    begin = 0
    if not rows.num_rows:
        yield None, {name: [] for name in rows.column_names}
    while begin < rows.num_rows:
        end = min(begin + size, rows.num_rows)
        covered = None
        if end < rows.num_rows:
            covered = rows["sequence_number"][end - 1].as_py()
            # The rest of the envelope that the cut would go through.
            end += int(pc.sum(pc.equal(rows["sequence_number"][end:], covered)).as_py() or 0)
        part = rows.slice(begin, end - begin)
        yield (
            (None if end == rows.num_rows else covered),
            {name: part.column(name).to_pylist() for name in rows.column_names},
        )
        begin = end

"""What a commit claims of a file's rows, by which readers pass over files unread, compared with the rows themselves."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.lake import schemas, tables
from alumicatalyst.ledger import rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from alumicatalyst.ledger.delta import Commit

# Delta writers may cut times off at the millisecond.
_CUT_OFF: Final = timedelta(milliseconds=1)


class Claims:
    """The claims of one add action, held against the rows of its file, which are given group by group.

    Args:
        table: The table.
        action: The add action.
    """

    def __init__(self, table: str, action: Mapping[str, Any]) -> None:
        self._hidden = action.get("deletionVector") is not None
        self._day = tables.SPECS[table].day_column
        self._date = None
        self._differing: set[str] = set()
        self._rows = 0
        try:
            self._date = (action.get("partitionValues") or {}).get("date")
            told = json.loads(action.get("stats") or "{}")
            self._least, self._most, nulls = (dict(told.get(each) or {}) for each in _KINDS)
            self._told_rows = told.get("numRecords")
        except (ValueError, TypeError, AttributeError):
            self._least, self._most, nulls, self._told_rows = {}, {}, {}, None
            self._differing.add("statistics")
        known = {*rows.names(table), rows.ROW}
        self._nulls = {name: nulls[name] for name in sorted(nulls.keys() & known)}
        self._found_nulls = dict.fromkeys(self._nulls, 0)
        day = {self._day} if self._day else set()
        self.columns = ({*self._least, *self._most, *self._nulls} & known) | day | {rows.BATCH}

    def take(self, group: pa.Table) -> None:
        """Compare some of the file's rows, of which at least `columns` are given."""
        self._rows += group.num_rows
        for name in sorted(self.columns):
            column = group.column(name)
            if name in self._found_nulls:
                self._found_nulls[name] += column.null_count
            low, high = _bounds(column)
            if low is None:
                continue
            if name == self._day and {_date(low), _date(high)} != {self._date}:
                self._differing.add("date")
            if not (
                _bounded(self._least.get(name), low, column, least=True)
                and _bounded(self._most.get(name), high, column, least=False)
            ):
                self._differing.add(name)

    def wrong(self) -> str:
        """Return by what readers would miss rows of the file, "" for nothing."""
        differing = self._differing | {name for name, count in self._nulls.items() if count != self._found_nulls[name]}
        if self._told_rows is not None and self._told_rows != self._rows:
            differing.add("number of rows")
        if self._hidden:
            return "a deletion vector hides rows of it from readers"
        if differing:
            told = ", ".join(sorted(differing))
            return f"its commit says of its rows what they are not, so readers may miss some: {told}"
        return ""


_ALWAYS: Final = frozenset({rows.BATCH, rows.ROW})
_KINDS: Final = ("minValues", "maxValues", "nullCount")


def text(action: Mapping[str, Any]) -> str:
    """Return what an action claims, to tell whether two claim the same."""
    return json.dumps([action.get(each) for each in ("partitionValues", "stats", "deletionVector")], sort_keys=True)


def shown_otherwise(table: str, commit: Commit, before: Mapping[str, Any] | None = None) -> str:
    """Return how a commit makes readers take files for something else than what was digested, "" for not at all.

    Args:
        table: The table.
        commit: The commit.
        before: The table's metadata before it.
    """
    if commit.protocol is not None and commit.protocol.get("minReaderVersion") != 1:
        # Columns could have other names in the files, and rows be hidden, from then on.
        return f"it asks for readers of version {commit.protocol.get('minReaderVersion')}, and tables are of version 1"
    if commit.metadata is None:
        return ""
    try:
        columns = schemas.columns_of(commit.metadata["schemaString"])
        former = [] if before is None else schemas.columns_of(before["schemaString"])
    except (ValueError, KeyError, TypeError):
        return "the columns that it gives the table cannot be read"
    names = [each.name for each in columns]
    # A former version's table lacks what came since. It may get that, and lose nothing.
    known = tables.schema(table).names
    if names != [each for each in known if each in names] or not set(names) >= _ALWAYS:
        return f"it gives the table other columns: {', '.join(map(str, names))[:300]}"
    lost = [each.name for each in former if each.name not in names]
    if lost:
        return f"it hides columns from readers: {', '.join(lost)[:300]}"
    if commit.metadata.get("partitionColumns") != tables.SPECS[table].partition_by:
        return f"it makes {commit.metadata.get('partitionColumns')} the table's partitions"
    return ""


def _bounds(column: pa.ChunkedArray) -> tuple[Any, Any]:
    """Return the least and the greatest value; None for a column of which readers are told no bounds."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.unique().cast(column.type.value_type)
    if pa.types.is_binary(column.type) or pa.types.is_boolean(column.type):
        return None, None
    found = pc.min_max(column).as_py()
    return found["min"], found["max"]


def _bounded(told: Any, value: Any, column: pa.ChunkedArray, *, least: bool) -> bool:
    """Return whether a value of a column keeps a bound as it is told in JSON, if it is told."""
    import pyarrow as pa

    if told is None:
        return True
    try:
        if isinstance(value, datetime):
            bound = datetime.fromisoformat(told)
            bound = bound.replace(tzinfo=bound.tzinfo or UTC)
            return bound <= value if least else value < bound + _CUT_OFF
        if pa.types.is_float32(column.type):
            # It is told in as few digits as tell it from its neighbours.
            told = struct.unpack("f", struct.pack("f", told))[0]
        return bool(told <= value if least else value <= told)
    except (TypeError, ValueError, OverflowError, struct.error):
        return False


def _date(moment: datetime) -> str:
    return moment.astimezone(UTC).date().isoformat()

"""Makes lakes for the tests of replays, by the real flow on logs of the tests, and compares them bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from alumicatalyst.lake import Lake
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from tests.compare import batch_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from alumicatalyst._core import Dictionary
    from tests.logs import Envelope

ROWS = ("readings", "windows", "alarms", "rejected")


class LogSource:
    """Logs of the tests as a source that ends."""

    def __init__(self, logs: Mapping[str, Sequence[Envelope]], size: int) -> None:
        self.logs, self.size = logs, size

    def partitions(self) -> list[str]:
        return sorted(self.logs)

    def first_sequence(self, partition: str) -> int | None:
        log = self.logs[partition]
        return log[0].sequence_number if log else None

    def open(self, partition: str, after: int, owner_level: int) -> LogReader:
        del owner_level
        return LogReader([each for each in self.logs[partition] if each.sequence_number > after], self.size)

    def input(self) -> dict[str, Any]:
        return {}

    def check_input(self, previous: Mapping[str, Any]) -> None:
        assert previous == {}


class LogReader:
    queued = 0

    def __init__(self, log: list[Envelope], size: int) -> None:
        self.log, self.size = log, size

    @property
    def finished(self) -> bool:
        return not self.log

    def take(self) -> pa.RecordBatch | None:
        if not self.log:
            return None
        taken, self.log = self.log[: self.size], self.log[self.size :]
        return batch_of(taken)

    def lag(self) -> None:
        return None

    def close(self) -> None:
        self.log = []


def run(
    lake: Path,
    dictionary: Dictionary,
    logs: Mapping[str, Sequence[Envelope]],
    *,
    flush: bool,
    size: int = 7,
    **given: Any,
) -> None:
    """Run the flow over logs into a lake; what is stored before is passed over."""
    wanted = {
        "flush_at_end": flush,
        "flush_rows_max": 100,
        "flush_interval_s": 3600.0,
        "accept_dictionary": True,
    } | given
    run_loop(Pipeline(LogSource(logs, size), dictionary, Lake.open(f"file:{lake}"), **wanted))


def stored(lake: Path, table: str) -> pa.Table:
    """The rows of a table up to its marks, in the order of the log, without what tells where they were written."""
    handle = Lake.open(f"file:{lake}", create=False).table(table)
    handle.refresh()
    parts = [
        pq.read_table(lake / table / path, partitioning=None).drop_columns(["_batch", "_row"])
        for path in handle.contents().paths
    ]
    if not parts:
        return pa.table({})
    rows = pa.concat_tables([_plain(part) for part in parts])
    return rows.sort_by([(name, "ascending") for name in _order(table)]).combine_chunks()


def _order(table: str) -> list[str]:
    own = {"windows": ["device", "metric", "window_name", "window_start"], "alarms": ["alarm_id", "step"]}
    return ["partition", "sequence_number", "item", *own.get(table, [])]


def _plain(table: pa.Table) -> pa.Table:
    columns = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    return pa.table(dict(zip(table.schema.names, columns, strict=True)))


def sums(lake: Path, *columns: str) -> dict[str, Any]:
    """Sums over the seals."""
    chosen = ", ".join(f"sum({each})::BIGINT AS {each}" for each in columns)
    rows = Lake.open(f"file:{lake}", create=False).table("batches").select(f"SELECT {chosen} FROM batches")
    return rows[0]


def assert_same(ours: Path, theirs: Path) -> None:
    """Two lakes hold the same rows, bit for bit."""
    for table in ROWS:
        one, other = stored(ours, table), stored(theirs, table)
        assert one.num_rows == other.num_rows, table
        for name in one.schema.names:
            assert one.column(name).equals(other.column(name)), (table, name)

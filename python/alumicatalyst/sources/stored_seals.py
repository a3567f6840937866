"""What the seals of a lake tell of a partition's log: where it can be cut, how many rows there must be, their times."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alumicatalyst.errors import InputError
from alumicatalyst.lake.tables import ROW_TABLES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from alumicatalyst.lake import Lake
    from alumicatalyst.lake.journal import JournalRow

_COLUMNS: Final = [
    "partition",
    "first_sequence",
    "last_sequence",
    "rows_total",
    "rows_rejected",
    "rows_windows",
    "rows_alarms",
    "enqueued_time_max",
]
_CARRIED: Final = ("flush", "dictionary")
_LEFT: Final = ("input", "state_loss")


@dataclass(frozen=True, slots=True)
class Seals:
    """The rows of `batches` of one partition, in order, a column each.

    Attributes:
        partition: Its identity.
        mark: Up to where its log is stored.
        journal: Its journal.
        first: The first sequence number; -1 if nothing is stored.
        last: The last sequence number of each seal.
        rows: Rows of each table that each seal covers.
        newest: The newest enqueued time of each seal, in microseconds.
    """

    partition: str
    mark: int
    journal: tuple[JournalRow, ...]
    first: int
    last: NDArray[np.int64]
    rows: Mapping[str, NDArray[np.int64]]
    newest: NDArray[np.int64]

    @property
    def flushes(self) -> list[int]:
        """Numbers that no envelope has: flushes took them."""
        return [json.loads(row.body)["sequence_number"] for row in self.journal if row.kind == "flush"]

    def carried(self, *, dictionaries: bool) -> list[JournalRow]:
        """Return what the journal of a replay must say too, as far as it is sealed.

        Args:
            dictionaries: Changes of the dictionary as well.

        Raises:
            InputError: A row is of a kind that this version does not know.
        """
        found = []
        for row in self.journal[1:]:
            if row.kind not in (*_CARRIED, *_LEFT):
                raise InputError(
                    f"couldn't replay {self.partition}: row {row.ordinal} of its journal is a {row.kind}; newer "
                    "software wrote it, use that"
                )
            reaches = json.loads(row.body)["sequence_number"] if row.kind == "flush" else row.after_sequence
            if reaches > self.mark:
                break
            if row.kind == "flush" or (dictionaries and row.kind == "dictionary"):
                found.append(row)
        return found

    @property
    def losses(self) -> list[int]:
        """Sequence numbers behind which a loss of state was accepted."""
        return [row.after_sequence for row in self.journal if row.kind == "state_loss"]


def read(lake: Lake, partitions: Sequence[str], journals: Mapping[str, tuple[JournalRow, ...]]) -> dict[str, Seals]:
    """Read the seals of partitions; every row that they cover is in the lake's other tables when this returns."""
    table = lake.table("batches")
    with table.lock:
        snapshot, paths = table.refresh(), table.contents().paths
    parts = [
        pq.read_table(pa.BufferReader(lake.store.get(f"batches/{path}")), columns=_COLUMNS, partitioning=None)
        for path in paths
    ]
    empty = pa.table({name: pa.array([], pa.string() if name == "partition" else pa.int64()) for name in _COLUMNS})
    every = pa.concat_tables([_plain(part) for part in parts] or [empty]).sort_by("last_sequence")
    names = np.array(every.column("partition").to_pylist(), dtype=object)
    columns = {name: every.column(name).to_numpy() for name in _COLUMNS if name != "partition"}
    found = {}
    for partition in partitions:
        own = {name: column[names == partition].astype(np.int64) for name, column in columns.items()}
        rejected = own["rows_rejected"]
        rows = {
            "readings": own["rows_total"] - rejected,
            "rejected": rejected,
            "windows": own["rows_windows"],
            "alarms": own["rows_alarms"],
        }
        assert set(rows) == set(ROW_TABLES)
        first = int(own["first_sequence"][0]) if len(rejected) else -1
        found[partition] = Seals(
            partition,
            snapshot.mark(partition),
            journals[partition],
            first,
            own["last_sequence"],
            rows,
            own["enqueued_time_max"],
        )
    return found


def _plain(table: pa.Table) -> pa.Table:
    """The columns with texts row by row, and times as numbers."""
    columns = {name: table.column(name).cast(pa.string() if name == "partition" else pa.int64()) for name in _COLUMNS}
    return pa.table(columns)

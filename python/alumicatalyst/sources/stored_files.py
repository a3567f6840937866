"""Reads the data files of a lake in which rows of a range of sequence numbers lie, by the statistics of the Delta log.

Data files are sorted by series, so a range of the log lies anywhere in the files that overlap it. Small ones, as a
flush leaves them, are read whole and kept for a while: every partition of a process wants its part of them.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from alumicatalyst.errors import LakeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alumicatalyst.lake import Lake

CAUSE: Final = ("partition", "sequence_number", "enqueued_time")
COLUMNS: Final = {
    "readings": (*CAUSE, "item", "device", "metric", "event_time", "value", "quality"),
    "rejected": (*CAUSE, "item", "reason", "detail", "device", "metric", "event_time", "body", "body_bytes"),
    "windows": CAUSE,
    "alarms": CAUSE,
}
_NAMED: Final = ("partition", "device", "metric")
KEPT_BYTES_MAX: Final = 256 << 20
PART_ROWS: Final = 131_072
_EVERYTHING: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class DataFile:
    """One live data file of a table.

    Attributes:
        table: Name of the table.
        path: Relative to the table.
        rows: How many it has.
        first: The lowest sequence number in it.
        last: The highest one.
        partitions: The least and the greatest partition in it.
    """

    table: str
    path: str
    rows: int
    first: int
    last: int
    partitions: tuple[str, str] | None

    @classmethod
    def of(cls, table: str, add: dict[str, Any]) -> DataFile:
        """Read what the log says of a file; where it says nothing, the file may hold anything."""
        stats = json.loads(add.get("stats") or "{}")
        low, high = stats.get("minValues", {}), stats.get("maxValues", {})
        within = (low["partition"], high["partition"]) if "partition" in low and "partition" in high else None
        return cls(
            table,
            unquote(add["path"]),
            int(stats.get("numRecords", 0)),
            int(low.get("sequence_number", -1)),
            int(high.get("sequence_number", _EVERYTHING)),
            within,
        )

    def holds(self, partition: str, after: int, upto: int) -> bool:
        """Whether rows of a range may be in it."""
        of_it = self.partitions is None or self.partitions[0] <= partition <= self.partitions[1]
        return of_it and self.last > after and self.first <= upto


class Files:
    """The live files of a lake's row tables, and what was read of them last."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._kept: OrderedDict[tuple[str, str], tuple[pa.RecordBatch, ...]] = OrderedDict()
        self._size = 0
        self.files: dict[str, list[DataFile]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look at the newest versions: what was compacted meanwhile lies in other files."""
        for name in COLUMNS:
            table = self._lake.table(name)
            with table.lock:
                table.refresh()
                self.files[name] = [DataFile.of(name, add) for add in table.files().values()]

    def of(self, table: str, partition: str, after: int, upto: int) -> list[DataFile]:
        """Return the files of a table in which rows of a range may be."""
        return [file for file in self.files[table] if file.holds(partition, after, upto)]

    def read(self, file: DataFile) -> tuple[pa.RecordBatch, ...]:
        """Return all rows of a file.

        Raises:
            FileNotFoundError: Maintenance has removed it.
        """
        key = (file.table, file.path)
        found = self._kept.pop(key, None)
        if found is None:
            opened = self._open(file)
            found = tuple(opened.read(columns=list(COLUMNS[file.table]), use_threads=False).to_batches())
            self._size += _size(found)
        self._kept[key] = found
        while self._size > KEPT_BYTES_MAX and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._size -= _size(dropped)
        return found

    def parts(self, file: DataFile) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file that is too large to be read at once."""
        yield from self._open(file).iter_batches(PART_ROWS, columns=list(COLUMNS[file.table]), use_threads=False)

    def _open(self, file: DataFile) -> pq.ParquetFile:
        path = f"{file.table}/{file.path}"
        data = self._lake.retry.call(f"read {path}", lambda: self._get(path))
        named = [name for name in _NAMED if name in COLUMNS[file.table]]
        if data is None:
            raise FileNotFoundError(path)
        try:
            return pq.ParquetFile(pa.BufferReader(data), read_dictionary=named)
        except (pa.ArrowInvalid, OSError) as error:
            raise LakeError(f"couldn't read {path}: {error}; it is damaged, see `alumicatalyst lake doctor`") from error

    def _get(self, path: str) -> bytes | None:
        try:
            return self._lake.store.get(path)
        except FileNotFoundError:
            return None


def _size(batches: tuple[pa.RecordBatch, ...]) -> int:
    return sum(batch.nbytes for batch in batches)

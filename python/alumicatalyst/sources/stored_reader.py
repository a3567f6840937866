"""Reads one partition's stored rows in the order of its log, range by range, in bounded memory.

A range covers some seals of `batches`, and all data files that overlap it are read for it. Where compaction has left
files so large that a range is a small part of them, many ranges are taken out of them at once and kept on disk.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from alumicatalyst.errors import LakeError
from alumicatalyst.lake.tables import ROW_TABLES
from alumicatalyst.log import get_logger
from alumicatalyst.sources.drained import DrainedReader
from alumicatalyst.sources.stored_batch import StoredBatch
from alumicatalyst.sources.stored_spill import Spill, own_rows

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from alumicatalyst.sources.stored_files import DataFile, Files
    from alumicatalyst.sources.stored_seals import Seals
    from alumicatalyst.sources.stored_spill import Tables

RANGE_ROWS: Final = 1_000_000
"""Rows of a range, if one seal does not cover more of them."""
FILE_ROWS_MAX: Final = 4_000_000
"""Rows of a file that is read at once; a larger one is taken apart on disk."""
_READ_PER_ROW_MAX: Final = 3
_RANGES_AT_ONCE_MAX: Final = 256
_LOOKS_MAX: Final = 4
"""Looks at a table whose files vanish while they are read: maintenance replaces them, and deletes after days."""

_NEVER: Final = np.iinfo(np.int64).min

_log = get_logger(__name__)


class StoredReader(DrainedReader["StoredBatch | None"]):
    """One partition of a lake as a source.

    Args:
        files: The lake's data files.
        seals: What the lake says of the partition.
        after: The first row has a greater sequence number.
        complete: Whether every row that was sealed must be there.
    """

    def __init__(self, files: Files, seals: Seals, after: int, *, complete: bool) -> None:
        self._files, self._seals, self._after, self._complete = files, seals, after, complete
        self._flushes = np.array(seals.flushes, np.int64)
        self._newest = np.maximum.accumulate(seals.newest)
        super().__init__(self._read())
        begin = int(np.searchsorted(seals.last, after, side="right"))
        self.rows = int((seals.rows["readings"] + seals.rows["rejected"])[begin:].sum())
        self.unsure = 0

    # ------------------------------------------------------------------ ranges

    def _read(self) -> Generator[StoredBatch | None, None, None]:
        seals = self._seals
        at = int(np.searchsorted(seals.last, self._after, side="right"))
        while at < len(seals.last):
            end = self._until(at, 1)
            if all(file.rows <= FILE_ROWS_MAX for file in self._overlapping(at, end)):
                yield self._range(at, end, self._whole(at, end))
                at = end
                continue
            end = self._until(at, _READ_PER_ROW_MAX)
            yield from self._apart(at, end)
            at = end
        if len(seals.last) and seals.last[-1] < seals.mark:
            # What an accepted loss left unsealed lies behind the last seal.
            yield self._batch(self._gathered(int(seals.last[-1]), seals.mark), int(seals.last[-1]), seals.mark, [])

    def _until(self, at: int, read_per_row: int) -> int:
        """Return behind which seal a range ends that begins with seal `at`.

        Args:
            at: The first seal.
            read_per_row: With more than 1, the range grows until no more rows are read for each of its own.
        """
        rows = np.cumsum(sum(self._seals.rows[name][at:] for name in ROW_TABLES))
        end = at + min(int(np.searchsorted(rows, RANGE_ROWS)) + 1, len(rows))
        while read_per_row > 1 and end < len(self._seals.last):
            overlapping = self._overlapping(at, end)
            if sum(file.rows for file in overlapping) <= read_per_row * rows[end - at - 1]:
                break
            end = min(len(self._seals.last), end + max(1, (end - at) // 2))
        return end

    def _before(self, at: int) -> int:
        """Return the last sequence number before a seal."""
        return int(self._seals.last[at - 1]) if at else -1

    def _overlapping(self, at: int, end: int) -> list[DataFile]:
        after, upto = self._before(at), int(self._seals.last[end - 1])
        return [file for name in ROW_TABLES for file in self._files.of(name, self._seals.partition, after, upto)]

    def _whole(self, at: int, end: int) -> Tables:
        return self._gathered(self._before(at), int(self._seals.last[end - 1]))

    def _gathered(self, after: int, upto: int) -> Tables:
        """Read the files in which rows of a range may be."""
        for attempt in range(_LOOKS_MAX):
            try:
                return {
                    name: [
                        batch
                        for file in self._files.of(name, self._seals.partition, after, upto)
                        for batch in self._files.read(file)
                    ]
                    for name in ROW_TABLES
                }
            except FileNotFoundError as error:
                if attempt == _LOOKS_MAX - 1:
                    raise _gone(error) from error
                self._files.refresh()
        raise AssertionError("unreachable")

    # ------------------------------------------------------------------ large files

    def _apart(self, at: int, end: int) -> Generator[StoredBatch | None, None, None]:
        """Take many ranges out of large files in one pass, keep them on disk, and yield them in order."""
        rows = np.cumsum(sum(self._seals.rows[name][at:end] for name in ROW_TABLES))
        each = max(RANGE_ROWS, int(rows[-1]) // _RANGES_AT_ONCE_MAX)
        cuts = sorted(
            {int(np.searchsorted(rows, place)) for place in range(each, int(rows[-1]), each)} | {end - at - 1}
        )
        ends = self._seals.last[[at + cut for cut in cuts]]
        with tempfile.TemporaryDirectory(prefix="alumicatalyst-") as folder:
            for attempt in range(_LOOKS_MAX):
                place = Path(folder, str(attempt))
                place.mkdir()
                try:
                    spill = yield from self._spill(place, at, end, ends)
                    break
                except FileNotFoundError as error:
                    if attempt == _LOOKS_MAX - 1:
                        raise _gone(error) from error
                    self._files.refresh()
            begin = at
            for number, cut in enumerate(cuts):
                yield self._range(begin, at + cut + 1, spill.read(number))
                begin = at + cut + 1

    def _spill(
        self, folder: Path, at: int, end: int, ends: NDArray[np.int64]
    ) -> Generator[StoredBatch | None, None, Spill]:
        spill = Spill(folder, self._seals.partition, self._before(at), ends)
        for file in self._overlapping(at, end):
            for part in self._files.parts(file):
                spill.write(file.table, part)
                yield None
        spill.close()
        return spill

    # ------------------------------------------------------------------ what a range holds

    def _range(self, at: int, end: int, tables: Tables) -> StoredBatch:
        """Check that every sealed row of a range is there, and say which envelopes have passed without one."""
        after, upto = self._before(at), int(self._seals.last[end - 1])
        own = {name: self._own(tables[name], after, upto) for name in ROW_TABLES}
        ends = self._seals.last[at:end]
        newest = np.full(len(ends), _NEVER)
        for name, (numbers, times) in own.items():
            places = np.searchsorted(ends, numbers) if len(ends) > 1 else np.zeros(len(numbers), np.int64)
            self._check(name, at, np.bincount(places, minlength=len(ends)))
            # The rows of a flush carry partition time, which is to be found out.
            told = np.where(np.isin(numbers, self._flushes), _NEVER, times) if name == "windows" else times
            if len(ends) > 1:
                np.maximum.at(newest, places, told)
            else:
                newest[0] = max(newest[0], told.max(initial=_NEVER))
        passed: dict[int, int | None] = {}
        for row in self._seals.journal:
            if after < row.after_sequence <= upto:
                passed[row.after_sequence] = None
        passed.update(dict.fromkeys(ends.tolist()))
        known = np.maximum(newest, np.concatenate([[_NEVER], self._newest])[at:end])
        numbers = np.concatenate([numbers for numbers, _ in own.values()])
        for seal in np.flatnonzero(self._seals.newest[at:end] > known).tolist():
            number = self._silent(self._before(at + seal), int(ends[seal]), numbers)
            if number is not None:
                passed[number] = int(self._seals.newest[at + seal])
        return self._batch(tables, after, upto, sorted(passed.items()))

    def _own(self, batches: list[pa.RecordBatch], after: int, upto: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return sequence numbers and enqueued times of the partition's rows of a range."""
        numbers, times = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for batch in batches:
            number = batch.column("sequence_number").to_numpy()
            time = batch.column("enqueued_time").view(pa.int64()).to_numpy()
            chosen = own_rows(batch, self._seals.partition)
            if len(number) and (number.min() <= after or number.max() > upto):
                within = (number > after) & (number <= upto)
                chosen = within if chosen is None else chosen & within
            numbers.append(number if chosen is None else number[chosen])
            times.append(time if chosen is None else time[chosen])
        return np.concatenate(numbers), np.concatenate(times)

    def _check(self, name: str, at: int, found: NDArray[np.int64]) -> None:
        sealed = self._seals.rows[name][at : at + len(found)]
        if not self._complete or (found == sealed).all():
            return
        seal = int(np.flatnonzero(found != sealed)[0])
        low, high = self._before(at + seal), int(self._seals.last[at + seal])
        if found[seal] > sealed[seal] and any(low <= loss < high for loss in self._seals.losses):
            # What was stored and not sealed before a loss was accepted.
            return
        raise LakeError(
            f"couldn't replay {self._seals.partition}: of the sequence numbers {low + 1} to {high} there are "
            f"{found[seal]} {name}, and {sealed[seal]} were sealed; see `alumicatalyst lake doctor`, or give "
            "--accept-missing to replay what there is"
        )

    def _silent(self, low: int, high: int, numbers: NDArray[np.int64]) -> int | None:
        """Return the number of the envelope without rows that raised partition time: the last that has none."""
        told = np.unique(np.concatenate([numbers, self._flushes]))
        told = told[(told > low) & (told <= high)]
        down = told[::-1]
        differs = np.flatnonzero(down != high - np.arange(len(down)))
        number = high - (int(differs[0]) if len(differs) else len(down))
        if number <= low or not np.isin(told[told > number], self._flushes).all():
            # It came before rows with earlier times, and where among them nobody knows: the broker's clock went back.
            self.unsure += 1
            _log.warning(
                "partition time unsure",
                partition=self._seals.partition,
                first_sequence=low + 1,
                last_sequence=high,
                reason="an envelope without rows was enqueued later than rows behind it",
            )
        return number if number > low else None

    @staticmethod
    def _batch(tables: Tables, after: int, upto: int, passed: list[tuple[int, int | None]]) -> StoredBatch:
        return StoredBatch(
            readings=tuple(tables["readings"]),
            rejected=tuple(tables["rejected"]),
            others=(*tables["windows"], *tables["alarms"]),
            passed=tuple(passed),
            after=after,
            upto=upto,
        )


def _gone(error: FileNotFoundError) -> LakeError:
    return LakeError(
        f"couldn't replay the lake: {error} is missing, though its table names it; restore it, and see "
        "`alumicatalyst lake doctor` for what else is"
    )

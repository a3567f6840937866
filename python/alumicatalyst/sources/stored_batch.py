"""What a lake hands to the analysis in place of envelopes: the stored rows of a range of one partition's log."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from alumicatalyst._core import Output, Partition


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """Rows above `after` and up to `upto`; its tables may hold others too, which are passed over.

    Attributes:
        readings: Rows of `readings`, in any order.
        rejected: Rows of `rejected`.
        others: Rows that only tell of more envelopes, of `windows` and `alarms`.
        passed: Envelopes that left no row: sequence number and microseconds; None leaves partition time as it is.
        after: The range begins behind this sequence number.
        upto: The last sequence number of the range.
    """

    readings: tuple[pa.RecordBatch, ...]
    rejected: tuple[pa.RecordBatch, ...]
    others: tuple[pa.RecordBatch, ...]
    passed: tuple[tuple[int, int | None], ...]
    after: int
    upto: int

    def cut(self, places: Iterable[int]) -> list[StoredBatch]:
        """Return the range in parts that end at the given sequence numbers."""
        edges = sorted({self.after, self.upto, *(each for each in places if self.after < each < self.upto)})
        return [replace(self, after=after, upto=upto) for after, upto in itertools.pairwise(edges)]

    def analyse(self, partition: Partition) -> Output:
        """Hand the range to a partition."""
        passed = [each for each in self.passed if self.after < each[0] <= self.upto]
        return partition.on_stored(self.readings, self.rejected, self.others, passed, self.after, self.upto)

"""What waits for the API of one partition and kind: a range of its log, cut at envelopes, and the API's own mark."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from alumicatalyst.sinks.alerts_client import Kind

POST_ROWS_MAX = 10_000
"""Rows in one post, some megabytes; only an envelope that made more of them is posted in one piece all the same."""

_ROW_BYTES = 160


@dataclass(frozen=True, slots=True)
class Entry:
    """Rows of one output, or a part of them that ends with an envelope: all in (follows, last]."""

    follows: int
    last: int
    rows: pa.RecordBatch


@dataclass(slots=True)
class Lane:
    """One kind's rows of one partition.

    Attributes:
        follows: The queue holds everything in (follows, last].
        last: Up to where the flow has come.
        mark: Up to where the API has come, by its own word; None: it was not asked yet.
        entries: Rows in the order of the log; ranges without rows have none.
        rows, size: How many rows wait, and about how many bytes.
        since_s: When the first of what the API has not taken came.
        answered_s: When the API last took something of the lane.
        not_before_s: Nothing is posted earlier, as the last post was refused.
        refilled_s: When the last refill ended.
        refused: The API, or the lake, would not have or give its last rows.
        dropped: Its queue was full, and the API has not got all of what was dropped.
        post_rows_max: Rows in one post; fewer once a post was too large.
        doubt: A range in which the API holds what another process posted ahead of a commit: read from the lake once
            that has passed it.
    """

    kind: Kind
    follows: int
    last: int
    mark: int | None = None
    entries: deque[Entry] = field(default_factory=deque)
    rows: int = 0
    size: int = 0
    since_s: float | None = None
    answered_s: float = 0.0
    not_before_s: float = 0.0
    refilled_s: float = 0.0
    refused: bool = False
    dropped: bool = False
    post_rows_max: int = POST_ROWS_MAX
    doubt: tuple[int, int] | None = None

    @property
    def blocked(self) -> bool:
        """Whether the API lacks rows from before the queue."""
        return self.mark is not None and self.mark < self.follows

    def offer(self, follows: int, last: int, rows: pa.RecordBatch, now_s: float) -> None:
        """Take in what an output has of this kind."""
        if follows != self.last:
            self.drop()
            self.follows = self.last = follows
        if last > self.last and self.since_s is None:
            self.since_s = now_s
        self.last = last
        if rows.num_rows:
            self.entries.append(Entry(follows, last, rows))
            self.rows += rows.num_rows
            self.size += self._size(rows)

    def drop(self) -> int:
        """Forget what waits; the API then finds a gap, which the lake fills. Return the number of rows."""
        dropped: int
        dropped, self.rows, self.size = self.rows, 0, 0
        self.entries.clear()
        self.follows = self.last
        return dropped

    def next_post(self) -> tuple[int, int, list[pa.RecordBatch]]:
        """Return follows, last and rows of the next post; they stay in the queue until the API has them."""
        if self.entries and self.entries[0].rows.num_rows > self.post_rows_max:
            self._split_first()
        taken: list[Entry] = []
        rows = 0
        for entry in self.entries:
            rows += entry.rows.num_rows
            if taken and rows > self.post_rows_max:
                break
            taken.append(entry)
        last = self.last if len(taken) == len(self.entries) else taken[-1].last
        return self.follows, last, [entry.rows for entry in taken]

    def taken(self, mark: int, now_s: float) -> None:
        """Drop what the API has."""
        # Posts that had become smaller grow again, slowly: where the bound is, only a post that is too large tells.
        self.post_rows_max = min(POST_ROWS_MAX, self.post_rows_max + max(1, self.post_rows_max // 8))
        self.mark, self.refused = mark, False
        self.answered_s = now_s
        while self.entries and self.entries[0].last <= mark:
            entry = self.entries.popleft()
            self.rows -= entry.rows.num_rows
            self.size -= self._size(entry.rows)
        # The API may have come to the middle of an entry: its rows are posted whole, and those that it has are ignored.
        first = self.entries[0].follows if self.entries else self.last
        self.follows = max(self.follows, min(mark, first))
        self.since_s = None if mark >= self.last else now_s
        self.dropped = self.dropped and self.blocked

    def shrink(self, posted: int) -> bool:
        """Make posts smaller after one of so many rows was too large; False: they are of one envelope already."""
        if self.post_rows_max == 1:
            return False
        self.post_rows_max = max(1, min(self.post_rows_max, posted) // 2)
        return True

    def skip_first(self) -> int:
        """Give up the rows of the first envelope, which are too many for any post. Return their number."""
        entry = self.entries.popleft()
        self.rows -= entry.rows.num_rows
        self.size -= self._size(entry.rows)
        return int(entry.rows.num_rows)

    def _split_first(self) -> None:
        """Cut the first entry behind an envelope, so that the part before is small enough, if any is."""
        entry = self.entries[0]
        # Latest values come in the order of their series, and a part has to be whole envelopes.
        rows = entry.rows.sort_by("sequence_number") if self.kind == "latest" else entry.rows
        numbers = rows.column("sequence_number").to_numpy()
        borders = np.flatnonzero(np.diff(numbers)) + 1
        if not len(borders):
            return
        at = int(borders[max(0, int(np.searchsorted(borders, self.post_rows_max, side="right")) - 1)])
        head, tail = rows.slice(0, at), rows.slice(at)
        self.size += self._size(head) + self._size(tail) - self._size(entry.rows)
        between = int(numbers[at - 1])
        self.entries[0] = Entry(between, entry.last, tail)
        self.entries.appendleft(Entry(entry.follows, between, head))

    def _size(self, rows: pa.RecordBatch) -> int:
        """Return about what a batch holds in memory; its names are shared by all, and only messages are its own.

        To ask every column would cost a flow with many small outputs more than all the rest.
        """
        messages: int = rows.column("message").nbytes if self.kind == "alarms" else 0
        return int(_ROW_BYTES * rows.num_rows + messages)

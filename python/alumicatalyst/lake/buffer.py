"""What one partition has analysed and not yet committed: continuity, cutting at marks, and the seal of a flush."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from alumicatalyst.errors import LakeGap
from alumicatalyst.lake.tables import ROW_TABLES

if TYPE_CHECKING:
    from alumicatalyst._core import Output
    from alumicatalyst.lake.resume import Resume

_SUMMED = (
    "body_bytes",
    "rows_total",
    "rows_windowed",
    "rows_late",
    "rows_duplicate",
    "rows_rejected",
    "rows_unscored",
    "rows_windows",
    "rows_alarms",
)


@dataclass(slots=True)
class Buffer:
    """Outputs of one partition in the order of its log.

    Attributes:
        resume: Under which claim they are committed.
        mark: Mark of `batches`: everything up to it is stored and sealed.
        last: Last sequence number covered, by the buffer or before it.
        outputs: Those that cover at least one envelope.
        rows: About how many rows they hold.
        size: How many bytes they hold.
        redelivered: Of outputs that covered nothing.
        state: The newest state handed in.
        started: Whether an output with envelopes has come since the resume.
    """

    resume: Resume
    mark: int
    last: int
    outputs: list[Output] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    redelivered: int = 0
    state: tuple[int, bytes] | None = None
    started: bool = False

    @classmethod
    def of(cls, resume: Resume) -> Buffer:
        """Begin where a resume does."""
        return cls(resume, resume.mark, resume.state_sequence)

    def add(self, output: Output) -> None:
        """Take in an output.

        Raises:
            LakeGap: It does not follow the one before, or does not begin where it must.
        """
        if output.first is None or output.last == output.follows:
            self.redelivered += output.redelivered
            return
        self._check(output, output.first)
        self.outputs.append(output)
        self.last = output.last
        self.started = True
        batches = [getattr(output, name) for name in ROW_TABLES]
        self.rows += max(sum(batch.num_rows for batch in batches), output.counts.num_rows)
        self.size += sum(batch.nbytes for batch in (*batches, output.counts))

    def _check(self, output: Output, first: int) -> None:
        partition = self.resume.partition
        resume, empty = self.resume, not self.started and self.resume.state_sequence < 0
        # An empty operator has nothing that its first output could follow: where that must begin, the resume says.
        if not empty and output.follows != self.last:
            raise LakeGap(
                f"couldn't store partition {partition}: a batch follows {output.follows}, the one before ended at "
                f"{self.last}; rows in between would be lost, start again from the last state"
            )
        if empty and resume.replays and first != resume.after + 1:
            raise LakeGap(
                f"couldn't store partition {partition}: its rows begin at {resume.after + 1}, the source at "
                f"{first}; rows in between would be lost, set source.start back or restore the source"
            )
        if empty and first <= resume.after:
            raise LakeGap(
                f"couldn't store partition {partition}: it goes on after {resume.after}, but the source begins at "
                f"{first}; the log was replaced, restore it"
            )

    def rows_after(self, table: str, mark: int) -> list[pa.RecordBatch]:
        """Return a table's rows above a mark (I5): by their cause, so never a part of an envelope."""
        batches = (_after(getattr(output, table), output, mark) for output in self.outputs)
        return [batch for batch in batches if batch.num_rows]

    def ranges_after(self, mark: int) -> list[dict[str, int]]:
        """Return what of the buffer lies above a mark as follows, first and last: one range for each row of `batches`.

        Where the source's numbers have gaps of their own, `follows` is what tells a gap from a loss.
        """
        ranges = []
        for outputs in self._by_dictionary(mark):
            numbers = _after(outputs[0].counts, outputs[0], mark).column("sequence_number")
            follows = max(outputs[0].follows, mark)
            ranges.append({"follows": follows, "first": numbers[0].as_py(), "last": outputs[-1].last})
        return ranges

    def seals(self, mark: int, software: str) -> list[dict[str, Any]]:
        """Return the rows of `batches` for everything above a mark: one, or one for each dictionary in turn.

        They are sums over the counts of the envelopes kept, which is what accounting (I1) is checked against.

        Raises:
            LakeGap: The buffer begins above the mark.
        """
        groups = self._by_dictionary(mark)
        follows = groups[0][0].follows if groups else -1
        if follows > mark >= 0 and not self.resume.state_loss:
            raise LakeGap(
                f"couldn't store partition {self.resume.partition}: its rows go on after {follows}, but "
                f"batches ends at {mark}; rows in between would be lost, start again from the last state"
            )
        losses = {row.after_sequence for row in self.resume.journal if row.kind == "state_loss"}
        rows: list[dict[str, Any]] = []
        for outputs in groups:
            row = _seal(outputs, mark, software)
            row["cold_start"] = not rows and mark in losses
            if not rows:
                row["redelivered"] += self.redelivered
            rows.append(row)
        return rows

    def _by_dictionary(self, mark: int) -> list[list[Output]]:
        """Return the outputs that reach above a mark, cut where the dictionary changes."""
        kept = (output for output in self.outputs if output.last > mark)
        return [list(outputs) for _, outputs in groupby(kept, key=lambda output: output.dictionary_sha256)]

    def committed(self) -> None:
        """Empty the buffer after its seal is in the lake."""
        self.mark = max(self.mark, self.last)
        self.outputs, self.rows, self.size, self.redelivered = [], 0, 0, 0

    def covered_state(self) -> tuple[int, bytes] | None:
        """Return and drop the state that may be kept: its rows are sealed."""
        if self.state is None or self.state[0] > self.mark:
            return None
        state, self.state = self.state, None
        return state


def _after(batch: pa.RecordBatch, output: Output, mark: int) -> pa.RecordBatch:
    if output.follows >= mark or batch.num_rows == 0:
        return batch
    if output.last <= mark:
        return batch.slice(0, 0)
    return batch.filter(pc.greater(batch.column("sequence_number"), mark))


def _seal(outputs: list[Output], mark: int, software: str) -> dict[str, Any]:
    counts = pa.Table.from_batches([_after(output.counts, output, mark) for output in outputs])
    # Counts hold a row for a flush too; it has neither bytes nor readings, while an envelope without bytes counts one.
    flushes = pc.and_(pc.equal(counts["body_bytes"], 0), pc.equal(counts["rows_total"], 0))
    return {
        "partition": outputs[0].partition,
        "first_sequence": counts["sequence_number"][0].as_py(),
        "last_sequence": counts["sequence_number"][-1].as_py(),
        "envelopes": counts.num_rows - (pc.sum(flushes).as_py() or 0),
        "redelivered": sum(output.redelivered for output in outputs),
        **{name: pc.sum(counts[name]).as_py() for name in _SUMMED},
        "event_time_min": pc.min(counts["event_time_min"]).as_py(),
        "event_time_max": pc.max(counts["event_time_max"]).as_py(),
        "enqueued_time_max": pc.max(counts["enqueued_time"]).as_py(),
        "dictionary_version": outputs[-1].dictionary_version,
        "dictionary_sha256": outputs[-1].dictionary_sha256,
        "software_version": software,
        "decode_us": sum(output.decode_us for output in outputs),
        "analyse_us": sum(output.analyse_us for output in outputs),
        "committed_time": datetime.now(UTC),
    }

"""The analysis of one partition as both runners drive it: state in, batches through, journal rows in their places."""

from __future__ import annotations

import itertools
import json
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from alumicatalyst import metrics
from alumicatalyst._core import Dictionary, Partition, state_info
from alumicatalyst.errors import StateError
from alumicatalyst.log import get_logger
from alumicatalyst.sources.stored_batch import StoredBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from alumicatalyst._core import Output
    from alumicatalyst.lake import Lake
    from alumicatalyst.lake.journal import JournalRow
    from alumicatalyst.lake.resume import Resume

_log = get_logger(__name__)

# Replaying this many readings takes some seconds; a state is written at the latest after them, whatever the clock says.
STATE_READINGS_MAX = 20_000_000

# Kinds of journal rows that say what happened and change no state.
_RECORDS = ("state_loss", "input")

# Commas in the bodies that are analysed at once: there are no more readings than commas and envelopes. A good reading
# has several; what is rejected may be two bytes long, and a batch of that has many more rows than any other.
COMMAS_MAX = 1_000_000
_BLOCK_BYTES = 262_144

_OUTCOMES = ("windowed", "late", "duplicate", "rejected")


@dataclass(frozen=True, slots=True)
class Batch:
    """Envelopes of one partition on their way to the analysis.

    Attributes:
        resume: What the process learned when it took the partition; the first batch's names the state to load.
        envelopes: Rows of `schema("envelopes")`, none for a heartbeat; or stored rows in place of envelopes.
        flush: The journal row that ends a finite source, committed already.
    """

    resume: Resume
    envelopes: pa.RecordBatch | StoredBatch
    flush: JournalRow | None = None


@dataclass(frozen=True, slots=True)
class Analysed:
    """What goes to the sinks.

    Attributes:
        output: None where only a state is handed on.
        state: Sequence number and bytes of a state that may be kept once its rows are committed.
        ends_batch: Whether this is the last yield of its batch, so that the batch is no longer in flight.
    """

    resume: Resume
    output: Output | None
    state: tuple[int, bytes] | None = None
    ends_batch: bool = False


class Analysis:
    """One partition's operator and its place in the journal.

    Args:
        lake: Where states, dictionaries and the journal are.
        state_interval_s: Seconds between states. Too short wastes the store, too long makes a restart slow.
    """

    def __init__(self, lake: Lake, state_interval_s: float) -> None:
        self._lake = lake
        self._state_interval_s = state_interval_s
        self._partition: Partition | None = None
        self._resume: Resume | None = None
        self._pending: deque[JournalRow] = deque()
        self._state_at = time.monotonic()
        self._state_sequence = -1
        self._readings_since_state = 0

    def on_batch(self, batch: Batch) -> list[Analysed]:
        """Analyse a batch; a journal row in its middle takes effect exactly there."""
        partition = self._partition or self._start(batch.resume)
        if batch.flush is not None and batch.flush.ordinal > max([partition.journal_ordinal, *self._ordinals()]):
            self._pending.append(batch.flush)
        outputs = self._apply_journal(partition)
        for part in self._cut(batch.envelopes):
            outputs.append(part.analyse(partition) if isinstance(part, StoredBatch) else partition.on_batch(part))
            outputs.extend(self._apply_journal(partition))
        for output in outputs:
            self._count(output)
        last = len(outputs) - 1
        state = self._state_if_due(partition)
        return [
            Analysed(batch.resume, output, state if at == last else None, ends_batch=at == last)
            for at, output in enumerate(outputs)
        ]

    def on_eof(self) -> list[Analysed]:
        """Hand on a last state. Windows stay open: they go on when the partition does."""
        if self._partition is None or self._resume is None:
            return []
        state = self._state(self._partition)
        return [Analysed(self._resume, None, state)] if state else []

    def _start(self, resume: Resume) -> Partition:
        """Load the state that the resume names, or begin under the first dictionary."""
        if resume.state_sequence >= 0:
            try:
                state = self._lake.state(resume.partition, resume.state_sequence)
            except StateError:
                # Whoever puts newer states removes old ones: then the partition is theirs, and the state no loss.
                self._lake.check_claim(resume)
                raise
            dictionary = self._dictionary(state_info(state)["dictionary_sha256"])
            partition = Partition(resume.partition, dictionary, state)
        else:
            # What was lost with a state is not gone through again: begin with what held when the loss was accepted.
            losses = [row.ordinal for row in resume.journal if row.kind == "state_loss"]
            from_ordinal = max(losses, default=0)
            in_force = [row for row in resume.journal if row.kind == "dictionary" and row.ordinal <= from_ordinal][-1]
            dictionary = self._dictionary(json.loads(in_force.body)["sha256"])
            partition = Partition(resume.partition, dictionary)
            partition.change_dictionary(dictionary, from_ordinal)
        self._pending.extend(row for row in resume.journal if row.ordinal > partition.journal_ordinal)
        self._partition, self._resume = partition, resume
        self._state_sequence = partition.last_sequence
        _log.info(
            "partition started",
            partition=resume.partition,
            after=partition.last_sequence,
            mark=resume.mark,
            claim=resume.claim,
            dictionary=partition.dictionary_sha256[:12],
        )
        return partition

    def _dictionary(self, sha256: str) -> Dictionary:
        return Dictionary.from_json(self._lake.dictionary(sha256))

    def _ordinals(self) -> list[int]:
        return [row.ordinal for row in self._pending]

    def _cut(self, envelopes: pa.RecordBatch | StoredBatch) -> Sequence[pa.RecordBatch | StoredBatch]:
        """Cut a batch behind every envelope after which a journal row stands, and where it may have too many rows."""
        if isinstance(envelopes, StoredBatch):
            return envelopes.cut(row.after_sequence for row in self._pending)
        if envelopes.num_rows == 0:
            return [envelopes]
        edges = {0, envelopes.num_rows}
        if self._pending:
            numbers = np.maximum.accumulate(envelopes.column("sequence_number").to_numpy())
            edges |= {int(np.searchsorted(numbers, row.after_sequence, side="right")) for row in self._pending}
        edges |= _edges_between_rows(envelopes.column("body"))
        return [envelopes.slice(start, end - start) for start, end in itertools.pairwise(sorted(edges))]

    def _apply_journal(self, partition: Partition) -> list[Output]:
        """Apply the journal rows that stand right after what the partition has seen."""
        outputs = []
        while self._pending and self._pending[0].after_sequence <= partition.last_sequence:
            row = self._pending.popleft()
            body = json.loads(row.body)
            if row.kind == "dictionary":
                partition.change_dictionary(self._dictionary(body["sha256"]), row.ordinal)
                _log.info("dictionary changed", partition=partition.id, sha256=body["sha256"][:12])
            elif row.kind == "flush":
                outputs.append(partition.flush(body["sequence_number"], row.ordinal))
            elif row.kind not in _RECORDS:
                raise StateError(
                    f"couldn't apply row {row.ordinal} of the journal of {partition.id}: {row.kind}; newer software "
                    "wrote it, and its rows can be made by that software only"
                )
        return outputs

    def _state_if_due(self, partition: Partition) -> tuple[int, bytes] | None:
        due = time.monotonic() - self._state_at >= self._state_interval_s
        return self._state(partition) if due or self._readings_since_state >= STATE_READINGS_MAX else None

    def _state(self, partition: Partition) -> tuple[int, bytes] | None:
        """Take a state, unless nothing came since the last one."""
        self._state_at = time.monotonic()
        self._readings_since_state = 0
        if partition.last_sequence <= self._state_sequence:
            return None
        self._state_sequence = partition.last_sequence
        return partition.last_sequence, partition.snapshot()

    def _count(self, output: Output) -> None:
        counts, name = output.counts, output.partition
        metrics.REDELIVERED.labels(name).inc(output.redelivered)
        if counts.num_rows == 0:
            return
        for outcome in _OUTCOMES:
            metrics.READINGS.labels(name, outcome).inc(pc.sum(counts.column(f"rows_{outcome}")).as_py())
        if output.rejected.num_rows:
            for entry in pc.value_counts(output.rejected.column("reason")).to_pylist():
                metrics.REJECTED.labels(name, entry["values"]).inc(entry["counts"])
        readings = pc.sum(counts.column("rows_total")).as_py()
        self._readings_since_state += readings
        metrics.ENVELOPES.labels(name).inc(counts.num_rows)
        metrics.BATCH_ENVELOPES.observe(counts.num_rows)
        metrics.BATCH_READINGS.observe(readings)
        metrics.STAGE_SECONDS.labels("decode").observe(output.decode_us / 1e6)
        metrics.STAGE_SECONDS.labels("analyse").observe(output.analyse_us / 1e6)
        if output.watermark_us is not None and output.partition_time_us is not None:
            delay_us = output.partition_time_us - output.watermark_us
            metrics.WATERMARK_DELAY_SECONDS.labels(name).set(delay_us / 1e6)


def _edges_between_rows(bodies: pa.LargeBinaryArray) -> set[int]:
    """Return where to cut bodies so that no part has many more commas than allowed."""
    _, offsets, data = bodies.buffers()
    ends = np.frombuffer(offsets, np.int64)[bodies.offset : bodies.offset + len(bodies) + 1]
    size = int(ends[-1] - ends[0])
    if size <= COMMAS_MAX:
        return set()
    commas = _commas(np.frombuffer(data, np.uint8)[ends[0] : ends[-1]])
    if commas <= COMMAS_MAX:
        return set()
    part = max(1, size * COMMAS_MAX // commas)
    return {int(at) + 1 for at in np.flatnonzero(np.diff((ends[1:] - ends[0]) // part))}


def _commas(data: NDArray[np.uint8]) -> int:
    # In blocks that stay in the processor's cache: as a whole it took as long as half of the analysis (measured).
    found = np.empty(_BLOCK_BYTES, dtype=bool)
    blocks = (data[at : at + _BLOCK_BYTES] for at in range(0, len(data), _BLOCK_BYTES))
    return sum(int(np.count_nonzero(np.equal(block, ord(","), out=found[: len(block)]))) for block in blocks)

"""One partition's way in: its claim, its journal, its reader, and the flush that ends a finite source."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from alumicatalyst import metrics
from alumicatalyst._core import schema
from alumicatalyst.lake import journal
from alumicatalyst.operator import Batch
from alumicatalyst.sources import AS_SET, FiniteSource, JournaledSource, MovingStart
from alumicatalyst.sources.stored_batch import StoredBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alumicatalyst._core import Dictionary
    from alumicatalyst.lake.journal import JournalRow
    from alumicatalyst.lake.resume import Resume
    from alumicatalyst.pipeline import Pipeline
    from alumicatalyst.sources import Reader


class Intake:
    """One partition's way in: its claim, its reader, and the flush that ends a finite source."""

    def __init__(self, pipeline: Pipeline, partition: str) -> None:
        self._pipeline = pipeline
        self.partition = partition
        source, lake = pipeline.source, pipeline.lake
        self.resume: Resume = lake.resume(
            partition,
            dictionary=self._dictionary(),
            first_sequence=source.first_sequence(partition),
            begins_after=source.begins_after(partition) if isinstance(source, MovingStart) else None,
            check=self._check_input,
            **pipeline.accept,
        )
        self._journal_input()
        self._carry_journal()
        after = AS_SET if self.resume.fresh else self.resume.after
        self._reader: Reader = source.open(partition, after, self.resume.claim)
        # Where a state was taken between the last row and the flush, nothing is left to read, and yet the flush is due.
        self._last = max(self.resume.state_sequence, self.resume.after)
        self.finished = False
        self._watch_lag()

    def _check_input(self, journal: Sequence[JournalRow]) -> None:
        """Compare a finite input with what the journal knows of it, before anything is claimed or journaled."""
        source, known = self._pipeline.source, _inputs(journal)
        if isinstance(source, FiniteSource) and known:
            source.check_input(known[-1])

    def _journal_input(self) -> None:
        """Journal what a finite input consists of, if the journal does not say so yet."""
        source = self._pipeline.source
        now = source.input() if isinstance(source, FiniteSource) else {}
        body = json.dumps({"input": now}, sort_keys=True)
        if now and [json.loads(body)["input"]] != _inputs(self.resume.journal)[-1:]:
            after = max(self.resume.mark, *(row.after_sequence for row in self.resume.journal))
            self._pipeline.lake.append_journal(self.resume, "input", after, body)

    def _dictionary(self) -> Dictionary:
        """Return the dictionary to go on with: the flow's, or what a source with a journal of its own says."""
        source, lake = self._pipeline.source, self._pipeline.lake
        if isinstance(source, JournaledSource):
            rows = journal.read(lake.table("journal"), self.partition)
            return source.dictionary(self.partition, rows) or self._pipeline.dictionary
        return self._pipeline.dictionary

    def _carry_journal(self) -> None:
        """Journal what a source with a journal of its own went through, before any of it is applied."""
        source, lake = self._pipeline.source, self._pipeline.lake
        if not isinstance(source, JournaledSource):
            return
        rows = self.resume.journal
        for row in source.carried(self.partition, rows, lake):
            rows = (*rows, lake.append_journal(self.resume, row.kind, row.after_sequence, row.body))
        self.resume = replace(self.resume, journal=rows)

    def next(self) -> Batch | None:
        """Return the next batch, or None where there is nothing to do now. Never blocks."""
        if self.finished or not self._pipeline.gate.is_open:
            return None
        envelopes = self._reader.take()
        if envelopes is None:
            return self._finish() if self._reader.finished else None
        if isinstance(envelopes, StoredBatch):
            self._last = envelopes.upto
        elif envelopes.num_rows:
            # The last one may have come again: what is flushed lies behind all of them.
            self._last = max(self._last, int(envelopes.column("sequence_number").to_numpy().max()))
        self._pipeline.gate.enter()
        return Batch(self.resume, envelopes)

    def _finish(self) -> Batch | None:
        """End a finite source: journal the flush that closes its windows, unless that was done before."""
        self.finished = True
        if not self._pipeline.flush_at_end or not isinstance(self._pipeline.source, FiniteSource) or self._last < 0:
            return None
        flushes = [row for row in self.resume.journal if row.kind == "flush"]
        if any(json.loads(row.body)["sequence_number"] == self._last for row in flushes):
            return None
        row = next((row for row in flushes if row.after_sequence == self._last), None)
        if row is None:
            body = json.dumps({"sequence_number": self._last + 1})
            row = self._pipeline.lake.append_journal(self.resume, "flush", self._last, body)
        # One that was journaled before may not have been applied: its process died, and nothing was left to read.
        self._pipeline.gate.enter()
        return Batch(self.resume, empty_envelopes(), row)

    def _watch_lag(self) -> None:
        """Let the metrics ask the reader when somebody looks: while the lake is away, nothing is taken here."""
        reader = self._reader

        def lag(at: int) -> float:
            told = reader.lag()
            return math.nan if told is None else told[at]

        metrics.SOURCE_QUEUE_BATCHES.labels(self.partition).set_function(lambda: reader.queued)
        metrics.SOURCE_LAG_ENVELOPES.labels(self.partition).set_function(lambda: lag(0))
        metrics.SOURCE_LAG_SECONDS.labels(self.partition).set_function(lambda: lag(1))

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()
        for gauge in (metrics.SOURCE_QUEUE_BATCHES, metrics.SOURCE_LAG_ENVELOPES, metrics.SOURCE_LAG_SECONDS):
            with suppress(KeyError):  # Some readers do so themselves.
                gauge.remove(self.partition)


def _inputs(journal: Sequence[JournalRow]) -> list[dict[str, Any]]:
    return [body["input"] for row in journal if "input" in (body := json.loads(row.body))]


def empty_envelopes() -> pa.RecordBatch:
    """Return a batch of no envelopes."""
    return pa.RecordBatch.from_pylist([], schema=schema("envelopes"))

"""Bytewax's side of the pipeline: input, analysis and output around the pieces that the plain loop drives.

There is no keyed step. Bytewax sends a key to the worker that its hash chooses, which may be another process than the
one that reads the partition: an item is then pickled twice, nothing bounds what is in flight, and one process can get
all the work. A partition is read by one worker of a cluster, so what is analysed and written there stays in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from typing_extensions import override

from alumicatalyst.operator import Analysed, Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from alumicatalyst.intake import Intake
    from alumicatalyst.operator import Analysis
    from alumicatalyst.pipeline import Pipeline

_IDLE = timedelta(milliseconds=5)

# What a process without a partition reads: nothing, until it is told to stop.
_NO_PARTITION = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The last item of a partition, which asks its analysis for a last state."""

    partition: str


class Input(FixedPartitionedSource[Batch | Ended, None]):
    """The source's partitions. Positions come from the lake, so Bytewax keeps none."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    @override
    def list_parts(self) -> list[str]:
        return self._pipeline.partitions() or [_NO_PARTITION] * self._pipeline.waits

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: None
    ) -> StatefulSourcePartition[Batch | Ended, None]:
        if for_part == _NO_PARTITION:
            return _NoPartition(self._pipeline)
        return _InputPartition(self._pipeline, self._pipeline.intake(for_part))


class _InputPartition(StatefulSourcePartition[Batch | Ended, None]):
    def __init__(self, pipeline: Pipeline, intake: Intake) -> None:
        self._pipeline, self._intake = pipeline, intake
        self._awake: datetime | None = None
        self._ended = False

    @override
    def next_batch(self) -> Iterable[Batch | Ended]:
        with self._pipeline.failing():
            return self._next()

    def _next(self) -> list[Batch | Ended]:
        if self._ended:
            raise StopIteration
        batch = None if self._pipeline.draining else self._intake.next()
        # The only way to end a Bytewax flow in order: every source says that its input has ended.
        self._ended = batch is None and (self._pipeline.draining or self._intake.finished)
        self._awake = datetime.now(UTC) + _IDLE if batch is None and not self._ended else None
        if self._ended:
            return [Ended(self._intake.partition)]
        return [] if batch is None else [batch]

    @override
    def next_awake(self) -> datetime | None:
        return self._awake

    @override
    def snapshot(self) -> None:
        return None

    @override
    def close(self) -> None:
        self._intake.close()


class _NoPartition(StatefulSourcePartition[Batch | Ended, None]):
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    @override
    def next_batch(self) -> Iterable[Batch | Ended]:
        if self._pipeline.draining:
            raise StopIteration
        return []

    @override
    def next_awake(self) -> datetime:
        return datetime.now(UTC) + _IDLE

    @override
    def snapshot(self) -> None:
        return None


def analyse(pipeline: Pipeline) -> Callable[[list[Batch | Ended]], list[Analysed]]:
    """Return the step that analyses each partition with the state that it holds for it."""
    # One for all workers of this process: each partition is one worker's, from its first batch to its last.
    analyses: dict[str, Analysis] = {}

    def analysed(item: Batch | Ended) -> list[Analysed]:
        if isinstance(item, Ended):
            analysis = analyses.pop(item.partition, None)
            return [] if analysis is None else analysis.on_eof()
        name = item.resume.partition
        if name not in analyses:
            analyses[name] = pipeline.analysis()
        return analyses[name].on_batch(item)

    def step(items: list[Batch | Ended]) -> list[Analysed]:
        with pipeline.failing():
            return [each for item in items for each in analysed(item)]

    return step


def offer(pipeline: Pipeline) -> Callable[[list[Analysed]], list[Analysed]]:
    """Return a step that offers what passes to the API, and holds nothing back."""

    def step(items: list[Analysed]) -> list[Analysed]:
        with pipeline.failing():
            for item in items:
                pipeline.offer(item)
        return items

    return step


class Output(DynamicSink[Analysed]):
    """The way into the lake, one per worker; its marks make writing idempotent, so Bytewax's epochs don't matter."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _OutputPartition:
        return _OutputPartition(self._pipeline)


class _OutputPartition(StatelessSinkPartition[Analysed]):
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline, self._sink = pipeline, pipeline.sink()

    @override
    def write_batch(self, items: list[Analysed]) -> None:
        with self._pipeline.failing():
            for item in items:
                self._sink.write(item)

    @override
    def close(self) -> None:
        # Bytewax closes in a destructor, after a failure too, and a second error there aborts the process without a
        # word; so the sink then only lets go.
        self._sink.close()

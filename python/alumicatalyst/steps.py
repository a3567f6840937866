"""Bytewax's side of the pipeline: input, stateful step and output around the pieces that the plain loop drives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from typing_extensions import override

from alumicatalyst.operator import Analysed, Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from alumicatalyst.pipeline import Intake, Pipeline

_IDLE = timedelta(milliseconds=5)

Keyed = tuple[str, Batch]


class Input(FixedPartitionedSource[Keyed, None]):
    """The source's partitions. Positions come from the lake, so Bytewax keeps none."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    @override
    def list_parts(self) -> list[str]:
        return self._pipeline.partitions()

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _InputPartition:
        return _InputPartition(self._pipeline, self._pipeline.intake(for_part))


class _InputPartition(StatefulSourcePartition[Keyed, None]):
    def __init__(self, pipeline: Pipeline, intake: Intake) -> None:
        self._pipeline, self._intake = pipeline, intake
        self._awake: datetime | None = None

    @override
    def next_batch(self) -> Iterable[Keyed]:
        with self._pipeline.failing():
            return self._next()

    def _next(self) -> list[Keyed]:
        # The only way to end a Bytewax flow in order: every source says that its input has ended.
        if self._pipeline.draining:
            raise StopIteration
        batch = self._intake.next()
        self._awake = None if batch is not None else datetime.now(UTC) + _IDLE
        if batch is not None:
            return [(self._intake.partition, batch)]
        if self._intake.finished:
            raise StopIteration
        return []

    @override
    def next_awake(self) -> datetime | None:
        return self._awake

    @override
    def snapshot(self) -> None:
        return None

    @override
    def close(self) -> None:
        self._intake.close()


class _Analyse(StatefulBatchLogic[Batch, Analysed, None]):
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline, self._analysis = pipeline, pipeline.analysis()

    @override
    def on_batch(self, values: list[Batch]) -> tuple[Iterable[Analysed], bool]:
        with self._pipeline.failing():
            for batch in values:
                self._pipeline.gate.arrive(batch.resume.partition)
            return [item for batch in values for item in self._analysis.on_batch(batch)], False

    @override
    def on_eof(self) -> tuple[Iterable[Analysed], bool]:
        with self._pipeline.failing():
            return self._analysis.on_eof(), False

    @override
    def snapshot(self) -> None:
        # State is the lake's; Bytewax asks even without a recovery store, so the answer is nothing.
        return None


def analyse(pipeline: Pipeline) -> Callable[[None], _Analyse]:
    """Return the builder of the stateful step, one operator per partition."""
    return lambda _resume_state: _Analyse(pipeline)


def offer(pipeline: Pipeline) -> Callable[[list[tuple[str, Analysed]]], list[tuple[str, Analysed]]]:
    """Return a step that offers what passes to the API, and holds nothing back."""

    def step(items: list[tuple[str, Analysed]]) -> list[tuple[str, Analysed]]:
        with pipeline.failing():
            for _partition, item in items:
                pipeline.offer(item)
        return items

    return step


class Output(DynamicSink[tuple[str, Analysed]]):
    """The way into the lake, one per worker; its marks make writing idempotent, so Bytewax's epochs don't matter."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _OutputPartition:
        return _OutputPartition(self._pipeline)


class _OutputPartition(StatelessSinkPartition[tuple[str, Analysed]]):
    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline, self._sink = pipeline, pipeline.sink()

    @override
    def write_batch(self, items: list[tuple[str, Analysed]]) -> None:
        with self._pipeline.failing():
            for _partition, item in items:
                self._sink.write(item)

    @override
    def close(self) -> None:
        # Bytewax closes in a destructor, after a failure too, and a second error there aborts the process without a
        # word; so the sink then only lets go.
        self._sink.close()

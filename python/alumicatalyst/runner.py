"""The plain loop: the pieces of the Bytewax flow in one thread, for replays, tests and where Bytewax cannot run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from alumicatalyst.intake import Intake
    from alumicatalyst.operator import Analysed, Analysis
    from alumicatalyst.pipeline import Pipeline

_log = get_logger(__name__)

_IDLE_S = 0.005


def run_loop(pipeline: Pipeline, *, on_item: Callable[[Analysed], None] | None = None) -> None:
    """Run a pipeline until its input ends or it is drained.

    Args:
        pipeline: Its pieces, connected.
        on_item: Called with whatever goes to the sinks, for progress.

    Raises:
        SourceError: The source failed.
        LakeError: The lake failed, or another process took a partition.
        StateError: A state cannot be loaded.

    Example:
        >>> run_loop(Pipeline(source, dictionary, Lake.open("file:var/lake")))
    """
    sink = pipeline.sink()
    taken: list[tuple[Intake, Analysis]] = []

    def write(items: list[Analysed]) -> None:
        for item in items:
            # Ahead of the commit, as in the dataflow: the API hears of alarms within milliseconds.
            pipeline.offer(item)
            sink.write(item)
            if on_item is not None:
                on_item(item)

    try:
        with pipeline.failing():
            taken.extend((pipeline.intake(partition), pipeline.analysis()) for partition in pipeline.partitions())
            waits = not taken and pipeline.waits
            while not pipeline.draining and (waits or any(not intake.finished for intake, _ in taken)):
                idle = True
                for intake, analysis in taken:
                    batch = intake.next()
                    if batch is not None:
                        idle = False
                        write(analysis.on_batch(batch))
                if idle:
                    time.sleep(_IDLE_S)
            for _, analysis in taken:
                write(analysis.on_eof())
    finally:
        try:
            sink.close()
        finally:
            for intake, _ in taken:
                intake.close()
    _log.info("drained" if pipeline.draining else "input ended", partitions=len(taken))

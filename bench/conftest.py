"""What every benchmark shares: processor time as the clock, answers checked before timing, and the table at the end."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

# Peers get one thread, like us: more of them cost processor time without adding readings per CPU-second.
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
PEER = "peer"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: readings per CPU-second in millions, the median and the range of the rounds."""

    layer: str
    load: str
    who: str
    median: float
    lowest: float
    highest: float
    goal: float | None


class Measure(Protocol):
    def __call__(
        self,
        work: Callable[..., Any],
        *,
        layer: str,
        load: str,
        who: str,
        readings: int,
        setup: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]] | None = None,
        rounds: int = 5,
        goal: float | None = None,
    ) -> None: ...


FIGURES: pytest.StashKey[list[Figure]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []
    # The table at the end says it in readings per second.
    config.option.benchmark_quiet = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure in processor time, all threads together, unless a benchmark names another clock."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.benchmark(timer=time.process_time))
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest) -> Measure:
    """Return the stopwatch: the caller has checked the answer of `work` before."""

    def run(
        work: Callable[..., Any],
        *,
        layer: str,
        load: str,
        who: str,
        readings: int,
        setup: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]] | None = None,
        rounds: int = 5,
        goal: float | None = None,
    ) -> None:
        benchmark.pedantic(work, setup=setup, rounds=rounds)
        if benchmark.stats is None:  # --benchmark-disable: the answer was checked, and that is all.
            return
        seconds = benchmark.stats.stats
        median, lowest, highest = (readings / each / 1e6 for each in (seconds.median, seconds.max, seconds.min))
        figure = Figure(layer, load, who, median, lowest, highest, goal)
        benchmark.extra_info.update(who=who, load=load, millions_of_readings_per_cpu_s=figure.median)
        request.config.stash[FIGURES].append(figure)

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash[FIGURES]
    if not figures:
        return
    ours: dict[tuple[str, str], float] = {}
    for figure in figures:
        if not figure.who.startswith(PEER):
            ours.setdefault((figure.layer, figure.load), figure.median)
    lines = [("layer", "load", "who", "median", "range", "goal", "ours is")]
    for figure in figures:
        peer = figure.who.startswith(PEER) and (figure.layer, figure.load) in ours
        ratio = f"{ours[figure.layer, figure.load] / figure.median:.1f} x" if peer else ""
        goal = f"{figure.goal:g}" if figure.goal else ""
        spread = f"{figure.lowest:.3g} - {figure.highest:.3g}"
        lines.append((figure.layer, figure.load, figure.who, f"{figure.median:.3g}", spread, goal, ratio))
    terminalreporter.section("millions of readings per CPU-second")
    for layer, load, who, median, spread, goal, ratio in lines:
        terminalreporter.write_line(f"{layer:<9} {load:<29} {who:<43} {median:>6}  {spread:<13} {goal:>4} {ratio:>7}")

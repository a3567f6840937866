"""What every benchmark shares: both clocks, answers checked before timing, the table at the end, and its JSON."""

from __future__ import annotations

import dataclasses
import gc
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

# Peers get one thread, like us: more of them cost processor time without adding readings per CPU-second.
os.environ.setdefault("POLARS_MAX_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from bench.load import SCALE
from bench.results import RATE, Figure, best_of_ours, groups, machine, ratio, save

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture

HERE = Path(__file__).resolve().parent
_SHORT_ROUNDS = 2


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
        clock: Callable[[], float] = time.process_time,
        **about: Any,
    ) -> None: ...


class Clock:
    """What pytest-benchmark times by: it asks for its timer before a test can say whose processor time counts.

    Attributes:
        read: Returns the processor time, all threads together, of this process or of a kernel's.
    """

    __name__ = "processor_time"

    def __init__(self) -> None:
        self.read: Callable[[], float] = time.process_time

    def __call__(self) -> float:
        return self.read()


FIGURES: pytest.StashKey[list[Figure]] = pytest.StashKey()
MACHINE: pytest.StashKey[dict[str, Any]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", metavar="FILE", help="write the figures to FILE as JSON, for python -m bench.report")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []
    config.stash[MACHINE] = machine()
    # The table at the end says it in readings per second, with the peers beside ours.
    config.option.benchmark_quiet = True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.benchmark(timer=Clock()))
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[Figure], None]:
    """Return what takes a figure that a benchmark has measured by itself; drops it where benchmarks are disabled."""
    disabled = request.config.getoption("benchmark_disable") and not request.config.getoption("benchmark_enable")
    return (lambda _: None) if disabled else request.config.stash[FIGURES].append


@pytest.fixture
def measure(benchmark: BenchmarkFixture, figure: Callable[[Figure], None], request: pytest.FixtureRequest) -> Measure:
    """Return the stopwatch, pytest-benchmark's, once for each test: the caller has checked the answer of `work`."""

    def run(
        work: Callable[..., Any],
        *,
        layer: str,
        load: str,
        who: str,
        readings: int,
        setup: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]] | None = None,
        rounds: int = 5,
        clock: Callable[[], float] = time.process_time,
        **about: Any,
    ) -> None:
        args: tuple[Any, ...] = ()
        kwargs: dict[str, Any] = {}
        walls: list[float] = []

        def prepare() -> None:
            # Held here and not by pytest-benchmark, so that what the last round left behind is not this one's.
            nonlocal args, kwargs
            if setup:
                args, kwargs = setup()
            gc.collect()

        def timed() -> None:
            before = time.perf_counter()
            work(*args, **kwargs)
            walls.append(time.perf_counter() - before)

        marker = request.node.get_closest_marker("benchmark")
        assert marker is not None
        marker.kwargs["timer"].read = clock
        benchmark.group = f"{layer}: {load}"
        benchmark.pedantic(timed, setup=prepare, rounds=rounds if SCALE == 1 else min(rounds, _SHORT_ROUNDS))
        if benchmark.stats is None:
            # Disabled: the answer was checked, and that is all.
            return
        seconds = benchmark.stats.stats.data
        rates = [readings / each / 1e6 for each in seconds]
        found = Figure(
            layer=layer,
            load=load,
            who=who,
            unit=RATE,
            median=statistics.median(rates),
            lowest=min(rates),
            highest=max(rates),
            rounds=len(rates),
            readings=readings,
            # A profile, where one is asked for, adds a round that is not timed.
            wall=statistics.median(readings / each / 1e6 for each in walls[: len(rates)]),
            **about,
        )
        benchmark.extra_info |= dataclasses.asdict(found) | {"wall_s": walls[: len(rates)]}
        figure(found)

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash[FIGURES]
    if not figures:
        return
    terminalreporter.section("figures: medians, by processor time where the unit says CPU" + scale_note())
    for group in groups(figures):
        ours = best_of_ours(group)
        terminalreporter.write_line(f"{group[0].layer}: {group[0].load}  [{group[0].unit}]")
        for each in group:
            compared = f"ours is {ratio(ours, each):,.3g} x" if ours and each.is_peer else ""
            wall = f"wall {each.wall:.3g}" if each.wall is not None else ""
            goal = "" if each.goal is None else f"goal {each.goal:g} {'met' if each.met else 'MISSED'}"
            spread = f"{each.lowest:.3g} - {each.highest:.3g}"
            terminalreporter.write_line(
                f"  {each.who:<46} {each.median:>8.3g}  {spread:<15} {wall:<11} {goal:<15} {each.tier:<6}{compared}"
            )


def scale_note() -> str:
    return "" if SCALE == 1 else f"; BENCH_SCALE={SCALE:g}: a short run, not for quoting"


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--results")
    if path and session.config.stash[FIGURES]:
        save(
            Path(path),
            session.config.stash[FIGURES],
            command=f"pytest {' '.join(session.config.invocation_params.args)}",
            scale=SCALE,
            machine_before=session.config.stash[MACHINE],
        )

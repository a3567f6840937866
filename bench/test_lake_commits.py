"""How long a commit takes, and how long it takes to go on after ten thousand of them: a disk, and Azurite.

By the wall clock, as commits wait for the disk or for the network; processor time stands beside it. Every commit is
durable when it counts. The peers commit as many rows to a table of their own, one after the other, in the same run.
"""

from __future__ import annotations

import gc
import statistics
import time
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from alumicatalyst._core import Dictionary, Output, Partition
from alumicatalyst.lake import Lake
from alumicatalyst.lake.tables import ROW_TABLES
from alumicatalyst.operator import Analysed
from alumicatalyst.sinks.lake import LakeSink
from bench.load import load, scaled
from bench.memory import PARTITION
from bench.results import Figure
from tests.conftest import require
from tests.parts.azurite import Azurite, azurite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["azurite", "require"]

COMMITS = scaled(300, 20)
RESTARTS = 5
LOG = scaled(10_000, 100)
ROWS = 1_000


@pytest.fixture(params=["disk", "Azurite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str, dict[str, str]]:
    """Return a name, an address and the options of a new lake."""
    if request.param == "disk":
        return "disk", f"file:{tmp_path / 'lake'}", {}
    service: Azurite = request.getfixturevalue("azurite")
    return "Azurite", f"{service.container(f'bench-{uuid.uuid4().hex[:12]}')}/lake", service.storage_options


def outputs(count: int, readings: int) -> tuple[Dictionary, list[Output]]:
    """Return so many outputs, with so many readings each."""
    made = load("smelter", count * readings, per_envelope=100, per_batch=readings)
    dictionary = Dictionary.from_toml(made.dictionary)
    partition = Partition(PARTITION, dictionary)
    return dictionary, [partition.on_batch(batch) for batch in made.batches]


def opened(uri: str, options: dict[str, str]) -> Lake:
    return Lake.open(uri, storage_options=options or None)


def timed(work: Callable[[int], object], count: int) -> tuple[list[float], float]:
    """Return the seconds of each call by the wall clock, and the processor time of all."""
    gc.collect()
    seconds = []
    cpu = time.process_time()
    for each in range(count):
        started = time.perf_counter()
        work(each)
        seconds.append(time.perf_counter() - started)
    return seconds, time.process_time() - cpu


class Told:
    """Puts figures down, in milliseconds."""

    def __init__(self, figure: Callable[[Figure], None], load: str) -> None:
        self._figure = figure
        self._load = load

    def __call__(
        self, who: str, seconds: list[float], cpu_s: float, *, goal: float | None = None, note: str = ""
    ) -> None:
        ms = sorted(1e3 * each for each in seconds)
        at = {"p50": statistics.median(ms), "p99": ms[min(len(ms) - 1, round(0.99 * len(ms)))]}
        for name, value in at.items():
            self._put(f"ms, {name}", who, value, ms, goal if name == "p50" else None, note)
        self._put("CPU ms each", who, 1e3 * cpu_s / len(ms), ms, None, note)

    def _put(self, unit: str, who: str, value: float, ms: list[float], goal: float | None, note: str) -> None:
        low, high = (ms[0], ms[-1]) if unit.startswith("ms") else (value, value)
        about: dict[str, Any] = {"goal": goal, "lower_is_better": True, "note": note}
        self._figure(Figure("lake", self._load, who, unit, value, low, high, len(ms), ROWS, **about))


def test_commits_of_an_entry(place: tuple[str, str, dict[str, str]], figure: Callable[[Figure], None]) -> None:
    name, uri, options = place
    table = opened(uri, options).table("batches")

    def commit(number: int) -> None:
        with table.lock:
            table.commit(table.refresh(), [], {"bench": number}, {})

    commit(0)
    seconds, cpu = timed(lambda each: commit(each + 1), COMMITS)
    assert opened(uri, options).table("batches").refresh().transactions["bench"] == COMMITS
    told = Told(figure, f"a commit without files, looked at before, {name}")
    told("AlumiCatalyst", seconds, cpu, goal=2 if name == "disk" else 20)


def test_flushes(place: tuple[str, str, dict[str, str]], figure: Callable[[Figure], None]) -> None:
    name, uri, options = place
    dictionary, items = outputs(COMMITS, ROWS)
    lake = opened(uri, options)
    resume = lake.resume(PARTITION, dictionary=dictionary, first_sequence=0)
    sink = LakeSink(lake, flush_interval_s=3_600, flush_rows_max=10**9)

    def flush(each: int) -> None:
        sink.write(Analysed(resume, items[each], ends_batch=True))
        sink.flush()

    seconds, cpu = timed(flush, COMMITS)
    again = opened(uri, options)
    for table in ROW_TABLES:
        assert again.table(table).contents().rows == sum(getattr(each, table).num_rows for each in items)
    told = Told(figure, f"a flush of {ROWS:,} readings and their windows, {name}")
    told("AlumiCatalyst: a commit of each table with rows, and the seal", seconds, cpu)
    peer, peer_options = (uri.removeprefix("file:") + "-peer", options)
    rows = [pa.Table.from_batches([each.readings]).unify_dictionaries() for each in items]
    seconds, cpu = timed(
        lambda each: write_deltalake(peer, rows[each], mode="append", storage_options=peer_options or None), COMMITS
    )
    assert DeltaTable(peer, storage_options=peer_options or None).count() == COMMITS * ROWS
    told("peer: write_deltalake", seconds, cpu, note="the readings alone, one table; no seal, mark or sync to disk")


@pytest.fixture
def long_log(tmp_path: Path) -> tuple[str, Dictionary, list[Output]]:
    """A lake of which every table's log has that many commits, all of which it still holds."""
    uri = f"file:{tmp_path / 'long'}"
    dictionary, items = outputs(2, 5 * ROWS)
    lake = opened(uri, {})
    resume = lake.resume(PARTITION, dictionary=dictionary, first_sequence=0)
    sink = LakeSink(lake, flush_interval_s=3_600, flush_rows_max=10**9)
    sink.write(Analysed(resume, items[0], ends_batch=True))
    sink.close()
    with pytest.MonkeyPatch.context() as patch:
        # What nobody needs after a loss of power need not be on the disk, nor the checkpoints before the last.
        patch.setattr("os.fsync", lambda _: None)
        patch.setattr("alumicatalyst.lake.table.CHECKPOINT_INTERVAL", LOG - 10)
        for name in ("readings", "windows", "batches"):
            table = lake.table(name)
            version = table.refresh().version
            # Each commit has a file, as in a lake that nobody compacts. They need not be there, as none is read, but
            # for those of `batches`, which a restart reads: there the commits are empty, as if they were compacted.
            (add, *_) = table.files().values()
            for number in range(version + 1, LOG):
                action = {"add": add | {"path": f"{add['path'][:-8]}-{number}.parquet"}}
                table.commit(table.known(), [] if name == "batches" else [action], {"bench": number}, {"files": []})
    return uri, dictionary, items


@pytest.mark.timeout(900)
def test_restart_with_a_long_log(
    long_log: tuple[str, Dictionary, list[Output]], figure: Callable[[Figure], None]
) -> None:
    uri, dictionary, items = long_log
    resumes: list[Any] = []

    def restart(_each: int) -> None:
        lake = opened(uri, {})
        resumes.append(lake.resume(PARTITION, dictionary=dictionary, first_sequence=0))

    seconds, cpu = timed(restart, RESTARTS)
    assert {each.mark for each in resumes} == {items[0].last}
    assert np.all(np.diff([each.claim for each in resumes]) > 0)
    told = Told(figure, f"open a lake and take a partition, {LOG:,} commits and files in the log of each table, disk")
    told("AlumiCatalyst", seconds, cpu, goal=2_000)
    root = uri.removeprefix("file:")
    seconds, cpu = timed(lambda _: DeltaTable(f"{root}/readings").version(), RESTARTS)
    told("peer: deltalake opens one of the tables", seconds, cpu, note="one table, read only")

"""A lake that is away stops the source and not the memory: what is held is bounded, the lag seen, nothing lost."""

from __future__ import annotations

import json
import os
import threading
import time
import tracemalloc
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from bytewax.testing import run_main
from prometheus_client import REGISTRY

from alumicatalyst._core import Dictionary, Partition
from alumicatalyst.intake import empty_envelopes
from alumicatalyst.lake import Lake, away
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from alumicatalyst.sources.inbox import Inbox
from flows.telemetry import flow
from tests.compare import Run, feed, rows_of
from tests.kill.harness import make_logs
from tests.lake.plant import scan
from tests.parts.azurite import Azurite, azurite
from tests.parts.faulty import Faulty
from tests.plants import NARROW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from tests.logs import Envelope

__all__ = ["azurite"]

OUTAGE_S = float(os.environ.get("ALUMICATALYST_TEST_OUTAGE_S", "2"))
"""For how long the lake is away once everything stands still; `make test` has no minute for it."""

DICTIONARY = json.dumps(NARROW)
ENVELOPES = 600
BATCH = 20
QUEUED = 3
IN_FLIGHT = 4
FLUSH_ROWS = 200
HEARTBEAT_S = 0.05
GROWTH_BYTES_MAX = 8 * 1024 * 1024


class Hub:
    """Logs that are handed out as fast as anyone takes them, through the queue that a hub's reader has."""

    def __init__(self, logs: dict[str, list[Envelope]]) -> None:
        self.logs = logs
        self.readers: dict[str, HubReader] = {}

    def partitions(self) -> list[str]:
        return sorted(self.logs)

    def first_sequence(self, partition: str) -> int | None:
        return self.logs[partition][0].sequence_number

    def open(self, partition: str, after: int, owner_level: int) -> HubReader:
        left = [each for each in self.logs[partition] if each.sequence_number > after]
        self.readers[partition] = HubReader(left)
        return self.readers[partition]


class HubReader:
    finished = False

    def __init__(self, log: list[Envelope]) -> None:
        self._log = log
        self._inbox = Inbox(BATCH, 1 << 20, QUEUED, with_properties=True)
        self._beat_s = time.monotonic()
        self._taken = 0
        self.put = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for each in self._log:
            offset = str(each.sequence_number * 100)
            if not self._inbox.put(each.body, each.sequence_number, each.enqueued_us, offset, properties_of(each)):
                return
            self.put += 1

    @property
    def queued(self) -> int:
        return self._inbox.queued

    def take(self) -> pa.RecordBatch | None:
        batch = self._inbox.take()
        if batch is not None:
            self._taken += batch.num_rows
        elif time.monotonic() - self._beat_s < HEARTBEAT_S:
            return None
        self._beat_s = time.monotonic()
        return batch if batch is not None else empty_envelopes()

    def lag(self) -> tuple[int, float]:
        behind = self.put - self._taken
        return behind, float(behind)

    def close(self) -> None:
        self._inbox.close()
        self._thread.join()


def properties_of(envelope: Envelope) -> dict[str, str]:
    return {name: value for name, value in envelope.properties.items() if value is not None}


class Flow:
    """A running flow on a lake behind a proxy."""

    def __init__(self, hub: Hub, lake: Lake, run: Callable[[Pipeline], None]) -> None:
        self.hub, self.lake = hub, lake
        self.pipeline = Pipeline(
            hub,
            Dictionary.from_json(DICTIONARY),
            lake,
            flush_interval_s=0.2,
            flush_rows_max=FLUSH_ROWS,
            state_interval_s=1.0,
            in_flight_batches_max=IN_FLIGHT,
        )
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(run,), daemon=True)
        self._thread.start()

    def _run(self, run: Callable[[Pipeline], None]) -> None:
        try:
            run(self.pipeline)
        except BaseException as error:  # noqa: BLE001 the test raises it
            self.failure = error

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Wait for something, or for the failure of the flow; the time limit is that of the test."""
        while not happened():
            if self.failure is not None:
                raise self.failure
            time.sleep(0.02)

    def put(self) -> int:
        return sum(reader.put for reader in self.hub.readers.values())

    def committed(self) -> int:
        marks = self.lake.table("batches").known()
        return sum(
            each.sequence_number <= marks.mark(partition) for partition, log in self.hub.logs.items() for each in log
        )

    def is_full(self) -> bool:
        """Whether the lake is away, so that the flow waits for it, and every queue is full, so that its source does."""
        full = all(reader.lag()[0] == QUEUED * BATCH for reader in self.hub.readers.values())
        return full and gauge("alumicatalyst_lake_away_seconds") > 0

    def drain(self) -> None:
        self.pipeline.drain()
        self._thread.join()
        if self.failure is not None:
            raise self.failure


def stands_still(running: Flow) -> Callable[[], bool]:
    """Whether nothing can go on, and the source has been given nothing for a while."""
    last = [running.put(), time.monotonic()]

    def check() -> bool:
        if running.put() != last[0] or not running.is_full():
            last[:] = [running.put(), time.monotonic()]
        return time.monotonic() - last[1] > 1.0

    return check


def gauge(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(name, labels)
    assert value is not None, name
    return value


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[Faulty]:
    with Faulty(azurite.endpoint) as faulty:
        yield faulty


@pytest.mark.slow
@pytest.mark.timeout(300 + 2 * OUTAGE_S)
@pytest.mark.parametrize("runner", ["loop", "bytewax"])
def test_i6_a_lake_that_is_away_stops_the_source_and_not_the_memory(
    azurite: Azurite, proxy: Faulty, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, runner: str
) -> None:
    monkeypatch.setattr(away, "AWAY_AFTER_S", 0.5)
    # Another test's lake that was given up while it failed would count as well, until it is collected.
    monkeypatch.setattr(away, "_known", weakref.WeakSet())
    uri = azurite.container(f"away-{runner}") + "/lake"
    logs = make_logs(31, ENVELOPES)
    # A hub gives no property without a value.
    hub = Hub({name: [replace(each, properties={**properties_of(each)}) for each in log] for name, log in logs.items()})
    lake = Lake.open(uri, storage_options=Azurite(proxy.endpoint).storage_options)
    running = Flow(hub, lake, run_loop if runner == "loop" else lambda pipeline: run_main(flow(pipeline)))
    running.wait_until(lambda: running.committed() > 0)

    proxy.go_away()
    running.wait_until(stands_still(running))
    assert 0 < running.committed() < running.put() < sum(map(len, hub.logs.values())), "it stands still in mid-stream"
    # What is held anywhere: the readers' queues with what they wait to put, batches on their way, the sink's buffer.
    held_max = len(hub.logs) * (QUEUED * BATCH + 1) + (IN_FLIGHT + 1) * BATCH + FLUSH_ROWS + BATCH
    assert running.put() - running.committed() <= held_max
    tracemalloc.start()
    held, (before, _) = running.put(), tracemalloc.get_traced_memory()
    running.wait_until(lambda: gauge("alumicatalyst_lake_away_seconds") > OUTAGE_S + 0.5)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert running.put() == held, "the source stays stopped"
    assert after - before < GROWTH_BYTES_MAX
    assert peak - before < GROWTH_BYTES_MAX
    for partition, reader in hub.readers.items():
        assert gauge("alumicatalyst_source_queue_batches", partition=partition) == reader.queued == QUEUED
        assert gauge("alumicatalyst_source_lag_envelopes", partition=partition) >= (QUEUED - 1) * BATCH

    proxy.come_back()
    everything = sum(map(len, hub.logs.values()))
    running.wait_until(lambda: running.committed() == everything)
    running.drain()
    assert gauge("alumicatalyst_lake_away_seconds") == 0
    told = [record.getMessage() for record in caplog.records if record.name == "alumicatalyst.lake.away"]
    assert sum("lake away" in each for each in told) == sum("lake back" in each for each in told) == 1, told
    assert_exact(Lake.open(uri, storage_options=azurite.storage_options), hub)


def assert_exact(lake: Lake, hub: Hub) -> None:
    """Every row of an undisturbed run is stored, once (I5)."""
    for name in ("readings", "windows", "alarms", "rejected"):
        expected = [
            row
            for partition, log in hub.logs.items()
            for row in feed(Partition(partition, Dictionary.from_json(DICTIONARY)), log, run=Run()).rows(name)
        ]
        found = rows_of(scan(lake, name).drop("date", "_batch", "_row").to_arrow())
        assert sorted(map(repr_of, found)) == sorted(map(repr_of, expected)), name
    for partition, log in hub.logs.items():
        sealed = sorted(
            (row["first_sequence"], row["last_sequence"], row["envelopes"])
            for row in scan(lake, "batches").to_dicts()
            if row["partition"] == partition
        )
        numbers = [each.sequence_number for each in log]
        for first, last, envelopes in sealed:
            assert numbers[:envelopes][:1] + numbers[:envelopes][-1:] == [first, last]
            del numbers[:envelopes]
        assert numbers == [], "every envelope is in one range"


def repr_of(row: dict[str, Any]) -> str:
    return repr(sorted(row.items()))

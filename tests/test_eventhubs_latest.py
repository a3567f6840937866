"""`start=latest` over a restart: the place is found once, when a partition is first taken."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl

from alumicatalyst.dictionary import load
from alumicatalyst.lake import Lake
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from alumicatalyst.sources.eventhubs import EventHubsSource
from alumicatalyst.testing.eventhubs import Emulator
from tests.hubs import LEFT_SOCKETS, eventually, sdk

pytestmark = LEFT_SOCKETS
__all__ = ["sdk"]

ROOT = Path(__file__).parents[1]


def body(second: int) -> bytes:
    reading = '{"deviceId": "pot-001", "metric": "cell_voltage", "value": 4.2'
    return f'{reading}, "ts": "2026-01-01T00:00:{second:02d}Z"}}'.encode()


def test_i5_latest_is_the_place_that_it_was_when_the_partition_was_first_taken(tmp_path):
    dictionary = load(ROOT / "flows" / "smelter.toml")
    now_ms = 1_767_225_700_000
    with Emulator({"plant": 1}, key="key") as emulator:
        emulator.append("plant", 0, [body(0), body(1)], enqueued_ms=now_ms)

        def pipeline() -> Pipeline:
            source = EventHubsSource(emulator.connection_string("plant"), start="latest")
            return Pipeline(source, dictionary, Lake.open(f"file:{tmp_path}"), flush_interval_s=0.2)

        # A process takes the partition and dies before it has committed anything.
        first = pipeline()
        intake = first.intake(first.partitions()[0])
        intake.close()
        emulator.append("plant", 0, [body(second) for second in (2, 3, 4)], enqueued_ms=now_ms)

        second = pipeline()
        runner = threading.Thread(target=run_loop, args=(second,))
        runner.start()

        def stored() -> list[int]:
            rows = pl.scan_delta(str(tmp_path / "readings")).select(pl.col("event_time").dt.second()).collect()
            return sorted(rows["event_time"].to_list())

        eventually(lambda: len(stored()) >= 3)
        second.drain()
        runner.join(30)
    assert stored() == [2, 3, 4]

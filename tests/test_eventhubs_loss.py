"""A hub whose events expired before they were stored: refused, accepted once, and then read on as any other."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from alumicatalyst._core import Dictionary
from alumicatalyst.errors import LogExpired
from alumicatalyst.lake import Lake
from alumicatalyst.lake.doctor import examine
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from alumicatalyst.sources.eventhubs import EventHubsSource
from alumicatalyst.testing.eventhubs import Emulator
from tests.conftest import ROOT
from tests.hubs import LEFT_SOCKETS, eventually, sdk

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["sdk"]

pytestmark = [LEFT_SOCKETS, pytest.mark.timeout(120)]

HUB = "telemetry"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(f"file:{tmp_path / 'lake'}")


def send(emulator: Emulator, count: int) -> None:
    time = datetime.now(UTC).isoformat()
    body = f'{{"deviceId": "pot-001", "ts": "{time}", "metric": "cell_voltage", "value": 4.2}}'
    for _ in range(count):
        emulator.append(HUB, 0, [body.encode()])


def run(emulator: Emulator, lake: Lake, until: int, *, accept_state_loss: bool = False) -> None:
    """Run a process until everything up to a sequence number is sealed, and drain it."""
    source = EventHubsSource(emulator.connection_string(HUB))
    dictionary = Dictionary.from_toml((ROOT / "flows" / "smelter.toml").read_text())
    mine = Lake.open(lake.store.root)
    pipeline = Pipeline(source, dictionary, mine, flush_interval_s=0.1, accept_state_loss=accept_state_loss)
    (partition,) = pipeline.partitions()
    failures: list[BaseException] = []

    def go() -> None:
        try:
            run_loop(pipeline)
        except BaseException as error:  # noqa: BLE001 it is raised again where the test can see it
            failures.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    try:
        eventually(lambda: failures or lake.table("batches").refresh().mark(partition) >= until)
    finally:
        pipeline.drain()
        thread.join()
    if failures:
        raise failures[0]


def sealed(lake: Lake) -> list[tuple[int, int, bool]]:
    rows = lake.table("batches").select("SELECT first_sequence, last_sequence, cold_start FROM batches ORDER BY 1")
    return [(row["first_sequence"], row["last_sequence"], row["cold_start"]) for row in rows]


@pytest.mark.parametrize("first", [15, 20], ids=["some are left", "none are left"])
def test_a_loss_that_is_accepted_is_read_past_and_needs_no_second_agreement(lake: Lake, first: int) -> None:
    with Emulator({HUB: 1}) as emulator:
        send(emulator, 10)
        run(emulator, lake, 9)
        send(emulator, 10)
        emulator.expire(HUB, 0, first)
        with pytest.raises(LogExpired, match=f"the state is at 9, the source's oldest row is {first}"):
            run(emulator, lake, 19)
        if first == 20:
            send(emulator, 5)
        last = emulator.held(HUB, 0).stop - 1
        run(emulator, lake, last, accept_state_loss=True)
        send(emulator, 5)
        run(emulator, lake, last + 5)
    seals = [seal for seal in sealed(lake) if seal[0] > 9]
    assert (seals[0][0], seals[-1][1]) == (first, last + 5)
    assert [cold for _, _, cold in seals] == [True] + [False] * (len(seals) - 1)
    report = examine(lake)
    assert report.ok, report.checks


def test_a_loss_that_is_accepted_but_not_yet_followed_by_rows_is_read_past_as_well(lake: Lake) -> None:
    with Emulator({HUB: 1}) as emulator:
        send(emulator, 10)
        run(emulator, lake, 9)
        send(emulator, 10)
        emulator.expire(HUB, 0, 20)
        # It ends before anything is sent, so that nothing follows the loss yet.
        run(emulator, lake, 9, accept_state_loss=True)
        assert sealed(lake)[-1][1] == 9
        send(emulator, 5)
        emulator.expire(HUB, 0, 22)
        with pytest.raises(LogExpired, match="have expired too"):
            run(emulator, lake, 24)
        run(emulator, lake, 24, accept_state_loss=True)
    assert sealed(lake)[-1][1] == 24
    assert examine(lake).ok

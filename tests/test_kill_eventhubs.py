"""kill -9 while the real SDK reads from the Event Hubs stand-in, which keeps on receiving (I5)."""

from __future__ import annotations

import json
import signal
import threading
import time
from itertools import accumulate

import pytest

from alumicatalyst.testing.eventhubs import Emulator
from tests.kill.harness import BYTEWAX, LOOP, Child, Ground, make_logs
from tests.logs import Envelope

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

RUNNERS = [LOOP, BYTEWAX, "run --runner bytewax", LOOP, BYTEWAX + " -w 2"]


def as_stored(log: list[Envelope]) -> list[Envelope]:
    """The log as a hub numbers and dates it: from 0 without gaps, times that never go back."""
    times = accumulate((envelope.enqueued_us for envelope in log), max)
    return [
        Envelope(number, time_us // 1000 * 1000, envelope.body, envelope.properties)
        for number, (envelope, time_us) in enumerate(zip(log, times, strict=True))
    ]


def send(emulator: Emulator, logs: dict[int, list[Envelope]], rows: range) -> None:
    """Append a part of the logs bit by bit, as devices do."""
    for number in rows:
        for partition, log in logs.items():
            for envelope in log[number : number + 1]:
                told = {name: value for name, value in envelope.properties.items() if value is not None}
                emulator.append(
                    "telemetry", partition, [envelope.body], annotations=told, enqueued_ms=envelope.enqueued_us // 1000
                )
        time.sleep(0.005)


def test_i5_kills_while_the_sdk_reads_a_hub_that_goes_on(tmp_path, monkeypatch):
    logs = dict(enumerate(as_stored(log) for log in make_logs(600, 1_200).values()))
    rows_max = max(map(len, logs.values()))
    # Each life is sent its own part while it runs.
    part = rows_max // (len(RUNNERS) + 1)
    settings = {"source__kind": "eventhubs", "log_format": "json", "lake__flush_rows_max": 60}
    ground = Ground(tmp_path, {}, settings=settings, finite=False)
    with Emulator({"telemetry": 2}) as emulator:
        monkeypatch.setenv("EVENTHUBS_CONNECTION_STRING", emulator.connection_string("telemetry"))
        for number, runner in enumerate(RUNNERS):
            sender = threading.Thread(target=send, args=(emulator, logs, range(part * number, part * (number + 1))))
            child = ground.start(runner)
            child.wait_for("claim:", 12)
            sender.start()
            child.wait_for("commit:", 6 + number)
            ground.bury(child)
            sender.join()
        child = ground.start(LOOP)
        send(emulator, logs, range(part * len(RUNNERS), rows_max))
        drain_at(ground, child, {len(log) - 1 for log in logs.values()})
    assert all(life.committed for life in ground.lives)
    assert any(replays(life.output) for life in ground.lives[1:])
    partitions = sorted(ground.marks())
    assert [partition.split("/")[2] for partition in partitions] == ["0", "1"]
    ground.logs = dict(zip(partitions, logs.values(), strict=True))
    ground.assert_whole()
    doctor = ground.doctor()
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr


def drain_at(ground: Ground, child: Child, last: set[int]) -> None:
    """Let a child seal everything, then drain it."""
    until = time.monotonic() + 60
    while time.monotonic() < until and child.process.poll() is None and set(ground.marks().values()) != last:
        time.sleep(0.2)
    assert set(ground.marks().values()) == last
    child.process.send_signal(signal.SIGTERM)
    life = child.end()
    assert life.code == 0, life.output[-3000:]
    ground.lives.append(life)


def replays(output: str) -> bool:
    """Whether a process began before the mark, so that it read again what was stored."""
    entries = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    taken = [entry for entry in entries if entry["event"] == "partition taken"]
    return any(entry["after"] < entry["mark"] for entry in taken)

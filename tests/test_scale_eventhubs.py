"""A rolling change of the number of processes while the real SDK reads a hub that goes on receiving."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from alumicatalyst.testing.eventhubs import Emulator
from tests.kill.harness import LOOP, Ground
from tests.scale_ground import drain, logs_of, share, wait_for_commits, wait_until
from tests.test_kill_eventhubs import as_stored, send

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kill.harness import Child

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# From one process to two, to three, and back to one; each begins while those before it still run.
RUN_BYTEWAX = "run --runner bytewax"
ROUNDS = [[LOOP], [RUN_BYTEWAX, LOOP], [LOOP, RUN_BYTEWAX, LOOP], [RUN_BYTEWAX + " -w 2"]]


def test_i5_partitions_are_dealt_anew_while_the_former_processes_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = dict(enumerate(as_stored(log) for log in logs_of(820, 4, 320).values()))
    part = max(map(len, logs.values())) // len(ROUNDS) // 2 + 1
    settings = {"source__kind": "eventhubs", "log_format": "json"}
    ground = Ground(tmp_path, {}, settings=settings, finite=False)
    with Emulator({"telemetry": 4}) as emulator:
        monkeypatch.setenv("EVENTHUBS_CONNECTION_STRING", emulator.connection_string("telemetry"))
        former: list[Child] = []
        for number, runners in enumerate(ROUNDS):
            first = 2 * part * number
            sender = threading.Thread(target=send, args=(emulator, logs, range(first, first + part)))
            sender.start()
            children = [ground.start(runner, **share(at, len(runners))) for at, runner in enumerate(runners)]
            # Whoever had them is told by the hub or by the lake, whichever comes first.
            for child in former:
                life = child.end()
                assert life.code == 5, life.output[-3000:]
                assert "another" in life.output
                ground.lives.append(life)
            sender.join()
            send(emulator, logs, range(first + part, first + 2 * part))
            wait_for_commits(children, 1)
            former = children
        last = {str(partition): len(log) - 1 for partition, log in logs.items()}
        wait_until(lambda: {name.split("/")[2]: mark for name, mark in ground.marks().items()} == last, former, "marks")
        drain(ground, former)
    ground.logs = dict(zip(sorted(ground.marks()), logs.values(), strict=True))
    ground.assert_whole()
    doctor = ground.doctor()
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr

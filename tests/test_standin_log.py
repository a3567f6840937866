"""The stand-in's log on disk: it survives what happens to processes, and says so when it cannot."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

import pytest
from azure.eventhub import EventData
from hypothesis import given
from hypothesis import strategies as st

from alumicatalyst.testing.eventhubs import Emulator, LogDamaged
from alumicatalyst.testing.eventhubs.log import FIRST_OFFSET, HEADER_BYTES, RECORD_BYTES, PartitionLog
from tests.hubs import LEFT_SOCKETS, body_of, eventually, producer, receiving, sdk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = LEFT_SOCKETS
__all__ = ["sdk"]

MESSAGES = [b"a", b"bb" * 50, b"", b"d" * 700, b"e"]
COMMAND = [sys.executable, "-c", "from alumicatalyst.cli.main import main; main()", "emulator"]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def started(stack: contextlib.ExitStack, folder: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """The command in a process of its own, and its connection string."""
    running = subprocess.Popen(
        [*COMMAND, "--hub", "plant:2", "--port", "0", "--directory", str(folder), *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "python"},
    )
    stack.callback(running.wait)
    stack.callback(running.kill)
    assert running.stdout is not None
    stack.callback(running.stdout.close)
    line = next(line for line in running.stdout if "Endpoint=" in line)
    return running, line.strip()


@pytest.mark.timeout(300)
def test_kill_9_loses_no_accepted_event_and_changes_none(process: contextlib.ExitStack, tmp_path: Path) -> None:
    def look(connection: str, count: int) -> tuple[object, list[object]]:
        with producer(connection) as client, receiving(connection, partition_id="1") as (events, _):
            created = client.get_eventhub_properties()["created_at"]
            eventually(lambda: len(events) == count)
            return created, [(body_of(e), e.sequence_number, e.offset, e.enqueued_time, e.properties) for e in events]

    running, connection = started(process, tmp_path)
    event = EventData(b"\x00binary")
    event.properties = {"name": "value"}
    with producer(connection) as client:
        client.send_batch([event, EventData(b"second" * 100)], partition_id="1")
        client.send_event(EventData(b"third"), partition_id="1")
    before = look(connection, 3)
    running.send_signal(signal.SIGKILL)
    running.wait()
    running, again = started(process, tmp_path)
    assert again.split("SharedAccessKey=")[1] == connection.split("SharedAccessKey=")[1]
    assert look(again, 3) == before
    with producer(again) as client:
        client.send_event(EventData(b"fourth"), partition_id="1")
    created, events = look(again, 4)
    assert (created, events[:3]) == before
    assert events[3][1] == 3  # type: ignore[index]
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0


@pytest.mark.parametrize("cut", range(0, HEADER_BYTES + sum(RECORD_BYTES + len(each) for each in MESSAGES) + 1, 19))
def test_a_torn_tail_is_cut_at_the_last_whole_record(tmp_path: Path, cut: int) -> None:
    log = PartitionLog(tmp_path)
    for number, message in enumerate(MESSAGES):
        log.append([message], 1000 + number)
    log.close()
    [path] = tmp_path.glob("*.log")
    os.truncate(path, cut)
    ends = [HEADER_BYTES]
    for message in MESSAGES:
        ends.append(ends[-1] + RECORD_BYTES + len(message))
    kept = max(0, bisect_right(ends, cut) - 1)
    log = PartitionLog(tmp_path)
    assert log.end == kept
    assert log.read(0, 10, 10_000) == MESSAGES[:kept]
    log.append([b"after"], 2000)
    log.close()
    log = PartitionLog(tmp_path)
    assert log.read(0, 10, 10_000) == [*MESSAGES[:kept], b"after"]
    log.close()


def test_a_damaged_record_ends_the_log_and_a_damaged_old_file_is_an_error(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path, segment_bytes=100)
    for message in MESSAGES * 2:
        log.append([message], 1000)
    log.close()
    old, *_, last = sorted(tmp_path.glob("*.log"))
    content = bytearray(last.read_bytes())
    content[-1] ^= 1
    last.write_bytes(content)
    log = PartitionLog(tmp_path)
    assert log.end == 2 * len(MESSAGES) - 1
    log.close()
    content = bytearray(old.read_bytes())
    content[HEADER_BYTES + 9] ^= 1
    old.write_bytes(content)
    with pytest.raises(LogDamaged, match="damaged"):
        PartitionLog(tmp_path)
    content[0] ^= 1
    old.write_bytes(content)
    with pytest.raises(LogDamaged, match="header"):
        PartitionLog(tmp_path)
    old.unlink()
    PartitionLog(tmp_path).close()
    sorted(tmp_path.glob("*.log"))[1].unlink()
    with pytest.raises(LogDamaged, match="missing"):
        PartitionLog(tmp_path)


def test_retention_drops_the_oldest_files_and_keeps_every_number(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path, segment_bytes=300, retention_bytes=1000)
    offsets = []
    for number in range(40):
        offsets.append(log.end_offset)
        log.append([b"%03d" % number * 20], number)
    assert 0 < log.begin < 40
    assert sum(path.stat().st_size for path in tmp_path.glob("*.log")) < 1500
    assert log.read(log.begin - 1, 5, 1000) == []
    assert log.read(log.begin, 1, 1000) == [b"%03d" % log.begin * 20]
    assert log.find_offset(0, inclusive=True) == log.begin
    assert log.find_offset(offsets[35], inclusive=True) == 35
    begin = log.begin
    log.close()
    log = PartitionLog(tmp_path)
    assert (log.begin, log.end, log.last()) == (begin, 40, (offsets[39], 39))
    log.expire(40)
    assert (log.begin, log.end) == (40, 40)
    log.close()
    log = PartitionLog(tmp_path)
    assert (log.begin, log.end) == (40, 40)
    log.append([b"next"], 50)
    assert log.read(40, 1, 10) == [b"next"]
    log.close()


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=30),
    st.integers(50, 400),
    st.integers(-1, 130),
    st.booleans(),
)
def test_finds_positions_as_a_plain_search_does(
    appends: list[tuple[int, int]], segment_bytes: int, wanted: int, inclusive: bool
) -> None:
    log = PartitionLog(None, segment_bytes=segment_bytes)
    offsets, times, time, messages = [], [], 0, []
    for length, step in appends:
        time += step
        offsets.append(log.end_offset)
        times.append(time)
        messages.append(bytes(length))
        log.append([messages[-1]], time)
    find = bisect_left if inclusive else bisect_right
    assert log.find_time(wanted, inclusive=inclusive) == find(times, wanted)
    for offset in {FIRST_OFFSET + wanted * 7, *offsets}:
        assert log.find_offset(offset, inclusive=inclusive) == find(offsets, offset)
    read: list[bytes] = []
    while len(read) < len(messages):
        part = log.read(len(read), 3, 60)
        assert 1 <= len(part) <= 3
        read += part
    assert read == messages
    log.close()


def test_a_directory_serves_one_emulator_and_the_hubs_that_it_was_made_for(tmp_path: Path) -> None:
    with Emulator({"plant": 2}, tmp_path) as emulator:
        emulator.append("plant", 1, [b"kept"])
        with pytest.raises(ValueError, match="another emulator is running"):
            Emulator({"plant": 2}, tmp_path).start()
    with pytest.raises(ValueError, match="holds plant:2"):
        Emulator({"plant": 3}, tmp_path).start()
    with Emulator({"plant": 2}, tmp_path) as emulator:
        assert emulator.held("plant", 1) == range(1)
    (tmp_path / "plant" / "hub.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        Emulator({"plant": 2}, tmp_path).start()


@pytest.mark.parametrize("hubs", [{"": 1}, {"../up": 1}, {"plant": 0}, {"plant": 2000}, {"plant": 1, "PLANT": 1}])
def test_refuses_hubs_that_cannot_be(hubs: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="couldn't make hub"):
        Emulator(hubs).start()


def test_stopping_twice_and_starting_again_on_the_same_port_is_allowed(tmp_path: Path) -> None:
    emulator = Emulator({"plant": 1}, tmp_path)
    emulator.start()
    port = emulator.port
    emulator.append("plant", 0, [b"first"])
    emulator.stop()
    emulator.stop()
    emulator.start()
    assert (emulator.port, emulator.held("plant", 0)) == (port, range(1))
    emulator.stop()
    with pytest.raises(RuntimeError, match="not running"):
        emulator.cut()


def test_a_full_disk_refuses_the_batch_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PartitionLog(tmp_path)
    log.append([b"kept"], 1)
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        log.append([b"lost"], 2)
    monkeypatch.undo()
    log.append([b"next"], 3)
    assert log.read(0, 5, 100) == [b"kept", b"next"]
    log.close()

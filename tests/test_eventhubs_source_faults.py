"""The Event Hubs source when things fail: nothing lost, nothing twice, never a hang, never a secret."""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst.errors import ClaimLost, IncarnationChanged, LogExpired, SourceError
from alumicatalyst.sources import eventhubs, eventhubs_reader, eventhubs_sdk
from alumicatalyst.sources.eventhubs import EventHubsSource
from alumicatalyst.sources.eventhubs_errors import condition_of, is_fatal, is_transport
from alumicatalyst.sources.eventhubs_reader import EventHubsReader
from alumicatalyst.sources.eventhubs_sdk import PREFETCH
from alumicatalyst.testing.eventhubs import Emulator
from tests.hubs import LEFT_SOCKETS, eventually, reading, rows, sdk
from tests.parts.ports import held_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from alumicatalyst.sources import Reader

pytestmark = LEFT_SOCKETS
__all__ = ["sdk"]

KEY = "a-secret-key"


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator({"plant": 1}, key=KEY) as running:
        yield running


def source_of(emulator: Emulator, **options: Any) -> EventHubsSource:
    return EventHubsSource(emulator.connection_string("plant"), **options)


def failure(reader: Reader, kind: type[Exception]) -> str:
    """Take until it fails; how it failed."""

    def fails() -> str:
        try:
            reader.take()
        except kind as error:
            return str(error)
        return ""

    text: str = eventually(fails)
    with pytest.raises(kind):  # and it stays so
        reader.take()
    assert KEY not in text
    return text


def test_i5_cuts_in_mid_stream_lose_nothing_and_repeat_nothing(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    count, received = 12_000, list[int]()
    source = source_of(emulator, batch_envelopes_max=500)

    def feed() -> None:
        for start in range(0, count, 200):
            emulator.append("plant", 0, [b"%d" % number for number in range(start, start + 200)])
            time.sleep(0.01)

    feeding = threading.Thread(target=feed)
    feeding.start()
    with reading(source, source.partitions()[0]) as reader:
        for goal in (1500, 4000, 8000, count):
            while len(received) < goal:
                received += [int(row["body"]) for row in rows(reader, 1)]
            if goal < count:
                # What was queued may reach the goal before it has connected again.
                eventually(emulator.cut)
    feeding.join()
    assert received == list(range(count))
    assert "trying again" in caplog.text
    assert KEY not in caplog.text


def test_i5_a_server_that_stops_and_comes_back_is_waited_for(tmp_path: Path) -> None:
    emulator = Emulator({"plant": 1}, tmp_path, key=KEY)
    emulator.start()
    emulator.append("plant", 0, [b"0", b"1"])
    source = source_of(emulator)
    with reading(source, source.partitions()[0]) as reader:
        assert len(rows(reader, 2)) == 2
        emulator.stop()
        eventually(lambda: (batch := reader.take()) is not None and batch.num_rows == 0)
        emulator.start()
        emulator.append("plant", 0, [b"2"])
        assert [row["sequence_number"] for row in rows(reader, 1)] == [2]
    emulator.stop()


def test_latest_is_a_place_that_does_not_move_with_reconnections(emulator: Emulator) -> None:
    source = source_of(emulator, start="latest")
    with reading(source, source.partitions()[0]) as reader:
        eventually(lambda: emulator.readers("plant", 0))
        emulator.cut()
        emulator.append("plant", 0, [b"sent while the connection was down"])
        assert [row["sequence_number"] for row in rows(reader, 1)] == [0]


def test_a_higher_owner_level_takes_the_partition_and_a_lower_one_is_refused(emulator: Emulator) -> None:
    source = source_of(emulator)
    partition = source.partitions()[0]
    with reading(source, partition, owner_level=1) as first:
        eventually(lambda: emulator.readers("plant", 0))
        with reading(source, partition, owner_level=2) as second:
            assert "another reader took it" in failure(first, ClaimLost)
            emulator.append("plant", 0, [b"{}"])
            assert len(rows(second, 1)) == 1
            with reading(source, partition, owner_level=1) as lower:
                failure(lower, ClaimLost)
            emulator.append("plant", 0, [b"{}"])
            assert len(rows(second, 1)) == 1


def test_a_wrong_key_is_an_error_at_once_and_never_shown(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "alumicatalyst")
    partition = source_of(emulator).partitions()[0]
    wrong = EventHubsSource(emulator.connection_string("plant").replace(KEY, "wrong-secret"))
    with pytest.raises(SourceError, match="401") as caught:
        wrong.partitions()
    assert "asking again" not in caplog.text
    with reading(wrong, partition) as reader:
        text = failure(reader, SourceError)
    shown = str(caught.value) + text + caplog.text + repr(vars(wrong._hub))
    assert "wrong-secret" not in shown
    assert caught.value.__cause__ is None


def test_a_hub_or_group_that_is_not_there_is_an_error_at_once(emulator: Emulator) -> None:
    partition = source_of(emulator).partitions()[0]
    missing = EventHubsSource(emulator.connection_string("plant").replace("EntityPath=plant", "EntityPath=nowhere"))
    with pytest.raises(SourceError, match="couldn't ask hub nowhere"):
        missing.partitions()
    with reading(source_of(emulator, consumer_group="nobody"), partition) as reader:
        assert "could not be found" in failure(reader, SourceError)
    with reading(source_of(emulator), partition[:-1] + "7") as reader:
        assert "couldn't read" in failure(reader, SourceError)


def test_nobody_listening_is_a_clear_error_for_questions_and_waited_for_by_readers(emulator: Emulator) -> None:
    partition = source_of(emulator).partitions()[0]
    with held_port() as port:
        nowhere = EventHubsSource(emulator.connection_string("plant").replace(str(emulator.port), str(port)))
        with pytest.raises(SourceError, match="check the connection string, hub and network"):
            nowhere.partitions()
        with reading(nowhere, partition) as reader:
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                reader.take()
                time.sleep(0.01)
            assert reader.lag() is None


def test_a_hub_made_anew_is_refused_until_it_is_named(emulator: Emulator) -> None:
    emulator.append("plant", 0, [b"0"])
    source = source_of(emulator)
    with reading(source, source.partitions()[0]) as reader:
        rows(reader, 1)
        port = emulator.port
        emulator.stop()
        with Emulator({"plant": 1}, port=port, key=KEY) as another:
            another.append("plant", 0, [b"0", b"1"])
            assert "made anew" in failure(reader, IncarnationChanged)


def test_events_that_expired_meanwhile_are_an_error_not_a_gap(emulator: Emulator) -> None:
    source = source_of(emulator)
    partition = source.partitions()[0]
    emulator.append("plant", 0, [b"%d" % number for number in range(10)])
    emulator.expire("plant", 0, 6)
    with reading(source, partition, after=2) as reader:
        assert "3 to 5 have expired" in failure(reader, LogExpired)
    with reading(source, partition, after=5) as reader:
        assert [row["sequence_number"] for row in rows(reader, 4)] == [6, 7, 8, 9]
    with reading(source, partition) as reader:  # from the earliest, whatever that is
        assert [row["sequence_number"] for row in rows(reader, 4)] == [6, 7, 8, 9]


def test_a_log_that_ends_before_what_was_read_is_an_error(emulator: Emulator) -> None:
    source = source_of(emulator)
    emulator.append("plant", 0, [b"0", b"1"])
    with reading(source, source.partitions()[0], after=5) as reader:
        assert "its log ends at 1, but 5 was read" in failure(reader, SourceError)


def test_i6_a_flow_that_does_not_take_holds_a_bounded_number_of_bytes(emulator: Emulator) -> None:
    body = b"x" * 50_000
    for _ in range(50):
        emulator.append("plant", 0, [body] * 40)  # 100 MB
    source = source_of(emulator, batch_bytes_max=1_000_000, queue_batches_max=3)
    with reading(source, source.partitions()[0]) as reader:
        eventually(lambda: reader.queued == 3)
        time.sleep(0.5)
        assert reader.queued == 3
        assert sum(batch.bytes for batch in reader._inbox._batches) <= 3_000_000
        assert reader._last < 61  # no more than is queued has come through the SDK, which keeps nothing itself
        assert len(rows(reader, 2000)) == 2000


@pytest.mark.parametrize("full", [True, False])
def test_closes_blocked_or_idle(emulator: Emulator, full: bool) -> None:
    emulator.append("plant", 0, [b"x"] * 1000)
    source = source_of(emulator, batch_envelopes_max=10, queue_batches_max=2) if full else source_of(emulator)
    reader = source.open(source.partitions()[0], -1, 1)
    eventually(lambda: reader.queued)
    if full:
        eventually(lambda: reader.queued == 2)
    reader.close()
    # It waits for two seconds, which are enough unless the machine is very busy.
    eventually(lambda: not reader._thread.is_alive(), 20)
    eventually(lambda: emulator.readers("plant", 0) == 0)
    reader.close()


def test_closes_while_a_trickle_keeps_the_link_busy(emulator: Emulator) -> None:
    source = source_of(emulator)
    reader = source.open(source.partitions()[0], -1, 1)
    eventually(lambda: emulator.readers("plant", 0))
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.02):
            emulator.append("plant", 0, [b"{}"])

    feeding = threading.Thread(target=trickle)
    feeding.start()
    try:
        assert len(rows(reader, 60)) >= 60
        began = time.monotonic()
        reader.close()
        # A round of as many frames as one may have would take ten seconds.
        eventually(lambda: not reader._thread.is_alive(), 8 - (time.monotonic() - began))
    finally:
        stop.set()
        feeding.join()


def test_the_credit_is_renewed_for_ever(emulator: Emulator) -> None:
    source = source_of(emulator)
    count = 2 * PREFETCH + 700
    with reading(source, source.partitions()[0]) as reader:
        eventually(lambda: emulator.readers("plant", 0))
        emulator.append("plant", 0, [b"{}"] * count)
        assert len(rows(reader, count)) == count


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    partition = source_of(emulator).partitions()[0]
    monkeypatch.setattr(eventhubs_sdk, "ANSWER_S", 0.3)
    monkeypatch.setattr(eventhubs, "_TRIES", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        source = EventHubsSource(emulator.connection_string("plant").replace(str(emulator.port), str(port)))
        with pytest.raises(SourceError, match="did not answer within"):
            source.partitions()
        caplog.clear()
        monkeypatch.setattr(EventHubsReader, "_check", lambda *_, **__: "-1")
        with reading(source, partition):
            eventually(lambda: "did not answer within" in caplog.text)


def test_a_connection_that_died_without_a_word_is_replaced(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(eventhubs_sdk, "IDLE_S", 1)  # the stand-in sends its heartbeats later than that
    source = source_of(emulator)
    with reading(source, source.partitions()[0]) as reader:
        eventually(lambda: "trying again" in caplog.text)
        emulator.append("plant", 0, [b"{}"])
        assert len(rows(reader, 1)) == 1


def test_i9_an_event_that_the_sdk_cannot_read_is_an_error_not_a_loop(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventhubs_reader, "_WAIT_S", 0.01)
    emulator.append("plant", 0, [b"fine"])
    partition = emulator._partition("plant", 0)
    # An application property of type char, which AMQP knows and the SDK does not.
    poison = b"\x00\x53\x74\xc1\x09\x02\xa1\x01k\x73\x00\x00\x00a\x00\x53\x75\xa0\x01x"
    emulator._call(lambda: emulator._namespace.ingest(emulator._namespace.hub("plant"), partition, poison, batch=False))
    source = source_of(emulator)
    with reading(source, source.partitions()[0]) as reader:
        assert "couldn't decode what follows sequence number 0" in failure(reader, SourceError)


def test_i9_an_event_without_its_coordinates_is_an_error(emulator: Emulator) -> None:
    partition = emulator._partition("plant", 0)
    raw = b"\x00\x53\x75\xa0\x01x"
    emulator._call(lambda: partition.log.append([raw], 1000))
    source = source_of(emulator)
    with reading(source, source.partitions()[0]) as reader:
        assert "couldn't understand the event after" in failure(reader, SourceError)


def test_an_unsupported_sdk_is_named(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.eventhub import EventHubConsumerClient

    source = source_of(emulator)
    partition = source.partitions()[0]
    monkeypatch.delattr(EventHubConsumerClient, "_create_consumer")
    with reading(source, partition) as reader:
        assert "install azure-eventhub 5.15" in failure(reader, SourceError)


def test_errors_are_told_apart() -> None:
    from azure.eventhub._pyamqp.error import (
        AMQPConnectionError,
        AMQPLinkError,
        ErrorCondition,
        TokenAuthFailure,
        TokenExpired,
    )
    from azure.eventhub.exceptions import AuthenticationError, ConnectError, EventHubError

    busy = AMQPLinkError(b"com.microsoft:server-busy", description="busy")
    stolen = AMQPLinkError(ErrorCondition.LinkStolen, description="stolen")
    assert [condition_of(each) for each in (busy, stolen)] == ["server-busy", "link:stolen"]
    assert [is_fatal(each) for each in (busy, stolen)] == [False, True]
    assert is_fatal(TokenAuthFailure(401, b"no"))
    assert not is_fatal(TokenAuthFailure(500, b"later"))
    expired = TokenExpired(ErrorCondition.InternalError, description="expired")
    assert not is_fatal(expired)
    assert not is_fatal(AuthenticationError("expired", expired))  # type: ignore[arg-type]
    assert is_transport(AMQPConnectionError(ErrorCondition.SocketError, description="cut"))
    assert is_transport(ConnectError("no"))
    assert not is_transport(EventHubError("unknown"))
    assert not is_transport(ValueError("what is this"))

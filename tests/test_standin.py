"""The Event Hubs stand-in, seen by the real azure-eventhub SDK."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from azure.eventhub import EventData, TransportType
from azure.eventhub.exceptions import AuthenticationError, ConnectError, EventHubError

from alumicatalyst.testing.eventhubs import Emulator
from tests.hubs import (
    LEFT_SOCKETS,
    body_of,
    certificates,
    consumer,
    eventually,
    producer,
    receiving,
    sdk,
    send,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = LEFT_SOCKETS
__all__ = ["sdk"]

KEY = "a/key+with=odd characters"


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    hubs = {"plant": 4, "sent": 4, "positions": 1, "stolen": 1, "keyed": 8}
    with Emulator(hubs, key=KEY, groups=["second"]) as running:
        yield running


def test_sends_by_partition_by_key_in_turn_singly_and_in_batches(emulator: Emulator) -> None:
    connection = emulator.connection_string("sent")
    with producer(connection) as client:
        client.send_batch([EventData(b"to 2")] * 3, partition_id="2")
        client.send_event(EventData("single"), partition_id="3")
        assert [emulator.held("sent", each).stop for each in range(4)] == [0, 0, 3, 1]
        for _ in range(4):
            client.send_batch([EventData(b"in turn")])
        assert [emulator.held("sent", each).stop for each in range(4)] == [1, 1, 4, 2]
        hub = client.get_eventhub_properties()
        partition = client.get_partition_properties("2")
    assert (partition["beginning_sequence_number"], partition["last_enqueued_sequence_number"]) == (0, 3)
    assert not partition["is_empty"]
    assert hub["eventhub_name"] == "sent"
    assert hub["partition_ids"] == ["0", "1", "2", "3"]
    now = dt.datetime.now(dt.UTC)
    assert now - dt.timedelta(minutes=5) < hub["created_at"] <= now


def test_a_key_always_leads_to_the_same_partition(emulator: Emulator) -> None:
    connection = emulator.connection_string("keyed")
    with producer(connection) as client:
        for _ in range(2):
            for key in ("pot-001", "pot-002", "pot-003"):
                client.send_batch([EventData(key.encode())], partition_key=key)
    with receiving(connection) as (events, _):
        eventually(lambda: len(events) == 6)
    for event in events:
        assert event.partition_key == body_of(event)
    places = {(body_of(event), event.sequence_number, event.offset) for event in events}
    assert len(places) == 6
    numbers: dict[bytes, list[int]] = {}
    for event in events:
        numbers.setdefault(body_of(event), []).append(event.sequence_number)
    assert all(each == sorted(each) for each in numbers.values())


def test_receives_from_every_position(emulator: Emulator) -> None:
    connection = emulator.connection_string("positions")
    for number in range(6):
        emulator.append("positions", 0, [b"%d" % number], enqueued_ms=1_000_000 + 1000 * (number // 2))
    with receiving(connection) as (events, _):
        eventually(lambda: len(events) == 6)
    offset = events[2].offset
    time = dt.datetime.fromtimestamp(1001, dt.UTC)
    assert [event.enqueued_time.timestamp() for event in events] == [1000, 1000, 1001, 1001, 1002, 1002]
    assert all(event.offset != str(event.sequence_number) for event in events)
    wanted = [
        ("-1", False, 0), (offset, False, 3), (offset, True, 2), (2, False, 3), (2, True, 2), (5, False, 6),
        (time, False, 4), (time, True, 2), (time + dt.timedelta(hours=1), False, 6), ("@latest", False, 6),
    ]  # fmt: skip
    groups = ["$Default", "second"]
    with ExitStack() as stack:
        runs = [
            stack.enter_context(
                receiving(connection, groups[index // 5], starting_position=at, starting_position_inclusive=inclusive)
            )[0]
            for index, (at, inclusive, _) in enumerate(wanted)
        ]
        expected = [[b"%d" % number for number in range(first, 6)] for *_, first in wanted]
        eventually(lambda: [[body_of(event) for event in run] for run in runs] == expected)
        # Those at the end, too, have their place: what comes next reaches all of them.
        eventually(lambda: emulator.readers("positions", 0) == len(wanted))
        emulator.append("positions", 0, [b"next"])
        eventually(lambda: all(run and body_of(run[-1]) == b"next" for run in runs))


def test_keeps_bytes_properties_and_sections_in_events_of_several_frames(emulator: Emulator) -> None:
    connection = emulator.connection_string("plant")
    big = bytes(range(256)) * 3600
    event = EventData([big[:70_000], big[70_000:]])
    event.properties = {"text": "äöü", "number": 2**30, "flag": True, "half": 0.5}
    event.content_type = "application/json"
    event.correlation_id = "same"
    with receiving(
        connection, partition_id="1", starting_position="@latest", track_last_enqueued_event_properties=True
    ) as (
        events,
        _,
    ):
        with producer(connection) as client:
            eventually(lambda: emulator.readers("plant", 1))
            client.send_event(event, partition_id="1")
            client.send_batch([EventData("small")], partition_id="1")
        eventually(lambda: len(events) == 2)
    received = events[0]
    assert body_of(received) == big
    assert len(list(received.body)) == 2
    assert received.properties == {b"text": "äöü".encode(), b"number": 2**30, b"flag": True, b"half": 0.5}
    assert (received.content_type, received.correlation_id) == ("application/json", "same")
    newest = events[1].raw_amqp_message.delivery_annotations
    assert newest[b"last_enqueued_sequence_number"] == events[1].sequence_number


def test_refuses_what_is_too_large_and_goes_on(emulator: Emulator) -> None:
    with producer(emulator.connection_string("plant"), retry_total=0) as client:
        with pytest.raises(EventHubError):
            client.send_event(EventData(b"x" * (1 << 21)), partition_id="0")
        client.send_event(EventData(b"x" * 1_000_000), partition_id="0")


def test_the_higher_owner_level_takes_the_partition(emulator: Emulator) -> None:
    connection = emulator.connection_string("stolen")
    with receiving(connection, partition_id="0", owner_level=1) as (_, first):
        eventually(lambda: emulator.readers("stolen", 0) == 1)
        with receiving(connection, partition_id="0", owner_level=2) as (events, second):
            eventually(lambda: first)
            emulator.append("stolen", 0, [b"for the second"])
            eventually(lambda: events)
            with receiving(connection, partition_id="0", owner_level=1) as (_, lower):
                eventually(lambda: lower)
            with receiving(connection, partition_id="0") as (_, without):
                eventually(lambda: without)
            assert second == []
    assert all("stolen" in str(errors[0]) for errors in (first, lower, without))


@pytest.mark.parametrize(
    ("hub", "group", "partition", "text"),
    [("nowhere", "$Default", "0", "Status code: 404"), ("plant", "nobody", "0", "could not be found")],
)
def test_names_what_is_not_there(hub: str, group: str, partition: str, text: str) -> None:
    with Emulator({"plant": 1}) as emulator:
        with receiving(emulator.connection_string(hub), group, partition_id=partition) as (_, errors):
            eventually(lambda: errors)
        assert text in str(errors[0])


def test_answers_a_question_about_a_partition_that_is_not_there(emulator: Emulator) -> None:
    with consumer(emulator.connection_string("plant")) as client, pytest.raises(ConnectError, match="400"):
        client.get_partition_properties("9")


def test_refuses_a_wrong_key_for_reading_sending_and_asking(emulator: Emulator) -> None:
    wrong = emulator.connection_string("plant").replace(KEY, "another key")
    with consumer(wrong) as client, pytest.raises(AuthenticationError, match="401"):
        client.get_eventhub_properties()
    with producer(wrong, retry_total=0) as sender, pytest.raises(AuthenticationError, match="401"):
        sender.send_event(EventData("no"), partition_id="0")


def test_a_token_for_one_hub_does_not_open_another(emulator: Emulator) -> None:
    from azure.core.credentials import AzureSasCredential
    from azure.eventhub import EventHubConsumerClient
    from azure.eventhub._pyamqp.utils import generate_sas_token

    def ask(audience: str, expiry: int) -> object:
        token = generate_sas_token(audience, "RootManageSharedAccessKey", KEY, expiry)
        with EventHubConsumerClient(
            f"127.0.0.1:{emulator.port}", "plant", "$Default", AzureSasCredential(token), use_tls=False, retry_total=0,
            retry_backoff_factor=0.01,
        ) as client:  # fmt: skip
            return client.get_eventhub_properties()

    later = int(dt.datetime.now(dt.UTC).timestamp()) + 600
    assert ask("sb://127.0.0.1/plant", later)
    assert ask("sb://127.0.0.1/", later)
    with pytest.raises(AuthenticationError):
        ask("sb://127.0.0.1/keyed", later)
    with pytest.raises((AuthenticationError, EventHubError)):
        ask("sb://127.0.0.1/plant", later - 1200)


def test_speaks_tls(tmp_path: Path) -> None:
    context, ca_file = certificates(tmp_path)
    with Emulator({"plant": 1}, tls=context, key=KEY) as emulator:
        address = f"sb://127.0.0.1:{emulator.port}"
        options: dict[str, Any] = {"transport_type": TransportType.Amqp, "custom_endpoint_address": address}
        with producer(emulator.connection_string("plant"), connection_verify=ca_file, **options) as client:
            client.send_event(EventData("sealed"), partition_id="0")
        with (
            consumer(emulator.connection_string("plant"), **options) as other,
            pytest.raises(EventHubError, match="verify"),
        ):
            other.get_eventhub_properties()


def test_serves_the_asynchronous_client_too(emulator: Emulator) -> None:
    from azure.eventhub.aio import EventHubConsumerClient, EventHubProducerClient

    connection = emulator.connection_string("plant")

    async def both() -> bytes:
        received: asyncio.Queue[bytes] = asyncio.Queue()

        async def keep(_context: Any, event: Any) -> None:
            await received.put(body_of(event))

        client = EventHubConsumerClient.from_connection_string(connection, "second")
        task = asyncio.create_task(client.receive(keep, partition_id="3", starting_position="@latest"))
        await asyncio.to_thread(eventually, lambda: emulator.readers("plant", 3))
        async with EventHubProducerClient.from_connection_string(connection) as sender:
            await sender.send_batch([EventData("hello")], partition_id="3")
        body = await asyncio.wait_for(received.get(), 60)
        await client.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return body

    assert asyncio.run(both()) == b"hello"


def test_a_sender_survives_a_cut(emulator: Emulator) -> None:
    with producer(emulator.connection_string("plant")) as client:
        client.send_event(EventData("before"), partition_id="2")
        assert emulator.cut() >= 1
        client.send_event(EventData("after"), partition_id="2")


def test_refuses_more_connections_than_it_may_have(caplog: pytest.LogCaptureFixture) -> None:
    with Emulator({"plant": 1}, connections_max=1) as emulator:
        connection = emulator.connection_string("plant")
        with producer(connection) as client:
            client.send_event(EventData("only"), partition_id="0")
            with producer(connection, retry_total=0) as other, pytest.raises(EventHubError):
                other.send_event(EventData("one too many"), partition_id="0")
    assert "refused a connection" in caplog.text


def test_an_event_sent_by_the_sdk_and_one_appended_are_the_same(emulator: Emulator) -> None:
    with Emulator({"plant": 2}) as local:
        connection = local.connection_string("plant")
        send(connection, [b"body"], "0", {"name": "value"})
        local.append("plant", 1, [b"body"], properties={"name": "value"})
        with receiving(connection) as (events, _):
            eventually(lambda: len(events) == 2)
    assert [body_of(event) for event in events] == [b"body"] * 2
    assert events[0].properties == events[1].properties == {b"name": b"value"}

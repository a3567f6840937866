"""The Event Hubs source through the real SDK: what it delivers, and from where."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.eventhub import EventData
from azure.eventhub.amqp import AmqpAnnotatedMessage

from alumicatalyst import metrics
from alumicatalyst.errors import IncarnationChanged, SettingsError, SourceError
from alumicatalyst.sources import AS_SET, partition_id, split_partition_id
from alumicatalyst.sources.envelope import SCHEMA
from alumicatalyst.sources.eventhubs import EventHubsSource
from alumicatalyst.testing.eventhubs import Emulator
from tests.hubs import LEFT_SOCKETS, certificates, eventually, producer, reading, rows, sdk, send

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = LEFT_SOCKETS
__all__ = ["sdk"]

KEY = "a-secret-key"


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    hubs = {"plant": 12, "positions": 1, "rich": 1, "idle": 1, "lag": 1, "values": 1, "limits": 1, "trickle": 1}
    with Emulator(hubs, key=KEY, groups=[f"group-{number}" for number in range(8)]) as running:
        yield running


def source_of(emulator: Emulator, hub: str, **options: Any) -> EventHubsSource:
    return EventHubsSource(emulator.connection_string(hub), **options)


def test_names_partitions_by_source_creation_time_and_id(emulator: Emulator) -> None:
    source = source_of(emulator, "plant", name="telemetry")
    names = source.partitions()
    parts = [split_partition_id(name) for name in names]
    assert [number for *_, number in parts] == [str(number) for number in range(12)]
    [incarnation] = {incarnation for _, incarnation, _ in parts}
    assert {name for name, *_ in parts} == {"telemetry"}
    assert abs(int(incarnation) - time.time() * 1000) < 600_000
    assert source.partitions() == names


def test_first_sequence_tells_nothing_sent_from_held_from_expired(emulator: Emulator) -> None:
    with Emulator({"plant": 3}) as local:
        local.append("plant", 1, [b"1", b"2"])
        local.append("plant", 2, [b"1", b"2", b"3"])
        local.expire("plant", 2, 3)
        source = source_of(local, "plant")
        assert [source.first_sequence(name) for name in source.partitions()] == [None, 0, 3]


def test_delivers_what_was_sent_once_in_order_with_its_coordinates(emulator: Emulator) -> None:
    connection = emulator.connection_string("plant")
    bodies = [b'{"n": %d}' % number for number in range(50)] + [bytes(range(256)) * 3000]
    before = datetime.now(UTC)
    send(connection, bodies, "3", {"ignored": "property"})
    source = source_of(emulator, "plant")
    with reading(source, source.partitions()[3]) as reader:
        found = rows(reader, len(bodies))
        assert not reader.finished
    assert [row["body"] for row in found] == bodies
    assert [row["sequence_number"] for row in found] == list(range(len(bodies)))
    assert len({row["offset"] for row in found}) == len(bodies)
    assert {row["properties"] for row in found} == {None}
    for row in found:
        assert before - timedelta(seconds=1) < row["enqueued_time"] <= datetime.now(UTC)


def test_begins_behind_a_sequence_number_or_where_the_settings_say(emulator: Emulator) -> None:
    for number in range(6):
        emulator.append("positions", 0, [b"%d" % number], enqueued_ms=1_700_000_000_000 + 500 * number)
    middle = datetime.fromtimestamp(1_700_000_001.5, UTC).isoformat()
    cases: list[tuple[str, int, bytes]] = [
        ("earliest", AS_SET, b"012345"), ("earliest", 3, b"45"), ("latest", 1, b"2345"), (middle, AS_SET, b"345"),
        ("latest", AS_SET, b""), ("2999-01-01T00:00:00Z", AS_SET, b""), ("earliest", 5, b""), ("latest", -1, b"012345"),
    ]  # fmt: skip
    readers = []
    for index, (start, after, _) in enumerate(cases):
        source = source_of(emulator, "positions", start=start, consumer_group=f"group-{index}")
        readers.append(source.open(source.partitions()[0], after, 1))
    for reader, (*_, expected) in zip(readers, cases, strict=True):
        assert b"".join(row["body"] for row in rows(reader, len(expected))) == expected
    eventually(lambda: emulator.readers("positions", 0) == len(cases))
    emulator.append("positions", 0, [b"next"], enqueued_ms=1_700_000_100_000)
    for reader, (start, *_) in zip(readers, cases, strict=True):
        if not start.startswith("2999"):
            assert [row["body"] for row in rows(reader, 1)] == [b"next"]
        reader.close()


def test_wanted_properties_come_as_text_and_the_services_own_win(emulator: Emulator) -> None:
    wanted = ["iothub-connection-device-id", "number", "flag", "raw", "content-type", "message-id", "absent", "list"]
    emulator.append(
        "rich", 0, [b"{}"],
        properties={"iothub-connection-device-id": "forged", "number": 7, "flag": True, "raw": b"\xc3\xa4",
                    "list": [1, b"x"]},
        annotations={"iothub-connection-device-id": "pot-001"},
    )  # fmt: skip
    emulator.append("rich", 0, [b"{}"])
    with producer(emulator.connection_string("rich")) as client:
        event = EventData(b"{}")
        event.content_type, event.message_id = "application/json", "m-1"
        event.properties = {"number": 2.5}
        client.send_event(event, partition_id="0")
    source = source_of(emulator, "rich", properties=wanted)
    with reading(source, source.partitions()[0]) as reader:
        found = [dict(row["properties"]) for row in rows(reader, 3)]
    assert found == [
        {"iothub-connection-device-id": "pot-001", "number": "7", "flag": "true", "raw": "ä", "list": '[1, "x"]'},
        {},
        {"number": "2.5", "content-type": "application/json", "message-id": "m-1"},
    ]


def test_bodies_of_several_sections_are_joined_and_values_become_json(emulator: Emulator) -> None:
    bodies: list[Any] = [
        EventData([b"[1", b",2]"]), EventData(b""), AmqpAnnotatedMessage(value_body="text"),
        AmqpAnnotatedMessage(value_body={"n": 1, "list": [True, None, b"bytes"]}),
        AmqpAnnotatedMessage(value_body=b"raw"), AmqpAnnotatedMessage(sequence_body=[[1, 2], [b"x"]]),
    ]  # fmt: skip
    with producer(emulator.connection_string("values")) as client:
        client.send_batch(bodies, partition_id="0")
    source = source_of(emulator, "values")
    with reading(source, source.partitions()[0]) as reader:
        found = [row["body"] for row in rows(reader, len(bodies))]
    assert found == [
        b"[1,2]", b"", b"text", b'{"n": 1, "list": [true, null, "bytes"]}', b"raw", b'[[1, 2], ["x"]]',
    ]  # fmt: skip


def test_an_idle_partition_gives_an_empty_batch_about_once_a_second(emulator: Emulator) -> None:
    source = source_of(emulator, "idle")
    with reading(source, source.partitions()[0]) as reader:
        # The reader's clock is read within `take`, so that a pause of this process lies on the right side of a beat.
        beats, begun = 0, time.monotonic()
        last = begun
        while beats < 4:
            before = time.monotonic()
            batch = reader.take()
            after = time.monotonic()
            if batch is None:
                assert before - last < 1.0, "a beat is due"
                time.sleep(0.01)
                continue
            assert batch.num_rows == 0
            assert batch.schema.equals(SCHEMA)
            # The first is counted from some time before `last`.
            assert beats == 0 or after - begun >= 1.0, "a beat came too soon"
            beats, begun, last = beats + 1, before, after


def test_a_steady_trickle_is_delivered_at_once(emulator: Emulator) -> None:
    # The SDK's own loop would hold these back until 3000 have come.
    source = source_of(emulator, "trickle")
    with reading(source, source.partitions()[0]) as reader:
        eventually(lambda: emulator.readers("trickle", 0))
        delays = []
        for _ in range(50):
            sent = time.monotonic()
            emulator.append("trickle", 0, [b"{}"])
            rows(reader, 1)
            delays.append(time.monotonic() - sent)
            time.sleep(0.02)
    # The median: on a busy machine some of them wait for their turn.
    assert sorted(delays)[25] < 0.5


def test_batches_are_bounded_by_envelopes_and_by_bytes(emulator: Emulator) -> None:
    emulator.append("limits", 0, [b"x" * 100] * 25 + [b"y" * 5000] + [b"z" * 900] * 4)
    source = source_of(emulator, "limits", batch_envelopes_max=10, batch_bytes_max=2000, queue_batches_max=8)
    with reading(source, source.partitions()[0]) as reader:
        # The sixth batch is there before it is full.
        eventually(lambda: reader._last == 29)
        assert reader.queued == 6
        sizes = [reader.take().num_rows for _ in range(6)]  # type: ignore[union-attr]
    assert sizes == [10, 10, 5, 1, 2, 2]


def test_lag_counts_what_is_not_yet_taken_and_the_gauges_show_it(emulator: Emulator) -> None:
    for number in range(30):
        emulator.append("lag", 0, [b"{}"], enqueued_ms=1_700_000_000_000 + 1000 * number)
    source = source_of(emulator, "lag", batch_envelopes_max=10)
    partition = source.partitions()[0]
    with reading(source, partition) as reader:
        eventually(lambda: reader.queued == 3)
        assert reader.lag() == (30, 0.0)
        assert reader.take().num_rows == 10  # type: ignore[union-attr]
        assert reader.lag() == (20, 20.0)
        assert metrics.SOURCE_LAG_ENVELOPES.labels(partition)._value.get() == 20
        assert metrics.SOURCE_LAG_SECONDS.labels(partition)._value.get() == 20
        assert metrics.SOURCE_QUEUE_BATCHES.labels(partition)._value.get() == 2
        rows(reader, 20)
        assert reader.lag() == (0, 0.0)
    shown = [sample.labels for each in metrics.SOURCE_LAG_ENVELOPES.collect() for sample in each.samples]
    assert {"partition": partition} not in shown


def test_reads_over_tls_with_a_private_authority_and_only_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "alumicatalyst")
    context, ca_file = certificates(tmp_path)
    with Emulator({"plant": 1}, tls=context, key=KEY) as emulator:
        emulator.append("plant", 0, [b"sealed"])
        source = source_of(emulator, "plant", ca_file=ca_file)
        with reading(source, source.partitions()[0]) as reader:
            assert [row["body"] for row in rows(reader, 1)] == [b"sealed"]
        caplog.clear()
        with pytest.raises(SourceError, match=r"(?i)certificate"):
            source_of(emulator, "plant").partitions()
        assert "asking again" not in caplog.text


@pytest.mark.parametrize(
    ("change", "options", "text"),
    [
        (("SharedAccessKey=", "Other="), {}, "neither SharedAccessKeyName"),
        (("Endpoint=", "Start="), {}, "no Endpoint"),
        ((":5672", ":x"), {}, "no Endpoint"),
        ((";EntityPath=plant", ""), {}, "set source.hub"),
        (("", ""), {"hub": "other"}, "let them agree"),
        (("", ""), {"start": "yesterday"}, "source.start: 'yesterday'"),
        (("", ""), {"start": "2026-01-01T00:00:00"}, "with an offset"),
        (("", ""), {"ca_file": "/nowhere/ca.pem"}, "/nowhere/ca.pem"),
        (("", ""), {"ca_file": __file__}, "remove one of the two"),
    ],
)
def test_says_which_setting_cannot_be_used(change: tuple[str, str], options: dict[str, str], text: str) -> None:
    connection = (
        "Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=n;SharedAccessKey=a-secret-key;EntityPath=plant;"
        "UseDevelopmentEmulator=true"
    )
    with pytest.raises(SettingsError, match=text) as caught:
        EventHubsSource(connection.replace(*change) if change[0] else connection, **options)  # type: ignore[arg-type]
    assert KEY not in str(caught.value)


def test_refuses_names_that_are_not_its_own(emulator: Emulator) -> None:
    source = source_of(emulator, "plant")
    with pytest.raises(IncarnationChanged, match=r"set source\.name to 'other'"):
        source.open("other/1/0", -1, 1)
    for wrong in ("", "a/b", "a/b/c/d", "a//c", "a/b/ü", "a/b/" + "c" * 65):
        with pytest.raises(SourceError):
            source.open(wrong, -1, 1)
    with pytest.raises(SourceError, match="each part has"):
        partition_id("tele/metry", 1, 0)

"""The stand-in's AMQP: values come back as they went, and no bytes of a peer can hurt the server (I9)."""

from __future__ import annotations

import logging
import random
import socket
import struct
import uuid
from typing import TYPE_CHECKING, Any, cast

import pytest
from azure.eventhub import EventData
from hypothesis import given
from hypothesis import strategies as st

from alumicatalyst.testing.eventhubs import Emulator, amqp
from alumicatalyst.testing.eventhubs.connection import FRAME_BYTES_MAX, Connection
from alumicatalyst.testing.eventhubs.decode import DecodeError, decode, performative, sections, skip
from alumicatalyst.testing.eventhubs.message import split
from tests.hubs import LEFT_SOCKETS, consumer, producer, sdk

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = LEFT_SOCKETS
__all__ = ["sdk"]

PLAIN = st.one_of(
    st.none(), st.booleans(), st.binary(max_size=300), st.text(max_size=300), st.uuids(), st.floats(allow_nan=False),
    st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1).map(amqp.ULong),
    st.integers(0, 2**32 - 1).map(amqp.UInt), st.integers(0, 255).map(amqp.UByte),
    st.integers(0, 2**16 - 1).map(amqp.UShort),
    st.integers(-(2**63), 2**63 - 1).map(amqp.Long), st.integers(-(2**63), 2**63 - 1).map(amqp.Timestamp),
    st.text(st.characters(max_codepoint=127), max_size=300).map(amqp.Symbol),
)  # fmt: skip
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=5), inner, max_size=8),
    max_leaves=20,
)


@given(VALUES)
def test_a_value_comes_back_as_it_went(value: Any) -> None:
    data = amqp.encode(value)
    back, end = decode(data, 0, len(data))
    assert (back, end, skip(data, 0, len(data))) == (value, len(data), len(data))
    if not isinstance(value, int) or isinstance(value, bool):
        assert type(back) is type(value)


@given(VALUES, st.data())
def test_i9_a_value_cut_short_is_a_decode_error(value: Any, data: st.DataObject) -> None:
    encoded = amqp.encode(value)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    for read in (decode, skip):
        with pytest.raises(DecodeError):
            read(encoded, 0, cut)
        with pytest.raises(DecodeError):
            read(encoded[:cut], 0, cut)


@given(
    st.binary(max_size=200) | st.lists(VALUES, max_size=4).map(lambda each: b"".join(map(amqp.encode, each))), st.data()
)
def test_i9_any_bytes_decode_or_are_a_decode_error(raw: bytes, data: st.DataObject) -> None:
    mutable = bytearray(raw)
    for _ in range(data.draw(st.integers(0, 3)) if mutable else 0):
        mutable[data.draw(st.integers(0, len(mutable) - 1))] = data.draw(st.integers(0, 255))
    for read in (
        lambda b: decode(b, 0, len(b)), lambda b: skip(b, 0, len(b)), performative, sections,
        lambda b: split(b, batch=True), lambda b: split(b, batch=False),
    ):  # fmt: skip
        try:
            read(bytes(mutable))
        except DecodeError:
            continue


@pytest.mark.parametrize(
    "bomb",
    [b"\xf0" + struct.pack(">II", 5, 0xFFFFFFFF) + b"\x40", b"\xe0\x02\xff\x40" * 2, b"\x00" * 4000,
     b"\xc0\x02\x01" * 4000, b"\xd0" + struct.pack(">II", 0xFFFFFFFF, 0xFFFFFFFF), b"\xb1\xff\xff\xff\xff"],
)  # fmt: skip
def test_i9_a_few_bytes_never_become_many(bomb: bytes) -> None:
    try:
        value, _ = decode(bomb, 0, len(bomb))
    except DecodeError:
        return
    assert len(value) <= 1024


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator({"plant": 2}) as running:
        yield running


@pytest.fixture(scope="module")
def recorded(emulator: Emulator) -> list[bytes]:
    """What the SDK says on its connections: to send, to ask and to read."""
    connections: dict[int, bytearray] = {}
    original = Connection.data_received

    def record(self: Connection, data: bytes) -> None:
        connections.setdefault(id(self), bytearray()).extend(data)
        kept.append(self)
        original(self, data)

    kept: list[Connection] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "data_received", record)
        with producer(emulator.connection_string("plant")) as client:
            client.send_batch([EventData(b"x" * 100)] * 3, partition_id="0")
            client.send_event(EventData(b"y" * 100_000))
        with consumer(emulator.connection_string("plant")) as reader:
            reader.get_partition_properties("0")
            link: Any = cast("Any", reader)._create_consumer("$Default", "0", "-1", lambda _: None, owner_level=1)
            link._keep_alive = None
            while not link._message_buffer:
                link.receive(batch=True, max_batch_size=1000)
                if link._last_received_event:
                    break
            link.close()
    return [bytes(each) for each in connections.values()]


def talk(emulator: Emulator, data: bytes) -> bytes:
    """Send bytes, say that there will be no more, and read what the server has to say to that."""
    with socket.create_connection(("127.0.0.1", emulator.port), 60) as peer:
        try:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            answer = bytearray()
            while block := peer.recv(65_536):
                answer += block
        except ConnectionError:
            return b""
    return bytes(answer)


def alive(emulator: Emulator) -> None:
    before = emulator.held("plant", 1).stop
    with producer(emulator.connection_string("plant")) as client:
        client.send_event(EventData(b"alive"), partition_id="1")
    assert emulator.held("plant", 1).stop == before + 1


def test_a_recorded_conversation_has_the_same_effect_again(emulator: Emulator, recorded: list[bytes]) -> None:
    before = emulator.held("plant", 0).stop
    answers = [talk(emulator, each) for each in recorded]
    assert emulator.held("plant", 0).stop >= before + 3
    assert all(answer.startswith(b"AMQP\x03\x01\x00\x00") for answer in answers)


def test_i9_random_bytes_close_their_connection_and_no_more(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(7)
    headers = b"AMQP\x03\x01\x00\x00" + amqp.frame(0, amqp.SASL_INIT, [amqp.Symbol("ANONYMOUS")], kind=1)
    headers += b"AMQP\x00\x01\x00\x00"
    for prefix in (b"", headers, headers + amqp.frame(0, amqp.OPEN, ["fuzz", None, amqp.UInt(65536)] + [None] * 7)):
        for _ in range(60):
            talk(emulator, prefix + rng.randbytes(rng.randrange(400)))
    talk(emulator, headers + struct.pack(">IBBH", FRAME_BYTES_MAX + 1, 2, 0, 0) + b"\x00" * 100)
    alive(emulator)
    assert "closed the connection" in caplog.text
    assert not any("in handling a frame" in record.message for record in caplog.records), caplog.text


def test_i9_damaged_frames_of_a_real_client_never_stop_the_server(
    emulator: Emulator, recorded: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "alumicatalyst.testing")
    rng = random.Random(11)
    conversations = [each[:20_000] for each in recorded]
    for _ in range(400):
        data = bytearray(rng.choice(conversations))
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(8, min(len(data), 2500))
            match rng.randrange(4):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    del data[at : at + rng.randrange(1, 9)]
                case 2:
                    data[at:at] = rng.randbytes(rng.randrange(1, 9))
                case _:
                    data[at] ^= 1 << rng.randrange(8)
        talk(emulator, bytes(data))
    alive(emulator)
    unexpected = [record for record in caplog.records if "in handling a frame" in record.message]
    assert not unexpected, [record.message for record in unexpected] + [
        r.exc_text for r in caplog.records if r.exc_text
    ]


def test_i9_frames_of_a_real_client_in_any_order_never_stop_the_server(
    emulator: Emulator, recorded: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(13)
    frames: list[bytes] = []
    for conversation in recorded:
        at = 8
        while at + 8 <= len(conversation):
            if conversation[at : at + 4] == b"AMQP":
                at += 8
                continue
            size = int.from_bytes(conversation[at : at + 4], "big")
            frames.append(conversation[at : at + size])
            at += size
    opening = b"AMQP\x03\x01\x00\x00" + frames[0] + b"AMQP\x00\x01\x00\x00" + frames[1] + frames[2]
    for _ in range(150):
        talk(emulator, opening + b"".join(rng.choices(frames, k=rng.randrange(1, 12))))
    alive(emulator)
    assert not any("in handling a frame" in record.message for record in caplog.records)


def test_a_client_that_never_opens_is_sent_away(emulator: Emulator) -> None:
    with socket.create_connection(("127.0.0.1", emulator.port), 60) as peer:
        peer.sendall(b"AMQP\x03\x01\x00\x00")
        assert peer.recv(8) == b"AMQP\x03\x01\x00\x00"
        [connection] = [each for each in list(emulator._connections) if each._peer == peer.getsockname()]
        emulator._call(lambda: connection.tick(connection._heard + 29))
        emulator._call(lambda: connection.tick(connection._heard + 31))
        while peer.recv(1000):
            pass


def test_sends_the_heartbeat_that_a_client_asks_for(emulator: Emulator) -> None:
    opening = b"AMQP\x03\x01\x00\x00" + amqp.frame(0, amqp.SASL_INIT, [amqp.Symbol("ANONYMOUS")], kind=1)
    opening += b"AMQP\x00\x01\x00\x00"
    opening += amqp.frame(0, amqp.OPEN, ["quiet", None, amqp.UInt(65536), None, amqp.UInt(10_000)] + [None] * 5)
    with socket.create_connection(("127.0.0.1", emulator.port), 60) as peer:
        peer.sendall(opening)
        peer.settimeout(60)
        received = b""
        while b"alumicatalyst-emulator" not in received:
            received += peer.recv(1000)
        [connection] = [each for each in list(emulator._connections) if each._peer == peer.getsockname()]
        emulator._call(lambda: connection.tick(connection._spoke + 6))
        received = b""
        while not received.endswith(b"\x00\x00\x00\x08\x02\x00\x00\x00"):
            received += peer.recv(1000)


def test_a_uuid_is_sixteen_bytes() -> None:
    assert len(amqp.encode(uuid.UUID(int=1))) == 17
    with pytest.raises(TypeError, match="no AMQP type"):
        amqp.encode({1, 2})

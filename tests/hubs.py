"""What the tests of the stand-in and of the Event Hubs source share: the real SDK in a few lines, and certificates."""

from __future__ import annotations

import datetime as dt
import gc
import ipaddress
import logging
import ssl
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from azure.eventhub import EventData, EventHubConsumerClient, EventHubProducerClient, _client_base, _pyamqp

from alumicatalyst.sources import AS_SET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from alumicatalyst.sources.eventhubs import EventHubsSource
    from alumicatalyst.sources.eventhubs_reader import EventHubsReader

# The SDK reports the errors that these tests provoke at every level of its layers.
logging.getLogger("azure").setLevel(logging.CRITICAL)

# It also leaves the sockets of broken connections to the garbage collector; see `sdk`.
LEFT_SOCKETS = pytest.mark.filterwarnings("ignore:unclosed <s(ocket|sl)[.]:ResourceWarning")

WAIT_S = 60.0

_receiving: list[threading.Thread] = []


class _Clock:
    """The time module to those modules of the SDK that poll and pause; their sleeps are most of a test's time."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds / 20)


@pytest.fixture(scope="module", autouse=True)
def sdk() -> Iterator[None]:
    """Hurry the SDK, and let its threads end and collect here, under the mark, what would fail some later test."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (_client_base, _pyamqp.client):
            patch.setattr(module, "time", _Clock())
        yield
    while _receiving:
        # It holds a connection until it has ended.
        _receiving.pop().join(WAIT_S)
    gc.collect()


def eventually(condition: Callable[[], Any], seconds: float = WAIT_S) -> Any:
    """Wait for a condition to be true and return its value; fail after a generous while."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
    return value


def producer(connection_string: str, **options: Any) -> EventHubProducerClient:
    options = {"retry_total": 2, "retry_backoff_factor": 0.05, **options}
    return EventHubProducerClient.from_connection_string(connection_string, **options)


def consumer(connection_string: str, group: str = "$Default", **options: Any) -> EventHubConsumerClient:
    options = {"retry_total": 0, "retry_backoff_factor": 0.01, **options}
    return EventHubConsumerClient.from_connection_string(connection_string, group, **options)


def body_of(event: Any) -> bytes:
    return b"".join(event.body)


@contextmanager
def receiving(connection_string: str, group: str = "$Default", **options: Any) -> Iterator[tuple[list[Any], list[Any]]]:
    """Receive in a thread with the SDK's own loop: (events so far, errors so far)."""
    events: list[Any] = []
    errors: list[Any] = []
    client = consumer(connection_string, group)
    thread = threading.Thread(
        target=client.receive_batch,
        args=(lambda _, batch: events.extend(batch),),
        kwargs={"on_error": lambda _, error: errors.append(error), "starting_position": "-1", **options},
        daemon=True,
    )
    thread.start()
    _receiving.append(thread)
    try:
        yield events, errors
    finally:
        # The thread ends by itself; the SDK takes about a second for that, and `sdk` waits for it.
        client.close()


def send(connection_string: str, bodies: Sequence[bytes], partition: str, properties: Any = None) -> None:
    with producer(connection_string) as client:
        batch = client.create_batch(partition_id=partition)
        for body in bodies:
            event = EventData(body)
            event.properties = dict(properties or {})
            batch.add(event)
        client.send_batch(batch)


@contextmanager
def reading(
    source: EventHubsSource, partition: str, after: int = AS_SET, owner_level: int = 1
) -> Iterator[EventHubsReader]:
    """A reader of our own, closed at the end."""
    reader = source.open(partition, after, owner_level)
    try:
        yield reader
    finally:
        reader.close()


def rows(reader: Any, count: int) -> list[dict[str, Any]]:
    """Take at least so many envelopes."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        batch = reader.take()
        if batch is not None:
            found.extend(batch.to_pylist())
        return len(found) >= count

    eventually(enough)
    return found


def certificates(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server context for 127.0.0.1 and the file of the throw-away authority that signed it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = dt.datetime.now(dt.UTC)
    hour = dt.timedelta(hours=1)

    def certificate(subject: str, issuer: str, key: Any, signer: Any, *, authority: bool) -> Any:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        parent = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(parent)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - hour)
            .not_valid_after(now + hour)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(signer, hashes.SHA256())

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate("throw-away authority", "throw-away authority", root_key, root_key, authority=True)
    leaf = certificate("emulator", "throw-away authority", key, root_key, authority=False)
    pem = serialization.Encoding.PEM
    ca_file, chain = folder / "ca.pem", folder / "server.pem"
    ca_file.write_bytes(root.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain.write_bytes(private + leaf.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context, str(ca_file)

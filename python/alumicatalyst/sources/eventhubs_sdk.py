"""All that touches the azure-eventhub SDK: its clients and the receiving link. Imported lazily: it is large.

The link is driven one step below the SDK's public `receive_batch`, whose loop has four traits that a dataflow cannot
live with (azure-eventhub 5.15.1, all seen against the stand-in):

- It hands over nothing until `prefetch` frames have come or 0.2 s passed without any. A partition with a steady 50
  events a second and a prefetch of 3000 delivers once a minute.
- Its keep-alive thread reads the same connection at the same time, so events can change places.
- It holds up to `prefetch` events however large they are, besides the queue behind it.
- A connection that is refused is tried again without any pause, and nobody is told.

Here every event goes straight from the decoder to the inbox, in one thread, and a failure is an exception. The names
of the SDK that this relies on are listed in `_NAMES`; a release without them is refused with a clear error.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from alumicatalyst.errors import SettingsError, SourceError
from alumicatalyst.log import redact

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

PREFETCH: Final = 3000
# The SDK itself waits for ever for a server that accepts a connection and says nothing.
ANSWER_S = 60.0
# The server is asked to say something at least so often; a connection silent for longer is dead, and replaced.
IDLE_S = 60.0
_WAITING_MAX: Final = 16
_FRAMES_MAX: Final = 512
_NAMES: Final = ("_keep_alive", "_message_received", "_open", "_handler")
_TEXT_CHARACTERS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed connection string; the string itself is kept out of every representation."""

    connection_string: str = field(repr=False)
    hub: str
    options: dict[str, Any]
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PartitionState:
    """What the hub says of a partition: the oldest number held (or the next one), and the newest ever given."""

    first: int
    last: int
    last_enqueued_us: int


def parse_connection_string(text: str, hub: str, ca_file: str) -> Endpoint:
    """Check a connection string and find out how the SDK must be called for it.

    Raises:
        SettingsError: A part is missing, or contradicts a setting.
    """
    pairs = (part.partition("=") for part in text.strip().split(";") if part.strip())
    parts = {key.strip().lower(): value.strip() for key, _, value in pairs}
    secrets = tuple(parts[key] for key in ("sharedaccesskey", "sharedaccesssignature") if parts.get(key))
    url = urlsplit(parts.get("endpoint", ""))
    try:
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if not host:
        raise SettingsError(
            "couldn't read the connection string: it has no Endpoint=sb://HOST; copy it from the portal"
        )
    if not secrets:
        raise SettingsError(
            "couldn't read the connection string: it has neither SharedAccessKeyName and SharedAccessKey nor a "
            "SharedAccessSignature; copy it from the portal"
        )
    entity = parts.get("entitypath", "")
    if hub and entity and hub.lower() != entity.lower():
        raise SettingsError(f"couldn't choose a hub: source.hub is {hub!r}, EntityPath is {entity!r}; let them agree")
    if not (hub or entity):
        raise SettingsError("couldn't choose a hub: the connection string has no EntityPath; set source.hub")
    options: dict[str, Any] = {}
    if parts.get("usedevelopmentemulator") == "true":
        if ca_file:
            raise SettingsError(
                "couldn't use source.ca_file: UseDevelopmentEmulator=true means a connection without encryption; "
                "remove one of the two"
            )
    else:
        if ca_file:
            options["connection_verify"] = ca_file
        if port is not None:
            # The SDK takes a port from a custom endpoint only.
            options["custom_endpoint_address"] = f"sb://{host}:{port}"
    return Endpoint(text.strip(), hub or entity, options, secrets)


class Hub:
    """How to reach a hub: makes the SDK's clients and asks it about its partitions."""

    def __init__(self, endpoint: Endpoint, consumer_group: str) -> None:
        self.name = endpoint.hub
        self._endpoint = endpoint
        self.consumer_group = consumer_group
        self._waiting: set[threading.Thread] = set()

    def describe(self, error: BaseException) -> str:
        """One line on an error, without anything secret."""
        text = " ".join(str(error).split()) or type(error).__name__
        for secret in self._endpoint.secrets:
            text = text.replace(secret, "***")
        return redact(text)[:_TEXT_CHARACTERS_MAX]

    def client(self) -> Any:
        """A consumer client that never retries by itself; the reader decides that, and can be stopped meanwhile."""
        from azure.eventhub import EventHubConsumerClient, TransportType

        for name in ("azure.eventhub", "azure.eventhub._pyamqp"):
            # The SDK repeats at every level what the reader reports once; a level that somebody set is left alone.
            if logging.getLogger(name).level == logging.NOTSET:
                logging.getLogger(name).setLevel(logging.CRITICAL)
        return EventHubConsumerClient.from_connection_string(
            self._endpoint.connection_string,
            consumer_group=self.consumer_group,
            eventhub_name=self.name,
            retry_total=0,
            retry_backoff_factor=0.01,
            transport_type=TransportType.Amqp,
            user_agent="alumicatalyst",
            idle_timeout=IDLE_S,
            **self._endpoint.options,
        )

    def answered(self, function: Callable[[], Any]) -> Any:
        """Call a function of the SDK that may wait for ever, in a thread that is left behind if it does.

        Raises:
            TimeoutError: There was no answer in time.
            SourceError: So many threads were left behind that this process had better be started again.
        """
        if len(self._waiting) >= _WAITING_MAX:
            raise SourceError(
                f"couldn't ask hub {self.name}: {_WAITING_MAX} questions have no answer; mend the network, start again"
            )
        answers: queue.SimpleQueue[tuple[Any, Exception | None]] = queue.SimpleQueue()

        def call() -> None:
            try:
                answers.put((function(), None))
            except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
                answers.put((None, error))
            finally:
                self._waiting.discard(threading.current_thread())

        thread = threading.Thread(target=call, name="eventhubs-question", daemon=True)
        self._waiting.add(thread)
        thread.start()
        try:
            answer, error = answers.get(timeout=ANSWER_S)
        except queue.Empty:
            raise TimeoutError(f"{self.name} did not answer within {ANSWER_S:g} s") from None
        if error is not None:
            raise error
        return answer

    def properties(self) -> tuple[int, list[str]]:
        """Creation time of the hub in ms, and the ids of its partitions."""
        found = self._ask("get_eventhub_properties")
        return round(found["created_at"].timestamp() * 1000), list(found["partition_ids"])

    def _ask(self, question: str, *arguments: str) -> Any:
        def ask() -> Any:
            with self.client() as client:
                return getattr(client, question)(*arguments)

        return self.answered(ask)

    def partition(self, number: str) -> PartitionState:
        """First and last sequence number of a partition."""
        found = self._ask("get_partition_properties", number)
        last = int(found["last_enqueued_sequence_number"])
        first = last + 1 if found["is_empty"] else int(found["beginning_sequence_number"])
        return PartitionState(max(first, 0), last, round(found["last_enqueued_time_utc"].timestamp() * 1_000_000))


class ReceivingLink:
    """One link to a partition. Not for more than one thread.

    Args:
        hub: The hub.
        number: The hub's id of the partition.
        position: A sequence number to begin behind, an offset ("-1"), or a time to begin at.
        owner_level: See `Source.open`.
        on_message: Called with each message as the SDK decodes it, in order, from `pump`. May wait.
    """

    def __init__(
        self,
        hub: Hub,
        number: str,
        position: int | str | datetime,
        owner_level: int,
        on_message: Callable[[Any], None],
    ) -> None:
        self._client = hub.client()
        self._on_message = on_message
        self._hub = hub
        self._stuck = False
        self._opened = False
        self._deadline_s: float | None = None
        self._credit = PREFETCH
        self._frames = 1
        create = getattr(self._client, "_create_consumer", None)
        consumer: Any = create and create(
            hub.consumer_group,
            number,
            position,
            lambda _: None,
            event_position_inclusive=not isinstance(position, int | str),
            owner_level=owner_level,
            prefetch=PREFETCH,
            track_last_enqueued_event_properties=True,
        )
        if not all(hasattr(consumer, name) for name in _NAMES):
            from azure.eventhub import __version__

            raise SourceError(
                f"couldn't open a link: azure-eventhub {__version__} is not supported; install azure-eventhub 5.15"
            )
        consumer._keep_alive = None  # noqa: SLF001
        consumer._message_received = self._receive  # noqa: SLF001
        self._consumer = consumer

    def _receive(self, message: Any) -> None:
        self._credit -= 1
        self._on_message(message)

    def pump(self, seconds: Callable[[], float]) -> None:
        """Read for about a quarter of a second, or until there is nothing to read.

        Raises:
            Exception: Whatever the layers of the SDK raise when a connection, a link or a frame fails.
        """
        consumer = self._consumer
        began = seconds()
        if self._deadline_s is None:
            self._deadline_s = began + ANSWER_S
            try:
                self._opened = bool(self._hub.answered(consumer._open))  # noqa: SLF001 - connects
            except TimeoutError:
                self._stuck = True
                raise
        elif not self._opened:
            self._opened = bool(consumer._open())  # noqa: SLF001 - one more step of the handshake
            if began > self._deadline_s:
                raise TimeoutError(f"{self._hub.name} did not open a link within {ANSWER_S:g} s")
        if not self._opened:
            return
        if self._credit <= 0:
            # The SDK renews the credit at the start of a round, and only when there is none left: a round must not
            # reach beyond it, or it waits for events that nobody may send.
            self._credit = PREFETCH
            # It also remembers the tag of every delivery for the life of the link, although nothing asks for them.
            tags = getattr(getattr(consumer._handler, "_link", None), "_received_delivery_tags", None)  # noqa: SLF001
            if tags:
                tags.clear()
        consumer._handler.do_work(batch=min(self._frames, self._credit))  # noqa: SLF001
        # A round ends after so many frames or a pause of 0.2 s, so on a trickle it must be short to be interruptible.
        self._frames = max(1, self._frames // 2) if seconds() - began > 0.25 else min(_FRAMES_MAX, 2 * self._frames)

    def close(self) -> None:
        """Detach and disconnect; failures to say goodbye are of no interest."""
        transport: Any = getattr(getattr(self._consumer._handler, "_connection", None), "_transport", None)  # noqa: SLF001
        if self._stuck:
            # Another thread waits in it with the lock that a polite goodbye needs; this ends its wait.
            with contextlib.suppress(Exception):
                transport.sock.shutdown(socket.SHUT_RDWR)
            return
        # The SDK forgets to close the socket of a connection that has failed.
        for each in (self._consumer, self._client, transport):
            with contextlib.suppress(Exception):
                each.close()

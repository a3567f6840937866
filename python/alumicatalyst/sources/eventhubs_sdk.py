"""All that touches the azure-eventhub SDK: its clients, the receiving link, its errors. Imported lazily: it is large.

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
import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from alumicatalyst.errors import SettingsError, SourceError
from alumicatalyst.log import redact

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

PREFETCH: Final = 3000
_FRAMES_MAX: Final = 512
_NAMES: Final = ("_keep_alive", "_message_received", "_open", "_handler")
_TEXT_CHARACTERS_MAX: Final = 300
# Conditions that no waiting mends, without the part before the colon.
_FATAL: Final = frozenset(
    (
        "argument-error",
        "argument-out-of-range",
        "auth-failed",
        "entity-disabled",
        "link:stolen",
        "not-allowed",
        "not-found",
        "not-implemented",
        "unauthorized-access",
    )
)
# What $management says of a request that it will never grant is found in the text alone.
_REFUSED: Final = re.compile(r"Status code: (4\d\d)")
_PASSING: Final = frozenset(("408", "429"))
STOLEN: Final = "link:stolen"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed connection string; the string itself is kept out of every representation."""

    connection_string: str = field(repr=False)
    hub: str
    host: str
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
    return Endpoint(text.strip(), hub or entity, host, options, secrets)


def condition_of(error: BaseException) -> str:
    """The AMQP condition of an SDK error without the part before its first colon; "" if it has none."""
    condition = getattr(error, "condition", None) or getattr(error, "error", None)
    condition = getattr(condition, "value", condition)
    if isinstance(condition, bytes):
        condition = condition.decode("utf-8", "replace")
    if not isinstance(condition, str):
        return ""
    return condition.partition(":")[2] if condition.startswith(("amqp:", "com.microsoft:")) else condition


def is_fatal(error: BaseException) -> bool:
    """Whether trying again cannot help."""
    from azure.eventhub._pyamqp.error import TokenAuthFailure
    from azure.eventhub.exceptions import AuthenticationError

    if isinstance(error, TokenAuthFailure):
        return error.status_code in (401, 403, 404)
    if isinstance(error, AuthenticationError):
        # An expired token or a timeout is internal-error; what a server says of a token is not.
        return condition_of(error) != "internal-error"
    cause = getattr(error, "inner_error", None)
    if isinstance(cause, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
        return True
    refused = _REFUSED.search(str(error))
    if refused is not None:
        return refused[1] not in _PASSING
    return isinstance(error, SourceError) or condition_of(error) in _FATAL


def is_transport(error: BaseException) -> bool:
    """Whether the failure is one of connections, which come and go, and not of what came over them."""
    from azure.eventhub._pyamqp.error import AMQPException
    from azure.eventhub.exceptions import EventHubError

    return isinstance(error, AMQPException | OSError | TimeoutError) or (
        isinstance(error, EventHubError) and type(error) is not EventHubError
    )


class Hub:
    """How to reach a hub: makes the SDK's clients and asks it about its partitions."""

    def __init__(self, endpoint: Endpoint, consumer_group: str) -> None:
        self.name = endpoint.hub
        self._endpoint = endpoint
        self.consumer_group = consumer_group

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
            **self._endpoint.options,
        )

    def properties(self) -> tuple[int, list[str]]:
        """Creation time of the hub in ms, and the ids of its partitions."""
        with self.client() as client:
            found = client.get_eventhub_properties()
        return round(found["created_at"].timestamp() * 1000), list(found["partition_ids"])

    def partition(self, number: str) -> PartitionState:
        """First and last sequence number of a partition."""
        with self.client() as client:
            found = client.get_partition_properties(number)
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
        if not consumer._open():  # noqa: SLF001
            return
        if self._credit <= 0:
            # The SDK renews the credit at the start of a round, and only when there is none left: a round must not
            # reach beyond it, or it waits for events that nobody may send.
            self._credit = PREFETCH
            # It also remembers the tag of every delivery for the life of the link, although nothing asks for them.
            tags = getattr(getattr(consumer._handler, "_link", None), "_received_delivery_tags", None)  # noqa: SLF001
            if tags:
                tags.clear()
        began = seconds()
        consumer._handler.do_work(batch=min(self._frames, self._credit))  # noqa: SLF001
        # A round ends after so many frames or a pause of 0.2 s, so on a trickle it must be short to be interruptible.
        self._frames = max(1, self._frames // 2) if seconds() - began > 0.25 else min(_FRAMES_MAX, 2 * self._frames)

    def close(self) -> None:
        """Detach and disconnect; failures to say goodbye are of no interest."""
        # The SDK forgets to close the socket of a connection that has failed.
        transport = getattr(getattr(self._consumer._handler, "_connection", None), "_transport", None)  # noqa: SLF001
        parts: list[Any] = [self._consumer, self._client, transport]
        for each in parts:
            with contextlib.suppress(Exception):
                each.close()

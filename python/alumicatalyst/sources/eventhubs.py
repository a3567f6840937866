"""Reads Azure Event Hubs (and the built-in endpoint of an IoT Hub) through the azure-eventhub SDK.

A partition's incarnation is the creation time of the hub, so a hub that was made anew, and starts its sequence numbers
over, is never mistaken for the one whose rows are stored.
"""

from __future__ import annotations

import random
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from alumicatalyst.errors import IncarnationChanged, SettingsError, SourceError
from alumicatalyst.log import get_logger
from alumicatalyst.sources import AS_SET, partition_id, split_partition_id
from alumicatalyst.sources.eventhubs_errors import is_fatal
from alumicatalyst.sources.eventhubs_reader import EventHubsReader
from alumicatalyst.sources.eventhubs_sdk import Hub, PartitionState, parse_connection_string

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alumicatalyst.settings.schema import SourceSettings

_log = get_logger(__name__)

_TRIES: Final = 4
_WAIT_S: Final = 0.25


class EventHubsSource:
    """The partitions of one hub.

    Args:
        connection_string: Of the namespace or the hub. With `UseDevelopmentEmulator=true` the connection is not
            encrypted; otherwise a port in its Endpoint is honoured as well.
        hub: The hub's name, where the connection string has no EntityPath.
        consumer_group: The consumer group to read as.
        name: First part of the identity of every partition.
        start: Where a partition without state begins: "earliest", "latest" or an RFC 3339 time.
        ca_file: PEM file of certificate authorities; empty: the public ones.
        batch_envelopes_max: Envelopes in a batch.
        batch_bytes_max: Bytes in a batch.
        queue_batches_max: Batches that a reader holds ready.
        properties: Names of the envelope properties that the dictionary reads.

    Raises:
        SettingsError: A value cannot be used. The connection string is never repeated.
    """

    def __init__(
        self,
        connection_string: str,
        *,
        hub: str = "",
        consumer_group: str = "$Default",
        name: str = "telemetry",
        start: str = "earliest",
        ca_file: str = "",
        batch_envelopes_max: int = 5_000,
        batch_bytes_max: int = 8_388_608,
        queue_batches_max: int = 4,
        properties: Sequence[str] = (),
    ) -> None:
        if ca_file and not Path(ca_file).is_file():
            raise SettingsError(f"couldn't read source.ca_file: {ca_file}; name a PEM file of certificate authorities")
        self._hub = Hub(parse_connection_string(connection_string, hub, ca_file), consumer_group)
        self._name = name
        self._start = _parse_start(start)
        self._properties = tuple(properties)
        self._limits = (batch_envelopes_max, batch_bytes_max, queue_batches_max)

    @classmethod
    def from_settings(cls, settings: SourceSettings, properties: Sequence[str] = ()) -> EventHubsSource:
        """Build the source that the settings describe; the secret is read here."""
        return cls(
            settings.connection_string.reveal(),
            hub=settings.hub,
            consumer_group=settings.consumer_group,
            name=settings.name,
            start=settings.start,
            ca_file=settings.ca_file,
            batch_envelopes_max=settings.batch_envelopes_max,
            batch_bytes_max=settings.batch_bytes_max,
            queue_batches_max=settings.queue_batches_max,
            properties=properties,
        )

    def partitions(self) -> list[str]:
        """Ask the hub for its partitions and return their identities.

        Raises:
            SourceError: The hub cannot be reached or does not let us in.
        """
        created_ms, ids = self._ask(self._hub.properties)
        ids = sorted(ids, key=lambda each: (len(each), each))
        return [partition_id(self._name, created_ms, each) for each in ids]

    def first_sequence(self, partition: str) -> int | None:
        """Return the oldest sequence number that the hub still holds.

        A partition whose events have all expired answers with the number that the next event will have, so that the
        loss is seen; None means that nothing was ever sent to it.
        """
        state = self._state(partition)
        return state.first if state.last >= 0 else None

    def begins_after(self, partition: str) -> int | None:
        """Return the newest sequence number where the settings say "latest"; other places do not move."""
        return self._state(partition).last if self._start == "latest" else None

    def open(self, partition: str, after: int, owner_level: int) -> EventHubsReader:
        """Start a thread that reads the partition behind a sequence number; -1: from its first event."""
        self._own(partition)
        envelopes_max, bytes_max, batches_max = self._limits
        reader = EventHubsReader(
            self._hub,
            partition,
            after=max(after, -1),
            # Once rows are stored the log goes on from its beginning, whatever the settings say of fresh partitions.
            start=self._start if after == AS_SET else "earliest",
            owner_level=owner_level,
            properties=self._properties,
            envelopes_max=envelopes_max,
            bytes_max=bytes_max,
            batches_max=batches_max,
        )
        reader.start()
        return reader

    def _state(self, partition: str) -> PartitionState:
        number = self._own(partition)
        state: PartitionState = self._ask(lambda: self._hub.partition(number))
        return state

    def _own(self, partition: str) -> str:
        """The hub's own id of a partition of this source."""
        source, _, number = split_partition_id(partition)
        if source != self._name:
            raise IncarnationChanged(
                f"couldn't read partition {partition}: this source is {self._name!r}; set source.name to {source!r}"
            )
        return number

    def _ask(self, question: Any) -> Any:
        """Ask the hub, again after a failure that may pass."""
        for attempt in range(1, _TRIES + 1):
            try:
                return question()
            except Exception as error:  # noqa: BLE001 - the SDK raises what its layers happen to raise
                text = self._hub.describe(error)
                if is_fatal(error) or attempt == _TRIES:
                    raise SourceError(
                        f"couldn't ask hub {self._hub.name}: {text}; check the connection string, hub and network"
                    ) from None
                _log.info("hub did not answer, asking again", hub=self._hub.name, error=text, attempt=attempt)
                time.sleep(_WAIT_S * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        raise AssertionError("unreachable")


def _parse_start(text: str) -> Literal["earliest", "latest"] | datetime:
    if text in {"earliest", "latest"}:
        return "earliest" if text == "earliest" else "latest"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise SettingsError(
            f"couldn't use source.start: {text!r}; allowed are 'earliest', 'latest' and a time with an offset, such as "
            "'2026-11-21T06:00:00Z'"
        )
    return moment

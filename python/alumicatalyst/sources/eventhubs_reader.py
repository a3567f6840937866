"""One partition of a hub: a thread that receives into an inbox, reconnects, and knows when to give up."""

from __future__ import annotations

import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Literal

from alumicatalyst import metrics
from alumicatalyst.errors import AlumicatalystError, ClaimLost, IncarnationChanged, LogExpired, SourceError
from alumicatalyst.log import get_logger
from alumicatalyst.sources import split_partition_id
from alumicatalyst.sources.envelope import EMPTY
from alumicatalyst.sources.eventhubs_errors import STOLEN, condition_of, is_fatal, is_transport
from alumicatalyst.sources.eventhubs_sdk import Hub, ReceivingLink
from alumicatalyst.sources.inbox import Inbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pyarrow as pa

_log = get_logger(__name__)

HEARTBEAT_S: Final = 1.0
_CLOSE_S: Final = 2.0
_WAIT_S: Final = 0.2
_WAIT_S_MAX: Final = 30.0
_BUSY_WAIT_S: Final = 4.0
_DECODE_TRIES: Final = 5
_SEQUENCE: Final = b"x-opt-sequence-number"
_OFFSET: Final = b"x-opt-offset"
_TIME: Final = b"x-opt-enqueued-time"
_LAST_SEQUENCE: Final = b"last_enqueued_sequence_number"
_LAST_TIME: Final = b"last_enqueued_time_utc"


class EventHubsReader:
    """See `sources.Reader`. Made by `EventHubsSource.open`.

    Every envelope is delivered once and in order: what comes again after a reconnection is dropped by its sequence
    number. A hub that was made anew, a log that ends before the last number delivered, and numbers that expired while
    the connection was down are errors, not gaps.
    """

    def __init__(
        self,
        hub: Hub,
        partition: str,
        *,
        after: int,
        start: Literal["earliest", "latest"] | datetime,
        owner_level: int,
        properties: Sequence[str],
        envelopes_max: int,
        bytes_max: int,
        batches_max: int,
    ) -> None:
        self._hub = hub
        self._partition = partition
        _, self._incarnation, self._number = split_partition_id(partition)
        self._after = after
        self._start = start
        self._owner_level = owner_level
        self._properties = [(name, name.encode(), name.replace("-", "_")) for name in properties]
        self._inbox = Inbox(envelopes_max, bytes_max, batches_max, with_properties=bool(properties))
        self._closing = threading.Event()
        self._last = after  # newest sequence number put into the inbox
        self._newest: tuple[int, int] | None = None  # sequence number and time (us) of the newest event of the hub
        self._taken: tuple[int, int] | None = None  # the same of the last envelope taken
        self._emitted_s = time.monotonic()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"reader-{partition}", daemon=True)
        self._queue_gauge = metrics.SOURCE_QUEUE_BATCHES.labels(partition)
        self._lag_gauges = metrics.SOURCE_LAG_ENVELOPES.labels(partition), metrics.SOURCE_LAG_SECONDS.labels(partition)
        self._receive_seconds = metrics.STAGE_SECONDS.labels("receive")

    # --- the dataflow's side ---

    @property
    def finished(self) -> bool:
        """A hub never ends."""
        return False

    @property
    def queued(self) -> int:
        """Batches that are ready to be taken."""
        return self._inbox.queued

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def take(self) -> pa.RecordBatch | None:
        """See `sources.Reader`."""
        began = time.monotonic()
        batch = self._inbox.take()
        if batch is None:
            if began - self._emitted_s < HEARTBEAT_S:
                return None
            batch = EMPTY
        else:
            self._taken = batch["sequence_number"][-1].as_py(), batch["enqueued_time"][-1].value
            self._receive_seconds.observe(time.monotonic() - began)
        self._emitted_s = began
        self._queue_gauge.set(self._inbox.queued)
        lag = self.lag()
        if lag is not None:
            self._lag_gauges[0].set(lag[0])
            self._lag_gauges[1].set(lag[1])
        return batch

    def lag(self) -> tuple[int, float] | None:
        """See `sources.Reader`; None until the hub has said what its newest event is."""
        newest, taken = self._newest, self._taken
        if newest is None:
            return None
        if taken is None:
            return max(0, newest[0] - self._after), 0.0
        behind = max(0, newest[0] - taken[0])
        return behind, max(0.0, (newest[1] - taken[1]) / 1_000_000) if behind else 0.0

    def close(self) -> None:
        """See `sources.Reader`."""
        self._closing.set()
        self._inbox.close()
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            # It waits for a connection that does not answer. It holds nothing but that, and puts nothing anywhere.
            _log.warning("reader still waits for the network, left behind", partition=self._partition)
        for gauge in (metrics.SOURCE_QUEUE_BATCHES, metrics.SOURCE_LAG_ENVELOPES, metrics.SOURCE_LAG_SECONDS):
            try:
                gauge.remove(self._partition)
            except KeyError:
                continue

    # --- the reading thread ---

    def _run(self) -> None:
        failures = undecodable = 0
        while not self._closing.is_set():
            before = self._last
            try:
                self._receive_until_failure(reconnecting=failures > 0 or before != self._after)
            except Exception as error:  # noqa: BLE001 - the SDK raises what its layers happen to raise
                if self._last != before:
                    failures = undecodable = 0
                failures += 1
                undecodable += not is_transport(error)
                if self._gives_up(error, undecodable):
                    return
                wait_s = min(_WAIT_S_MAX, _WAIT_S * 2 ** min(failures, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
                if condition_of(error) == "server-busy":
                    wait_s = max(wait_s, _BUSY_WAIT_S)
                _log.warning(
                    "connection to the hub lost, trying again",
                    partition=self._partition,
                    error=self._hub.describe(error),
                    failures=failures,
                    wait_s=round(wait_s, 2),
                )
                self._closing.wait(wait_s)

    def _gives_up(self, error: Exception, undecodable: int) -> bool:
        """Whether the error is for the dataflow to see; then it is put where `take` finds it."""
        if self._closing.is_set():
            return True
        text = self._hub.describe(error)
        if isinstance(error, AlumicatalystError):
            failure: Exception = error
        elif condition_of(error) == STOLEN:
            failure = ClaimLost(
                f"couldn't go on reading {self._partition}: another reader took it ({text}); this process must stop"
            )
        elif is_fatal(error):
            failure = SourceError(
                f"couldn't read {self._partition}: {text}; check the connection string, hub and consumer group"
            )
        elif undecodable >= _DECODE_TRIES:
            failure = SourceError(
                f"couldn't decode what follows sequence number {self._last} of {self._partition}: "
                f"{type(error).__name__}: {text}; look at that event with another client"
            )
        else:
            return False
        self._inbox.fail(failure)
        return True

    def _receive_until_failure(self, *, reconnecting: bool) -> None:
        position = self._check(reconnecting=reconnecting)
        link = ReceivingLink(self._hub, self._number, position, self._owner_level, self._on_message)
        try:
            while not self._closing.is_set():
                link.pump(time.monotonic)
                if self._failure is not None:
                    raise self._failure
        finally:
            link.close()

    def _check(self, *, reconnecting: bool) -> int | str | datetime:
        """See that the log is still the one that was read, and return where to go on."""
        if reconnecting or self._after >= 0:
            created_ms, _ = self._hub.properties()
            if str(created_ms) != self._incarnation:
                raise IncarnationChanged(
                    f"couldn't go on reading {self._partition}: the hub was made anew, it is now incarnation "
                    f"{created_ms}; start again to read the new one"
                )
        state = self._hub.partition(self._number)
        self._newest = state.last, state.last_enqueued_us
        if self._last < 0 and self._start == "latest":
            # Fixed now: after a reconnection "latest" would be another place, and what came meanwhile lost.
            self._last = self._after = state.last
            self._start = "earliest"
        if self._last < 0:
            return "-1" if isinstance(self._start, str) else self._start
        if state.last < self._last:
            raise SourceError(
                f"couldn't go on reading {self._partition}: its log ends at {state.last}, but {self._last} was read; "
                "the hub lost events, restore it or read it under a new source.name"
            )
        if state.first > self._last + 1:
            raise LogExpired(
                f"couldn't go on reading {self._partition}: {self._last + 1} to {state.first - 1} have expired; start "
                "again with --accept-state-loss to go on without them"
            )
        return self._last

    def _on_message(self, message: Any) -> None:
        """Put one message into the inbox. The SDK swallows what is raised here, so it is kept for the loop."""
        if self._failure is not None or self._closing.is_set():
            return
        try:
            annotations = message.message_annotations
            sequence_number = annotations[_SEQUENCE]
            enqueued_us = annotations[_TIME] * 1000
            delivery = message.delivery_annotations
            if delivery:
                self._newest = delivery[_LAST_SEQUENCE], delivery[_LAST_TIME] * 1000
            if sequence_number <= self._last:
                metrics.REDELIVERED.labels(self._partition).inc()
                return
            offset = annotations.get(_OFFSET)
            properties = self._wanted_of(message) if self._properties else {}
            data = message.data
            body = data[0] if data is not None and len(data) == 1 else _body_of(message)
            if self._inbox.put(body, sequence_number, enqueued_us, offset and offset.decode(), properties):
                self._last = sequence_number
        except Exception as error:  # noqa: BLE001
            self._failure = SourceError(
                f"couldn't understand the event after sequence number {self._last} of {self._partition}: "
                f"{type(error).__name__}: {self._hub.describe(error)}; look at it with another client"
            )

    def _wanted_of(self, message: Any) -> dict[str, str]:
        """The wanted properties. What the service put on stands before what a device may have put beside it."""
        found = {}
        annotations = message.message_annotations
        application = message.application_properties or {}
        for name, key, field in self._properties:
            value = annotations.get(key)
            if value is None:
                value = getattr(message.properties, field, None)
            if value is None:
                value = application.get(key)
            if value is not None:
                found[name] = _text_of(value)
        return found


def _text_of(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value
    return json.dumps(_plain(value), ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    """The value with all of its bytes as text, so that JSON can say it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _body_of(message: Any) -> bytes:
    """The bytes of a body: its data sections joined, or the JSON of a value that is not binary."""
    if message.data is not None:
        return b"".join(message.data)
    value = message.value if message.sequence is None else message.sequence
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json.dumps(_plain(value), default=str).encode()

"""Sends a simulation to an Event Hub (or the stand-in) with Azure's own SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from alumicatalyst.errors import SettingsError, SourceError
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    import threading

    from alumicatalyst.simulator.engine import Released, Simulator

_log = get_logger(__name__)

_ATTEMPTS_MAX = 8
_PAUSE_FIRST_S = 0.5
_PAUSE_MAX_S = 30.0


class HubSink:
    """Sends envelopes by partition key, in order within a key, each batch acknowledged before the next one.

    Args:
        connection_string: Of the namespace or the hub.
        hub: The hub's name, where the connection string has no EntityPath.
        simulator: What is sent.
        stop: Set to give up waiting for a broker that is away.

    Raises:
        SettingsError: The SDK is not installed, or the connection string cannot be used.
    """

    def __init__(self, connection_string: str, hub: str, simulator: Simulator, stop: threading.Event) -> None:
        try:
            from azure.eventhub import EventHubProducerClient
        except ImportError as error:
            raise SettingsError(
                "couldn't load azure-eventhub: it is not installed; pip install 'alumicatalyst[azure]'"
            ) from error
        try:
            # The SDK's own retries are off: this class does them, and ends them when it is told to stop.
            self._client: Any = EventHubProducerClient.from_connection_string(
                connection_string, eventhub_name=hub or None, retry_total=0
            )
        except ValueError as error:
            raise SettingsError(
                f"couldn't use the connection string: {error}; it has Endpoint, SharedAccessKeyName, SharedAccessKey "
                "and EntityPath (or give --hub)"
            ) from None
        self._keys = simulator.fleet.partition_keys
        self._devices = simulator.fleet.devices
        self._property = simulator.writer.members.device_property
        self._stop = stop

    def send(self, released: Released) -> int:
        """Send envelopes; return how many are larger than the broker takes.

        Raises:
            SourceError: The broker refused, or stayed away.
        """
        from azure.eventhub import EventData

        unsendable = 0
        bodies: list[bytes] = released.bodies.to_pylist()
        for key in np.unique(released.keys).tolist():
            name, batch = self._keys[key], None
            for envelope in np.flatnonzero(released.keys == key).tolist():
                event = EventData(bodies[envelope])
                event.content_type = "application/json"
                if self._property is not None:
                    event.properties = {self._property: self._devices[int(released.devices[envelope])]}
                if batch is None:
                    batch = self._batch(name)
                if _fits(batch, event):
                    continue
                if len(batch):
                    self._try(lambda full=batch: self._client.send_batch(full))
                    batch = self._batch(name)
                    if _fits(batch, event):
                        continue
                unsendable += 1
                _log.warning("envelope larger than the broker takes", bytes=len(bodies[envelope]))
            if batch is not None and len(batch):
                self._try(lambda full=batch: self._client.send_batch(full))
        return unsendable

    def close(self) -> None:
        """Close the connection; everything that was sent is acknowledged."""
        self._client.close()

    def _batch(self, key: str) -> Any:
        # Asks the broker how large a batch may be, so it can fail like a sending.
        return self._try(lambda: self._client.create_batch(partition_key=key))

    def _try(self, action: Any) -> Any:
        """Do something with the broker; after a failure wait twice as long each time.

        A sending that failed without an answer may have arrived, and then its readings come twice, as with any sender.
        """
        from azure.eventhub.exceptions import AuthenticationError, EventHubError

        for attempt in range(1, _ATTEMPTS_MAX + 1):
            try:
                return action()
            except AuthenticationError as error:
                raise SourceError(
                    f"couldn't send to the hub: {_short(error)}; check the key and its right to send"
                ) from None
            except EventHubError as error:
                pause = min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2 ** (attempt - 1))
                if attempt == _ATTEMPTS_MAX or self._stop.wait(pause):
                    raise SourceError(
                        f"couldn't send to the hub: {_short(error)}; check the address, then start again"
                    ) from None
                _log.warning("sending failed, trying again", attempt=attempt, pause_s=pause, reason=_short(error))
        raise AssertionError("the last attempt returns or raises")


def _fits(batch: Any, event: Any) -> bool:
    try:
        batch.add(event)
    except ValueError:
        return False
    return True


def _short(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]

"""Backpressure within a process: sources wait while batches are on their way to the sinks."""

from __future__ import annotations

import threading

from alumicatalyst import metrics


class Gate:
    """Holds back sources while as many batches are in flight as allowed; Bytewax bounds nothing within an epoch.

    Batches never leave the process that reads them, in a cluster neither, so whatever has entered leaves here.
    """

    def __init__(self, batches_max: int) -> None:
        self._batches_max = batches_max
        self._lock = threading.Lock()
        self._in_flight = 0

    @property
    def is_open(self) -> bool:
        """Whether another batch may set out."""
        return self._in_flight < self._batches_max

    def enter(self) -> None:
        """A batch sets out."""
        with self._lock:
            self._in_flight += 1
        metrics.IN_FLIGHT_BATCHES.inc()

    def leave(self) -> None:
        """A batch has reached the sinks' buffers, which have bounds of their own."""
        with self._lock:
            self._in_flight -= 1
        metrics.IN_FLIGHT_BATCHES.dec()

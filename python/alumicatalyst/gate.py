"""Backpressure within a process: sources wait while batches are on their way to the sinks."""

from __future__ import annotations

import threading
import time
from typing import Final

from alumicatalyst import metrics
from alumicatalyst.log import get_logger

_log = get_logger(__name__)

# A worker that is busy takes some seconds to look at a new partition's first batch, another process never reports here.
_ELSEWHERE_AFTER_S: Final = 10.0


class Gate:
    """Holds back sources while as many batches are in flight as allowed; Bytewax has no such thing between workers.

    A partition whose analysis runs in another process of a cluster never reports back here. One that has not after some
    seconds is taken for such and left alone; until then it may send as many batches as all may together.
    """

    def __init__(self, batches_max: int) -> None:
        self._batches_max = batches_max
        self._lock = threading.Lock()
        self._sent: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._since: dict[str, float] = {}

    def is_open(self, partition: str) -> bool:
        """Whether another batch of a partition may set out."""
        with self._lock:
            if sum(self._sent[name] - done for name, done in self._done.items()) >= self._batches_max:
                return False
            if partition in self._done or self._sent.get(partition, 0) < self._batches_max:
                return True
            return time.monotonic() - self._since[partition] >= _ELSEWHERE_AFTER_S

    def enter(self, partition: str) -> None:
        """A batch sets out."""
        with self._lock:
            self._sent[partition] = self._sent.get(partition, 0) + 1
            self._since.setdefault(partition, time.monotonic())
        metrics.IN_FLIGHT_BATCHES.inc()

    def arrive(self, partition: str) -> None:
        """A partition's analysis is in this process: from now on its batches count."""
        with self._lock:
            if partition in self._sent:
                self._done.setdefault(partition, 0)

    def leave(self, partition: str) -> None:
        """A batch has reached the sinks' buffers, which have bounds of their own."""
        with self._lock:
            done = self._done.get(partition, 0)
            if done >= self._sent.get(partition, 0):
                # It was read in another process, whose gate it entered.
                return
            self._done[partition] = done + 1
        metrics.IN_FLIGHT_BATCHES.dec()

"""The bounded queue between a reader's thread and the dataflow: envelopes go in one by one, batches come out."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from alumicatalyst.sources.envelope import envelopes

if TYPE_CHECKING:
    import pyarrow as pa


class _Batch:
    """Columns of a batch that is being filled."""

    __slots__ = ("bodies", "bytes", "enqueued_us", "offsets", "properties", "sequence_numbers")

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.sequence_numbers: list[int] = []
        self.enqueued_us: list[int] = []
        self.offsets: list[str | None] = []
        self.properties: list[dict[str, str]] = []
        self.bytes = 0


class Inbox:
    """Holds at most `batches_max` batches of at most `envelopes_max` envelopes and `bytes_max` bytes.

    Batches fill while nobody takes them, so a fast source gives large ones and a slow one is not kept waiting. The
    bytes are those of bodies and properties; an envelope larger than `bytes_max` is a batch of its own.

    Args:
        envelopes_max: Envelopes in a batch.
        bytes_max: Bytes in a batch.
        batches_max: Batches held; then `put` waits, and with it the source.
        with_properties: Keep the properties of envelopes; without, they are null.
    """

    def __init__(self, envelopes_max: int, bytes_max: int, batches_max: int, *, with_properties: bool) -> None:
        self._envelopes_max = envelopes_max
        self._bytes_max = bytes_max
        self._batches_max = batches_max
        self._with_properties = with_properties
        self._batches: deque[_Batch] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._error: Exception | None = None

    def put(
        self, body: bytes, sequence_number: int, enqueued_us: int, offset: str | None, properties: dict[str, str]
    ) -> bool:
        """Add an envelope, waiting for room if need be; False if the inbox was closed, and the envelope not kept."""
        size = len(body)
        for name, value in properties.items():
            size += len(name) + len(value)
        with self._change:
            while not self._closed:
                batch = self._batches[-1] if self._batches else None
                if batch is None or len(batch.bodies) >= self._envelopes_max or batch.bytes + size > self._bytes_max:
                    if len(self._batches) >= self._batches_max:
                        self._change.wait()
                        continue
                    batch = _Batch()
                    self._batches.append(batch)
                batch.bodies.append(body)
                batch.sequence_numbers.append(sequence_number)
                batch.enqueued_us.append(enqueued_us)
                batch.offsets.append(offset)
                batch.properties.append(properties)
                batch.bytes += size
                return True
        return False

    def take(self) -> pa.RecordBatch | None:
        """Return the oldest batch, full or not; None if there is none. Never waits for the source.

        Raises:
            Exception: What `fail` was given; what is still queued is not worth taking then, as it will be read again.
        """
        with self._change:
            if self._error is not None:
                raise self._error
            if not self._batches:
                return None
            batch = self._batches.popleft()
            self._change.notify()
        return envelopes(
            batch.bodies,
            batch.sequence_numbers,
            batch.enqueued_us,
            batch.offsets,
            batch.properties if self._with_properties else None,
        )

    @property
    def queued(self) -> int:
        """Batches that can be taken."""
        return len(self._batches)

    def fail(self, error: Exception) -> None:
        """Raise this at the next `take`, and every one after it."""
        with self._change:
            self._error = self._error or error

    def close(self) -> None:
        """Let nothing more in, and wake who waits in `put`."""
        with self._change:
            self._closed = True
            self._batches.clear()
            self._change.notify_all()

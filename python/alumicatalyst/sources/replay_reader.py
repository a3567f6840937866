"""Reads one partition of a replay: its rows in batches within bounds, from any row on, never for long at a time."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alumicatalyst.errors import InputError
from alumicatalyst.sources.envelope import EMPTY, SCHEMA, envelopes
from alumicatalyst.sources.replay_times import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from numpy.typing import NDArray

    from alumicatalyst.sources.replay import ReplaySource
    from alumicatalyst.sources.replay_columns import Block

ROWS_PER_FILE: Final = 1 << 40
# After so long without a row of its own, as where a resume skips what is stored, a reader lets others go on.
_PATIENCE_S: Final = 0.05
_HEARTBEAT_S: Final = 1.0


class ReplayReader:
    """One partition of a replay. Reads on where it is told to, a block of a few megabytes at a time."""

    def __init__(self, source: ReplaySource, number: int, after: int) -> None:
        self._source = source
        self._number = number
        self._after = after
        self._batches = self._read()
        self._beat_at = self._asked_at = time.monotonic()
        self.finished = False
        self.queued = 0
        self.last_sequence = -1

    def take(self) -> pa.RecordBatch | None:
        """Return the next batch; None at the end and, now and then, while rows are skipped; then also an empty one."""
        if self.finished:
            return None
        self._asked_at = time.monotonic()
        try:
            batch = next(self._batches)
        except StopIteration:
            self.finished = True
            return None
        if batch is None and time.monotonic() - self._beat_at >= _HEARTBEAT_S:
            batch = EMPTY
        if batch is not None:
            self._beat_at = time.monotonic()
        return batch

    def lag(self) -> tuple[int, float] | None:
        """Return None: how many rows a file holds is known at its end."""
        return None

    def close(self) -> None:
        """Close the file."""
        self._batches.close()
        self.finished = True

    def _read(self) -> Generator[pa.RecordBatch | None]:
        # Rows before `after` are read too: the newest event time so far is part of what follows them.
        newest = UNKNOWN
        for ordinal, file in enumerate(self._source.files):
            try:
                for block in self._source.blocks(ordinal):
                    chosen = self._chosen(block, file.stem)
                    newest, enqueued = _enqueued(block, chosen, newest)
                    sequence = block.rows[chosen] + ordinal * ROWS_PER_FILE
                    if self._number == 0:
                        self._source.unreadable += block.unreadable
                    if len(sequence):
                        self.last_sequence = int(sequence[-1])
                        new = sequence > self._after
                        yield from self._cut(block, chosen[new], sequence[new], enqueued[new], file.stem)
                    if time.monotonic() - self._asked_at >= _PATIENCE_S:
                        yield None
            except (OSError, EOFError) as error:
                raise InputError(f"couldn't read {file.path}: {error}; check the file") from None

    def _chosen(self, block: Block, stem: str) -> NDArray[np.int64]:
        """Return the places of the rows that belong to this partition."""
        count = self._source.spread
        every = np.arange(len(block.rows))
        if count == 1:
            return every
        if block.devices is None:
            of_file = partition_of(stem.encode(), count)
            return every if of_file == self._number else every[:0]
        devices = block.devices if isinstance(block.devices, pa.Array) else pa.array(block.devices, pa.large_binary())
        encoded = pc.dictionary_encode(devices.fill_null(b""))
        numbers = np.array([partition_of(device, count) for device in encoded.dictionary.to_pylist()], dtype=np.int64)
        return np.asarray(every[numbers[encoded.indices.to_numpy(zero_copy_only=False)] == self._number])

    def _cut(
        self,
        block: Block,
        places: NDArray[np.int64],
        sequence: NDArray[np.int64],
        enqueued: NDArray[np.int64],
        stem: str,
    ) -> Iterator[pa.RecordBatch]:
        """Return rows in batches within the bounds."""
        if not len(places):
            return
        bodies = block.bodies if len(places) == len(block.rows) else block.bodies.take(pa.array(places))
        sizes = np.cumsum(pc.binary_length(bodies).to_numpy(zero_copy_only=False))
        begin = 0
        while begin < len(places):
            before = int(sizes[begin - 1]) if begin else 0
            by_bytes = int(np.searchsorted(sizes, before + self._source.batch_bytes_max, side="right"))
            end = max(begin + 1, min(begin + self._source.batch_envelopes_max, by_bytes))
            part = slice(begin, end)
            yield self._batch(
                bodies.slice(begin, end - begin), sequence[part], enqueued[part], self._own(block, places[part], stem)
            )
            begin = end

    def _own(self, block: Block, places: NDArray[np.int64], stem: str) -> list[Mapping[str, str] | None] | None:
        """Return the properties of rows: what the file has, and the file's name where the dictionary asks for it."""
        file = {"file": stem} if self._source.wants_file else None
        if block.properties is None:
            return None if file is None else [file] * len(places)
        return [{**(file or {}), **(block.properties[place] or {})} or None for place in places.tolist()]

    @staticmethod
    def _batch(
        bodies: pa.Array,
        sequence: NDArray[np.int64],
        enqueued: NDArray[np.int64],
        properties: list[Mapping[str, str] | None] | None,
    ) -> pa.RecordBatch:
        maps = pa.nulls(len(sequence), SCHEMA.field("properties").type)
        if properties is not None:
            numbers = sequence.tolist()
            maps = envelopes([b""] * len(numbers), numbers, numbers, None, properties).column("properties")
        columns = [
            # A slice would drag its whole block along between processes.
            pa.concat_arrays([bodies, bodies.slice(0, 0)]),
            pa.array(sequence),
            pa.nulls(len(sequence), pa.string()),
            pa.array(enqueued).cast(SCHEMA.field("enqueued_time").type),
            maps,
        ]
        return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _enqueued(block: Block, chosen: NDArray[np.int64], newest: int) -> tuple[int, NDArray[np.int64]]:
    """Return the newest time so far (UNKNOWN: none yet), and when each chosen row reached the log.

    Rows before any time take the first one that follows in their block; where none does, it is 1970.
    """
    every = block.event_us if block.enqueued_us is None else block.enqueued_us
    times = every[chosen]
    if not len(times):
        return newest, times
    running = np.maximum.accumulate(np.concatenate([[newest], times]))[1:]
    newest = int(running[-1])
    if running[0] == UNKNOWN:
        known = np.concatenate([running[running != UNKNOWN], every[every != UNKNOWN], [0]])
        running = np.where(running == UNKNOWN, known[0], running)
    # A named column is taken as it is; only where it is empty the newest time stands in.
    return newest, running if block.enqueued_us is None else np.where(times == UNKNOWN, running, times)


def partition_of(device: bytes, partitions: int) -> int:
    """Return the partition of a device: its SHA-256 modulo their number. Rows without a device are in the first one."""
    if not device:
        return 0
    return int.from_bytes(hashlib.sha256(device).digest()[:8], "big") % partitions

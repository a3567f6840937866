"""The log of one partition: records in append-only segment files, with an index of offsets and times in memory.

A record is written with one system call before its sender hears "accepted", so what was accepted survives the death of
the process (kill -9) with its sequence number, offset and time. There is no fsync: a power failure may cost the tail,
which is then cut at the first record whose checksum is wrong. Bodies are read from the file (the page cache makes that
cheap); memory holds 16 bytes a record. The oldest whole segments go when the log is larger than `retention_bytes`.
"""

from __future__ import annotations

import logging
import os
import struct
import tempfile
import zlib
from array import array
from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LOGGER = logging.getLogger(__name__)

SEGMENT_BYTES: Final = 64 << 20
RETENTION_BYTES: Final = 1 << 30
# Offsets start here, so that an offset is never mistaken for a sequence number without a test noticing.
FIRST_OFFSET: Final = 4096
_MAGIC: Final = b"ALEHLOG1"
_HEADER: Final = struct.Struct(">8sqqI")  # magic, first sequence number, first offset, CRC-32 of these three
HEADER_BYTES: Final = 64
_RECORD: Final = struct.Struct(">IIq")  # bytes of the message, CRC-32 of time and message, enqueued time in ms
RECORD_BYTES: Final = _RECORD.size
_SCAN_BYTES: Final = 1 << 20


class LogDamaged(Exception):
    """A segment cannot be read, and not only because the last write was cut short."""


class _Segment:
    """One file and the index of its records."""

    def __init__(self, fd: int, path: Path | None, first_sequence: int, first_offset: int) -> None:
        self.fd = fd
        self.path = path
        self.first_sequence = first_sequence
        self.first_offset = first_offset
        self.offsets = array("q")
        self.times = array("q")
        self.end_offset = first_offset

    def position(self, offset: int) -> int:
        return offset - self.first_offset + HEADER_BYTES

    def add(self, time_ms: int, message_bytes: int) -> None:
        self.offsets.append(self.end_offset)
        self.times.append(time_ms)
        self.end_offset += RECORD_BYTES + message_bytes

    def discard(self) -> None:
        os.close(self.fd)
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _create(directory: Path | None, first_sequence: int, first_offset: int) -> _Segment:
    path = None if directory is None else directory / f"{first_sequence:020d}.log"
    if path is None:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    else:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    fields = _HEADER.pack(_MAGIC, first_sequence, first_offset, 0)[:-4]
    os.pwrite(fd, (fields + struct.pack(">I", zlib.crc32(fields))).ljust(HEADER_BYTES, b"\0"), 0)
    return _Segment(fd, path, first_sequence, first_offset)


def _load(path: Path, *, last: bool) -> _Segment | None:
    """Open a segment and index it; a torn tail of the last one is cut. None: the last one had not even a header."""
    fd = os.open(path, os.O_RDWR)
    header = os.pread(fd, _HEADER.size, 0)
    magic, first_sequence, first_offset, crc = _HEADER.unpack(header.ljust(_HEADER.size, b"\0"))
    if magic != _MAGIC or crc != zlib.crc32(header[:-4]):
        os.close(fd)
        if last and path.stat().st_size <= HEADER_BYTES:
            path.unlink()
            return None
        raise LogDamaged(f"couldn't read {path}: its header is damaged; restore it or start with an empty directory")
    segment = _Segment(fd, path, first_sequence, first_offset)
    size = os.fstat(fd).st_size
    good = _scan(segment, size)
    if good < size:
        if not last:
            os.close(fd)
            raise LogDamaged(f"couldn't read {path}: the record at byte {good} is damaged; restore it or start anew")
        os.ftruncate(fd, good)
        _LOGGER.warning(
            "cut the torn tail of %s: %d bytes after sequence number %d",
            path,
            size - good,
            first_sequence + len(segment.offsets) - 1,
        )
    return segment


def _scan(segment: _Segment, size: int) -> int:
    """Index every whole record; the position after the last one."""
    position, block, block_at = HEADER_BYTES, b"", HEADER_BYTES
    while position + RECORD_BYTES <= size:
        at = position - block_at
        if at + RECORD_BYTES > len(block):
            block, block_at, at = os.pread(segment.fd, _SCAN_BYTES, position), position, 0
        length, crc, time_ms = _RECORD.unpack_from(block, at)
        end = at + RECORD_BYTES + length
        if position + RECORD_BYTES + length > size:
            break
        if end > len(block):
            block, block_at, at = os.pread(segment.fd, max(_SCAN_BYTES, RECORD_BYTES + length), position), position, 0
            end = RECORD_BYTES + length
        if zlib.crc32(block[at + 8 : end]) != crc:
            break
        segment.add(time_ms, length)
        position += RECORD_BYTES + length
    return position


class PartitionLog:
    """Messages by sequence number, offset and time.

    Args:
        directory: Where the segments are; None keeps them in anonymous temporary files that go with the process.
        segment_bytes: Size at which a new segment is begun.
        retention_bytes: Size above which the oldest segments are deleted (the last one stays).

    Raises:
        LogDamaged: A segment other than the last one, or a header, is not intact.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        retention_bytes: int = RETENTION_BYTES,
    ) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._retention_bytes = retention_bytes
        self._segments: list[_Segment] = []
        self._begin = 0
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            try:
                self._load_all(sorted(directory.glob("*.log")))
            except LogDamaged:
                self.close()
                raise
        if not self._segments:
            self._segments.append(_create(directory, 0, FIRST_OFFSET))
        self._begin = self._segments[0].first_sequence

    def _load_all(self, paths: Sequence[Path]) -> None:
        for path in paths:
            segment = _load(path, last=path == paths[-1])
            if segment is not None:
                self._segments.append(segment)
        for before, after in pairwise(self._segments):
            if before.first_sequence + len(before.offsets) != after.first_sequence:
                raise LogDamaged(f"couldn't read {after.path}: a segment before it is missing; restore it")

    @property
    def begin(self) -> int:
        """Sequence number of the oldest record held, or of the next one if none is."""
        return self._begin

    @property
    def end(self) -> int:
        """Sequence number that the next record gets."""
        last = self._segments[-1]
        return last.first_sequence + len(last.offsets)

    @property
    def end_offset(self) -> int:
        """Offset that the next record gets."""
        return self._segments[-1].end_offset

    def last(self) -> tuple[int, int] | None:
        """Offset and time (ms) of the newest record; None before the first one of the segments held."""
        for segment in reversed(self._segments):
            if segment.offsets:
                return segment.offsets[-1], segment.times[-1]
        return None

    def append(self, messages: Sequence[bytes], time_ms: int) -> None:
        """Write the messages, all or none; OSError if the disk refuses."""
        segment = self._segments[-1]
        if segment.end_offset - segment.first_offset >= self._segment_bytes:
            segment = _create(self._directory, self.end, segment.end_offset)
            self._segments.append(segment)
        time = struct.pack(">q", time_ms)
        block = b"".join(
            part
            for message in messages
            for part in (struct.pack(">II", len(message), zlib.crc32(message, zlib.crc32(time))), time, message)
        )
        position = segment.position(segment.end_offset)
        written = 0
        try:
            while written < len(block):
                written += os.pwrite(segment.fd, memoryview(block)[written:], position + written)
        except OSError:
            os.ftruncate(segment.fd, position)
            raise
        for message in messages:
            segment.add(time_ms, len(message))
        self._retain()

    def _retain(self) -> None:
        held = self._segments[-1].end_offset - self._segments[0].first_offset
        while held > self._retention_bytes and len(self._segments) > 1:
            oldest = self._segments.pop(0)
            held -= oldest.end_offset - oldest.first_offset
            oldest.discard()
        self._begin = max(self._begin, self._segments[0].first_sequence)

    def expire(self, before: int) -> None:
        """Forget the records below a sequence number now, as retention would in time (whole files at a restart)."""
        self._begin = max(self._begin, min(before, self.end))
        if self._begin == self.end and self._segments[-1].offsets:
            self._segments.append(_create(self._directory, self.end, self.end_offset))
        while len(self._segments) > 1 and self._segments[1].first_sequence <= self._begin:
            self._segments.pop(0).discard()

    def read(self, sequence: int, count: int, bytes_max: int) -> list[bytes]:
        """Read up to `count` messages of about `bytes_max` together, at least one if there is one."""
        if not self._begin <= sequence < self.end or count <= 0:
            return []
        segment = self._segments[bisect_right(self._segments, sequence, key=lambda each: each.first_sequence) - 1]
        first = sequence - segment.first_sequence
        offsets = segment.offsets
        start = offsets[first]
        stop = min(first + count, len(offsets))
        stop = max(first + 1, min(stop, bisect_right(offsets, start + bytes_max, first, stop)))
        end = offsets[stop] if stop < len(offsets) else segment.end_offset
        block = os.pread(segment.fd, end - start, segment.position(start))
        edges = [*offsets[first:stop], end]
        return [block[a - start + RECORD_BYTES : b - start] for a, b in pairwise(edges)]

    def find_offset(self, offset: int, *, inclusive: bool) -> int:
        """Sequence number of the first record with an offset above (or at) the one given."""
        index = bisect_right(self._segments, offset, key=lambda each: each.first_offset) - 1
        segment = self._segments[max(index, 0)]
        find = bisect_left if inclusive else bisect_right
        return max(self._begin, segment.first_sequence + find(segment.offsets, offset))

    def find_time(self, time_ms: int, *, inclusive: bool) -> int:
        """Sequence number of the first record stored after (or at) a time; times never go back in a log."""
        find = bisect_left if inclusive else bisect_right
        for segment in self._segments:
            index = find(segment.times, time_ms)
            if index < len(segment.times):
                return max(self._begin, segment.first_sequence + index)
        return self.end

    def close(self) -> None:
        """Close the files; what is on disk stays."""
        for segment in self._segments:
            os.close(segment.fd)
        self._segments.clear()

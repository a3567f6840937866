"""The lake as a sink: buffers what is analysed and commits it exactly once; this is the commit point of the data path.

The key that makes writing twice harmless is (table, partition, sequence number): every commit carries the last sequence
number of each partition as its mark, and rows at or below a mark are cut.
"""

from __future__ import annotations

import time
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from alumicatalyst.errors import ClaimLost, RolledBack
from alumicatalyst.lake import tables
from alumicatalyst.lake.buffer import Buffer
from alumicatalyst.lake.commit import Plan, Put, append, put_files
from alumicatalyst.lake.encode import encode
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from alumicatalyst.lake import Lake
    from alumicatalyst.lake.encode import EncodedFile
    from alumicatalyst.lake.table import Snapshot
    from alumicatalyst.operator import Analysed

    OnCommitted = Callable[[str, int, int, Sequence[pa.RecordBatch]], None]

FLUSH_BYTES_MAX = 256 * 1024 * 1024
"""Bytes in memory at which a flush does not wait: rows are small, but a rejected one may hold kilobytes of its body."""

_log = get_logger(__name__)


class LakeSink:
    """Commits a worker's partitions, many of them in one commit of a table.

    Items are its clock: a source without envelopes sends an empty batch about once a second.

    Args:
        lake: The lake.
        flush_interval_s: Rows wait at most this long, plus a heartbeat.
        flush_rows_max: Rows at which a flush does not wait.
        on_committed: Told of every range of a partition that `batches` has sealed, as (partition, follows, last,
            alarms).

    Example:
        >>> sink = LakeSink(lake, flush_interval_s=10, flush_rows_max=1_000_000)
        >>> sink.write(item)
        >>> sink.close()
    """

    def __init__(
        self,
        lake: Lake,
        *,
        flush_interval_s: float,
        flush_rows_max: int,
        on_committed: OnCommitted = lambda *_: None,
    ) -> None:
        self._lake = lake
        self._on_committed = on_committed
        self._flush_interval_s = flush_interval_s
        self._flush_rows_max = flush_rows_max
        self._buffers: dict[str, Buffer] = {}
        self._waiting_since: float | None = None

    def write(self, item: Analysed) -> None:
        """Buffer an item, and flush if it is time.

        Raises:
            LakeGap: The item does not follow what came before.
            ClaimLost, RolledBack, LakeError: See `flush`.
        """
        buffer = self._buffer(item)
        if item.output is not None:
            buffer.add(item.output)
        if item.state is not None:
            buffer.state = item.state
        if self._waiting_since is None and (buffer.outputs or buffer.state):
            self._waiting_since = time.monotonic()
        buffers = self._buffers.values()
        full = (
            sum(each.rows for each in buffers) >= self._flush_rows_max
            or sum(each.size for each in buffers) >= FLUSH_BYTES_MAX
        )
        if full or (
            self._waiting_since is not None and time.monotonic() - self._waiting_since >= self._flush_interval_s
        ):
            self.flush()

    def flush(self) -> None:
        """Commit everything buffered. THE COMMIT POINT: what `batches` has sealed when this returns is never redone.

        The order is what recovery (I5) rests on. Rows first, each table with its own mark; `batches` after all of
        them, so that its mark never claims rows that are not there (I1); states last, so that none is ahead of the
        marks. A crash in between leaves some tables ahead of `batches`: the next process replays from the state, the
        same rows come again (I2), and each table cuts what it has.

        Raises:
            ClaimLost: Another process has taken a partition.
            RolledBack: A table has become older than what was committed.
            LakeGap: The rows do not follow what is stored.
            LakeError: The store failed; nothing is lost, the buffers still hold everything.
        """
        pending = [buffer for buffer in self._buffers.values() if buffer.outputs]
        if pending:
            started = time.monotonic()
            rows = sum(buffer.rows for buffer in pending)
            puts = {name: self._append_rows(name, pending) for name in tables.ROW_TABLES}
            self._append_seals(pending)
            for buffer in pending:
                partition, follows, last = buffer.resume.partition, buffer.mark, buffer.last
                alarms = buffer.rows_after("alarms", follows)
                buffer.committed()
                self._on_committed(partition, follows, last, alarms)
            readings = puts["readings"]
            _log.info(
                "flushed",
                partitions=len(pending),
                rows=rows,
                seconds=round(time.monotonic() - started, 3),
                bytes_per_reading=round(readings.size / readings.rows, 2) if readings else None,
            )
        for buffer in self._buffers.values():
            self._put_state(buffer)
        self._waiting_since = None

    def close(self) -> None:
        """Flush, and keep the last states."""
        self.flush()

    def marks(self) -> dict[str, int]:
        """Return the mark of `batches` for every partition written here."""
        return {partition: buffer.mark for partition, buffer in self._buffers.items()}

    def _buffer(self, item: Analysed) -> Buffer:
        resume = item.resume
        buffer = self._buffers.get(resume.partition)
        if buffer is None or buffer.resume.claim < resume.claim:
            # A partition that was taken anew replays what was not committed, so its old buffer is dropped.
            buffer = self._buffers[resume.partition] = Buffer.of(resume)
        elif buffer.resume.claim > resume.claim:
            raise ClaimLost(
                f"couldn't store partition {resume.partition}: it was taken again (claim {buffer.resume.claim}, ours "
                f"{resume.claim}); this run of it stops"
            )
        return buffer

    def _put_state(self, buffer: Buffer) -> None:
        state = buffer.covered_state()
        if state is None:
            return
        try:
            self._lake.put_state(buffer.resume, *state)
        except Exception as error:  # noqa: BLE001 rows are safe without it; a restart only has more to read again
            _log.warning(
                "state not kept",
                partition=buffer.resume.partition,
                sequence_number=state[0],
                error=str(error),
                remedy="mend the store; the next state is tried in its turn",
            )

    def _append_rows(self, name: str, pending: list[Buffer]) -> Put | None:
        """Commit a table's rows; return the files, None if it needed none."""
        holders = [buffer for buffer in pending if any(getattr(each, name).num_rows for each in buffer.outputs)]
        if not holders:
            return None
        table = self._lake.table(name)

        def cut(marks: dict[str, int]) -> list[EncodedFile]:
            kept = [each.rows_after(name, marks[each.resume.partition]) for each in holders]
            return encode(name, [batch for batches in kept for batch in batches])

        # Encoded on what was known last, which nearly always still holds, while other workers use the table.
        encoded_at = {each.resume.partition: _mark(table.known(), each) for each in holders}
        encoded = cut(encoded_at)
        put: Put | None = None

        def missing(snapshot: Snapshot) -> Plan | None:
            nonlocal encoded_at, encoded, put
            marks = {each.resume.partition: _mark(snapshot, each) for each in holders}
            if marks != encoded_at or (put and put.may_be_gone(snapshot)):
                # Somebody has committed for us, perhaps we ourselves: cut again. Files that were put before stay as
                # orphans, as a commit of theirs may still be under way.
                encoded_at, encoded, put = marks, cut(marks), None
            if not encoded:
                return None
            put = put or put_files(self._lake.store, name, encoded, snapshot.version)
            left = [each for each in holders if each.rows_after(name, marks[each.resume.partition])]
            return Plan({each.resume.partition: each.last for each in left}, put, _commit_info(left, marks))

        return put if append(table, _claims(holders), missing, self._lake.retry) else None

    def _append_seals(self, pending: list[Buffer]) -> None:
        last_marks: dict[str, int] = {}
        put: Put | None = None

        def missing(snapshot: Snapshot) -> Plan | None:
            nonlocal last_marks, put
            for buffer in pending:
                _check_mark(snapshot, buffer)
            marks = {each.resume.partition: snapshot.mark(each.resume.partition) for each in pending}
            left = [each for each in pending if each.last > marks[each.resume.partition]]
            if not left:
                return None
            if put is None or marks != last_marks or put.may_be_gone(snapshot):
                last_marks = marks
                rows = [row for each in left for row in each.seals(marks[each.resume.partition], software_version())]
                batch = pa.RecordBatch.from_pylist(rows, schema=tables.columns("batches"))
                put = put_files(self._lake.store, "batches", encode("batches", [batch]), snapshot.version)
            return Plan({each.resume.partition: each.last for each in left}, put, _commit_info(left, marks))

        append(self._lake.table("batches"), _claims(pending), missing, self._lake.retry, "the seal of a flush")


def _mark(snapshot: Snapshot, buffer: Buffer) -> int:
    """Return up to where a table needs nothing more: a table without rows in a flush keeps an older mark of its own."""
    return max(snapshot.mark(buffer.resume.partition), buffer.mark)


def _check_mark(snapshot: Snapshot, buffer: Buffer) -> None:
    found = snapshot.mark(buffer.resume.partition)
    if found < buffer.mark:
        raise RolledBack(
            f"couldn't store partition {buffer.resume.partition}: batches ends at {found}, but {buffer.mark} was "
            "sealed before; the table was rolled back or replaced while this process ran. Restore it"
        )


def _claims(buffers: Iterable[Buffer]) -> dict[str, int]:
    return {each.resume.partition: each.resume.claim for each in buffers}


def _commit_info(buffers: list[Buffer], marks: dict[str, int]) -> dict[str, Any]:
    return {
        "ranges": {each.resume.partition: each.ranges_after(marks[each.resume.partition]) for each in buffers},
        "dictionary": sorted({output.dictionary_sha256 for each in buffers for output in each.outputs}),
        "software": software_version(),
    }


@cache
def software_version() -> str:
    """Return this package's version, which every commit names."""
    try:
        return metadata.version("alumicatalyst")
    except metadata.PackageNotFoundError:
        return "unknown"

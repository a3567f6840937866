"""Event Hubs Capture's files as a log: a partition for each captured one, under the hub's own sequence numbers.

The idempotency key of an event is (incarnation, partition, sequence number), as on the live stream. Files may be given
in any order and overlap; what comes again is passed over as redelivered, and what is missing between them is refused.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.errors import IncarnationChanged, InputError, SourceError
from alumicatalyst.log import get_logger
from alumicatalyst.sources import partition_id
from alumicatalyst.sources.capture_files import CaptureFile, Event
from alumicatalyst.sources.drained import DrainedReader
from alumicatalyst.sources.envelope import envelopes

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from alumicatalyst._core import Dictionary

_INCARNATION_DIGITS: Final = 16

_log = get_logger(__name__)


class CaptureSource:
    """Captured files as a source of one partition for each partition of the hub.

    Args:
        paths: The files in any order; where their paths end as Capture names them, `.../<partition>/<year>/.../<second>
            .avro`, they tell the partition, else all are of partition 0.
        dictionary: Says which properties of an event are read.
        name: The first part of the partitions' identity; otherwise the hub, as the paths have it.
        incarnation: The second part, such as the hub's creation time in the identities of its live lake; otherwise the
            digest of each partition's first file.
        accept_gaps: Go on where sequence numbers are missing.
        batch_envelopes_max: Events in one batch at most.
        batch_bytes_max: Bytes of bodies in one batch at most; a larger event is a batch of its own.

    Raises:
        InputError: A file cannot be read, events are missing between them, or they are of several hubs.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        dictionary: Dictionary,
        *,
        name: str | None = None,
        incarnation: str | None = None,
        accept_gaps: bool = False,
        batch_envelopes_max: int = 5_000,
        batch_bytes_max: int = 8 << 20,
    ) -> None:
        files = [CaptureFile.of(path) for path in paths]
        hubs = sorted({file.hub for file in files if file.hub})
        if len(hubs) > 1:
            raise InputError(f"couldn't replay files of {' and '.join(hubs)} together; replay one hub after the other")
        self._files: dict[str, list[CaptureFile]] = {}
        for number, of_it in itertools.groupby(sorted(files, key=_number), key=_number):
            kept = _in_order(list(of_it), accept_gaps=accept_gaps)
            if kept:
                self._files[number] = kept
        if not self._files:
            raise InputError(f"couldn't replay {len(files)} captured file(s): they hold no event; name others")
        self.properties = dictionary.properties
        self.accept_gaps = accept_gaps
        self.batch_envelopes_max, self.batch_bytes_max = batch_envelopes_max, batch_bytes_max
        self._incarnation = incarnation
        self._ids = {
            partition_id(
                name or (hubs or ["capture"])[0], incarnation or kept[0].sha256[:_INCARNATION_DIGITS], number
            ): number
            for number, kept in self._files.items()
        }
        self.rows = 0

    def partitions(self) -> list[str]:
        """Return the identities of all partitions, sorted."""
        return sorted(self._ids)

    def first_sequence(self, partition: str) -> int | None:
        """Return the first captured sequence number."""
        return self._files[self._ids[partition]][0].first

    def open(self, partition: str, after: int, owner_level: int) -> CaptureReader:
        """Read a partition's events behind a sequence number."""
        del owner_level
        files = [file for file in self._files[self._ids[partition]] if file.last > after]
        self.rows += sum(file.events for file in files)
        return CaptureReader(self, files, after)

    def input(self) -> dict[str, Any]:
        """Return what the journal keeps of the input: how many files of each partition, and a digest over them."""
        return {
            "captured": {number: _told(files, len(files)) for number, files in sorted(self._files.items())},
            "options": {"incarnation": self._incarnation, "accept_gaps": self.accept_gaps},
        }

    def check_input(self, previous: Mapping[str, Any]) -> None:
        """Check that files were only added, behind those of an earlier run.

        Raises:
            IncarnationChanged: Files are missing, changed, or in between.
            SourceError: The journal does not say which files there were.
        """
        earlier = previous.get("captured")
        if not isinstance(earlier, dict):
            raise SourceError(
                "couldn't compare the files with those of the last run: the journal's input names none; restore the "
                "lake's journal, or give another --name"
            )
        for number, told in earlier.items():
            now = _told(self._files.get(number, []), told["files"])
            if now != told:
                raise IncarnationChanged(
                    f"couldn't continue the replay: of partition {number} there were {told['files']} files up to "
                    f"{told['last']}, and these have changed, are missing, or have others between them; name the same "
                    "files, new ones behind them, or store everything anew under another --name"
                )


class CaptureReader(DrainedReader["pa.RecordBatch"]):
    """One partition of captured files."""

    def __init__(self, source: CaptureSource, files: Sequence[CaptureFile], after: int) -> None:
        self._source, self._files, self._after = source, files, after
        super().__init__(self._read())

    def _read(self) -> Generator[pa.RecordBatch, None, None]:
        held: list[Event] = []
        size = 0
        for event in self._events():
            if held and (
                len(held) >= self._source.batch_envelopes_max or size + len(event.body) > self._source.batch_bytes_max
            ):
                yield self._batch(held)
                held, size = [], 0
            held.append(event)
            size += len(event.body)
        if held:
            yield self._batch(held)

    def _events(self) -> Iterator[Event]:
        """Yield events in order; those that come again too, for the core counts them."""
        last: int | None = None
        for file in self._files:
            for event in file.read():
                if event.sequence_number <= self._after:
                    continue
                if last is not None and event.sequence_number > last + 1 and not self._source.accept_gaps:
                    raise _gap(file.path.name, last, event.sequence_number)
                last = event.sequence_number if last is None else max(last, event.sequence_number)
                yield event

    def _batch(self, events: list[Event]) -> pa.RecordBatch:
        wanted = self._source.properties
        return envelopes(
            [event.body for event in events],
            [event.sequence_number for event in events],
            [event.enqueued_us for event in events],
            [event.offset for event in events],
            [_properties(event, wanted) for event in events] if wanted else None,
        )


def _number(file: CaptureFile) -> str:
    return file.partition or "0"


def _in_order(files: list[CaptureFile], *, accept_gaps: bool) -> list[CaptureFile]:
    """Return a partition's files by their sequence numbers, without empty ones and copies."""
    kept: list[CaptureFile] = []
    last = -1
    for file in sorted(files, key=lambda file: (file.first, file.last, file.name)):
        if not file.events or any(file.sha256 == other.sha256 for other in kept[-8:]):
            continue
        if kept and file.first > last + 1:
            if not accept_gaps:
                raise _gap(file.name, last, file.first)
            _log.warning("events are missing", file=file.name, first_sequence=last + 1, last_sequence=file.first - 1)
        if kept and file.first <= last:
            _check_alike(kept[-1], file)
        kept.append(file)
        last = max(last, file.last)
    return kept


def _check_alike(one: CaptureFile, other: CaptureFile) -> None:
    """Two files that overlap are of one partition only if they hold the same event under the same number."""
    if not one.first <= other.first <= one.last:
        return
    found = [next(e for e in file.read() if e.sequence_number >= other.first) for file in (one, other)]
    first, second = found
    if first.sequence_number == second.sequence_number and (first.body, first.enqueued_us) != (
        second.body,
        second.enqueued_us,
    ):
        raise InputError(
            f"couldn't put {one.path} and {other.path} in order: they hold different events {other.first}, so they are "
            "of several partitions or hubs; keep Capture's folders, or replay one partition after the other"
        )


def _gap(name: str, last: int, first: int) -> InputError:
    return InputError(
        f"couldn't replay {name}: it goes on at sequence number {first}, and what came before ends at {last}; name the "
        "files in between, or give --accept-gaps"
    )


def _told(files: Sequence[CaptureFile], count: int) -> dict[str, Any]:
    """Digest the first files of a partition: their names, sizes and digests, in order."""
    digest = hashlib.sha256()
    for file in files[:count]:
        digest.update(f"{file.name}\n{file.size}\n{file.sha256}\n".encode())
    chosen = files[:count]
    return {"files": len(chosen), "last": chosen[-1].name if chosen else None, "sha256": digest.hexdigest()}


def _properties(event: Event, wanted: Sequence[str]) -> dict[str, str] | None:
    """Return the wanted properties as text. What the service put on stands before what a device may have put beside."""
    found = {}
    for name in wanted:
        value = event.system.get(name)
        if value is None:
            value = event.properties.get(name)
        if value is not None:
            found[name] = _text(value)
    return found or None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else json.dumps(value)

"""Reads files as if they were a log: one envelope a row, numbered by file and row, in bounded memory.

The idempotency key of a row is (incarnation, file ordinal, row): the incarnation is taken from the first file's digest,
and the list of files may only grow.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alumicatalyst.errors import IncarnationChanged, InputError, SourceError
from alumicatalyst.sources import partition_id
from alumicatalyst.sources.envelope import SCHEMA, envelopes
from alumicatalyst.sources.replay_columns import UNKNOWN, Roles, parse_offset
from alumicatalyst.sources.replay_csv import csv_blocks
from alumicatalyst.sources.replay_lines import line_blocks
from alumicatalyst.sources.replay_parquet import parquet_blocks

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from alumicatalyst._core import Dictionary
    from alumicatalyst.sources.replay_columns import Block

ROWS_PER_FILE: Final = 1 << 40
PARTITIONS_MAX: Final = 1024
_INCARNATION_DIGITS: Final = 16
_FORMATS: Final = (".csv", ".tsv", ".txt", ".ndjson", ".jsonl", ".json", ".parquet")
_HASH_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    name: str
    stem: str
    kind: str
    size: int
    sha256: str


class ReplaySource:
    """Files as a source of one partition, or of several by the SHA-256 of the device.

    Args:
        paths: The files in order: .csv, .tsv or .txt; .ndjson, .jsonl or .json (one object or array a line, or
            envelopes as `simulate` writes them); .parquet. The first two kinds also with .gz.
        dictionary: Says which columns name the device and the time.
        name: The first part of the partitions' identity.
        utc_offset: What times without an offset are taken for, `Z` or `+02:00`; without it they are refused.
        time_column: The column with the event time, where the dictionary has another name for it.
        enqueued_column: The column with the time at which a row reached the log; else the newest event time so far.
        partitions: How many partitions the devices are spread over; rows keep their numbers.
        separator: Between the cells of a CSV; else it is guessed from the first row.
        batch_envelopes_max: Rows in one batch at most.
        batch_bytes_max: Bytes of bodies in one batch at most; a larger row is a batch of its own.

    Raises:
        InputError: A file is missing, of an unknown kind, or given twice.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        dictionary: Dictionary,
        *,
        name: str = "telemetry",
        utc_offset: str | None = None,
        time_column: str | None = None,
        enqueued_column: str | None = None,
        partitions: int = 1,
        separator: str | None = None,
        batch_envelopes_max: int = 5_000,
        batch_bytes_max: int = 8 << 20,
    ) -> None:
        if not paths:
            raise InputError("couldn't replay: no files; name at least one .csv, .ndjson or .parquet file")
        if not 1 <= partitions <= PARTITIONS_MAX:
            raise InputError(f"couldn't spread rows over {partitions} partitions; give 1 to {PARTITIONS_MAX}")
        if separator is not None and (len(separator) != 1 or separator in '"\r\n' or ord(separator) > 127):
            raise InputError(f"couldn't use --separator {separator!r}: give one character, such as ;")
        self.roles = Roles.of(
            json.loads(dictionary.to_json())["payload"],
            time_column=time_column,
            enqueued_column=enqueued_column,
            utc_offset=None if utc_offset is None else parse_offset(utc_offset),
        )
        twice = next((path for place, path in enumerate(paths) if path in paths[:place]), None)
        if twice is not None:
            raise InputError(f"couldn't replay {twice} twice: its rows would count twice; name it once")
        self.files = [_inspect(path) for path in paths]
        self.separator = separator
        self.spread = partitions
        self.wants_file = "file" in dictionary.properties
        self.batch_envelopes_max = batch_envelopes_max
        self.batch_bytes_max = batch_bytes_max
        self.unreadable = 0
        incarnation = self.files[0].sha256[:_INCARNATION_DIGITS]
        self._partitions = [partition_id(name, incarnation, number) for number in range(partitions)]

    def partitions(self) -> list[str]:
        """Return the identities of all partitions, sorted."""
        return sorted(self._partitions)

    def first_sequence(self, partition: str) -> int | None:
        """Return 0: files hold everything from their first row."""
        del partition
        return 0

    def open(self, partition: str, after: int, owner_level: int) -> ReplayReader:
        """Read a partition's rows behind a sequence number."""
        del owner_level
        return ReplayReader(self, self._partitions.index(partition), after)

    def manifest(self) -> list[dict[str, Any]]:
        """Return name, size and SHA-256 of each file, in order."""
        return [{"name": file.name, "size": file.size, "sha256": file.sha256} for file in self.files]

    def flush_body(self) -> dict[str, Any]:
        """Return what the journal's `flush` records of this source."""
        return {"manifest": self.manifest()}

    def check_flush(self, body: Mapping[str, Any]) -> None:
        """Check that files were only added since a flush was journaled.

        Raises:
            IncarnationChanged: A file is missing, changed, or in another place.
            SourceError: The journal's row does not say which files there were.
        """
        manifest = body.get("manifest")
        if not isinstance(manifest, list):
            raise SourceError(
                "couldn't compare the files with those of the last run: the journal's flush names none; restore it"
            )
        verify_manifest(manifest, self.manifest())

    def blocks(self, ordinal: int) -> Iterator[Block]:
        """Read one of the files.

        Raises:
            InputError: It cannot be read.
        """
        file = self.files[ordinal]
        with _open(file.path) as opened:
            if file.kind in {".csv", ".tsv", ".txt"}:
                separator = self.separator or ("\t" if file.kind == ".tsv" else None)
                yield from csv_blocks(opened, file.path, self.roles, separator)
            elif file.kind == ".parquet":
                yield from parquet_blocks(opened, file.path, self.roles)
            else:
                yield from line_blocks(opened, file.path, self.roles)


class ReplayReader:
    """One partition of a replay. Reads on where it is told to, a block of a few megabytes at a time."""

    def __init__(self, source: ReplaySource, number: int, after: int) -> None:
        self._source = source
        self._number = number
        self._after = after
        self._batches = self._read()
        self.finished = False
        self.queued = 0
        self.last_sequence = -1

    def take(self) -> pa.RecordBatch | None:
        """Return the next batch, None at the end."""
        if self.finished:
            return None
        batch = next(self._batches, None)
        self.finished = batch is None
        return batch

    def lag(self) -> tuple[int, float] | None:
        """Return None: how many rows a file holds is known at its end."""
        return None

    def close(self) -> None:
        """Close the file."""
        self._batches.close()
        self.finished = True

    def _read(self) -> Generator[pa.RecordBatch]:
        # Rows before `after` are read too: the newest event time so far is part of what follows them.
        newest = 0
        for ordinal, file in enumerate(self._source.files):
            try:
                for block in self._source.blocks(ordinal):
                    chosen = self._chosen(block, file.stem)
                    newest, enqueued = _enqueued(block, chosen, newest)
                    sequence = block.rows[chosen] + ordinal * ROWS_PER_FILE
                    if self._number == 0:
                        self._source.unreadable += block.unreadable
                    if not len(sequence):
                        continue
                    self.last_sequence = int(sequence[-1])
                    new = sequence > self._after
                    yield from self._cut(block, chosen[new], sequence[new], enqueued[new], file.stem)
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
    """Return the newest time so far, and when each chosen row reached the log; before any time it is 1970."""
    own = block.enqueued_us is not None
    times = (block.event_us if block.enqueued_us is None else block.enqueued_us)[chosen]
    running = np.maximum.accumulate(np.concatenate([[newest], np.where(times == UNKNOWN, newest, times)]))
    if len(times) == 0:
        return newest, times
    # A named column is taken as it is; only where it is empty the newest time stands in.
    return int(running[-1]), np.where(times == UNKNOWN, running[1:], times) if own else running[1:]


def partition_of(device: bytes, partitions: int) -> int:
    """Return the partition of a device: its SHA-256 modulo their number. Rows without a device are in the first one."""
    if not device:
        return 0
    return int.from_bytes(hashlib.sha256(device).digest()[:8], "big") % partitions


def verify_manifest(previous: Sequence[Mapping[str, Any]], current: Sequence[Mapping[str, Any]]) -> None:
    """Check that files were only added since an earlier run.

    Args:
        previous: The manifest of the earlier run, as its `flush` in the journal has it.
        current: This run's.

    Raises:
        IncarnationChanged: A file is missing, changed, or in another place.
    """
    for ordinal, earlier in enumerate(previous):
        if ordinal >= len(current):
            raise IncarnationChanged(
                f"couldn't resume the replay: file {ordinal + 1} was {earlier['name']} and is missing; name the same "
                "files in the same order, new ones behind them"
            )
        now = current[ordinal]
        if now["sha256"] != earlier["sha256"]:
            what = "has changed" if now["name"] == earlier["name"] else f"is now {now['name']}"
            raise IncarnationChanged(
                f"couldn't resume the replay: file {ordinal + 1} was {earlier['name']} ({earlier['size']} bytes, "
                f"SHA-256 {str(earlier['sha256'])[:12]}) and {what} ({now['size']} bytes, {str(now['sha256'])[:12]}); "
                "name the same files in the same order, new ones behind them"
            )


def _inspect(path: Path) -> _File:
    name = path.name.lower()
    compressed = name.endswith(".gz")
    stem = path.name[: -len(".gz")] if compressed else path.name
    kind = next((kind for kind in _FORMATS if stem.lower().endswith(kind)), None)
    if kind is None or (compressed and kind == ".parquet"):
        raise InputError(
            f"couldn't choose how to read {path}: its name ends in none of {', '.join(_FORMATS)} "
            "(and .gz but for Parquet)"
        )
    digest = hashlib.sha256()
    size = 0
    try:
        with path.open("rb") as file:
            while part := file.read(_HASH_BYTES):
                digest.update(part)
                size += len(part)
    except OSError as error:
        raise InputError(f"couldn't read {path}: {error.strerror}; check the path") from None
    return _File(path, path.name, stem[: -len(kind)], kind, size, digest.hexdigest())


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")

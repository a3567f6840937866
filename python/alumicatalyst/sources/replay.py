"""Reads files as if they were a log: one envelope a row, numbered by file and row, in bounded memory.

The idempotency key of a row is (incarnation, file ordinal, row): the incarnation is taken from the first file's digest,
the list of files may only grow, and all are read in the same way from the first run on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.errors import InputError
from alumicatalyst.sources import partition_id
from alumicatalyst.sources.replay_columns import Roles
from alumicatalyst.sources.replay_csv import csv_blocks
from alumicatalyst.sources.replay_files import InputFile, offset_text, verify_input
from alumicatalyst.sources.replay_lines import line_blocks
from alumicatalyst.sources.replay_parquet import parquet_blocks
from alumicatalyst.sources.replay_reader import ROWS_PER_FILE, ReplayReader, partition_of
from alumicatalyst.sources.replay_times import parse_offset

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from alumicatalyst._core import Dictionary
    from alumicatalyst.sources.replay_columns import Block

PARTITIONS_MAX: Final = 1024
_INCARNATION_DIGITS: Final = 16


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
        self.files = [InputFile.of(path) for path in paths]
        self._options = {
            "partitions": partitions,
            "time": time_column,
            "enqueued": enqueued_column,
            "utc_offset": offset_text(self.roles.utc_offset),
            "separator": separator,
        }
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

    def input(self) -> dict[str, Any]:
        """Return what the journal keeps of the input: its files, and the options that decide what rows become."""
        return {"files": [file.entry() for file in self.files], "options": self._options}

    def check_input(self, previous: Mapping[str, Any]) -> None:
        """Check that files were only added since an earlier run, and that they are read in the same way.

        Args:
            previous: What `input` returned then.

        Raises:
            InputError: An option differs.
            IncarnationChanged: A file is missing, renamed, changed, or in another place.
            SourceError: The journal does not say which files there were.
        """
        now = self.input()
        verify_input(previous, now["files"], now["options"])

    def blocks(self, ordinal: int) -> Iterator[Block]:
        """Read one of the files.

        Raises:
            InputError: It cannot be read.
        """
        file = self.files[ordinal]
        with file.open() as opened:
            if file.kind in {".csv", ".tsv", ".txt"}:
                separator = self.separator or ("\t" if file.kind == ".tsv" else None)
                yield from csv_blocks(opened, file.path, self.roles, separator)
            elif file.kind == ".parquet":
                yield from parquet_blocks(opened, file.path, self.roles)
            else:
                yield from line_blocks(opened, file.path, self.roles)


__all__ = ["PARTITIONS_MAX", "ROWS_PER_FILE", "ReplayReader", "ReplaySource", "partition_of"]

"""Reads CSV files block by block: rows are split here, so that a broken one is a row like any other."""

from __future__ import annotations

import csv
import io
from typing import IO, TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from alumicatalyst.errors import InputError
from alumicatalyst.sources.replay_columns import (
    UNKNOWN,
    Block,
    check_columns,
    first_of,
    json_of_texts,
    objects,
    read_times,
    refuse_times,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from alumicatalyst.sources.replay_columns import Roles

_BLOCK_BYTES: Final = 4 << 20
# A row that is longer, such as what follows a quote that is never closed, is cut off at the end of its first line.
ROW_BYTES_MAX: Final = 1 << 20
_SEPARATORS: Final = ",;\t|"
_QUOTE, _NEWLINE, _RETURN = ord('"'), ord("\n"), ord("\r")
_BOM: Final = b"\xef\xbb\xbf"
_TEXT: Final = pa.large_binary()


def csv_blocks(file: IO[bytes], path: Path, roles: Roles, separator: str | None) -> Iterator[Block]:
    """Read a CSV file whose first row names its columns.

    Raises:
        InputError: It has no such row, no column with times, or times that cannot be read.
    """
    first = file.read(_BLOCK_BYTES).removeprefix(_BOM)
    header, _, rest = first.partition(b"\n")
    if len(header) > ROW_BYTES_MAX:
        raise InputError(f"couldn't read the column names of {path}: its first row is longer than 1 MiB; is it a CSV?")
    names, separator = _header(header, path, separator)
    check_columns(names, roles, path)
    reader = _Rows(file, rest, len(names), separator)
    seen_time = False
    for rows, table, bad_rows, bad in reader.blocks():
        block = _block(rows, table, names, roles, path)
        if not seen_time and len(rows):
            seen_time = bool((block.event_us != UNKNOWN).any())
            if not seen_time:
                column = next(name for name in names if roles.member(name) in roles.time)
                samples = (text.decode(errors="replace") for text in table[names.index(column)].to_pylist())
                raise refuse_times(samples, roles.time_format, f"column {column} in {path}")
        yield _with_bad(block, bad_rows, bad)


def _header(line: bytes, path: Path, separator: str | None) -> tuple[list[str], str]:
    try:
        text = line.decode().strip("\r")
    except UnicodeDecodeError:
        raise InputError(f"couldn't read the column names of {path}: they are not UTF-8; convert the file") from None
    if not text.strip():
        raise InputError(f"couldn't read {path}: its first row is empty; it has to name the columns")
    if separator is None:
        separator = max(_SEPARATORS, key=lambda mark: len(next(csv.reader([text], delimiter=mark))))
    names = next(csv.reader([text], delimiter=separator))
    if any(not name for name in names):
        raise InputError(f"couldn't read the column names of {path}: one is empty in {text!r}; name every column")
    if all(_is_number(name) for name in names):
        raise InputError(f"couldn't read the column names of {path}: the first row is {text!r}; put the names there")
    return names, separator


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _Rows:
    """Splits a file into rows, and into those with the right number of columns and the others."""

    def __init__(self, file: IO[bytes], rest: bytes, columns: int, separator: str) -> None:
        self._file = file
        self._rest = rest
        self._columns = columns
        self._separator = separator
        self._row = 0

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], list[pa.Array], list[int], list[bytes]]]:
        """Return numbers and columns of the good rows, numbers and bytes of the others, block by block."""
        data = self._rest
        while True:
            more = self._file.read(_BLOCK_BYTES)
            data += more
            if not data:
                return
            ends, separators = self._ends(data, last=not more)
            if not len(ends):
                if len(data) <= ROW_BYTES_MAX:
                    continue
                # No row ends in sight: a quote was never closed, or there are no lines at all.
                ends, separators = self._line_ends(data, last=False)
                if not len(ends):
                    yield self._cut(data)
                    data = self._after_line()
                    continue
            used = int(ends[-1])
            yield self._split(data[:used], ends, separators)
            data = data[used:]

    def _cut(self, data: bytes) -> tuple[NDArray[np.int64], list[pa.Array], list[int], list[bytes]]:
        """Return the beginning of a line that is too long, as a broken row."""
        self._row += 1
        none = [pa.array([], _TEXT)] * self._columns
        return np.zeros(0, dtype=np.int64), none, [self._row - 1], [data[:ROW_BYTES_MAX]]

    def _after_line(self) -> bytes:
        """Read past the end of a line."""
        while more := self._file.read(_BLOCK_BYTES):
            if b"\n" in more:
                return more[more.index(b"\n") + 1 :]
        return b""

    def _ends(self, data: bytes, *, last: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where rows end (behind their newline), and how many separators stand in each."""
        if b'"' not in data:
            return self._line_ends(data, last=last)
        # A newline or separator counts only outside of quotes: where their number so far is even. Doubled quotes keep
        # it so.
        raw = np.frombuffer(data, dtype=np.uint8)
        quotes = np.flatnonzero(raw == _QUOTE)
        newlines = np.flatnonzero(raw == _NEWLINE)
        marks = np.flatnonzero(raw == ord(self._separator))
        ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0] + 1
        marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
        if last and (not len(ends) or ends[-1] < len(data)):
            ends = np.append(ends, len(data))
        counts = np.diff(np.searchsorted(marks, ends), prepend=0)
        lines = np.diff(np.searchsorted(newlines, ends), prepend=0)
        starts = np.concatenate([[0], ends[:-1]])
        for row in np.flatnonzero(lines > 1).tolist():
            if counts[row] != self._columns - 1 or not self._fits(data[starts[row] : ends[row]]):
                # A row over several lines does not add up: rather a stray quote than a value with line breaks.
                return self._line_ends(data, last=last)
        return ends, counts

    def _line_ends(self, data: bytes, *, last: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Take every line for a row; in those with quotes separators are not counted (-1)."""
        raw = np.frombuffer(data, dtype=np.uint8)
        ends = np.flatnonzero(raw == _NEWLINE) + 1
        if last and (not len(ends) or ends[-1] < len(data)):
            ends = np.append(ends, len(data))
        counts = np.diff(np.searchsorted(np.flatnonzero(raw == ord(self._separator)), ends), prepend=0)
        quotes = np.diff(np.searchsorted(np.flatnonzero(raw == _QUOTE), ends), prepend=0)
        return ends, np.where(quotes > 0, -1, counts)

    def _split(
        self, data: bytes, ends: NDArray[np.int64], separators: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], list[pa.Array], list[int], list[bytes]]:
        """Take rows apart: those that add up all at once, others with quotes one by one, and the rest not at all."""
        raw = np.frombuffer(data, dtype=np.uint8)
        starts = np.concatenate([[0], ends[:-1]])
        first_row = self._row
        self._row += len(ends)
        lengths = ends - starts
        blank = (lengths == 1) & (raw[starts] == _NEWLINE)
        blank |= (lengths == 2) & (raw[starts] == _RETURN) & (raw[ends - 1] == _NEWLINE)
        short = (lengths <= ROW_BYTES_MAX) & ~blank
        good = short & (separators == self._columns - 1)

        def texts(which: NDArray[np.bool_]) -> list[bytes]:
            return [data[starts[row] : ends[row]] for row in np.flatnonzero(which).tolist()]

        columns = self._columns_of(data if good.all() else b"".join(texts(good)), int(good.sum()))
        if columns is None:
            # Arrow reads these quotes in another way.
            columns, good = [pa.array([], _TEXT)] * self._columns, np.zeros_like(good)
        rows = np.flatnonzero(good)
        doubtful = short & ~good
        if doubtful.any():
            held = texts(doubtful)
            doubtful[np.flatnonzero(doubtful)[[b'"' not in text for text in held]]] = False
            more, fits = self._columns_one_by_one(texts(doubtful))
            rows = np.concatenate([rows, np.flatnonzero(doubtful)[fits]])
            order = np.argsort(rows, kind="stable")
            rows = rows[order]
            columns = [
                pa.concat_arrays([column, other]).take(pa.array(order))
                for column, other in zip(columns, more, strict=True)
            ]
        bad = ~blank
        bad[rows] = False
        broken = [text.rstrip(b"\r\n") for text in texts(bad)]
        return rows + first_row, columns, (np.flatnonzero(bad) + first_row).tolist(), broken

    def _columns_of(self, data: bytes, rows: int) -> list[pa.Array] | None:
        """Return the columns of rows, or None where Arrow reads quotes in another way."""
        names = [str(column) for column in range(self._columns)]
        if not rows:
            return [pa.array([], _TEXT) for _ in names]
        try:
            table = pacsv.read_csv(
                pa.BufferReader(data),
                read_options=pacsv.ReadOptions(use_threads=False, column_names=names, block_size=len(data) + 1),
                parse_options=pacsv.ParseOptions(
                    delimiter=self._separator, newlines_in_values=True, ignore_empty_lines=False
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(names, _TEXT), strings_can_be_null=False
                ),
            )
        except pa.ArrowInvalid:
            return None
        if table.num_rows != rows:
            return None
        return [pa.concat_arrays(column.chunks) for column in table.columns]

    def _columns_one_by_one(self, texts: list[bytes]) -> tuple[list[pa.Array], NDArray[np.bool_]]:
        """Read rows with Python's own reader; those that it finds another number of columns in are broken."""
        found = [self._cells(text) for text in texts]
        fits = [row is not None for row in found]
        cells = [row for row in found if row is not None]
        columns = [pa.array([row[column] for row in cells], _TEXT) for column in range(self._columns)]
        return columns, np.array(fits, dtype=bool)

    def _fits(self, text: bytes) -> bool:
        return self._cells(text) is not None

    def _cells(self, text: bytes) -> list[bytes] | None:
        """Return a row's cells, None if they are not as many as there are columns."""
        # Latin-1 keeps every byte as it is, whatever the encoding.
        lines = io.StringIO(text.decode("latin-1"), newline="")
        try:
            found = list(csv.reader(lines, delimiter=self._separator))
        except csv.Error:
            return None
        if len(found) != 1 or len(found[0]) != self._columns:
            return None
        return [cell.encode("latin-1") for cell in found[0]]


def _block(rows: NDArray[np.int64], table: list[pa.Array], names: list[str], roles: Roles, path: Path) -> Block:
    """Turn columns into envelopes."""
    columns = dict(zip(names, table, strict=True))
    event_us = np.full(len(rows), UNKNOWN, dtype=np.int64)
    cells = {name: json_of_texts(column, as_text=roles.is_text(name)) for name, column in columns.items()}
    for name in reversed(_ordered(names, roles)):
        times = read_times(columns[name], roles.time_format, roles.utc_offset, f"column {name} of {path}")
        event_us = np.where(times.times_us == UNKNOWN, event_us, times.times_us)
        texts = columns[name] if times.texts is None else times.texts
        cells[name] = json_of_texts(texts, as_text=roles.time_format == "rfc3339")
    enqueued_us = None
    if roles.enqueued_column is not None:
        where = f"column {roles.enqueued_column} of {path}"
        column = columns[roles.enqueued_column]
        enqueued_us = read_times(column, "rfc3339", roles.utc_offset, where).times_us
    candidates = [columns[name] for name in roles.device if name in columns]
    return Block(
        rows=rows,
        bodies=objects([roles.member(name) for name in names], [cells[name] for name in names], len(rows)),
        event_us=event_us,
        enqueued_us=enqueued_us,
        devices=first_of(candidates) if candidates else None,
        properties=None,
        unreadable=0,
    )


def _ordered(names: list[str], roles: Roles) -> list[str]:
    """Return the columns that may hold the event time, the first one to be looked at first."""
    held = {roles.member(name): name for name in names}
    return [held[member] for member in roles.time if member in held]


def _with_bad(block: Block, bad_rows: list[int], bad: list[bytes]) -> Block:
    """Put the rows that could not be taken apart in their places."""
    if not bad:
        return block
    numbers = np.concatenate([block.rows, np.array(bad_rows, dtype=np.int64)])
    order = np.argsort(numbers, kind="stable")
    places = pa.array(order)
    unknown = np.full(len(bad), UNKNOWN, dtype=np.int64)
    enqueued = block.enqueued_us
    devices = block.devices
    if isinstance(devices, pa.Array):
        devices = pa.concat_arrays([devices, pa.nulls(len(bad), devices.type)]).take(places)
    return Block(
        rows=numbers[order],
        bodies=pa.concat_arrays([block.bodies, pa.array(bad, _TEXT)]).take(places),
        event_us=np.concatenate([block.event_us, unknown])[order],
        enqueued_us=None if enqueued is None else np.concatenate([enqueued, unknown])[order],
        devices=devices,
        properties=None,
        unreadable=len(bad),
    )

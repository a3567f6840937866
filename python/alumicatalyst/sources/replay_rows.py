"""Splits CSV files into rows and cells block by block, so that a broken row is a row like any other."""

from __future__ import annotations

import csv
import io
from typing import IO, TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

BLOCK_BYTES: Final = 4 << 20
# A row that is longer, such as what follows a quote that is never closed, is cut off at the end of its first line.
ROW_BYTES_MAX: Final = 1 << 20
_QUOTE, _NEWLINE, _RETURN = ord('"'), ord("\n"), ord("\r")
_TEXT: Final = pa.large_binary()


class Rows:
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
            more = self._file.read(BLOCK_BYTES)
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
        while more := self._file.read(BLOCK_BYTES):
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

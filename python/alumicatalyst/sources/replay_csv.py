"""Reads CSV files: column names, event times, and one JSON object a row."""

from __future__ import annotations

import csv
from typing import IO, TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from alumicatalyst.errors import InputError
from alumicatalyst.sources import replay_rows
from alumicatalyst.sources.replay_columns import Block, check_columns, first_of, json_of_texts, objects
from alumicatalyst.sources.replay_rows import Rows
from alumicatalyst.sources.replay_times import UNKNOWN, read_times, refuse_times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from alumicatalyst.sources.replay_columns import Roles

_SEPARATORS: Final = ",;\t|"
_BOM: Final = b"\xef\xbb\xbf"
_TEXT: Final = pa.large_binary()


def csv_blocks(file: IO[bytes], path: Path, roles: Roles, separator: str | None) -> Iterator[Block]:
    """Read a CSV file whose first row names its columns.

    Raises:
        InputError: It has no such row, no column with times, or times that cannot be read.
    """
    first = file.read(replay_rows.BLOCK_BYTES).removeprefix(_BOM)
    header, _, rest = first.partition(b"\n")
    if len(header) > replay_rows.ROW_BYTES_MAX:
        raise InputError(f"couldn't read the column names of {path}: its first row is longer than 1 MiB; is it a CSV?")
    names, separator = _header(header, path, separator)
    check_columns(names, roles, path)
    reader = Rows(file, rest, len(names), separator)
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

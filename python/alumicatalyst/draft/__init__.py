"""A first data dictionary for a file of readings, drafted from what its columns hold, for an engineer to correct."""

from __future__ import annotations

from pathlib import Path

from alumicatalyst._core import Dictionary
from alumicatalyst.draft import text
from alumicatalyst.draft.machine import machines
from alumicatalyst.draft.table import read
from alumicatalyst.errors import DictionaryError, InputError


def draft(path: str | Path, *, time: str | None = None, device: str | None = None) -> str:
    """Draft a dictionary from a CSV, NDJSON or Parquet file.

    A column named like a metric beside a numeric one named like its value makes a long file, one reading a row;
    otherwise every numeric column is a metric. Without a device column the device is the file itself: `@file`, the
    property in which a replay passes the file's name without its ending.

    Args:
        path: The file; its ending says what it is. A large one is judged by its beginning, and the draft says so.
        time: The column that holds the event time, where the guess is wrong.
        device: The column that holds the device, where the guess is wrong.

    Returns:
        Commented TOML that compiles.

    Raises:
        InputError: The file cannot be read, or holds nothing that could be a reading.

    Example:
        >>> print(draft("pump.csv"))  # doctest: +SKIP
    """
    path = Path(path)
    table = read(path, time=time, device=device)
    found = machines(table)
    if not found:
        raise InputError(
            f"couldn't draft a dictionary: {path}: no column beside {table.time} holds numbers; name a file of readings"
        )
    drafted = "\n".join(text.lines(path, table, found)) + "\n"
    try:
        Dictionary.from_toml(drafted)
    except DictionaryError as error:
        raise InputError(
            f"couldn't draft a dictionary: {path}: {error}; rename what a dictionary cannot name"
        ) from error
    return drafted

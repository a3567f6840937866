"""The ledger's way to the file system: whole files that are durable and complete, or not there.

Every change of the disk goes through the six functions at the end, one system call each, so that tests can let any of
them fail, or end the process there.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from alumicatalyst.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

TEMPORARY_SUFFIX: Final = ".tmp"
"""Ends the name of a file that is not complete. The one writer of a log uses the same name again."""


@contextmanager
def reported(what: str, remedy: str) -> Iterator[None]:
    """Raise LedgerError, "couldn't <what>", for an error of the operating system."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename and str(error.filename) not in what else ""
        raise LedgerError(f"couldn't {what}: {error.strerror or error}{where}; {remedy}") from error


def read(path: Path, limit: int) -> bytes:
    """Return a file; one of more than `limit` bytes is a LedgerError, a missing one a FileNotFoundError."""
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise LedgerError(f"couldn't read {path}: it has more than {limit} bytes, which none of the ledger's files has")
    return data


def put(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file so that its name always stands for all of its bytes; `sync_folders` makes the name durable."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    handle = create(temporary, mode)
    try:
        write(handle, data)
        sync(handle)
    finally:
        os.close(handle)
    rename(temporary, path)


def make_folder(folder: Path) -> set[Path]:
    """Make a folder with all above it, and return those whose entries have changed."""
    changed: set[Path] = set()
    missing = [folder]
    while not missing[-1].is_dir():
        missing.append(missing[-1].parent)
    for each in reversed(missing[:-1]):
        make(each)
        changed.add(each.parent)
    return changed


def sync_folders(folders: Iterable[Path]) -> None:
    """Make the entries of folders durable."""
    for folder in sorted(folders):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            sync(handle)
        finally:
            os.close(handle)


def remove_folder(folder: Path) -> None:
    """Remove a folder of files, if there is one."""
    if folder.is_dir():
        for each in sorted(folder.iterdir()):
            unlink(each)
        remove(folder)


def create(path: Path, mode: int) -> int:
    """Open a new or emptied file for writing; one that a crash left behind loses what rights it has beyond `mode`."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    os.fchmod(handle, os.fstat(handle).st_mode & mode)
    return handle


def write(handle: int, data: bytes) -> None:
    """Write all bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def sync(handle: int) -> None:
    """Make a file or folder durable."""
    os.fsync(handle)


def rename(old: Path, new: Path) -> None:
    """Give a file its name, in place of what had it."""
    old.replace(new)


def unlink(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def make(folder: Path) -> None:
    """Make one folder."""
    folder.mkdir()


def remove(folder: Path) -> None:
    """Remove an empty folder."""
    folder.rmdir()

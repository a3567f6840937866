"""The lake's way to a local disk: every change is one of these functions, one system call each.

So tests can watch their order, let any of them fail, or take away what none of them has made durable.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def create(path: Path) -> int:
    """Open a new file for writing."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def write(handle: int, data: bytes) -> None:
    """Write all bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def sync(handle: int) -> None:
    """Make a file, or the names in a folder, durable."""
    os.fsync(handle)


def link(old: Path, new: Path) -> None:
    """Give a file a second name; the kernel refuses one that is taken."""
    os.link(old, new)


def rename(old: Path, new: Path) -> None:
    """Give a file its name, in place of what had it."""
    old.replace(new)


def unlink(path: Path) -> None:
    """Remove a name."""
    path.unlink()


def make(folder: Path) -> None:
    """Make one folder."""
    folder.mkdir()

"""Between the ledger and the file system: every step can be watched, stopped, or forgotten as by a loss of power."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alumicatalyst.ledger import files

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

STEPS = ("create", "write", "sync", "rename", "unlink", "make", "remove")
"""The functions of `files` that change the disk."""


def between(
    patch: Callable[[Any, str, Any], None], around: Callable[[int, str, tuple[Any, ...], Callable[[], Any]], Any]
) -> None:
    """Call `around` in place of every step, with its number, its name, its arguments and itself.

    Args:
        patch: What puts it in place: monkeypatch.setattr, or setattr in a process of one's own.
        around: Makes the step or not, and returns what it returns.
    """
    count = 0

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            nonlocal count
            number, count = count, count + 1
            return around(number, name, arguments, lambda: real(*arguments))

        return step

    for name in STEPS:
        patch(files, name, wrapped(name, getattr(files, name)))


def die_at(last: int) -> None:
    """End this process by SIGKILL before the step of that number, or in the middle of it where it is a write."""

    def around(number: int, name: str, arguments: tuple[Any, ...], act: Callable[[], Any]) -> Any:
        if number == last:
            if name == "write":
                os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return act()

    def unsynced(handle: int) -> None:
        """Do nothing: what a process has written outlives it without."""

    files.sync = unsynced
    between(setattr, around)


@dataclass
class File:
    """A file's bytes as programs see them, and those that survive a loss of power."""

    now: bytes = b""
    durable: bytes = b""


@dataclass
class Folder:
    """A folder's entries, likewise."""

    now: dict[str, File | Folder] = field(default_factory=dict)
    durable: dict[str, File | Folder] = field(default_factory=dict)


class Platter:
    """What of a folder a loss of power would leave; all that is there at first is durable."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tree = self._read(root)

    def make(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Follow a step that was made."""
        first = arguments[0]
        path = first if isinstance(first, Path) else Path(f"/proc/self/fd/{first}").readlink()
        if not path.is_relative_to(self._root):
            return
        if path == self._root:
            self._tree.durable = dict(self._tree.now)
            return
        entries = self._folder(path.parent).now
        if name == "create":
            entries[path.name] = File()
        elif name == "make":
            entries[path.name] = Folder()
        elif name == "rename":
            self._folder(arguments[1].parent).now[arguments[1].name] = entries.pop(path.name)
        elif name in {"unlink", "remove"}:
            del entries[path.name]
        else:
            found = entries[path.name]
            if isinstance(found, Folder):
                found.durable = dict(found.now)
            elif name == "write":
                found.now += arguments[1]
            else:
                found.durable = found.now

    def after_power_cut(self, target: Path, lucky: random.Random) -> None:
        """Write what a loss of power leaves: all that is durable, and any part of the rest."""
        self._write(self._tree, target, lucky)

    def _write(self, folder: Folder, target: Path, lucky: random.Random) -> None:
        target.mkdir()
        for name in sorted({*folder.durable, *folder.now}):
            found = lucky.choice([folder.now, folder.durable]).get(name)
            if isinstance(found, Folder):
                self._write(found, target / name, lucky)
            elif isinstance(found, File):
                torn = found.now[: lucky.randint(0, len(found.now))]
                data = found.now if found.now == found.durable else lucky.choice([found.durable, torn])
                (target / name).write_bytes(data)
                (target / name).chmod(0o600)

    def _read(self, path: Path) -> Folder:
        entries: dict[str, File | Folder] = {
            each.name: self._read(each) if each.is_dir() else File(each.read_bytes(), each.read_bytes())
            for each in path.iterdir()
        }
        return Folder(entries, dict(entries))

    def _folder(self, path: Path) -> Folder:
        found = self._tree
        for part in path.relative_to(self._root).parts:
            below = found.now[part]
            assert isinstance(below, Folder)
            found = below
        return found

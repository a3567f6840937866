"""Between the lake and a local disk: every step can be watched or fail, and what was not synced can be lost."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alumicatalyst.lake import disk
from tests.ledger.disk import File, Folder, Platter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

STEPS = ("create", "write", "sync", "link", "rename", "unlink", "make")
"""The functions of `disk`, which are all that changes it."""


def between(
    monkeypatch: pytest.MonkeyPatch, around: Callable[[int, str, tuple[Any, ...], Callable[[], Any]], Any]
) -> None:
    """Call `around` in place of every step, with its number, its name, its arguments and itself."""
    count = 0

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            nonlocal count
            number, count = count, count + 1
            return around(number, name, arguments, lambda: real(*arguments))

        return step

    for name in STEPS:
        monkeypatch.setattr(disk, name, wrapped(name, getattr(disk, name)))


def where(arguments: tuple[Any, ...]) -> Path:
    """The file that a step is about."""
    first = arguments[0]
    return first if isinstance(first, Path) else Path(f"/proc/self/fd/{first}").readlink()


def full(number: int, path: Path) -> OSError:
    """The error of the operating system with a number."""
    return OSError(number, errno.errorcode[number].lower(), str(path))


class LakePlatter(Platter):
    """A disk on which files have second names too."""

    def make(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Follow a step that was made."""
        if name != "link":
            super().make(name, arguments)
            return
        old, new = arguments
        self._folder(new.parent).now[new.name] = self._folder(old.parent).now[old.name]

    def image(self, choose: Callable[[Any, Any], Any]) -> dict[str, bytes]:
        """The files that a loss of power leaves, if `choose` decides between what is there and what is durable."""
        return dict(self._files(self._tree, "", choose))

    def _files(self, folder: Folder, above: str, choose: Callable[[Any, Any], Any]) -> Iterator[tuple[str, bytes]]:
        for name in sorted({*folder.durable, *folder.now}):
            found = choose(folder.now, folder.durable).get(name)
            if isinstance(found, Folder):
                yield from self._files(found, f"{above}{name}/", choose)
            elif isinstance(found, File):
                yield f"{above}{name}", found.now if found.now == found.durable else choose(found.now, found.durable)


def write_image(image: dict[str, bytes], target: Path) -> Path:
    """Put files into a folder."""
    for name, data in image.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
    return target

"""The object store beneath a lake: a local directory, or a container of Azure Data Lake Storage through adlfs.

Five verbs, all on whole objects: `put`, `create_if_absent`, `get`, `list`, `delete`. Nothing is ever streamed into a
store, because adlfs publishes what it has buffered when a streamed write fails: an object is encoded in memory and
becomes visible at once or not at all.
"""

from __future__ import annotations

import os
import re
import threading
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from alumicatalyst.errors import LakeError, SettingsError
from alumicatalyst.lake import disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TEMPORARY_SUFFIX = ".tmp"
"""Ends the name of a local file that is not complete; a crash leaves it behind, and no reader takes it for data."""


class Store(Protocol):
    """Whole objects under one root; paths are relative and use `/`."""

    root: str
    """The root's address as a Delta reader takes it."""

    def put(self, path: str, data: bytes) -> None:
        """Write an object in one step; an existing one is replaced."""

    def create_if_absent(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one: True if this call made it. At most one of several racers does.

        False says that there is one; where an answer may be lost, it can be this very call that made it.
        """

    def get(self, path: str) -> bytes:
        """Return an object; FileNotFoundError if there is none."""

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the path and size of every object below a folder, sorted by path."""

    def modified(self, prefix: str) -> Iterator[tuple[str, int, float]]:
        """Yield path, size, and when it was last written by the store's own clock, of every object below a folder.

        Times are in seconds since 1970. The store's clock is the only one that all processes share.
        """

    def delete(self, path: str) -> None:
        """Remove an object; one that is gone already is no error."""

    def sync(self, path: str) -> None:
        """Make an object durable that another library wrote."""

    def options(self) -> dict[str, str]:
        """Return the options with which deltalake and polars open the same place."""

    def filesystem(self) -> object | None:
        """Return the fsspec file system that reads the place, None for local files."""


class LocalStore:
    """A directory. Every write is durable when it returns: the file is synced, then its name, then the directory.

    A name is visible before it is durable. Where the last step fails, whoever looks next does it first: nothing is
    built on what a loss of power may take back.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.root = str(self._root)
        self._lock = threading.Lock()
        self._unsynced: set[Path] = set()
        self._durable: set[Path] = set()

    def put(self, path: str, data: bytes) -> None:
        """Write a temporary file beside the target, sync it and rename it."""
        target = self._root / path
        with _named(target):
            temporary = self._write_temporary(target, data)
            self._give_name(target, temporary, disk.rename)
            self._sync_directory(target.parent)

    def create_if_absent(self, path: str, data: bytes) -> bool:
        """Write a temporary file and give it its name by a hard link, which the kernel refuses if the name is taken."""
        target = self._root / path
        with _named(target):
            temporary = self._write_temporary(target, data)
            try:
                self._give_name(target, temporary, disk.link)
            except FileExistsError:
                return False
            disk.unlink(temporary)
            self._sync_directory(target.parent)
        return True

    def get(self, path: str) -> bytes:
        """Return an object; FileNotFoundError if there is none."""
        target = self._root / path
        with self._lock:
            pending = target.parent in self._unsynced
        if pending:
            self._sync_directory(target.parent)
        return target.read_bytes()

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the path and size of every object below a folder, sorted by path."""
        for path, size, _ in self.modified(prefix):
            yield path, size

    def modified(self, prefix: str) -> Iterator[tuple[str, int, float]]:
        """Yield path, size and time of the last write of every object below a folder, sorted by path."""
        found: list[tuple[str, int, float]] = []
        for folder, _, names in os.walk(self._root / prefix, onerror=_raise_unless_gone):
            for name in names:
                file = Path(folder, name)
                try:
                    told = file.stat()
                except FileNotFoundError:
                    continue  # Removed between the listing and the look.
                found.append((file.relative_to(self._root).as_posix(), told.st_size, told.st_mtime))
        yield from sorted(found)

    def delete(self, path: str) -> None:
        """Remove an object; one that is gone already is no error."""
        with suppress(FileNotFoundError):
            disk.unlink(self._root / path)

    def sync(self, path: str) -> None:
        """Sync a file and its directory; nothing happens if another process has removed it since."""
        file = self._root / path
        try:
            handle = os.open(file, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            disk.sync(handle)
        finally:
            os.close(handle)
        self._sync_directory(file.parent)

    def options(self) -> dict[str, str]:
        """Local files need no options."""
        return {}

    def filesystem(self) -> object | None:
        """Readers open local files by themselves."""
        return None

    def _write_temporary(self, target: Path, data: bytes) -> Path:
        temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
        self._have_directory(target.parent)
        handle = disk.create(temporary)
        try:
            try:
                disk.write(handle, data)
                disk.sync(handle)
            finally:
                os.close(handle)
        except BaseException:
            _remove(temporary)
            raise
        return temporary

    def _give_name(self, target: Path, temporary: Path, give: Callable[[Path, Path], None]) -> None:
        with self._lock:
            self._unsynced.add(target.parent)
        try:
            give(temporary, target)
        except BaseException:
            _remove(temporary)
            raise

    def _have_directory(self, folder: Path) -> None:
        """Make a directory so that it survives a loss of power.

        One that is there already may have been made by a process that died before it was durable, so the way down to
        it is synced once by every process.
        """
        if folder in self._durable and folder.is_dir():
            return
        for each in [*(above for above in reversed(folder.parents) if above.is_relative_to(self._root)), folder]:
            make_directory(each)
            self._durable.add(each)

    def _sync_directory(self, folder: Path) -> None:
        with self._lock:
            # Whoever adds it again meanwhile syncs it again.
            pending = folder in self._unsynced
            self._unsynced.discard(folder)
        try:
            sync_directory(folder)
        except BaseException:
            if pending:
                with self._lock:
                    self._unsynced.add(folder)
            raise


def make_directory(folder: Path) -> None:
    """Make a directory, unless it is there, and make its name durable."""
    try:
        disk.make(folder)
    except FileExistsError:
        if not folder.is_dir():
            raise
    with suppress(PermissionError):  # Above the lake's root another user's directory may be closed to this one.
        sync_directory(folder.parent)


def sync_directory(folder: Path) -> None:
    """Make the names in a directory durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        disk.sync(handle)
    finally:
        os.close(handle)


def _remove(temporary: Path) -> None:
    """Remove what was not finished; where even that fails, its name says that it is no data."""
    with suppress(OSError):
        disk.unlink(temporary)


@contextmanager
def _named(target: Path) -> Iterator[None]:
    """Let an error of the operating system say which file it is about."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or os.strerror(error.errno), str(target)) from error


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


_ABFSS = re.compile(
    r"abfss?://(?P<container>[a-z0-9$][a-z0-9-]{1,62})@(?P<account>[a-z0-9]{3,24})\.(?:dfs|blob)\.[a-z0-9.-]+"
    r"(?:/(?P<path>.*))?$"
)


def open_store(
    uri: str, *, credential: str = "default", storage_options: Mapping[str, str] | None = None, create: bool = True
) -> Store:
    """Return the store of a lake's address.

    Args:
        uri: `file:PATH`, a plain path, or `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH`.
        credential: "default" for azure-identity, or `env:NAME` / `file:PATH` of an account key, a SAS token or a
            connection string. A local lake ignores it.
        storage_options: Options in deltalake's names that replace what follows from the credential.
        create: Whether a missing local directory is made.

    Raises:
        SettingsError: The address or the credential cannot be used.
        LakeError: There is no such directory and it was not to be made, or it cannot be made.
    """
    match = _ABFSS.match(uri)
    if match:
        from alumicatalyst.lake.adls import AdlsStore

        return AdlsStore(
            uri=uri.rstrip("/"),
            container=match["container"],
            account=match["account"],
            path=(match["path"] or "").strip("/"),
            credential=credential,
            storage_options=storage_options,
        )
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", uri)
    if scheme and scheme[1] != "file":
        raise SettingsError(
            f"couldn't open the lake: {uri}; use file:PATH or abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH"
        )
    root = Path(re.sub(r"^file:(//)?", "", uri) or ".")
    if not create and not root.is_dir():
        raise LakeError(f"couldn't open the lake: {uri}; there is no such directory (run or demo makes one)")
    try:
        for each in reversed([root.absolute(), *root.absolute().parents]):
            if not each.is_dir():
                make_directory(each)
    except OSError as error:
        raise LakeError(
            f"couldn't make the lake's directory: {root}: {error.strerror}; set lake.uri to a place you may write"
        ) from error
    return LocalStore(root)

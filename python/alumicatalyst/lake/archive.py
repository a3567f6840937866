"""Commit files that trimming has moved out of a table's log: in ZIP files under `_archive`, still readable one by one.

The log of a lake is what its ledger has signed, so no commit file is ever thrown away. Only the standard library is
used, since whoever verifies a lake reads here too.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import log

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from alumicatalyst.lake.store import Store

FOLDER: Final = "_archive"
COMMIT_BYTES_MAX: Final = 256 * 1024 * 1024
"""A commit file that claims to be larger is not unpacked."""

_NAME: Final = re.compile(r"_archive/([a-z][a-z0-9_]*)/([0-9]{20})-([0-9]{20})\.zip")
_MEMBER_TIME: Final = (1980, 1, 1, 0, 0, 0)
_DAMAGE: Final = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class Piece:
    """One archive: the commits of a table from one version to another.

    Attributes:
        path: Where it is, from the lake's root.
        table: The table.
        first: Its first version.
        last: Its last one.
    """

    path: str
    table: str
    first: int
    last: int

    @classmethod
    def of(cls, path: str) -> Piece | None:
        """Return what a path says, None for what is no archive's."""
        match = _NAME.fullmatch(path)
        if match is None or int(match[2]) > int(match[3]):
            return None
        return cls(path, match[1], int(match[2]), int(match[3]))


class Archive:
    """The archived commits of one table, as they were listed last.

    Args:
        store: The lake's store.
        table: The table.
    """

    def __init__(self, store: Store, table: str) -> None:
        self._store = store
        self._table = table
        self._open: tuple[str, zipfile.ZipFile] | None = None
        self.pieces: list[Piece] = []
        self.reload()

    def reload(self) -> None:
        """List the archives anew."""
        found = (Piece.of(path) for path, _ in self._store.list(f"{FOLDER}/{self._table}"))
        self.pieces = sorted((each for each in found if each is not None), key=lambda each: (each.first, each.last))
        self._open = None

    def get(self, version: int) -> bytes | None:
        """Return a commit file, None if no archive holds it.

        Raises:
            LakeError: The archive that has to hold it is damaged.
        """
        return self._in(version, [each for each in self.pieces if each.first <= version <= each.last])

    def versions(self) -> Iterator[int]:
        """Yield every version that the archives' names speak of, in order and once."""
        done = -1
        for each in self.pieces:
            yield from range(max(each.first, done + 1), each.last + 1)
            done = max(done, each.last)

    def _in(self, version: int, pieces: list[Piece]) -> bytes | None:
        damaged: LakeError | None = None
        for piece in pieces:
            try:
                data = read_member(self._zip(piece.path), version)
            except FileNotFoundError:
                continue  # Removed meanwhile.
            except _DAMAGE as error:
                damaged = _damaged(piece.path, error)
                continue
            if data is not None:
                return data
        if damaged is not None:
            raise damaged
        return None

    def _zip(self, path: str) -> zipfile.ZipFile:
        # One archive stays open: versions are asked for in their order.
        if self._open is None or self._open[0] != path:
            self._open = path, zipfile.ZipFile(io.BytesIO(self._store.get(path)))
        return self._open[1]


def get(store: Store, table: str, version: int) -> bytes | None:
    """Return an archived commit file of a table, None if there is none."""
    return Archive(store, table).get(version)


def commits(store: Store, table: str) -> Iterator[tuple[int, bytes]]:
    """Yield version and bytes of every archived commit of a table, oldest first.

    Raises:
        LakeError: An archive is damaged.
    """
    kept = Archive(store, table)
    for version in kept.versions():
        data = kept.get(version)
        if data is not None:
            yield version, data


def encode(commits: Mapping[int, bytes]) -> bytes:
    """Return the archive of some commits; the same commits give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for version in sorted(commits):
            member = zipfile.ZipInfo(member_of(version), _MEMBER_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(member, commits[version])
    return buffer.getvalue()


def decode(data: bytes, path: str) -> dict[int, bytes]:
    """Return the commits of an archive by version.

    Raises:
        LakeError: It is damaged, or holds what is no commit of its versions.
    """
    piece = Piece.of(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as found:
            if piece is None or found.namelist() != [member_of(each) for each in range(piece.first, piece.last + 1)]:
                raise ValueError("it does not hold just the commits that its name says")
            members = {each: read_member(found, each) for each in range(piece.first, piece.last + 1)}
            return {version: each for version, each in members.items() if each is not None}
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def read_member(found: zipfile.ZipFile, version: int) -> bytes | None:
    """Return a commit file out of an open archive, its check sum compared; None if it is not there."""
    try:
        member = found.getinfo(member_of(version))
    except KeyError:
        return None
    if member.file_size > COMMIT_BYTES_MAX:
        raise ValueError(f"{member.filename} claims to have {member.file_size} bytes")
    return found.read(member)


def path_of(table: str, first: int, last: int) -> str:
    """Return where the archive of some versions is, from the lake's root."""
    return f"{FOLDER}/{table}/{first:020d}-{last:020d}.zip"


def member_of(version: int) -> str:
    """Return a commit's name within an archive: the one that it had in the log."""
    return log.commit_path("", version).rpartition("/")[2]


def _damaged(path: str, error: Exception) -> LakeError:
    return LakeError(f"couldn't read the archive {path}: {error}; restore it, its commits may be nowhere else")

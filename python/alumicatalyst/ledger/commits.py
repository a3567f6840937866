"""A table's commit files, wherever they are: in its log, or in the archives into which maintenance moves old ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from alumicatalyst.lake.archive import Archive, member_of
from alumicatalyst.ledger import delta

if TYPE_CHECKING:
    from alumicatalyst.lake.store import Store


@dataclass(frozen=True, slots=True)
class Place:
    """A commit file that was found.

    Attributes:
        data: Its bytes.
        path: Where it is, from the lake's root; in an archive, that and its name there.
    """

    data: bytes
    path: str


class Commits:
    """The commit files of one table.

    Args:
        store: The lake's store.
        table: The table.
    """

    def __init__(self, store: Store, table: str) -> None:
        self._store = store
        self._table = table
        self._archive: Archive | None = None

    @property
    def archive(self) -> Archive:
        """The table's archives, as they were listed last."""
        if self._archive is None:
            self._archive = Archive(self._store, self._table)
        return self._archive

    def reload(self) -> None:
        """List the archives anew when they are asked next."""
        self._archive = None

    def get(self, version: int) -> bytes | None:
        """Return a commit file, None if there is none.

        Raises:
            LakeError: It is in an archive, which is damaged.
        """
        # What is in both is alike, unless a writer that slept has left a commit where the log was trimmed.
        found = self.in_archive(version) or self.in_log(version)
        return None if found is None else found.data

    def in_log(self, version: int) -> Place | None:
        """Return a commit file that is in the table's log."""
        path = delta.commit_path(self._table, version)
        try:
            return Place(self._store.get(path), path)
        except FileNotFoundError:
            return None

    def in_archive(self, version: int) -> Place | None:
        """Return a commit file that is in an archive.

        Raises:
            LakeError: The archive is damaged.
        """
        data = self.archive.get(version)
        if data is None:
            return None
        piece = next(each for each in self.archive.pieces if each.first <= version <= each.last)
        return Place(data, f"{piece.path}/{member_of(version)}")

"""Verifies the data files of one table: each by its digest, and its rows by theirs, wherever they have gone since."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from alumicatalyst.ledger import delta, rows
from alumicatalyst.ledger.entry import Add, Rows
from alumicatalyst.ledger.verify_gather import Moved
from alumicatalyst.ledger.verify_report import Finding

if TYPE_CHECKING:
    from collections.abc import Collection

    from alumicatalyst.lake.store import Store
    from alumicatalyst.ledger.entry import Line
    from alumicatalyst.ledger.verify_report import Report


class FileCheck:
    """The data files of one table, given as commit after commit names them.

    Args:
        store: The lake's store.
        table: The table.
        report: Takes what is found.
    """

    def __init__(self, store: Store, table: str, report: Report) -> None:
        self._store = store
        self._table = table
        self._report = report
        self._batches: dict[bytes, tuple[int, Rows]] = {}  # With the version that wrote each.
        self._damaged: set[str] = set()
        self._absent: dict[str, tuple[int, Line]] = {}
        self._changed: set[str] = set()

    def take(self, version: int, line: Add | Rows) -> None:
        """Verify a file that is still in the store."""
        path = delta.stored_path(self._table, line.path)
        data = self._known(version, line)
        if data is None:
            return
        self._report.figures["files"] += 1
        self._report.figures["bytes"] += len(data)
        self._report.tell(f"{self._table}: {self._report.figures['files']:,} files")
        what = self._judged(data, line)
        if what:
            self._damaged.add(line.path)
            self._report.wrong.add(Finding(what, self._table, version, path, _extent(line)))
        elif line.sha256 is None:
            what = "the ledger has no digest of it: it was not there when its commit was signed"
            self._report.notes.add(Finding(what, self._table, version, path))

    def take_pending(self, version: int, line: Add | Rows) -> None:
        """Learn of a file that is newer than the ledger: there is nothing yet to verify it with."""
        self._known(version, line)

    def changed(self, paths: Collection[str]) -> None:
        """Learn of files that a commit has taken out together with their rows, not only to rewrite them."""
        self._changed.update(paths)

    def finish(self, live: Collection[str]) -> None:
        """Name the files that are part of the table and gone, and gather the rows that have moved.

        Args:
            live: Paths of the files that the table has now.
        """
        for path in sorted(self._absent.keys() & set(live)):
            version, line = self._absent[path]
            self._damaged.add(path)
            stored = delta.stored_path(self._table, path)
            self._report.wrong.add(Finding("it is missing", self._table, version, stored, _extent(line)))
        self._moved(set(live))

    def _known(self, version: int, line: Add | Rows) -> bytes | None:
        if isinstance(line, Rows):
            self._batches[line.batch] = version, line
        try:
            return self._store.get(delta.stored_path(self._table, line.path))
        except FileNotFoundError:
            # Whether it has to be there is known when all commits have been read.
            self._absent[line.path] = version, line
            return None

    def _judged(self, data: bytes, line: Add | Rows) -> str:
        """Return what is wrong with a file, "" for nothing."""
        if line.sha256 is None:
            return ""
        if len(data) != line.size:
            return f"it is not the file that was signed: it has {len(data)} bytes, not {line.size}"
        if hashlib.sha256(data).digest() != line.sha256:
            return "it is not the file that was signed: its digest is another"
        if not isinstance(line, Rows):
            return ""
        try:
            found = rows.read(self._table, data)
            self._report.figures["rows"] += found.num_rows
            if found.num_rows != line.rows:
                return f"it has {found.num_rows} rows, its entry says {line.rows}"
            located = rows.mislocated(found, line.batch)
            same = located is not None or rows.root(self._table, found, line.batch) == line.root
        except (rows.Unreadable, ValueError) as error:
            return f"it cannot be read: {error}"
        return located or ("" if same else "its rows are not those that were signed")

    def _moved(self, live: set[str]) -> None:
        """Recompute the roots of batches whose own file is not part of the table any more."""
        own = {line.path for _, line in self._batches.values()}
        gone = {batch: each for batch, each in self._batches.items() if each[1].path not in live}
        others = sorted(live - own - self._damaged)
        if not gone and not others:
            return
        moved = Moved(self._table, self._bytes)
        for found in moved.look([delta.stored_path(self._table, each) for each in others]):
            self._report.wrong.add(found)
        for file, count in moved.strangers(gone):
            what = f"{count} of its rows are of no batch that was signed, or of one whose own file is there"
            self._report.wrong.add(Finding(what, self._table, file=file))
        kept = []
        for version, line in gone.values():
            if moved.count(line.batch):
                kept.append((version, line))
            elif line.path in self._changed or self._changed - own:
                # Taken out with their rows, or moved into a file that was: the ledger has the commits that say so.
                self._report.figures["batches removed"] += 1
            else:
                what = "its rows are gone, though no commit says that it removes any"
                path = delta.stored_path(self._table, line.path)
                self._report.wrong.add(Finding(what, self._table, version, path, _extent(line)))
        for number, outcome in enumerate(moved.check(kept)):
            self._report.tell(f"{self._table}: {number:,} of {len(kept):,} moved batches")
            self._report.figures["batches moved"] += 1
            if outcome is not None:
                self._report.wrong.add(outcome)

    def _bytes(self, path: str) -> bytes:
        try:
            return self._store.get(path)
        except FileNotFoundError as error:
            raise rows.Unreadable("it is missing") from error


def _extent(line: Line) -> tuple[int, int] | None:
    return (0, line.rows - 1) if isinstance(line, Rows) else None

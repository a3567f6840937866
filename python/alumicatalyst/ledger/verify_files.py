"""Verifies the data files of one table: each by its digest, and its rows by theirs, wherever they have gone since."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from alumicatalyst.lake import schemas, tables
from alumicatalyst.ledger import claims, delta, rows
from alumicatalyst.ledger.entry import Add, Rows
from alumicatalyst.ledger.verify_gather import Moved
from alumicatalyst.ledger.verify_report import Finding

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

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
        self._expired: set[str] = set()
        self._schemas: dict[bytes, str | None] = {}  # By which the rows of a batch were digested.
        self._claims: dict[str, str] = {}  # What was claimed of a file when its rows were compared with that.

    def take(
        self, version: int, line: Add | Rows, action: Mapping[str, Any] | None = None, schema: bytes | None = None
    ) -> None:
        """Verify a file that is still in the store, and what its add action claims of its rows, if there is one.

        Args:
            version: Of the commit that adds it.
            line: What was signed of it.
            action: The add action, if its commit is known.
            schema: Digest of the schema text by which its rows were digested.
        """
        path = delta.stored_path(self._table, line.path)
        if isinstance(line, Rows):
            self._schemas.setdefault(line.batch, schemas.leaf_schema(self._table, schema))
        data = self._known(version, line)
        if data is None:
            return
        self._report.figures["files"] += 1
        self._report.figures["bytes"] += len(data)
        self._report.tell(f"{self._table}: {self._report.figures['files']:,} files")
        what = self._judged(data, line, action)
        if what:
            self._damaged.add(line.path)
            self._report.wrong.add(Finding(what, self._table, version, path, _extent(line)))
        elif line.sha256 is None:
            what = "the ledger has no digest of it: it was not there when its commit was signed"
            self._report.notes.add(Finding(what, self._table, version, path))

    def take_pending(self, version: int, line: Add | Rows) -> None:
        """Learn of a file that is newer than the ledger: there is nothing yet to verify it with."""
        self._known(version, line)

    def changed(self, paths: Collection[str], *, expired: bool = False) -> None:
        """Learn of files that a commit has taken out together with their rows, not only to rewrite them.

        Args:
            paths: Their paths.
            expired: Whether they were of days that are not kept, and the commit counts them.
        """
        (self._expired if expired else self._changed).update(paths)

    def finish(self, live: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Name the files that are part of the table and gone, and gather the rows that have moved.

        Args:
            live: Paths of the files that the table has now, each with its add action; None where that is not known.
        """
        for path in sorted(self._absent.keys() & live.keys()):
            version, line = self._absent[path]
            self._damaged.add(path)
            stored = delta.stored_path(self._table, path)
            self._report.wrong.add(Finding("it is missing", self._table, version, stored, _extent(line)))
        self._claimed(live)
        self._moved(live)

    def _known(self, version: int, line: Add | Rows) -> bytes | None:
        if isinstance(line, Rows):
            before, first = self._batches.setdefault(line.batch, (version, line))
            if first != line:
                # Else a copy with other rows could take the place of what was signed first.
                what = f"it names the batch {line.batch.hex()}, which was written as {first.path} by version {before}"
                path = delta.stored_path(self._table, line.path)
                self._report.wrong.add(Finding(what, self._table, version, path, _extent(line)))
        try:
            return self._store.get(delta.stored_path(self._table, line.path))
        except FileNotFoundError:
            # Whether it has to be there is known when all commits have been read.
            self._absent[line.path] = version, line
            return None

    def _judged(self, data: bytes, line: Add | Rows, action: Mapping[str, Any] | None) -> str:
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
            schema = self._schemas.get(line.batch)
            same = located is not None or rows.root(self._table, found, line.batch, schema) == line.root
            told = claims.Claims(self._table, action or {})
            told.take(found)
        except (rows.Unreadable, ValueError) as error:
            return f"it cannot be read: {error}"
        if action is not None:
            self._claims[line.path] = claims.text(action)
            located = located or told.wrong()
        return located or ("" if same else "its rows are not those that were signed")

    def _claimed(self, live: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Compare rows with what is claimed of them by now: a later commit may have named their file anew."""
        for path in sorted({line.path for _, line in self._batches.values()} & live.keys() - self._damaged):
            action = live[path]
            if action is None or claims.text(action) == self._claims.get(path):
                continue
            file = delta.stored_path(self._table, path)
            try:
                told = claims.Claims(self._table, action)
                for group in rows.read_groups(self._table, self._bytes(file), told.columns):
                    told.take(group)
                what = told.wrong()
            except rows.Unreadable as error:
                what = f"it cannot be read: {error}"
            if what:
                self._report.wrong.add(Finding(what, self._table, file=file))

    def _moved(self, live: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Recompute the roots of batches whose own file is not part of the table any more."""
        own = {line.path for _, line in self._batches.values()}
        gone = {batch: each for batch, each in self._batches.items() if each[1].path not in live}
        others = sorted(live.keys() - own - self._damaged)
        if not gone and not others:
            return
        moved = Moved(self._table, self._bytes, self._schemas)
        for found in moved.look({delta.stored_path(self._table, each): live[each] for each in others}):
            self._report.wrong.add(found)
        for file, count in moved.strangers(gone):
            what = f"{count} of its rows are of no batch that was signed, or of one whose own file is there"
            self._report.wrong.add(Finding(what, self._table, file=file))
        kept = []
        # Whatever moved stayed in its day, and a day goes as a whole.
        days = {_folder(path) for path in self._expired - own}
        for version, line in gone.values():
            if moved.count(line.batch):
                kept.append((version, line))
            elif line.path in self._expired or (_folder(line.path) in days and line.path not in self._changed):
                self._report.figures["batches expired"] += 1
                what = "its rows have expired: a commit has taken out their day, and counts them"
                path = delta.stored_path(self._table, line.path)
                self._report.notes.add(Finding(what, self._table, version, path, _extent(line)))
            elif line.path in self._changed or self._changed - own:
                # Taken out with their rows, or moved into a file that was: the ledger has the commits that say so.
                self._report.figures["batches removed"] += 1
                what = "its rows are gone: a commit has taken them out, and says so"
                path = delta.stored_path(self._table, line.path)
                # Rows of such a table never expire: whoever took them out meant to hide them.
                kind = self._report.wrong if tables.SPECS[self._table].append_only else self._report.notes
                kind.add(Finding(what, self._table, version, path, _extent(line)))
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


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _extent(line: Line) -> tuple[int, int] | None:
    return (0, line.rows - 1) if isinstance(line, Rows) else None

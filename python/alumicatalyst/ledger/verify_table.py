"""Verifies one table of the lake against its entries: its commits, and what readers are shown of them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from alumicatalyst.errors import LakeError, LedgerError
from alumicatalyst.lake import archive
from alumicatalyst.lake.fault import first_line
from alumicatalyst.lake.schemas import leaf_schema
from alumicatalyst.lake.store import TEMPORARY_SUFFIX
from alumicatalyst.ledger import claims, delta, entry_build, expiries
from alumicatalyst.ledger.commits import Commits
from alumicatalyst.ledger.entry import Add, Entry, Line, Rows, Tree
from alumicatalyst.ledger.verify_files import FileCheck
from alumicatalyst.ledger.verify_replay import LAST_CHECKPOINT, Replay, checkpoint_version
from alumicatalyst.ledger.verify_report import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alumicatalyst.lake.store import Store
    from alumicatalyst.ledger.commits import Place
    from alumicatalyst.ledger.delta import Commit
    from alumicatalyst.ledger.verify_report import Report

# What Delta writers tell of the checkpoint that they point readers to.
_POINTER = {"size", "sizeInBytes", "numOfAddFiles", "parts", "checkpointSchema", "checksum", "tags"}


class TableCheck:
    """One table, given its entries one after another.

    Args:
        store: The lake's store.
        table: The table.
        listed: Every file below the table's folder, from the lake's root.
        report: Takes what is found.
    """

    def __init__(self, store: Store, table: str, listed: Iterable[str], report: Report) -> None:
        self._store = store
        self._table = table
        self._report = report
        self._folder = f"{table}/{delta.LOG_FOLDER}/"
        self._unclaimed = set(listed)
        self._commits = Commits(store, table)
        self._replay = Replay()
        self._files = FileCheck(store, table, report)
        self._id: str | None = None
        names = [path.removeprefix(self._folder) for path in self._unclaimed if path.startswith(self._folder)]
        self._versions = {each for each in map(delta.version_of, names) if each is not None}
        self._checkpoints = {each for each in map(checkpoint_version, names) if each is not None}
        self._compared: dict[int, dict[str, int]] = {}  # Checkpoint to what a pointer to it has to say.
        self._damaged: set[int] = set()  # Checkpoints that are not what the commits say.

    # ------------------------------------------------------------------ what was signed

    def take(self, index: int, data: bytes, found: Entry) -> None:
        """Verify an entry's commit and its files."""
        if found.version != self._replay.version + 1:
            self._wrong(f"entry {index} is of this version, the one before of {self._replay.version}", found.version)
            if found.version <= self._replay.version:
                return
        if self._id not in {None, found.table_id}:
            self._wrong(f"entry {index} is of the table id {found.table_id}, those before of {self._id}", found.version)
        self._id = found.table_id
        commit = self._commit(found)
        if commit is None:
            lines = _lines(found)
            self._replay.apply_entry(found.version, lines)
        else:
            lines = self._rebuilt(index, data, found, commit)
            self._apply(found.version, commit)
        for line in lines or []:
            if isinstance(line, Add | Rows):
                self._unclaimed.discard(delta.stored_path(self._table, line.path))
                action = None if commit is None else self._replay.live.get(line.path)
                self._files.take(found.version, line, action, found.schema)
        self._compare_checkpoint(found.version)

    def _commit(self, found: Entry) -> Commit | None:
        """Return what the entry's commit file says; None if it is gone, or is not the one that was signed."""
        path = delta.commit_path(self._table, found.version)
        self._unclaimed.discard(path)
        self._report.figures["commits"] += 1
        try:
            place = self._place(found)
        except LakeError as error:
            self._wrong(str(error), found.version)
            return None
        if place is None:
            self._missing(found, path)
            return None
        if not _is_signed(place.data, found):
            self._wrong("its commit file is not the one that was signed", found.version, place.path)
            return None
        return self._parsed(place.data, found.version, place.path)

    def _place(self, found: Entry) -> Place | None:
        """Return an entry's commit file from the log or an archive; where both have one, the one that was signed."""
        in_log = self._commits.in_log(found.version)
        archived = self._commits.in_archive(found.version)
        if in_log is None or archived is None or in_log.data == archived.data:
            return in_log or archived
        if _is_signed(archived.data, found):
            what = "it was made after the version was trimmed: the archive has the commit that was signed"
            self._report.unclaimed.add(Finding(what, self._table, found.version, in_log.path))
            return archived
        self._wrong("its commit file is not the one that was signed", found.version, archived.path)
        return in_log

    def _missing(self, found: Entry, path: str) -> None:
        first = min(self._versions, default=-1)
        trimmed = found.version < first and any(each >= first - 1 for each in self._checkpoints)
        if trimmed and _lines(found) is None:
            what = "its commit file is gone, and only it can tell the files that its entry has as a tree; restore it"
            self._wrong(what, found.version, path)
        elif trimmed:
            what = "its commit file is gone and a checkpoint stands for it: another tool has removed it, or a hand"
            self._report.notes.add(Finding(what, self._table, found.version, path))
        else:
            self._wrong("its commit file is missing", found.version, path)

    def _rebuilt(self, index: int, data: bytes, found: Entry, commit: Commit) -> list[Line] | None:
        """Make the entry again from its commit; return its lines, those too that a tree stands for."""
        digests = self._digests(found, commit)
        if digests is None:
            return _lines(found)
        try:
            made, lines = entry_build.build(self._table, found.table_id, found.version, commit, digests)
        except LedgerError as error:
            self._wrong(str(error), found.version)
            return _lines(found)
        if made.data() != data:
            self._wrong(f"entry {index} is not what follows from its commit file", found.version)
        if commit.metadata is not None and commit.metadata["id"] != found.table_id:
            self._wrong(f"its commit makes it another table, {commit.metadata['id']}", found.version)
        if made.schema is not None and leaf_schema(self._table, made.schema) is None:
            self._wrong("its rows were digested by a schema that this version does not know", found.version)
        return lines

    def _digests(self, found: Entry, commit: Commit) -> dict[str, bytes | None] | None:
        """Return the digests that the ledger took of files that the commit names without one.

        Those that a tree stands for are taken again; None if that cannot be done for all of them any more.
        """
        if not isinstance(found.adds, Tree):
            known = {each.path: each.sha256 for each in found.adds}
            return {path: known.get(delta.encoded(path)) for path, _ in entry_build.undigested(commit)}
        digests: dict[str, bytes | None] = {}
        for path, _ in entry_build.undigested(commit):
            stored = self._get(delta.stored_path(self._table, path))
            if stored is None:
                what = "its files were signed as one tree, and one of them is gone: the others cannot be compared"
                self._report.notes.add(Finding(what, self._table, found.version, delta.stored_path(self._table, path)))
                return None
            digests[path] = hashlib.sha256(stored).digest()
        return digests

    # ------------------------------------------------------------------ what readers see

    def finish(self) -> None:
        """Compare what readers see, with the commits that are newer than the ledger, and gather moved rows."""
        self._pending()
        self._archives()
        if self._replay.version >= 0:
            self._compare_reader()
            self._compare_pointer()
            for version in sorted(self._checkpoints - self._compared.keys()):
                path = self._checkpoint_path(version)
                self._unclaimed.discard(path)
                self._wrong("it is a checkpoint of a version that no commit has made", version, path)
            self._files.finish(self._replay.live)
        for path in sorted(self._unclaimed):
            what = "no commit names it"
            if path.startswith(self._folder) and not path.endswith(TEMPORARY_SUFFIX):
                what = "it is not verified, and other readers than ours may go by it instead of by the commits"
            self._report.unclaimed.add(Finding(what, self._table, file=path))

    def _compare_reader(self) -> None:
        """Open the table as readers do, and read the commits up to there that the ledger has not signed yet."""
        from deltalake import DeltaTable

        begins = max((each for each in self._compared if each <= self._replay.version), default=None)
        if begins in self._damaged:
            return  # Named already. What a reader makes of it is luck: one that fails can take its process along.
        uri, options = f"{self._store.root}/{self._table}", self._store.options()
        try:
            handle = DeltaTable(uri, storage_options=options)
            if handle.version() > self._replay.version:
                self._pending()
                handle = DeltaTable(uri, version=self._replay.version, storage_options=options)
            if handle.version() == self._replay.version:
                found = list(self._replay.compare_reader(handle, self._table))
            else:
                what = f"readers see version {handle.version()}, its last commit is {self._replay.version}"
                found = [Finding(what, self._table, self._replay.version, self._folder)]
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 a panic of the native reader is no Exception
            what = f"readers cannot open it: {first_line(error)[:300]}"
            file = self._folder if begins is None else self._checkpoint_path(begins)
            found = [Finding(what, self._table, begins, file)]
        for each in found:
            self._report.wrong.add(each)

    def _pending(self) -> None:
        """Read the commits that are newer than the ledger: readers see them, and they may move what was signed."""
        while True:
            version = self._replay.version + 1
            path = delta.commit_path(self._table, version)
            try:
                data = self._commits.get(version)
            except LakeError as error:
                self._wrong(str(error), version)
                data = None
            if data is None:
                break
            self._unclaimed.discard(path)
            self._report.pending.add(Finding("it is newer than the ledger", self._table, version, path))
            commit = self._parsed(data, version, path)
            if commit is None:
                self._replay.apply_entry(version, None)
                continue
            if commit.metadata is not None and self._id not in {None, commit.metadata["id"]}:
                self._wrong(f"it makes it another table, {commit.metadata['id']}", version, path)
            self._apply(version, commit)
            self._take_pending(version, commit)
            self._compare_checkpoint(version)
        beyond = {each for each in self._versions if each > version}
        if beyond:
            self._wrong(f"its commit file is missing, and version {min(beyond)} is there", version, path)
            self._unclaimed -= {delta.commit_path(self._table, each) for each in beyond}
            self._versions -= beyond

    def _archives(self) -> None:
        """See that archives hold just what their names say; their commits were verified one by one."""
        for piece in self._commits.archive.pieces:
            if piece.last > self._replay.version:
                self._wrong(f"it is of versions to {piece.last}, which no commit has made", file=piece.path)
            try:
                archive.decode(self._get(piece.path) or b"", piece.path)
            except LakeError as error:
                self._wrong(str(error), file=piece.path)

    def _take_pending(self, version: int, commit: Commit) -> None:
        digests: dict[str, bytes | None] = dict.fromkeys(commit.adds)
        try:
            _, lines = entry_build.build(self._table, "-", version, commit, digests)
        except LedgerError as error:
            self._wrong(str(error), version)
            return
        for line in lines:
            if isinstance(line, Add | Rows):
                self._unclaimed.discard(delta.stored_path(self._table, line.path))
                self._files.take_pending(version, line)

    def _compare_checkpoint(self, version: int) -> None:
        path = self._checkpoint_path(version)
        data = self._get(path) if version in self._checkpoints else None
        if data is None:
            return
        self._unclaimed.discard(path)
        self._compared[version] = {"sizeInBytes": len(data)}
        if self._replay.whole:
            found, actions, files = self._replay.compare_checkpoint(data, path)
            self._compared[version] |= {"size": actions, "numOfAddFiles": files}
            self._report.figures["checkpoints"] += 1
            self._damaged.update([version] if found else [])
            for each in found:
                self._report.wrong.add(each)

    def _compare_pointer(self) -> None:
        """See that the checkpoint that readers are pointed to is there, and is what the pointer says."""
        path = self._folder + LAST_CHECKPOINT
        self._unclaimed.discard(path)
        data = self._get(path)
        if data is None:
            if self._compared:
                what = "it is missing: readers have to look for checkpoints"
                self._report.notes.add(Finding(what, self._table, file=path))
            return
        try:
            told: dict[str, Any] = json.loads(data)
            version = delta.number_of(told.pop("version"), "the pointer", "its version")
        except (ValueError, KeyError, TypeError, AttributeError, LedgerError):
            self._wrong("it does not point to a checkpoint", file=path)
            return
        wanted = self._compared.get(version)
        if wanted is None:
            self._wrong(f"it points to {self._checkpoint_path(version)}, which is not there", version, path)
            return
        differing = any(told.get(name, value) != value for name, value in wanted.items())
        if differing or told.keys() - _POINTER or told.get("parts") is not None:
            self._wrong("it says something else of a checkpoint than the checkpoint itself", version, path)

    # ------------------------------------------------------------------ small things

    def _apply(self, version: int, commit: Commit) -> None:
        before = self._replay.metadata
        expiry = expiries.judge(self._table, commit, self._replay)
        self._replay.apply(version, commit)
        for what in filter(None, (claims.shown_otherwise(self._table, commit, before), expiry)):
            self._wrong(what, version, delta.commit_path(self._table, version))
        changed = (path for path, each in commit.removes.items() if each.get("dataChange") is not False)
        self._files.changed({delta.encoded(path) for path in changed}, expired=expiry == "")

    def _parsed(self, data: bytes, version: int, path: str) -> Commit | None:
        try:
            return delta.parse(data, f"{self._table}@{version}")
        except LedgerError as error:
            self._wrong(str(error), version, path)
            return None

    def _get(self, path: str) -> bytes | None:
        try:
            return self._store.get(path)
        except FileNotFoundError:
            return None

    def _checkpoint_path(self, version: int) -> str:
        return f"{self._folder}{version:020d}.checkpoint.parquet"

    def _wrong(self, what: str, version: int | None = None, file: str = "") -> None:
        self._report.wrong.add(Finding(what, self._table, version, file))


def _lines(found: Entry) -> list[Line] | None:
    """Return the lines of files that an entry itself has; None if a tree stands for some of them."""
    lines: list[Line] = []
    for kind in (found.removes, found.adds, found.rows):
        if isinstance(kind, Tree):
            return None
        lines += kind
    return lines


def _is_signed(data: bytes, found: Entry) -> bool:
    return len(data) == found.commit_bytes and hashlib.sha256(data).digest() == found.commit_sha256

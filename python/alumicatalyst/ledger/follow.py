"""Follows the lake's commits: finds those behind the ledger's last entries and makes an entry of each.

The log's own tail is the cursor. An entry is a pure function of its commit, so whatever a crash has kept from being
signed is found again, and nothing is ever found twice.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from alumicatalyst.errors import LedgerError
from alumicatalyst.lake import tables
from alumicatalyst.ledger import delta, entry, entry_build
from alumicatalyst.ledger.commits import Commits

if TYPE_CHECKING:
    from alumicatalyst.lake.store import Store
    from alumicatalyst.ledger.delta import Commit
    from alumicatalyst.ledger.log import LogReader

VERSIONS_MAX: Final = 256
"""Commits of one table in one look, so that a long history is signed in groups, and memory stays bounded."""

CHECK_INTERVAL_S: Final = 60.0
"""Seconds after which a lake without news is asked again whether it still is the one that was signed."""

ANOTHER: Final = (
    "restore the table, or leave this ledger as it is and begin another: new ledger.uri, ledger.origin and ledger.key"
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last entry of a table: its id, and version and digest of the commit."""

    table_id: str
    version: int
    commit_sha256: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """What one look found.

    Attributes:
        entries: In the order in which they are to be signed.
        more: Whether there is more that did not fit.
        lag_s: Seconds since the oldest of these commits was made, by its own clock.
    """

    entries: list[bytes]
    more: bool
    lag_s: float


class Follower:
    """Reads one lake for one log.

    Args:
        store: The lake's store.
        log: The log as it stands; its tail says where to go on.

    Raises:
        LedgerError: An entry of the log cannot be read.
    """

    def __init__(self, store: Store, log: LogReader) -> None:
        self._store = store
        self._cursors: dict[str, Cursor] = tail(log)
        self._commits = {name: Commits(store, name) for name in tables.SPECS}
        self._checked_s = 0.0

    def check(self) -> None:
        """See that the lake is the one that was signed, and that nothing is missing behind it.

        Raises:
            LedgerError: A table was replaced, is older than the ledger, or its log was trimmed ahead of it.
        """
        for name in tables.SPECS:
            self._commits[name].reload()
            cursor = self._cursors.get(name)
            if cursor is not None:
                self._check_last(name, cursor)
            versions = self._versions(name)
            there, newest = set(versions), max(versions, default=-1)
            for version in range(0 if cursor is None else cursor.version + 1, newest):
                # Asked for by its name as well: a listing may miss what is written meanwhile.
                if version not in there and self._commits[name].get(version) is None:
                    raise LedgerError(
                        f"couldn't follow the table {name}: version {version} is missing and {newest} is there; its "
                        f"log was trimmed before the ledger had read it. {ANOTHER.capitalize()}"
                    )
        self._checked_s = time.monotonic()

    def look(self) -> Found:
        """Return an entry for each commit that the log has none of; the next look goes on behind them.

        Whatever is raised, nothing was taken: the same is found again.

        Raises:
            LedgerError: The lake is not the one that was signed, or a commit cannot be read.
        """
        if time.monotonic() - self._checked_s >= CHECK_INTERVAL_S:
            self.check()
        cursors = dict(self._cursors)
        entries: list[bytes] = []
        more, oldest = False, time.time()
        for name in tables.SPECS:
            for number in range(VERSIONS_MAX + 1):
                cursor = cursors.get(name)
                version = 0 if cursor is None else cursor.version + 1
                data = self._commits[name].get(version)
                if data is None:
                    break
                if number == VERSIONS_MAX:
                    more = True
                    break
                if number == 0 and cursor is not None:
                    self._check_last(name, cursor)
                commit = delta.parse(data, f"{name}@{version}")
                made = self._entry(name, version, commit, cursor)
                oldest = min(oldest, _made_s(commit, oldest))
                cursors[name] = Cursor(made.table_id, version, commit.sha256)
                entries.append(made.data())
        self._cursors = cursors
        return Found(entries, more, max(0.0, time.time() - oldest))

    def _entry(self, name: str, version: int, commit: Commit, cursor: Cursor | None) -> entry.Entry:
        place = f"{name}@{version}"
        own = None if commit.metadata is None else entry_build.text_of(commit.metadata["id"], place, "the table id")
        table_id = own if cursor is None else cursor.table_id
        if table_id is None:
            raise LedgerError(
                f"couldn't follow the table {name}: its version {version} has no metadata, so no Delta table begins "
                "there; restore the table"
            )
        if own is not None and own != table_id:
            _replaced(name, version, own, table_id)
        # Data before entry (I7): what is signed must outlive a loss of power, whoever wrote it.
        self._store.sync(delta.commit_path(name, version))
        digests = {path: self._digest(delta.stored_path(name, path)) for path, _ in entry_build.undigested(commit)}
        made, _ = entry_build.build(name, table_id, version, commit, digests)
        return made

    def _check_last(self, name: str, cursor: Cursor) -> None:
        data = self._commits[name].get(cursor.version)
        if data is None:
            versions = self._versions(name)
            if versions and versions[-1] > cursor.version:
                return  # Another tool has trimmed the log; what follows is still there.
            raise LedgerError(
                f"couldn't follow the table {name}: version {cursor.version}, which the ledger has signed, is not "
                f"there; the lake is older than the ledger. {ANOTHER.capitalize()}"
            )
        if hashlib.sha256(data).digest() == cursor.commit_sha256:
            return
        raise LedgerError(
            f"couldn't follow the table {name}: version {cursor.version} is not the commit that the ledger has signed; "
            f"the table was changed or replaced. {ANOTHER.capitalize()}"
        )

    def _versions(self, name: str) -> list[int]:
        found = (
            delta.version_of(path.rpartition("/")[2]) for path, _ in self._store.list(f"{name}/{delta.LOG_FOLDER}")
        )
        return sorted(version for version in found if version is not None)

    def _digest(self, path: str) -> bytes | None:
        """Hash a file that another tool wrote; one that maintenance has removed since has no digest any more."""
        self._store.sync(path)
        try:
            return hashlib.sha256(self._store.get(path)).digest()
        except FileNotFoundError:
            return None


def tail(log: LogReader) -> dict[str, Cursor]:
    """Return the last entry of each table, read backwards until every table was met."""
    found: dict[str, Cursor] = {}
    stop = log.size
    while stop and found.keys() != tables.SPECS.keys():
        start = (stop - 1) // VERSIONS_MAX * VERSIONS_MAX
        for data in reversed(list(log.entries(start, stop))):
            each = entry.parse(data)
            found.setdefault(each.table, Cursor(each.table_id, each.version, each.commit_sha256))
        stop = start
    return found


def _made_s(commit: Commit, otherwise: float) -> float:
    stamp = commit.info.get("timestamp")
    return stamp / 1_000 if isinstance(stamp, int) else otherwise


def _replaced(name: str, version: int, found: str, signed: str) -> NoReturn:
    raise LedgerError(
        f"couldn't follow the table {name}: at version {version} its id is {found}, the ledger has signed {signed}; "
        f"the table was replaced. {ANOTHER.capitalize()}"
    )

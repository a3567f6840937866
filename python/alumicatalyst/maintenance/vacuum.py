"""Vacuum: files that are no part of a table any more, or never became one, are removed from the store.

The danger is a file that a running flow has put and not committed yet. No clock tells how long a process may sleep
between the two, so vacuum does not go by one:

1. it lists the files;
2. it commits VACUUM START to the table;
3. it deletes what it has listed and what is not part of the table at that version;
4. it commits VACUUM END, which counts them.

Whoever commits a file after step 2 sees VACUUM START on the snapshot that it commits on; if its file was put before, it
puts it again under another name (see `commit.Put`). A file that was committed before is part of the table at step 3. So
nothing that is deleted can become part of the table, wherever anybody is killed or asleep, and however many do this at
once. Whoever dies between 2 and 4 leaves files for the next time.

Ages are a courtesy on top: to readers of an older version of the table, and to other tools' writers, that know nothing
of step 2. And nothing goes that the ledger has not signed yet: what adds or removes it has to have an entry.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from alumicatalyst.lake import archive, log
from alumicatalyst.lake.commit import Plan, append
from alumicatalyst.lake.fault import reported
from alumicatalyst.lake.store import TEMPORARY_SUFFIX
from alumicatalyst.log import get_logger
from alumicatalyst.maintenance.compact import software

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.table import Snapshot, Table
    from alumicatalyst.maintenance.lease import Lease

VACUUM_END: Final = "VACUUM END"
TEMPORARY_AGE_S: Final = 86_400
"""A local write takes moments; what is unfinished after a day, nobody finishes."""

_DAY_S: Final = 86_400

_log = get_logger(__name__)


@dataclass(slots=True)
class Vacuumed:
    """What was deleted of one table, or would be; `table` is "" for what a crash has left unfinished anywhere.

    Attributes:
        table: The table.
        files: How many files.
        bytes: Their size.
        unsigned: Files that stay until the ledger has signed the commits that name them.
    """

    table: str
    files: int = 0
    bytes: int = 0
    unsigned: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A data file of the store: its path as the table has it, decoded; its size; its age by the store's clock."""

    path: str
    size: int
    age_s: float


def vacuum(
    lake: Lake,
    held: Lease | None,
    names: Iterable[str],
    *,
    signed: Mapping[str, int] | None,
    days: float = 7,
    say: Callable[[str], None] = lambda _: None,
) -> list[Vacuumed]:
    """Delete files that no version of the last days needs.

    Args:
        lake: The lake.
        held: The lease under which it is done; None for a dry run, which only tells what would be.
        names: The tables.
        signed: The last version of each table that the ledger has signed, as `ledger.cursor` reads it; None without a
            ledger.
        days: Files stay for so long after they were written, and after they were taken out of the table.
        say: Told what is being done.

    Raises:
        ClaimLost: Another process maintains the lake now.
        Stopped: The lease was told to stop.
        LakeError: The store failed.
    """
    with reported("vacuum the lake"):
        now_s = time.time() if held is None else held.now_s()
        done = []
        for name in names:
            say(f"{name}: looking")
            # A ledger that knows nothing of the table yet has signed none of its versions.
            last = None if signed is None else signed.get(name, -1)
            done.append(_Run(lake, lake.table(name), held, now_s, days * _DAY_S, last).do(say))
        done.append(_leftovers(lake, held, now_s, max(TEMPORARY_AGE_S, days * _DAY_S)))
    return done


class _Run:
    """The vacuum of one table."""

    def __init__(
        self, lake: Lake, table: Table, held: Lease | None, now_s: float, age_s: float, signed: int | None
    ) -> None:
        self._lake = lake
        self._table = table
        self._held = held
        self._now_s = now_s
        self._age_s = age_s
        self._signed = signed

    def do(self, say: Callable[[str], None]) -> Vacuumed:
        """List, commit VACUUM START, delete, commit VACUUM END; nothing of it where nothing is to be deleted."""
        listed = self._list()
        with self._table.lock:
            snapshot = self._table.refresh()
            doomed, unsigned = self._doomed(snapshot, listed)
        report = Vacuumed(self._table.name, unsigned=unsigned)
        if self._held is None:
            report.files, report.bytes = len(doomed), sum(each.size for each in doomed)
            return report
        if not doomed:
            return report
        doomed = self._start(listed)
        for at, each in enumerate(doomed, 1):
            self._held.check()
            say(f"{self._table.name}: {at:,} of {len(doomed):,} files")
            self._lake.store.delete(f"{self._table.name}/{each.path}")
            report.files += 1
            report.bytes += each.size
        self._commit(VACUUM_END, {"numDeletedFiles": str(report.files), "numDeletedBytes": str(report.bytes)})
        _log.info("vacuumed", table=self._table.name, files=report.files, bytes=report.bytes)
        return report

    def _list(self) -> list[_Listed]:
        name = self._table.name
        found = []
        for path, size, modified_s in self._lake.store.modified(name):
            inner = path.removeprefix(f"{name}/")
            # The log itself, and whatever other tools keep in folders of their own.
            if not inner.startswith(("_", ".")) and not inner.endswith(TEMPORARY_SUFFIX):
                found.append(_Listed(inner, size, self._now_s - modified_s))
        return found

    def _doomed(self, snapshot: Snapshot, listed: list[_Listed]) -> tuple[list[_Listed], int]:
        """Return what of the listed files may go on a snapshot, and how many of them wait for the ledger."""
        live = {unquote(path) for path in self._table.files()}
        since_ms = (self._now_s - self._age_s) * 1_000
        # When it was taken out, the writer's clock says; one that is wrong shortens what is left to readers.
        late = {
            unquote(path)
            for path, action in self._table.removed().items()
            if (action.get("deletionTimestamp") or 0) > since_ms
        }
        old = [each for each in listed if each.path not in live and each.path not in late and each.age_s >= self._age_s]
        unsigned = self._unsigned(snapshot) if old else set()
        return [each for each in old if each.path not in unsigned], sum(each.path in unsigned for each in old)

    def _unsigned(self, snapshot: Snapshot) -> set[str]:
        """Return the files that a commit names which the ledger has not signed: it has yet to read them."""
        if self._signed is None:
            return set()
        named = set()
        kept = archive.Archive(self._lake.store, self._table.name)
        for version in range(self._signed + 1, snapshot.version + 1):
            try:
                data = self._lake.store.get(log.commit_path(self._table.name, version))
            except FileNotFoundError:
                data = kept.get(version) or b""
            named |= {unquote(path) for path in _paths_of(data)}
        return named

    def _start(self, listed: list[_Listed]) -> list[_Listed]:
        """Commit VACUUM START, and return what may go at that very version."""
        doomed: list[_Listed] = []

        def look(snapshot: Snapshot) -> dict[str, str]:
            nonlocal doomed
            doomed, _ = self._doomed(snapshot, listed)
            size = sum(each.size for each in doomed)
            return {"numFilesToDelete": str(len(doomed)), "sizeOfDataToDelete": str(size)}

        self._commit(log.VACUUM_START, look)
        return doomed

    def _commit(self, operation: str, told: Mapping[str, str] | Callable[[Snapshot], Mapping[str, str]]) -> None:
        held = self._held
        if held is None:
            raise RuntimeError("a dry run commits nothing")

        def plan(snapshot: Snapshot) -> Plan:
            # Made again, it does no harm: an attempt that had seemed to fail only began a vacuum twice.
            held.check_on(snapshot)
            metrics = told(snapshot) if callable(told) else told
            metadata = {"software": software(), "operationMetrics": dict(metrics)}
            return Plan(held.transactions(), metadata=metadata, operation=operation)

        append(self._table, {}, plan, self._lake.retry, operation)


def _paths_of(commit: bytes) -> Iterator[str]:
    """Yield the files that a commit names, as the log has them."""
    for line in commit.split(b"\n"):
        if line.strip():
            for kind, action in json.loads(line).items():
                if kind in {"add", "remove"}:
                    yield action["path"]


def _leftovers(lake: Lake, held: Lease | None, now_s: float, age_s: float) -> Vacuumed:
    """Delete local files that a crash has left unfinished: no reader takes them for data."""
    report = Vacuumed("")
    for path, size, modified_s in lake.store.modified(""):
        if path.endswith(TEMPORARY_SUFFIX) and now_s - modified_s >= age_s:
            if held is not None:
                held.check()
                lake.store.delete(path)
            report.files += 1
            report.bytes += size
    return report

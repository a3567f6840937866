"""Trimming: commit files that nobody reads a table by any more move out of its log, into archives that are kept.

Readers begin at a Delta checkpoint, so what lies before it only makes listings long. It is what the ledger has signed,
though, and stays: `_archive/<table>/<first>-<last>.zip` holds the commit files byte for byte (see `archive`).

An archive is written and read back before the first of its commits is deleted, and commits go in the order of their
versions. So a crash leaves every commit in one of the two places at least, the next run deletes what is in both, and a
process that finds a version's commit in the log knows that none above it was trimmed, on which `Table.commit` relies.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import archive, checkpoint, log
from alumicatalyst.lake.fault import reported
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.lease import Lease
    from alumicatalyst.lake.store import Store

AGE_S_MIN: Final = 3_600.0
"""Nothing younger is touched, whatever the settings say: `table.LOOK_S_MAX` must be far below it."""

CHECKPOINTS_KEPT: Final = 2
"""Delta checkpoints that stay, with all commits from the older on: the newest may be damaged."""

ARCHIVE_COMMITS_MAX: Final = 1_000
ARCHIVE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Commit files that one archive holds at most, before they are packed."""

_DAY_S: Final = 86_400

_log = get_logger(__name__)


@dataclass(slots=True)
class Trimmed:
    """What was moved of one table's log, or would be.

    Attributes:
        table: The table.
        commits: Commit files that are in archives now instead.
        bytes: Their size.
        archives: Archives that were written.
        checkpoints: Delta checkpoints that were deleted.
    """

    table: str
    commits: int = 0
    bytes: int = 0
    archives: int = 0
    checkpoints: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def trim(
    lake: Lake,
    held: Lease | None,
    names: Iterable[str],
    *,
    signed: Mapping[str, int] | None,
    days: float = 30,
    age_s_min: float = AGE_S_MIN,
    say: Callable[[str], None] = lambda _: None,
) -> list[Trimmed]:
    """Move commit files that are older than some days into archives, and delete Delta checkpoints but the newest.

    Args:
        lake: The lake.
        held: The lease under which it is done; None for a dry run, which only tells what would be.
        names: The tables.
        signed: The last version of each table that the ledger has signed; None without a ledger.
        days: Commits stay for so long, by their own time and by when the store has written them.
        age_s_min: Seconds that everything stays; for tests.
        say: Told what is being done.

    Raises:
        ClaimLost: Another process maintains the lake now.
        Stopped: The lease was told to stop.
        LakeError: The store failed, or an archive or checkpoint is damaged.
    """
    with reported("trim the logs"):
        now_s = time.time() if held is None else held.now_s()
        done = []
        for name in names:
            say(f"{name}: looking")
            last = None if signed is None else signed.get(name, -1)
            run = _Run(lake.store, name, held, now_s, last, say)
            done.append(run.do(max(age_s_min, days * _DAY_S), age_s_min))
        return done


class _Run:
    """The trimming of one table's log."""

    def __init__(
        self, store: Store, table: str, held: Lease | None, now_s: float, signed: int | None, say: Callable[[str], None]
    ) -> None:
        self._store = store
        self._table = table
        self._held = held
        self._now_s = now_s
        self._signed = signed
        self._say = say
        self._written: dict[int, float] = {}  # When the store has written each commit file.
        self._checkpoints: dict[int, float] = {}
        for path, _, modified_s in store.modified(f"{table}/{log.FOLDER}"):
            version, at = log.version_of(path), log.checkpoint_version_of(path)
            if version is not None:
                self._written[version] = modified_s
            elif at is not None:
                self._checkpoints[at] = modified_s

    def do(self, age_s: float, checkpoint_age_s: float) -> Trimmed:
        """Delete what an earlier run has archived already, archive what is old, and delete checkpoints."""
        report = Trimmed(self._table)
        kept = self._kept_checkpoints()
        if not kept:
            return report
        below = min(kept) if self._signed is None else min(*kept, self._signed)
        self._settle(below, report)
        while portion := self._portion(below, self._now_s - age_s):
            self._archive(portion, report)
        for version in sorted(self._checkpoints):
            if version < min(kept) and self._checkpoints[version] <= self._now_s - checkpoint_age_s:
                self._delete(log.checkpoint_path(self._table, version))
                report.checkpoints += 1
        if report.commits and self._held is not None:
            _log.info("log trimmed", table=self._table, commits=report.commits, archives=report.archives)
        return report

    def _kept_checkpoints(self) -> list[int]:
        """Return the checkpoints that stay; without a good one nothing may go."""
        kept = sorted(self._checkpoints)[-CHECKPOINTS_KEPT:]
        if kept:
            # Whoever opens the table from here on reads it, so it has to be readable.
            path = log.checkpoint_path(self._table, kept[0])
            checkpoint.decode(self._store.get(path), kept[0], path, log.LogState())
        return kept

    def _settle(self, below: int, report: Trimmed) -> None:
        """Delete commits that are archived: what a crash has left, or a process that had slept for very long."""
        archived = archive.Archive(self._store, self._table)
        for version in sorted(self._written):
            if version >= below or not archived.pieces or version > archived.pieces[-1].last:
                return
            known = self._known(archived, version)
            if known is None:
                continue
            data = self._store.get(log.commit_path(self._table, version))
            if data != known:
                # No version is made twice as long as it is in the log: this one was made after it was trimmed, and no
                # reader has ever seen it. It is kept for whoever wants to know.
                name = f"{version:020d}-{hashlib.sha256(data).hexdigest()[:16]}.json"
                _log.warning("a commit that came too late is set aside", table=self._table, version=version, file=name)
                if self._held is not None:
                    self._store.put(f"{archive.FOLDER}/{self._table}/{name}", data)
            self._remove(version)
            report.commits += 1
            report.bytes += len(data)

    def _known(self, archived: archive.Archive, version: int) -> bytes | None:
        """Return what an archive has of a commit that the log has too: nothing, if the archive is damaged."""
        try:
            return archived.get(version)
        except LakeError as error:
            _log.warning("commits are archived again", table=self._table, version=version, reason=str(error))
            return None

    def _portion(self, below: int, before_s: float) -> dict[int, bytes]:
        """Return the oldest commits that may go, as many as one archive takes."""
        portion: dict[int, bytes] = {}
        size = 0
        for version in sorted(self._written):
            if version >= below or self._written[version] > before_s or len(portion) >= ARCHIVE_COMMITS_MAX:
                break
            if portion and version != max(portion) + 1:
                raise LakeError(
                    f"couldn't trim the log of {self._table}: version {max(portion) + 1} is missing; restore it, "
                    "`alumicatalyst lake doctor` says what else is"
                )
            data = self._store.get(log.commit_path(self._table, version))
            size += len(data)
            if _made_s(data) > before_s or (portion and size > ARCHIVE_BYTES_MAX):
                break
            portion[version] = data
        return portion

    def _archive(self, portion: dict[int, bytes], report: Trimmed) -> None:
        first, last = min(portion), max(portion)
        path = archive.path_of(self._table, first, last)
        self._say(f"{self._table}: commits {first:,} to {last:,}")
        if self._held is not None:
            self._held.check()
            self._store.put(path, archive.encode(portion))
            if archive.decode(self._store.get(path), path) != portion:
                raise LakeError(f"couldn't archive commits: {path} is not what was written; nothing was deleted")
        for version in sorted(portion):
            self._remove(version)
        report.commits += len(portion)
        report.bytes += sum(map(len, portion.values()))
        report.archives += 1

    def _remove(self, version: int) -> None:
        self._delete(log.commit_path(self._table, version))
        del self._written[version]

    def _delete(self, path: str) -> None:
        if self._held is not None:
            self._held.check()
            self._store.delete(path)


def _made_s(commit: bytes) -> float:
    """Return when a commit was made by its own words; one that does not say so is as old as its file."""
    for line in commit.split(b"\n"):
        if b'"commitInfo"' in line:
            try:
                stamp = json.loads(line)["commitInfo"]["timestamp"]
            except (ValueError, KeyError, TypeError):
                continue
            if isinstance(stamp, int):
                return stamp / 1_000
    return 0.0

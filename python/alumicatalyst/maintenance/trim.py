"""Trimming: commit files that nobody reads a table by any more move out of its log, into archives that are kept.

Readers begin at a Delta checkpoint, so what lies before it only makes listings long. It is what the ledger has signed,
though, and stays: `_archive/<table>/<first>-<last>.zip` holds the commit files byte for byte (see `archive`).

An archive is written and read back before the first of its commits is deleted, so a crash leaves every commit in one of
the two places at least, and the next run deletes what is in both.

A version that was trimmed is missing in the log, as one is that nobody has made yet, and a writer that slept must not
take the one for the other. `Table.commit` believes its look at the log's end for `table.LOOK_S_MAX` seconds; after that
it asks whether the version that it builds on is still there. So commits are deleted in the order of their versions, and
only when they have been known to be there for longer than that: whoever looked before they were made, looks again. Both
sides measure a time that passes, so that no clock that is wrong or jumps does harm; ages are a courtesy on top.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import archive, checkpoint, log, table
from alumicatalyst.lake.fault import reported
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.store import Store
    from alumicatalyst.maintenance.lease import Lease

AGE_S_MIN: Final = 3_600.0
"""Nothing younger is touched, whatever the settings say."""

KNOWN_FACTOR: Final = 1.5
"""How often `table.LOOK_S_MAX` a commit is known before it is deleted: clocks need not run equally fast."""

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
    known_s: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Trimmed]:
    """Move commit files that are older than some days into archives, and delete Delta checkpoints but the newest.

    Where there is something to move, it takes a minute and a half.

    Args:
        lake: The lake.
        held: The lease under which it is done; None for a dry run, which only tells what would be.
        names: The tables.
        signed: The last version of each table that the ledger has signed; None without a ledger.
        days: Commits stay for so long, by their own time and by when the store has written them.
        age_s_min: Seconds that everything stays; for tests.
        known_s: Seconds from when a commit was listed until it is deleted; for tests.
        say: Told what is being done.

    Raises:
        ClaimLost: Another process maintains the lake now.
        Stopped: The lease was told to stop.
        LakeError: The store failed, or an archive or checkpoint is damaged.
    """
    with reported("trim the logs"):
        now_s = time.time() if held is None else held.now_s()
        runs = []
        for name in names:
            say(f"{name}: looking")
            last = None if signed is None else signed.get(name, -1)
            runs.append(_Run(lake.store, name, held, say))
            runs[-1].prepare(last, now_s - max(age_s_min, days * _DAY_S))
        listed_s = time.monotonic()
        if held is not None and any(each.doomed for each in runs):
            say("waiting until no writer can miss what is moved")
            known_s = table.LOOK_S_MAX * KNOWN_FACTOR if known_s is None else known_s
            held.wait(max(0.0, listed_s + known_s - time.monotonic()))
        for each in runs:
            each.delete(now_s - age_s_min)
        return [each.report for each in runs]


class _Run:
    """The trimming of one table's log.

    Attributes:
        doomed: Versions in archives that are in the log still, in their order.
        report: What was done.
    """

    def __init__(self, store: Store, name: str, held: Lease | None, say: Callable[[str], None]) -> None:
        self._store = store
        self._table = name
        self._held = held
        self._say = say
        self._written: dict[int, float] = {}  # When the store has written each commit file.
        self._checkpoints: dict[int, float] = {}
        self.doomed: list[int] = []
        self.report = Trimmed(name)
        for path, _, modified_s in store.modified(f"{name}/{log.FOLDER}"):
            version, at = log.version_of(path), log.checkpoint_version_of(path)
            if version is not None:
                self._written[version] = modified_s
            elif at is not None:
                self._checkpoints[at] = modified_s

    def prepare(self, signed: int | None, before_s: float) -> None:
        """Archive what is old; without a good checkpoint nothing may go."""
        kept = self._kept_checkpoints()
        if not kept:
            return
        # Whoever opens the table from here on reads it, so it has to be readable.
        path = log.checkpoint_path(self._table, kept[0])
        checkpoint.decode(self._store.get(path), kept[0], path, log.LogState())
        below = kept[0] if signed is None else min(kept[0], signed)
        self._settle(below)
        left = [version for version in sorted(self._written) if version < below and version not in self.doomed]
        while portion := self._portion(left, before_s):
            self._put(portion)
            left = left[len(portion) :]

    def delete(self, before_s: float) -> None:
        """Delete what is archived from the log, oldest first, and the Delta checkpoints that nobody is pointed to."""
        for version in self.doomed:
            self._delete(log.commit_path(self._table, version))
        kept = self._kept_checkpoints()
        for version in sorted(self._checkpoints):
            if version < min(kept) and self._checkpoints[version] <= before_s:
                self._delete(log.checkpoint_path(self._table, version))
                self.report.checkpoints += 1
        if self.report.commits and self._held is not None:
            _log.info("log trimmed", table=self._table, commits=self.report.commits, archives=self.report.archives)

    def _kept_checkpoints(self) -> list[int]:
        return sorted(self._checkpoints)[-CHECKPOINTS_KEPT:]

    def _settle(self, below: int) -> None:
        """Find commits that are archived already: what a crash has left, or a process that had slept for very long."""
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
            self._doom(version, data)

    def _known(self, archived: archive.Archive, version: int) -> bytes | None:
        """Return what an archive has of a commit that the log has too: nothing, if the archive is damaged."""
        try:
            return archived.get(version)
        except LakeError as error:
            _log.warning("commits are archived again", table=self._table, version=version, reason=str(error))
            return None

    def _portion(self, left: Sequence[int], before_s: float) -> dict[int, bytes]:
        """Return the oldest commits that may go, as many as one archive takes."""
        portion: dict[int, bytes] = {}
        size = 0
        for version in left:
            if self._written[version] > before_s or len(portion) >= ARCHIVE_COMMITS_MAX:
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

    def _put(self, portion: dict[int, bytes]) -> None:
        first, last = min(portion), max(portion)
        path = archive.path_of(self._table, first, last)
        self._say(f"{self._table}: commits {first:,} to {last:,}")
        if self._held is not None:
            self._held.check()
            self._store.put(path, archive.encode(portion))
            if archive.decode(self._store.get(path), path) != portion:
                raise LakeError(f"couldn't archive commits: {path} is not what was written; nothing was deleted")
        for version in sorted(portion):
            self._doom(version, portion[version])
        self.report.archives += 1

    def _doom(self, version: int, data: bytes) -> None:
        self.doomed.append(version)
        self.report.commits += 1
        self.report.bytes += len(data)

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

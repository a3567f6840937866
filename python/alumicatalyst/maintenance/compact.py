"""Compaction: small files of a table, date by date, become a few of a good size, in one commit that changes no row.

Flushes make a file every few seconds; readers want few, sorted by device and time. The commit takes the old files out
and the new one in, both without a change of data, and keeps `_batch` and `_row` of every row, so that the ledger's
digests hold wherever a row lies (see LEDGER.md).

What makes it safe beside the flow, beside vacuum and beside itself is one look at the very snapshot that is committed
on: each file that is replaced has to be part of the table still. An append in between only moves the commit on by a
version; another compaction, or rows that expired, make this one's work void, and it is dropped. So a kill at any point
leaves the table as it was, or with all of it done, and at most a file that nobody names, for vacuum. No lease or clock
is needed for that (see `lease`).
"""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from alumicatalyst.lake import log
from alumicatalyst.lake.commit import Plan, Put, append
from alumicatalyst.lake.fault import reported
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.table import Snapshot, Table
    from alumicatalyst.maintenance.lease import Lease
    from alumicatalyst.maintenance.rewrite import Rewritten

OPERATION: Final = "OPTIMIZE"
"""What the commit calls itself, as Delta's own tools do."""

FILES_MIN: Final = 8
"""Small files of a day that still grows are left until there are so many: each round writes its rows again."""

FILES_MAX: Final = 500
"""Files that one job opens at most; what becomes of several such jobs is compacted in its turn."""

_MEGABYTE: Final = 1_000_000
# A large file is not written again for a few rows that came late.
_GAIN_MIN: Final = 8

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """Files of one date that become one.

    Attributes:
        table: The table.
        day: The date as the log has it, None for a table without.
        files: The add actions of the files.
    """

    table: str
    day: str | None
    files: tuple[dict[str, Any], ...]

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(int(each["size"]) for each in self.files)

    @property
    def rows(self) -> int:
        """Rows of the files, as their statistics say."""
        return sum(int(json.loads(each.get("stats") or "{}").get("numRecords") or 0) for each in self.files)


@dataclass(slots=True)
class Compacted:
    """What was done to one table, or would be.

    Attributes:
        table: The table.
        files_before: Files that were, or would be, replaced.
        files_after: Files that replace them.
        bytes_before: Size of the former.
        bytes_after: Size of the latter; 0 for a dry run, which does not know it.
        rows: Rows in them.
        dropped: Groups of files that somebody else replaced meanwhile.
        unreadable: Groups of files that stay as they are, because one of them is damaged.
        versions: The commits.
    """

    table: str
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    rows: int = 0
    dropped: int = 0
    unreadable: int = 0
    versions: list[int] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def compact(
    lake: Lake,
    lease: Lease | None,
    names: Iterable[str],
    *,
    target_mb: int = 256,
    files_min: int = FILES_MIN,
    threads: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> list[Compacted]:
    """Compact tables.

    Args:
        lake: The lake.
        lease: Under which it is done; None for a dry run, which only tells what would be.
        names: The tables.
        target_mb: Megabytes that a new file has at most; files of half as many or more stay as they are.
        files_min: Small files that a growing day has at least.
        threads: Threads that sort.
        say: Told what is being done.

    Raises:
        ClaimLost: Another process maintains the lake now.
        Stopped: The lease was told to stop.
        LakeError: The store failed.
    """
    from alumicatalyst.maintenance.rewrite import Unreadable

    done = []
    for name in names:
        table = lake.table(name)
        with reported(f"compact {name}"):
            with table.lock:
                snapshot, files = table.refresh(), table.files()
            report = Compacted(name)
            found = jobs(name, files.values(), target_bytes=target_mb * _MEGABYTE, files_min=files_min, today=_today())
            for at, job in enumerate(found, 1):
                say(f"{name}: {at} of {len(found)}: {len(job.files):,} files of {job.day or 'the table'}")
                if lease is None:
                    _count(report, job)
                else:
                    lease.check()
                    try:
                        _Run(lake, table, lease, snapshot, threads).do(job, report)
                    except Unreadable as error:
                        # One damaged file keeps the others of its group as they are, and nothing else.
                        report.unreadable += 1
                        _log.warning(
                            "files not compacted",
                            table=name,
                            day=job.day,
                            error=str(error),
                            remedy="`alumicatalyst lake doctor` names the file: restore it",
                        )
        done.append(report)
    return done


def jobs(table: str, files: Iterable[dict[str, Any]], *, target_bytes: int, files_min: int, today: str) -> list[Job]:
    """Return what is worth compacting: small files by date, in the order in which they were written.

    Args:
        table: The table.
        files: The add actions of its files.
        target_bytes: Size that the files of a job have together at most.
        files_min: How many a date that still grows has at least, or what has no date.
        today: From this date on they grow; a wrong clock costs work and nothing else.
    """
    days: dict[str | None, list[dict[str, Any]]] = {}
    for each in files:
        if int(each["size"]) * 2 < target_bytes:
            days.setdefault((each.get("partitionValues") or {}).get("date"), []).append(each)
    found = []
    for day in sorted(days, key=lambda each: each or ""):
        ordered = sorted(days[day], key=lambda each: (each.get("modificationTime") or 0, each["path"]))
        for portion in _portions(ordered, target_bytes):
            largest = max(int(each["size"]) for each in portion)
            rest = sum(int(each["size"]) for each in portion) - largest
            settled = day is not None and day < today and len(portion) > 1 and rest * _GAIN_MIN >= largest
            if settled or len(portion) >= max(2, files_min):
                found.append(Job(table, day, tuple(portion)))
    return found


def _portions(files: Sequence[dict[str, Any]], target_bytes: int) -> list[list[dict[str, Any]]]:
    portions: list[list[dict[str, Any]]] = []
    size = target_bytes + 1
    for each in files:
        if size + int(each["size"]) > target_bytes or len(portions[-1]) == FILES_MAX:
            portions.append([])
            size = 0
        portions[-1].append(each)
        size += int(each["size"])
    return portions


class _Run:
    """One job's way into the table."""

    def __init__(self, lake: Lake, table: Table, lease: Lease, snapshot: Snapshot, threads: int) -> None:
        self._lake = lake
        self._table = table
        self._lease = lease
        # From before the file is put: a vacuum that starts later may take it for one that nobody wants.
        self._version = snapshot.version
        self._threads = threads

    def do(self, job: Job, report: Compacted) -> None:
        """Rewrite, put and commit, unless somebody else has been at the files; Unreadable if one is damaged."""
        from alumicatalyst.maintenance.rewrite import Unreadable, rewrite

        with tempfile.TemporaryDirectory(prefix="alumicatalyst-") as folder:
            try:
                files = self._fetch(job, Path(folder))
                made = rewrite(job.table, files, Path(folder), self._lease, threads=self._threads)
                if made.rows != job.rows and all(each.get("stats") for each in job.files):
                    raise Unreadable(f"the log says {job.rows} rows, the files have {made.rows}")
            except (Unreadable, FileNotFoundError) as error:
                if not self._are_live(job):
                    report.dropped += 1  # Replaced, and vacuumed too: the work is done.
                    return
                raise Unreadable(str(error)) from error
        self._lease.check()
        self._commit(job, made, report)

    def _fetch(self, job: Job, folder: Path) -> list[Path]:
        """Return where the files are on a local disk; those of a distant store are copied there."""
        store = self._lake.store
        paths = [f"{job.table}/{unquote(each['path'])}" for each in job.files]
        if store.filesystem() is None:
            return [Path(store.root, path) for path in paths]
        local = []
        for number, path in enumerate(paths):
            self._lease.check()
            local.append(folder / f"{number}.parquet")
            local[-1].write_bytes(store.get(path))
        return local

    def _are_live(self, job: Job) -> bool:
        with self._table.lock:
            self._table.refresh()
            live = self._table.files()
        return all(each["path"] in live for each in job.files)

    def _commit(self, job: Job, made: Rewritten, report: Compacted) -> None:
        name = f"part-{uuid.uuid4().hex}.parquet"
        path = name if job.day is None else f"date={job.day}/{name}"
        # Whole, in one step: a store never holds a part of it.
        self._lake.store.put(f"{job.table}/{path}", made.data)
        size = len(made.data)
        add = {
            "path": path,
            "partitionValues": {} if job.day is None else {"date": job.day},
            "size": size,
            "modificationTime": log.now_ms(),
            "dataChange": False,
            "stats": made.statistics,
        }
        # Without a root over its rows: the ledger has those of the batches that they are of.
        told = {"path": path, "sha256": made.sha256, "bytes": size, "rows": made.rows}
        # Rows and bytes are told as 0, for they were counted when they were stored.
        put = Put([{"add": add}], [told], rows=0, size=0, at=self._version)
        removals = [log.removal(each, data_change=False) for each in job.files]
        metrics = {
            "numAddedFiles": "1",
            "numRemovedFiles": str(len(job.files)),
            "numAddedBytes": str(size),
            "numRemovedBytes": str(job.size),
        }
        metadata = {"software": software(), "operationMetrics": metrics}
        version: int | None = None

        def plan(snapshot: Snapshot) -> Plan | None:
            nonlocal version
            self._lease.check_on(snapshot)
            live = self._table.files()
            if path in live:
                version = snapshot.version  # Our own commit, which had seemed to fail.
                return None
            version = None
            if put.may_be_gone(snapshot) or not all(each["path"] in live for each in job.files):
                return None
            version = snapshot.version + 1
            return Plan(self._lease.transactions(), put, metadata, removals, OPERATION)

        started = time.monotonic()
        append(self._table, {}, plan, self._lake.retry, "a compaction")
        if version is None:
            report.dropped += 1
            _log.info("compaction dropped", table=job.table, day=job.day, files=len(job.files))
            return
        _count(report, job)
        report.bytes_after += size
        report.versions.append(version)
        _log.info(
            "compacted",
            table=job.table,
            day=job.day,
            files=len(job.files),
            rows=made.rows,
            bytes_before=job.size,
            bytes_after=size,
            commit_seconds=round(time.monotonic() - started, 3),
        )


def _count(report: Compacted, job: Job) -> None:
    report.files_before += len(job.files)
    report.files_after += 1
    report.bytes_before += job.size
    report.rows += job.rows


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def software() -> str:
    """Return this package's version, which every commit of maintenance names."""
    from alumicatalyst.sinks.lake import software_version

    return software_version()

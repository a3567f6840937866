"""Retention: whole days of rows that are older than the settings keep them, taken out by one commit that counts them.

What expired is counted by partition in the very commit that removes it, as transactions `expired/<what>/<partition>`
whose versions only rise. So what was stored can be accounted for (I1) for ever: stored + expired = batches.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from alumicatalyst.errors import InputError, LakeError
from alumicatalyst.lake import account, log, query
from alumicatalyst.lake.commit import Plan, append
from alumicatalyst.lake.fault import reported
from alumicatalyst.lake.table import Contents
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.table import Snapshot, Table
    from alumicatalyst.maintenance.lease import Lease

OPERATION: Final = "EXPIRE"
"""What the commit calls itself; `expired` in its commitInfo says what it took out."""

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "readings": ("windowed", "late", "duplicate"),
    "rejected": ("rejected",),
    "windows": ("windows",),
}
"""Tables that may expire, and what their rows count as. Alarms, seals and the journal are kept for ever."""

_LOOKS_MAX: Final = 5
"""Looks at a table before giving up: compaction may move what was counted before it is removed."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Expired:
    """What was taken out of one table, or would be.

    Attributes:
        table: The table.
        before: Days before this one are not kept.
        days: The days that were taken out, as ISO dates.
        files: How many files that was; they stay in the store until vacuum.
        bytes: Their size.
        rows: Rows by partition and what they count as.
        unsealed: Rows of a loss that was accepted: no seal ever counted them.
        kept: Older days that stay for now, since they hold rows that are not sealed yet.
        version: A version of the table in which it is done; None for a dry run, and if there was nothing to do.
    """

    table: str
    before: str
    days: list[str] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    unsealed: int = 0
    kept: list[str] = field(default_factory=list)
    version: int | None = None

    @property
    def total(self) -> int:
        """Return how many rows that is."""
        return self.unsealed + sum(sum(counts.values()) for counts in self.rows.values())

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"total": self.total}


def expire(
    lake: Lake, *, days: Mapping[str, int], lease: Lease | None, today: date, dry_run: bool = False
) -> list[Expired]:
    """Take out of each table the days before its last so many, by one commit a table.

    A day is the UTC date of the broker's time of the envelope that caused a row, by which files are stored. A day goes
    as a whole or, while rows of it are not sealed by `batches`, not at all. A crash leaves a table as it was or with
    all of it done. The flow and compaction may be at work: on the snapshot that is committed on, every file that was
    counted has to be part of the table still, else the table is looked at again.

    Args:
        lake: The lake.
        days: For each table of `KINDS`, how many days are kept; 0, or no entry: all.
        lease: The lease of maintenance, which every commit is checked by; a dry run needs none.
        today: The day that the days are counted from.
        dry_run: Only tell what would be taken out.

    Returns:
        What was done to each table with a number of days.

    Raises:
        InputError: A table never expires, or a number of days is negative.
        ClaimLost: Another process has taken the lease.
        LakeError: The store failed.
    """
    wrong = [name for name, kept in days.items() if name not in KINDS or kept < 0]
    if wrong:
        raise InputError(
            f"couldn't expire {', '.join(wrong)}: only {', '.join(KINDS)} expire, after 1 day or more; correct the days"
        )
    done = []
    for name, kept in days.items():
        if kept:
            with reported(f"expire rows of {name}"):
                done.append(_expire(lake, name, today - timedelta(days=kept), lease, dry_run=dry_run))
    return done


@dataclass(frozen=True, slots=True)
class _Old:
    """The files of days that are not kept, and what is in them."""

    snapshot: Snapshot
    files: dict[str, dict[str, Any]]
    report: Expired

    def transactions(self) -> dict[str, int]:
        """Return the counters as they are after the commit."""
        return {
            app: self.snapshot.transactions.get(app, 0) + count
            for partition, counts in self.report.rows.items()
            for what, count in counts.items()
            for app in [f"{account.EXPIRED_PREFIX}{what}/{partition}"]
        }

    def metadata(self) -> dict[str, Any]:
        """Return what the commit tells of itself."""
        told = self.report
        return {"expired": {name: getattr(told, name) for name in ("table", "before", "days", "rows", "unsealed")}}


def _expire(lake: Lake, name: str, before: date, lease: Lease | None, *, dry_run: bool) -> Expired:
    table = lake.table(name)
    for _ in range(_LOOKS_MAX):
        old = _look(lake, table, before)
        if dry_run or lease is None or not old.files:
            return old.report
        moved = False
        transactions = old.transactions()
        removals = [log.removal(each, data_change=True) for each in old.files.values()]

        def plan(
            snapshot: Snapshot,
            old: _Old = old,
            transactions: dict[str, int] = transactions,
            removals: list[dict[str, Any]] = removals,
        ) -> Plan | None:
            nonlocal moved
            lease.check_on(snapshot)
            live = table.files()
            same = all(snapshot.transactions.get(app) == old.snapshot.transactions.get(app) for app in transactions)
            if same and all(path in live for path in old.files):
                return Plan(
                    transactions | lease.transactions(), metadata=old.metadata(), actions=removals, operation=OPERATION
                )
            # Else our own commit was stored though it had seemed to fail, or others have changed what was counted.
            moved = not _is_done(snapshot, live, old, transactions)
            return None

        append(table, {}, plan, lake.retry, "what has expired")
        if not moved:
            _log.info("rows expired", table=name, days=old.report.days, rows=old.report.total, files=len(old.files))
            return replace(old.report, version=table.known().version)
    raise LakeError(
        f"couldn't expire rows of {name}: its files were moved {_LOOKS_MAX} times while they were counted; nothing was "
        "removed, try again when compaction is done"
    )


def _is_done(snapshot: Snapshot, live: Mapping[str, object], old: _Old, transactions: Mapping[str, int]) -> bool:
    gone = not any(path in live for path in old.files)
    return gone and all(snapshot.transactions.get(app) == count for app, count in transactions.items())


_COUNTS = """
SELECT strftime(date, '%Y-%m-%d') AS day, partition, what, count(*) FILTER (NOT is_lost) AS n,
    count(*) FILTER (is_lost) AS lost_n, max(sequence_number) AS last
FROM (SELECT date, partition, {what} AS what, sequence_number, {is_lost} AS is_lost FROM {table} t) GROUP BY ALL
"""


def _look(lake: Lake, table: Table, before: date) -> _Old:
    """Count what is in the days that are not kept, of those that hold nothing unsealed."""
    sealed = account.marks(lake.table("batches").refresh().transactions)
    losses = account.losses(lake)
    with table.lock:
        snapshot, files = table.refresh(), table.files()
    days = {path: str(action["partitionValues"]["date"]) for path, action in files.items()}
    old = [path for path, day in days.items() if date.fromisoformat(day) < before]
    if not old:
        return _Old(snapshot, {}, Expired(table.name, before.isoformat()))
    paths, sizes = [unquote(path) for path in old], [int(files[path]["size"]) for path in old]
    with query.connect(lake, {table.name: Contents(snapshot, paths, sizes, 0)}) as connection:
        account.give_losses(connection, losses)
        what = "outcome" if table.name == "readings" else f"'{KINDS[table.name][0]}'"
        counts = _COUNTS.format(what=what, is_lost=account.IS_LOST, table=table.name)
        groups = connection.execute(counts).fetchall()
    kept = {day for day, partition, *_, last in groups if last > sealed.get(partition, -1)}
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    unsealed = 0
    for day, partition, kind, count, lost, _ in groups:
        if day not in kept:
            rows[partition][kind] += count
            unsealed += lost
    taken = [path for path in old if days[path] not in kept]
    report = Expired(
        table.name,
        before.isoformat(),
        days=sorted({days[path] for path in taken}),
        files=len(taken),
        bytes=sum(int(files[path]["size"]) for path in taken),
        rows={partition: dict(sorted((+counts).items())) for partition, counts in sorted(rows.items()) if +counts},
        unsealed=unsealed,
        kept=sorted(kept),
    )
    return _Old(snapshot, {path: files[path] for path in taken}, report)

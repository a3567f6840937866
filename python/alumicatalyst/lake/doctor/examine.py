"""The lake's check-up: every reading is accounted for (I1), no row is double, marks, files, logs and states agree."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import duckdb

from alumicatalyst.errors import LakeError, LedgerError, StateError
from alumicatalyst.lake import account, archive, log, query, seen, state, tables
from alumicatalyst.lake.doctor import files as doctor_files
from alumicatalyst.lake.doctor import logs as doctor_log
from alumicatalyst.lake.doctor import sql as doctor_sql
from alumicatalyst.lake.doctor.checks import EXAMPLES_MAX, Check, Findings
from alumicatalyst.lake.fault import first_line, reported
from alumicatalyst.lake.record import dictionary_path
from alumicatalyst.lake.table import CLAIM_PREFIX, JOURNAL_PREFIX, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from alumicatalyst.lake.account import Loss
    from alumicatalyst.lake.doctor.logs import TableLog
    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.log import LogState
    from alumicatalyst.lake.store import Store

LEDGER_LAG_S_MAX: Final = 300
"""Age of a commit from which on a ledger that has not signed it is not at work."""

_GAPS_SHOWN_MAX: Final = 20

# What batches has sealed is in the others by then; and claims are made on readings first, so it is looked at last.
_ORDER: Final = ("batches", *(name for name in tables.SPECS if name not in {"batches", "readings"}), "readings")


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        ok: Nothing is wrong; there may be advice.
        checks: Every question, answered.
        tables: For each table its version, files, rows and bytes; files that no commit names (`orphans`), or that were
            removed and are still stored; how long its log is and how old its checkpoint.
        partitions: For each partition its mark, sums over `batches`, rows not sealed yet and rows that have expired,
            states, marks and claims by table, dictionaries with their ranges, and gaps of the source's own numbers.
    """

    ok: bool
    checks: list[Check]
    tables: list[dict[str, Any]]
    partitions: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def examine(lake: Lake, signed: Callable[[], Mapping[str, int]] | None = None) -> Report:
    """Check a lake; a flow may be writing to it meanwhile.

    Every check of rows stops at the marks of `batches`: rows above them belong to a flush that is under way or was
    interrupted, and are counted as unsealed. Logs are read as they lie in the store, so tables need not be open.

    Args:
        lake: The lake.
        signed: Returns the last version of each table that the lake's ledger has signed; None: it is not asked about.

    Raises:
        LakeError: The store cannot be read.
    """
    with reported("check the lake"):
        return _Examination(lake).take(signed)


class _Examination:
    """One check-up."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._store: Store = lake.store
        self._findings = Findings()
        self._partitions: list[dict[str, Any]] = []

    def take(self, signed: Callable[[], Mapping[str, int]] | None) -> Report:
        logs = {name: doctor_log.look(self._store, tables.SPECS[name], self._findings) for name in _ORDER}
        states = {name: logs[name].state for name in tables.SPECS}
        known = {name: each for name, each in states.items() if each is not None}
        shown = doctor_files.look(self._lake, known, self._findings)
        if len(known) == len(states):
            self._claims(known)
            if not self._findings.wrong("files-there"):
                doctor_files.compare(self._lake, known, self._findings)
                if not self._findings.wrong("files-readable"):
                    self._ask(known)
        if signed is not None:
            self._ledger(known, signed)
        shown = [row | _log_of(logs[row["table"]]) for row in shown]
        checks = self._findings.checks()
        exact = [check for check in checks if not check.advice and (check.key != "ledger" or signed is not None)]
        return Report(all(check.wrong == 0 for check in exact), checks, shown, self._partitions)

    # ------------------------------------------------------------------ rows

    def _ask(self, logs: Mapping[str, LogState]) -> None:
        """Ask what is answered by rows, in SQL."""
        contents = {name: seen.seen(name, _snapshot(each), each.files.values()) for name, each in logs.items()}
        with query.connect(self._lake, contents) as connection:
            try:
                losses = [account.loss(*row) for row in connection.execute(account.LOSSES).fetchall()]
                self._prepare(connection, logs, losses)
                for key, sql in doctor_sql.CHECKS.items():
                    found = connection.execute(_FIRST.format(sql=sql)).fetchall()
                    self._findings.count(key, found[0][1] if found else 0, [row[0] for row in found])
                gaps = self._continuity(connection, losses)
                self._dictionaries(connection)
                self._show(connection, logs, gaps)
                self._states(connection, logs["batches"])
            except duckdb.Error as error:
                # A footer may be whole and a page behind it not: the rest cannot be asked.
                doctor_files.damaged(self._lake, logs, self._findings)
                if not self._findings.wrong("files-readable"):
                    raise LakeError(f"couldn't check the lake: {first_line(error)}; look again later") from error

    def _prepare(self, connection: duckdb.DuckDBPyConnection, logs: Mapping[str, LogState], losses: list[Loss]) -> None:
        marks = [
            (name, partition, mark)
            for name in (*tables.ROW_TABLES, "batches")
            for partition, mark in account.marks(_snapshot(logs[name]).transactions).items()
        ]
        expired = {key: n for each in logs.values() for key, n in account.expired(_snapshot(each).transactions).items()}
        ordinals = _with_prefix(logs["journal"], JOURNAL_PREFIX)
        doctor_sql.prepare(connection, marks, losses, expired, ordinals)

    def _continuity(self, connection: duckdb.DuckDBPyConnection, losses: list[Loss]) -> list[tuple[str, int, int]]:
        """Look for gaps between ranges. Where numbers have gaps of their own, the commit says what its range followed.

        Returns:
            The gaps that are in order: partition, and the numbers before and after.
        """
        gaps: list[tuple[str, int, int]] = connection.execute(doctor_sql.GAPS).fetchall()
        wrong: list[tuple[str, int, int]] = []
        if gaps:
            follows = {
                (partition, each["first"]): each["follows"]
                for info in _commit_infos(self._store, "batches")
                for partition, ranges in info.get("ranges", {}).items()
                for each in ranges
            }
            accepted = {(partition, mark) for partition, mark, _ in losses}
            accepted |= {(partition, after) for partition, _, after in losses}
            wrong = [
                (partition, last, first)
                for partition, last, first in gaps
                if follows.get((partition, first)) != last and (partition, last) not in accepted
            ]
        self._findings.count(
            "continuous",
            len(wrong),
            [f"{partition}: {last} is followed by {first}" for partition, last, first in wrong[:EXAMPLES_MAX]],
        )
        return [each for each in gaps if each not in wrong]

    def _dictionaries(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._findings.asked("dictionaries")
        for (sha256,) in connection.execute("SELECT DISTINCT dictionary_sha256 FROM batches").fetchall():
            path = dictionary_path(sha256)
            try:
                found = hashlib.sha256(self._store.get(path)).hexdigest()
            except FileNotFoundError:
                self._findings.add("dictionaries", f"{path} is missing")
                continue
            if found != sha256:
                self._findings.add("dictionaries", f"{path} has the digest {found}")

    def _show(
        self, connection: duckdb.DuckDBPyConnection, logs: Mapping[str, LogState], gaps: list[tuple[str, int, int]]
    ) -> None:
        """Put together what is shown of each partition."""
        cursor = connection.execute(doctor_sql.PARTITIONS)
        names = [column[0] for column in cursor.description or []]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        dictionaries = connection.execute(doctor_sql.DICTIONARIES).fetchall()
        snapshots = {name: _snapshot(each) for name, each in logs.items()}
        for row in rows:
            name = row["partition"]
            own_gaps = [[before, first] for partition, before, first in gaps if partition == name]
            row["expired"] = {
                what: count
                for each in snapshots.values()
                for (partition, what), count in account.expired(each.transactions).items()
                if partition == name
            }
            row["states"] = state.numbers(self._store, name)
            row["marks"] = {table: snapshots[table].mark(name) for table in (*tables.ROW_TABLES, "batches")}
            row["claims"] = {table: each.claim(name) for table, each in snapshots.items()}
            row["dictionaries"] = [
                {"version": version, "sha256": sha256, "first": first, "last": last}
                for partition, version, sha256, first, last in dictionaries
                if partition == name
            ]
            row["gaps"] = len(own_gaps)
            row["gaps_first"] = own_gaps[:_GAPS_SHOWN_MAX]
        self._partitions = rows

    # ------------------------------------------------------------------ what partitions resume from

    def _claims(self, logs: Mapping[str, LogState]) -> None:
        self._findings.asked("claims")
        first = _with_prefix(logs["readings"], CLAIM_PREFIX)
        for name, each in logs.items():
            for partition, number in _with_prefix(each, CLAIM_PREFIX).items():
                # Maintenance has a lease of its own, and goes from table to table as it needs to.
                if "/" in partition and number > first.get(partition, 0):
                    what = f"{partition}: claim {number} on {name}, {first.get(partition, 0)} on readings"
                    self._findings.add("claims", what)

    def _states(self, connection: duckdb.DuckDBPyConnection, batches: LogState) -> None:
        self._findings.asked("states-ahead", "states-intact", "states-there", "states-few")
        for (partition,) in connection.execute("SELECT DISTINCT partition FROM journal ORDER BY 1").fetchall():
            # States are listed first: one that is put after a flush meanwhile would seem ahead of the older mark.
            numbers = state.numbers(self._store, partition)
            mark = max(_snapshot(batches).mark(partition), self._mark(partition))
            ahead = [number for number in numbers if number > mark]
            for number in ahead:
                self._findings.add("states-ahead", f"{partition}: a state at {number}, batches ends at {mark}")
            if mark >= 0 and not numbers:
                self._findings.add("states-there", f"{partition}: none, batches ends at {mark}")
            if len(numbers) - len(ahead) > state.KEPT + 1:  # One more while an old one is being removed.
                self._findings.add("states-few", f"{partition}: {len(numbers)} states")
            for number in numbers:
                try:
                    state.get(self._store, partition, number)
                except StateError as error:
                    if number in state.numbers(self._store, partition):  # Else it was removed as an old one meanwhile.
                        self._findings.add("states-intact", str(error))

    def _mark(self, partition: str) -> int:
        """Return the newest mark of `batches`."""
        try:
            return self._lake.table("batches").refresh().mark(partition)
        except LakeError:
            return -1  # What its log is like was said; the look that was taken has to do.

    # ------------------------------------------------------------------ the ledger

    def _ledger(self, logs: Mapping[str, LogState], signed: Callable[[], Mapping[str, int]]) -> None:
        self._findings.asked("ledger", "ledger-behind")
        try:
            last = signed()
        except (LedgerError, LakeError) as error:
            self._findings.add("ledger", str(error))
            return
        for name, each in logs.items():
            behind = each.version - last.get(name, -1)
            if behind > 0:
                seconds = time.time() - _committed_s(self._store, name, last.get(name, -1) + 1)
                if seconds > LEDGER_LAG_S_MAX:
                    what = f"{name}: {behind:,} commits are not signed, the oldest is {seconds / 60:,.0f} minutes old"
                    self._findings.add("ledger-behind", what)


_FIRST: Final = f"SELECT detail, count(*) OVER () AS wrong FROM ({{sql}}) ORDER BY detail LIMIT {EXAMPLES_MAX}"  # noqa: S608 own


def _snapshot(told: LogState) -> Snapshot:
    return Snapshot(told.version, {app: int(action["version"]) for app, action in told.transactions.items()})


def _with_prefix(told: LogState, prefix: str) -> dict[str, int]:
    """Return the versions of the transactions of one kind, without its prefix."""
    found = _snapshot(told).transactions.items()
    return {app.removeprefix(prefix): version for app, version in found if app.startswith(prefix)}


def _log_of(told: TableLog) -> dict[str, Any]:
    age_s = told.checkpoint_age_s
    return {
        "commits": told.commits,
        "checkpoint": told.checkpoint,
        "checkpoint_age_s": None if age_s is None else round(age_s),
    }


def _commit_infos(store: Store, table: str) -> Iterator[dict[str, Any]]:
    """Yield the commitInfo of every commit, of those in the archive too."""
    folder = (path for path, _ in store.list(f"{table}/{log.FOLDER}") if log.version_of(path) is not None)
    for data in chain((data for _, data in archive.commits(store, table)), map(store.get, folder)):
        for line in data.split(b"\n"):
            if line.startswith(b'{"commitInfo"'):
                yield json.loads(line)["commitInfo"]


def _committed_s(store: Store, table: str, version: int) -> float:
    """Return when a commit was made, by its writer's clock; now if that cannot be told."""
    try:
        data = store.get(log.commit_path(table, version))
    except FileNotFoundError:
        data = archive.get(store, table, version) or b""
    for line in data.split(b"\n"):
        if line.startswith(b'{"commitInfo"'):
            return float(json.loads(line)["commitInfo"].get("timestamp", time.time() * 1_000)) / 1_000
    return time.time()

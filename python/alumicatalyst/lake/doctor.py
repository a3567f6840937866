"""The lake's check-up: that every reading is accounted for (I1), no row is double, marks, files and states agree."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from alumicatalyst.errors import StateError
from alumicatalyst.lake import account, doctor_sql, journal, query, state, tables
from alumicatalyst.lake.fault import reported
from alumicatalyst.lake.record import dictionary_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.table import Contents

_EXAMPLES_MAX = 5


@dataclass(slots=True)
class Check:
    """One question to the lake.

    Attributes:
        name: What must hold.
        wrong: How many times it does not; None: it could not be asked, because files are damaged.
        examples: The first few, in words.
    """

    name: str
    wrong: int | None = None
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        ok: Nothing is wrong.
        checks: Every question.
        tables: For each table version, files, rows, bytes, and orphans: files that no commit names, left by a crash.
        partitions: For each partition mark, sums over `batches`, rows not sealed yet, states.
    """

    ok: bool
    checks: list[Check]
    tables: list[dict[str, Any]]
    partitions: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def examine(lake: Lake) -> Report:
    """Check a lake; a flow may be writing to it meanwhile.

    Every check stops at the marks of `batches`: rows above them belong to a flush that is under way or was interrupted,
    and are counted as unsealed.
    """
    with reported("check the lake"):
        return _examine(lake, query.look(lake))


def _examine(lake: Lake, contents: dict[str, Contents]) -> Report:
    shown, files = _files(lake, contents)
    partitions: list[dict[str, Any]] = []
    if files.wrong:
        checks = [files, *(Check(name) for name in (*doctor_sql.CHECKS, _CONTINUOUS, _KEPT))]
    else:
        losses = account.losses(lake)
        with query.connect(lake, contents) as connection:
            doctor_sql.prepare(connection, _marks(contents), losses, _expired(contents))
            checks = [files, *(_ask(connection, name, sql) for name, sql in doctor_sql.CHECKS.items())]
            checks += [_continuity(lake, connection, losses), _dictionaries(lake, connection)]
            partitions = _partitions(lake, connection)
        checks += [_journals(lake), *_states(lake, contents["batches"])]
    return Report(all(check.wrong == 0 for check in checks), checks, shown, partitions)


_CONTINUOUS = "ranges of batches follow one another without a gap"
_KEPT = "every dictionary that rows were made under is kept"


def _check(name: str, wrong: Sequence[str]) -> Check:
    return Check(name, len(wrong), list(wrong[:_EXAMPLES_MAX]))


def _ask(connection: duckdb.DuckDBPyConnection, name: str, sql: str) -> Check:
    rows = connection.execute(
        f"SELECT detail, count(*) OVER () AS wrong FROM ({sql}) ORDER BY detail LIMIT {_EXAMPLES_MAX}"  # noqa: S608 ours
    ).fetchall()
    return Check(name, rows[0][1] if rows else 0, [row[0] for row in rows])


def _files(lake: Lake, contents: dict[str, Contents]) -> tuple[list[dict[str, Any]], Check]:
    """Compare the log's files with the store's: missing and unfinished ones are wrong, unnamed ones only take room."""
    wrong: list[str] = []
    shown = []
    for name in tables.SPECS:
        now = contents[name]
        start = len(name) + 1
        stored = {
            path[start:]: size for path, size in lake.store.list(name) if not path.startswith(f"{name}/_delta_log/")
        }
        for path, size in zip(now.paths, now.sizes, strict=True):
            if path not in stored:
                wrong.append(f"{name}/{path} is missing")
            elif stored[path] != size:
                wrong.append(f"{name}/{path} has {stored[path]} bytes, the log says {size}")
        shown.append(
            {
                "table": name,
                "version": now.snapshot.version,
                "files": len(now.paths),
                "rows": now.rows,
                "bytes": sum(now.sizes),
                "orphans": len(stored.keys() - set(now.paths)),
            }
        )
    return shown, _check("every file that a commit names is there, whole", wrong)


def _marks(contents: dict[str, Contents]) -> list[tuple[str, str, int]]:
    return [
        (name, partition, mark)
        for name in (*tables.ROW_TABLES, "batches")
        for partition, mark in account.marks(contents[name].snapshot.transactions).items()
    ]


def _expired(contents: dict[str, Contents]) -> dict[tuple[str, str], int]:
    return {
        key: count for each in contents.values() for key, count in account.expired(each.snapshot.transactions).items()
    }


def _continuity(lake: Lake, connection: duckdb.DuckDBPyConnection, losses: list[tuple[str, int, int]]) -> Check:
    """Look for gaps between ranges. Where numbers have gaps of their own, the commit says what its range followed."""
    gaps = connection.execute(doctor_sql.GAPS).fetchall()
    if gaps:
        follows = {
            (partition, each["first"]): each["follows"]
            for info in lake.table("batches").commit_infos()
            for partition, ranges in info.get("ranges", {}).items()
            for each in ranges
        }
        accepted = {(partition, mark) for partition, mark, _ in losses}
        accepted |= {(partition, after) for partition, _, after in losses}
        gaps = [
            (partition, last, first)
            for partition, last, first in gaps
            if follows.get((partition, first)) != last and (partition, last) not in accepted
        ]
    return _check(_CONTINUOUS, [f"{partition}: {last} is followed by {first}" for partition, last, first in gaps])


def _journals(lake: Lake) -> Check:
    table, wrong = lake.table("journal"), []
    snapshot = table.refresh()
    rows = table.select(
        "SELECT partition, count(*) AS n, count(DISTINCT ordinal) AS distinct_n, min(ordinal) AS low, "
        "max(ordinal) AS high FROM journal GROUP BY partition"
    )
    for row in rows:
        last = snapshot.ordinal(row["partition"])
        # A row that is committed between the two looks is above the snapshot, never below it.
        if not (row["low"] == 0 and row["n"] == row["distinct_n"] == row["high"] + 1 and row["high"] >= last):
            wrong.append(f"{row['partition']}: {row['n']} rows up to ordinal {row['high']}, the log says {last}")
    return _check("journals have every ordinal once", wrong)


def _states(lake: Lake, batches: Contents) -> list[Check]:
    ahead: list[str] = []
    damaged: list[str] = []
    for partition in journal.partitions(lake.table("journal")):
        # States are listed first: one that is put after a flush meanwhile would seem ahead of the older mark.
        numbers = state.numbers(lake.store, partition)
        mark = max(batches.snapshot.mark(partition), lake.table("batches").refresh().mark(partition))
        ahead += [f"{partition}: a state at {number}, batches ends at {mark}" for number in numbers if number > mark]
        for number in numbers:
            try:
                state.get(lake.store, partition, number)
            except StateError as error:
                if number in state.numbers(lake.store, partition):  # Else it was removed as an old one meanwhile.
                    damaged.append(str(error))
    return [_check("no state is ahead of the mark", ahead), _check("states are intact", damaged)]


def _dictionaries(lake: Lake, connection: duckdb.DuckDBPyConnection) -> Check:
    wrong = []
    for (sha256,) in connection.execute("SELECT DISTINCT dictionary_sha256 FROM batches").fetchall():
        try:
            found = hashlib.sha256(lake.store.get(dictionary_path(sha256))).hexdigest()
        except FileNotFoundError:
            wrong.append(f"{dictionary_path(sha256)} is missing")
            continue
        if found != sha256:
            wrong.append(f"{dictionary_path(sha256)} has the digest {found}")
    return _check(_KEPT, wrong)


def _partitions(lake: Lake, connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    cursor = connection.execute(doctor_sql.PARTITIONS)
    names = [column[0] for column in cursor.description or []]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [row | {"states": state.numbers(lake.store, row["partition"])} for row in rows]

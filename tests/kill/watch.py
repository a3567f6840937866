"""Follows a lake's Delta logs commit by commit, and holds every version of every table to the undisturbed run (I1, I5).

It reads the commits' JSON and the data files itself and takes in only what is new, so that a look after every kill
costs little. It is not the product's reader, nor deltalake's: those have their say at the end of a round.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from alumicatalyst.lake import archive
from alumicatalyst.lake.tables import ROW_TABLES, SPECS
from tests.compare import rows_of
from tests.kill.harness import key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alumicatalyst.lake.store import Store
    from tests.kill.expected import Expected


@dataclass
class Seen:
    """What was seen of one table.

    Attributes:
        version: The last commit taken in.
        files: What each live file holds.
        ever: Every row that was ever there.
        counted: How many of each partition.
        marks: Versions of the transactions.
    """

    version: int = -1
    files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    ever: set[Any] = field(default_factory=set)
    counted: Counter[str] = field(default_factory=Counter)
    marks: dict[str, int] = field(default_factory=dict)

    def live(self) -> Counter[Any]:
        return Counter(key(row) for rows in self.files.values() for row in rows)


class Watch:
    """What all looks at a lake have seen.

    Args:
        store: Where the lake is.
        expected: What each partition's log makes.
    """

    def __init__(self, store: Store, expected: Mapping[str, Expected]) -> None:
        self._store = store
        self._expected = expected
        self.tables = {name: Seen() for name in SPECS}
        self._sealed: dict[str, int] = dict.fromkeys(expected, -1)
        self._counts_at: dict[str, int] = dict.fromkeys(expected, 0)
        self.commits = 0
        self.tidied = False  # Whether commits may have been moved into the archive.

    def look(self) -> None:
        """Take in what is new, and check it; AssertionError names what does not hold."""
        # First the journal, since an accepted loss changes what is to come, and `batches` before what it seals.
        for name in ("journal", "batches", *ROW_TABLES):
            while (actions := self._commit(name, self.tables[name].version + 1)) is not None:
                self._take(name, actions)
        for partition, expected in self._expected.items():
            sealed = self._sealed[partition]
            for name in ROW_TABLES:
                there = self.tables[name].counted[partition]
                assert there >= expected.number(name, sealed), (
                    f"{name} of {partition} has {there} rows, batches has sealed {sealed}: "
                    f"{expected.number(name, sealed)} were to be there"
                )

    def marks(self, partition: str) -> dict[str, int]:
        """The mark of every table for a partition."""
        return {name: self.tables[name].marks.get(partition, -1) for name in (*ROW_TABLES, "batches")}

    def rows(self) -> int:
        return sum(sum(self.tables[name].counted.values()) for name in ROW_TABLES)

    # ------------------------------------------------------------------ one commit

    def _commit(self, name: str, version: int) -> list[dict[str, Any]] | None:
        try:
            data = self._store.get(f"{name}/_delta_log/{version:020d}.json")
        except FileNotFoundError:
            found = archive.get(self._store, name, version) if self.tidied else None
            if found is None:
                return None
            data = found
        return [json.loads(line) for line in data.splitlines()]

    def _take(self, name: str, actions: list[dict[str, Any]]) -> None:
        seen = self.tables[name]
        seen.version += 1
        self.commits += 1
        where = f"{name}@{seen.version}"
        before = dict(seen.marks)
        for action in actions:
            if "txn" in action:
                app, version = action["txn"]["appId"], action["txn"]["version"]
                # A process of maintenance has one number for all of its commits.
                last = before.get(app, -1) - (app == "claim/maintenance")
                assert version > last, f"{where}: {app} goes from {before.get(app)} to {version}"
                seen.marks[app] = version
        gone = [row for each in actions if "remove" in each for row in seen.files.pop(each["remove"]["path"])]
        come = []
        for add in (each["add"] for each in actions if "add" in each):
            assert add["path"] not in seen.files, f"{where} adds {add['path']} again"
            seen.files[add["path"]] = self._read(name, add)
            come += seen.files[add["path"]]
        if gone and come:
            lost, made = Counter(map(key, gone)), Counter(map(key, come))
            assert lost == made, (
                f"{where}: a rewrite takes {(lost - made).total()} rows out, {(made - lost).total()} in"
            )
        elif gone:
            self._check_expired(where, name, seen, gone, before)
        elif name in ROW_TABLES:
            self._check_rows(where, name, seen, come, before)
        elif name == "batches":
            self._check_batches(where, seen, come)
        for row in come:
            if name == "journal" and row["kind"] == "state_loss" and not gone:
                # Only the flow that accepts it is alive, so the last look has seen where the tables ended.
                partition = row["partition"]
                self._expected[partition].lose(self.marks(partition), row["after_sequence"], row["ordinal"])

    def _read(self, name: str, add: Mapping[str, Any]) -> list[dict[str, Any]]:
        data = self._store.get(f"{name}/{add['path']}")
        assert len(data) == add["size"], f"{name}/{add['path']} has {len(data)} bytes, its commit says {add['size']}"
        rows = rows_of(pq.read_table(io.BytesIO(data)).drop_columns(["_batch", "_row"]))
        days = {name: date.fromisoformat(day) for name, day in add["partitionValues"].items()}
        return [row | days for row in rows]

    def _check_rows(
        self, where: str, name: str, seen: Seen, rows: list[dict[str, Any]], before: Mapping[str, int]
    ) -> None:
        for row in rows:
            partition, number = row["partition"], row["sequence_number"]
            this = key(row)
            assert this in self._expected[partition].rows[name], f"{where}: no undisturbed run makes this: {row}"
            assert this not in seen.ever, f"{where}: this was there before: {row}"
            assert before.get(partition, -1) < number <= seen.marks[partition], (
                f"{where}: row at {number}, the mark goes from {before.get(partition)} to {seen.marks.get(partition)}"
            )
            seen.ever.add(this)
            seen.counted[partition] += 1
        for partition, expected in self._expected.items():
            mark = seen.marks.get(partition, -1)
            wanted = expected.number(name, mark)
            assert seen.counted[partition] == wanted, (
                f"{where}: {seen.counted[partition]} rows of {partition}, up to the mark {mark} there are {wanted}"
            )

    @staticmethod
    def _check_expired(
        where: str, name: str, seen: Seen, gone: list[dict[str, Any]], before: Mapping[str, int]
    ) -> None:
        """What is taken out for good is counted in the very commit."""
        lost = Counter(f"expired/{row.get('outcome', name)}/{row['partition']}" for row in gone)
        told = {app: version - before.get(app, 0) for app, version in seen.marks.items() if app.startswith("expired/")}
        assert lost == +Counter(told), f"{where}: {lost} are taken out, {told} are counted"

    def _check_batches(self, where: str, seen: Seen, rows: list[dict[str, Any]]) -> None:
        for row in sorted(rows, key=lambda row: (row["partition"], row["first_sequence"])):
            partition = row["partition"]
            at, counts = self._counts_at[partition], self._expected[partition].counts
            covered = [each for each in counts[at:] if each["sequence_number"] <= row["last_sequence"]]
            assert covered, f"{where}: nothing is left to seal: {row}"
            found = row["first_sequence"], row["last_sequence"]
            wanted = covered[0]["sequence_number"], covered[-1]["sequence_number"]
            assert found == wanted, f"{where}: seals {found}, behind {self._sealed[partition]} comes {wanted}"
            for column in covered[0]:
                if column.startswith("rows_") or column == "body_bytes":
                    total = sum(each[column] for each in covered)
                    assert row[column] == total, f"{where}: {column} is {row[column]}, not {total}: {row}"
            self._counts_at[partition] += len(covered)
            self._sealed[partition] = row["last_sequence"]
        for partition, sealed in self._sealed.items():
            # An accepted loss moves the mark and seals nothing.
            may_be = {sealed, *(origin for origin, _ in self._expected[partition].starts)}
            assert seen.marks.get(partition, -1) in may_be, f"{where}: mark and seal of {partition} differ"

"""A handle on one Delta table: its marks and claims as of one snapshot, and a commit that succeeds on that one only."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alumicatalyst import metrics
from alumicatalyst.lake.tables import CHECKPOINT_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deltalake import DeltaTable
    from deltalake.transaction import AddAction

    from alumicatalyst.lake.store import Store
    from alumicatalyst.lake.tables import TableSpec

REOPEN_COMMITS = 400
"""Commits after which the handle is opened anew: one that is only ever updated has been seen to grow."""

CLAIM_PREFIX = "claim/"
JOURNAL_PREFIX = "journal/"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one version of a table says.

    Attributes:
        version: The Delta version.
        transactions: The latest version of every application id up to then.
    """

    version: int
    transactions: Mapping[str, int]

    def mark(self, partition: str) -> int:
        """Return the last sequence number committed for a partition, -1 for none."""
        return self.transactions.get(partition, -1)

    def claim(self, partition: str) -> int:
        """Return the number of the last claim on a partition, 0 for none."""
        return self.transactions.get(CLAIM_PREFIX + partition, 0)

    def ordinal(self, partition: str) -> int:
        """Return the ordinal of a partition's last journal row, -1 for none."""
        return self.transactions.get(JOURNAL_PREFIX + partition, -1)


@dataclass(frozen=True, slots=True)
class Contents:
    """The data files of one version of a table.

    Attributes:
        snapshot: The version.
        paths: Where they are, relative to the table.
        sizes: Their sizes by the log, in the order of `paths`.
        rows: Rows in all of them, by the log.
    """

    snapshot: Snapshot
    paths: list[str]
    sizes: list[int]
    rows: int


class Table:
    """One table, shared by the threads of a process; `lock` is held from a snapshot to the commit on it.

    delta-rs accepts any application transaction version, an old one too: what keeps rows from being committed twice is
    that marks are read from a snapshot, and that a commit is refused unless it is the very next after it. The
    transactions are therefore followed here, commit by commit, in step with the handle's version; delta-rs would read
    the whole log tail for each of them.
    """

    def __init__(self, store: Store, spec: TableSpec) -> None:
        self.store = store
        self.spec = spec
        self.name = spec.name
        self.lock = threading.RLock()
        self._handle: DeltaTable | None = None
        self._schema: Any = None
        self._known = -1
        self._transactions: dict[str, int] = {}
        self._commits = 0
        self._options: dict[str, str] = {}

    def refresh(self) -> Snapshot:
        """Bring the handle to the newest version and return what it says."""
        with self.lock:
            handle = self._open_or_update()
            anew = self._known < 0 or handle.version() < self._known
            while True:
                version = handle.version()
                if anew:
                    # The first look, or a table that has become shorter: nothing known before holds.
                    self._known, self._transactions = -1, {}
                    if not self._read_checkpoint(version):
                        handle.update_incremental()
                        continue
                try:
                    for each in range(self._known + 1, version + 1):
                        self._transactions.update(_transactions_of(self._commit_lines(each)))
                        self._known = each
                except FileNotFoundError:
                    if anew:
                        raise
                    # Maintenance has trimmed the log past the last look: start from a checkpoint.
                    anew = True
                    continue
                return Snapshot(version, dict(self._transactions))

    def known(self) -> Snapshot:
        """Return what was known at the last look or commit, without asking the store."""
        with self.lock:
            return Snapshot(self._known, dict(self._transactions))

    def commit(
        self,
        snapshot: Snapshot,
        actions: Sequence[AddAction],
        transactions: Mapping[str, int],
        metadata: Mapping[str, Any],
    ) -> None:
        """Commit files and transactions as the version right after a snapshot, or fail.

        Any error leaves open whether the commit was made: the caller refreshes and finds out from its marks.
        """
        from deltalake import CommitProperties, Transaction

        with self.lock:
            handle = self._handle
            if handle is None or handle.version() != snapshot.version:
                raise RuntimeError(f"the handle of {self.name} is not at version {snapshot.version} any more")
            started = time.perf_counter()
            # THE COMMIT POINT of this table: one conditional write of the log's next entry. Without retries delta-rs
            # cannot move it behind a commit that nobody has checked.
            handle.create_write_transaction(
                list(actions),
                "append",
                self._schema,
                self.spec.partition_by,
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(each, version) for each, version in transactions.items()],
                    custom_metadata=dict(metadata),
                    max_commit_retries=0,
                ),
            )
            version = snapshot.version + 1
            self._sync(version)
            self._known = version
            self._transactions.update(transactions)
            self._commits += 1
            metrics.STAGE_SECONDS.labels("commit").observe(time.perf_counter() - started)
            metrics.LAKE_COMMITS.labels(self.name).inc()

    def forget(self) -> None:
        """Drop the handle after an error that may have left it in an unknown condition."""
        with self.lock:
            self._handle = None

    def select(self, query: str) -> list[dict[str, Any]]:
        """Run a query over the newest version of this table, under its own name; for results of a few rows."""
        import pyarrow as pa
        from deltalake import QueryBuilder

        with self.lock:
            reader = QueryBuilder().register(self.name, self._open_or_update()).execute(query)
            rows: list[dict[str, Any]] = pa.RecordBatchReader.from_stream(reader).read_all().to_pylist()
        return rows

    def contents(self) -> Contents:
        """Return the newest snapshot and its data files, both of the same version."""
        import pyarrow as pa

        with self.lock:
            snapshot = self.refresh()
            handle = self._handle
            if handle is None:
                raise RuntimeError(f"the handle of {self.name} is gone")
            actions = pa.table(handle.get_add_actions(flatten=True))
            return Contents(
                snapshot,
                actions.column("path").to_pylist(),
                actions.column("size_bytes").to_pylist(),
                sum(rows or 0 for rows in actions.column("num_records").to_pylist()),
            )

    def commit_infos(self) -> Iterator[dict[str, Any]]:
        """Yield the commitInfo of every commit that the log still holds, oldest first."""
        folder = f"{self.name}/_delta_log"
        for path, _ in self.store.list(folder):
            name = path.rpartition("/")[2]
            if len(name) == 25 and name.endswith(".json") and name[:20].isdigit():
                for line in self.store.get(path).splitlines():
                    if line.startswith(b'{"commitInfo"'):
                        yield json.loads(line)["commitInfo"]

    def _open_or_update(self) -> DeltaTable:
        from deltalake import DeltaTable

        options = self.store.options()
        if self._handle is None or self._commits >= REOPEN_COMMITS or options != self._options:
            self._handle = None
            handle = DeltaTable(f"{self.store.root}/{self.name}", storage_options=options)
            self._schema, self._commits, self._options = handle.schema(), 0, options
            self._handle = handle
        else:
            self._handle.update_incremental()
        return self._handle

    def _read_checkpoint(self, version: int) -> bool:
        """Start from the last checkpoint, if there is one; False if it is newer than the handle's version."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = f"{self.name}/_delta_log"
        try:
            last = json.loads(self.store.get(f"{folder}/_last_checkpoint"))
        except FileNotFoundError:
            return True
        at, parts = int(last["version"]), last.get("parts")
        if at > version:
            return False
        names = (
            [f"{at:020d}.checkpoint.{part:010d}.{parts:010d}.parquet" for part in range(1, parts + 1)]
            if parts
            else [f"{at:020d}.checkpoint.parquet"]
        )
        for name in names:
            data = pa.BufferReader(self.store.get(f"{folder}/{name}"))
            for row in pq.read_table(data, columns=["txn"]).column("txn").drop_null().to_pylist():
                self._transactions[row["appId"]] = row["version"]
        self._known = at
        return True

    def _commit_lines(self, version: int) -> list[bytes]:
        return self.store.get(f"{self.name}/_delta_log/{version:020d}.json").splitlines()

    def _sync(self, version: int) -> None:
        """Make the commit durable before anyone is told of it: delta-rs leaves that to the operating system."""
        folder = f"{self.name}/_delta_log"
        self.store.sync(f"{folder}/{version:020d}.json")
        if (version + 1) % CHECKPOINT_INTERVAL == 0:
            self.store.sync(f"{folder}/{version:020d}.checkpoint.parquet")
            self.store.sync(f"{folder}/_last_checkpoint")


def _transactions_of(lines: Sequence[bytes]) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        if b'"txn"' in line:
            action = json.loads(line).get("txn")
            if action is not None:
                found[action["appId"]] = int(action["version"])
    return found

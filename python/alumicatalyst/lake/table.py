"""A handle on one Delta table: its log as of one version, and a commit that succeeds right after that one only."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from alumicatalyst import metrics
from alumicatalyst.errors import LakeError
from alumicatalyst.lake import archive, checkpoint, log
from alumicatalyst.lake.fault import first_line
from alumicatalyst.lake.log import LogState
from alumicatalyst.lake.tables import CHECKPOINT_INTERVAL
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from alumicatalyst.lake.store import Store
    from alumicatalyst.lake.tables import TableSpec

CLAIM_PREFIX = "claim/"
JOURNAL_PREFIX = "journal/"

LOOK_S_MAX = 60.0
"""Seconds after which a look at the log's end is not believed any more. Maintenance deletes no commit that it has not
known for longer than this, so until then the next version can only be missing because nobody has committed it."""

_log = get_logger(__name__)


class TableMissing(LakeError):
    """There is no Delta table."""


class NotNext(Exception):
    """Another process has committed this version, or we ourselves without having heard of it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one version of a table says.

    Attributes:
        version: The Delta version.
        transactions: The latest version of every application id up to then.
        vacuumed: No file that was put when this version was known or later can have been taken by vacuum.
    """

    version: int
    transactions: Mapping[str, int]
    vacuumed: int = field(default=-1, compare=False)

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

    Delta lets a writer say that it has seen up to version n of a table and now makes n + 1, by a file that only one
    writer can create. Marks and claims are read from n, so nothing is committed on anything that was not looked at.
    """

    def __init__(self, store: Store, spec: TableSpec) -> None:
        self.store = store
        self.spec = spec
        self.name = spec.name
        self.lock = threading.RLock()
        self._state: LogState | None = None
        self._looked_s = 0.0

    # ------------------------------------------------------------------ looking

    def refresh(self) -> Snapshot:
        """Read the commits that are new, and return what the newest version says.

        Raises:
            TableMissing: There is no table.
            LakeError: Its log cannot be read.
        """
        with self.lock:
            state, self._state = self._state, None
            if state is None or (self._looked_long_ago() and not self._is_there(state.version)):
                # The first look; or this process slept, and what it knew last was trimmed: what stands behind that
                # place may be the stray commit of another one that slept.
                state = self._begin()
            while True:
                looked_s = _clock_s()
                try:
                    data = self._read(state.version + 1)
                    if data is not None:
                        state.apply(state.version + 1, data, self.name)
                        continue
                    if self._is_there(state.version):
                        break
                except LakeError:
                    raise  # A commit that is damaged: what it has left half done is forgotten.
                except BaseException:
                    self._state = state  # The store failed; what was read before stays known.
                    raise
                # The table is older than it was, or was trimmed beyond what was known.
                state = self._begin()
            self._state, self._looked_s = state, looked_s
            return self.known()

    def known(self) -> Snapshot:
        """Return what was known at the last look or commit, without asking the store."""
        with self.lock:
            state = self._state or LogState()
            versions = {app: action["version"] for app, action in state.transactions.items()}
            return Snapshot(state.version, versions, state.vacuumed)

    def files(self) -> dict[str, dict[str, Any]]:
        """Return the add action of every file of the last known version, by path."""
        with self.lock:
            return dict(self._known_state().files)

    def removed(self) -> dict[str, dict[str, Any]]:
        """Return the remove action of every file that was removed of late, by path."""
        with self.lock:
            state = self._known_state()
            before = () if state.removed_before is None else checkpoint.plain(state.removed_before)
            told = {action["path"]: action for action in before if action["path"] not in state.files}
            return told | state.removed

    def metadata(self) -> dict[str, Any]:
        """Return the table's metaData action."""
        with self.lock:
            return dict(self._known_state().metadata)

    def protocol(self) -> dict[str, Any]:
        """Return the table's protocol action."""
        with self.lock:
            return dict(self._known_state().protocol)

    def contents(self) -> Contents:
        """Return the newest snapshot and its data files, both of the same version."""
        with self.lock:
            snapshot, files = self.refresh(), self.files().values()
        return Contents(
            snapshot,
            [unquote(each["path"]) for each in files],
            [int(each["size"]) for each in files],
            sum(json.loads(each.get("stats") or "{}").get("numRecords", 0) for each in files),
        )

    def select(self, query: str) -> list[dict[str, Any]]:
        """Run a query over the newest version of this table, under its own name; for results of a few rows."""
        import pyarrow as pa
        from deltalake import DeltaTable, QueryBuilder

        table = DeltaTable(f"{self.store.root}/{self.name}", storage_options=self.store.options())
        reader = QueryBuilder().register(self.name, table).execute(query)
        rows: list[dict[str, Any]] = pa.RecordBatchReader.from_stream(reader).read_all().to_pylist()
        return rows

    def commit_infos(self) -> Iterator[dict[str, Any]]:
        """Yield the commitInfo of every commit, archived ones too, oldest first."""
        archived: set[int] = set()
        for number, data in archive.commits(self.store, self.name):
            archived.add(number)
            yield from _infos(data)
        for path, _ in self.store.list(f"{self.name}/{log.FOLDER}"):
            version = log.version_of(path)
            if version is not None and version not in archived:
                yield from _infos(self.store.get(path))

    # ------------------------------------------------------------------ committing

    def create(self, first_commit: bytes) -> bool:
        """Commit version 0, which makes the table; False if another process has."""
        return self.store.create_if_absent(log.commit_path(self.name, 0), first_commit)

    def commit(
        self,
        snapshot: Snapshot,
        actions: Sequence[Mapping[str, Any]],
        transactions: Mapping[str, int],
        metadata: Mapping[str, Any],
        operation: str = "WRITE",
    ) -> None:
        """Commit actions and transactions as the version right after a snapshot, or fail.

        Any error leaves open whether the commit was made: the caller refreshes and finds out from its marks.

        Raises:
            NotNext: The version is there already.
        """
        with self.lock:
            state = self._known_state()
            if state.version != snapshot.version:
                raise RuntimeError(f"{self.name} was looked at again, it is not at version {snapshot.version} any more")
            started = time.perf_counter()
            version = snapshot.version + 1
            told = [log.transaction(app, number) for app, number in transactions.items()]
            data = log.encode([log.commit_info(operation, metadata), *told, *actions])
            if self._looked_long_ago() and not self._is_there(snapshot.version):
                self._state = None
                raise NotNext(f"version {snapshot.version} was trimmed, the table has gone on")
            # THE COMMIT POINT of this table: the log's next entry, which only one process can make, and which is
            # durable when it is made.
            if not self.store.create_if_absent(log.commit_path(self.name, version), data):
                raise NotNext(f"version {version} was committed by another process")
            if self._looked_long_ago() and not self._is_there(snapshot.version):
                # This process slept for so long that the log was trimmed beyond what it knew, and what it made stands
                # where nobody looks. Trimming goes upwards: had the version been trimmed, so had the one before it.
                self._state = None
                raise NotNext(f"version {version} was committed and trimmed before")
            state.apply(version, data, self.name)
            self._looked_s = _clock_s()
            metrics.STAGE_SECONDS.labels("commit").observe(time.perf_counter() - started)
            metrics.LAKE_COMMITS.labels(self.name).inc()
            if (version + 1) % CHECKPOINT_INTERVAL == 0:
                self._write_checkpoint(state)

    def _write_checkpoint(self, state: LogState) -> None:
        """Save readers the commits up to here. Without it they have more to read, and that is all."""
        started = time.perf_counter()
        try:
            data, pointer = checkpoint.encode(state)
            self.store.create_if_absent(log.checkpoint_path(self.name, state.version), data)
            # Readers are pointed to it once it is durable, unless a quicker process has pointed them further.
            if self._pointed() < state.version:
                self.store.put(f"{self.name}/{log.FOLDER}/{log.LAST_CHECKPOINT}", pointer)
        except Exception as error:  # noqa: BLE001 the commit stands, and the next checkpoint is tried in its turn
            _log.warning("checkpoint not written", table=self.name, version=state.version, error=first_line(error))
        metrics.STAGE_SECONDS.labels("checkpoint").observe(time.perf_counter() - started)

    # ------------------------------------------------------------------ the log in the store

    def _known_state(self) -> LogState:
        if self._state is None:
            raise RuntimeError(f"{self.name} was not looked at")
        return self._state

    def _read(self, version: int) -> bytes | None:
        try:
            return self.store.get(log.commit_path(self.name, version))
        except FileNotFoundError:
            return None

    def _is_there(self, version: int) -> bool:
        return self._read(version) is not None

    def _begin(self) -> LogState:
        """Return the state of the newest checkpoint, or of nothing; the commits after it are there."""
        for version in self._checkpoints():
            state, path = LogState(), log.checkpoint_path(self.name, version)
            try:
                checkpoint.decode(self.store.get(path), version, path, state)
            except FileNotFoundError:
                continue  # Maintenance has removed it meanwhile: there is a newer one.
            state.check(self.name)
            if self._is_there(version):
                return state
            if version == max(self._listed_checkpoints(), default=-1):
                raise LakeError(
                    f"couldn't open the table {self.name}: {log.commit_path(self.name, version)} is missing, and the "
                    "checkpoint of the same version is there; the log was cut, restore it"
                )
        if not self._is_there(0):
            raise TableMissing(
                f"couldn't open the table {self.name}: {self.store.root}/{self.name} is no Delta table; set lake.uri "
                "to where a flow has written, run `alumicatalyst lake migrate` on a lake of an older version, or "
                "restore its log"
            )
        return LogState()

    def _checkpoints(self) -> Iterator[int]:
        """Yield the versions of checkpoints: the one that readers are pointed to, then all, newest first."""
        pointed = self._pointed()
        if pointed >= 0:
            yield pointed
        yield from self._listed_checkpoints()

    def _pointed(self) -> int:
        """Return the version of the checkpoint that readers are pointed to, -1 for none."""
        try:
            return int(json.loads(self.store.get(f"{self.name}/{log.FOLDER}/{log.LAST_CHECKPOINT}"))["version"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            # There may be none yet; one that is damaged `lake doctor` names, and checkpoints are found without it.
            return -1

    def _looked_long_ago(self) -> bool:
        return _clock_s() - self._looked_s > LOOK_S_MAX

    def _listed_checkpoints(self) -> list[int]:
        found = (log.checkpoint_version_of(path) for path, _ in self.store.list(f"{self.name}/{log.FOLDER}"))
        return sorted((each for each in found if each is not None), reverse=True)


def _infos(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.split(b"\n"):
        if line.startswith(b'{"commitInfo"'):
            yield json.loads(line)["commitInfo"]


def _clock_s() -> float:
    """Return a clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)

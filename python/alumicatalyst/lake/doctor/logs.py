"""The doctor's look at a table's log: read as it lies there, so that a damaged one is described and not refused."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import archive, checkpoint, log, tables
from alumicatalyst.lake.doctor import table as doctor_table
from alumicatalyst.lake.fault import first_line

if TYPE_CHECKING:
    from alumicatalyst.lake.doctor.checks import Findings
    from alumicatalyst.lake.log import LogState
    from alumicatalyst.lake.store import Store
    from alumicatalyst.lake.tables import TableSpec

TAIL_MAX: Final = 4 * tables.CHECKPOINT_INTERVAL
"""Commits since the last checkpoint from which on readers are slow."""

COMMITS_MAX: Final = 50_000
"""Commit files in a log from which on listing it is slow."""

_LOOKS_MAX: Final = 3

_ASKED: Final = (
    *("tables", "commits", "checkpoint", "pointer", "named-once", "protocol", "properties", "schema"),
    *("schema-old", "pointer-there", "log-tail", "log-length", "log-old"),
)


@dataclass(slots=True)
class TableLog:
    """What a log says.

    Attributes:
        state: The table as of its newest commit; None if that cannot be told.
        commits: Commit files in the log.
        checkpoint: Version of the newest checkpoint, -1 for none.
        checkpoint_age_s: Seconds since it was written, None for none.
    """

    state: LogState | None = None
    commits: int = 0
    checkpoint: int = -1
    checkpoint_age_s: float | None = None


@dataclass(slots=True)
class _Listed:
    versions: set[int] = field(default_factory=set)
    checkpoints: dict[int, float] = field(default_factory=dict)
    pointer: bool = False


class _Moved(Exception):
    """A file of the log was there when it was listed, and was trimmed before it was read."""


def look(store: Store, spec: TableSpec, findings: Findings) -> TableLog:
    """Read a table's log, and say what is wrong with it."""
    findings.asked(*_ASKED)
    for left in reversed(range(_LOOKS_MAX)):
        try:
            return _Look(store, spec, findings, last=left == 0).take()
        except _Moved:
            continue
    raise AssertionError("the last look takes what it finds")


class _Look:
    """One look at one table's log."""

    def __init__(self, store: Store, spec: TableSpec, findings: Findings, *, last: bool) -> None:
        self._store = store
        self._spec = spec
        self._name = spec.name
        self._findings = findings
        self._last = last
        self._said: list[tuple[str, str]] = []
        self._listed = _Listed()

    def take(self) -> TableLog:
        self._list()
        found = self._take()
        # Said only now: a look that is taken again says nothing twice.
        for key, what in self._said:
            self._findings.add(key, what)
        return found

    def _take(self) -> TableLog:
        versions, checkpoints = self._listed.versions, sorted(self._listed.checkpoints)
        newest = checkpoints[-1] if checkpoints else -1
        found = TableLog(commits=len(versions), checkpoint=newest)
        if not versions and not checkpoints:
            self._say("tables", f"{self._name} is missing")
            return found
        if checkpoints:
            found.checkpoint_age_s = time.time() - self._listed.checkpoints[newest]
        self._pointer(newest)
        top = max(versions, default=newest)
        self._lengths(newest, top)
        # From the checkpoint before the newest: what follows must lead to the newest one.
        base = self._base(checkpoints)
        state = self._read_on(base, min(newest, top))
        if newest >= 0:
            told = self._checkpoint(newest)
            if told is not None and state is not None and state.version == newest:
                path = log.checkpoint_path(self._name, newest)
                for what in doctor_table.differences(told, state):
                    self._say("checkpoint", f"{path}: {what}")
            state = told if told is not None else state
        if state is not None:
            state = self._read_on(state, top)
        if state is None:
            return found
        for key, what in doctor_table.judge(self._spec, state):
            self._say(key, what)
        found.state = state
        return found

    # ------------------------------------------------------------------ what is there

    def _list(self) -> None:
        for path, _, modified_s in self._store.modified(f"{self._name}/{log.FOLDER}"):
            version, at = log.version_of(path), log.checkpoint_version_of(path)
            if version is not None:
                self._listed.versions.add(version)
            elif at is not None:
                self._listed.checkpoints[at] = modified_s
            elif path.endswith(f"/{log.LAST_CHECKPOINT}"):
                self._listed.pointer = True

    def _pointer(self, newest: int) -> None:
        path = f"{self._name}/{log.FOLDER}/{log.LAST_CHECKPOINT}"
        if not self._listed.pointer:
            if newest >= 0:
                self._say("pointer-there", f"{path} is missing, the newest checkpoint is of version {newest}")
            return
        try:
            told = int(json.loads(self._store.get(path))["version"])
        except FileNotFoundError:
            raise self._moved(path) from None
        except (ValueError, KeyError, TypeError) as error:
            self._say("pointer", f"{path} cannot be read: {type(error).__name__}")
            return
        if told not in self._listed.checkpoints and not self._is_there(log.checkpoint_path(self._name, told)):
            self._say("pointer", f"{path} points to version {told}, of which there is no checkpoint")

    def _lengths(self, newest: int, top: int) -> None:
        versions = self._listed.versions
        if top - newest > TAIL_MAX:
            since = f"since the checkpoint of {newest}" if newest >= 0 else "and no checkpoint"
            self._say("log-tail", f"{self._name}: {top - newest:,} commits {since}")
        if len(versions) > COMMITS_MAX:
            self._say("log-length", f"{self._name}: {len(versions):,} commit files")
        try:
            archived = set(archive.Archive(self._store, self._name).versions())
        except LakeError as error:
            self._say("log-old", str(error))
            return
        gone = set(range(max(newest, 0))) - versions - archived
        if gone:
            self._say("log-old", f"{self._name}: {_ranges(gone)}")

    # ------------------------------------------------------------------ reading on

    def _base(self, checkpoints: list[int]) -> LogState | None:
        """Return from where commits can be followed up to the newest checkpoint."""
        if len(checkpoints) > 1:
            return self._checkpoint(checkpoints[-2], quietly=True)
        if 0 in self._listed.versions:
            return log.LogState()
        return None

    def _checkpoint(self, version: int, *, quietly: bool = False) -> LogState | None:
        path, state = log.checkpoint_path(self._name, version), log.LogState()
        try:
            data = self._store.get(path)
        except FileNotFoundError:
            raise self._moved(path) from None
        try:
            self._named_once(data, path)
            checkpoint.decode(data, version, path, state)
            if not state.metadata or not state.protocol:
                raise LakeError(f"{path} has no metadata")
        except Exception as error:  # noqa: BLE001 whatever a library says of a damaged file
            if not quietly:
                self._say("checkpoint", f"{path} cannot be read: {first_line(error)}")
            return None
        return state

    def _named_once(self, data: bytes, path: str) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        found = pq.read_table(pa.BufferReader(data), columns=["add", "remove"], use_threads=False)
        added, removed = (
            pc.struct_field(found.column(kind).combine_chunks().drop_null(), "path").to_pylist()
            for kind in ("add", "remove")
        )
        for each in sorted({each for each in added if added.count(each) > 1} if len(added) != len(set(added)) else ()):
            self._say("named-once", f"{path} names {each} twice")
        for each in sorted(set(added) & set(removed)):
            self._say("named-once", f"{path} names {each}, which it also says to be removed")

    def _read_on(self, state: LogState | None, until: int) -> LogState | None:
        """Take commits into a state; None if one is missing or damaged."""
        if state is None:
            return None
        for version in range(state.version + 1, until + 1):
            path = log.commit_path(self._name, version)
            try:
                data = self._store.get(path)
            except FileNotFoundError:
                if version in self._listed.versions:
                    raise self._moved(path) from None
                later = sum(each > version for each in self._listed.versions)
                self._say("commits", f"{path} is missing, and {later:,} later commits are there")
                return None
            try:
                self._apply(state, data, path)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                self._say("commits", f"{path} cannot be read: {first_line(error)}")
                return None
            state.version = version
        return state

    def _apply(self, state: LogState, data: bytes, path: str) -> None:
        named: set[str] = set()
        for line in data.split(b"\n"):
            if not line.strip():
                continue
            for kind, action in json.loads(line).items():
                if kind in {"add", "remove"}:
                    again = action["path"] in named or (kind == "add" and action["path"] in state.removed)
                    if again:
                        self._say("named-once", f"{path} names {action['path']}, which was removed or named before")
                    named.add(action["path"])
                state.take(kind, action)

    # ------------------------------------------------------------------ small things

    def _say(self, key: str, what: str) -> None:
        if (key, what) not in self._said:
            self._said.append((key, what))

    def _is_there(self, path: str) -> bool:
        try:
            self._store.get(path)
        except FileNotFoundError:
            return False
        return True

    def _moved(self, path: str) -> Exception:
        if not self._last:
            return _Moved(path)
        return LakeError(f"couldn't look at the log of {self._name}: {path} goes and comes; look again later")


def _ranges(numbers: set[int]) -> str:
    """Return numbers as ranges, as in 0-14."""
    ordered = sorted(numbers)
    starts = [each for each in ordered if each - 1 not in numbers]
    ends = [each for each in ordered if each + 1 not in numbers]
    return ", ".join(str(one) if one == two else f"{one}-{two}" for one, two in zip(starts, ends, strict=True))

"""The lake as it was: which version of each table a time or a number means, and what that version held.

Everything is read from the tables' own logs. A version can be read as long as its commits, or a checkpoint and the
commits after it, stand in the log, and as long as vacuum has left its files.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import unquote

from alumicatalyst.errors import InputError
from alumicatalyst.lake import checkpoint, log, tables
from alumicatalyst.lake.log import LogState
from alumicatalyst.lake.seen import look as look_at_newest
from alumicatalyst.lake.seen import seen
from alumicatalyst.lake.table import CLAIM_PREFIX, JOURNAL_PREFIX, Snapshot

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.seen import Seen
    from alumicatalyst.lake.table import Table

COMMITS_LOOKED_AT = 256
"""Commits around a time that are read one by one. Within them writers' clocks may disagree; a log that is longer is cut
by halves first."""

_READS_AT_ONCE = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TABLE_VERSION = re.compile(r"(?P<table>[a-z_]+)@(?P<version>\d{1,18})$")


@dataclass(frozen=True, slots=True)
class AsOf:
    """What is to be read instead of the newest versions.

    Attributes:
        time_ms: The newest version of every table that was committed at or before it, in milliseconds since 1970.
        versions: The version of each table that is named, which decides against a time.
        only: The version of the only table of a query.
    """

    time_ms: int | None = None
    versions: Mapping[str, int] = field(default_factory=dict)
    only: int | None = None


def parse(texts: Sequence[str]) -> AsOf:
    """Read times and versions, several of them apart by spaces or commas.

    Raises:
        InputError: One is neither an RFC 3339 time nor TABLE@VERSION nor a number, or two contradict each other.

    Example:
        >>> parse(["2026-11-21T06:00:00Z", "readings@120"])
        AsOf(time_ms=1795240800000, versions={'readings': 120}, only=None)
    """
    times: set[int] = set()
    numbers: set[int] = set()
    versions: dict[str, int] = {}
    for text in re.split(r"[,\s]+", " ".join(texts).strip()):
        match = _TABLE_VERSION.match(text)
        if match:
            name, version = match["table"], int(match["version"])
            if name not in tables.SPECS:
                raise InputError(
                    f"couldn't read {text}: there is no table {name}; tables are {', '.join(tables.SPECS)}"
                )
            if versions.setdefault(name, version) != version:
                raise InputError(f"couldn't read {name} as of two versions: {versions[name]} and {version}; give one")
        elif text.isascii() and text.isdigit() and len(text) <= 18:
            numbers.add(int(text))
        else:
            times.add(_time_ms(text))
    if len(times) + len(numbers) > 1:
        raise InputError(f"couldn't read the lake as of {' '.join(texts)}: give one time, or one version a table")
    return AsOf(next(iter(times), None), versions, next(iter(numbers), None))


def look(lake: Lake, cut: AsOf, names: Collection[str]) -> dict[str, Seen]:
    """Return the version of each table that is meant.

    By time, whatever `batches` has sealed in its version is in the versions of the other tables, even where the clocks
    of two writers disagree: a commit that a later seal covers is taken in, whenever it says it was made. Rows above the
    seal are shown if they were committed by then.

    Args:
        lake: The lake.
        cut: What is meant; tables that it says nothing of are read at their newest.
        names: The tables.

    Raises:
        InputError: A version is not there, not any more, or it is not clear of which table it is.
    """
    versions = dict(cut.versions)
    if cut.only is not None:
        (name,) = names if len(names) == 1 else (None,)
        if name is None:
            raise InputError(
                f"couldn't tell which table version {cut.only} is of: the query may read {', '.join(names)}; give "
                "TABLE@VERSION, or a time for all of them"
            )
        versions.setdefault(name, cut.only)
    found: dict[str, Seen] = {}
    sealed: Mapping[str, int] = {}
    # What was sealed decides over the other tables, so it is looked at even if the query does not.
    for name in sorted({*names, "batches"} if cut.time_ms is not None else names, key=lambda each: each != "batches"):
        table = lake.table(name)
        if name in versions:
            found[name] = _History(table).at(versions[name])
        elif cut.time_ms is not None:
            history = _History(table)
            found[name] = history.at(history.version_at(cut.time_ms, sealed))
        else:
            found[name] = look_at_newest(table)
        if name == "batches":
            sealed = _marks(found[name].snapshot)
    return {name: found[name] for name in names}


@dataclass(frozen=True, slots=True)
class _Told:
    """What a commit says of itself: when it was made, and from which sequence number of each partition it has rows."""

    time_ms: int | None
    firsts: Mapping[str, int]


class _History:
    """The versions of a table that its log can still tell of."""

    def __init__(self, table: Table) -> None:
        with table.lock:
            self._newest = table.refresh()
            self._files = table.files()
        self._table, self._store = table, table.store
        paths = [path for path, _ in table.store.list(f"{table.name}/{log.FOLDER}")]
        commits = {log.version_of(path) for path in paths}
        self._first_commit = self._newest.version
        while self._first_commit - 1 in commits:
            self._first_commit -= 1
        checkpoints = (log.checkpoint_version_of(path) for path in paths)
        self._checkpoints = sorted(
            each for each in checkpoints if each is not None and self._first_commit - 1 <= each <= self._newest.version
        )

    @property
    def oldest(self) -> int:
        """The oldest version that the log can tell of."""
        return 0 if self._first_commit == 0 else next(iter(self._checkpoints), self._newest.version)

    def at(self, version: int) -> Seen:
        """Return a version, all of whose files are there.

        Raises:
            InputError: It is none of the table's, or cannot be read any more.
        """
        if version == self._newest.version:
            return seen(self._table.name, self._newest, self._files.values())
        if version > self._newest.version:
            raise InputError(
                f"couldn't read {self._table.name} as of version {version}: its newest is {self._newest.version}"
            )
        if version < self.oldest:
            raise InputError(
                f"couldn't read {self._table.name} as of version {version}: its log begins later; the oldest version "
                f"that can be read is {self._named(self._readable_from(self.oldest))}"
            )
        state = self._state(version)
        missing = self._vacuumed(state)
        if missing:
            raise InputError(
                f"couldn't read {self._table.name} as of version {version}: {missing:,} of its {len(state.files):,} "
                "files were vacuumed; the oldest version after it that can be read is "
                f"{self._named(self._readable_from(version + 1))}"
            )
        marks = {app: int(action["version"]) for app, action in state.transactions.items()}
        return seen(self._table.name, Snapshot(version, marks, state.vacuumed), state.files.values())

    def version_at(self, time_ms: int, sealed: Mapping[str, int]) -> int:
        """Return the newest version that was committed at or before a time, or that holds what was sealed by then.

        Times are the commits' own, each at least a millisecond after the one before, as Delta's readers correct them.
        """
        first, end = max(self.oldest, self._first_commit), self._newest.version + 1
        if end - first > COMMITS_LOOKED_AT:
            middle = bisect_left(range(first, end), time_ms + 1, key=lambda each: self._told(each).time_ms or 0) + first
            first = min(max(first, middle - COMMITS_LOOKED_AT // 2), end - COMMITS_LOOKED_AT)
            end = first + COMMITS_LOOKED_AT
        with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
            told = list(pool.map(self._told, range(first, end)))
        found: int | None = None
        last_ms = -1
        for version, each in enumerate(told, first):
            last_ms = max(last_ms + 1, each.time_ms or 0)
            if last_ms <= time_ms or any(each.firsts[name] <= sealed.get(name, -1) for name in each.firsts):
                found = version
        if found is None:
            raise InputError(
                f"couldn't read {self._table.name} as of {_shown(time_ms)}: the oldest version that can be read is "
                f"{self._named(self._readable_from(first))}"
            )
        return found

    def _state(self, version: int) -> LogState:
        state = LogState()
        before = [each for each in self._checkpoints if each <= version]
        try:
            if before:
                path = log.checkpoint_path(self._table.name, before[-1])
                checkpoint.decode(self._store.get(path), before[-1], path, state)
            for each in range(state.version + 1, version + 1):
                state.apply(each, self._store.get(log.commit_path(self._table.name, each)), self._table.name)
        except FileNotFoundError:
            raise InputError(
                f"couldn't read {self._table.name} as of version {version}: its log is being trimmed; ask again"
            ) from None
        return state

    def _vacuumed(self, state: LogState) -> int:
        """Return how many files of a version are gone. Those that the newest version has are not looked for."""
        old = {f"{self._table.name}/{unquote(path)}" for path in state.files.keys() - self._files.keys()}
        folders = {path.rpartition("/")[0] for path in old}
        there = {path for folder in folders for path, _ in self._store.list(folder)}
        return len(old - there)

    def _readable_from(self, version: int) -> int:
        """Return the oldest version from one on that has its files: what vacuum takes first was removed first."""
        later = range(version, self._newest.version + 1)
        return version + bisect_left(later, True, key=lambda each: not self._vacuumed(self._state(each)))  # noqa: FBT003

    def _named(self, version: int) -> str:
        """Return a version with its time, where its commit can still be read."""
        time_ms = self._told(version).time_ms if version >= self._first_commit else None
        return str(version) if time_ms is None else f"{version} of {_shown(time_ms)}"

    def _told(self, version: int) -> _Told:
        try:
            lines = self._store.get(log.commit_path(self._table.name, version)).split(b"\n")
        except FileNotFoundError:
            return _Told(None, {})
        for line in lines:
            if line.startswith(b'{"commitInfo"'):
                info = json.loads(line)["commitInfo"]
                ranges = info.get("ranges") or {}
                return _Told(info.get("timestamp"), {name: each[0]["first"] for name, each in ranges.items() if each})
        return _Told(None, {})


def _marks(snapshot: Snapshot) -> dict[str, int]:
    return {
        app: mark for app, mark in snapshot.transactions.items() if not app.startswith((CLAIM_PREFIX, JOURNAL_PREFIX))
    }


def _time_ms(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise InputError(
            f"couldn't read the lake as of {text!r}: it is neither a time with its offset (2026-11-21T06:00:00Z), nor "
            "TABLE@VERSION, nor the version of the only table in the query"
        )
    return (time - _EPOCH) // timedelta(milliseconds=1)


def _shown(time_ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=time_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")

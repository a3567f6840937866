"""A Delta table as its commit files alone make it, and whether checkpoints and readers say the same."""

from __future__ import annotations

import contextlib
import json
import struct
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.ledger import delta
from alumicatalyst.ledger.verify_report import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from alumicatalyst.ledger.delta import Commit
    from alumicatalyst.ledger.entry import Line

_CHECKPOINT_SUFFIX: Final = ".checkpoint.parquet"
LAST_CHECKPOINT: Final = "_last_checkpoint"


class Replay:
    """The state of a table after its commits so far.

    Attributes:
        version: The last commit's version, -1 before the first.
        live: The files of the table by their paths as entries write them, each with its add action; with None where the
            commit file is gone or not the one that was signed, so that only the entry speaks of it.
        whole: Whether every commit so far was read as it was signed: then all of a reader's view can be compared.
        transactions: The last txn action of every application.
        metadata: The last metaData action.
    """

    def __init__(self) -> None:
        self.version = -1
        self.live: dict[str, Mapping[str, Any] | None] = {}
        self.whole = True
        self._removed: dict[str, Mapping[str, Any]] = {}
        self.transactions: dict[str, Mapping[str, Any]] = {}
        self.metadata: Mapping[str, Any] | None = None
        self._protocol: Mapping[str, Any] | None = None

    def apply(self, version: int, commit: Commit) -> None:
        """Take in a commit."""
        self.version = version
        for path, action in commit.removes.items():
            self.live.pop(delta.encoded(path), None)
            self._removed[delta.encoded(path)] = action
        for path, action in commit.adds.items():
            self._removed.pop(delta.encoded(path), None)
            self.live[delta.encoded(path)] = action
        self.transactions |= commit.transactions
        self.metadata = commit.metadata or self.metadata
        self._protocol = commit.protocol or self._protocol

    def apply_entry(self, version: int, lines: list[Line] | None) -> None:
        """Take in a commit of which only the entry is left; None for lines that a tree stands for."""
        from alumicatalyst.ledger.entry import Add, Remove, Rows

        self.version, self.whole = version, False
        for line in lines or []:
            if isinstance(line, Remove):
                self.live.pop(line.path, None)
            elif isinstance(line, Add | Rows):
                self.live[line.path] = None

    # ------------------------------------------------------------------ checkpoints

    def compare_checkpoint(self, data: bytes, file: str) -> tuple[list[Finding], int, int]:
        """Compare a checkpoint of this version, as Parquet readers see it, with the commit files.

        Returns:
            What differs, and how many actions and files it has.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            rows = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False).to_pylist()
        except Exception as error:  # noqa: BLE001 whatever the library says about a damaged file
            return [self._finding(f"it cannot be read: {str(error)[:200]}", file)], 0, 0
        found: dict[tuple[str, str], Any] = {}
        differing: list[str] = []
        adds = 0
        for row in rows:
            for kind, action in row.items():
                plain = _plain(action)
                if plain is None:
                    continue
                key = kind, delta.encoded(str(plain.get("path", ""))) or str(plain.get("appId", ""))
                differing += [f"it has {' '.join(key)} twice"] if key in found else []
                found[key] = _comparable(kind, plain)
                adds += kind == "add"
        wanted = dict(self._actions())
        for key in found.keys() | wanted.keys():
            # Removed files are forgotten after a while, which no reader of the table notices.
            if key not in found and key[0] == "remove":
                continue
            if found.get(key) != wanted.get(key):
                differing.append(f"its {' '.join(key).strip()} is not what the commits say")
        return [self._finding(each, file) for each in sorted(differing)], len(rows), adds

    def _actions(self) -> Iterator[tuple[tuple[str, str], Any]]:
        """Yield every action that a checkpoint of this version has to hold."""
        for path, action in self.live.items():
            yield ("add", path), _comparable("add", _plain(action))
        for path, action in self._removed.items():
            yield ("remove", path), _comparable("remove", _plain(action))
        for app, action in self.transactions.items():
            yield ("txn", app), _plain(action)
        if self.metadata is not None:
            yield ("metaData", ""), _plain(self.metadata)
        if self._protocol is not None:
            yield ("protocol", ""), _plain(self._protocol)

    # ------------------------------------------------------------------ readers

    def compare_reader(self, handle: Any, table: str) -> Iterator[Finding]:
        """Compare what a Delta reader says of this version with the commit files, or with the entries alone."""
        import pyarrow as pa

        actions = pa.table(handle.get_add_actions(flatten=True))
        seen = {delta.encoded(row["path"]): row for row in actions.to_pylist()}
        for path in sorted(seen.keys() | self.live.keys()):
            file = delta.stored_path(table, path)
            if path not in seen:
                yield self._finding("readers do not see it, though it is part of the table", file)
            elif path not in self.live:
                yield self._finding("readers see it, though no commit has it in the table", file)
            else:
                action = self.live[path]
                differing = [] if action is None else sorted(_differing(seen[path], action))
                if differing:
                    yield self._finding(f"readers see another {', '.join(differing)} than its commit says", file)
        if self.whole:
            yield from self._compare_table(handle, table)

    def _compare_table(self, handle: Any, table: str) -> Iterator[Finding]:
        log = f"{table}/{delta.LOG_FOLDER}"
        for app, action in self.transactions.items():
            if handle.transaction_version(app) != action["version"]:
                yield self._finding(f"readers see another version of the transaction {app} than the commits say", log)
        if self.metadata is None or self._protocol is None:
            return
        found, protocol = handle.metadata(), handle.protocol()
        seen = {
            "id": str(found.id),
            "name": found.name,
            "description": found.description,
            "partitionColumns": found.partition_columns,
            "configuration": found.configuration,
            "schemaString": json.loads(handle.schema().to_json()),
        }
        told = {name: self.metadata.get(name) for name in seen}
        told["schemaString"] = json.loads(str(self.metadata.get("schemaString")))
        versions = protocol.min_reader_version, protocol.min_writer_version
        differing = [name for name in seen if (seen[name] or None) != (told[name] or None)]
        if versions != (self._protocol.get("minReaderVersion"), self._protocol.get("minWriterVersion")):
            differing.append("protocol")
        if differing:
            yield self._finding(f"readers see another {', '.join(differing)} of the table than the commits say", log)

    def _finding(self, what: str, file: str) -> Finding:
        return Finding(what, table=file.partition("/")[0], version=self.version, file=file)


def checkpoint_version(name: str) -> int | None:
    """Return the version of a checkpoint by its file's name, None for any other file."""
    digits = name.removesuffix(_CHECKPOINT_SUFFIX)
    right = len(digits) == 20 and digits.isascii() and digits.isdigit() and len(digits) != len(name)
    return int(digits) if right else None


def _plain(value: Any) -> Any:
    """Return an action as JSON and Parquet both say it: without what is null or empty."""
    if isinstance(value, list) and all(isinstance(each, tuple) for each in value):
        value = dict(value)
    if isinstance(value, dict):
        plain = {name: _plain(each) for name, each in value.items()}
        return {name: each for name, each in plain.items() if each is not None} or None
    return None if value == [] else value


def _comparable(kind: str, action: Any) -> Any:
    """Return an action without what a checkpoint need not keep, and with its statistics as what they say."""
    if kind not in {"add", "remove"} or action is None:
        return action
    # Whether a commit changed data matters to those who follow commits, not to a checkpoint; writers differ in it.
    kept = {name: each for name, each in action.items() if name != "dataChange"}
    if isinstance(kept.get("stats"), str):
        with contextlib.suppress(ValueError):
            kept["stats"] = json.loads(kept["stats"])
    return kept


def _differing(seen: Mapping[str, Any], action: Mapping[str, Any]) -> Iterator[str]:
    """Yield in what a reader's view of a file differs from its add action."""
    if seen["size_bytes"] != action["size"]:
        yield "size"
    if seen["modification_time"] != action.get("modificationTime"):
        yield "time"
    values = action.get("partitionValues") or {}
    for column, value in seen.items():
        kind, _, name = column.partition(".")
        if kind == "partition" and _text(value) != values.get(name):
            yield "partition value"
    try:
        stats = json.loads(action.get("stats") or "{}")
    except ValueError:
        stats = {}
    if seen["num_records"] != stats.get("numRecords"):
        yield "number of rows"
    for kind, told in (("min", "minValues"), ("max", "maxValues"), ("null_count", "nullCount")):
        known = stats.get(told) or {}
        pairs = ((seen[f"{kind}.{name}"], value) for name, value in known.items() if f"{kind}.{name}" in seen)
        if not all(_same(*pair) for pair in pairs):
            yield f"{kind} statistic"


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else None if value is None else str(value)


def _same(seen: object, told: object) -> bool:
    if isinstance(seen, datetime):
        return isinstance(told, str) and seen == datetime.fromisoformat(told)
    if isinstance(seen, date):
        return seen.isoformat() == told
    if isinstance(seen, float) and isinstance(told, int | float):
        # A column of float32 is told in as few digits as tell it from its neighbours.
        return seen in {told, struct.unpack("f", struct.pack("f", told))[0]}
    # Writers have no common way to tell bytes in JSON, so readers take nothing from them.
    return isinstance(seen, bytes) or seen == told

"""What a Delta log says: the actions of its commits, taken in version by version, and the bytes of a new commit."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alumicatalyst.errors import LakeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

FOLDER = "_delta_log"
LAST_CHECKPOINT = "_last_checkpoint"
CHECKPOINT_SUFFIX = ".checkpoint.parquet"

READER_VERSION_MAX = 1
WRITER_VERSION_MAX = 2

VACUUM_START = "VACUUM START"
"""The operation of the commit after which files that are not in the table may vanish. Whoever had put a file before it
and not committed it yet, puts it again: that, and no clock, is what keeps vacuum from taking a writer's file."""


def commit_path(table: str, version: int) -> str:
    """Return where a commit file is, from the lake's root."""
    return f"{table}/{FOLDER}/{version:020d}.json"


def checkpoint_path(table: str, version: int) -> str:
    """Return where a checkpoint is, from the lake's root."""
    return f"{table}/{FOLDER}/{version:020d}{CHECKPOINT_SUFFIX}"


def version_of(path: str) -> int | None:
    """Return the version of a commit file by its path, None for any other file."""
    name = path.rpartition("/")[2]
    digits = name.removesuffix(".json")
    return int(digits) if len(name) == 25 and len(digits) == 20 and digits.isdigit() else None


def checkpoint_version_of(path: str) -> int | None:
    """Return the version of a classic checkpoint in one file by its path, None for any other file."""
    name = path.rpartition("/")[2]
    digits = name.removesuffix(CHECKPOINT_SUFFIX)
    whole = len(name) == 20 + len(CHECKPOINT_SUFFIX) and len(digits) == 20 and digits.isdigit()
    return int(digits) if whole else None


def encode(actions: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the bytes of a commit: one action a line."""
    return "".join(json.dumps(action, separators=(",", ":"), allow_nan=False) + "\n" for action in actions).encode()


def commit_info(operation: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the action that tells of a commit: when, by what, and what its writer has to say."""
    parameters = {"mode": "Append"} if operation == "WRITE" else {}
    told = {"timestamp": now_ms(), "operation": operation, "operationParameters": parameters}
    return {"commitInfo": {**told, "engineInfo": "alumicatalyst", **metadata}}


def transaction(app: str, version: int) -> dict[str, Any]:
    """Return the action that sets an application's version."""
    return {"txn": {"appId": app, "version": version, "lastUpdated": now_ms()}}


def removal(add: Mapping[str, Any], *, data_change: bool) -> dict[str, Any]:
    """Return the action that takes a file out of the table; the file itself stays until vacuum."""
    return {
        "remove": {
            "path": add["path"],
            "deletionTimestamp": now_ms(),
            "dataChange": data_change,
            "extendedFileMetadata": True,
            "partitionValues": add["partitionValues"],
            "size": add["size"],
        }
    }


def now_ms() -> int:
    """Return the wall clock's time, which commits tell and nothing decides by."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class LogState:
    """A table as its commits up to one version make it.

    Attributes:
        version: That version, -1 before the first.
        files: The add action of every file of the table, by its path.
        removed: The remove action of every file that has left it since the checkpoint that the state began with.
        removed_before: Those that the checkpoint told of, as its column: they may be many, and hardly anyone asks.
        transactions: The txn action of every application.
        metadata: The metaData action.
        protocol: The protocol action.
        vacuumed: The version of the last VACUUM START; that of the checkpoint if the state began with one.
    """

    version: int = -1
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    removed: dict[str, dict[str, Any]] = field(default_factory=dict)
    removed_before: pa.ChunkedArray | None = None
    transactions: dict[str, dict[str, Any]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    vacuumed: int = -1

    def take(self, kind: str, action: dict[str, Any]) -> None:
        """Take in one action; kinds that say nothing of files, transactions or the table are passed over."""
        if kind == "add":
            self.removed.pop(action["path"], None)
            self.files[action["path"]] = action
        elif kind == "remove":
            self.files.pop(action["path"], None)
            self.removed[action["path"]] = action
        elif kind == "txn":
            self.transactions[action["appId"]] = {**action, "version": int(action["version"])}
        elif kind == "metaData":
            self.metadata = action
        elif kind == "protocol":
            self.protocol = action

    def apply(self, version: int, data: bytes, table: str) -> None:
        """Take in the commit of the next version.

        Raises:
            LakeError: It cannot be read, or makes the table one that this software must not write.
        """
        try:
            # Only a line feed ends an action. A blank line is none.
            for line in data.split(b"\n"):
                if line.strip():
                    for kind, action in json.loads(line).items():
                        self.take(kind, action)
                        if kind == "commitInfo" and action.get("operation") == VACUUM_START:
                            self.vacuumed = version
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LakeError(
                f"couldn't read the commit {commit_path(table, version)}: {error}; restore the file, or the "
                f"table as of version {version - 1}"
            ) from error
        self.version = version
        self.check(table)

    def check(self, table: str) -> None:
        """Raise LakeError for a table whose log says more than this software understands."""
        reader = self.protocol.get("minReaderVersion", READER_VERSION_MAX)
        writer = self.protocol.get("minWriterVersion", WRITER_VERSION_MAX)
        if reader > READER_VERSION_MAX or writer > WRITER_VERSION_MAX:
            raise LakeError(
                f"couldn't use the table {table}: it was upgraded to Delta reader {reader} / writer {writer}; this "
                f"version writes {READER_VERSION_MAX} / {WRITER_VERSION_MAX}, restore the table or use another one"
            )

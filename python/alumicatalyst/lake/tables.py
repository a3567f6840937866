"""What the lake's tables are and how they are made; their columns come from the core's schema and from nowhere else."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

CHECKPOINT_INTERVAL = 15
"""Commits between Delta checkpoints: a table is opened by reading one checkpoint and at most this many commits."""


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table of the lake.

    Attributes:
        name: Folder and name.
        day_column: The time whose UTC date is the Delta partition `date`; None: the table has no partitions.
        append_only: Whether Delta itself refuses deletions. Tables whose rows expire some day are not.
    """

    name: str
    day_column: str | None
    append_only: bool

    @property
    def partition_by(self) -> list[str]:
        """Delta partition columns."""
        return ["date"] if self.day_column else []


ROW_TABLES = ("readings", "windows", "alarms", "rejected")
"""Tables of rows with a cause, in the order in which a flush commits them; `batches` seals them afterwards."""

SPECS = {name: TableSpec(name, "enqueued_time", append_only=False) for name in ROW_TABLES} | {
    "batches": TableSpec("batches", "enqueued_time_max", append_only=False),
    # The journal is part of every replay and never expires.
    "journal": TableSpec("journal", None, append_only=True),
}

CLAIM_ORDER = tuple(SPECS)
"""Claims are made table by table in this order. The first table decides a race: claims on it only ever rise, so
whoever holds the highest there meets no equal or higher one on the others."""


def schema(name: str) -> pa.Schema:
    """Return the Arrow schema of a table in the lake."""
    from alumicatalyst import _core

    return _core.stored_schema(name)


def columns(name: str) -> pa.Schema:
    """Return the columns that rows come with; the lake adds `date`, which stands in files' paths, and the locators."""
    from alumicatalyst import _core

    return _core.schema(name)


@cache
def leaf_schema_sha256(name: str) -> str:
    """Return the hex digest of what the leaves of a table hold, which every commit with digests of rows names."""
    from alumicatalyst import _core

    return hashlib.sha256(_core.leaf_schema(name).encode()).hexdigest()


def first_commit(spec: TableSpec) -> bytes:
    """Return version 0 of a table, which makes it."""
    from deltalake import Schema

    from alumicatalyst.lake import log

    configuration = {
        "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
        # The ledger reads the log's tail: nothing may trim it behind the ledger's back.
        "delta.enableExpiredLogCleanup": "false",
        "delta.appendOnly": "true" if spec.append_only else "false",
    }
    metadata = {
        "id": str(uuid.uuid4()),
        "name": spec.name,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": Schema.from_arrow(schema(spec.name)).to_json(),
        "partitionColumns": spec.partition_by,
        "configuration": configuration,
        "createdTime": log.now_ms(),
    }
    protocol = {"minReaderVersion": log.READER_VERSION_MAX, "minWriterVersion": log.WRITER_VERSION_MAX}
    return log.encode([log.commit_info("CREATE TABLE", {}), {"protocol": protocol}, {"metaData": metadata}])


def check_schema(spec: TableSpec, metadata: Mapping[str, Any], root: str) -> None:
    """Raise LakeError unless a table has the columns that this version writes."""
    from alumicatalyst.lake import schemas

    schemas.check(spec.name, metadata, root)

"""What the lake's tables are and how they are made; their columns come from the core's schema and from nowhere else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from alumicatalyst.errors import LakeError

if TYPE_CHECKING:
    import pyarrow as pa

    from alumicatalyst.lake.store import Store

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


def create_tables(store: Store) -> None:
    """Create the tables that are missing; several processes may do so at once.

    Raises:
        LakeError: A table can be neither opened nor created, or has columns of another version of this software.
    """
    for spec in SPECS.values():
        _create(store, spec)


def check_tables(store: Store) -> None:
    """Raise LakeError unless every table is there, for readers that create nothing."""
    from deltalake import DeltaTable

    for spec in SPECS.values():
        uri = f"{store.root}/{spec.name}"
        try:
            found = DeltaTable.is_deltatable(uri, storage_options=store.options())
        except Exception as error:
            raise LakeError(f"couldn't open the lake: {uri}: {error}; check lake.uri and lake.credential") from error
        if not found:
            raise LakeError(
                f"couldn't open the lake: {uri} is no Delta table; set lake.uri to where a flow has written"
            )


def _create(store: Store, spec: TableSpec) -> None:
    from deltalake import CommitProperties, DeltaTable, Schema

    uri = f"{store.root}/{spec.name}"
    wanted = Schema.from_arrow(schema(spec.name))
    configuration = {
        "delta.checkpointInterval": str(CHECKPOINT_INTERVAL),
        # The ledger reads the log's tail: nothing may trim it behind the ledger's back.
        "delta.enableExpiredLogCleanup": "false",
        "delta.appendOnly": "true" if spec.append_only else "false",
    }
    try:
        if not DeltaTable.is_deltatable(uri, storage_options=store.options()):
            try:
                DeltaTable.create(
                    uri,
                    wanted,
                    mode="ignore",
                    partition_by=spec.partition_by,
                    configuration=configuration,
                    # With retries the loser of a race would add its own metadata, a new table id, as version 1.
                    commit_properties=CommitProperties(max_commit_retries=0),
                    storage_options=store.options(),
                )
            except Exception:
                # Another process won the race for version 0, or the store failed: only the former leaves a table.
                if not DeltaTable.is_deltatable(uri, storage_options=store.options()):
                    raise
        table = DeltaTable(uri, storage_options=store.options())
        found, protocol = table.schema(), table.protocol()
    except Exception as error:
        raise LakeError(
            f"couldn't open or create the table {spec.name}: {uri}: {error}; check lake.uri and lake.credential"
        ) from error
    names, expected = [field.name for field in found.fields], [field.name for field in wanted.fields]
    if names != expected or [str(f.type) for f in found.fields] != [str(f.type) for f in wanted.fields]:
        raise LakeError(
            f"couldn't use the table {spec.name}: {uri} has the columns {names}, this version writes {expected}; use "
            "the version that wrote it, or another lake.uri"
        )
    if protocol.min_reader_version > 1 or protocol.min_writer_version > 2:
        raise LakeError(
            f"couldn't use the table {spec.name}: {uri} was upgraded to Delta reader {protocol.min_reader_version} / "
            f"writer {protocol.min_writer_version}; this version writes 1 / 2, restore the table or use another one"
        )

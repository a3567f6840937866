"""A lake that went through everything: made by an older version, migrated, taken over again and again, compacted."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alumicatalyst import _core
from alumicatalyst.lake import Lake, tables
from alumicatalyst.lake.commit import Plan, Put, Retry, append, put_files
from alumicatalyst.lake.encode import EncodedFile, encode
from alumicatalyst.lake.migrate import migrate
from alumicatalyst.lake.store import Store, open_store
from alumicatalyst.lake.table import Table
from alumicatalyst.maintenance import expire
from alumicatalyst.maintenance.compact import compact
from alumicatalyst.maintenance.lease import Lease
from tests.lake import plant

if TYPE_CHECKING:
    from pathlib import Path

PARTITIONS = (plant.PARTITION, "telemetry/1/1")
UNTIL = 63
ADDED = "score"
"""The column of readings that the older version did not have."""
OLD_PARTITION = "telemetry/0/0"


def live(root: Path, *, expired: bool = False) -> Lake:
    """Make it. Tables have a checkpoint and commits after it, two dates, and files from before and after compaction."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_core, "state_info", plant.state_info)
        store = open_store(f"file:{root}")
        _older(store)
        assert [each.table for each in migrate(store)] == ["readings"]
        lake = Lake.open(f"file:{root}")
        for until in range(7, UNTIL + 1, 7):
            # Each is a process of its own, that takes the partition from the one before.
            for partition in PARTITIONS:
                plant.run(lake, until, flush_every=4, partition=partition)
            if until == 42:
                with Lease(lake, expires_s=0) as lease:
                    compact(lake, lease, tables.SPECS, files_min=2)
                    if expired:
                        expire.expire(lake, days={"rejected": 1}, lease=lease, today=date(2026, 11, 23))
        return lake


def rows_of(name: str) -> list[dict[str, Any]]:
    """Return the rows that a table with a cause has to hold, as an undisturbed run makes them."""
    old = old_readings() if name == "readings" else []
    return old + [row for partition in PARTITIONS for row in plant.undisturbed(UNTIL, partition)[name]]


def old_readings() -> list[dict[str, Any]]:
    """Return readings that were stored before there were scores."""
    readings = plant.undisturbed(5)["readings"]
    return [row | {"partition": OLD_PARTITION, ADDED: None} for row in readings]


def without(encoded: EncodedFile, column: str) -> tuple[bytes, str]:
    """Return a data file, and its statistics, as they were before there was a column."""
    sink = pa.BufferOutputStream()
    # Column by column: a reader of datasets that is still at work when Python ends can abort it.
    pq.write_table(
        pq.ParquetFile(pa.BufferReader(encoded.data)).read().drop_columns([column]), sink, store_schema=False
    )
    statistics = json.loads(encoded.statistics)
    for each in ("minValues", "maxValues", "nullCount"):
        statistics[each].pop(column, None)
    return sink.getvalue().to_pybytes(), json.dumps(statistics)


def put_without(store: Store, table: Table, batch: pa.RecordBatch, column: str) -> Put:
    """Put rows as files without a column."""
    put = put_files(store, table.name, encode(table.name, [batch]), table.refresh().version)
    for each, action in zip(encode(table.name, [batch]), put.actions, strict=True):
        data, statistics = without(each, column)
        store.put(f"{table.name}/{action['add']['path']}", data)
        action["add"] |= {"size": len(data), "stats": statistics}
    return put


def _older(store: Store) -> None:
    for spec in tables.SPECS.values():
        table = Table(store, spec)
        actions = [json.loads(line) for line in tables.first_commit(spec).splitlines()]
        if spec.name == "readings":
            schema = json.loads(actions[2]["metaData"]["schemaString"])
            schema["fields"] = [each for each in schema["fields"] if each["name"] != ADDED]
            actions[2]["metaData"]["schemaString"] = json.dumps(schema)
        table.create("".join(json.dumps(each) + "\n" for each in actions).encode())
    table = Table(store, tables.SPECS["readings"])
    batch = pa.RecordBatch.from_pylist(old_readings(), schema=plant.table_schema("readings"))
    append(table, {}, lambda _: Plan({OLD_PARTITION: 5}, put_without(store, table, batch, ADDED)), Retry())


def micros(value: timedelta) -> int:
    """Return a duration in microseconds."""
    return value // timedelta(microseconds=1)

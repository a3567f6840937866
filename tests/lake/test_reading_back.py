"""Engines that know nothing of this package read the tables: polars, DuckDB and deltalake's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

from tests.lake import plant

if TYPE_CHECKING:
    from alumicatalyst.lake import Lake


@pytest.mark.parametrize("name", plant.TABLES)
def test_polars_duckdb_and_deltalake_read_the_same_rows(lake: Lake, name: str) -> None:
    plant.run(lake, 60)
    table = DeltaTable(f"{lake.store.root}/{name}")
    expected = plant.undisturbed(60)[name]
    columns = ", ".join(f'"{column}"' for column in plant.table_schema(name).names)
    by_polars = pl.scan_delta(table).drop("date", "_batch", "_row").collect().to_dicts()
    files = ", ".join(f"'{uri}'" for uri in table.file_uris())
    relation = duckdb.sql(f"SELECT {columns} FROM read_parquet([{files}])")
    assert relation is not None
    by_duckdb = relation.to_arrow_table().to_pylist()
    reader = QueryBuilder().register("t", table).execute(f"SELECT {columns} FROM t")
    by_deltalake = pa.RecordBatchReader.from_stream(reader).read_all().to_pylist()
    assert plant.sort(by_polars) == expected
    assert plant.sort(by_duckdb) == expected
    assert plant.sort(by_deltalake) == expected


def test_the_tables_stay_within_what_old_readers_know(lake: Lake) -> None:
    plant.run(lake, 60)
    for name in (*plant.TABLES, "batches", "journal"):
        table = DeltaTable(f"{lake.store.root}/{name}")
        protocol = table.protocol()
        assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)
        assert table.metadata().partition_columns == ([] if name == "journal" else ["date"])
        assert table.metadata().configuration["delta.enableExpiredLogCleanup"] == "false"
        assert table.metadata().configuration["delta.appendOnly"] == ("true" if name == "journal" else "false")
        assert {str(field.type) for field in table.schema().fields} <= {
            f'PrimitiveType("{kind}")'
            for kind in (
                "string", "long", "integer", "short", "double", "float", "date", "timestamp", "binary", "boolean",
            )
        }  # fmt: skip


def test_readers_prune_by_the_statistics_of_the_log(lake: Lake) -> None:
    plant.run(lake, 60)
    actions = pa.table(DeltaTable(f"{lake.store.root}/readings").get_add_actions(flatten=True))
    spans = zip(actions["min.sequence_number"].to_pylist(), actions["max.sequence_number"].to_pylist(), strict=True)
    assert sorted(spans)[:3] == [(1, 9), (10, 19), (21, 29)]
    assert None not in actions["min.event_time"].to_pylist()
    late = pl.scan_delta(f"{lake.store.root}/readings").filter(pl.col("sequence_number") > 55).collect()
    assert late["sequence_number"].min() == 57

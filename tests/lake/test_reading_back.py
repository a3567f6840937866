"""Engines that know nothing of this package read the tables, row for row: Spark, polars, DuckDB, DataFusion, pandas."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import duckdb
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

from alumicatalyst.lake import Lake, tables
from alumicatalyst.lake.query import select
from tests.lake import lived, plant
from tests.parts.spark.session import spark

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.parts.spark.session import Read

__all__ = ["spark"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return lived.live(tmp_path_factory.mktemp("lived") / "lake")


def by_polars(lake: Lake, name: str) -> pa.Table:
    return pl.scan_delta(f"{lake.store.root}/{name}").collect().to_arrow()


def by_duckdb(lake: Lake, name: str) -> pa.Table:
    files = [unquote(uri.removeprefix("file://")) for uri in DeltaTable(f"{lake.store.root}/{name}").file_uris()]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        hive = ", hive_types = {'date': DATE}" if tables.SPECS[name].partition_by else ""
        query = f"FROM read_parquet($files, union_by_name = true{hive})"
        return connection.sql(query, params={"files": files}).to_arrow_table()


def by_datafusion(lake: Lake, name: str) -> pa.Table:
    reader = QueryBuilder().register("t", DeltaTable(f"{lake.store.root}/{name}")).execute("SELECT * FROM t")
    return pa.RecordBatchReader.from_stream(reader).read_all()


def by_pandas(lake: Lake, name: str) -> pa.Table:
    frames = []
    for uri in DeltaTable(f"{lake.store.root}/{name}").file_uris():
        path = unquote(uri.removeprefix("file://"))
        frame = pd.read_parquet(path, dtype_backend="pyarrow", partitioning=None, use_threads=False)
        if tables.SPECS[name].partition_by:
            day = date.fromisoformat(path.rsplit("/", 2)[1].removeprefix("date="))
            frame["date"] = pd.Series([day] * len(frame), dtype=pd.ArrowDtype(pa.date32()))
        frames.append(frame)
    return pa.Table.from_pandas(pd.concat(frames, ignore_index=True), preserve_index=False)


def by_ourselves(lake: Lake, name: str) -> pa.Table:
    return pa.Table.from_batches(select(lake, f"SELECT * FROM {name}"))


READERS: dict[str, Callable[[Lake, str], pa.Table]] = {
    "polars": by_polars,
    "duckdb": by_duckdb,
    "datafusion": by_datafusion,
    "pandas": by_pandas,
    "lake query": by_ourselves,
}


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return lived.micros(value.replace(tzinfo=value.tzinfo or UTC) - EPOCH)
    if isinstance(value, date):
        return value.isoformat()
    return value.hex().upper() if isinstance(value, bytes) else value


def rows(name: str, table: pa.Table) -> list[list[Any]]:
    """Return rows with the columns of the schema, in one order and in values that every engine can give."""
    assert set(table.column_names) == set(tables.schema(name).names)
    columns = [table.column(each).to_pylist() for each in tables.schema(name).names]
    return in_order([[plain(value) for value in row] for row in zip(*columns, strict=True)])


def in_order(rows: list[list[Any]]) -> list[list[Any]]:
    # The last two, the batch and the row in it, tell every row from every other.
    return sorted(rows, key=lambda row: (row[-2], row[-1]))


@pytest.mark.parametrize("name", plant.TABLES)
def test_i5_the_rows_are_those_of_an_undisturbed_run(lake: Lake, name: str) -> None:
    found = by_polars(lake, name).select(plant.table_schema(name).names).to_pylist()
    assert plant.sort(found) == plant.sort(lived.rows_of(name))


@pytest.mark.parametrize("name", tables.SPECS)
@pytest.mark.parametrize("engine", READERS)
def test_engines_read_the_same_rows(lake: Lake, engine: str, name: str) -> None:
    assert rows(name, READERS[engine](lake, name)) == rows(name, by_polars(lake, name))


SPARK_TYPES = {
    "date32[day]": "date",
    "dictionary<values=string, indices=int32, ordered=0>": "string",
    "string": "string",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "double": "double",
    "float": "float",
    "bool": "boolean",
    "binary": "binary",
    "timestamp[us, tz=UTC]": "timestamp",
}

QUERIES = {
    # Files are passed over by their partition and by the statistics of the log.
    "pruned": "SELECT outcome, count(*), sum(value) FROM readings WHERE date = DATE '2026-11-22' "
    "AND sequence_number > 40 GROUP BY outcome ORDER BY outcome",
    "sealed": "SELECT partition, max(last_sequence), sum(rows_windowed), sum(rows_rejected) FROM batches "
    "GROUP BY partition ORDER BY partition",
}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_apache_spark_reads_the_same_rows(lake: Lake, spark: Read) -> None:
    answers = spark({name: f"{lake.store.root}/{name}" for name in tables.SPECS}, QUERIES)
    for name in tables.SPECS:
        found = answers["tables"][name]
        assert found["types"] == {field.name: SPARK_TYPES[str(field.type)] for field in tables.schema(name)}
        assert in_order(found["rows"]) == rows(name, by_polars(lake, name)), name
    for name, query in QUERIES.items():
        ours = [list(row.values()) for batch in select(lake, query) for row in batch.to_pylist()]
        assert answers["queries"][name] == ours, name


def test_readers_prune_by_the_statistics_of_the_log(lake: Lake) -> None:
    actions = pa.table(DeltaTable(f"{lake.store.root}/readings").get_add_actions(flatten=True))
    assert None not in actions["min.sequence_number"].to_pylist()
    assert None not in actions["min.event_time"].to_pylist()
    late = pl.scan_delta(f"{lake.store.root}/readings").filter(pl.col("sequence_number") > 55).collect()
    expected = [row for row in lived.rows_of("readings") if row["sequence_number"] > 55]
    assert sorted(late["sequence_number"]) == sorted(row["sequence_number"] for row in expected)

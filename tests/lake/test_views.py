"""The T-SQL for Synapse and Fabric: its columns and types are the schema's, and what its views say is right.

Neither engine can be had here. The statements are turned into DuckDB's SQL word by word, and run on a lake.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest

from alumicatalyst.cli.lake_views import views
from alumicatalyst.lake import Lake, tables
from alumicatalyst.lake.query import select
from alumicatalyst.lake.views import Dialect, scripts
from tests.lake import plant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIALECTS: tuple[Dialect, ...] = ("synapse", "fabric")
SCHEMA = {"synapse": "dbo", "fabric": "telemetry"}
URI = "abfss://telemetry@plant.dfs.core.windows.net/north/o'hara"
PARTITIONS = (plant.PARTITION, "telemetry/1/1")
TYPES = {
    "date": "DATE",
    "smallint": "SMALLINT",
    "int": "INTEGER",
    "bigint": "BIGINT",
    "real": "FLOAT",
    "float": "DOUBLE",
    "bit": "BOOLEAN",
    "datetime2(6)": "TIMESTAMP WITH TIME ZONE",
}
OPENROWSET = re.compile(
    r"OPENROWSET\(BULK '(\w+)', DATA_SOURCE = 'lake', FORMAT = 'DELTA'\)\nWITH \(\n(.*?)\n\) AS \[rows\]", re.DOTALL
)
COLUMN = re.compile(
    r"    \[(\w+)\] ([a-z0-9]+(?:\(\w+\))?)( COLLATE Latin1_General_100_BIN2_UTF8)?(,?)(?: -- [^\n]+)?$"
)


def batches(text: str) -> list[str]:
    """Split a script where its readers do, and drop comments."""
    plain = re.sub(r"(?m)(^| )-- .*$", "", text)
    return [each.strip() for each in re.split(r"(?m)^GO$", plain) if each.strip()]


def duckdb_type(kind: str) -> str:
    base, _, size = kind.partition("(")
    if base in {"varchar", "varbinary"}:
        assert size == "max)" or 1 <= int(size[:-1]) <= 8000
        return "VARCHAR" if base == "varchar" else "BLOB"
    return TYPES[kind]


def as_duckdb(statement: str) -> str:
    def source(match: re.Match[str]) -> str:
        columns = []
        for line in match[2].splitlines():
            column = COLUMN.match(line.rstrip())
            assert column, line
            assert bool(column[3]) == column[2].startswith("varchar")
            columns.append(f'CAST("{column[1]}" AS {duckdb_type(column[2])}) AS "{column[1]}"')
        return f'(SELECT {", ".join(columns)} FROM "lake"."dbo"."{match[1]}") AS [rows]'

    text = OPENROWSET.sub(source, statement)
    text = re.sub(r"AS ([a-z0-9]+(?:\(\w+\))?)\) AS \[", lambda each: f"AS {duckdb_type(each[1])}) AS [", text)
    text = re.sub(r"\[([^\]]+)\]", r'"\1"', text)
    return text.replace("CREATE OR ALTER VIEW", "CREATE OR REPLACE VIEW").replace("COUNT_BIG(", "COUNT(")


@pytest.fixture
def connection(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    for partition in PARTITIONS:
        plant.run(lake, 60, partition=partition)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; ATTACH ':memory:' AS lake; CREATE SCHEMA lake.dbo")
        connection.execute("CREATE SCHEMA IF NOT EXISTS dbo; CREATE SCHEMA telemetry")
        for name in tables.SPECS:
            found = pa.Table.from_batches(select(lake, f"SELECT * FROM {name}"))
            connection.register("found", found)
            connection.execute(f"CREATE TABLE lake.dbo.{name} AS FROM found")
        yield connection


def make(connection: duckdb.DuckDBPyConnection, dialect: Dialect) -> str:
    made = scripts(dialect, URI)
    for name in ("2-tables.sql", "3-views.sql"):
        for statement in batches(made[name]):
            connection.execute(as_duckdb(statement))
    return SCHEMA[dialect]


def rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = connection.sql(query).to_arrow_table().to_pylist()
    return found


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tables_have_the_columns_and_types_of_the_schema(
    connection: duckdb.DuckDBPyConnection, dialect: Dialect
) -> None:
    schema = make(connection, dialect)
    for name in tables.SPECS:
        connection.register("wanted", tables.schema(name).empty_table())
        wanted = connection.sql("SELECT column_name, column_type FROM (DESCRIBE wanted)").fetchall()
        found = connection.sql(f"SELECT column_name, column_type FROM (DESCRIBE {schema}.{name})").fetchall()
        assert found == wanted
        order = "ORDER BY _batch, _row"
        whole = rows(connection, f"FROM lake.dbo.{name} {order}")
        assert rows(connection, f"FROM {schema}.{name} {order}") == whole
        assert whole


@pytest.mark.parametrize("dialect", DIALECTS)
def test_i1_the_accounting_view_is_zero_until_a_row_is_missing(
    connection: duckdb.DuckDBPyConnection, dialect: Dialect
) -> None:
    schema = make(connection, dialect)
    expected = plant.undisturbed(60)
    total = len(expected["readings"]) + len(expected["rejected"])
    zero = {f"{each}_difference": 0 for each in ("windowed", "late", "duplicate", "rejected")} | {"balance": 0}
    whole = [{"partition": each, "rows_total": total} | zero for each in PARTITIONS]
    query = f"FROM {schema}.accounting ORDER BY partition"
    assert rows(connection, query) == whole
    connection.execute("DELETE FROM lake.dbo.readings WHERE partition = ? AND sequence_number = 1", [PARTITIONS[1]])
    connection.execute("DELETE FROM lake.dbo.rejected WHERE partition = ?", [PARTITIONS[0]])
    assert rows(connection, query) == [
        whole[0] | {"rejected_difference": len(expected["rejected"])},
        whole[1] | {"windowed_difference": 1},
    ]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_sealed_rows_stop_at_the_marks(connection: duckdb.DuckDBPyConnection, dialect: Dialect) -> None:
    schema = make(connection, dialect)
    connection.execute("DELETE FROM lake.dbo.batches WHERE last_sequence > 30 AND partition = ?", [PARTITIONS[0]])
    marks = {row["partition"]: row["last_sequence"] for row in rows(connection, f"FROM {schema}.marks")}
    assert marks == {PARTITIONS[0]: 29, PARTITIONS[1]: 60}
    for name in ("readings", "windows"):
        expected = {
            each: sum(row["sequence_number"] <= marks[each] for row in plant.undisturbed(60)[name])
            for each in PARTITIONS
        }
        found = f"SELECT partition, count(*) AS n FROM {schema}.{name}_sealed GROUP BY partition"
        assert {row["partition"]: row["n"] for row in rows(connection, found)} == expected


@pytest.mark.parametrize("dialect", DIALECTS)
def test_active_alarms_are_those_whose_last_step_did_not_clear_them(
    connection: duckdb.DuckDBPyConnection, dialect: Dialect
) -> None:
    schema = make(connection, dialect)
    first, second, *others = [row["alarm_id"] for row in plant.undisturbed(60)["alarms"]]
    for alarm_id, step, transition in ((first, 1, "updated"), (first, 2, "cleared"), (second, 1, "updated")):
        connection.execute(
            "INSERT INTO lake.dbo.alarms SELECT * REPLACE (? AS step, ? AS transition) FROM lake.dbo.alarms "
            "WHERE alarm_id = ? AND step = 0",
            [step, transition, alarm_id],
        )
    found = rows(connection, f"FROM {schema}.alarms_active WHERE partition = '{plant.PARTITION}'")
    assert sorted((row["alarm_id"], row["step"]) for row in found) == sorted(
        [(second, 1), *((each, 0) for each in others)]
    )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_batch_is_one_statement_and_the_address_stands_in_the_setup(dialect: Dialect) -> None:
    made = scripts(dialect, URI)
    for name, text in made.items():
        assert all(each.count(";") == 1 and each.endswith(";") for each in batches(text)), name
    assert "plant.dfs.core.windows.net" in made["1-setup.sql"]
    if dialect == "synapse":
        assert "'https://plant.dfs.core.windows.net/telemetry/north/o''hara'" in made["1-setup.sql"]


def test_scripts_are_written_for_a_lake_that_need_not_be_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    views("synapse", uri=f"file:{tmp_path / 'none'}", output=tmp_path / "sql")
    assert sorted(each.name for each in (tmp_path / "sql").iterdir()) == ["1-setup.sql", "2-tables.sql", "3-views.sql"]
    setup = (tmp_path / "sql" / "1-setup.sql").read_text()
    assert "https://<account>.dfs.core.windows.net/<container>/<path>" in setup
    capsys.readouterr()
    views("fabric", uri=URI)
    assert "CREATE OR ALTER VIEW [telemetry].[accounting]" in capsys.readouterr().out

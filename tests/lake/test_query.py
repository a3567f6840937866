"""`lake query`: every format holds the same rows, a file is whole or not there, and old files read as null."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alumicatalyst.cli import lake_export
from alumicatalyst.cli.lake_query import query
from alumicatalyst.errors import InputError
from alumicatalyst.lake import Lake, tables
from alumicatalyst.lake.commit import Plan, Retry, append
from alumicatalyst.lake.query import look, select
from tests.lake import lived, plant

if TYPE_CHECKING:
    from pathlib import Path

SQL = "SELECT * FROM readings ORDER BY sequence_number, item"
FAILS_LATE = "SELECT CASE WHEN n > 400_000 THEN error('on the way') ELSE n END AS n FROM range(500_000) AS each(n)"


def rows(lake: Lake, sql: str) -> list[dict[str, Any]]:
    return [row for batch in select(lake, sql) for row in batch.to_pylist()]


def parquet(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
    return found


def arrow(path: Path) -> list[dict[str, Any]]:
    with pa.ipc.open_stream(path) as stream:
        found: list[dict[str, Any]] = stream.read_all().to_pylist()
        return found


@pytest.mark.parametrize(("name", "read"), [("a.parquet", parquet), ("a.arrow", arrow)])
def test_parquet_and_arrow_hold_the_rows_with_their_types(lake: Lake, tmp_path: Path, name: str, read: Any) -> None:
    plant.run(lake, 30)
    query(SQL, uri=lake.store.root, output=str(tmp_path / name))
    found = read(tmp_path / name)
    assert found == rows(lake, SQL)
    assert len(found) == len(plant.undisturbed(30)["readings"])
    assert [each.name for each in tmp_path.iterdir() if each.name != "lake"] == [name]


def test_csv_and_json_hold_the_rows_as_text(lake: Lake, tmp_path: Path) -> None:
    plant.run(lake, 30)
    sql = (
        "SELECT sequence_number AS n, value, event_time AS t, score, outcome || ' \"æ\",\n' AS text, sum(item) OVER () "
        "AS items, 'nan'::double AS none FROM readings ORDER BY sequence_number, item"
    )
    query(sql, uri=lake.store.root, output=str(tmp_path / "a.csv"))
    query(sql, uri=lake.store.root, output=str(tmp_path / "a.ndjson"))
    expected = rows(lake, sql)
    with (tmp_path / "a.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "a.ndjson").read_text().splitlines()]
    assert len(found) == len(lines) == len(expected)
    for in_csv, in_json, row in zip(found, lines, expected, strict=True):
        time = row["t"].isoformat().replace("+00:00", "Z")
        assert in_csv | {"none": ""} == {
            "n": str(row["n"]),
            "value": str(row["value"]),
            "t": time,
            "score": "",
            "text": row["text"],
            "items": str(row["items"]),
            "none": "",
        }
        # Sums of whole numbers are numbers, and what JSON has no word for is null.
        plain = {"n": row["n"], "value": row["value"], "t": time, "score": None, "text": row["text"]}
        assert in_json == plain | {"items": int(row["items"]), "none": None}


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.parquet", "a.arrow"])
def test_a_file_without_rows_has_its_columns(lake: Lake, tmp_path: Path, name: str) -> None:
    query("SELECT device, value FROM readings", uri=lake.store.root, output=str(tmp_path / name))
    data = (tmp_path / name).read_bytes()
    if name == "a.csv":
        assert data == b"device,value\n"
    elif name == "a.json":
        assert data == b""
    else:
        schema = pq.read_schema(tmp_path / name) if name == "a.parquet" else pa.ipc.open_stream(data).schema
        assert schema.names == ["device", "value"]


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.parquet", "a.arrow"])
def test_a_query_that_fails_on_the_way_leaves_the_former_file(lake: Lake, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    target.write_text("former")
    with pytest.raises(InputError, match=r"couldn't run the query: .*on the way"):
        query(FAILS_LATE, uri=lake.store.root, output=str(target))
    assert target.read_text() == "former"
    assert {each.name for each in tmp_path.iterdir()} == {name, "lake"}


def test_a_parquet_file_is_written_in_bounded_pieces(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_export, "ROW_GROUP_ROWS_MAX", 100_000)
    query("SELECT n FROM range(500_000) AS each(n)", uri=lake.store.root, output=str(tmp_path / "a.parquet"))
    found = pq.read_metadata(tmp_path / "a.parquet")
    assert found.num_rows == 500_000
    assert found.num_row_groups > 3
    assert max(found.row_group(each).num_rows for each in range(found.num_row_groups)) <= 2 * 100_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "rows.txt"}, "couldn't tell the format from the file's name: rows.txt"),
        ({"as_csv": True, "as_parquet": True}, "couldn't choose a format: --csv, --parquet"),
        ({"output": "no/such/folder/a.csv"}, "couldn't write no/such/folder/a.csv: No such file"),
    ],
)
def test_an_output_that_cannot_be_is_refused(lake: Lake, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        query("SELECT 1 AS one", uri=lake.store.root, **options)


def test_a_type_that_parquet_has_not_is_refused(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"couldn't write .*a\.parquet: .*; cast the column"):
        query("SELECT INTERVAL 1 DAY AS day", uri=lake.store.root, output=str(tmp_path / "a.parquet"))
    assert not (tmp_path / "a.parquet").exists()


def test_a_reader_that_has_enough_ends_the_query(lake: Lake) -> None:
    command = [sys.executable, "-m", "alumicatalyst.cli.main", "lake", "query", "--lake", lake.store.root]
    for form in ("--csv", "--arrow"):
        process = subprocess.Popen(
            [*command, form, "SELECT n FROM range(3_000_000) AS each(n)"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait()) == (b"", 0)
        process.stderr.close()


def test_files_from_before_a_column_was_added_read_as_null(lake: Lake) -> None:
    plant.run(lake, 20)
    expected = rows(lake, SQL)
    table = lake.table("readings")
    batch = pa.RecordBatch.from_pylist(lived.old_readings(), schema=plant.table_schema("readings"))
    append(table, {}, lambda _: Plan({}, lived.put_without(lake.store, table, batch, lived.ADDED)), Retry())
    found = look(lake, ["readings"])["readings"]
    assert len(found.partial) == 1
    both = rows(lake, SQL)
    assert list(both[0]) == tables.schema("readings").names
    assert [row for row in both if row["partition"] != lived.OLD_PARTITION] == expected
    old = [row for row in both if row["partition"] == lived.OLD_PARTITION]
    assert len(old) == len(lived.old_readings())
    assert {row[lived.ADDED] for row in old} == {None}


def test_a_table_none_of_whose_files_has_a_column_has_it_all_the_same(lake: Lake) -> None:
    table = lake.table("readings")
    batch = pa.RecordBatch.from_pylist(lived.old_readings(), schema=plant.table_schema("readings"))
    append(table, {}, lambda _: Plan({}, lived.put_without(lake.store, table, batch, lived.ADDED)), Retry())
    (found,) = rows(lake, "SELECT count(*) AS n, count(score) AS scores, min(date)::text AS day FROM readings")
    assert found == {"n": len(lived.old_readings()), "scores": 0, "day": "2026-11-21"}

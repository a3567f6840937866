"""The doctor finds what is wrong, and nothing else; queries read and never write."""

from __future__ import annotations

import csv
import io
import json
import shutil
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from alumicatalyst.cli.main import main
from alumicatalyst.errors import InputError, LakeError
from alumicatalyst.lake import Lake
from alumicatalyst.lake.doctor import examine
from alumicatalyst.lake.doctor import sql as doctor_sql
from alumicatalyst.lake.query import select
from alumicatalyst.lake.record import dictionary_path
from tests.lake import plant
from tests.lake.faults import Faults, Killed

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.lake.doctor.checks import Check


def wrong(lake: Lake) -> dict[str, int | None]:
    """Return what is wrong by the question's short name; advice, and what was not asked for other damage, is not."""
    return {check.key: check.wrong for check in examine(Lake.open(lake.store.root)).checks if is_wrong(check)}


def is_wrong(check: Check) -> bool:
    return bool(check.wrong) and not check.advice


def append_again(lake: Lake, name: str, rows: pl.DataFrame) -> None:
    """Write rows past every mark, as a program without marks would."""
    write_deltalake(DeltaTable(f"{lake.store.root}/{name}"), rows.to_arrow(), mode="append")


def delta(lake: Lake, name: str) -> DeltaTable:
    return DeltaTable(f"{lake.store.root}/{name}")


def test_a_lake_in_order_and_an_empty_one_are_in_order(lake: Lake) -> None:
    assert examine(lake).ok
    plant.run(lake, 60)
    report = examine(lake)
    assert report.ok, report.checks
    (partition,) = report.partitions
    total = partition["windowed"] + partition["late"] + partition["duplicate"] + partition["rejected"]
    assert (partition["mark"], partition["envelopes"], partition["rows_total"]) == (60, 61, total)
    assert {row["table"]: row["orphans"] for row in report.tables}["readings"] == 0


def test_rows_of_an_interrupted_flush_are_unsealed_and_not_wrong(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.run(lake, 29)
    Faults(monkeypatch, lambda _, step: "killed before" if step == "commit windows" else None)
    with pytest.raises(Killed):
        plant.run(lake, 39, flush_every=20)
    report = examine(lake)
    assert report.ok, report.checks
    assert report.partitions[0]["unsealed"] > 0
    assert {row["table"]: row["orphans"] for row in report.tables}["windows"] == 1


def test_a_row_that_is_stored_twice_is_found(lake: Lake) -> None:
    plant.run(lake, 40)
    append_again(lake, "readings", plant.scan(lake, "readings").head(2))
    append_again(lake, "windows", plant.scan(lake, "windows").head(1))
    append_again(lake, "alarms", plant.scan(lake, "alarms").head(1))
    found = wrong(lake)
    assert found["reading-keys"] == 2
    assert found["window-keys"] == 1
    assert found["alarm-keys"] == 1
    assert (found["accounting"] or 0) >= 3


def test_i1_a_row_that_is_gone_is_found(lake: Lake) -> None:
    plant.run(lake, 40)
    delta(lake, "rejected").delete("sequence_number = 3")
    report = examine(Lake.open(lake.store.root))
    (check,) = [check for check in report.checks if is_wrong(check)]
    assert check.examples == ["telemetry/1/0: batches counts 6 rejected, stored are 5"]


def test_a_seal_that_is_gone_or_double_is_found(lake: Lake) -> None:
    plant.run(lake, 40)
    rows = plant.scan(lake, "batches").sort("first_sequence")
    delta(lake, "batches").delete("first_sequence = 10")
    assert wrong(lake)["continuous"] == 1
    append_again(lake, "batches", rows[1:3])
    assert wrong(lake)["disjoint"] == 1


def test_rows_beyond_the_mark_are_found(lake: Lake) -> None:
    plant.run(lake, 40)
    row = plant.scan(lake, "rejected").head(1).with_columns(sequence_number=pl.lit(1_000, pl.Int64))
    append_again(lake, "rejected", row)
    assert wrong(lake) == {"marks": 1}
    append_again(lake, "rejected", row.with_columns(partition=pl.lit("stranger")))
    assert wrong(lake) == {"marks": 2}


def test_gaps_of_the_sources_own_inside_a_flush_of_two_dictionaries_are_in_order(lake: Lake) -> None:
    resume = lake.resume(plant.PARTITION, dictionary=plant.FakeDictionary(), first_sequence=0, contiguous=False)
    operator, sink = plant.Operator(step=10), plant.sink_of(lake)
    sink.write(plant.item(resume, operator.take(0, 40)))
    operator.dictionary = plant.FakeDictionary("2")
    lake.store.create_if_absent(dictionary_path(operator.dictionary.sha256), operator.dictionary.to_json().encode())
    sink.write(plant.item(resume, operator.take(50, 90)))
    sink.flush()
    assert plant.ranges(lake) == [(0, 40), (50, 90)]
    assert list(lake.table("batches").commit_infos())[-1]["ranges"] == {
        plant.PARTITION: [{"follows": -1, "first": 0, "last": 40}, {"follows": 40, "first": 50, "last": 90}]
    }
    report = examine(lake)
    assert report.ok, report.checks


def test_an_accepted_loss_of_one_partition_hides_nothing_in_another(lake: Lake, tmp_path: Path) -> None:
    plant.run(lake, 40)
    plant.run(lake, 40, partition="telemetry/1/1")
    delta(lake, "batches").delete("partition = 'telemetry/1/1' AND first_sequence = 40")
    plant.run(lake, 40, partition="telemetry/1/2")
    shutil.rmtree(tmp_path / "lake" / "_state" / "telemetry/1/2")
    lake.resume("telemetry/1/2", dictionary=plant.FakeDictionary(), first_sequence=60, accept_state_loss=True)
    assert wrong(lake)["marks"] == 1


def test_a_sum_that_does_not_add_up_is_found(lake: Lake) -> None:
    plant.run(lake, 40)
    row = plant.scan(lake, "batches").filter(pl.col("first_sequence") == 40)
    delta(lake, "batches").delete("first_sequence = 40")
    append_again(lake, "batches", row.with_columns(rows_total=pl.col("rows_total") + 1))
    assert wrong(lake) == {"sums": 1}


def test_files_that_are_missing_or_unfinished_are_found_before_they_are_read(lake: Lake, tmp_path: Path) -> None:
    plant.run(lake, 40)
    first, second, *_ = sorted((tmp_path / "lake" / "readings").glob("date=*/part-*.parquet"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    report = examine(lake)
    assert not report.ok
    (check,) = [check for check in report.checks if is_wrong(check)]
    assert (check.key, check.wrong) == ("files-there", 2)
    assert any("is missing" in example for example in check.examples)
    assert {check.wrong for check in report.checks if check.key in doctor_sql.CHECKS} == {None}
    with pytest.raises(LakeError, match=r"couldn't read the lake: .*; see `alumicatalyst lake doctor`"):
        rows(lake, "SELECT * FROM readings")


def test_a_lake_in_a_folder_with_an_odd_name_is_read(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "it's [a] lake* of 50%?"))
    plant.run(lake, 20)
    assert examine(lake).ok
    assert rows(lake, "SELECT count(*) AS n FROM readings") == [{"n": len(plant.undisturbed(20)["readings"])}]


def test_a_state_that_is_ahead_or_damaged_and_a_dictionary_that_is_gone_are_found(lake: Lake, tmp_path: Path) -> None:
    plant.run(lake, 40)
    states = tmp_path / "lake" / "_state" / plant.PARTITION
    (states / f"{99:020d}").write_bytes(plant.Operator(last=99).snapshot())
    (states / f"{19:020d}").write_bytes(b"{")
    (tmp_path / "lake" / "_dictionaries" / f"{plant.FakeDictionary().sha256}.json").write_bytes(b"{}")
    assert wrong(lake) == {
        "states-ahead": 1,
        "states-intact": 1,
        "dictionaries": 1,
    }
    shutil.rmtree(tmp_path / "lake" / "_dictionaries")
    assert wrong(lake)["dictionaries"] == 1


def test_a_journal_with_a_double_row_is_found(lake: Lake) -> None:
    plant.run(lake, 20)
    append_again(lake, "journal", plant.scan(lake, "journal"))
    assert wrong(lake) == {"journals": 1}


# --- queries


def rows(lake: Lake, sql: str) -> list[dict[str, Any]]:
    return [row for batch in select(lake, sql) for row in batch.to_pylist()]


def test_a_query_sees_every_table_and_its_date(lake: Lake) -> None:
    plant.run(lake, 60)
    (found,) = rows(lake, "SELECT count(*) AS n, count(DISTINCT date) AS days FROM readings")
    assert found == {"n": len(plant.undisturbed(60)["readings"]), "days": 2}
    (found,) = rows(lake, "SELECT count(*) AS n FROM windows JOIN batches USING (partition) WHERE first_sequence = 0")
    assert found["n"] == len(plant.undisturbed(60)["windows"])
    assert rows(lake, "SELECT kind FROM journal") == [{"kind": "dictionary"}]
    assert rows(lake, "DESCRIBE alarms")[0]["column_name"] == "date"


def test_a_query_of_an_empty_table_is_empty(lake: Lake) -> None:
    assert rows(lake, "SELECT device, value FROM readings") == []
    assert rows(lake, "SELECT count(*) AS n FROM alarms") == [{"n": 0}]


@pytest.mark.parametrize(
    "sql",
    [
        "COPY readings TO 'x.parquet'",
        "SELECT 1; SELECT 2",
        "DROP VIEW readings",
        "ATTACH 'x.db'",
        "INSTALL azure",
        "SELEC 1",
        "SELECT nothing FROM readings",
        "",
    ],
)
def test_what_is_not_one_reading_statement_is_refused(lake: Lake, sql: str) -> None:
    with pytest.raises(InputError, match=r"couldn't (run|understand) the query"):
        rows(lake, sql)


def test_a_reader_makes_no_lake(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="there is no such directory"):
        Lake.open(str(tmp_path / "none"), create=False)
    with pytest.raises(LakeError, match=r"is no Delta table; set lake\.uri"):
        Lake.open(str(tmp_path), create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_another_version_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    write_deltalake(str(tmp_path / "readings"), pa.table({"a": [1]}))
    with pytest.raises(LakeError, match="couldn't use the table readings"):
        Lake.open(str(tmp_path))


# --- the command line


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["lake", *arguments])
    return int(ended.value.code or 0), capsys.readouterr().out


def test_the_command_prints_rows_as_a_table_json_or_csv(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    plant.run(lake, 30)
    sql = "SELECT sequence_number, reason, body, device, enqueued_time FROM rejected ORDER BY 1 LIMIT 2"
    at = ("query", sql, "--lake", lake.store.root)
    code, out = command(capsys, *at, "--json")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {
            "sequence_number": number,
            "reason": "bad_json",
            "body": "{x",
            "device": None,
            "enqueued_time": time,
        }
        for number, time in ((3, "2026-11-21T23:59:53Z"), (10, "2026-11-22T00:00:00Z"))
    ]
    _, out = command(capsys, *at, "--csv")
    assert list(csv.reader(io.StringIO(out)))[1] == ["3", "bad_json", "{x", "", "2026-11-21T23:59:53Z"]
    _, out = command(capsys, *at)
    assert "bad_json" in out
    assert "2 rows" in out
    _, out = command(capsys, "query", "SELECT unnest(range(1000)) AS n", "--lake", lake.store.root)
    assert "1,000 rows (200 shown; --csv or --json prints all)" in out


def test_the_doctor_exits_with_one_and_says_what_is_wrong(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    plant.run(lake, 40)
    code, out = command(capsys, "doctor", "--lake", lake.store.root)
    assert code == 0
    assert "wrong" not in out
    assert "mark 40, 41 envelopes" in out
    delta(lake, "rejected").delete("sequence_number = 3")
    code, out = command(capsys, "doctor", "--lake", lake.store.root)
    assert code == 1
    assert "batches counts 6 rejected, stored are 5" in out
    code, out = command(capsys, "doctor", "--lake", lake.store.root, "--json")
    assert code == 1
    assert json.loads(out)["ok"] is False

"""A lake of an older version is refused with what differs, migrated by a commit, and then read and verified whole."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from alumicatalyst.cli.main import main
from alumicatalyst.errors import LakeError, LedgerError
from alumicatalyst.lake import Lake, log, schemas, tables
from alumicatalyst.lake.doctor import examine
from alumicatalyst.lake.migrate import migrate
from alumicatalyst.lake.query import select
from alumicatalyst.lake.retry import Retry
from alumicatalyst.lake.schemas import Column, compare
from alumicatalyst.lake.table import Table
from alumicatalyst.ledger import evidence, prove
from alumicatalyst.maintenance.compact import compact
from alumicatalyst.maintenance.lease import Lease
from tests.lake import older, plant
from tests.lake.faults import Killed
from tests.ledger.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMAND = "run `alumicatalyst lake migrate --lake"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a lake of the older version, signed."""
    made = Site(tmp_path)
    with older.version():
        plant.run(Lake.open(str(made.lake)), 40)
    made.sign()
    return made


def unopened(site: Site) -> Lake:
    """Return the lake without the check that opening it makes."""
    return Lake(site.store, Retry())


def asked(lake: Lake, sql: str) -> list[dict[str, Any]]:
    return [row for batch in select(lake, sql) for row in batch.to_pylist()]


def versions(site: Site) -> dict[str, int]:
    return {name: DeltaTable(str(site.lake / name)).version() for name in tables.SPECS}


def test_a_lake_of_an_older_version_is_refused_with_both_schemas_and_the_command(site: Site) -> None:
    told = rf"table windows of .*: it has no such column, this version writes score_max float; {COMMAND} .*` once"
    for create in (True, False):
        with pytest.raises(LakeError, match=told):
            Lake.open(str(site.lake), create=create)
    report = examine(unopened(site))
    assert report.ok
    (found,) = [check for check in report.checks if check.key == "schema-old"]
    assert (found.wrong, found.advice) == (1, True)
    assert "`alumicatalyst lake migrate`" in found.remedy


def test_i1_a_migrated_lake_goes_on_and_every_engine_reads_it_whole(site: Site) -> None:
    before = versions(site)
    (step,) = migrate(site.store, dry_run=True)
    assert (step.table, step.created, step.columns, step.version) == ("windows", False, ["score_max float"], None)
    assert versions(site) == before
    assert [each.version for each in migrate(site.store)] == [before["windows"] + 1]
    assert versions(site) == before | {"windows": before["windows"] + 1}
    assert migrate(site.store) == []
    lake = Lake.open(str(site.lake))
    plant.run(lake, 80)
    expected = {"n": len(plant.undisturbed(80)["windows"]), "scored": 0}
    sql = "SELECT count(*) AS n, count(score_max) AS scored FROM windows"
    assert asked(lake, sql) == [expected]
    assert lake.table("windows").select(sql) == [expected]
    files = [str(site.lake / "windows" / path) for path in lake.table("windows").contents().paths]
    with duckdb.connect() as connection:
        read = f"SELECT count(*) AS n, count(score_max) AS scored FROM read_parquet({files}, union_by_name = true)"
        assert connection.execute(read).fetchall() == [tuple(expected.values())]
    seen = pl.scan_delta(str(site.lake / "windows")).select(pl.len(), pl.col("score_max").count()).collect()
    assert seen.row(0) == tuple(expected.values())
    plant.assert_exact(lake, 80)
    report = examine(Lake.open(str(site.lake)))
    assert report.ok
    assert not any(check.wrong for check in report.checks if check.key == "schema-old")


def test_i7_rows_of_before_are_verified_and_proven_by_the_schema_of_before(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(site.store)
    lake = Lake.open(str(site.lake))
    plant.run(lake, 80)
    site.sign()
    oldest = plant.scan(lake, "windows").sort("sequence_number").row(0, named=True)
    question = f"windows sequence_number={oldest['sequence_number']} item={oldest['item']}"

    def proven() -> evidence.Proven:
        made = prove.prove_row(lake, site.reader(), site.place.verifier_key(), question)
        return evidence.verify(made, site.place.verifier_key())

    assert {each.what for each in site.verify().wrong.first} == {
        "its rows were digested by a schema that this version does not know",
        "its rows are not those that were signed",
    }
    with pytest.raises(LedgerError, match="digested by a schema that this version does not know"):
        proven()
    monkeypatch.setitem(schemas.FORMER, "windows", (older.LEAF_SCHEMA,))
    report = site.verify()
    assert report.is_ok(strict=True), report.wrong.first
    told = proven().row
    assert told is not None
    assert told["count"] == oldest["count"]
    assert "score_max" not in told
    # Rows of both ages in one file are still told apart by their batches.
    with Lease(lake) as lease:
        compact(lake, lease, ["windows"], files_min=2)
    site.sign()
    report = site.verify()
    assert report.is_ok(strict=False), report.wrong.first
    assert report.figures["batches moved"] > 4
    assert proven().row == told
    assert examine(lake).ok


def test_i7_a_value_in_a_column_that_came_later_is_wrong(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(site.store)
    lake = Lake.open(str(site.lake))
    plant.run(lake, 80)
    monkeypatch.setitem(schemas.FORMER, "windows", (older.LEAF_SCHEMA,))
    path, action = next(iter(lake.table("windows").files().items()))
    forged = pl.read_parquet(site.lake / "windows" / path).with_columns(score_max=pl.lit(9.5, pl.Float32))
    copy = path.replace("part-", "copy-")
    forged.write_parquet(site.lake / "windows" / copy)
    add = action | {"path": copy, "size": (site.lake / "windows" / copy).stat().st_size, "dataChange": False}
    add["stats"] = json.dumps({"numRecords": forged.height})
    commit = site.lake / log.commit_path("windows", versions(site)["windows"] + 1)
    told = [log.commit_info("OPTIMIZE", {}), log.removal(action, data_change=False), {"add": add}]
    commit.write_bytes(log.encode(told))
    site.sign()
    assert "they have values that nobody has digested: score_max" in site.verify().wrong.first[0].what


def test_files_that_all_lack_a_later_column_are_compacted(site: Site) -> None:
    migrate(site.store)
    lake = Lake.open(str(site.lake))
    before = asked(lake, "SELECT * FROM windows ORDER BY ALL")
    with Lease(lake) as lease:
        (done,) = compact(lake, lease, ["windows"], files_min=2)
    assert done.files_before > done.files_after > 0
    assert asked(lake, "SELECT * FROM windows ORDER BY ALL") == before != []


def test_a_table_that_an_older_version_did_not_have_is_made(site: Site) -> None:
    shutil.rmtree(site.lake / "alarms")
    assert [(each.table, each.created) for each in migrate(site.store)] == [("windows", False), ("alarms", True)]
    assert Lake.open(str(site.lake)).table("alarms").refresh().version == 0


def test_a_crash_in_between_leaves_the_rest_for_the_next_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(site.lake / "alarms")
    create = Table.create

    def killed(*_: Any) -> bool:
        raise Killed

    monkeypatch.setattr(Table, "create", killed)
    with pytest.raises(Killed):
        migrate(site.store)
    monkeypatch.setattr(Table, "create", create)
    assert [each.table for each in migrate(site.store)] == ["alarms"]
    assert migrate(site.store) == []


@pytest.mark.parametrize("persisted", [False, True])
def test_a_migration_whose_commit_seems_to_fail_is_made_once(
    site: Site, monkeypatch: pytest.MonkeyPatch, persisted: bool
) -> None:
    commit, failures = Table.commit, [OSError("the answer was lost")]

    def faulty(table: Table, *arguments: Any) -> None:
        if not failures or persisted:
            commit(table, *arguments)
        if failures:
            raise failures.pop()

    before = versions(site)["windows"]
    monkeypatch.setattr(Table, "commit", faulty)
    migrate(site.store)
    assert versions(site)["windows"] == before + 1


def changed(site: Site, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Give the windows other columns, as another version would have them."""
    metadata = Table(site.store, tables.SPECS["windows"])
    metadata.refresh()
    told = metadata.metadata()
    fields = json.loads(told["schemaString"])["fields"]
    told["schemaString"] = json.dumps({"type": "struct", "fields": change(fields)})
    path = site.lake / log.commit_path("windows", versions(site)["windows"] + 1)
    path.write_bytes(log.encode([log.commit_info("ADD COLUMNS", {}), {"metaData": told}]))


def column(name: str, kind: str = "double") -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": True, "metadata": {}}


def test_a_lake_of_newer_software_is_refused_and_not_migrated(site: Site) -> None:
    later = [column("score_max", "float"), column("entropy")]
    changed(site, lambda fields: [*fields[:-2], *later, *fields[-2:]])
    told = "it has entropy double, this version writes no such column; it was made by newer software: use that version"
    with pytest.raises(LakeError, match=told):
        Lake.open(str(site.lake))
    with pytest.raises(LakeError, match=told):
        migrate(site.store)
    assert not examine(unopened(site)).ok


def test_a_column_that_holds_something_else_is_refused_and_not_migrated(site: Site) -> None:
    changed(site, lambda fields: [each | ({"type": "integer"} if each["name"] == "count" else {}) for each in fields])
    told = "it has count integer not null, this version writes score_max float, count long not null; no reader could"
    before = versions(site)
    with pytest.raises(LakeError, match=told):
        migrate(site.store)
    assert versions(site) == before


A, B, C = Column("a", "long", nullable=False), Column("b", "double", nullable=True), Column("c", "float", nullable=True)


@pytest.mark.parametrize(
    ("found", "wanted", "refusal"),
    [
        ([A, B], [A, B], ""),
        ([A], [A, B, C], ""),
        ([A, C], [A, B, C], ""),
        ([A, B], [A, Column("b", "double", nullable=False)], ""),
        ([A], [Column("a", "long", nullable=True)], ""),
        ([B], [A, B], "have no value for it"),
        ([B, A], [A, B], "in another order"),
        ([A, B], [A, Column("b", "float", nullable=True)], "take both for one column"),
        ([A, B], [A], "made by newer software"),
    ],
)
def test_what_can_be_migrated_are_columns_that_may_be_empty(
    found: list[Column], wanted: list[Column], refusal: str
) -> None:
    difference = compare(found, wanted)
    assert (refusal in difference.refusal) if refusal else (difference.refusal == "")


def test_where_there_is_no_lake_nothing_is_migrated(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=r"holds no table; set lake\.uri"):
        migrate(Site(tmp_path).store)
    assert list(tmp_path.iterdir()) == []


def test_the_command_tells_what_it_does(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    def command(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["lake", "migrate", "--lake", str(site.lake), *arguments])
        assert ended.value.code == 0
        return capsys.readouterr().out

    assert command("--dry-run") == "windows: would be given score_max float\n"
    assert json.loads(command("--json"))["steps"][0]["columns"] == ["score_max float"]
    assert command() == "nothing to do: every table has what this version writes\n"
    assert pq.read_schema(next((site.lake / "windows").glob("*/*.parquet"))).names.count("score_max") == 0

"""Commits that are signed like any other and yet would hide or replace rows: verifying the lake names them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alumicatalyst.lake import tables
from alumicatalyst.ledger import rows
from alumicatalyst.ledger.claims import Claims
from tests.ledger.test_verify import named

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.ledger.site import Site

pytestmark = pytest.mark.timeout(240)

Action = dict[str, Any]


def commits(site: Site, table: str) -> list[list[Action]]:
    log = site.lake / table / "_delta_log"
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in sorted(log.glob("0*[0-9].json"))]


def commit(site: Site, table: str, *actions: Action, **info: Any) -> None:
    """Write a commit as whoever may write to the lake could, as one that says it changes no data."""
    version = len(commits(site, table))
    lines = [{"commitInfo": {"timestamp": 1, "operation": "OPTIMIZE"} | info}, *actions]
    path = site.lake / table / "_delta_log" / f"{version:020d}.json"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in lines))


def adds(site: Site, table: str) -> list[tuple[Action, Action]]:
    """Return the add actions of a table, each with what its commit says of the file's rows."""
    found = []
    for actions in commits(site, table):
        infos = [each["commitInfo"] for each in actions if "commitInfo" in each]
        found += [(each["add"] | {"dataChange": False}, infos[0]) for each in actions if "add" in each]
    return found


def verified(site: Site) -> str:
    """Return what is wrong, which is the same before and after the ledger signs it."""
    before = site.verify()
    site.sign()
    report = site.verify()
    assert {each.what for each in report.wrong.first} == {each.what for each in before.wrong.first}
    assert before.pending.count == 1
    return "\n".join(each.text() for each in report.wrong.first)


def test_i7_a_batch_that_is_written_again_with_other_rows_is_wrong(site: Site) -> None:
    add, info = adds(site, "readings")[0]
    stored = pl.read_parquet(site.lake / "readings" / add["path"])
    forged = rows.normal("readings", stored.with_columns(value=pl.col("value") + 1).to_arrow())
    copy = add["path"].replace("part-", "copy-")
    pq.write_table(forged, site.lake / "readings" / copy)
    data = (site.lake / "readings" / copy).read_bytes()
    (said,) = [each for each in info["files"] if each["path"] == add["path"]]
    root = rows.root("readings", forged, bytes.fromhex(said["batch"])).hex()
    told = {"path": copy, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "rows_root": root}
    commit(
        site,
        "readings",
        {"remove": {"path": add["path"], "dataChange": False, "deletionTimestamp": 1}},
        {"add": add | {"path": copy, "size": len(data), "stats": None}},
        files=[said | told],
        leaf_schema=info["leaf_schema"],
    )
    text = verified(site)
    assert f"readings/{copy} rows 0-{stored.height - 1}: it names the batch {said['batch']}, which was written" in text
    assert "its rows are not those that were signed" in text


def statistics(add: Action, change: Callable[[Action], object]) -> Action:
    told = json.loads(add["stats"])
    change(told)
    return add | {"stats": json.dumps(told)}


LIES: list[tuple[str, Callable[[Action], Action]]] = [
    ("date", lambda add: add | {"partitionValues": {"date": "1999-01-01"}}),
    ("device", lambda add: statistics(add, lambda told: told["maxValues"].update(device="a"))),
    ("metric", lambda add: statistics(add, lambda told: told["minValues"].update(metric=7))),
    (
        "event_time",
        lambda add: statistics(add, lambda told: told["minValues"].update(event_time="2099-01-01T00:00:00Z")),
    ),
    ("value", lambda add: statistics(add, lambda told: told["maxValues"].update(value=-1e308))),
    ("score", lambda add: statistics(add, lambda told: told["nullCount"].update(score=-1))),
    ("number of rows", lambda add: statistics(add, lambda told: told.update(numRecords=0))),
    ("statistics", lambda add: add | {"stats": "[]"}),
]


def test_i7_files_of_which_readers_are_told_what_is_not_so_are_wrong(site: Site) -> None:
    harmed = [(what, change(add)) for (what, change), (add, _) in zip(LIES, adds(site, "readings"), strict=False)]
    assert len(harmed) == len(LIES)
    commit(site, "readings", *({"add": add} for _, add in harmed))
    text = verified(site)
    for what, add in harmed:
        assert (
            f"readings/{add['path']}: its commit says of its rows what they are not, so readers may miss some: {what}"
        ) in text


def test_i7_what_readers_are_told_of_a_file_of_moved_rows_is_compared_too(site: Site) -> None:
    handle = site.delta("readings")
    handle.optimize.compact()
    site.sign()
    add = next(each["add"] for each in commits(site, "readings")[-1] if "add" in each)
    commit(site, "readings", {"add": statistics(add, lambda told: told["maxValues"].update(device="a"))})
    assert f"readings/{add['path']}: its commit says of its rows what they are not" in verified(site)


def test_i7_a_commit_that_hides_rows_or_renames_columns_is_wrong(site: Site) -> None:
    add, _ = adds(site, "alarms")[0]
    vector = {"storageType": "i", "pathOrInlineDv": "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L"}
    commit(site, "alarms", {"add": add | {"deletionVector": vector | {"sizeInBytes": 40, "cardinality": 6}}})
    assert f"alarms/{add['path']}: a deletion vector hides rows of it from readers" in verified(site)
    features = {"readerFeatures": ["columnMapping"], "writerFeatures": ["columnMapping"]}
    commit(site, "windows", {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7} | features})
    assert "it asks for readers of version 3" in named(site.verify())
    (told,) = [each["metaData"] for each in commits(site, "batches")[0] if "metaData" in each]
    commit(site, "batches", {"metaData": told | {"schemaString": told["schemaString"].replace("rows_late", "late")}})
    assert "it gives the table other columns: date, partition" in named(site.verify())
    (told,) = [each["metaData"] for each in commits(site, "rejected")[0] if "metaData" in each]
    commit(site, "rejected", {"metaData": told | {"partitionColumns": []}})
    assert "it makes [] the table's partitions" in named(site.verify())


def test_i7_rows_that_a_commit_takes_out_of_the_journal_are_wrong(site: Site) -> None:
    add, _ = adds(site, "journal")[0]
    commit(site, "journal", {"remove": {"path": add["path"], "dataChange": True, "deletionTimestamp": 1}})
    assert f"journal/{add['path']} rows 0-0: its rows are gone: a commit has taken them out" in verified(site)


def test_bounds_that_are_wider_or_cut_off_are_no_lie() -> None:
    schema = rows.files_schema("readings")
    row: dict[str, Any] = dict.fromkeys(schema.names) | {
        "enqueued_time": 86_400_000_000 - 1,
        "device": "pot-1",
        "event_time": 1_000_999,
        "score": 0.3,
        "value": 1.5,
        rows.BATCH: bytes(16),
        rows.ROW: 0,
    }
    group = pa.Table.from_pylist([row], schema=schema)
    told = {
        "numRecords": 1,
        "minValues": {"device": "p", "event_time": "1970-01-01T00:00:01.000Z", "score": 0.3, "value": 1},
        "maxValues": {"device": "q", "event_time": "1970-01-01T00:00:01.000Z", "score": 0.3, "value": 2},
        "nullCount": {"device": 0, "quality": 1},
    }
    for change, wrong in (
        ({}, ""),
        ({"maxValues": {"event_time": "1970-01-01T00:00:00.999Z"}}, "event_time"),
        ({"minValues": {"score": 0.300001}}, "score"),
        ({"minValues": {"score": 1e300}}, "score"),
        ({"nullCount": {"device": 1}}, "device"),
    ):
        claims = Claims("readings", {"partitionValues": {"date": "1970-01-01"}, "stats": json.dumps(told | change)})
        claims.take(group)
        assert claims.wrong().endswith(wrong)
        assert bool(claims.wrong()) == bool(wrong)


@pytest.mark.parametrize("table", tables.SPECS)
def test_what_the_flow_tells_of_its_files_is_so(table: str, signed: Site) -> None:
    count = 0
    for actions in commits(signed, table):
        for add in (each["add"] for each in actions if "add" in each):
            claims = Claims(table, add)
            claims.take(rows.read(table, (signed.lake / table / add["path"]).read_bytes()))
            assert claims.wrong() == ""
            assert len(claims.columns) > 3
            count += 1
    assert count

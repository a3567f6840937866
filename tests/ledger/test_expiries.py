"""Days that expired are noted as that by whoever verifies, and a commit that only says so is wrong."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from alumicatalyst.lake import Lake, account, log
from alumicatalyst.ledger import verify_report
from alumicatalyst.maintenance import expire
from alumicatalyst.maintenance.compact import compact
from alumicatalyst.maintenance.lease import Lease
from alumicatalyst.maintenance.vacuum import vacuum

if TYPE_CHECKING:
    from tests.ledger.site import Site

pytestmark = pytest.mark.timeout(240)

EXPIRED = "its rows have expired: a commit has taken out their day, and counts them"
TAKEN_OUT = "its rows are gone: a commit has taken them out, and says so"


@pytest.fixture(autouse=True)
def _everything_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_report, "KEPT_MAX", 10_000)


def lake_of(site: Site) -> Lake:
    return Lake.open(str(site.lake), create=False)


def let_expire(site: Site, table: str, *, days: int = 1) -> expire.Expired:
    """Let all rows of a table expire: its days are counted from long after the last."""
    lake = lake_of(site)
    with Lease(lake) as lease:
        (done,) = expire.expire(lake, days={table: days}, lease=lease, today=date(2100, 1, 1))
    return done


@pytest.mark.parametrize("compacted", [False, True])
def test_i7_batches_of_days_that_expired_are_noted_as_that(site: Site, compacted: bool) -> None:
    batches = pl.read_delta(str(site.lake / "windows"))["_batch"].n_unique()
    lake = lake_of(site)
    if compacted:
        with Lease(lake) as lease:
            compact(lake, lease, ["windows"], files_min=2)
    done = let_expire(site, "windows")
    assert done.total > 0
    for signed in (False, True):
        if signed:
            site.sign()
        report = site.verify()
        assert report.is_ok(strict=False), report.wrong.first
        assert [each.what for each in report.notes.first] == [EXPIRED] * batches
        assert report.figures["batches expired"] == batches
    with Lease(lake) as lease:
        vacuum(lake, lease, ["windows"], signed=None, days=0)
    site.sign()
    report = site.verify()
    assert report.is_ok(strict=False), report.wrong.first
    assert report.figures["batches expired"] == batches


def test_rows_that_were_taken_out_in_another_way_are_not_noted_as_expired(site: Site) -> None:
    let_expire(site, "windows")
    removed = site.delta("rejected").delete()["num_removed_files"]
    site.sign()
    report = site.verify()
    assert report.is_ok(strict=False), report.wrong.first
    assert [each.what for each in report.notes.first if each.table == "rejected"] == [TAKEN_OUT] * removed


def forge(site: Site, table: str, change: dict[str, Any], *more: dict[str, Any]) -> None:
    """Commit what says of itself that rows have expired."""
    lake = lake_of(site)
    state = lake.table(table)
    snapshot = state.refresh()
    files = list(state.files().values())
    told = [json.loads(each["stats"])["numRecords"] for each in files]
    days = sorted({each["partitionValues"]["date"] for each in files}) if table != "journal" else []
    counts = {"kill/1/0": {"windows": sum(told)}}
    said: dict[str, Any] = {
        "table": table,
        "before": "2100-01-01",
        "days": days,
        "rows": counts,
        "unsealed": 0,
    } | change
    transactions = [
        log.transaction(f"{account.EXPIRED_PREFIX}{kind}/{partition}", count)
        for partition, kinds in said["rows"].items()
        for kind, count in kinds.items()
    ]
    removals = [log.removal(each, data_change=True) for each in files]
    path = site.lake / log.commit_path(table, snapshot.version + 1)
    info = log.commit_info(expire.OPERATION, {"expired": said})
    path.write_bytes(log.encode([info, *transactions, *removals, *more]))


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, ""),
        ({"rows": {"kill/1/0": {"windows": 1}}}, "it counts 1 expired rows, and takes out"),
        ({"unsealed": 1}, "expired rows, and takes out"),
        ({"rows": {"kill/1/0": {"windowed": 1}}}, "it counts expired rows as what this table has not"),
        ({"days": []}, "it takes out other days than it says, or days that are kept"),
        ({"before": "2000-01-01"}, "it takes out other days than it says, or days that are kept"),
        ({"rows": None}, "it says that rows have expired, and not which"),
    ],
)
def test_i7_a_commit_that_does_not_count_what_it_takes_out_is_wrong(
    site: Site, change: dict[str, Any], wrong: str
) -> None:
    if change.get("rows", 1) is None:
        forge(site, "windows", {})
        path = site.lake / log.commit_path("windows", lake_of(site).table("windows").refresh().version)
        path.write_bytes(path.read_bytes().replace(b'"rows":{', b'"lines":{'))
    else:
        forge(site, "windows", change)
    site.sign()
    report = site.verify()
    if wrong:
        assert wrong in report.wrong.first[0].what
        assert {each.what for each in report.notes.first} == {TAKEN_OUT}
    else:
        assert report.is_ok(strict=False), report.wrong.first
        assert {each.what for each in report.notes.first} == {EXPIRED}


def test_i7_a_count_that_does_not_go_on_from_the_one_before_is_wrong(site: Site) -> None:
    let_expire(site, "windows")
    lake = lake_of(site)
    snapshot = lake.table("windows").refresh()
    info = {
        "table": "windows",
        "before": "2100-01-01",
        "days": [],
        "rows": {"kill/1/0": {"windows": 5}},
        "unsealed": -5,
    }
    told = [
        log.commit_info(expire.OPERATION, {"expired": info}),
        log.transaction(f"{account.EXPIRED_PREFIX}windows/kill/1/0", 5),
    ]
    (site.lake / log.commit_path("windows", snapshot.version + 1)).write_bytes(log.encode(told))
    site.sign()
    assert "and not on from the" in site.verify().wrong.first[0].what


def test_i7_what_is_kept_for_ever_never_expires(site: Site) -> None:
    for table in ("alarms", "batches", "journal"):
        forge(site, table, {})
    site.sign()
    told = {each.table for each in site.verify().wrong.first if each.what.endswith("and does something else")}
    assert told == {"alarms", "batches", "journal"}

"""The ledger across maintenance: what was signed stays verified and provable, and tampering is still found."""

from __future__ import annotations

import json
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from alumicatalyst.errors import LedgerError
from alumicatalyst.lake import Lake, archive, tables
from alumicatalyst.lake.doctor import examine
from alumicatalyst.ledger import entry, evidence
from alumicatalyst.ledger.cursor import cursor
from alumicatalyst.ledger.prove import prove_commit, prove_row
from alumicatalyst.maintenance import rewrite
from alumicatalyst.maintenance.lease import Lease
from alumicatalyst.maintenance.maintain import Limits, maintain
from alumicatalyst.maintenance.trim import trim
from tests.lake import upkeep

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.ledger.verify_report import Report
    from tests.ledger.site import Site

pytestmark = pytest.mark.timeout(240)


def lake_of(site: Site) -> Lake:
    return Lake.open(str(site.lake), create=False)


def upkeep_of(site: Site, *, rounds: int = 1) -> None:
    """Compact, sign, vacuum, sign, trim and sign, as time would have it."""
    for _ in range(rounds):
        lake = lake_of(site)
        with Lease(lake) as lease:
            upkeep.squeeze(lake, tuple(tables.SPECS), lease)
            site.sign()
            upkeep.sweep(lake, tuple(tables.SPECS), cursor(lake, site.log), lease)
            site.sign()
            upkeep.cut(lake, tuple(tables.SPECS), cursor(lake, site.log), lease)
        site.sign()


def named(report: Report) -> str:
    return "\n".join(each.text() for kind in (report.wrong, report.unclaimed, report.notes) for each in kind.first)


def asked_of(site: Site, at: int) -> str:
    row = pl.scan_delta(str(site.lake / "readings")).sort("partition", "sequence_number", "item").collect().row(at)
    names = ("date", "partition", "sequence_number", "item")
    return "readings " + " ".join(f"{name}={value}" for name, value in zip(names, row, strict=False))


def archives(site: Site, table: str) -> list[Path]:
    return sorted((site.lake / "_archive" / table).glob("*.zip"))


def test_everything_is_verified_strictly_after_compaction_vacuum_and_trimming(site: Site) -> None:
    before = site.views()
    upkeep_of(site)
    assert archives(site, "readings")
    report = site.verify()
    assert report.is_ok(strict=True), named(report)
    assert report.figures["batches moved"] > 40
    assert report.figures["archives"] > 0
    for name, (_, _, _, _, rows) in site.views().items():
        assert rows == before[name][-1], name
    # A second round finds little to do, and a third one, too.
    upkeep_of(site, rounds=2)
    report = site.verify()
    assert report.is_ok(strict=True), named(report)


def test_maintenance_has_entries_of_its_own(site: Site) -> None:
    upkeep_of(site)
    reader = site.reader()
    found = [entry.parse(each) for each in reader.entries(0, reader.size)]
    of_readings = [each for each in found if each.table == "readings"]
    assert {each.operation for each in of_readings} >= {"OPTIMIZE", "VACUUM START", "VACUUM END"}
    compacted = [each for each in of_readings if each.operation == "OPTIMIZE"]
    assert all(each.removes and each.adds and not each.rows for each in compacted)
    # Their digests are the commit's own: nobody had to read the files.
    assert all(line.sha256 is not None for each in compacted for line in each.adds)  # type: ignore[union-attr]


def test_a_row_that_was_proven_before_maintenance_is_proven_after_it_by_the_same_digest(site: Site) -> None:
    vkey = site.place.verifier_key()
    asked = [asked_of(site, at) for at in (0, 57, 211)]
    before = [prove_row(lake_of(site), site.reader(), vkey, each) for each in asked]
    commit = prove_commit(site.reader(), vkey, "readings@5")
    upkeep_of(site, rounds=2)
    for question, proof in zip(asked, before, strict=True):
        again = prove_row(lake_of(site), site.reader(), vkey, question)
        former, now = evidence.verify(proof, vkey), evidence.verify(again, vkey)
        assert (now.row, now.batch, now.number, now.entry, now.index) == (
            former.row,
            former.batch,
            former.number,
            former.entry,
            former.index,
        )
    assert evidence.verify(commit, vkey).entry.version == 5
    assert evidence.verify(prove_commit(site.reader(), vkey, "readings@5"), vkey).entry.version == 5


def test_entries_that_hold_a_tree_are_verified_from_the_archive(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only their commit files can tell what the tree stands for, and those have moved."""
    monkeypatch.setattr(entry, "KIND_BYTES_MAX", 100)
    shutil.rmtree(site.log)
    site.place.kept.unlink()
    site.sign()
    asked = asked_of(site, 3)
    vkey = site.place.verifier_key()
    upkeep_of(site)
    kept = entry.parse(next(iter(site.reader().entries(2, 3))))
    assert isinstance(kept.rows, entry.Tree) or kept.rows == ()
    report = site.verify()
    assert report.is_ok(strict=True), named(report)
    proof = prove_row(lake_of(site), site.reader(), vkey, asked)
    assert evidence.verify(proof, vkey).row is not None
    # Without the archive nobody could tell.
    for each in archives(site, "readings"):
        each.unlink()
    report = site.verify()
    assert not report.is_ok(strict=False)


# ---------------------------------------------------------------------- tampering


def test_a_row_that_was_changed_during_compaction_is_found(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = rewrite._sorted

    def tampering(connection: Any, table: str, files: Any, check: Any) -> Any:
        for group in real(connection, table, files, check):
            at = group.schema.get_field_index("value")
            values = pc.add(group.column(at), pc.cast(pc.equal(group.column("_row"), 1), "float64"))
            yield group.set_column(at, group.schema.field(at), values)

    monkeypatch.setattr(rewrite, "_sorted", tampering)
    lake = lake_of(site)
    upkeep.squeeze(lake, ("readings",))
    monkeypatch.undo()
    site.sign()
    report = site.verify()
    assert report.wrong.count > 0
    assert "its rows are not those that were signed" in report.wrong.first[0].what


def test_a_file_that_was_changed_after_compaction_is_found(site: Site) -> None:
    upkeep_of(site)
    lake = lake_of(site)
    path = site.lake / "readings" / min(lake.table("readings").files())
    found = pq.ParquetFile(path).read()
    at = found.schema.get_field_index("value")
    pq.write_table(found.set_column(at, found.schema.field(at), pc.add(found.column(at), 1.0)), path)
    report = site.verify()
    assert any("it is not the file that was signed" in each.what for each in report.wrong.first)


def edit(path: Path, version: int, change: Any) -> None:
    with zipfile.ZipFile(path) as found:
        members = {name: found.read(name) for name in found.namelist()}
    name = f"{version:020d}.json"
    members[name] = change(members[name])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for each, data in members.items():
            made.writestr(each, data)


def test_an_archive_that_was_edited_is_found(site: Site) -> None:
    upkeep_of(site)
    (path,) = archives(site, "readings")
    edit(path, 3, lambda data: data.replace(b'"size":', b'"size": '))
    report = site.verify()
    (found,) = report.wrong.first
    assert found.version == 3
    assert found.file == f"_archive/readings/{path.name}/{3:020d}.json"
    assert "its commit file is not the one that was signed" in found.what


@pytest.mark.parametrize("harm", ["gone", "cut", "a stranger", "beyond", "a lease"])
def test_archives_and_leases_that_are_not_as_maintenance_left_them_are_named(site: Site, harm: str) -> None:
    upkeep_of(site)
    (path,) = archives(site, "readings")
    if harm == "gone":
        path.unlink()
        expected, kind = "its commit file is", "wrong"
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-30])
        expected, kind = "couldn't read the archive", "wrong"
    elif harm == "a stranger":
        path.with_name("notes.txt").touch()
        expected, kind = "it is no archive of commits", "unclaimed"
    elif harm == "beyond":
        version = 1_000
        more = site.lake / archive.path_of("readings", version, version)
        more.write_bytes(archive.encode({version: b"{}"}))
        expected, kind = "which no commit has made", "wrong"
    else:
        (site.lake / "_lease" / "maintenance" / "mine").touch()
        expected, kind = "it is no lease", "unclaimed"
    report = site.verify()
    found = report.wrong if kind == "wrong" else report.unclaimed
    if harm == "gone":
        # As with any tool that trims for good: entries alone still verify the files, and say that commits are missing.
        assert report.notes.count > 0
        assert not report.is_ok(strict=True)
        return
    assert any(expected in each.what for each in found.first), named(report)


def test_a_commit_that_is_in_log_and_archive_is_what_was_signed_or_named(site: Site) -> None:
    upkeep_of(site)
    (path,) = archives(site, "readings")
    name = f"{2:020d}.json"
    with zipfile.ZipFile(path) as found:
        data = found.read(name)
    both = site.lake / "readings" / "_delta_log" / name
    both.write_bytes(data)
    # As a crash between writing the archive and deleting the commit leaves it.
    assert site.verify().is_ok(strict=True)
    both.write_bytes(data + b"\n")
    report = site.verify()
    assert report.is_ok(strict=False)
    assert "it was made after the version was trimmed" in report.unclaimed.first[0].what
    both.write_bytes(data)
    edit(path, 2, lambda data: data + b"\n")
    assert "its commit file is not the one that was signed" in site.verify().wrong.first[0].what


# ---------------------------------------------------------------------- the cursor


def test_maintenance_goes_no_further_than_the_ledger(site: Site) -> None:
    lake = lake_of(site)
    signed = cursor(lake, site.log)
    assert signed == {name: lake.table(name).refresh().version for name in tables.SPECS}
    with Lease(lake) as lease:
        upkeep.squeeze(lake, ("readings",), lease)
        before = {path for path, _ in lake.store.list("readings") if path.endswith(".parquet")}
        # The ledger has not signed the compaction: what it replaced is part of the last version that it knows.
        upkeep.sweep(lake, ("readings",), cursor(lake, site.log), lease)
        assert {path for path, _ in lake.store.list("readings") if path.endswith(".parquet")} == before
    site.sign()
    assert site.verify().is_ok(strict=True)


def test_a_ledger_that_is_missing_or_of_another_lake_is_refused(site: Site, signed: Site, tmp_path: Path) -> None:
    lake = lake_of(site)
    with pytest.raises(LedgerError, match=r"there is no log in .*--without-ledger"):
        cursor(lake, tmp_path / "nowhere")
    metadata = site.lake / "alarms" / "_delta_log" / f"{0:020d}.json"
    text = metadata.read_text()
    own = json.loads(next(line for line in text.splitlines() if '"metaData"' in line))["metaData"]["id"]
    metadata.write_text(text.replace(own, "11111111-2222-3333-4444-555555555555"))
    for each in (site.lake / "alarms" / "_delta_log").glob("*checkpoint*"):
        each.unlink()
    with pytest.raises(LedgerError, match="its last entry of alarms"):
        cursor(lake_of(site), site.log)


def test_a_new_ledger_begins_with_the_archive(site: Site) -> None:
    """Of a lake that was trimmed without one."""
    lake = lake_of(site)
    with Lease(lake) as lease:
        trim(lake, lease, tables.SPECS, signed=None, days=0, age_s_min=0, known_s=0)
    shutil.rmtree(site.log)
    site.place.kept.unlink()
    assert site.sign() > 0
    report = site.verify()
    assert report.is_ok(strict=True), named(report)


def test_a_row_is_proven_as_before_after_other_rows_have_expired(site: Site) -> None:
    vkey, asked = site.place.verifier_key(), asked_of(site, 100)
    before = evidence.verify(prove_row(lake_of(site), site.reader(), vkey, asked), vkey)
    lake = lake_of(site)
    # Of long ago: all rejected rows are too old to be kept for a day.
    limits = Limits(vacuum_days=0, log_days=0, expire_days={"rejected": 1})
    with Lease(lake) as lease:
        done = maintain(lake, lease, limits, signed=lambda: cursor(lake, site.log))
        site.sign()
        upkeep.sweep(lake, tuple(tables.SPECS), cursor(lake, site.log), lease)
    site.sign()
    assert done.expired[0].total > 0
    assert plant_rows(site, "rejected") == 0
    after = evidence.verify(prove_row(lake_of(site), site.reader(), vkey, asked), vkey)
    assert (after.row, after.batch, after.number) == (before.row, before.batch, before.number)
    report = site.verify()
    assert report.is_ok(strict=False), named(report)
    assert report.figures["batches expired"] == report.notes.count > 0
    operations = [entry.parse(each).operation for each in site.reader().entries(0, site.reader().size)]
    assert "EXPIRE" in operations
    assert examine(lake_of(site)).ok


def plant_rows(site: Site, table: str) -> int:
    return int(pl.scan_delta(str(site.lake / table)).select(pl.len()).collect().item())

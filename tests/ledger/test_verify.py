"""Whatever is done to a file of the lake is found and named; what a flow or maintenance does to it is not."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from alumicatalyst.lake import tables
from alumicatalyst.ledger import entry, verify_gather, verify_report

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.ledger.verify_report import Report
    from tests.ledger.site import Site

pytestmark = pytest.mark.timeout(240)

ROUNDS = 12


@pytest.fixture(autouse=True)
def _everything_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_report, "KEPT_MAX", 10_000)


def named(report: Report) -> str:
    kinds = (report.wrong, report.pending, report.unclaimed, report.notes)
    return "\n".join(each.text() for kind in kinds for each in kind.first)


def test_a_lake_as_the_flow_wrote_it_is_in_order(signed: Site) -> None:
    report = signed.verify(signed.place.kept)
    assert report.is_ok(strict=True), named(report)
    assert report.figures["commits"] == report.size == signed.reader().size
    assert report.figures["checkpoints"] >= 3
    assert report.figures["rows"] == sum(pl.read_delta(str(signed.lake / name)).height for name in tables.SPECS)


# ---------------------------------------------------------------------- tampering


@dataclass
class Harm:
    """One thing done to one file."""

    kind: str
    what: str
    paths: list[str]


def kinds_of(site: Site, top: str) -> dict[str, list[str]]:
    """Return the files of one folder of the lake by what they are."""
    kinds: dict[str, list[str]] = {}
    for path in sorted(site.lake.glob(f"{top}/**/*")):
        if path.is_file():
            name = path.name
            kind = "data" if top in tables.SPECS else top
            if path.parent.name == "_delta_log":
                kind = {".json": "commit", ".parquet": "checkpoint", "": "pointer"}[path.suffix]
            kinds.setdefault(kind, []).append(path.relative_to(site.lake).as_posix())
            assert name
    return kinds


WHATS = ["flip"] * 6 + ["truncate", "remove", "add", "swap"]


def harm(site: Site, rng: random.Random, kind: str, what: str, paths: list[str]) -> Harm:
    path = rng.choice(paths)
    file = site.lake / path
    if what == "swap" and len(paths) == 1:
        what = "flip"
    if what == "flip":
        data = bytearray(file.read_bytes())
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        file.write_bytes(data)
    elif what == "truncate":
        file.write_bytes(file.read_bytes()[: rng.randrange(file.stat().st_size)])
    elif what == "remove":
        file.unlink()
    elif what == "add":
        added = file.with_name(another_name(kind, paths))
        shutil.copy(file, added)
        return Harm(kind, what, [added.relative_to(site.lake).as_posix()])
    else:
        other = rng.choice([each for each in paths if each != path])
        one, two = file.read_bytes(), (site.lake / other).read_bytes()
        file.write_bytes(two)
        (site.lake / other).write_bytes(one)
        return Harm(kind, what, [path, other])
    return Harm(kind, what, [path])


def another_name(kind: str, paths: list[str]) -> str:
    name = max(paths).rpartition("/")[2]
    if kind == "data":
        return f"part-{'0' * 32}.parquet"
    if kind in {"commit", "checkpoint", "_state"}:
        number, dot, rest = name.partition(".")
        return f"{int(number) + 1:020d}{dot}{rest}"
    return "0" * 64 + ".json" if kind == "_dictionaries" else name + "2"


UNSEEN = {
    ("checkpoint", "flip"),
    ("checkpoint", "remove"),
    ("pointer", "flip"),
    ("_state", "remove"),
    ("_state", "add"),
}
"""Where something may change that no reader of the lake is given: bytes of a checkpoint or of the pointer to it that
say nothing, an older checkpoint, and states, which nothing names and which are only made to read less again. An added
state is one that the flow might have put, if it is intact; here it never is."""


@pytest.mark.slow
def test_i7_a_change_of_any_file_of_the_lake_is_found_and_named(signed: Site, tmp_path: Path) -> None:
    rng = random.Random(11)
    views = signed.views()
    done: set[tuple[str, str]] = set()
    for number in range(ROUNDS):
        site = signed.copy(tmp_path / str(number))
        harms = []
        # One in each table, so that none hides another.
        for at, top in enumerate([*tables.SPECS, "_dictionaries", "_state"]):
            kinds = kinds_of(site, top)
            kind = rng.choice(sorted(kinds))
            # In turn, so that each is met whatever files this flow has made; a swap of states always finds two.
            what = WHATS[(number + at) % len(WHATS)]
            harms.append(harm(site, rng, kind, what, kinds[kind]))
        report = site.verify()
        assert report.wrong.count
        assert report.wrong.first[0].text()
        text = named(report)
        for each in harms:
            done.add((each.kind, each.what))
            found = [path in text for path in each.paths]
            if not any(found):
                assert (each.kind, each.what) in UNSEEN, (each, text)
                if each.kind != "_state":
                    top = each.paths[0].partition("/")[0]
                    assert site._view(top) == views[top], each
        shutil.rmtree(site.folder)
    kinds_done = {kind for kind, _ in done}
    assert kinds_done == {"commit", "checkpoint", "pointer", "data", "_dictionaries", "_state"}
    assert {what for _, what in done} == {"flip", "truncate", "remove", "add", "swap"}


def test_i7_every_kind_of_change_of_what_was_signed_is_wrong_without_being_strict(site: Site) -> None:
    commits = kinds_of(site, "readings")["commit"]
    data = kinds_of(site, "readings")["data"]
    (site.lake / data[1]).write_bytes((site.lake / data[1]).read_bytes()[:-1] + b"\0")
    (site.lake / data[3]).unlink()
    (site.lake / commits[-2]).write_bytes((site.lake / commits[-2]).read_bytes().replace(b'"size"', b'"sizE"'))
    wrong = [each for each in site.verify().wrong.first if each.file in {data[1], data[3], commits[-2]}]
    assert {each.file: each.what for each in wrong} == {
        data[1]: "it is not the file that was signed: its digest is another",
        data[3]: "it is missing",
        commits[-2]: "its commit file is not the one that was signed",
    }
    (first,) = [each for each in wrong if each.file == data[1]]
    assert first.table == "readings"
    assert first.version is not None
    assert first.rows is not None
    assert first.rows[0] == 0


def test_a_state_or_dictionary_that_was_changed_is_named(site: Site) -> None:
    (state, *_), (dictionary,) = kinds_of(site, "_state")["_state"], kinds_of(site, "_dictionaries")["_dictionaries"]
    for path in (state, dictionary):
        (site.lake / path).write_bytes(b"{}")
    (site.lake / "_state" / "stray").touch()
    (site.lake / "stray").touch()
    report = site.verify()
    assert {each.file for each in report.wrong.first} == {state, dictionary}
    assert {each.file for each in report.unclaimed.first} == {"_state/stray", "stray"}
    (site.lake / dictionary).unlink()
    assert f"{dictionary}: it is missing" in named(site.verify())


# ---------------------------------------------------------------------- maintenance and other tools


def compact(site: Site, table: str, *, vacuum: bool = True) -> DeltaTable:
    handle = site.delta(table)
    handle.optimize.compact()
    if vacuum:
        handle.vacuum(0, enforce_retention_duration=False, dry_run=False)
    return handle


@pytest.mark.parametrize("vacuum", [False, True])
def test_rows_are_verified_wherever_maintenance_has_moved_them(
    site: Site, vacuum: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_gather, "ROWS_AT_ONCE_MAX", 40)
    for table in ("readings", "windows", "batches", "journal"):
        compact(site, table, vacuum=vacuum)
    report = site.verify()
    assert report.is_ok(strict=False), named(report)
    assert report.pending.count >= 4
    assert report.figures["batches moved"] > 40
    # Once more, over what was compacted, sorted another way, and behind a checkpoint.
    site.sign()
    handle = site.delta("readings")
    handle.optimize.z_order(["event_time", "value"])
    handle.create_checkpoint()
    site.sign()
    report = site.verify()
    assert report.is_ok(strict=True), named(report)


def rewrite(site: Site, table: str, change: pl.Expr | None, *, where: pl.Expr) -> None:
    """Rewrite the rows of a table as a tool would that says that it only rearranges them."""
    handle = site.delta(table)
    rows = pl.read_delta(str(site.lake / table))
    rows = rows.with_columns(change) if change is not None else rows.filter(~where)
    write_deltalake(handle, rows.to_arrow(), mode="overwrite")


def test_a_row_that_was_changed_on_the_way_to_another_file_is_wrong(site: Site) -> None:
    # Some are so large that one more is the same number.
    rows = pl.read_delta(str(site.lake / "readings")).filter(pl.col("value") + 1 != pl.col("value"))
    victim = rows.row(rows.height // 2, named=True)
    here = (pl.col("_batch") == victim["_batch"]) & (pl.col("_row") == victim["_row"])
    rewrite(site, "readings", pl.when(here).then(pl.col("value") + 1).otherwise("value").alias("value"), where=here)
    site.sign()
    (wrong,) = site.verify().wrong.first
    assert wrong.table == "readings"
    assert "its rows are not those that were signed" in wrong.what
    assert victim["_batch"].hex() in wrong.what


def test_a_row_that_is_gone_double_or_a_stranger_is_wrong(site: Site) -> None:
    rows = pl.read_delta(str(site.lake / "readings"))
    victim = rows.row(rows.height // 2, named=True)
    here = f"sequence_number = {victim['sequence_number']} AND item = {victim['item']}"
    site.delta("readings").delete(f"{here} AND partition = '{victim['partition']}'")
    alarm = pl.read_delta(str(site.lake / "windows")).head(1)
    write_deltalake(site.delta("windows"), alarm.to_arrow(), mode="append")
    stranger = pl.read_delta(str(site.lake / "rejected")).head(1).with_columns(_batch=pl.lit(bytes(16)))
    write_deltalake(site.delta("rejected"), stranger.to_arrow(), mode="append")
    for _ in range(2):
        wrong = {each.table: each for each in site.verify().wrong.first}
        assert wrong.keys() == {"readings", "windows", "rejected"}
        assert "rows are gone" in wrong["readings"].what
        assert victim["_batch"].hex() in wrong["readings"].what
        assert "1 of its rows are of no batch that was signed" in wrong["windows"].what
        assert "1 of its rows are of no batch that was signed" in wrong["rejected"].what
        # Signing it does not make it right.
        site.sign()


def test_batches_that_a_commit_has_removed_are_noted_and_not_wrong(site: Site) -> None:
    handle = site.delta("alarms")
    removed = handle.delete()["num_removed_files"]
    handle.vacuum(0, enforce_retention_duration=False, dry_run=False)
    site.sign()
    report = site.verify()
    assert report.is_ok(strict=False), named(report)
    assert report.figures["batches removed"] == report.notes.count == removed > 0
    assert "a commit has taken them out" in report.notes.first[0].what
    assert report.notes.first[0].file.startswith("alarms/date=")


def test_commits_newer_than_the_ledger_and_files_that_nothing_names_are_named(site: Site) -> None:
    site.delta("readings").alter.set_table_properties({"delta.logRetentionDuration": "interval 30 days"})
    (site.lake / "readings" / "part-left-by-a-crash.parquet").touch()
    report = site.verify()
    assert report.is_ok(strict=False), named(report)
    assert not report.is_ok(strict=True)
    assert [each.table for each in report.pending.first] == ["readings"]
    assert [each.file for each in report.unclaimed.first] == ["readings/part-left-by-a-crash.parquet"]


def test_commits_that_were_trimmed_behind_a_checkpoint_are_noted(site: Site) -> None:
    log = site.lake / "batches" / "_delta_log"
    last = json.loads((log / "_last_checkpoint").read_text())["version"]
    # The checkpoint may be of the flow's last commit: one comes behind it.
    site.delta("batches").alter.set_table_properties({"delta.logRetentionDuration": "interval 30 days"})
    site.sign()
    for version in range(last):
        (log / f"{version:020d}.json").unlink()
    for path in log.glob("*.checkpoint.parquet"):
        if int(path.name.partition(".")[0]) < last:
            path.unlink()
    report = site.verify()
    assert report.is_ok(strict=False), named(report)
    assert report.notes.count == last
    assert "a checkpoint stands for it" in report.notes.first[0].what
    (log / f"{last + 1:020d}.json").unlink()
    report = site.verify()
    assert f"batches@{last + 1}" in named(report)
    assert report.wrong.count


def test_a_commit_that_was_trimmed_and_has_a_tree_for_its_files_is_wrong(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "KIND_BYTES_MAX", 100)
    for path in (site.log, site.place.key.parent):
        shutil.rmtree(path)
    site.sign()
    log = site.lake / "batches" / "_delta_log"
    last = json.loads((log / "_last_checkpoint").read_text())["version"]
    for version in range(last):
        (log / f"{version:020d}.json").unlink()
    for path in log.glob("*.checkpoint.parquet"):
        if int(path.name.partition(".")[0]) < last:
            path.unlink()
    assert "only it can tell the files that its entry has as a tree; restore it" in site.verify().wrong.first[0].what


def test_files_that_other_readers_may_go_by_are_named(site: Site) -> None:
    log = site.lake / "readings" / "_delta_log"
    for name in (
        f"{0:020d}.{3:020d}.compacted.json",
        f"{3:020d}.checkpoint.{1:010d}.{1:010d}.parquet",
        f"{3:020d}.crc",
    ):
        (log / name).write_text("{}")
    report = site.verify()
    assert len(report.unclaimed.first) == 3
    assert all("other readers than ours may go by it" in each.what for each in report.unclaimed.first)
    assert not report.is_ok(strict=True)


def test_a_table_that_was_replaced_is_wrong(site: Site) -> None:
    rows = pl.read_delta(str(site.lake / "alarms"))
    shutil.rmtree(site.lake / "alarms")
    write_deltalake(str(site.lake / "alarms"), rows.to_arrow(), partition_by=["date"])
    report = site.verify()
    first = report.wrong.first[0]
    assert (first.table, first.version) == ("alarms", 0)
    assert "not the one that was signed" in first.what
    shutil.rmtree(site.lake / "alarms")
    assert "alarms@0 alarms/_delta_log/00000000000000000000.json: its commit file is missing" in named(site.verify())

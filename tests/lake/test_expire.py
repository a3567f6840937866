"""Days that are not kept go as a whole, counted by the commit that takes them out, and nothing else goes."""

from __future__ import annotations

import json
import shutil
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from deltalake import DeltaTable

from alumicatalyst.cli.main import main
from alumicatalyst.errors import ClaimLost, InputError
from alumicatalyst.lake import Lake, account
from alumicatalyst.lake.commit import Plan, append
from alumicatalyst.lake.doctor import examine
from alumicatalyst.lake.table import CLAIM_PREFIX, Table
from alumicatalyst.maintenance import expire
from alumicatalyst.maintenance.lease import WHAT, Lease
from tests.lake import plant
from tests.lake.faults import Faults, Killed

if TYPE_CHECKING:
    from pathlib import Path

DAYS = {"readings": 1, "rejected": 1, "windows": 1}
TODAY = date(2026, 11, 23)
"""The plant's first ten envelopes are of the 21st, all others of the 22nd."""
OLD = pl.col("date") < date(2026, 11, 22)


def expired(lake: Lake, days: dict[str, int] | None = None, **options: Any) -> dict[str, expire.Expired]:
    # What died with its lease shall not be waited for.
    with Lease(lake, expires_s=0) as lease:
        done = expire.expire(lake, days=DAYS if days is None else days, lease=lease, today=TODAY, **options)
    return {each.table: each for each in done}


def rows(lake: Lake) -> dict[str, list[dict[str, Any]]]:
    return {name: plant.scan(lake, name).sort("_batch", "_row").to_dicts() for name in (*plant.TABLES, "batches")}


def kept(lake: Lake) -> dict[str, list[dict[str, Any]]]:
    """Return what must be left of every table."""
    left = {name: plant.scan(lake, name).sort("_batch", "_row") for name in (*plant.TABLES, "batches")}
    return {name: (found.filter(~OLD) if name in DAYS else found).to_dicts() for name, found in left.items()}


def other(lake: Lake) -> Lake:
    return Lake.open(lake.store.root)


def test_i1_days_that_are_not_kept_go_and_stay_accounted_for(lake: Lake) -> None:
    plant.run(lake, 60)
    plant.run(lake, 40, partition="telemetry/1/1")
    before = {name: plant.scan(lake, name).filter(OLD) for name in DAYS}
    left = kept(lake)
    done = expired(lake)
    assert rows(lake) == left
    for name, each in done.items():
        assert (each.days, each.kept, each.total) == (["2026-11-21"], [], before[name].height)
        assert each.files == before[name].select("_batch").n_unique()
    counts = before["readings"].group_by("partition", "outcome").len().rows()
    assert account.expired(lake.table("readings").refresh().transactions) == {(p, what): n for p, what, n in counts}
    report = examine(other(lake))
    assert report.ok, [check for check in report.checks if check.wrong]
    # Once is enough, and the flow goes on.
    assert {name: each.total for name, each in expired(other(lake)).items()} == dict.fromkeys(DAYS, 0)
    plant.run(other(lake), 80)
    assert examine(other(lake)).ok


def test_the_commit_says_what_it_took_out_and_why(lake: Lake) -> None:
    plant.run(lake, 30)
    done = expired(lake)["readings"]
    last = DeltaTable(f"{lake.store.root}/readings").history(1)[0]
    assert last["operation"] == "EXPIRE"
    assert last["version"] == done.version
    told = last["expired"] if isinstance(last["expired"], dict) else json.loads(last["expired"])
    assert told == {
        "table": "readings",
        "before": "2026-11-22",
        "days": ["2026-11-21"],
        "rows": {plant.PARTITION: {"late": 1, "windowed": done.total - 1}},
        "unsealed": 0,
    }
    path = f"readings/_delta_log/{done.version:020d}.json"
    removed = [json.loads(line)["remove"] for line in lake.store.get(path).splitlines() if b'"remove"' in line]
    assert len(removed) == done.files
    assert all(each["dataChange"] for each in removed)


def test_a_dry_run_and_no_days_change_nothing(lake: Lake) -> None:
    plant.run(lake, 30)
    before = {name: lake.table(name).refresh().version for name in DAYS}
    assert expired(lake, dry_run=True)["readings"].total > 0
    assert expired(lake, {}) == expired(lake, dict.fromkeys(DAYS, 0)) == {}
    assert expired(lake, dict.fromkeys(DAYS, 2))["readings"].total == 0
    assert {name: lake.table(name).refresh().version for name in DAYS} == before


@pytest.mark.parametrize("days", [{"alarms": 1}, {"batches": 9}, {"journal": 9}, {"readings": -1}])
def test_what_is_kept_for_ever_never_expires(lake: Lake, days: dict[str, int]) -> None:
    with pytest.raises(InputError, match="only readings, rejected, windows expire"):
        expired(lake, days)


def test_a_day_with_rows_that_are_not_sealed_stays(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    Faults(monkeypatch, lambda _, step: "killed before" if step == "commit batches" else None)
    with pytest.raises(Killed):
        plant.run(lake, 20, flush_every=15)
    done = expired(other(lake))["readings"]
    assert (done.total, done.days, done.kept) == (0, [], ["2026-11-21"])
    monkeypatch.undo()
    monkeypatch.setattr("alumicatalyst._core.state_info", plant.state_info)
    plant.run(other(lake), 30)
    assert expired(other(lake))["readings"].total > 0
    assert examine(other(lake)).ok


def test_rows_of_a_loss_that_was_accepted_go_uncounted(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.run(lake, 3, flush_every=4)
    Faults(monkeypatch, lambda _, step: "killed before" if step == "commit batches" else None)
    with pytest.raises(Killed):
        plant.run(lake, 9, flush_every=6)
    monkeypatch.undo()
    monkeypatch.setattr("alumicatalyst._core.state_info", plant.state_info)
    shutil.rmtree(tmp_path / "lake" / "_state", ignore_errors=True)
    again = other(lake)
    again.resume(plant.PARTITION, dictionary=plant.FakeDictionary(), first_sequence=12, accept_state_loss=True)
    stored = plant.scan(again, "readings")
    unsealed = stored.filter(pl.col("sequence_number") > 3).height
    done = expired(again)["readings"]
    assert unsealed > 0
    assert (done.total, done.unsealed) == (stored.height, unsealed)
    report = examine(other(again))
    assert report.ok, [check for check in report.checks if check.wrong]


@pytest.mark.parametrize("fault", ["failed", "failed but persisted", "killed before", "killed after"])
@pytest.mark.parametrize("at", ["readings", "windows"])
def test_i1_a_crash_leaves_a_table_as_it_was_or_with_all_of_it_done(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, fault: str, at: str
) -> None:
    plant.run(lake, 40)
    left, commit = kept(lake), Table.commit
    met: list[str] = []

    def faulty(table: Table, snapshot: Any, actions: Any, *rest: Any) -> None:
        if met or table.name != at:
            commit(table, snapshot, actions, *rest)
            return
        met.append(fault)
        if fault in {"failed but persisted", "killed after"}:
            commit(table, snapshot, actions, *rest)
        raise Killed if fault.startswith("killed") else OSError("the answer was lost")

    monkeypatch.setattr(Table, "commit", faulty)
    if fault.startswith("killed"):
        with pytest.raises(Killed):
            expired(lake)
        assert examine(other(lake)).ok
    expired(other(lake) if fault.startswith("killed") else lake)
    assert met == [fault]
    assert rows(lake) == left
    report = examine(other(lake))
    assert report.ok, [check for check in report.checks if check.wrong]


def test_files_that_were_moved_meanwhile_are_counted_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.run(lake, 40, flush_every=4)
    left, look = kept(lake), expire._look
    moves: list[Any] = []

    def moved(*arguments: Any) -> Any:
        found = look(*arguments)
        if not moves:
            moves.append(DeltaTable(f"{lake.store.root}/readings").optimize.compact())
        return found

    monkeypatch.setattr(expire, "_look", moved)
    done = expired(lake, {"readings": 1})["readings"]
    assert moves
    assert done.files == 1
    assert rows(lake)["readings"] == left["readings"]
    assert examine(other(lake)).ok


def test_two_that_expire_at_once_count_each_row_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.run(lake, 40)
    look = expire._look
    others: list[Any] = []

    def overtaken(*arguments: Any) -> Any:
        found = look(*arguments)
        if not others:
            # Both have the lease as far as they know, since nothing rests on it.
            others.append(None)
            others[:] = expire.expire(other(lake), days={"readings": 1}, lease=lease, today=TODAY)
        return found

    monkeypatch.setattr(expire, "_look", overtaken)
    with Lease(lake) as lease:
        (done,) = expire.expire(lake, days={"readings": 1}, lease=lease, today=TODAY)
    assert done.total == others[0].total > 0
    assert examine(other(lake)).ok


def test_whoever_has_lost_the_lease_expires_nothing(lake: Lake) -> None:
    plant.run(lake, 40)
    with Lease(lake) as lease:
        append(lake.table("readings"), {}, lambda _: Plan({f"{CLAIM_PREFIX}{WHAT}": lease.number + 1}), lake.retry)
        before = rows(lake)
        with pytest.raises(ClaimLost):
            expire.expire(lake, days={"readings": 1}, lease=lease, today=TODAY)
    assert rows(lake) == before


def test_the_command_lets_days_expire_and_tells_which(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    plant.run(lake, 40)

    def command(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["lake", "expire", "--lake", lake.store.root, *arguments])
        assert ended.value.code == 0
        return capsys.readouterr().out

    assert "There was nothing to do." in command()
    before = lake.table("readings").refresh().version
    told = json.loads(command("--readings", "36500", "--windows", "0", "--dry-run", "--json"))
    assert [(each["table"], each["total"]) for each in told["expired"]] == [("readings", 0)]
    assert lake.table("readings").refresh().version == before

"""Whatever the doctor claims to find is found: every question has a damage here, and a healthy lake has no finding."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from alumicatalyst import _core
from alumicatalyst.cli.main import main
from alumicatalyst.errors import LedgerError
from alumicatalyst.lake import Lake, log, tables
from alumicatalyst.lake.commit import Plan, append
from alumicatalyst.lake.doctor import checks as doctor_checks
from alumicatalyst.lake.doctor import examine
from alumicatalyst.lake.doctor import logs as doctor_log
from alumicatalyst.lake.record import dictionary_path
from alumicatalyst.lake.retry import Retry
from alumicatalyst.lake.store import LocalStore
from alumicatalyst.lake.table import CLAIM_PREFIX
from alumicatalyst.maintenance import expire
from alumicatalyst.maintenance.compact import compact
from alumicatalyst.maintenance.lease import Lease
from alumicatalyst.maintenance.trim import trim
from alumicatalyst.maintenance.vacuum import vacuum
from tests.lake import plant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from alumicatalyst.lake.doctor import Report
    from alumicatalyst.lake.doctor.checks import Check

UNTIL = 160
OLD_S = 2 * 86_400
Action = dict[str, Any]


@dataclass
class Patient:
    """A lake that is damaged, and what the doctor is told of its ledger."""

    root: Path
    signed: Callable[[], dict[str, int]] | None = None

    @property
    def lake(self) -> Lake:
        return Lake(LocalStore(self.root), Retry())

    def examine(self) -> Report:
        return examine(self.lake, self.signed)

    def delta(self, name: str) -> DeltaTable:
        return DeltaTable(str(self.root / name))

    def commits(self, name: str) -> list[Path]:
        return sorted((self.root / name / log.FOLDER).glob("0*[0-9].json"))

    def actions(self, name: str, kind: str) -> list[Action]:
        lines = [json.loads(line) for path in self.commits(name) for line in path.read_text().splitlines()]
        return [line[kind] for line in lines if kind in line]

    def commit(self, name: str, *actions: Action) -> None:
        """Commit what any program that may write to the lake could."""
        path = self.root / log.commit_path(name, int(self.commits(name)[-1].stem) + 1)
        path.write_bytes(log.encode([log.commit_info("WRITE", {}), *actions]))

    def change(self, name: str, **changed: Any) -> None:
        """Commit other metadata."""
        told = self.actions(name, "metaData")[-1]
        self.commit(name, {"metaData": told | changed})

    def checkpoints(self, name: str) -> list[Path]:
        return sorted((self.root / name / log.FOLDER).glob("*.checkpoint.parquet"))

    def files(self, name: str) -> list[Path]:
        return sorted((self.root / name).glob("**/part-*.parquet"))

    def add_again(self, name: str, rows: pl.DataFrame) -> None:
        write_deltalake(self.delta(name), rows.to_arrow(), mode="append")

    def rows(self, name: str) -> pl.DataFrame:
        return pl.read_delta(str(self.root / name))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a lake with a few checkpoints, which nobody may change."""
    root = tmp_path_factory.mktemp("healthy") / "lake"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_core, "state_info", plant.state_info)
        plant.run(Lake.open(str(root)), UNTIL, flush_every=8)
    return root


@pytest.fixture
def patient(healthy: Path, tmp_path: Path) -> Patient:
    """Return a lake of one's own."""
    shutil.copytree(healthy, tmp_path / "lake")
    return Patient(tmp_path / "lake")


def found(report: Report) -> dict[str, Check]:
    return {check.key: check for check in report.checks if check.wrong}


# ---------------------------------------------------------------------- one damage for each question


def lose_a_table(patient: Patient) -> None:
    shutil.rmtree(patient.root / "alarms")


def lose_a_commit(patient: Patient) -> None:
    patient.commits("readings")[-2].unlink()


def cut_a_commit(patient: Patient) -> None:
    path = patient.commits("readings")[-2]
    path.write_bytes(path.read_bytes()[:-20])


def change_a_checkpoint(patient: Patient) -> None:
    path = patient.checkpoints("readings")[-1]
    told = pq.read_table(path)
    pq.write_table(told.slice(0, told.num_rows - 1), path)


def cut_a_checkpoint(patient: Patient) -> None:
    path = patient.checkpoints("readings")[-1]
    path.write_bytes(path.read_bytes()[:-9])


def point_nowhere(patient: Patient) -> None:
    (patient.root / "readings" / log.FOLDER / log.LAST_CHECKPOINT).write_text('{"version":7,"size":1}')


def garble_the_pointer(patient: Patient) -> None:
    (patient.root / "readings" / log.FOLDER / log.LAST_CHECKPOINT).write_text("{")


def name_what_was_removed(patient: Patient) -> None:
    add = patient.actions("readings", "add")[-1]
    patient.commit("readings", log.removal(add, data_change=True))
    patient.commit("readings", {"add": add})


def ask_for_a_newer_reader(patient: Patient) -> None:
    patient.commit("readings", {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}})


def hide_rows(patient: Patient) -> None:
    vector = {"storageType": "i", "pathOrInlineDv": "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L"}
    add = patient.actions("rejected", "add")[-1]
    patient.commit("rejected", {"add": add | {"deletionVector": vector | {"sizeInBytes": 40, "cardinality": 1}}})


def unprotect_the_journal(patient: Patient) -> None:
    told = patient.actions("journal", "metaData")[-1]["configuration"]
    patient.change("journal", configuration=told | {"delta.appendOnly": "false"})


def partition_by_nothing(patient: Patient) -> None:
    patient.change("alarms", partitionColumns=[])


def rename_a_column(patient: Patient) -> None:
    told = patient.actions("windows", "metaData")[-1]["schemaString"]
    patient.change("windows", schemaString=told.replace('"mean"', '"average"'))


def be_of_an_older_version(patient: Patient) -> None:
    told = json.loads(patient.actions("windows", "metaData")[-1]["schemaString"])
    told["fields"] = [each for each in told["fields"] if each["name"] != "score_max"]
    patient.change("windows", schemaString=json.dumps(told))


def lose_the_pointer(patient: Patient) -> None:
    (patient.root / "readings" / log.FOLDER / log.LAST_CHECKPOINT).unlink()


def lose_every_checkpoint(patient: Patient) -> None:
    for path in patient.checkpoints("readings"):
        path.unlink()
    (patient.root / "readings" / log.FOLDER / log.LAST_CHECKPOINT).unlink()


def clean_up_the_log(patient: Patient) -> None:
    for path in patient.commits("readings")[:3]:
        path.unlink()


def lose_a_file(patient: Patient) -> None:
    patient.files("readings")[3].unlink()


def cut_a_file(patient: Patient) -> None:
    path = patient.files("readings")[3]
    path.write_bytes(path.read_bytes()[:-1])


def garble_a_footer(patient: Patient) -> None:
    path = patient.files("readings")[3]
    path.write_bytes(path.read_bytes()[:-12] + bytes(12))


def garble_a_page(patient: Patient) -> None:
    path = patient.files("readings")[3]
    data = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(1)
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(bytes(data))


def claim_other_rows(patient: Patient) -> None:
    add = patient.actions("readings", "add")[-1]
    told = json.loads(add["stats"])
    patient.commit("readings", {"add": add | {"stats": json.dumps(told | {"numRecords": told["numRecords"] + 1})}})


def claim_other_bounds(patient: Patient) -> None:
    add = patient.actions("readings", "add")[-1]
    told = json.loads(add["stats"])
    told["maxValues"]["sequence_number"] -= 1
    patient.commit("readings", {"add": add | {"stats": json.dumps(told)}})


def have_a_file_twice(patient: Patient) -> None:
    add = patient.actions("alarms", "add")[-1]
    copy = add["path"].replace("part-", "part-0")
    shutil.copy(patient.root / "alarms" / add["path"], patient.root / "alarms" / copy)
    patient.commit("alarms", {"add": add | {"path": copy}})


def misplace_rows(patient: Patient) -> None:
    add = patient.actions("rejected", "add")[-1]
    moved = add["path"].replace("2026-11-22", "2026-11-20")
    (patient.root / "rejected" / moved).parent.mkdir()
    (patient.root / "rejected" / add["path"]).rename(patient.root / "rejected" / moved)
    moved_add = add | {"path": moved, "partitionValues": {"date": "2026-11-20"}}
    patient.commit("rejected", log.removal(add, data_change=False), {"add": moved_add})


def leave_an_orphan(patient: Patient) -> None:
    leave(patient.root / "readings" / "date=2026-11-22" / "part-00.parquet")


def leave_a_temporary(patient: Patient) -> None:
    leave(patient.root / "readings" / "date=2026-11-22" / "part-00.parquet.0123.tmp")


def leave(path: Path) -> None:
    path.write_bytes(b"PAR1")
    os.utime(path, (time.time() - OLD_S, time.time() - OLD_S))


def have_small_files(patient: Patient) -> None:
    # The plant's days are over by the clock of whoever runs this, or there are enough of them.
    assert len(patient.files("readings")) > 16


def put_a_stranger(patient: Patient) -> None:
    (patient.root / "notes.txt").write_text("mine")


def lose_rows(patient: Patient) -> None:
    patient.delta("rejected").delete("sequence_number = 3")


def change_a_sum(patient: Patient) -> None:
    row = patient.rows("batches").filter(pl.col("first_sequence") == UNTIL)
    patient.delta("batches").delete(f"first_sequence = {UNTIL}")
    patient.add_again("batches", row.with_columns(rows_total=pl.col("rows_total") + 1))


def seal_twice(patient: Patient) -> None:
    patient.add_again("batches", patient.rows("batches").sort("first_sequence")[1:2])


def lose_a_seal(patient: Patient) -> None:
    patient.delta("batches").delete("first_sequence = 16")


def double(name: str) -> Callable[[Patient], None]:
    def stored_again(patient: Patient) -> None:
        patient.add_again(name, patient.rows(name).head(1))

    return stored_again


def write_past_the_mark(patient: Patient) -> None:
    row = patient.rows("rejected").head(1)
    patient.add_again("rejected", row.with_columns(sequence_number=pl.lit(1_000, pl.Int64)))


def claim_out_of_order(patient: Patient) -> None:
    app = f"{CLAIM_PREFIX}{plant.PARTITION}"
    append(patient.lake.table("batches"), {}, lambda _: Plan({app: 9}), Retry())


def have_a_state_ahead(patient: Patient) -> None:
    (patient.root / "_state" / plant.PARTITION / f"{999:020d}").write_bytes(plant.Operator(last=999).snapshot())


def garble_a_state(patient: Patient) -> None:
    min((patient.root / "_state" / plant.PARTITION).iterdir()).write_bytes(b"{")


def lose_the_states(patient: Patient) -> None:
    shutil.rmtree(patient.root / "_state")


def keep_too_many_states(patient: Patient) -> None:
    for last in (4, 14):
        (patient.root / "_state" / plant.PARTITION / f"{last:020d}").write_bytes(plant.Operator(last=last).snapshot())


def garble_a_dictionary(patient: Patient) -> None:
    next((patient.root / "_dictionaries").iterdir()).write_bytes(b"{}")


def lose_a_dictionary(patient: Patient) -> None:
    shutil.rmtree(patient.root / "_dictionaries")


def be_of_another_ledger(patient: Patient) -> None:
    def refused() -> dict[str, int]:
        raise LedgerError("couldn't go by the ledger: it is not of this lake's table")

    patient.signed = refused


def have_an_idle_ledger(patient: Patient) -> None:
    path = patient.commits("readings")[5]
    lines = path.read_text().splitlines()
    told = json.loads(lines[0])
    told["commitInfo"]["timestamp"] -= OLD_S * 1_000
    path.write_text("\n".join([json.dumps(told), *lines[1:], ""]))
    patient.signed = lambda: {name: 4 if name == "readings" else 10**9 for name in plant.TABLES}


DAMAGES: list[tuple[str, Callable[[Patient], None]]] = [
    ("tables", lose_a_table),
    ("commits", lose_a_commit),
    ("commits", cut_a_commit),
    ("checkpoint", change_a_checkpoint),
    ("checkpoint", cut_a_checkpoint),
    ("pointer", point_nowhere),
    ("pointer", garble_the_pointer),
    ("named-once", name_what_was_removed),
    ("protocol", ask_for_a_newer_reader),
    ("protocol", hide_rows),
    ("properties", unprotect_the_journal),
    ("properties", partition_by_nothing),
    ("schema", rename_a_column),
    ("schema-old", be_of_an_older_version),
    ("pointer-there", lose_the_pointer),
    ("log-tail", lose_every_checkpoint),
    ("log-length", lambda _: None),
    ("log-old", clean_up_the_log),
    ("files-there", lose_a_file),
    ("files-there", cut_a_file),
    ("files-readable", garble_a_footer),
    ("files-readable", garble_a_page),
    ("files-claims", claim_other_rows),
    ("files-claims", claim_other_bounds),
    ("files-once", have_a_file_twice),
    ("dates", misplace_rows),
    ("orphans", leave_an_orphan),
    ("temporaries", leave_a_temporary),
    ("small-files", have_small_files),
    ("strays", put_a_stranger),
    ("accounting", lose_rows),
    ("sums", change_a_sum),
    ("disjoint", seal_twice),
    ("continuous", lose_a_seal),
    ("reading-keys", double("readings")),
    ("window-keys", double("windows")),
    ("alarm-keys", double("alarms")),
    ("marks", write_past_the_mark),
    ("claims", claim_out_of_order),
    ("journals", double("journal")),
    ("states-ahead", have_a_state_ahead),
    ("states-intact", garble_a_state),
    ("states-there", lose_the_states),
    ("states-few", keep_too_many_states),
    ("dictionaries", garble_a_dictionary),
    ("dictionaries", lose_a_dictionary),
    ("ledger", be_of_another_ledger),
    ("ledger-behind", have_an_idle_ledger),
]


def test_every_question_of_the_doctor_has_a_damage_here() -> None:
    assert {key for key, _ in DAMAGES} == set(doctor_checks.QUESTIONS)


def test_a_healthy_lake_has_no_finding_but_that_its_files_are_small(patient: Patient) -> None:
    patient.signed = lambda: {name: patient.lake.table(name).refresh().version for name in tables.SPECS}
    report = patient.examine()
    assert found(report).keys() <= {"small-files"}
    assert report.ok
    assert [check.key for check in report.checks if check.wrong is None] == []


def test_a_lake_that_is_looked_after_has_no_finding(patient: Patient) -> None:
    lake = Lake.open(str(patient.root))
    with Lease(lake) as lease:
        compact(lake, lease, tables.SPECS, files_min=2)
        expire.expire(lake, days={"readings": 1, "windows": 1}, lease=lease, today=date(2026, 11, 23))
        compact(lake, lease, tables.SPECS, files_min=2)
        vacuum(lake, lease, tables.SPECS, signed=None, days=0)
        trim(lake, lease, tables.SPECS, signed=None, days=0)
    plant.run(Lake.open(str(patient.root)), UNTIL + 20)
    report = patient.examine()
    assert report.ok, found(report)
    assert found(report).keys() <= {"small-files"}
    (partition,) = report.partitions
    assert partition["expired"]["windowed"] > 0
    assert partition["mark"] == partition["marks"]["batches"] == UNTIL + 20
    assert partition["claims"] == dict.fromkeys(tables.SPECS, 2)
    assert [each["last"] for each in partition["dictionaries"]] == [UNTIL + 20]


def test_what_the_doctor_shows_of_a_partition_are_its_dictionaries_and_gaps(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path / "lake"))
    resume = lake.resume(plant.PARTITION, dictionary=plant.FakeDictionary(), first_sequence=0, contiguous=False)
    operator, sink = plant.Operator(step=10), plant.sink_of(lake)
    for version, first in (("1", 0), ("2", 30), ("1", 60)):
        operator.dictionary = plant.FakeDictionary(version)
        path = dictionary_path(operator.dictionary.sha256)
        lake.store.create_if_absent(path, operator.dictionary.to_json().encode())
        sink.write(plant.item(resume, operator.take(first, first + 20)))
        sink.flush()
    (partition,) = examine(lake).partitions
    assert [(each["version"], each["first"], each["last"]) for each in partition["dictionaries"]] == [
        ("1", 0, 20),
        ("2", 30, 50),
        ("1", 60, 80),
    ]
    assert (partition["gaps"], partition["gaps_first"]) == (2, [[20, 30], [50, 60]])


def test_the_command_says_what_to_do_and_advice_ends_well(
    patient: Patient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(patient.root.parent)
    leave_an_orphan(patient)
    arguments = ["lake", "doctor", "--lake", str(patient.root)]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "do: run `alumicatalyst lake vacuum`" in out
    assert "marks: readings" in out
    ask_for_a_newer_reader(patient)
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert ended.value.code == 1
    assert {each["key"] for each in told["checks"] if each["wrong"] and not each["advice"]} == {"protocol"}
    assert {each["key"] for each in told["checks"]} == set(doctor_checks.QUESTIONS)


@pytest.mark.parametrize(("key", "damage"), DAMAGES, ids=[f"{key}-{at}" for at, (key, _) in enumerate(DAMAGES)])
def test_i1_the_doctor_finds_what_was_planted(
    patient: Patient, key: str, damage: Callable[[Patient], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Thresholds are lowered to what the small lake can exceed.
    monkeypatch.setattr(doctor_log, "COMMITS_MAX", 15 if key == "log-length" else doctor_log.COMMITS_MAX)
    monkeypatch.setattr(doctor_log, "TAIL_MAX", 15 if key == "log-tail" else doctor_log.TAIL_MAX)
    damage(patient)
    report = patient.examine()
    check = found(report)[key]
    assert check.examples
    assert check.remedy == doctor_checks.QUESTIONS[key].remedy
    assert report.ok == all(each.advice for each in found(report).values())
    assert report.ok or not check.advice

"""Every golden lake that any version has left is still opened, checked, asked, verified, proven and gone on with.

They are made by `python -m tests.lake.golden`, once for each format, and only ever added to: one that fails here tells
that lakes in the field would fail, and is never made anew.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst.lake import Lake, log, tables
from alumicatalyst.lake.doctor import examine
from alumicatalyst.lake.migrate import migrate
from alumicatalyst.lake.store import LocalStore
from alumicatalyst.ledger import evidence, prove
from tests.conftest import ROOT
from tests.lake import golden, plant
from tests.ledger.site import Site

if TYPE_CHECKING:
    from pathlib import Path

VECTORS = ROOT / "tests" / "vectors"
GOLDEN = sorted(path.name for path in VECTORS.glob("lake-*"))


@dataclass
class Kept(Site):
    """A copy of a golden lake, migrated to this version if it has to be."""

    @property
    def expected(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.folder / "expected.json").read_text())
        return told

    @property
    def opened(self) -> Lake:
        return Lake.open(str(self.lake))


@pytest.fixture(params=GOLDEN)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    made = Kept(tmp_path / "golden")
    shutil.copytree(VECTORS / request.param, made.folder)
    migrate(LocalStore(made.lake))
    return made


@pytest.fixture(autouse=True)
def _states_of_the_plant() -> None:
    """Here states are those of the core: this stands in for the fixture of this folder that replaces them."""


def test_there_is_a_golden_lake_and_it_is_small() -> None:
    assert GOLDEN
    for name in GOLDEN:
        files = [path for path in (VECTORS / name).rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) < 300_000, name


def test_i1_the_doctor_finds_nothing_wrong_with_it(kept: Kept) -> None:
    report = examine(kept.opened)
    assert report.ok, [check for check in report.checks if check.wrong and not check.advice]
    (partition,) = report.partitions
    assert partition["expired"]["rejected"] > 0
    assert partition["states"]
    shown = {row["table"]: row for row in report.tables}
    assert shown["readings"]["checkpoint"] >= 0
    assert list(kept.store.list("_archive"))


def test_a_query_gives_the_known_sums(kept: Kept) -> None:
    lake, expected = kept.opened, kept.expected
    found = golden.sums(lake)
    assert json.loads(json.dumps(found)) == {name: expected[name] for name in found}
    # And those that follow from the files alone.
    values = golden.values(kept.folder / "source", golden.FILES - 1)
    assert sum(row["n"] for row in found["readings"]) == len(values)
    assert math.isclose(sum(row["value"] for row in found["readings"]), sum(values))
    # Whatever else reads Delta agrees.
    assert {name: plant.scan(lake, name).height for name in tables.SPECS} == {
        name: lake.table(name).contents().rows for name in tables.SPECS
    }


def test_i7_its_ledger_verifies_and_known_proofs_do(kept: Kept) -> None:
    report = kept.verify()
    assert report.is_ok(strict=False), report.wrong.first
    assert report.size == kept.expected["ledger"]
    assert report.figures["batches moved"] > 0
    assert report.figures["batches expired"] > 0
    vkey = kept.place.verifier_key()
    for name, told in kept.expected["proofs"].items():
        known = evidence.verify((kept.folder / "proofs" / f"{name}.tlog-proof").read_bytes(), vkey)
        assert known.row is not None
        assert (known.row["device"], known.row["value"]) == (told["device"], told["value"])
        made = prove.prove_row(kept.opened, kept.reader(), vkey, told["question"])
        assert evidence.verify(made, vkey).row == known.row
    commit = evidence.verify((kept.folder / "proofs" / "commit.tlog-proof").read_bytes(), vkey)
    assert commit.entry.name == "readings@3"


def test_i5_a_flow_goes_on_with_it(kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marks = kept.opened.table("batches").refresh().transactions
    before = {name: kept.opened.table(name).refresh().version for name in tables.SPECS}
    golden.replay(kept.folder / "source", kept.lake, golden.FILES)
    assert json.loads(capsys.readouterr().out)["redelivered"] == 0
    values = golden.values(kept.folder / "source", golden.FILES)
    stored = golden.sums(kept.opened)["readings"]
    assert sum(row["n"] for row in stored) == len(values)
    assert math.isclose(sum(row["value"] for row in stored), sum(values))
    now = kept.opened.table("batches").refresh().transactions
    assert any(now[partition] > mark for partition, mark in marks.items() if partition.count("/") == 2)
    assert examine(kept.opened).ok
    assert kept.verify().is_ok(strict=False)
    # Replayed from the start by this version, the same files make the same readings.
    fresh = Lake.open(str(tmp_path / "fresh"))
    golden.replay(kept.folder / "source", tmp_path / "fresh", golden.FILES)
    keys = ["sequence_number", "item", "device", "event_time", "value"]
    assert (
        plant.scan(kept.opened, "readings")
        .select(keys)
        .sort(keys)
        .equals(plant.scan(fresh, "readings").select(keys).sort(keys))
    )
    # What was there is still there, file by file.
    for name, version in before.items():
        assert kept.store.get(log.commit_path(name, version))

"""Whatever fails in a flush, and wherever the process dies, the rows are those of an undisturbed run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import Lake, retry
from tests.lake import plant
from tests.lake.faults import STEPS, Faults, Killed

if TYPE_CHECKING:
    from pathlib import Path

UNTIL = 44
SECOND_FLUSH = len(STEPS) - 1
"""The first flush has every step but the state, as states come with every second one."""


@pytest.mark.parametrize("fault", ["killed before", "killed after"])
@pytest.mark.parametrize("step", STEPS)
def test_i5_a_process_that_dies_between_any_two_steps_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, fault: str
) -> None:
    at = SECOND_FLUSH + STEPS.index(step)
    faults = Faults(monkeypatch, lambda count, _: fault if count == at else None)
    with pytest.raises(Killed):
        plant.run(Lake.open(str(tmp_path)), UNTIL, flush_every=11)
    assert faults.met == [f"{step} {fault}"]
    plant.run(Lake.open(str(tmp_path)), UNTIL, flush_every=7)
    plant.assert_exact(Lake.open(str(tmp_path)), UNTIL)


@pytest.mark.parametrize("fault", ["failed", "failed but persisted"])
@pytest.mark.parametrize("step", [step for step in STEPS if step != "state"])
def test_i5_a_step_that_fails_once_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, fault: str
) -> None:
    at = SECOND_FLUSH + STEPS.index(step)
    faults = Faults(monkeypatch, lambda count, _: fault if count == at else None)
    plant.run(Lake.open(str(tmp_path)), UNTIL, flush_every=11)
    assert faults.met == [f"{step} {fault}"]
    plant.assert_exact(Lake.open(str(tmp_path)), UNTIL)


@pytest.mark.parametrize("table", ["readings", "batches"])
def test_a_store_that_stays_down_ends_in_a_clear_error_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    with monkeypatch.context() as broken:
        Faults(broken, lambda count, step: "failed" if count >= SECOND_FLUSH and step == f"commit {table}" else None)
        with pytest.raises(
            LakeError,
            match=f"couldn't commit .* to {table}.*: the connection was reset; nothing is lost",
        ):
            plant.run(Lake.open(str(tmp_path), patience_s=0), UNTIL, flush_every=11)
    plant.run(Lake.open(str(tmp_path)), UNTIL, flush_every=11)
    plant.assert_exact(Lake.open(str(tmp_path)), UNTIL)


def test_a_sink_whose_flush_failed_can_flush_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake.open(str(tmp_path), patience_s=0)
    resume = lake.resume(plant.PARTITION, dictionary=plant.FakeDictionary(), first_sequence=0)
    sink = plant.sink_of(lake)
    sink.write(plant.item(resume, plant.Operator().take(0, UNTIL)))
    with monkeypatch.context() as broken:
        Faults(broken, lambda _, step: "failed but persisted" if step == "commit windows" else None)
        Faults(broken, lambda _, step: "failed" if step == "commit batches" else None)
        with pytest.raises(LakeError):
            sink.flush()
    sink.flush()
    plant.assert_exact(lake, UNTIL)


def test_a_draining_process_does_not_try_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake.open(str(tmp_path), draining=lambda: True)
    resume = lake.resume(plant.PARTITION, dictionary=plant.FakeDictionary(), first_sequence=0)
    faults = Faults(monkeypatch, lambda _, step: "failed" if step == "commit readings" else None)
    sink = plant.sink_of(lake)
    sink.write(plant.item(resume, plant.Operator().take(0, UNTIL)))
    with pytest.raises(LakeError):
        sink.flush()
    assert len(faults.met) == retry.ATTEMPTS_WHILE_DRAINING_MAX


def test_i5_an_unfinished_file_is_no_data(tmp_path: Path) -> None:
    lake = Lake.open(str(tmp_path))
    plant.run(lake, 20)
    folder = next((tmp_path / "readings").glob("date=*"))
    (folder / "part-0.parquet").write_bytes(b"PAR1 half a fi")
    (folder / "part-1.parquet.0123.tmp").write_bytes(b"PAR1")
    plant.run(Lake.open(str(tmp_path)), UNTIL)
    plant.assert_exact(lake, UNTIL)

"""What a process learns when it takes a partition, and what it refuses."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst.errors import (
    DictionaryChanged,
    IncarnationChanged,
    LakeError,
    LakeGap,
    LogExpired,
    RolledBack,
    StateError,
)
from alumicatalyst.lake import Lake, state
from tests.lake import plant
from tests.lake.faults import Faults, Killed

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.lake import Resume

FIRST = plant.FakeDictionary("1")
SECOND = plant.FakeDictionary("2")


def take(lake: Lake, **options: object) -> Resume:
    given: dict[str, object] = {"dictionary": FIRST, "first_sequence": 0}
    return lake.resume(plant.PARTITION, **(given | options))  # type: ignore[arg-type]


def crash_after_readings(lake: Lake, until: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave `readings` a flush ahead of `batches`."""
    with monkeypatch.context() as patch:
        Faults(patch, lambda _, step: "killed after" if step == "commit readings" else None)
        with pytest.raises(Killed):
            plant.run(lake, until)


def test_an_empty_lake_starts_where_the_settings_say(lake: Lake) -> None:
    resume = take(lake, first_sequence=500)
    assert (resume.mark, resume.state_sequence, resume.after, resume.state_loss) == (-1, -1, -1, False)
    assert resume.claim == 1
    assert [(row.ordinal, row.after_sequence, row.kind) for row in resume.journal] == [(0, -1, "dictionary")]
    assert json.loads(resume.journal[0].body) == {"sha256": FIRST.sha256, "version": "1"}
    assert lake.dictionary(FIRST.sha256) == FIRST.to_json()


def test_every_taking_has_a_higher_claim_and_writes_no_journal(lake: Lake) -> None:
    first, second, third = take(lake), take(lake), take(lake)
    assert [first.claim, second.claim, third.claim] == [1, 2, 3]
    assert third.journal == first.journal


def test_i5_a_process_goes_on_where_another_stopped(lake: Lake) -> None:
    plant.run(lake, 29)
    plant.run(lake, 64)
    plant.assert_exact(lake, 64)


def test_i5_rows_before_the_mark_are_replayed_from_the_state_and_cut(lake: Lake) -> None:
    plant.run(lake, 49, state_every=2)
    resume = take(lake)
    assert (resume.mark, resume.state_sequence, resume.after) == (49, 39, 39)
    plant.run(lake, 70)
    plant.assert_exact(lake, 70)


def test_i5_without_a_state_everything_is_replayed_if_the_source_still_holds_it(lake: Lake, tmp_path: Path) -> None:
    plant.run(lake, 49)
    shutil.rmtree(tmp_path / "lake" / "_state")
    resume = take(lake)
    assert (resume.mark, resume.state_sequence, resume.after, resume.state_loss) == (49, -1, -1, False)
    plant.run(lake, 70)
    plant.assert_exact(lake, 70)


def test_a_partition_that_began_late_is_replayed_from_its_own_first_envelope(lake: Lake) -> None:
    resume = take(lake, first_sequence=10)
    operator, sink = plant.Operator(), plant.sink_of(lake)
    sink.write(plant.item(resume, operator.take(500, 520)))
    sink.close()
    assert take(lake, first_sequence=10).after == 499
    with pytest.raises(LogExpired, match="log began at 500, and the source holds only what starts at 501"):
        take(lake, first_sequence=501)


def test_a_damaged_state_is_passed_over(lake: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plant.run(lake, 79, state_every=2)
    newest = tmp_path / "lake" / "_state" / plant.PARTITION / f"{79:020d}"
    newest.write_bytes(newest.read_bytes()[:-5])
    assert take(lake).state_sequence == 59
    assert "state passed over" in caplog.text
    plant.run(lake, 90)
    plant.assert_exact(lake, 90)


def test_a_state_of_another_partition_is_not_used(lake: Lake, tmp_path: Path) -> None:
    plant.run(lake, 39, state_every=2)
    foreign = plant.Operator("telemetry/1/9", last=39).snapshot()
    (tmp_path / "lake" / "_state" / plant.PARTITION / f"{39:020d}").write_bytes(foreign)
    with pytest.raises(StateError, match="is of telemetry/1/9"):
        lake.state(plant.PARTITION, 39)
    assert take(lake).state_sequence == 19


def test_the_last_three_states_are_kept(lake: Lake) -> None:
    plant.run(lake, 99, state_every=1)
    assert state.numbers(lake.store, plant.PARTITION) == [99, 89, 79]


def test_a_missing_state_is_a_clear_error(lake: Lake) -> None:
    with pytest.raises(StateError, match=r"couldn't read a state: _state/telemetry/1/0/0+7;"):
        lake.state(plant.PARTITION, 7)


def test_a_missing_dictionary_is_a_clear_error(lake: Lake) -> None:
    with pytest.raises(LakeError, match="couldn't read dictionary abc"):
        lake.dictionary("abc")


@pytest.mark.parametrize("name", ["telemetry", "a/b", "a/b/c/d", "a/../b", "a/b/c'--", "a/b/" + "c" * 65, ""])
def test_a_partition_with_a_bad_name_is_refused(lake: Lake, name: str) -> None:
    with pytest.raises(LakeError, match="couldn't take partition"):
        lake.resume(name, dictionary=FIRST)


def test_a_table_that_was_rolled_back_is_refused_before_the_claim(lake: Lake, tmp_path: Path) -> None:
    plant.run(lake, 29)
    saved = tmp_path / "saved"
    shutil.copytree(tmp_path / "lake" / "batches", saved)
    plant.run(lake, 79)
    shutil.rmtree(tmp_path / "lake" / "batches")
    shutil.copytree(saved, tmp_path / "lake" / "batches")
    reopened = Lake.open(str(tmp_path / "lake"))
    claim = reopened.table("readings").refresh().claim(plant.PARTITION)
    with pytest.raises(RolledBack, match="a state at 79, but batches ends at 29"):
        take(reopened)
    assert reopened.table("readings").refresh().claim(plant.PARTITION) == claim


# --- a dictionary that changed


def test_a_changed_dictionary_is_refused_before_the_claim_and_journaled_when_accepted(lake: Lake) -> None:
    plant.run(lake, 29)
    claim = lake.table("readings").refresh().claim(plant.PARTITION)
    with pytest.raises(DictionaryChanged, match="alumicatalyst dictionary diff"):
        take(lake, dictionary=SECOND)
    assert lake.table("readings").refresh().claim(plant.PARTITION) == claim
    changed = take(lake, dictionary=SECOND, accept_dictionary=True)
    assert [(row.ordinal, row.after_sequence) for row in changed.journal] == [(0, -1), (1, 29)]
    assert lake.dictionary(SECOND.sha256) == SECOND.to_json()
    assert take(lake, dictionary=SECOND).journal == changed.journal
    with pytest.raises(DictionaryChanged):
        take(lake)


def test_i1_a_new_dictionary_takes_effect_after_every_row_that_is_stored(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.run(lake, 29)
    crash_after_readings(lake, 39, monkeypatch)
    changed = take(lake, dictionary=SECOND, accept_dictionary=True)
    assert changed.mark == 29
    assert changed.journal[-1].after_sequence == 39


def test_a_flush_across_a_change_of_dictionary_seals_each_part_by_itself(lake: Lake) -> None:
    resume = take(lake)
    operator, sink = plant.Operator(), plant.sink_of(lake)
    sink.write(plant.item(resume, operator.take(0, 9)))
    operator.dictionary = SECOND
    sink.write(plant.item(resume, operator.take(10, 19)))
    sink.close()
    rows = plant.scan(lake, "batches").sort("first_sequence")
    assert rows["dictionary_version"].to_list() == ["1", "2"]
    plant.assert_exact(lake, 19)


# --- a source that was made anew


def test_a_source_that_was_made_anew_is_refused_until_accepted(lake: Lake) -> None:
    plant.run(lake, 29)
    anew = "telemetry/2/0"
    with pytest.raises(IncarnationChanged, match="the lake holds telemetry/1/0, an earlier incarnation") as refused:
        lake.resume(anew, dictionary=FIRST, first_sequence=0)
    # A replay, whose incarnation is its first file, meets the same refusal.
    assert "Files: the first file is another one, or has changed" in str(refused.value)
    accepted = lake.resume(anew, dictionary=FIRST, first_sequence=0, accept_incarnation=True)
    assert json.loads(accepted.journal[0].body)["replaces"] == plant.PARTITION
    assert lake.resume(anew, dictionary=FIRST, first_sequence=0).claim == 2
    # Another partition, or another source, is something else.
    lake.resume("telemetry/2/1", dictionary=FIRST, first_sequence=0)
    lake.resume("other/2/0", dictionary=FIRST, first_sequence=0)


# --- what a sink refuses


def test_a_batch_that_does_not_follow_the_one_before_is_a_gap(lake: Lake) -> None:
    operator, sink = plant.Operator(), plant.sink_of(lake)
    resume = take(lake)
    sink.write(plant.item(resume, operator.take(0, 9)))
    operator.take(10, 19)
    with pytest.raises(LakeGap, match="a batch follows 19, the one before ended at 9"):
        sink.write(plant.item(resume, operator.take(20, 29)))


def test_a_replay_that_begins_too_late_is_a_gap(lake: Lake, tmp_path: Path) -> None:
    plant.run(lake, 29)
    shutil.rmtree(tmp_path / "lake" / "_state")
    sink = plant.sink_of(lake)
    with pytest.raises(LakeGap, match="its rows begin at 0, the source at 3"):
        sink.write(plant.item(take(lake), plant.Operator().take(3, 40)))


def test_a_sink_above_the_mark_is_a_gap(lake: Lake) -> None:
    plant.run(lake, 29)
    resume = take(lake)
    operator, sink = plant.operator_of(lake, resume), plant.sink_of(lake)
    sink.write(plant.item(resume, operator.take(resume.after + 1, 39)))
    # What the checks on the way in would have to miss.
    late: Any = operator.take(40, 59)
    sink._buffers[plant.PARTITION].outputs = [late]
    with pytest.raises(LakeGap, match="its rows go on after 39, but batches ends at 29"):
        sink.flush()

"""Where a partition begins: after a loss that was accepted, after an unsealed flush, and at what "latest" was."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from alumicatalyst.errors import LakeGap, LogExpired
from alumicatalyst.lake.doctor import examine
from tests.lake import plant
from tests.lake.faults import Faults, Killed
from tests.lake.test_resume import SECOND, crash_after_readings, take

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.lake import Lake, Resume


def store(lake: Lake, resume: Resume, first: int, last: int) -> None:
    """Store envelopes as an operator that begins empty; no state is kept."""
    sink = plant.sink_of(lake)
    sink.write(plant.item(resume, plant.Operator().take(first, last)))
    sink.close()


# --- a log that has expired


def test_a_log_that_expired_after_the_state_is_refused(lake: Lake) -> None:
    plant.run(lake, 49, state_every=2)
    assert take(lake, first_sequence=40).state_sequence == 39
    with pytest.raises(LogExpired, match="the state is at 39, the source's oldest row is 41"):
        take(lake, first_sequence=41)


def test_a_source_that_holds_nothing_has_lost_what_must_be_replayed(lake: Lake) -> None:
    plant.run(lake, 39, state_every=2)
    assert take(lake, first_sequence=None).after == 39
    plant.run(lake, 49, state_every=99)
    with pytest.raises(LogExpired, match="the source holds nothing"):
        take(lake, first_sequence=None)


def test_gaps_of_the_sources_own_are_no_loss(lake: Lake) -> None:
    resume = take(lake, contiguous=False)
    operator, sink = plant.Operator(step=10), plant.sink_of(lake)
    sink.write(plant.item(resume, operator.take(0, 100), (100, operator.snapshot())))
    sink.close()
    assert take(lake, first_sequence=120, contiguous=False).after == 100
    with pytest.raises(LogExpired):
        take(lake, first_sequence=120)
    sink = plant.sink_of(lake)
    sink.write(plant.item(take(lake, first_sequence=100), operator.take(110, 150)))
    sink.close()
    with pytest.raises(LogExpired, match="the state is at 100, the source's oldest row is 120"):
        take(lake, first_sequence=120, contiguous=False)
    assert examine(lake).ok


def test_a_loss_that_is_accepted_is_journaled_and_starts_empty_after_the_mark(lake: Lake, tmp_path: Path) -> None:
    plant.run(lake, 29)
    shutil.rmtree(tmp_path / "lake" / "_state")
    with pytest.raises(LogExpired, match="there is no intact state"):
        take(lake, first_sequence=40)
    resume = take(lake, first_sequence=40, accept_state_loss=True)
    assert (resume.mark, resume.state_sequence, resume.after, resume.state_loss) == (29, -1, 39, True)
    loss = resume.journal[-1]
    assert (loss.kind, loss.after_sequence) == ("state_loss", 29)
    assert json.loads(loss.body)["first_sequence"] == 40
    # Before anything is stored, and after it, the same loss needs no second agreement.
    assert take(lake, first_sequence=40).after == 39
    resume = take(lake, first_sequence=40)
    sink = plant.sink_of(lake)
    sink.write(plant.item(resume, plant.Operator().take(40, 50)))
    sink.close()
    again = take(lake, first_sequence=40)
    assert (again.mark, again.state_sequence, again.after, again.state_loss) == (50, -1, 39, True)
    rows = plant.scan(lake, "batches").sort("first_sequence")
    assert rows["first_sequence"].to_list() == [0, 10, 20, 40]
    assert rows["cold_start"].to_list() == [False, False, False, True]
    assert examine(lake).ok


def test_i1_rows_that_a_loss_leaves_unsealed_are_outside_the_accounting(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant.run(lake, 29)
    crash_after_readings(lake, 39, monkeypatch)
    shutil.rmtree(tmp_path / "lake" / "_state")
    resume = take(lake, first_sequence=50, accept_state_loss=True)
    assert (resume.mark, resume.after) == (39, 49)
    sink = plant.sink_of(lake)
    sink.write(plant.item(resume, plant.Operator().take(50, 60)))
    sink.close()
    report = examine(lake)
    assert report.ok, report.checks


def test_a_loss_that_is_accepted_goes_on_with_what_the_source_still_holds(lake: Lake) -> None:
    plant.run(lake, 29, state_every=1)
    accepted = take(lake, first_sequence=40, accept_state_loss=True)
    assert (accepted.after, accepted.journal[-1].after_sequence) == (39, 29)
    assert take(lake, first_sequence=40).after == 39, "what was accepted is not asked for again"
    # More expires while nothing is stored yet: that was not agreed to.
    with pytest.raises(LogExpired, match="a loss up to 39 was accepted, nothing is stored since"):
        take(lake, first_sequence=45)
    again = take(lake, first_sequence=45, accept_state_loss=True)
    assert (again.mark, again.after, again.state_loss, again.replays) == (29, 44, True, False)
    with pytest.raises(LakeGap, match="it goes on after 44, but the source begins at 44"):
        store(lake, again, 44, 50)
    store(lake, again, 45, 50)
    # From now on rows are stored that the next process must make again exactly.
    third = take(lake, first_sequence=45)
    assert (third.after, third.replays) == (44, True)
    with pytest.raises(LakeGap, match="its rows begin at 45, the source at 47"):
        store(lake, third, 47, 60)
    store(lake, third, 45, 60)
    assert plant.ranges(lake) == [(0, 9), (10, 19), (20, 29), (45, 50), (51, 60)]
    with pytest.raises(LogExpired, match="its log began at 45, and the source holds only what starts at 52"):
        take(lake, first_sequence=52)
    assert examine(lake).ok


def test_a_loss_at_a_source_that_holds_nothing_more_goes_on_after_the_mark(lake: Lake) -> None:
    plant.run(lake, 29, state_every=99)
    assert take(lake, first_sequence=None, accept_state_loss=True).after == 29
    assert take(lake, first_sequence=10).after == 29


# --- what "latest" was


@pytest.mark.parametrize("latest", [-1, 499])
def test_i5_a_process_killed_before_its_first_commit_begins_again_where_latest_was(lake: Lake, latest: int) -> None:
    first = take(lake, first_sequence=0, begins_after=latest)
    assert (first.after, first.fresh) == (latest, False)
    assert json.loads(first.journal[0].body)["begins_after"] == latest
    # Killed; "latest" is another number by now.
    again = take(lake, first_sequence=0, begins_after=latest + 50)
    assert (again.after, again.fresh, again.mark, again.replays) == (latest, False, -1, False)
    assert again.journal == first.journal
    changed = take(lake, first_sequence=0, dictionary=SECOND, accept_dictionary=True)
    assert (changed.after, changed.fresh) == (latest, False)
    # An expired or a compacted log may go on anywhere behind it.
    store(lake, changed, latest + 3, latest + 20)
    assert take(lake, first_sequence=0, dictionary=SECOND).after == latest + 2
    assert examine(lake).ok


def test_a_partition_that_begins_with_the_log_keeps_no_number(lake: Lake) -> None:
    assert take(lake).fresh
    assert take(lake, begins_after=7).fresh, "its journal has begun without one"
    plant.run(lake, 9)
    assert "begins_after" not in json.loads(take(lake, begins_after=7).journal[0].body)


@pytest.mark.parametrize("latest", [-1, 19])
def test_what_expires_before_the_first_commit_is_a_loss_too(lake: Lake, latest: int) -> None:
    take(lake, first_sequence=0, begins_after=latest)
    assert take(lake, first_sequence=30, contiguous=False).after == latest
    with pytest.raises(LogExpired, match=f"it began after {latest}, .* the source's oldest row is 30"):
        take(lake, first_sequence=30)
    accepted = take(lake, first_sequence=30, accept_state_loss=True)
    assert (accepted.after, accepted.fresh, accepted.state_loss) == (29, False, True)
    assert [row.kind for row in accepted.journal] == ["dictionary", "state_loss"]
    assert take(lake, first_sequence=30).after == 29
    store(lake, accepted_again := take(lake, first_sequence=30), 30, 40)
    assert accepted_again.journal == accepted.journal
    assert plant.scan(lake, "batches")["cold_start"].to_list() == [True]
    assert examine(lake).ok


# --- a first flush that was not sealed


def test_a_first_flush_that_was_never_sealed_is_replayed_from_its_beginning(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = take(lake, first_sequence=10)
    with monkeypatch.context() as patch:
        Faults(patch, lambda _, step: "killed after" if step == "commit readings" else None)
        sink = plant.sink_of(lake)
        # Envelope 500 holds no reading: only the commit knows that it was the first.
        sink.write(plant.item(resume, plant.Operator().take(500, 520)))
        with pytest.raises(Killed):
            sink.flush()
    again = take(lake, first_sequence=10)
    assert (again.mark, again.after) == (-1, 499)


def test_i5_a_partition_is_fresh_only_while_nothing_of_it_is_stored(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = take(lake)
    assert fresh.fresh
    assert take(lake).fresh, "a claim and a journal row are no rows"
    crash_after_readings(lake, 39, monkeypatch)
    again = take(lake)
    assert (again.mark, again.after, again.fresh) == (-1, -1, False), "readings are there, though nothing is sealed"


def test_i5_a_replay_of_an_unsealed_first_flush_must_begin_with_its_first_envelope(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_after_readings(lake, 39, monkeypatch)
    again = take(lake)
    assert (again.mark, again.after, again.replays) == (-1, -1, True)
    with pytest.raises(LakeGap, match="its rows begin at 0, the source at 3"):
        store(lake, again, 3, 50)
    plant.run(lake, 50)
    plant.assert_exact(lake, 50)

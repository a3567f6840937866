"""A model of the lake: any lives of any processes, cut and killed anywhere, end in the rows of an undisturbed run."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst.lake import Lake
from alumicatalyst.lake.doctor import examine
from tests.lake import plant
from tests.lake.faults import Faults, Killed

UNTIL = 40
_FAULTS = st.sampled_from(["failed", "failed but persisted", "killed before", "killed after"])


@dataclass(frozen=True)
class Life:
    """One process: how it cuts the log, how often it keeps a state, and what goes wrong at which step."""

    flush_every: int
    state_every: int
    faults: dict[int, str]


_LIVES = st.lists(
    st.builds(
        Life,
        flush_every=st.integers(3, 25),
        state_every=st.integers(1, 4),
        faults=st.dictionaries(st.integers(0, 40), _FAULTS, max_size=4),
    ),
    max_size=4,
)


@settings(max_examples=10)
@given(lives=_LIVES, last=st.integers(7, 25))
def test_i1_i2_i5_any_crashes_and_cuts_end_in_the_rows_of_an_undisturbed_run(lives: list[Life], last: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="alumicatalyst-"))
    try:
        for life in lives:
            with pytest.MonkeyPatch.context() as patch:
                Faults(patch, lambda count, _, faults=life.faults: faults.get(count))  # type: ignore[misc]
                with suppress(Killed):
                    plant.run(Lake.open(str(folder)), UNTIL, flush_every=life.flush_every, state_every=life.state_every)
        # In the middle of it: no row twice, and nothing missing below the mark.
        report = examine(Lake.open(str(folder)))
        assert report.ok, report.checks
        plant.run(Lake.open(str(folder)), UNTIL, flush_every=last)
        plant.assert_exact(Lake.open(str(folder)), UNTIL)
        assert examine(Lake.open(str(folder))).ok
    finally:
        shutil.rmtree(folder)

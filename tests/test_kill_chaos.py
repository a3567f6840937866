"""Ten kills and more on each store, of every kind that the long kill run draws (I1, I5, I7).

`bench/chaos.py` plays such rounds by the hundred, with steps that are drawn; these are chosen, so that together they
are of every kind, and a round that passes has shown what it was to show.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING
from unittest.mock import ANY

import pytest

from bench.chaos_plan import AZURITE, LOCAL, WEIGHTS, WEIGHTS_EXPIRY, WEIGHTS_HOT, WEIGHTS_UPKEEP, Plan, Step
from bench.chaos_round import play
from tests.parts import azurite

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Require

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = {
    LOCAL: [
        Step("birth", "loop", 20, point="create:_dictionaries inside 1"),
        Step("point", "bytewax.run", 40, point="commit:batches before 1"),
        Step("post", "loop", 30, point="post:alarms after 1"),
        Step("newest states", "bytewax -w 2", 40, commits=8),
        Step("zombie", "loop", 40, ("bytewax", "loop"), point="put:readings pause 1", commits=2),
        Step("api", "bytewax", 30, point="ingest:commits inside 1", commits=6),
        Step("expired", "bytewax.run", 30, commits=6, choice=0.25),
        Step("compact", "loop", 40, commits=3, keepers=("optimize:readings before 1", "")),
        Step("vacuum", "loop", 20, commits=2, keepers=("vacuum-start:readings after 1",)),
        Step("asleep", "bytewax", 40, point="commit:readings pause 1", commits=3),
        Step("trim", "bytewax", 20, commits=2, keepers=("trim:readings after 1",)),
        Step("point", "loop", 40, point="log:readings inside 2"),
        Step("end", "loop", 0, point="commit:journal after 1"),
    ],
    AZURITE: [
        Step("birth", "bytewax", 20, point="log:windows after 1"),
        Step("point", "loop", 30, point="log:readings during 2", flush_rows=60),
        Step("all states", "bytewax.run", 20, commits=6, flush_rows=60),
        Step("writers", "loop", 30, ("bytewax", "bytewax -w 2"), commits=2, delay_s=0.05, flush_rows=60),
        Step("clock", "bytewax -w 2", 30, commits=4, clock=[(0.0, 93_600.0), (0.3, -187_200.0)], flush_rows=60),
        Step("maintain", "loop", 20, commits=99, keepers=("expire:windows before 1",), flush_rows=60),
        Step("start", "loop", 0, delay_s=0.1),
        Step("point", "bytewax", 30, point="commit:batches after 1", flush_rows=60),
        Step("random", "bytewax.run", 30, commits=5, delay_s=0.05, flush_rows=60),
        Step("end", "bytewax.run", 0, point="put:journal during 1"),
    ],
}
# Kills that come at a moment of their own may be too early or too late for it, of two that maintain at once only one
# has the lease, and of writers that take the partitions from each other none may be left to kill.
SURE = {
    LOCAL: {
        "half of create:_dictionaries",
        "commit:batches",
        "half of log:readings",
    },
    AZURITE: {"log:windows", "log:readings", "commit:batches", "expire:windows", "put:journal"},
}


def test_together_the_kills_are_of_every_kind() -> None:
    kinds = {step.kind for steps in STEPS.values() for step in steps}
    assert kinds == {*WEIGHTS, *WEIGHTS_HOT, *WEIGHTS_UPKEEP, *WEIGHTS_EXPIRY, "birth", "end"}


@pytest.mark.parametrize("store", [LOCAL, AZURITE])
def test_i5_after_kills_of_every_kind_everything_is_there_once(store: str, tmp_path: Path, require: Require) -> None:
    if store == AZURITE:
        require(shutil.which("node") and azurite.MAIN.is_file(), "Azurite is not installed; `make` does it")
    steps = STEPS[store]
    hot, expires = (any(step.kind == kind for step in steps) for kind in ("api", "maintain"))
    envelopes = sum(step.grow for step in steps) + 60
    result = play(Plan(11, store, 2, hot, store == LOCAL, expires, steps, 900, envelopes), tmp_path)
    assert not result.violation, result.violation
    assert len(result.kills) >= 10
    assert sum(kill.commits > 0 for kill in result.kills) >= 3
    assert {kill.at for kill in result.kills} >= SURE[store]
    # Envelopes were handed out again, and their rows were cut at the marks.
    assert result.replays > 0
    assert result.cut > 0
    assert result.looks >= len(steps)
    # The writer that slept found out that another has its partitions; the log that had expired was refused, then not.
    assert (result.fenced >= 1, result.refused, result.losses) == ((True, 1, 1) if store == LOCAL else (ANY, 0, 0))

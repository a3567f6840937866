"""The simulator as a source: a log that comes out the same wherever reading begins."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst._core import Dictionary, Partition
from alumicatalyst.dictionary import load
from alumicatalyst.errors import InputError
from alumicatalyst.simulator import Impairments, Plan, ProcessFaults
from alumicatalyst.sources.simulator import SimulatorSource
from tests.conftest import ROOT

SECOND = 1_000_000
START = 1_767_225_600 * SECOND
SMELTER = load(ROOT / "flows" / "smelter.toml")
COMPILED = json.loads(SMELTER.to_json())
# Some of every machine: enough for all kinds of delay, and quickly simulated.
DEVICES = {"pot-001", "pot-002", "pot-017", "furnace-1", "press-1", "hall-1", "rectifier-1"}
SERIES = [one for one in COMPILED["series"] if one["device"] in DEVICES]
FEW = Dictionary.from_json(json.dumps({**COMPILED, "series": SERIES}))
EVERYTHING = Impairments(disorder=0.05, duplicates=0.05, bursts=0.3, malformed=0.02, silence=0.2)
FAULTS = ProcessFaults(anode_effects=1.0, stuck=0.5, drifts=0.5, spikes=0.5)
PLANS = [Plan(START, pack_us=pack_us, impairments=EVERYTHING, faults=FAULTS) for pack_us in (5 * SECOND, 0)]


def log(plan: Plan, partition: int, after: int = -1, **options: Any) -> list[dict[str, Any]]:
    source = SimulatorSource(FEW, plan, speed=0, end_us=START + 5400 * SECOND, **options)
    reader = source.open(source.partitions()[partition], after, 1)
    batches = []
    while not reader.finished:
        batch = reader.take()
        if batch is not None:
            batches.append(batch)
    return [row for batch in batches for row in batch.to_pylist()]


WHOLE = {(place, number): log(plan, number) for place, plan in enumerate(PLANS) for number in (0, 1)}


@pytest.mark.parametrize("plan", [0, 1])
def test_sequence_numbers_rise_and_partitions_share_the_plant(plan: int) -> None:
    for number in (0, 1):
        numbers = [row["sequence_number"] for row in WHOLE[plan, number]]
        assert all(later > earlier for earlier, later in itertools.pairwise(numbers))
    rows = [row for number in range(4) for row in log(PLANS[plan], number)]
    alone = log(PLANS[plan], 0, partitions=1)
    assert sorted(row["body"] for row in rows) == sorted(row["body"] for row in alone)


@settings(max_examples=8)
@given(data=st.data())
def test_i5_resume_after_any_number_gives_the_rest_of_the_log(data: st.DataObject) -> None:
    plan, number = data.draw(st.sampled_from(sorted(key for key, rows in WHOLE.items() if rows)))
    rows = WHOLE[plan, number]
    after = data.draw(st.sampled_from([row["sequence_number"] for row in rows])) + data.draw(st.integers(-1, 1))
    assert log(PLANS[plan], number, after) == [row for row in rows if row["sequence_number"] > after]


def test_a_clock_paces_the_log_and_it_never_passes_now() -> None:
    clock = [START / SECOND + 1_000.0]
    source = SimulatorSource(SMELTER, Plan(START), partitions=1, speed=10.0, now=lambda: clock[0])
    reader = source.open(source.partitions()[0], -1, 1)
    assert reader.take() is None
    latest = 0
    for _ in range(300):
        clock[0] += 0.7
        while (batch := reader.take()) is not None and batch.num_rows:
            latest = max(latest, batch.column("enqueued_time")[-1].value)
        assert latest <= clock[0] * SECOND
    # Ten times as fast, it has caught up with the clock.
    assert clock[0] * SECOND - latest < 6 * SECOND
    assert not reader.finished


def test_an_idle_reader_beats_once_a_second() -> None:
    clock = [START / SECOND]
    source = SimulatorSource(SMELTER, Plan(START), partitions=1, now=lambda: clock[0])
    reader = source.open(source.partitions()[0], -1, 1)
    assert reader.take() is None
    clock[0] += 1.5
    beat = reader.take()
    assert beat is not None
    assert beat.num_rows == 0
    assert reader.take() is None
    assert reader.lag() is not None
    reader.close()
    assert reader.finished


def test_another_plan_is_another_incarnation() -> None:
    names = {SimulatorSource(SMELTER, Plan(START, seed)).partitions()[0] for seed in (1, 2)}
    assert len(names) == 2


def test_partitions_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1 partition"):
        SimulatorSource(SMELTER, Plan(START), partitions=0)


def test_the_core_takes_what_the_source_gives() -> None:
    source = SimulatorSource(SMELTER, Plan(START), partitions=1, speed=0, end_us=START + 60 * SECOND)
    name = source.partitions()[0]
    reader, partition, rows = source.open(name, -1, 1), Partition(name, SMELTER), 0
    while not reader.finished:
        batch = reader.take()
        if batch is not None:
            rows += partition.on_batch(batch).readings.num_rows
    assert rows > 3_000

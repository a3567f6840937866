"""Faults of the simulated plant: their shapes, that time is cut anyhow, and that the core finds what the truth says."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst._core import Partition
from alumicatalyst.dictionary import load
from alumicatalyst.errors import InputError
from alumicatalyst.simulator import Impairments, Plan, ProcessFaults, Released, Simulator
from alumicatalyst.simulator.expected import Expected, Found
from alumicatalyst.sources import envelopes
from tests.conftest import ROOT

if TYPE_CHECKING:
    from datetime import datetime

SECOND = 1_000_000
MINUTE = 60 * SECOND
START = 1_767_225_600 * SECOND
SMELTER = load(ROOT / "flows" / "smelter.toml")
COMPILED: dict[str, Any] = json.loads(SMELTER.to_json())
NETWORK = Impairments(disorder=0.05, duplicates=0.05, bursts=0.2, malformed=0.02, silence=0.1)
# Some of every machine, with enough pots for every kind of fault in a few hours.
DEVICES = {"pot-001", "pot-002", "pot-003", "pot-017", "furnace-1", "press-1", "hall-1", "rectifier-1"}
FEW = {**COMPILED, "series": [one for one in COMPILED["series"] if one["device"] in DEVICES]}
# An anode effect belongs to a cell's voltage, and changes these too.
AFTER_AN_ANODE_EFFECT = {"alumina_feed", "bath_temperature"}
KINDS = {"anode_effect": "anode_effects", "stuck": "stuck", "drift": "drifts", "spike": "spikes"}


def follow(simulator: Simulator, until: list[int]) -> tuple[list[Released], list[Found]]:
    """Advance to each of some seconds; return what was released and the faults that were found."""
    assert simulator.fleet.faults is not None
    expected = Expected(simulator.fleet, simulator.fleet.faults, simulator.plan.start_us)
    released, found = [], []
    for second in until:
        released.append(simulator.advance(START + second * SECOND))
        found += expected.add(released[-1])
    return released, found + expected.close(simulator.now_us)


def only(kind: str) -> ProcessFaults:
    # An anode effect takes up most of an hour.
    return ProcessFaults(**{KINDS[kind]: 1.0 if kind == "anode_effect" else 2.0})


def name_of(simulator: Simulator, found: Found) -> tuple[str, str]:
    fleet, series = simulator.fleet, found.fault.series
    return fleet.devices[int(fleet.device[series])], str(fleet.metrics[int(fleet.metric[series])]["name"])


def values(simulator: Simulator, seconds: int) -> dict[int, tuple[Any, Any]]:
    """Return for each series its event times and its values in the canonical unit."""
    rows = simulator.advance(START + seconds * SECOND).rows
    series = {}
    for one in np.unique(rows.series).tolist():
        of = np.flatnonzero(rows.series == one)
        of = of[np.argsort(rows.times_us[of])]
        series[one] = rows.times_us[of], simulator.fleet.canonical(one, rows.mantissas[of])
    return series


class Case:
    """Hours of a plant with one kind of fault, and the same without."""

    def __init__(self, kind: str) -> None:
        plan = Plan(START, seed=7, faults=only(kind))
        self.simulator = Simulator(FEW, plan)
        seconds = 14_400 if kind == "anode_effect" else 7_200
        _, self.all = follow(Simulator(FEW, plan), [seconds])
        self.found = [one for one in self.all if one.complete]
        assert {one.fault.kind for one in self.found} == {kind}
        self.wrong = values(self.simulator, seconds)
        self.right = values(Simulator(FEW, replace(plan, faults=ProcessFaults())), seconds)

    def during(self, found: Found) -> tuple[Any, Any, Any]:
        """Seconds since the fault began, the values, and what they would have been."""
        times, seen = self.wrong[found.fault.series]
        within = (times >= found.fault.begin_us) & (times < found.fault.end_us)
        return (times[within] - found.fault.begin_us) / SECOND, seen[within], self.right[found.fault.series][1][within]

    def before(self, found: Found) -> float:
        times, seen = self.wrong[found.fault.series]
        return float(seen[times < found.fault.begin_us][-1])


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("case", KINDS, indirect=True)
def test_values_are_touched_within_faults_only(case: Case) -> None:
    for series, (times, seen) in case.wrong.items():
        if case.simulator.fleet.metrics[int(case.simulator.fleet.metric[series])]["name"] in AFTER_AN_ANODE_EFFECT:
            continue
        within = np.zeros(len(times), dtype=bool)
        for one in case.all:
            if one.fault.series == series:
                within |= (times >= one.fault.begin_us) & (times < one.fault.end_us)
        assert (seen[~within] == case.right[series][1][~within]).all()


@pytest.mark.parametrize("case", ["anode_effect"], indirect=True)
def test_an_anode_effect_builds_up_jumps_and_falls_back(case: Case) -> None:
    assert len(case.found) >= 4
    for one in case.found:
        assert name_of(case.simulator, one)[1] == "cell_voltage"
        elapsed, seen, usual = case.during(one)
        if one.fault.begin_us < START:
            continue
        high = elapsed[seen > 8]
        assert high[0] == pytest.approx((one.fault.onset_us - one.fault.begin_us) / SECOND, abs=1.0)
        assert 1200 <= high[0] <= 2400, "20 to 40 minutes"
        assert 60 <= high[-1] - high[0] <= 210
        assert (seen[(elapsed >= high[0]) & (elapsed < high[-1] - 15)] > 8).all(), (
            "without a break until it is quenched"
        )
        assert 10 < np.median(seen[seen > 8]) < 40
        assert seen.max() < 80
        rise = (seen - usual)[elapsed < high[0]]
        assert (rise >= 0).all()
        # Small for half of the time, then faster and faster.
        assert rise[: len(rise) // 2].max() < 0.1
        assert 0.5 < rise[-1] < 1.5
        steps = np.diff(rise[:: len(rise) // 8])
        assert (np.diff(steps) >= -0.003).all(), "to the resolution of a reading"
        assert 240 < elapsed[-1] - high[-1] < 600, "unruly for a while"


@pytest.mark.parametrize("case", ["anode_effect"], indirect=True)
def test_an_anode_effect_starves_its_feeder_before_and_heats_its_bath_after(case: Case) -> None:
    fleet = case.simulator.fleet
    names = [fleet.metrics[metric]["name"] for metric in fleet.metric.tolist()]
    for one in (one for one in case.found if one.fault.begin_us >= START):
        of = np.flatnonzero(fleet.device == fleet.device[one.fault.series]).tolist()
        feed, bath = (next(s for s in of if names[s] == name) for name in ("alumina_feed", "bath_temperature"))
        times, seen = case.wrong[feed]
        usual = case.right[feed][1]
        before = (times >= one.fault.begin_us) & (times < one.fault.onset_us)
        assert 0.2 < seen[before].sum() / usual[before].sum() < 0.65
        quench = (times >= one.fault.onset_us) & (times < one.fault.onset_us + 5 * MINUTE)
        assert seen[quench].sum() > usual[quench].sum() + 1.0
        if bath in case.wrong:
            sampled, hot = case.wrong[bath]
            after = sampled > one.fault.onset_us + MINUTE
            assert (hot[after] > case.right[bath][1][after]).all()


@pytest.mark.parametrize("case", ["stuck"], indirect=True)
def test_a_stuck_sensor_keeps_its_last_value_or_stays_at_an_end_that_a_rule_notices(case: Case) -> None:
    frozen: Counter[str] = Counter()
    for one in case.found:
        _, seen, _ = case.during(one)
        if not len(seen):
            continue
        assert (seen == seen[0]).all()
        metric = case.simulator.fleet.metrics[int(case.simulator.fleet.metric[one.fault.series])]
        if seen[0] == case.before(one):
            assert not one.alarms
            frozen["last"] += 1
        else:
            assert one.alarms
            frozen["end" if metric["states"] is None else "state"] += 1
    assert frozen.keys() == {"last", "end", "state"}


@pytest.mark.parametrize("case", ["drift"], indirect=True)
def test_a_drift_creeps_until_it_is_past_the_limit(case: Case) -> None:
    limited = 0
    for one in case.found:
        metric = case.simulator.fleet.metrics[int(case.simulator.fleet.metric[one.fault.series])]
        limits = [alarm for alarm in metric["alarms"] if alarm["condition"]["kind"] in {"above", "below"}]
        assert bool(limits) == bool(set(one.alarms) & {alarm["rule"] for alarm in limits})
        if not limits:
            continue
        limited += 1
        elapsed, seen, usual = case.during(one)
        away = np.abs(seen - usual)
        assert away[elapsed < 5].max(initial=0) < 0.1 * away.max()
        assert elapsed[away > 0.5 * away.max()][0] > 60
    assert limited >= 4


@pytest.mark.parametrize("case", ["spike"], indirect=True)
def test_a_spike_is_a_few_readings_far_off_and_found_if_it_outlasts_a_delay(case: Case) -> None:
    for one in case.found:
        _, seen, usual = case.during(one)
        assert 2 <= len(seen) <= 8
        metric = case.simulator.fleet.metrics[int(case.simulator.fleet.metric[one.fault.series])]
        low, high = metric["range"]
        assert (np.abs(seen - usual) > 0.1 * (high - low)).all()
        if metric["name"] == "cell_voltage":
            assert one.alarms == (("HH",) if len(seen) >= 4 else ())


def test_faults_come_as_often_as_asked_for() -> None:
    fleet = Simulator(COMPILED, Plan(START, faults=ProcessFaults(anode_effects=0.5, stuck=0.25))).fleet
    assert fleet.faults is not None
    counts: Counter[str] = Counter()
    for group in fleet.groups:
        for one in group.series.tolist():
            # 100 hours, of slots of 20 minutes and of an hour.
            slots = np.array([1_000, 400]), np.array([1_300, 500])
            counts.update(fault.kind for fault in fleet.faults.among(group, one, *slots))
    assert counts["anode_effect"] == pytest.approx(0.5 * 48 * 100, rel=0.05)
    # Laboratory values have none.
    assert counts["stuck"] == pytest.approx(0.25 * (167 - 48) * 100, rel=0.05)
    assert counts.keys() == {"anode_effect", "stuck"}


EVERYTHING = Plan(START, impairments=NETWORK, faults=ProcessFaults(1.0, 0.5, 0.5, 0.5))


@settings(max_examples=5, deadline=None)
@given(cuts=st.lists(st.integers(1, 3599), max_size=6))
def test_i4_the_steps_in_which_time_is_advanced_change_no_fault_and_no_expectation(cuts: list[int]) -> None:
    def ran(until: list[int]) -> tuple[list[bytes], list[tuple[Any, ...]]]:
        released, found = follow(Simulator(FEW, EVERYTHING), until)
        faults = [(one.fault.series, one.fault.begin_us, one.alarms, one.complete) for one in found]
        return [body for part in released for body in part.bodies.to_pylist()], sorted(faults)

    # A step ends with a pack.
    assert ran([*sorted(cut // 5 * 5 for cut in cuts), 3600]) == ran([3600])


def test_a_simulation_that_begins_later_has_the_same_faults() -> None:
    plan = replace(EVERYTHING, impairments=Impairments())
    whole, late = Simulator(FEW, plan), Simulator(FEW, replace(plan, start_us=START + 1800 * SECOND))
    whole.advance(START + 1800 * SECOND)
    bodies = [simulator.advance(START + 3600 * SECOND).bodies.to_pylist() for simulator in (whole, late)]
    assert set(bodies[1]) <= set(bodies[0])
    assert len(bodies[1]) > 1_000


def test_a_fault_that_the_end_cuts_is_said_to_be_incomplete() -> None:
    _, found = follow(Simulator(FEW, EVERYTHING), [1800])
    for one in found:
        if one.complete:
            # Of an anode effect, the last minutes before it breaks out count.
            assert max(one.fault.begin_us, one.fault.onset_us - 3 * MINUTE) >= START
            assert one.fault.end_us <= START + 1800 * SECOND
    cut = [one for one in found if not one.complete]
    assert any(one.fault.begin_us < START for one in cut)
    assert any(one.fault.end_us > START + 1800 * SECOND for one in cut)


@pytest.mark.parametrize("rates", [{"stuck": -1}, {"anode_effects": 3.1}, {"spikes": 2, "drifts": 2}], ids=str)
def test_rates_that_cannot_be_are_refused(rates: dict[str, float]) -> None:
    with pytest.raises(InputError, match="couldn't"):
        ProcessFaults(**rates)


def alarms_of(released: list[Released]) -> list[dict[str, Any]]:
    """Give envelopes to the core as one partition; return its alarm rows."""
    partition, rows = Partition("sim/1/0", SMELTER), []
    for part in released:
        for begin in range(0, len(part), 5_000):
            numbers = list(range(part.first + begin, part.first + min(begin + 5_000, len(part))))
            bodies = part.bodies.slice(begin, 5_000).to_pylist()
            output = partition.on_batch(envelopes(bodies, numbers, part.enqueued_us[begin : begin + 5_000].tolist()))
            rows += output.alarms.to_pylist()
    return rows


def microseconds(time: datetime) -> int:
    return round(time.timestamp() * SECOND)


def raised(simulator: Simulator, rows: list[dict[str, Any]], found: Found) -> set[str]:
    return {
        row["alarm_rule"]
        for row in rows
        if row["transition"] == "raised"
        and (row["device"], row["metric"]) == name_of(simulator, found)
        and found.fault.begin_us <= microseconds(row["event_time"]) <= found.fault.end_us
    }


@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_the_core_raises_for_every_fault_the_alarms_that_the_truth_names(kind: str) -> None:
    plan = Plan(START, seed=3, impairments=NETWORK, faults=EVERYTHING.faults if kind == "all" else only(kind))
    simulator = Simulator(COMPILED, plan)
    released, found = follow(simulator, list(range(600, 4201, 600)))
    rows = alarms_of(released)
    wrong = [(one, rules) for one in found if set(one.alarms) != (rules := raised(simulator, rows, one))]
    assert not wrong
    assert any(one.alarms for one in found)
    faulty = {(name_of(simulator, one), one.fault.begin_us, one.fault.end_us) for one in found}
    for row in rows:
        if row["transition"] == "raised" and row["alarm_rule"] == "HH":
            at = microseconds(row["event_time"])
            assert any(n == (row["device"], row["metric"]) and b <= at <= e for n, b, e in faulty), row


def test_a_plant_without_faults_raises_no_alarm() -> None:
    released = [Simulator(COMPILED, Plan(START, impairments=NETWORK)).advance(START + 3600 * SECOND)]
    assert alarms_of(released) == []

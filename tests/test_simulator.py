"""The simulator: its bytes depend on the plan alone, its truth is what the core finds, every rejection can be had."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst._core import Dictionary, Partition
from alumicatalyst.dictionary import load
from alumicatalyst.errors import InputError
from alumicatalyst.simulator import REASONS, Impairments, Plan, ProcessFaults, Released, Simulator
from alumicatalyst.simulator.plant import scaled
from alumicatalyst.sources import envelopes
from tests.conftest import ROOT

SECOND = 1_000_000
START = 1_767_225_600 * SECOND
SMELTER = load(ROOT / "flows" / "smelter.toml")
COMPILED: dict[str, Any] = json.loads(SMELTER.to_json())
# A quarter of the plant, for tests that simulate it many times over.
SMALL = {**COMPILED, "series": [one for place, one in enumerate(COMPILED["series"]) if place % 4 == 0]}
EVERYTHING = Impairments(disorder=0.05, duplicates=0.05, bursts=0.3, malformed=0.05, silence=0.2)
FAULTS = ProcessFaults(anode_effects=1.0, stuck=0.5, drifts=0.5, spikes=0.5)
PACKINGS: list[dict[str, Any]] = [{}, {"pack_us": 0}, {"pack_us": SECOND, "pack_by": "asset"}, {"key": "device"}]


def steps(simulator: Simulator, seconds: int, step: int | None = None) -> list[Released]:
    end = simulator.plan.start_us + seconds * SECOND
    released = []
    while simulator.now_us < end:
        released.append(simulator.advance(min(end, simulator.now_us + (step or seconds) * SECOND)))
    return released


def digest(released: list[Released]) -> tuple[str, int, list[Any]]:
    hashed, envelopes_sent = hashlib.sha256(), 0
    for part in released:
        envelopes_sent += len(part)
        columns = (part.bodies.to_pylist(), part.enqueued_us.tolist(), part.keys.tolist(), part.readings.tolist())
        for body, enqueued, key, readings in zip(*columns, strict=True):
            hashed.update(b"%d %d %d %d " % (len(body), enqueued, key, readings) + body)
    return hashed.hexdigest(), envelopes_sent, [one for part in released for one in part.impaired]


def outcomes(dictionary: Dictionary, released: list[Released], simulator: Simulator) -> dict[str, Any]:
    """Give envelopes to the core, in batches that split them oddly, and return its rows by (envelope, item)."""
    partition = Partition("sim/1/0", dictionary)
    rows: dict[tuple[int, int], tuple[str, str | None]] = {}
    totals: Counter[str] = Counter()
    property_name = simulator.writer.members.device_property
    for part in released:
        for begin in range(0, len(part), 777):
            piece = slice(begin, begin + 777)
            properties = None
            if property_name is not None:
                properties = [{property_name: simulator.fleet.devices[d]} for d in part.devices[piece].tolist()]
            numbers = range(part.first + begin, part.first + min(begin + 777, len(part)))
            bodies = part.bodies.slice(begin, 777).to_pylist()
            batch = envelopes(bodies, list(numbers), part.enqueued_us[piece].tolist(), None, properties)
            output = partition.on_batch(batch)
            for row in output.readings.select(["sequence_number", "item", "outcome"]).to_pylist():
                rows[row["sequence_number"], row["item"]] = (row["outcome"], None)
            for row in output.rejected.select(["sequence_number", "item", "reason"]).to_pylist():
                rows[row["sequence_number"], row["item"]] = ("rejected", row["reason"])
            for name in ("rows_total", "rows_rejected", "rows_duplicate", "rows_late", "rows_windowed"):
                totals[name] += sum(output.counts.column(name).to_pylist())
    return {"rows": rows, "totals": totals}


def narrow(**payload: Any) -> dict[str, Any]:
    return {**COMPILED, "payload": {**COMPILED["payload"], **payload}}


def as_dictionary(compiled: dict[str, Any]) -> Dictionary:
    return Dictionary.from_json(json.dumps(compiled, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


@pytest.mark.parametrize("packing", PACKINGS, ids=str)
def test_the_same_plan_gives_the_same_bytes_and_another_seed_gives_others(packing: dict[str, Any]) -> None:
    runs = [
        digest(steps(Simulator(COMPILED, Plan(START, seed, impairments=EVERYTHING, faults=FAULTS, **packing)), 60))
        for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1]
    assert runs[0][0] != runs[2][0]


@pytest.mark.parametrize("packing", PACKINGS, ids=str)
@settings(max_examples=5)
@given(cuts=st.lists(st.integers(1, 639), max_size=5))
def test_i4_the_steps_in_which_time_is_advanced_change_nothing(packing: dict[str, Any], cuts: list[int]) -> None:
    plan = Plan(START, impairments=EVERYTHING, faults=FAULTS, **packing)
    whole = digest(steps(Simulator(SMALL, plan), 640))
    simulator = Simulator(SMALL, plan)
    pieces = [simulator.advance(START + cut * SECOND) for cut in [*sorted(cuts), 640]]
    assert digest(pieces) == whole


def test_envelopes_leave_in_the_order_of_their_time() -> None:
    simulator = Simulator(SMALL, Plan(START, impairments=EVERYTHING))
    times = np.concatenate([part.enqueued_us for part in steps(simulator, 1200, 7)])
    assert (np.diff(times) >= 0).all()


@pytest.mark.parametrize("packing", PACKINGS, ids=str)
def test_i1_the_core_finds_what_the_truth_says(packing: dict[str, Any]) -> None:
    simulator = Simulator(SMALL, Plan(START, impairments=EVERYTHING, faults=FAULTS, **packing))
    released = steps(simulator, 1300, 130)
    found = outcomes(SMELTER, released, simulator)
    impaired = [one for part in released for one in part.impaired]
    rejected = {
        (one.envelope, one.item): one.reason
        for one in impaired
        if one.outcome == "rejected" and (one.item >= 0 or not one.metric)
    }
    assert {key: reason for key, (outcome, reason) in found["rows"].items() if outcome == "rejected"} == rejected
    assert sum(int(part.readings.sum()) for part in released) == found["totals"]["rows_total"]
    decided = [one for one in impaired if one.outcome in {"duplicate", "windowed"}]
    assert Counter(one.outcome for one in decided).keys() == {"duplicate", "windowed"}
    wrong = [one for one in decided if found["rows"][one.envelope, one.item][0] != one.outcome]
    assert not wrong
    touched = {(one.envelope, one.item) for one in impaired}
    assert {outcome for key, (outcome, _) in found["rows"].items() if key not in touched} == {"windowed"}


def test_a_plant_in_order_has_nothing_late_rejected_or_doubled() -> None:
    simulator = Simulator(COMPILED, Plan(START))
    released = steps(simulator, 900)
    found = outcomes(SMELTER, released, simulator)
    assert found["totals"]["rows_windowed"] == found["totals"]["rows_total"] > 0
    assert not [one for part in released for one in part.impaired]


@pytest.mark.parametrize("reason", [reason for reason in REASONS if reason != "too_many_series"])
def test_every_reason_of_rejection_can_be_produced(reason: str) -> None:
    compiled = {**COMPILED, "bounds": {**COMPILED["bounds"], "body_bytes": 100_000, "readings_per_envelope": 1_000}}
    impairments = Impairments(malformed=0.2, reasons=(reason,))
    simulator = Simulator(compiled, Plan(START, impairments=impairments))
    released = steps(simulator, 60)
    found = outcomes(as_dictionary(compiled), released, simulator)
    reasons = Counter(reason for outcome, reason in found["rows"].values() if outcome == "rejected")
    assert set(reasons) == {reason}
    expected = [one for part in released for one in part.impaired]
    assert reasons[reason] == len([one for one in expected if one.item >= 0 or not one.metric]) > 0


def test_too_many_series_can_be_produced_where_strangers_are_accepted() -> None:
    stranger = {**next(m for m in COMPILED["metrics"] if m["states"] is None), "range": None, "alarms": []}
    compiled = {**COMPILED, "unknown": stranger, "bounds": {**COMPILED["bounds"], "series": 180}}
    impairments = Impairments(malformed=0.2, reasons=("too_many_series",))
    simulator = Simulator(compiled, Plan(START, impairments=impairments))
    found = outcomes(as_dictionary(compiled), steps(simulator, 60), simulator)
    assert "too_many_series" in {reason for _, reason in found["rows"].values()}


def test_a_reason_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="bad_luck"):
        Impairments(reasons=("bad_luck",))


@pytest.mark.parametrize("time_format", ["epoch_s", "epoch_ms", "epoch_us", "rfc3339"])
@pytest.mark.parametrize("faster", [1.0, 3.7, 2000.0])
def test_every_time_format_is_read_back_exactly(time_format: str, faster: float) -> None:
    compiled = narrow(time_format=time_format)
    simulator = Simulator(compiled, Plan(START, rate_multiplier=faster, pack_us=0))
    released = simulator.advance(START + SECOND // 2)
    found = outcomes(as_dictionary(compiled), [released], simulator)
    assert found["totals"]["rows_windowed"] == len(released) > 0
    partition = Partition("sim/1/0", as_dictionary(compiled))
    numbers = list(range(len(released)))
    output = partition.on_batch(envelopes(released.bodies.to_pylist(), numbers, released.enqueued_us.tolist()))
    assert output.readings.column("event_time").cast("int64").to_pylist() == released.rows.times_us.tolist()


@pytest.mark.parametrize("pack_us", [0, 5 * SECOND])
def test_wide_objects_and_devices_named_by_a_property_are_written_as_the_mapping_says(pack_us: int) -> None:
    compiled = narrow(
        metric=None, value=None, quality=None, device=["@iothub-connection-device-id"], ignore=["seq", "q"]
    )
    dictionary = as_dictionary(compiled)
    simulator = Simulator(compiled, Plan(START, pack_us=pack_us, impairments=EVERYTHING))
    released = steps(simulator, 700)
    assert not any(b"deviceId" in body for part in released for body in part.bodies.to_pylist())
    found = outcomes(dictionary, released, simulator)
    expected = Counter(
        one.reason
        for part in released
        for one in part.impaired
        if one.outcome == "rejected" and (one.item >= 0 or not one.metric)
    )
    assert Counter(reason for outcome, reason in found["rows"].values() if outcome == "rejected") == expected
    assert found["totals"]["rows_total"] == sum(int(part.readings.sum()) for part in released)


def test_wide_objects_carry_all_that_a_device_measures_at_once() -> None:
    compiled = narrow(metric=None, value=None, quality=None, rename={}, ignore=[])
    simulator = Simulator(compiled, Plan(START))
    bodies = [body for part in steps(simulator, 60) for body in part.bodies.to_pylist()]
    objects = [each for body in bodies for each in json.loads(body)]
    assert any({"pressure", "vibration"} <= each.keys() for each in objects if each["deviceId"] == "press-1")


def test_packing_by_asset_is_refused_where_the_device_is_a_property() -> None:
    with pytest.raises(InputError, match="pack by device"):
        Simulator(narrow(device=["@iothub-connection-device-id"]), Plan(START, pack_by="asset"))


def test_values_are_those_of_a_smelter() -> None:
    simulator = Simulator(COMPILED, Plan(START, pack_us=0))
    found: dict[str, list[Any]] = {}
    for body in (body for part in steps(simulator, 7200) for body in part.bodies.to_pylist()):
        reading = json.loads(body)
        found.setdefault(f"{reading['deviceId'].split('-')[0]}.{reading['metric']}", []).append(reading["value"])
    volts = np.array(found["pot.cell_voltage"] + found["pot.volts"])
    assert 4.15 < volts.mean() < 4.4
    assert 4.0 < volts.min() < volts.max() < 4.6
    assert 295_000 < min(found["rectifier.line_current"]) < max(found["rectifier.line_current"]) < 305_000
    assert {"melting", "holding"} >= set(found["furnace.status"])
    assert 1200 < min(found["furnace.temperature"]) < max(found["furnace.temperature"]) < 1420
    assert set(found["press.status"]) <= {"running", "stopped"}
    assert max(found["press.vibration"]) < 7.1


def test_more_plants_have_their_own_devices_assets_and_keys() -> None:
    simulator = Simulator(COMPILED, Plan(START, plants=3))
    assert len(simulator.fleet.devices) == 3 * len({series["device"] for series in COMPILED["series"]})
    assert "p3-pot-001" in simulator.fleet.devices
    assert {
        "example/north/reduction/line-1",
        "example/north/plant-2/reduction/line-1",
        "example/north/plant-3/casthouse",
    } <= set(simulator.fleet.partition_keys)
    assert simulator.fleet.per_second == pytest.approx(3 * Simulator(COMPILED, Plan(START)).fleet.per_second)


def test_a_plant_that_the_simulator_does_not_know_gets_signals_from_ranges_and_states() -> None:
    text = """
        name = "mill"
        version = "1"
        site = "example/mill"
        time_zone = "UTC"
        [payload]
        device = "id"
        time = {field = "t", format = "epoch_ms"}
        metric = "m"
        value = "v"
        [machine.stand]
        device = "stand-{1..3}"
        asset = "rolling/{device}"
        force = {unit = "kN", range = [-500, 25000], resolution = 0.5, every = "100ms"}
        gap = {unit = "mm"}
        mode = {states = {idle = 0, rolling = 1, threading = 2}}
    """
    dictionary = Dictionary.from_toml(text)
    simulator = Simulator(json.loads(dictionary.to_json()), Plan(START, impairments=EVERYTHING))
    released = steps(simulator, 600)
    found = outcomes(dictionary, released, simulator)
    assert found["totals"]["rows_windowed"] > 5_000
    modes = {mode for body in released[0].bodies.to_pylist() for mode in re.findall(rb'"m":"mode","v":"(\w+)"', body)}
    assert modes
    assert modes <= {b"idle", b"rolling", b"threading"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_us": -1},
        {"pack_us": 5},
        {"pack_by": "asset", "key": "device"},
        {"plants": 0},
        {"rate_multiplier": 0.0},
        {"readings_per_envelope_max": 0},
    ],
    ids=str,
)
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="couldn't"):
        Plan(**{"start_us": START, **wrong})


@pytest.mark.parametrize("wrong", [{"disorder": 1.5}, {"malformed": -0.1}, {"disorder_max_us": 0}], ids=str)
def test_impairments_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="couldn't"):
        Impairments(**wrong)


def test_the_dictionary_of_several_plants_knows_all_their_devices() -> None:
    dictionary = as_dictionary(scaled(COMPILED, 2))
    simulator = Simulator(COMPILED, Plan(START, plants=2))
    found = outcomes(dictionary, steps(simulator, 30), simulator)
    assert found["totals"]["rows_windowed"] == found["totals"]["rows_total"] > 0

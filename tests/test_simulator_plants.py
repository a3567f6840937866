"""Each plant that comes with a dictionary: the core finds what the truth says of it, whatever goes wrong."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from alumicatalyst._core import Dictionary, Partition
from alumicatalyst.cli import main as program
from alumicatalyst.dictionary import load
from alumicatalyst.errors import InputError
from alumicatalyst.simulator import Clocks, Impairments, Plan, ProcessFaults, Released, Simulator
from alumicatalyst.simulator.expected import Expected, Found
from alumicatalyst.sources import envelopes
from tests.conftest import ROOT

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

SECOND = 1_000_000
START = 1_767_225_600 * SECOND
PLANTS = ["smelter", "contoso", "sensors"]
NETWORK = Impairments(disorder=0.05, duplicates=0.05, bursts=0.3, malformed=0.03, silence=0.1)
FAULTS = ProcessFaults(anode_effects=0.5, stuck=0.3, drifts=0.5, spikes=0.3)
WRONG = Clocks(skew=0.5, skew_max_us=40 * SECOND)
PACKINGS: list[dict[str, Any]] = [{}, {"pack_us": 0}, {"key": "device", "pack_us": 10 * SECOND}]


@cache
def dictionary_of(plant: str) -> Dictionary:
    return load(ROOT / "flows" / f"{plant}.toml")


@cache
def compiled_of(plant: str) -> dict[str, Any]:
    """Every third device is enough, and a quarter of the smelter's."""
    compiled = json.loads(dictionary_of(plant).to_json())
    devices = sorted({one["device"] for one in compiled["series"]})
    few = set(devices[:: 4 if plant == "smelter" else 3]) | {one for one in devices if "rectifier" in one}
    return {**compiled, "series": [one for one in compiled["series"] if one["device"] in few]}


def ran(simulator: Simulator, seconds: int, step: int = 600) -> tuple[list[Released], list[Found]]:
    assert simulator.fleet.faults is not None
    expected = Expected(simulator.fleet, simulator.fleet.faults, START)
    released, found = [], []
    for second in range(step, seconds + 1, step):
        released.append(simulator.advance(START + second * SECOND))
        found += expected.add(released[-1])
    return released, found + expected.close(simulator.now_us)


class Seen:
    """What the core makes of a run."""

    def __init__(self, plant: str, simulator: Simulator, released: list[Released]) -> None:
        partition, name = Partition("sim/1/0", dictionary_of(plant)), simulator.writer.members.device_property
        self.rows: dict[tuple[int, int], tuple[str, str | None]] = {}
        self.times: dict[tuple[int, int], datetime] = {}
        self.alarms: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        for part in released:
            for begin in range(0, len(part), 4_321):
                end = min(begin + 4_321, len(part))
                devices = [simulator.fleet.devices[one] for one in part.devices[begin:end].tolist()]
                properties = None if name is None else [{name: device} for device in devices]
                numbers = list(range(part.first + begin, part.first + end))
                bodies = part.bodies.slice(begin, end - begin).to_pylist()
                output = partition.on_batch(
                    envelopes(bodies, numbers, part.enqueued_us[begin:end].tolist(), None, properties)
                )
                for row in output.readings.select(["sequence_number", "item", "outcome", "event_time"]).to_pylist():
                    key = row["sequence_number"], row["item"]
                    self.rows[key], self.times[key] = (row["outcome"], None), row["event_time"]
                for row in output.rejected.select(["sequence_number", "item", "reason"]).to_pylist():
                    self.rows[row["sequence_number"], row["item"]] = ("rejected", row["reason"])
                self.alarms += output.alarms.to_pylist()
                for column in output.counts.column_names:
                    if column.startswith("rows_"):
                        self.counts[column] += sum(output.counts.column(column).to_pylist())

    def raised(self, device: str, metric: str, begin_us: int, end_us: int) -> set[str]:
        return {
            row["alarm_rule"]
            for row in self.alarms
            if row["transition"] == "raised"
            and (row["device"], row["metric"]) == (device, metric)
            and begin_us <= round(row["event_time"].timestamp() * SECOND) <= end_us
        }


@pytest.mark.parametrize("plant", PLANTS)
def test_its_dictionary_is_without_problems(plant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(["dictionary", "check", str(ROOT / "flows" / f"{plant}.toml")])
    assert ended.value.code == 0
    assert "no problems" in capsys.readouterr().out


@pytest.mark.parametrize("packing", PACKINGS, ids=str)
@pytest.mark.parametrize("plant", PLANTS)
def test_i1_everything_is_accounted_for_and_the_truth_is_what_the_core_finds(
    plant: str, packing: dict[str, Any]
) -> None:
    plan = Plan(START, seed=5, impairments=NETWORK, faults=FAULTS, **packing)
    simulator = Simulator(compiled_of(plant), plan, clocks=WRONG)
    released, found = ran(simulator, 2400)
    seen = Seen(plant, simulator, released)
    outcomes = ("windowed", "late", "duplicate", "rejected")
    assert seen.counts["rows_total"] == sum(int(part.readings.sum()) for part in released) > 0
    assert seen.counts["rows_total"] == sum(seen.counts[f"rows_{one}"] for one in outcomes)
    impaired = [one for part in released for one in part.impaired]
    rejected = {
        (one.envelope, one.item): one.reason
        for one in impaired
        if one.outcome == "rejected" and (one.item >= 0 or not one.metric)
    }
    # Strangers beyond the bound on series cannot come where they are rejected by name.
    assert {key: reason for key, (outcome, reason) in seen.rows.items() if outcome == "rejected"} == rejected
    decided = [one for one in impaired if one.outcome in {"duplicate", "windowed"}]
    assert not [one for one in decided if seen.rows[one.envelope, one.item][0] != one.outcome]
    touched = {(one.envelope, one.item) for one in impaired}
    assert {outcome for key, (outcome, _) in seen.rows.items() if key not in touched} == {"windowed"}
    assert any(one.alarms for one in found)
    for one in found:
        device, metric = simulator.fleet.device[one.fault.series], simulator.fleet.metric[one.fault.series]
        ahead_us = int(simulator.clock_us[device])
        span = one.fault.begin_us + ahead_us, one.fault.end_us + ahead_us
        names = simulator.fleet.devices[device], simulator.fleet.metrics[metric]["name"]
        assert seen.raised(*names, *span) == set(one.alarms), (names, one)


@pytest.mark.parametrize("plant", PLANTS)
def test_a_plant_without_faults_raises_no_alarm_and_comes_whole(plant: str) -> None:
    simulator = Simulator(compiled_of(plant), Plan(START))
    released = [simulator.advance(START + 3_600 * SECOND)]
    seen = Seen(plant, simulator, released)
    assert seen.alarms == []
    assert seen.counts["rows_windowed"] == seen.counts["rows_total"] > 1_000


@pytest.mark.parametrize("plant", PLANTS)
def test_i4_steps_and_clocks_change_no_value(plant: str) -> None:
    plan = Plan(START, impairments=NETWORK, faults=FAULTS)

    def bodies(cuts: list[int], clocks: Clocks) -> list[bytes]:
        simulator = Simulator(compiled_of(plant), plan, clocks=clocks)
        return [one for cut in cuts for one in simulator.advance(START + cut * SECOND).bodies.to_pylist()]

    assert bodies([5, 35, 310, 600], WRONG) == bodies([600], WRONG)
    right, wrong = (Simulator(compiled_of(plant), plan, clocks=clocks) for clocks in (Clocks(), WRONG))
    one, other = right.advance(START + 600 * SECOND), wrong.advance(START + 600 * SECOND)
    assert (one.rows.mantissas == other.rows.mantissas).all()
    assert (one.enqueued_us == other.enqueued_us).all()
    ahead = (other.event_times_us - one.event_times_us).tolist()
    assert ahead == wrong.clock_us[wrong.fleet.device[other.rows.series]].tolist()
    assert 0.2 < np.count_nonzero(wrong.clock_us) / len(wrong.clock_us) < 0.8
    assert -40 * SECOND <= wrong.clock_us.min() < 0 < wrong.clock_us.max() <= 40 * SECOND


def test_a_wide_plant_sends_one_object_for_all_that_a_machine_measures_at_once() -> None:
    simulator = Simulator(compiled_of("contoso"), Plan(START, pack_us=0))
    released = simulator.advance(START + 20 * SECOND)
    for body, device, row in zip(
        released.bodies.to_pylist(), released.devices.tolist(), (released.row_ends - 1).tolist(), strict=True
    ):
        reading = json.loads(body)
        assert reading.pop("deviceId") == simulator.fleet.devices[device]
        assert np.datetime64(reading.pop("timestamp")[:-1], "us") == np.datetime64(
            int(released.rows.times_us[row]), "us"
        )
        reading.pop("messageId", None)
        assert reading.keys() == {"temperature", "pressure", "vibration", "status"}
    assert len(released.rows) == 4 * len(released)


def test_a_sensor_is_known_by_its_hub_alone() -> None:
    simulator = Simulator(compiled_of("sensors"), Plan(START, pack_us=0))
    released = simulator.advance(START + 60 * SECOND)
    assert all(
        {"ts", "temperature", "humidity"} == json.loads(body).keys() - {"messageId"}
        for body in released.bodies.to_pylist()
    )
    assert simulator.writer.members.device_property == "iothub-connection-device-id"


@pytest.mark.parametrize(
    ("skew", "skew_max_us", "message"),
    [(1.5, SECOND, "between 0 and 1"), (0.1, 1, "at least 0.001 s"), (0.1, 61 * SECOND, "clock_skew allows 60 s")],
)
def test_clocks_that_cannot_be_are_refused(skew: float, skew_max_us: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Simulator(compiled_of("smelter"), Plan(START), clocks=Clocks(skew, skew_max_us))
    behind = {**compiled_of("smelter")}
    behind["metrics"] = [{**one, "idle_us": 20 * SECOND} for one in behind["metrics"]]
    with pytest.raises(InputError, match="less a pack allows 14 s"):
        Simulator(behind, Plan(START), clocks=Clocks(0.1))


@pytest.mark.parametrize("plant", PLANTS)
def test_the_command_simulates_it_with_everything_going_wrong(
    plant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to, truth = tmp_path / "a.ndjson", tmp_path / "a.truth"
    options = [
        f"--to={to}",
        f"--truth={truth}",
        "--seconds=1800",
        "--start=2026-01-01T00:00:00Z",
        "--disorder=0.02",
        "--duplicates=0.02",
        "--bursts=0.8",
        "--malformed=0.01",
        "--silence=0.1",
    ]
    options += ["--clock-skew=0.3", "--clock-skew-max=20", "--stuck=0.5", "--drifts=0.5", "--spikes=1", "--json"]
    with pytest.raises(SystemExit) as ended:
        program.main(["simulate", f"--dictionary={ROOT / 'flows' / plant}.toml", *options])
    assert ended.value.code == 0
    summary = json.loads(capsys.readouterr().out)
    lines = [json.loads(line) for line in truth.read_text().splitlines()]
    kinds = Counter(line["kind"] for line in lines)
    assert kinds["envelope"] == summary["envelopes"] == len(to.read_text().splitlines())
    assert kinds.keys() == {"run", "clock", "envelope", "impaired", "fault", "totals"}
    assert {"disorder", "duplicate", "burst", "malformed"} == summary["done"].keys()
    assert lines[0]["clock_skew"] == 0.3
    assert all(0 < abs(line["ahead_us"]) <= 20 * SECOND for line in lines if line["kind"] == "clock")
    assert set(summary["faults"]) == {"stuck", "drift", "spike"}

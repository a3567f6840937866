"""A plant to envelopes: values, faults' absence, order and text, beside orjson that is given all but the text."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest

from alumicatalyst.dictionary import load
from alumicatalyst.simulator import Plan, Released, Simulator
from alumicatalyst.simulator.rows import UNCERTAIN
from bench.load import ROOT

if TYPE_CHECKING:
    from bench.conftest import Measure

SECOND = 1_000_000
START = 1_767_225_600 * SECOND
READINGS = 500_000
# Twenty plants, as a hub that many sites send to has them.
PLANTS = 20
GOAL = 1.0


@dataclass(frozen=True, slots=True)
class Case:
    """What is simulated, and how it is packed."""

    dictionary: str
    plan: dict[str, Any] = field(default_factory=dict)


CASES = {
    "smelter, objects": Case("smelter", {"pack_us": 0}),
    "smelter, 10 s of a device": Case("smelter", {"pack_us": 10 * SECOND}),
    "smelter, arrays of 100": Case(
        "smelter", {"pack_us": 10 * SECOND, "pack_by": "asset", "readings_per_envelope_max": 100}
    ),
    "contoso, wide objects": Case("contoso", {"pack_us": 0}),
    "contoso, 10 s of a device": Case("contoso", {"pack_us": 10 * SECOND}),
    "contoso, arrays of 100": Case(
        "contoso", {"pack_us": 10 * SECOND, "pack_by": "asset", "readings_per_envelope_max": 100}
    ),
}


@cache
def compiled(name: str) -> dict[str, Any]:
    return json.loads(load(ROOT / "flows" / f"{name}.toml").to_json())  # type: ignore[no-any-return]


def simulator(case: Case) -> Simulator:
    return Simulator(compiled(case.dictionary), Plan(START, plants=PLANTS, **case.plan))


def seconds(made: Simulator) -> int:
    """How long the plants take for that many readings, in whole packs."""
    return -(-int(READINGS / made.fleet.per_second) // 10) * 10


def ran(made: Simulator) -> list[Released]:
    end, parts = START + seconds(made) * SECOND, []
    while made.now_us < end:
        parts.append(made.advance(min(end, made.now_us + made.step_us)))
    return parts


def columns(made: Simulator, part: Released) -> list[list[Any]]:
    """What orjson is given: for each reading its device, time, name, value and quality, as Python objects."""
    fleet, rows = made.fleet, part.rows
    devices = np.array(fleet.devices, object)[fleet.device[rows.series]].tolist()
    times = np.datetime_as_string(rows.times_us.astype("datetime64[us]").astype("datetime64[ms]")).tolist()
    names = np.array(made.writer.names, object)[rows.series].tolist()
    values: list[Any] = (rows.mantissas / 10.0 ** fleet.decimals[rows.series]).tolist()
    states = [{code: name for name, code in (metric["states"] or {}).items()} for metric in fleet.metrics]
    for row, metric in enumerate(fleet.metric[rows.series].tolist()):
        if states[metric]:
            values[row] = states[metric][int(values[row])]
    uncertain = (rows.marks & UNCERTAIN != 0).tolist()
    return [devices, [f"{time}Z" for time in times], names, values, uncertain]


def bodies(made: Simulator, part: Released, given: list[list[Any]]) -> list[bytes]:
    """Write the bodies of a release with orjson."""
    members, packed = made.writer.members, bool(made.plan.pack_us)
    device_name, time_name, quality_name = str(members.device), str(members.time), str(members.quality)
    rows = list(zip(*given, strict=True))
    out, at = [], 0
    for end in part.row_ends.tolist():
        objects: list[dict[str, Any]] = []
        for device, time, name, value, uncertain in rows[at:end]:
            if members.metric is not None:
                one = {device_name: device, time_name: time, members.metric: name, str(members.value): value}
                if uncertain:
                    one[quality_name] = 64
                objects.append(one)
            elif objects and objects[-1][device_name] == device and objects[-1][time_name] == time:
                objects[-1][name] = value
            else:
                objects.append({device_name: device, time_name: time, name: value})
        out.append(orjson.dumps(objects if packed else objects[0]))
        at = end
    return out


def parsed(texts: list[bytes], ignored: str | None) -> list[Any]:
    """Read bodies back, without the member that older firmware adds."""
    found = [orjson.loads(text) for text in texts]
    for body in found:
        for one in body if isinstance(body, list) else [body]:
            one.pop(ignored, None)
    return found


@pytest.mark.parametrize("kind", CASES)
def test_simulator(kind: str, measure: Measure) -> None:
    made = simulator(CASES[kind])
    parts = ran(made)
    readings = sum(len(part.rows) for part in parts)
    assert readings == pytest.approx(READINGS, rel=0.05)
    for part in parts:
        wanted = bodies(made, part, columns(made, part))
        # orjson writes 4.30 as 4.3: the same reading.
        assert parsed(part.bodies.to_pylist(), made.writer.members.ignored) == parsed(wanted, None)

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (simulator(CASES[kind]),), {}

    measure(ran, layer="simulate", load=kind, who="AlumiCatalyst", readings=readings, setup=setup, rounds=7, goal=GOAL)


@pytest.mark.parametrize("kind", CASES)
def test_orjson(kind: str, measure: Measure) -> None:
    made = simulator(CASES[kind])
    parts = [(part, columns(made, part)) for part in ran(made)]
    readings = sum(len(part.rows) for part, _ in parts)

    def run() -> int:
        return sum(len(bodies(made, part, given)) for part, given in parts)

    assert run() == sum(len(part) for part, _ in parts)
    measure(run, layer="simulate", load=kind, who="peer: orjson, the text alone", readings=readings, rounds=3)

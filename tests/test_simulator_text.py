"""Text a column at a time: whatever stands side by side, the bytes are those that plain formatting gives."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alumicatalyst.dictionary import load
from alumicatalyst.simulator import Plan, Simulator
from alumicatalyst.simulator.text import decimal, put_left, put_right, rfc3339, strings, texts_of, to_right
from tests.conftest import ROOT

START = 1_767_225_600_000_000
TEXTS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30), min_size=1, max_size=12)
PLANTS = {name: json.loads(load(ROOT / "flows" / f"{name}.toml").to_json()) for name in ("smelter", "contoso")}
NARROW = PLANTS["smelter"]["payload"]
WIDE = {"metric": None, "value": None, "quality": None}


@given(st.lists(st.integers(-(10**16), 10**16), min_size=1), st.integers(0, 9))
def test_a_decimal_is_the_mantissa_with_its_point(mantissas: list[int], decimals: int) -> None:
    texts = texts_of(*decimal(np.array(mantissas), decimals))
    assert texts == [f"{Decimal(one).scaleb(-decimals):.{decimals}f}" for one in mantissas]


@given(st.lists(st.integers(0, 4 * 10**15), min_size=1), st.booleans())
def test_a_time_is_written_as_rfc_3339(times_us: list[int], microseconds: bool) -> None:
    times = np.array(times_us)
    unit = "us" if microseconds else "ms"
    wanted = [f"{np.datetime64(one, 'us').astype(f'datetime64[{unit}]')}Z" for one in times_us]
    block = rfc3339(times, microseconds=microseconds)
    assert [bytes(row).decode() for row in block] == wanted


@given(TEXTS, st.data())
def test_texts_of_all_lengths_stand_where_they_are_put(texts: list[str], data: st.DataObject) -> None:
    # A piece that may be spilled over comes before each text, one that covers what it spills behind it.
    spill = data.draw(st.integers(0, 12))
    block, lengths = strings(texts)
    ends = np.cumsum(lengths + spill)
    for left in (True, False):
        out = np.full(int(ends[-1]), ord("?"), dtype=np.uint8)
        gaps = ends - spill if left else ends - lengths - spill
        if left:
            put_left(out, ends - spill - lengths, block, lengths, spill)
        else:
            put_right(out, ends, to_right(block, lengths), lengths, spill)
        put_left(out, gaps, *strings(["-" * spill] * len(texts)), 0)
        wanted = "".join(text + "-" * spill if left else "-" * spill + text for text in texts)
        assert bytes(out) == wanted.encode()


def formatted(simulator: Simulator, released: Any) -> list[bytes]:
    """The bodies of a release, reading by reading in plain Python."""
    fleet, members, rows = simulator.fleet, simulator.writer.members, released.rows
    plain, bodies, at = simulator.writer, [], 0
    for end in released.row_ends.tolist():
        objects: list[str] = []
        before = None
        for row in range(at, end):
            series, time_us = int(rows.series[row]), int(released.event_times_us[row])
            device, metric = int(fleet.device[series]), fleet.metrics[int(fleet.metric[series])]
            value = f"{Decimal(int(rows.mantissas[row])).scaleb(-int(fleet.decimals[series]))}"
            if metric["states"]:
                value = json.dumps(next(name for name, code in metric["states"].items() if code == rows.mantissas[row]))
            name = json.dumps(plain.names[series])
            if plain.wide and before == (device, time_us):
                objects[-1] += f",{name}:{value}"
                continue
            before = device, time_us
            time = str(np.datetime64(time_us, "us").astype("datetime64[ms]")) + "Z"
            head = [] if members.device is None else [f'"{members.device}":"{fleet.devices[device]}"']
            if fleet.device_keys[device] % np.uint64(4) == 0 and members.ignored:
                head.append(f'"{members.ignored}":1')
            head.append(f'"{members.time}":"{time}"')
            if plain.wide:
                head.append(f"{name}:{value}")
            else:
                head += [f'"{members.metric}":{name}', f'"{members.value}":{value}']
                if rows.marks[row] & 32:
                    head.append(f'"{members.quality}":64')
            objects.append("{" + ",".join(head))
        text = ",".join(one + "}" for one in objects)
        bodies.append((f"[{text}]" if simulator.plan.pack_us else text).encode())
        at = end
    return bodies


@pytest.mark.parametrize("pack_us", [0, 5_000_000])
@pytest.mark.parametrize("pack_by", ["device", "asset"])
@pytest.mark.parametrize(
    ("plant", "payload"),
    [
        ("smelter", {}),
        ("smelter", {**WIDE, "ignore": ["seq", "q"]}),
        ("contoso", {}),
        # Names of many lengths, in more than one byte a character.
        ("smelter", {"device": ["geräte-kennung-der-messstelle"], "metric": "größe", "value": "wert"}),
    ],
)
def test_bodies_are_those_of_one_reading_after_the_other(
    plant: str, payload: dict[str, Any], pack_by: Any, pack_us: int
) -> None:
    compiled = {**PLANTS[plant], "payload": {**PLANTS[plant]["payload"], **payload}}
    long = {one["device"]: f"{one['device']}{'x' * (place % 70)}" for place, one in enumerate(compiled["series"])}
    compiled["series"] = [{**one, "device": long[one["device"]]} for one in compiled["series"]]
    simulator = Simulator(compiled, Plan(START, pack_us=pack_us, pack_by=pack_by))
    released = simulator.advance(START + 90_000_000)
    assert released.bodies.to_pylist() == formatted(simulator, released)
    assert len(released.rows) > 2_000

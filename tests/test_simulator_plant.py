"""The simulated plant behaves as a smelter: what its series have to do with each other, and with the time of day."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst._core import Dictionary
from alumicatalyst.dictionary import load
from alumicatalyst.simulator import Plan, ProcessFaults
from alumicatalyst.simulator.noise import keys_of, levels, smooth, wave
from alumicatalyst.simulator.plant import build_fleet
from alumicatalyst.simulator.rows import measure
from tests.conftest import ROOT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alumicatalyst.simulator.plant import Fleet

    Floats = NDArray[np.float64]

SECOND = 1_000_000
DAY_S = 86_400
START = 1_767_225_600 * SECOND
COMPILED: dict[str, Any] = json.loads(load(ROOT / "flows" / "smelter.toml").to_json())
FEW = {f"pot-{number:03}" for number in (1, 2, 3, 17, 30)} | {
    "rectifier-1",
    "furnace-1",
    "furnace-2",
    "press-1",
    "hall-1",
}
POTS = sorted(device for device in FEW if device.startswith("pot"))

Curves = dict[tuple[str, str], tuple["Floats", "Floats"]]


def plant(devices: set[str] | None = None, compiled: dict[str, Any] = COMPILED, **plan: Any) -> Fleet:
    chosen = [one for one in compiled["series"] if devices is None or one["device"] in devices]
    return build_fleet({**compiled, "series": chosen}, Plan(START, **plan))


def curves(fleet: Fleet, seconds: float, begin: float = 0.0, only: str | None = None) -> Curves:
    """Return for each device and metric the seconds since the start, and values in the canonical unit (or codes)."""
    found = {}
    for group in fleet.groups:
        if only is not None and group.metric["name"] != only:
            continue
        rows = measure(fleet, group, START + round(begin * SECOND), START + round((begin + seconds) * SECOND))
        for series in group.series.tolist():
            of = rows.series == series
            sent = rows.mantissas[of]
            values = sent.astype(float) if group.metric["states"] is not None else fleet.canonical(series, sent)
            device = fleet.devices[int(fleet.device[series])]
            found[device, group.metric["name"]] = (rows.times_us[of] - START) / SECOND, values
    return found


@pytest.fixture(scope="module")
def day() -> Curves:
    return curves(plant(FEW), DAY_S)


def means(values: Floats, count: int) -> Floats:
    """Return the means of so many values each."""
    return np.asarray(values[: len(values) // count * count].reshape(-1, count).mean(axis=1))


def test_the_line_keeps_its_current_within_a_percent_and_is_lowered_now_and_then(day: Curves) -> None:
    _, current = day["rectifier-1", "line_current"]
    assert 297.0 <= current.min() < current.max() <= 303.0
    minutes = means(current, 60)
    dips = minutes < np.median(minutes) - 0.9
    assert 0.005 < dips.mean() < 0.2
    assert np.abs(np.diff(minutes)).max() > 0.6, "within a minute"


def test_all_cells_follow_the_same_current() -> None:
    found = curves(plant(), 4 * 3600)
    _, current = found["rectifier-1", "line_current"]
    cells = np.stack([values for (_, metric), (_, values) in found.items() if metric == "cell_voltage"])
    # What is common to the cells over half a minute, and slower than the metal's waves of one.
    changes, line = np.diff(means(cells.mean(axis=0), 30)), np.diff(means(current, 30))
    assert np.corrcoef(changes, line)[0, 1] > 0.8
    # V = Vext + R x I: with R in volts per kA at nominal, 2.6 V of 4.3 follow the current.
    large = np.abs(line) > 0.5
    assert large.sum() >= 2
    slope = float((changes[large] * line[large]).sum() / (line[large] ** 2).sum())
    assert slope == pytest.approx((4.28 - 1.65) / 300.0, rel=0.3)


def test_two_plants_have_a_current_each() -> None:
    found = curves(plant({"rectifier-1", "pot-001"}, plants=2), 3600)
    assert (found["rectifier-1", "line_current"][1] != found["p2-rectifier-1", "line_current"][1]).mean() > 0.9


@pytest.mark.parametrize("faster", [1.0, 7.0])
def test_a_cell_is_fed_what_its_current_uses_up(faster: float) -> None:
    found = curves(plant({"pot-001", "pot-002", "pot-003"}, rate_multiplier=faster), 2 * DAY_S)
    for device in ("pot-001", "pot-002", "pot-003"):
        _, shots = found[device, "alumina_feed"]
        # 1.93 kg of alumina for each kg of metal, from three feeders of which one is weighed.
        assert 3 * shots.sum() / 2 == pytest.approx(8.0534 * 300 * 0.94 * 1.93, rel=0.02)
        weights = np.unique(np.rint(shots / np.median(shots[shots > 0.5])))
        assert set(weights) == ({0, 1, 2} if faster == 1.0 else {0, 1}), "whole shots"
        assert 1.3 < np.median(shots[shots > 0.5]) < 1.7


def test_a_cells_voltage_rises_while_it_is_underfed_and_falls_while_it_is_overfed(day: Curves) -> None:
    for device in POTS:
        _, shots = day[device, "alumina_feed"]
        _, volts = day[device, "cell_voltage"]
        fed, rise = means(shots, 10), np.diff(means(volts, 450))
        # Quarters of an hour; the change from one to the next half against what was fed in both.
        assert np.corrcoef(fed, rise[::2][: len(fed)])[0, 1] < -0.5
        quarters = means(volts, 900)
        assert 0.03 < np.percentile(quarters, 95) - np.percentile(quarters, 5) < 0.15


def test_metal_rolls_at_its_own_pace_and_height_in_each_cell_and_on_each_day() -> None:
    fleet = plant()
    heights = []
    for begin in (0, 5 * DAY_S):
        found = curves(fleet, 3600, begin)
        cells = np.stack([values for (_, metric), (_, values) in found.items() if metric == "cell_voltage"])
        power = np.abs(np.fft.rfft(cells - cells.mean(axis=1, keepdims=True), axis=1)) ** 2
        hertz = np.fft.rfftfreq(3600)
        rolling = power[:, (hertz > 0.015) & (hertz < 0.055)].sum(axis=1)
        above = power[:, hertz >= 0.055].sum(axis=1)
        assert np.median(rolling / above) > 1.0
        assert len(np.unique(power[:, hertz > 0.015].argmax(axis=1) // 10)) > 5, "of the cells"
        # Of a wave, from crest to trough.
        heights.append(2 * np.sqrt(2 * 2 * rolling) / 3600)
    assert np.percentile(heights, 5) > 0.005
    assert 0.01 < np.median(heights) < 0.05
    assert 0.03 < np.max(heights) < 0.13
    assert np.abs(np.corrcoef(heights)[0, 1]) < 0.9


def test_each_cell_is_tapped_once_a_day_and_gets_new_anodes_every_other_day() -> None:
    fleet = plant(set(POTS))
    days = 6
    found = curves(fleet, days * DAY_S)
    for device in POTS:
        minutes = means(found[device, "cell_voltage"][1], 60)
        rises = np.flatnonzero(minutes[4:] - minutes[:-4] > 0.055)
        taps = 1 + int((np.diff(rises) > 60).sum())
        assert days - 1 <= taps <= days + 4
        # A change leaves the cell above its usual voltage for hours: twice or thrice in six days.
        hours = np.convolve(minutes, np.ones(180) / 180, "valid")
        changed = np.flatnonzero(hours > np.median(hours) + 0.03)
        assert 2 <= 1 + int((np.diff(changed) > 600).sum()) <= 4
        assert 120 < len(changed) < 4 * 300


def test_baths_are_as_hot_as_baths_are() -> None:
    found = curves(plant(), 3 * DAY_S, only="bath_temperature")
    baths = np.concatenate([values for _, values in found.values()])
    assert len(baths) == 48 * 9
    assert 945 < baths.min() < baths.max() < 972
    assert 955 < baths.mean() < 963


def test_furnaces_charge_melt_and_hold_in_this_order_and_say_so(day: Curves) -> None:
    for device in ("furnace-1", "furnace-2"):
        times, melt = day[device, "temperature"]
        said, codes = day[device, "status"]
        assert set(codes) == {1, 2}
        status = codes[np.searchsorted(said, times, side="right").clip(1) - 1]
        begins = times[1:][np.diff(status) == -1]
        assert 3 <= len(begins) <= 5
        for begin, end in itertools.pairwise(begins):
            within = (times >= begin) & (times < end)
            melting, holding = melt[within & (status == 1)], melt[within & (status == 2)]
            assert 730 < holding[60:].min() < holding.max() < 765
            # Three charges pull it down, then it stays at the melting point, then it is heated.
            assert melting[0] > 715
            assert melting.min() < 668
            plateau = np.abs(melting - 663) < 4
            assert 1800 < 5 * plateau.sum() < 9000
            first, last = np.flatnonzero(plateau)[[0, -1]]
            assert plateau[first:last].mean() > 0.9
            assert np.diff(means(melting[last + 20 : -40], 60)).min() > 0
            charges = np.diff(means(melting[:first], 12)) < -4
            assert 2 <= (np.diff(charges.astype(int)) == 1).sum() + charges[0] <= 4
            assert 2 < means(holding[:3000], 12).std() < 6, "the burner goes on and off"


def test_a_press_breaks_a_billet_through_and_rests_between_two(day: Curves) -> None:
    times, bar = day["press-1", "pressure"]
    _, shakes = day["press-1", "vibration"]
    said, codes = day["press-1", "status"]
    runs = codes[np.searchsorted(said, times, side="right").clip(1) - 1] == 1
    assert 0.75 < runs.mean() < 0.97
    # Within half a minute of a change the status, which is sent every 30 s, is not told yet.
    near = np.convolve(np.abs(np.diff(runs, prepend=runs[0]).astype(int)), np.ones(121), "same") > 0
    stopped = ~runs & ~near
    assert stopped.any()
    assert bar[stopped].max() < 6
    assert shakes[stopped].max() < 1
    assert means(shakes[runs & ~near], 300).min() > 1.2
    pressing = (bar > 100) & runs & ~near
    starts = np.flatnonzero(np.diff(pressing.astype(int)) == 1) + 1
    ends = np.flatnonzero(np.diff(pressing.astype(int)) == -1) + 1
    whole = [(b, ends[ends > b][0]) for b in starts if (ends > b).any() and not near[b - 2] and not near[b + 130]]
    assert len(whole) > 300
    for begin, end in whole:
        stroke = bar[begin:end]
        assert 190 < stroke.max() < 245
        assert stroke.argmax() < 8
        assert stroke[-10:].mean() < 0.78 * stroke.max()
        assert shakes[begin:end].mean() > 1.3
        assert shakes[end + 3 : end + 12].mean() < 1.3 or near[end + 12]
    gaps = [later - end for (_, end), (later, _) in itertools.pairwise(whole) if later - end < 60]
    assert 12 < np.median(gaps) < 22


def test_the_air_is_warmest_in_the_afternoon_and_in_summer_and_then_driest() -> None:
    fleet = plant({"hall-1"})
    warm, noon = [], []
    for begin in range(0, 360 * DAY_S, 30 * DAY_S):
        found = curves(fleet, 5 * DAY_S, begin)
        _, degrees = found["hall-1", "temperature"]
        _, damp = found["hall-1", "humidity"]
        warm.append(degrees.mean())
        hours = means(degrees.reshape(5, -1).mean(axis=0), 120)
        noon.append(int(hours.argmax()))
        within = degrees - np.repeat(means(degrees, 2880), 2880), damp - np.repeat(means(damp, 2880), 2880)
        assert np.corrcoef(*within)[0, 1] < -0.6
        assert 3 <= damp.min() < damp.max() <= 97
    assert 11 <= np.median(noon) <= 18
    assert np.argmax(warm) in {5, 6, 7}
    assert max(warm) - min(warm) > 10


MILL = """
    name = "mill"
    version = "1"
    site = "example/mill"
    time_zone = "UTC"
    [payload]
    device = "id"
    time = {field = "t", format = "epoch_ms"}
    metric = "m"
    value = "v"
    [machine.pump]
    device = "pump-{1..6}"
    asset = "works/{device}"
    temperature = {unit = "°C", range = [0, 150], every = "10s", alarm.H = {above = 95, deadband = 2, priority = "low"}}
    pressure = {unit = "bar", range = [0, 16], every = "1s"}
    vibration = {unit = "mm/s", range = [0, 50], every = "1s", alarm.H = {above = 11.2, deadband = 1, priority = "low"}}
    power = {unit = "kW", range = [0, 90], every = "5s"}
    strange = {unit = "ppm", range = [-3, 7], every = "5s", alarm.L = {below = 0, deadband = 0.1, priority = "low"}}
    status = {states = {idle = 0, running = 1, maintenance = 2, fault = 9}, every = "10s"}
    [machine.room]
    device = "room-{1..3}"
    asset = "works/{device}"
    temperature = {unit = "°C", range = [-20, 60], every = "30s"}
    humidity = {unit = "%", range = [0, 100], every = "30s"}
"""


@pytest.fixture(scope="module")
def mill() -> Curves:
    return curves(plant(compiled=json.loads(Dictionary.from_toml(MILL).to_json())), DAY_S)


@pytest.mark.parametrize("number", range(1, 7))
def test_what_an_unknown_machine_measures_agrees_with_its_status(mill: Curves, number: int) -> None:
    device = f"pump-{number}"
    said, codes = mill[device, "status"]
    assert set(codes) == {0, 1, 2}
    assert 0.7 < (codes == 1).mean() < 0.98
    steady = {}
    for metric in ("vibration", "power", "pressure"):
        times, values = mill[device, metric]
        state = codes[np.searchsorted(said, times, side="right").clip(1) - 1]
        later = codes[np.searchsorted(said, times + 20, side="right").clip(1) - 1]
        sooner = codes[np.searchsorted(said, times - 20, side="right").clip(1) - 1]
        steady[metric] = (
            values[(state == 1) & (later == 1) & (sooner == 1)],
            values[(state != 1) & (later != 1) & (sooner != 1)],
        )
        at_work, at_rest = steady[metric]
        assert at_work.min() > at_rest.max()
    times, degrees = mill[device, "temperature"]
    state = codes[np.searchsorted(said, times, side="right").clip(1) - 1]
    starts, stops = (np.flatnonzero(np.diff((state == 1).astype(int)) == sign) for sign in (1, -1))
    for at in starts[(starts > 60) & (starts < len(times) - 180)]:
        assert degrees[at + 150] > degrees[at] + 3, "it warms up at work"
    for at in stops[(stops > 200) & (stops < len(times) - 40)]:
        assert degrees[at + 28] < degrees[at] - 3, "and cools at rest"


def test_an_unknown_machine_stays_within_its_limits(mill: Curves) -> None:
    for (device, metric), (_, values) in mill.items():
        low, high = {"temperature": (0, 95), "vibration": (0, 11.2), "strange": (0, 7)}.get(metric, (-20, 100))
        if device.startswith("pump"):
            assert low <= values.min() <= values.max() <= high, metric
        if metric != "status":
            assert len(np.unique(values)) > 10


def test_sensors_of_the_air_are_known_by_what_they_measure(mill: Curves) -> None:
    rooms = [mill[f"room-{number}", "temperature"][1] for number in (1, 2, 3)]
    assert all(10 < room.min() < room.max() < 25 for room in rooms)
    assert np.corrcoef(rooms[0], rooms[1])[0, 1] > 0.3, "the same weather"
    assert np.corrcoef(rooms[0], mill["room-1", "humidity"][1])[0, 1] < -0.5


RANGES = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)).map(lambda both: [both[0], both[0] + both[1]])


@settings(max_examples=30, deadline=None)
@given(range_=RANGES, name=st.sampled_from(["temperature", "flow", "x", "level", "speed", "cell_voltage", "pressure"]))
def test_no_value_leaves_its_range(range_: list[float], name: str) -> None:
    rule = {"condition": {"kind": "above", "limit": sum(range_) / 2}, "deadband": 0.0, "on_us": 0}
    # With a rule above and one below, a sensor that is stuck stays at an end of its scale.
    rules = [rule, {**rule, "condition": {"kind": "below", "limit": range_[0]}}]
    metrics = [
        {**one, "name": name, "range": range_, "alarms": rules, "every_us": 10 * SECOND}
        for one in COMPILED["metrics"]
        if one["name"] in {"humidity", "line_current"}
    ]
    series = [{"device": f"d-{place}", "asset": "example/north/x", "metric": place} for place in range(len(metrics))]
    fleet = plant(compiled={**COMPILED, "metrics": metrics, "series": series}, faults=ProcessFaults(stuck=1, spikes=2))
    low, high = range_
    ends = set()
    for _, values in curves(fleet, 6 * 3600).values():
        assert low <= values.min()
        assert values.max() <= high
        ends |= {end for end in (0, 1) if np.abs(values - range_[end]).min() < 0.01 * (high - low)}
    assert ends, "as far as it may go"


@pytest.mark.parametrize("faults", [ProcessFaults(), ProcessFaults(0.5, 0.5, 0.5, 0.5)], ids=["in order", "faults"])
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_i4_any_measurements_in_any_order_have_the_values_they_have_in_a_row(
    faults: ProcessFaults, data: st.DataObject
) -> None:
    fleet = plant(FEW, faults=faults)
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    for group in fleet.groups:
        rows = measure(fleet, group, START, START + 3 * 3600 * SECOND)
        if not len(rows):
            continue
        chosen = random.integers(0, len(rows), random.integers(1, 200))
        position = np.searchsorted(group.series, rows.series[chosen])
        times, mantissas = fleet.evaluate(group, position, rows.index[chosen])
        assert times.tolist() == rows.times_us[chosen].tolist()
        assert mantissas.tolist() == rows.mantissas[chosen].tolist()


def test_i4_a_number_for_a_cell_is_the_same_from_a_table_and_by_itself() -> None:
    keys = keys_of(1, "test", ["a", "b", "c"])
    rows = np.repeat(np.arange(3), 500)
    cells = np.tile(np.arange(500) // 50 - 3, 3)
    table = levels(keys, rows, cells, 2)
    for place in range(0, 1500, 97):
        alone = levels(keys, rows[place : place + 1], cells[place : place + 1], 2)
        assert [one[0] for one in alone] == [one[place] for one in table]
    wandering = smooth(keys, rows, cells * 1_000 + 17, 300)
    assert -1 <= wandering.min() < wandering.max() <= 1


def test_the_quick_sine_is_one() -> None:
    turns = np.linspace(-3, 3, 10_001)
    assert wave(turns) == pytest.approx(np.sin(2 * np.pi * turns), abs=1.2e-3)

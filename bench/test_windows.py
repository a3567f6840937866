"""The window stage alone: columns of numbers to windows with all statistics, beside numpy, polars, DuckDB, pandas and
Bytewax's own windows. The tiers K and K-OOO are its loads of 10,000 series.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from alumicatalyst._core import FixedWindows
from bench import peers
from bench.load import DELAYED_SHARE, LATENESS_US, WINDOW_US, Columns, columns, scaled
from bench.peers import STATISTICS, Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.conftest import Measure

READINGS = scaled(5_000_000, 100_000)
PEER_READINGS = scaled(2_000_000, 100_000)
PER_READING = scaled(50_000, 50_000)
PER_BATCH = 50_000
GOAL = 30.0
HOPPING_US = 60_000_000
HOPPING_READINGS = scaled(600_000, 100_000)
# Series, whether each second has another order, and the share of readings that come up to 4 s late.
LOADS = {
    "1,000 series, in order": (1_000, False, DELAYED_SHARE),
    "1,000 series, shuffled": (1_000, True, DELAYED_SHARE),
    "10,000 series, in order": (10_000, False, DELAYED_SHARE),
    "10,000 series, a tenth out of order": (10_000, False, 0.1),
    "40,000 series, in order": (40_000, False, DELAYED_SHARE),
    "40,000 series, shuffled": (40_000, True, DELAYED_SHARE),
}
TIERS = {
    "10,000 series, in order": ("K", 40.0),
    "10,000 series, a tenth out of order": ("K-OOO", 20.0),
}
HOPPING = {"1,000 series, in order": ("", None), "10,000 series, in order": ("K", 30.0)}
OURS = "AlumiCatalyst, 5 s of lateness"
AT_ONCE: dict[str, Callable[[Columns, int], Answer]] = {
    "peer: numpy": peers.numpy_windows,
    "peer: polars": peers.polars_windows,
    "peer: duckdb": peers.duckdb_windows,
    "peer: pandas": peers.pandas_windows,
}
NOTE = "sees all readings at once; no lateness, no duplicates"
BYTEWAX = "peer: Bytewax fold_window"
BYTEWAX_NOTE = "the same lateness and clock per series; no duplicates; Python, reading by reading"


@cache
def made(load: str, readings: int) -> Columns:
    series, shuffled, delayed_share = LOADS[load]
    return columns(readings, series, shuffled=shuffled, delayed_share=delayed_share)


def our_windows(readings: Columns, length_us: int = WINDOW_US) -> Answer:
    """Hand the readings over in batches, as a stream comes."""
    batch = pa.RecordBatch.from_arrays(
        [pa.array(readings.series), pa.array(readings.time_us), pa.array(readings.value)],
        names=["series", "event_time", "value"],
    )
    windows = FixedWindows(length_us=length_us, hop_us=WINDOW_US, out_of_orderness_us=LATENESS_US)
    closed = [windows.on_readings(batch.slice(at, PER_BATCH)) for at in range(0, batch.num_rows, PER_BATCH)]
    table = pa.Table.from_batches([*closed, windows.flush()])
    return {name: table[name].to_numpy() for name in table.column_names}


def assert_same(found: Answer, expected: Answer) -> None:
    order = np.lexsort((found["window_start"], found["series"]))
    for name in ("series", "window_start", *STATISTICS):
        # DuckDB masks what has no value, such as the slope of one reading.
        column = np.ma.filled(found[name].astype(float), np.nan)[order]
        np.testing.assert_allclose(column, expected[name].astype(float), rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("who", [OURS, *AT_ONCE])
def test_windows(who: str, load: str, measure: Measure) -> None:
    ours = who == OURS
    work: Any = our_windows if ours else AT_ONCE[who]
    readings = made(load, READINGS if ours else PEER_READINGS)
    assert_same(work(readings), peers.numpy_windows(readings))
    tier, goal = TIERS.get(load, ("", GOAL))
    measure(
        lambda: work(readings),
        layer="windows",
        load=load,
        who=who,
        readings=len(readings.series),
        rounds=9 if ours else 3,
        goal=goal if ours else None,
        tier=tier,
        note="" if ours else NOTE,
    )


@pytest.mark.parametrize("load", HOPPING)
@pytest.mark.parametrize("who", [OURS, *AT_ONCE])
def test_hopping_windows(who: str, load: str, measure: Measure) -> None:
    ours = who == OURS
    work: Any = our_windows if ours else AT_ONCE[who]
    readings = made(load, READINGS if ours else HOPPING_READINGS)
    part = made(load, HOPPING_READINGS)
    assert_same(work(part, HOPPING_US), peers.numpy_windows(part, HOPPING_US))
    tier, goal = HOPPING[load]
    measure(
        lambda: work(readings, HOPPING_US),
        layer="windows",
        load=f"{load}, 60 s every 10 s",
        who=who,
        readings=len(readings.series),
        rounds=5 if ours else 3,
        goal=goal if ours else None,
        tier=tier,
        note="" if ours else NOTE,
    )


@pytest.mark.parametrize("length_us", [WINDOW_US, HOPPING_US], ids=["tumbling", "hopping"])
def test_bytewax_windows(length_us: int, measure: Measure) -> None:
    load = "10,000 series, in order"
    readings = made(load, PER_READING)
    items = peers.bytewax_items(readings)
    assert_same(peers.bytewax_windows(items, length_us), peers.numpy_windows(readings, length_us))
    measure(
        lambda: peers.bytewax_windows(items, length_us),
        layer="windows",
        load=load if length_us == WINDOW_US else f"{load}, 60 s every 10 s",
        who=BYTEWAX,
        readings=PER_READING,
        rounds=2,
        tier="K",
        note=BYTEWAX_NOTE,
    )

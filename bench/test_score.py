"""Scores alone: columns of readings to a score each, in a process without Python, beside numpy, pandas and river.

All compute the same recursion of an exponentially weighted mean and variance, and score a reading before it is learned
from. Ours and numpy's weigh a reading by the time since the one before; pandas and river give each the same weight, as
theirs cannot do otherwise for a variance. The readings come at whole seconds, where that is the same.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
from river import stats

from alumicatalyst._core import Dictionary
from bench.kernels import Kernel
from bench.load import Columns, columns, scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.conftest import Measure

LOADS = {"1,000 series, in order": 1_000, "40,000 series, in order": 40_000}
SECONDS = {1_000: scaled(4_000_000, 100_000) // 1_000, 40_000: scaled(4_000_000, 1_200_000) // 40_000}
HALF_LIFE_S, LEARN = 600.0, 20
DICTIONARY = f"""
name = "bench-score"
version = "1"
site = "bench/site"
[payload]
device = ["d"]
time = {{field = "t", format = "epoch_us"}}
metric = "m"
value = "v"
[default]
windows = ["10s"]
detector = "ewma"
[detector.ewma]
half_life = "10min"
learn = {LEARN}
[machine.pot]
device = "pot-1"
cell_voltage = {{unit = "V"}}
"""


@cache
def made(series: int, share: int = 1) -> Columns:
    """Return a second of all series after another; no reading is out of order, as the stage never sees one."""
    seconds = max(LEARN + 10, SECONDS[series] // share)
    jittery = columns(seconds * series, series, shuffled=False, delayed_share=0.0)
    return Columns(jittery.series, jittery.time_us // 1_000_000 * 1_000_000, jittery.thousandths)


@pytest.fixture
def kernel(tmp_path: Path, load: str) -> Iterator[Kernel]:
    readings, series = made(LOADS[load]), LOADS[load]
    (tmp_path / "dictionary.json").write_text(Dictionary.from_toml(DICTIONARY).to_json())
    parts = [np.array([len(readings.value), series], "<i8"), readings.series.astype("<i8")]
    parts += [readings.time_us.astype("<i8"), readings.value.view("<i8")]
    (tmp_path / "columns").write_bytes(b"".join(part.tobytes() for part in parts))
    found = Kernel("score", tmp_path / "dictionary.json", tmp_path / "columns")
    yield found
    found.close()


def by_numpy(readings: Columns, series: int) -> np.ndarray[Any, Any]:
    """Score all series at once, second by second; every series must have a reading in each."""
    values, times = readings.value.reshape(-1, series), readings.time_us.reshape(-1, series)
    mean, variance, newest = values[0].copy(), np.zeros(series), times[0]
    scores = np.full(values.shape, np.nan)
    for second in range(1, len(values)):
        distance = values[second] - mean
        with np.errstate(divide="ignore"):
            score = np.minimum(np.abs(distance) / np.sqrt(variance), 1e6)
        if second >= LEARN:
            scores[second] = score
        kept = np.exp2((newest - times[second]) / (HALF_LIFE_S * 1e6))
        weight = 1 - kept
        mean += weight * distance
        variance = kept * (variance + weight * distance * distance)
        newest = times[second]
    return scores.reshape(-1)


def by_pandas(readings: Columns, series: int) -> np.ndarray[Any, Any]:
    """Mean and variance of each series by `ewm`, each shifted by a reading."""
    frame = pd.DataFrame({"series": readings.series, "value": readings.value})
    learned = frame.groupby("series").value.ewm(alpha=1 - 2 ** (-1 / HALF_LIFE_S), adjust=False)
    mean = learned.mean().groupby(level=0).shift().droplevel(0).sort_index()
    std = learned.std(bias=True).groupby(level=0).shift().droplevel(0).sort_index()
    scores: np.ndarray[Any, Any] = ((frame.value - mean).abs() / std).to_numpy(copy=True)
    scores[: LEARN * series] = np.nan
    return scores


def by_river(readings: Columns, series: int) -> np.ndarray[Any, Any]:
    """A mean and a variance of river's for each series, reading by reading."""
    weight = 1 - 2 ** (-1 / HALF_LIFE_S)
    means = [stats.EWMean(fading_factor=weight) for _ in range(series)]
    variances = [stats.EWVar(fading_factor=weight) for _ in range(series)]
    seen, scores = [0] * series, []
    for number, value in zip(readings.series.tolist(), readings.value.tolist(), strict=True):
        mean, variance = means[number], variances[number]
        scored = seen[number] >= LEARN
        scores.append(abs(value - mean.get()) / variance.get() ** 0.5 if scored else float("nan"))
        mean.update(value)
        variance.update(value)
        seen[number] += 1
    return np.array(scores)


# Who, how, and which share of the readings they get.
PEERS: dict[str, tuple[Callable[[Columns, int], np.ndarray[Any, Any]], int, str]] = {
    "numpy": (by_numpy, 1, "the same to the last bits; all series at once, each must have a reading a second"),
    "pandas": (by_pandas, 4, "each reading the same weight, whatever its time; sees all readings at once"),
    "river": (by_river, 20, "each reading the same weight, whatever its time; Python, reading by reading"),
}


@pytest.mark.parametrize("load", LOADS)
def test_score(load: str, kernel: Kernel, measure: Measure) -> None:
    series = LOADS[load]
    readings = made(series)
    wanted = by_numpy(readings, series)
    scored, total = kernel.run()
    assert int(scored) == np.isfinite(wanted).sum() == len(readings.value) - LEARN * series
    assert float(total) == pytest.approx(np.nansum(wanted), rel=1e-9)
    measure(
        kernel.run,
        layer="score",
        load=load,
        who="AlumiCatalyst",
        readings=len(readings.value),
        rounds=9,
        clock=kernel.clock,
    )


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("peer", PEERS)
def test_peer(peer: str, load: str, measure: Measure) -> None:
    work, share, note = PEERS[peer]
    series = LOADS[load]
    readings = made(series, share)
    found, wanted = work(readings, series), by_numpy(readings, series)
    assert (np.isfinite(found) == np.isfinite(wanted)).all()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    measure(
        lambda: work(readings, series),
        layer="score",
        load=load,
        who=f"peer: {peer}",
        readings=len(readings.value),
        rounds=3,
        note=note,
    )

"""What the benchmarks stand on: figures and verdicts, the report, sources in memory, and the judgement of the soak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from alumicatalyst._core import Dictionary, Partition
from bench import report, soak
from bench.load import SMELTER, load
from bench.memory import PARTITION, MemorySource
from bench.results import RATE, ROOT, Figure, best_of_ours, groups, load_figures, machine, ratio, save, versions
from bench.soak_flow import MINUTES, EndlessSource
from bench.tiers import TIERS

OURS = Figure(
    "windows", "1,000 series", "AlumiCatalyst", RATE, 40.0, 38.0, 41.0, 9, 1_000, wall=39.0, goal=30.0, tier="K"
)
PEER = replace(OURS, who="peer: <numpy>", median=10.0, goal=None, note="sees all & at once")
SLOW = Figure("lake", "rows", "AlumiCatalyst", "bytes/reading", 10.0, 10.0, 10.0, 1, 10, lower_is_better=True, goal=8.0)
SMALL = replace(SLOW, who="peer: small", median=5.0, goal=None)


def test_a_figure_meets_its_goal_from_its_own_side():
    assert OURS.met is True
    assert replace(OURS, median=29.9).met is False
    assert SLOW.met is False
    assert replace(SLOW, median=8.0).met is True
    assert PEER.met is None


def test_a_ratio_above_one_means_that_ours_is_better_whichever_way_is_up():
    assert ratio(OURS, PEER) == 4.0
    assert ratio(SLOW, SMALL) == 0.5


def bench(*options):
    """Run a quick benchmark in a process of its own, which must not take itself for a part of this run."""
    quick = "bench/test_windows.py::test_windows[AlumiCatalyst, 5 s of lateness-1,000 series, in order]"
    command = [sys.executable, "-m", "pytest", "-W", "error", "-q", "-p", "no:cacheprovider", quick, *map(str, options)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        command, cwd=ROOT, env=env | {"BENCH_SCALE": "0.001"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_a_benchmark_is_timed_by_pytest_benchmark_in_processor_time_and_its_figure_says_the_same(tmp_path):
    shown = bench("--results", tmp_path / "results.json", "--benchmark-json", tmp_path / "benchmark.json")
    assert "windows: 1,000 series, in order  [M readings/CPU-s]" in shown
    (figure,) = load_figures(json.loads((tmp_path / "results.json").read_text()))
    (timed,) = json.loads((tmp_path / "benchmark.json").read_text())["benchmarks"]
    assert timed["options"]["timer"] == "processor_time"
    assert timed["group"] == "windows: 1,000 series, in order"
    assert timed["stats"]["rounds"] == figure.rounds == len(timed["extra_info"]["wall_s"])
    assert figure.lowest == pytest.approx(figure.readings / timed["stats"]["max"] / 1e6)
    assert figure.highest == pytest.approx(figure.readings / timed["stats"]["min"] / 1e6)
    assert figure.wall is not None
    assert figure.wall > 0


@pytest.mark.timeout(300)
def test_a_disabled_benchmark_checks_its_answer_and_has_no_figure():
    shown = bench("--benchmark-disable")
    assert "1 passed" in shown
    assert "figures" not in shown


def test_figures_of_one_load_stand_together_and_the_best_of_ours_is_compared():
    bytewax = replace(OURS, who="AlumiCatalyst in Bytewax", median=41.0)
    assert groups([OURS, SLOW, PEER, bytewax]) == [[OURS, PEER, bytewax], [SLOW]]
    assert best_of_ours([OURS, PEER, bytewax]) == bytewax
    assert best_of_ours([PEER]) is None


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "found" / "results.json"
    save(path, [OURS, PEER, SLOW, SMALL], command="pytest bench", scale=1.0, machine_before=machine())
    return json.loads(path.read_text())


def test_figures_survive_their_file(run):
    assert load_figures(run) == [OURS, PEER, SLOW, SMALL]
    assert run["versions"].keys() == versions().keys()
    assert run["machine"]["cores"] >= 1


def made_report(run, **what):
    return report.report([run], what.get("counts"), what.get("latency"), what.get("soak"))


def test_the_report_says_where_we_lose_from_the_figures_alone(run):
    page = made_report(run)
    lost = page[page.index('<h2 id="lose"') : page.index('<h2 id="tiers"')]
    missed, better = lost.split("Where a peer is better")
    assert "bytes/reading" in missed
    assert "1,000 series" not in missed
    assert "0.50 x" in better
    assert "numpy" not in better


def test_the_report_names_tiers_counts_latency_and_soak_where_they_were_measured(run):
    latency = {
        "command": "python -m bench.latency",
        "machine": machine(),
        "goal_ms": 250.0,
        "runs": [{"rate": 10_000, "p50_ms": 17.0, "p90_ms": 25.0, "p99_ms": 310.0, "late_ms": [10.0, 17.0, 310.0],
                  "kept_up": "sent 9,999/s", "stages": "mean of a batch"}],
    }  # fmt: skip
    samples = [
        {"seconds": at, "flow_rss_bytes": 3e8 + at, "ledger_rss_bytes": 1e8}
        for at in np.arange(0.0, 60.0, 2.0).tolist()
    ]
    soaked = {
        "command": "python -m bench.soak", "machine": machine(), "samples": samples, "verdict": ["the flow: flat"],
        "flat": True, "readings": 7, "seconds": 60.0, "ledger_entries": 3,
    }  # fmt: skip
    page = made_report(run, counts={"rustc": "rustc 1", "score": 113.0}, latency=latency, soak=soaked)
    assert all(f"<b>{tier}</b>" in page for tier in TIERS)
    assert '<span class="missed">missed</span>' in page[page.index("<b>L</b>") : page.index("<b>R</b>")]
    assert "rustc 1" in page
    assert "Memory was" in page
    assert page.count("<svg") == 4


def test_the_report_is_one_small_file_that_loads_nothing_and_takes_names_for_text(run):
    page = made_report(run)
    assert "<numpy>" not in page
    assert "sees all &amp; at once" in page
    assert not [each for each in ("src=", "@import", "<link", "<script", "url(http") if each in page]
    assert len(page) < 3_000_000
    assert "prefers-color-scheme: dark" in page


def test_the_report_warns_of_figures_that_are_not_for_quoting(run):
    quotable = run | {"versions": run["versions"] | {"extension": "release"}}
    quotable["machine"] = run["machine"] | {"load_before": 0.1, "load_after": 0.1}
    assert 'class="alert"' not in made_report(quotable)
    assert "short run" in made_report(quotable | {"scale": 0.1})
    assert "not built for release" in made_report(quotable | {"versions": run["versions"] | {"extension": "ci"}})
    assert "Other work" in made_report(quotable | {"machine": quotable["machine"] | {"load_after": 1e9}})


def samples(flow, blocks):
    return [
        {"seconds": float(at), "flow_rss_bytes": flow(at), "ledger_rss_bytes": 1e8, "python_blocks": blocks(at)}
        for at in range(0, 600, 2)
    ]


def test_the_soak_finds_memory_flat_that_has_settled_and_swings():
    trends = soak.judge(samples(lambda at: 4e8 - 3e8 * np.exp(-at / 60) + 2e7 * np.sin(at), lambda _: 500_000))
    assert [trend.name for trend in trends] == ["flow_rss_bytes", "ledger_rss_bytes", "python_blocks"]
    assert all(trend.flat for trend in trends)


def test_the_soak_names_what_grows():
    trends = {
        trend.name: trend for trend in soak.judge(samples(lambda at: 4e8 + 2e5 * at, lambda at: 500_000 + 200 * at))
    }
    assert not trends["flow_rss_bytes"].flat
    assert trends["flow_rss_bytes"].growth == pytest.approx(2e5 * 298)
    assert "GROWS" in str(trends["flow_rss_bytes"])
    assert not trends["python_blocks"].flat
    assert trends["ledger_rss_bytes"].flat


def test_the_soak_counts_objects_from_the_middle_on():
    assert (
        soak.grown([{"dict": 1}, {"dict": 5, "list": 7}, {"dict": 9, "list": 7, "Commit": 2}]) == "dict +4, Commit +2"
    )
    assert soak.grown([{"dict": 1}]) == "too short a run to tell"
    assert soak.grown([{"dict": 1}, {"dict": 1}]) == "none"


def test_the_source_without_end_goes_on_in_time_so_that_no_reading_is_late_or_a_duplicate():
    source = EndlessSource(rate=1e12)
    reader: Any = source.open(PARTITION, -1, 1)
    partition = Partition(PARTITION, Dictionary.from_toml(SMELTER))
    outputs = [partition.on_batch(reader.take()) for _ in range(3)]
    assert sum(output.readings.num_rows for output in outputs) == source.readings
    assert {each for output in outputs for each in output.readings["outcome"].to_pylist()} == {"windowed"}
    starts = [output.readings["event_time"][0].as_py() for output in outputs]
    assert [(later - first).total_seconds() for first, later in pairwise(starts)] == [MINUTES * 60] * 2
    assert not any(output.rejected.num_rows or output.redelivered for output in outputs)


def test_the_source_without_end_waits_for_its_rate():
    source = EndlessSource(rate=1.0)
    reader = source.open(PARTITION, -1, 1)
    assert reader.take() is not None
    assert reader.take() is None


def test_a_source_in_memory_goes_on_behind_a_sequence_number():
    batches = load("smelter", 3_000, per_envelope=10, per_batch=1_000).batches
    reader: Any = MemorySource(batches).open(PARTITION, 99, 1)
    assert reader.take()["sequence_number"][0].as_py() == 100
    assert reader.queued == 1
    reader.take()
    assert reader.finished

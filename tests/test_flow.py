"""The flow as a platform team runs it: commands, signals, settings in the environment, two runners on one lake."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alumicatalyst.gate import Gate
from alumicatalyst.lake import Lake
from alumicatalyst.lake.doctor import examine
from alumicatalyst.operator import COMMAS_MAX, _edges_between_rows
from alumicatalyst.sources import envelopes
from tests.recorder import KEY, Recorder

ROOT = Path(__file__).parents[1]
LOOP = [sys.executable, "-m", "alumicatalyst.cli.main", "run", "--runner", "loop"]
BYTEWAX = [sys.executable, "-m", "bytewax.run", "flows.telemetry"]


# What hangs is given up after so long; a machine with other work may need minutes for what else takes seconds.
HANGS_S = 180
# The same program with more time than seconds to post what is queued when it ends.
PATIENT = """
import runpy, sys
from alumicatalyst.sinks import alerts
alerts.DRAIN_S = 60.0
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def start(command: list[str], lake: Path, **settings: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "ALUMICATALYST_DICTIONARY": "flows/smelter.toml",
        "ALUMICATALYST_SOURCE__KIND": "simulator",
        "ALUMICATALYST_LAKE__URI": f"file:{lake}",
        "ALUMICATALYST_LAKE__FLUSH_INTERVAL_S": "0.5",
        "ALUMICATALYST_RUNNER__METRICS_PORT": "0",
        **settings,
    }
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def marks(lake: Path) -> dict[str, int]:
    # The folder is there before its first commit is.
    if not (lake / "batches" / "_delta_log" / f"{0:020}.json").exists():
        return {}
    rows = (
        Lake.open(f"file:{lake}")
        .table("batches")
        .select("SELECT partition, max(last_sequence) AS mark FROM batches GROUP BY partition")
    )
    return {row["partition"]: row["mark"] for row in rows}


def run_until_past(command: list[str], lake: Path, before: dict[str, int]) -> str:
    """Run until every partition has moved on, then drain; return the log."""
    process = start(command, lake)
    until = time.monotonic() + HANGS_S
    while time.monotonic() < until and process.poll() is None:
        now = marks(lake)
        if now and all(now[name] > before.get(name, -1) for name in now) and now.keys() >= before.keys():
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0, log
    return log


@pytest.mark.timeout(900)
def test_i5_a_run_begun_by_one_runner_is_continued_by_the_other_and_drains_on_sigterm(tmp_path):
    seen: dict[str, int] = {}
    for command in (LOOP, BYTEWAX, [*BYTEWAX, "-w", "2"], LOOP):
        log = run_until_past(command, tmp_path, seen)
        assert "draining" in log
        now = marks(tmp_path)
        assert now.keys() >= seen.keys()
        assert all(now[name] > mark for name, mark in seen.items())
        seen = now
    report = examine(Lake.open(f"file:{tmp_path}"))
    assert report.ok, report.checks
    # A drain writes a state at the mark, so that nothing is replayed: each start begins right after it.
    assert {partition["partition"] for partition in report.partitions} == set(seen)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("command", [LOOP, BYTEWAX, [*BYTEWAX, "-w", "2"]])
def test_alarms_are_offered_ahead_of_the_commit_on_either_runner(tmp_path, command):
    (tmp_path / "key").write_text(KEY)
    with Recorder() as recorder:
        process = start(
            [sys.executable, "-c", PATIENT, *command[2:]],
            tmp_path / "lake",
            ALUMICATALYST_API__URL=recorder.url,
            ALUMICATALYST_API__KEY=f"file:{tmp_path}/key",
        )
        try:
            recorder.wait_until(lambda it: sum(post["what"] == "commits" for post in it.posts) >= 3, HANGS_S)
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=HANGS_S)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, log
        assert "leaked" not in log, "whatever the thread uses is let go of before Python ends"
        now = marks(tmp_path / "lake")
        for partition, mark in now.items():
            for kind in ("alarms", "windows", "latest", "committed"):
                assert recorder.mark(kind, partition) == mark, "drained to the end"
        # Had an output been committed before it was offered, its commit would have been told too early: a mismatch,
        # after which the alarms come from the lake.
        assert not any(post.get("committed") for post in recorder.posts)
        assert recorder.latest


@pytest.mark.timeout(240)
def test_a_key_that_cannot_be_read_stops_the_flow_before_it_takes_anything(tmp_path):
    process = start(
        LOOP, tmp_path / "lake", ALUMICATALYST_API__URL="http://127.0.0.1:1", ALUMICATALYST_API__KEY="file:absent"
    )
    _, log = process.communicate(timeout=HANGS_S)
    assert process.returncode == 2, log
    assert "couldn't read secret file:absent" in log
    assert marks(tmp_path / "lake") == {}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("command", [LOOP, [*LOOP[:-1], "bytewax"]])
def test_i2_a_process_that_lost_its_partition_stops_with_exit_code_5(tmp_path, command):
    process = start(command, tmp_path)
    until = time.monotonic() + HANGS_S
    while not marks(tmp_path) and time.monotonic() < until:
        time.sleep(0.2)
    from alumicatalyst.dictionary import load

    lake = Lake.open(f"file:{tmp_path}")
    for partition in marks(tmp_path):
        lake.resume(partition, dictionary=load(ROOT / "flows" / "smelter.toml"), first_sequence=0)
    _, log = process.communicate(timeout=HANGS_S)
    assert process.returncode == 5, log
    assert "claimed by another process" in log


def test_i6_the_gate_holds_back_what_would_pile_up():
    gate = Gate(2)
    for _ in range(2):
        assert gate.is_open
        gate.enter()
    assert not gate.is_open, "as many are in flight as may be"
    gate.leave()
    assert gate.is_open


def test_i6_a_batch_of_very_many_very_small_items_is_analysed_in_parts():
    bodies = [b"[" + b",".join([b"1"] * 65_000) + b"]"] * 60
    batch = envelopes(bodies, list(range(60)), [0] * 60)
    for cut in (batch, batch.slice(7, 41)):
        inner = sorted(_edges_between_rows(cut.column("body")))
        parts = [end - start for start, end in itertools.pairwise([0, *inner, cut.num_rows])]
        assert len(parts) > 2
        assert max(parts) * 65_000 <= COMMAS_MAX * 1.1
    assert _edges_between_rows(batch.slice(0, 9).column("body")) == set()

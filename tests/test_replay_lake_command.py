"""The command `replay` from a lake and from captured files: options, summary, exit codes, a process that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst._core import Dictionary
from alumicatalyst.cli import main as program
from alumicatalyst.cli.replay_report import Tally
from alumicatalyst.lake import Lake
from alumicatalyst.lake.doctor import examine
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from alumicatalyst.simulator import Plan
from alumicatalyst.sources.simulator import SimulatorSource
from tests.logs import Envelope
from tests.replaying import assert_same, run, stored
from tests.test_capture import place, write

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
START_US = 1_767_225_600_000_000
DICTIONARY = """
name = "rig"
version = "1"
site = "example/rig"
time_zone = "UTC"
[payload]
device = "unit"
time = {field = "ts", format = "epoch_us"}
metric = "m"
value = "v"
[time]
out_of_orderness = "1s"
[default]
windows = ["10s"]
[machine.pump]
device = "pump-{1..3}"
asset = "rig/{device}"
pressure = {unit = "bar", range = [0, 100]}
"""


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def log(readings: int) -> list[Envelope]:
    found = []
    for number in range(readings):
        time_us = START_US + number * 100_000
        reading = {"unit": f"pump-{number % 3 + 1}", "ts": time_us, "m": "pressure", "v": number % 110}
        found.append(Envelope(number, time_us, json.dumps(reading).encode()))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("command")
    (made / "rig.toml").write_text(DICTIONARY)
    (made / "later.toml").write_text(DICTIONARY.replace('["10s"]', '["1min"]').replace('"1"', '"2"', 1))
    run(made / "lake", Dictionary.from_toml(DICTIONARY), {"hub/1/0": log(1_200)}, flush=True, size=300)
    write(place(made / "capture", "0", 0), log(700))
    write(place(made / "capture", "0", 1), log(1_200)[700:])
    return made


def replay(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        program.main(["replay", *map(str, arguments)])
    shown = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, shown.out, shown.err


def test_a_lake_is_replayed_into_another_and_again_finds_nothing_new(folder, tmp_path, capsys):
    into = f"file:{tmp_path / 'two'}"
    code, out, _ = replay(capsys, "--from-lake", folder / "lake", "-d", folder / "later.toml", "--into", into, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["readings"] == 1_200
    assert found["partitions"] == ["hub/1/0"]
    assert found["from"] == f"file:{folder / 'lake'}"
    assert set(stored(tmp_path / "two", "windows").column("window_name").to_pylist()) == {"1min"}
    code, out, _ = replay(capsys, "--from-lake", folder / "lake", "-d", folder / "later.toml", "--into", into)
    assert code == 0
    assert out.startswith("nothing new in file:")


def test_captured_files_and_the_lake_that_they_made_give_the_same_lake(folder, tmp_path, capsys):
    files = sorted((folder / "capture").rglob("*.avro"))
    one, two = tmp_path / "one", tmp_path / "two"
    code, out, _ = replay(capsys, *files, "-d", folder / "rig.toml", "--into", f"file:{one}", "--incarnation=1")
    assert code == 0
    assert f"stored in file:{one} as hub/1/0" in out
    assert_same(one, folder / "lake")
    code, _, _ = replay(capsys, "--from-lake", f"file:{one}", "--same-dictionary", "--into", f"file:{two}")
    assert code == 0
    assert_same(two, one)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--from-lake", "lake", "capture"], 2, "couldn't replay capture and a lake together"),
        (["--from-lake", "lake", "--time=ts"], 2, "couldn't use --time here: it is for CSV"),
        (["--from-lake", "lake", "--name=x"], 2, "couldn't use --name here"),
        (["a.csv", "--accept-gaps"], 2, "couldn't use --accept-gaps here: it is for captured .avro files"),
        (["a.avro", "--same-dictionary"], 2, "couldn't use --same-dictionary here: it is for --from-lake"),
        (["a.avro", "b.csv"], 2, "captured files and others together"),
        (["a.avro"], 2, "couldn't read"),
        (["--from-lake", "lake", "--same-dictionary", "-d", "rig.toml"], 2, "give one of them"),
        (["--from-lake", "none"], 4, "couldn't open"),
        (["--from-lake", "lake", "--partition=hub/2/0"], 2, "name one of its partitions"),
        ([], 2, "no files"),
    ],
)
def test_what_makes_no_sense_ends_in_one_line(folder, tmp_path, capsys, monkeypatch, arguments, code, message):
    monkeypatch.chdir(folder)
    got, _, err = replay(
        capsys, *arguments, *([] if "-d" in arguments else ["-d", "rig.toml"]), "--into", tmp_path.as_uri()
    )
    assert message in err
    assert got == code
    assert len(err.splitlines()) == 1


def test_a_lake_is_not_replayed_into_itself(folder, capsys):
    code, _, err = replay(
        capsys, "--from-lake", folder / "lake", "-d", folder / "rig.toml", "--into", f"file:{folder / 'lake'}"
    )
    assert code == 2
    assert "into itself" in err


def test_progress_says_how_much_is_left():
    tally = Tally("readings", lambda: 5_000_000)
    tally.sums.update(windowed=900_000, late=100_000)
    assert tally.so_far(2.0) == (
        "1,000,000 of 5,000,000 readings (500,000/s), 0:08 left: "
        "900,000 windowed, 100,000 late, 0 duplicate, 0 rejected"
    )
    tally.total = lambda: 5_000_000_000
    assert "2:46:38 left" in tally.so_far(2.0)
    tally.total = lambda: 0
    assert tally.so_far(2.0).startswith("1,000,000 readings (500,000/s): ")


@pytest.fixture(scope="module")
def smelter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few minutes of the smelter's plant, by the flow."""
    folder = tmp_path_factory.mktemp("smelter")
    dictionary = Dictionary.from_toml((ROOT / "flows" / "smelter.toml").read_text())
    plan, end_us = Plan(start_us=START_US), START_US + 30_000_000
    source = SimulatorSource(dictionary, plan, speed=0, end_us=end_us, batch_envelopes_max=100)
    wanted: dict[str, Any] = {"flush_at_end": False, "flush_rows_max": 3_000, "flush_interval_s": 3600.0}
    run_loop(Pipeline(source, dictionary, Lake.open(f"file:{folder}"), **wanted))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_i5_a_replay_that_is_killed_goes_on_and_gives_the_same_lake(smelter, tmp_path):
    arguments = ["replay", "--from-lake", str(smelter), "--same-dictionary", "--into", f"file:{tmp_path}"]
    program = """
import sys
from alumicatalyst.cli.main import main
from alumicatalyst.sources import stored_reader
stored_reader.RANGE_ROWS = 2_000
main(sys.argv[1:])
"""
    command = [sys.executable, "-c", program, *arguments]
    environment = os.environ | {"ALUMICATALYST_LAKE__FLUSH_ROWS_MAX": "3000"}
    kills = 0
    while True:
        child = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        before = seals(tmp_path)
        # Killed when it has sealed something of its own, wherever it is by then.
        while kills < 3 and child.poll() is None and seals(tmp_path) <= before:
            time.sleep(0.005)
        if kills < 3 and child.poll() is None:
            child.kill()
            kills += 1
        _, err = child.communicate(timeout=120)
        if child.returncode != -signal.SIGKILL:
            assert child.returncode == 0, err
            break
    assert kills > 0
    assert_same(tmp_path, smelter)
    report = examine(Lake.open(f"file:{tmp_path}"))
    assert report.ok, report.checks


def seals(lake: Path) -> int:
    return len(list(lake.glob("batches/*/*.parquet")))

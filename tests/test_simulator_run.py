"""What drives a simulation: pace, files, the hub with the real SDK, the command, and a truth that always adds up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst._core import Partition
from alumicatalyst.cli import main as program
from alumicatalyst.dictionary import load
from alumicatalyst.errors import InputError, SettingsError, SourceError
from alumicatalyst.simulator import Impairments, Plan, ProcessFaults, Released, Simulator
from alumicatalyst.simulator.expected import Expected
from alumicatalyst.simulator.files import open_file
from alumicatalyst.simulator.hub import HubSink
from alumicatalyst.simulator.run import Pace, run
from alumicatalyst.simulator.truth import Truth
from alumicatalyst.sources import envelopes
from alumicatalyst.testing.eventhubs import Emulator
from tests.conftest import ROOT
from tests.hubs import LEFT_SOCKETS, body_of, eventually, receiving, sdk
from tests.parts.ports import held_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = LEFT_SOCKETS
__all__ = ["sdk"]

SECOND = 1_000_000
START = 1_767_225_600 * SECOND
SMELTER = load(ROOT / "flows" / "smelter.toml")
COMPILED: dict[str, Any] = json.loads(SMELTER.to_json())
FAULTS = Impairments(disorder=0.05, duplicates=0.05, malformed=0.05)


class Memory:
    """A destination that remembers what it got, and when."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock
        self.got: list[tuple[float, Released]] = []
        self.closed = False

    def send(self, released: Released) -> int:
        self.got.append((self.clock[0], released))
        return 0

    def close(self) -> None:
        self.closed = True


class Ticking(threading.Event):
    """A stop that is never set, and whose waiting turns the clock."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self.clock[0] += timeout or 0.0
        return self.is_set()


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("speed", [1.0, 10.0, 0.0])
def test_a_run_keeps_its_pace_and_never_passes_now(speed: float) -> None:
    clock = [START / SECOND + (0 if speed == 1.0 else 600)]
    began, memory = clock[0], Memory(clock)
    pace = Pace(speed=speed, end_us=START + 120 * SECOND)
    totals = run(Simulator(COMPILED, Plan(START)), memory, pace, Ticking(clock), now=lambda: clock[0])
    assert memory.closed
    assert totals.readings == sum(int(part.readings.sum()) for _, part in memory.got) > 6_000
    for sent, part in memory.got:
        assert not len(part) or int(part.enqueued_us.max()) <= sent * SECOND
    elapsed = clock[0] - began
    assert elapsed == pytest.approx(120 / speed if speed else 0.0, abs=0.7)


def test_a_run_faster_than_time_ends_up_beside_it() -> None:
    clock = [START / SECOND + 60]
    pace = Pace(speed=10.0, end_us=START + 200 * SECOND)
    run(Simulator(COMPILED, Plan(START)), Memory(clock), pace, Ticking(clock), now=lambda: clock[0])
    assert clock[0] == pytest.approx(START / SECOND + 200, abs=1)


def test_a_history_is_sent_at_once_and_then_the_pace_holds() -> None:
    clock = [START / SECOND + 600]
    memory = Memory(clock)
    pace = Pace(speed=1.0, history_us=600 * SECOND, end_us=START + 630 * SECOND)
    run(Simulator(COMPILED, Plan(START)), memory, pace, Ticking(clock), now=lambda: clock[0])
    at_once = sum(len(part) for sent, part in memory.got if sent == START / SECOND + 600)
    assert at_once > 0.9 * sum(len(part) for _, part in memory.got)
    assert clock[0] == pytest.approx(START / SECOND + 630, abs=1)


def test_a_run_ends_after_the_envelope_that_reaches_its_number() -> None:
    clock = [START / SECOND + 10_000]
    memory = Memory(clock)
    totals = run(
        Simulator(COMPILED, Plan(START, impairments=FAULTS)),
        memory,
        Pace(speed=0, readings_max=1_000),
        Ticking(clock),
        now=lambda: clock[0],
    )
    sent = [count for _, part in memory.got for count in part.readings.tolist()]
    assert totals.readings == sum(sent) >= 1_000 > sum(sent[:-1])
    assert max(one.envelope for _, part in memory.got for one in part.impaired) < len(sent)


def test_i1_the_truth_adds_up_and_names_what_the_core_rejects(tmp_path: Path) -> None:
    simulator = Simulator(COMPILED, Plan(START, impairments=FAULTS))
    truth = Truth(tmp_path / "truth.ndjson", simulator, {"seed": 1})
    clock = [START / SECOND + 10_000]
    memory = Memory(clock)
    pace = Pace(speed=0, end_us=START + 300 * SECOND)
    totals = run(simulator, memory, pace, Ticking(clock), truth=truth, now=lambda: clock[0])
    lines = lines_of(tmp_path / "truth.ndjson")
    assert lines[0] == {"kind": "run", "seed": 1}
    sums = lines[-1]
    sent = [line for line in lines if line["kind"] == "envelope"]
    impaired = [line for line in lines if line["kind"] == "impaired"]
    assert [line["envelope"] for line in sent] == list(range(totals.envelopes))
    assert sum(line["readings"] for line in sent) == sums["readings"] == totals.readings
    assert Counter(done for line in impaired for done in line["done"].split("+")) == sums["done"]
    assert sum(line["outcome"] == "duplicate" for line in impaired) == sums["duplicates"] > 0
    assert sum(line["outcome"] is None for line in impaired) == sums["undecided"]
    partition = Partition("sim/1/0", SMELTER)
    reasons: Counter[str] = Counter()
    rows = 0
    for _, part in memory.got:
        numbers = list(range(part.first, part.first + len(part)))
        output = partition.on_batch(envelopes(part.bodies.to_pylist(), numbers, part.enqueued_us.tolist()))
        reasons.update(output.rejected.column("reason").to_pylist())
        rows += output.readings.num_rows + output.rejected.num_rows
    assert reasons == sums["rejected"]
    assert rows == sums["readings"]


def test_the_truth_has_a_row_for_every_fault_and_counts_those_that_were_not_cut(tmp_path: Path) -> None:
    simulator = Simulator(COMPILED, Plan(START, faults=ProcessFaults(anode_effects=1.0, stuck=0.5)))
    assert simulator.fleet.faults is not None
    expected = Expected(simulator.fleet, simulator.fleet.faults, START)
    truth = Truth(tmp_path / "truth.ndjson", simulator, {}, expected)
    clock = [START / SECOND + 10_000]
    pace = Pace(speed=0, end_us=START + 3600 * SECOND)
    run(simulator, Memory(clock), pace, Ticking(clock), truth=truth, now=lambda: clock[0])
    lines = lines_of(tmp_path / "truth.ndjson")
    faults = [line for line in lines if line["kind"] == "fault"]
    assert {"fault", "device", "metric", "from", "onset", "until", "alarms", "complete"} <= faults[0].keys()
    assert Counter(line["fault"] for line in faults if line["complete"]) == lines[-1]["faults"]
    assert sum(len(line["alarms"]) for line in faults if line["complete"]) == lines[-1]["alarms"] > 20
    assert len({(line["device"], line["metric"], line["from"]) for line in faults}) == len(faults)


def test_files_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name in ("a.ndjson", "a.ndjson.gz", "a.csv", "a.csv.gz", "a.parquet"):
        contents = []
        for folder in ("one", "two"):
            path = tmp_path / folder / name
            file = open_file(path, Simulator(COMPILED, Plan(START, impairments=Impairments(disorder=0.1))))
            simulator = Simulator(COMPILED, Plan(START, impairments=Impairments(disorder=0.1)))
            for seconds in (30, 60) if folder == "one" else (60,):
                file.send(simulator.advance(START + seconds * SECOND))
            file.close()
            contents.append(path.read_bytes())
        if not name.endswith(".parquet"):
            assert contents[0] == contents[1] != b"", name


def test_a_table_has_no_place_for_malformed_payloads_nor_an_unknown_ending_a_format(tmp_path: Path) -> None:
    simulator = Simulator(COMPILED, Plan(START, impairments=Impairments(malformed=0.1)))
    for name, message in (("a.csv", "malformed"), ("a.parquet", "malformed"), ("a.txt", "none of")):
        with pytest.raises(InputError, match=message):
            open_file(tmp_path / name, simulator)


def test_the_real_sdk_brings_every_envelope_to_the_hub_in_order_by_key() -> None:
    simulator = Simulator(COMPILED, Plan(START, impairments=FAULTS))
    released = simulator.advance(START + 30 * SECOND)
    by_key: dict[str, list[bytes]] = {}
    for key, body in zip(released.keys.tolist(), released.bodies.to_pylist(), strict=True):
        by_key.setdefault(simulator.fleet.partition_keys[key], []).append(body)
    with Emulator({"plant": 4}) as emulator:
        connection = emulator.connection_string("plant")
        sink = HubSink(connection, "", simulator, threading.Event())
        assert sink.send(released) == 0
        sink.close()
        with receiving(connection) as (events, errors):
            eventually(lambda: len(events) >= len(released))
        assert not errors
    got: dict[str, list[bytes]] = {}
    for event in events:
        got.setdefault(event.partition_key.decode(), []).append(body_of(event))
    assert got == by_key


def test_an_envelope_larger_than_the_broker_takes_is_left_out_and_counted() -> None:
    compiled = {**COMPILED, "bounds": {**COMPILED["bounds"], "body_bytes": 1 << 20}}
    simulator = Simulator(compiled, Plan(START, impairments=Impairments(malformed=1.0, reasons=("too_large",))))
    released = simulator.advance(START + 5 * SECOND).head(3)
    with Emulator({"plant": 1}) as emulator:
        sink = HubSink(emulator.connection_string("plant"), "", simulator, threading.Event())
        assert sink.send(released) == 3
        sink.close()


def test_a_hub_that_is_away_is_tried_again_until_told_to_stop() -> None:
    stop = threading.Event()
    simulator = Simulator(COMPILED, Plan(START))
    with held_port() as port:
        connection = Emulator({"plant": 1}, port=port).connection_string("plant")
        sink = HubSink(connection, "", simulator, stop)
        threading.Timer(1.0, stop.set).start()
        with pytest.raises(SourceError, match="couldn't send"):
            sink.send(simulator.advance(START + 5 * SECOND))
        sink.close()


def test_a_connection_string_that_is_none_is_a_setting_to_correct() -> None:
    with pytest.raises(SettingsError, match="couldn't use the connection string"):
        HubSink("nothing", "", Simulator(COMPILED, Plan(START)), threading.Event())


def simulate(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        program.main(["simulate", "--dictionary", str(ROOT / "flows" / "smelter.toml"), *arguments])
    shown = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, shown.out, shown.err


def test_the_command_writes_a_file_and_its_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to, truth, plants = tmp_path / "a.ndjson", tmp_path / "truth.ndjson", tmp_path / "plants.json"
    arguments = ["--to", str(to), "--truth", str(truth), "--seconds=60", "--malformed=0.1", "--plants=2", "--json"]
    code, out, err = simulate([*arguments, "--dictionary-out", str(plants)], capsys)
    assert (code, err) == (0, "")
    summary = json.loads(out)
    assert summary["faults"] == {}
    assert summary["readings"] == lines_of(truth)[-1]["readings"] > 6_000
    assert len(lines_of(to)) == summary["envelopes"]
    assert len(json.loads(load(plants).to_json())["series"]) == 2 * len(COMPILED["series"])
    code, out, _ = simulate(["--to", str(tmp_path / "b.csv"), "--readings=100"], capsys)
    assert code == 0
    assert "alumicatalyst replay" in out


def test_the_command_sends_a_history_and_tells_of_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--speed=1",
        "--history=30min",
        "--seconds=0",
        "--anode-effects=3",
        f"--truth={tmp_path / 'truth.ndjson'}",
    ]
    code, out, _ = simulate(["--to", str(tmp_path / "a.ndjson"), *options], capsys)
    assert code == 0
    assert "wrong in the plant: anode_effect" in out
    assert lines_of(tmp_path / "truth.ndjson")[-1]["readings"] > 90_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--to FILE or --connection-string"),
        (["--connection-string=Endpoint=sb://h/;SharedAccessKey=c2VjcmV0"], "env:NAME"),
        (["--to=x.ndjson", "--start=yesterday"], "--start"),
        (["--to=x.ndjson", "--malformed=2"], "between 0 and 1"),
        (["--to=x.ndjson", "--spikes=4"], "0 to 3 events an hour"),
        (["--to=x.ndjson", "--speed=1", "--history=soon"], "as 30min"),
        (["--to=x.ndjson", "--history=30min"], "leave --history out"),
        (["--to=x.ndjson", "--dictionary-out=x.toml"], ".json"),
    ],
)
def test_the_command_refuses_what_cannot_be(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = simulate(arguments, capsys)
    assert code == 2
    assert message in err
    assert "c2VjcmV0" not in err


@pytest.mark.timeout(300)
def test_sigterm_ends_a_run_with_its_truth_complete(tmp_path: Path) -> None:
    to, truth = tmp_path / "a.ndjson", tmp_path / "truth.ndjson"
    command = [sys.executable, "-m", "alumicatalyst.cli.main", "simulate", "--pack=0.1", "--speed=1", "--json"]
    command += [f"--to={to}", f"--truth={truth}", "--dictionary", str(ROOT / "flows" / "smelter.toml")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        # Something is in the file once it fills a buffer.
        eventually(lambda: to.exists() and to.stat().st_size > 0, 120)
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=120)
    finally:
        child.kill()
    assert child.returncode == 0
    assert lines_of(truth)[-1]["kind"] == "totals"
    assert lines_of(truth)[-1]["envelopes"] == len(lines_of(to)) == json.loads(out)["envelopes"] > 0

"""The demo from outside: it shows alarms, its ledger verifies, a second start goes on, and its parts end with it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.hubs import eventually

ROOT = Path(__file__).parents[1]

# What the README shows: the plain SDK, and nothing of this package. No value of the plant itself has three decimals.
SENDER = textwrap.dedent("""
    import sys
    from datetime import UTC, datetime
    import json
    from azure.eventhub import EventData, EventHubProducerClient

    with EventHubProducerClient.from_connection_string(sys.argv[1]) as producer:
        batch = producer.create_batch(partition_key="reduction/line-1")
        reading = {"deviceId": "pot-001", "metric": "bath_temperature", "value": 961.505}
        batch.add(EventData(json.dumps({**reading, "ts": datetime.now(UTC).isoformat()})))
        producer.send_batch(batch)
""")


def demo_process(directory: Path, seconds: int) -> subprocess.Popen[str]:
    options = [f"--seconds={seconds}", f"--directory={directory}"]
    command = [sys.executable, "-m", "alumicatalyst.cli.main", "demo", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def request(url: str, key: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
        return json.load(answer)


class Visitor(threading.Thread):
    """Does what a user can do while the demo runs: sends a reading, looks at an alarm and acknowledges it."""

    def __init__(self, shown: dict[str, str]) -> None:
        super().__init__()
        self.shown = shown
        self.acknowledged: dict[str, Any] = {}

    def run(self) -> None:
        subprocess.run([sys.executable, "-c", SENDER, self.shown["connection"]], check=True, timeout=180)
        url, key = self.shown["api"], self.shown["api key"].split()[0]

        def alarms_there() -> Any:
            # Fewer questions a second than the API answers.
            time.sleep(0.1)
            return request(f"{url}/v1/alarms?limit=1", key)["items"]

        alarms = eventually(alarms_there, 180)
        path = f"{url}/v1/alarms/{alarms[0]['alarm_id']}/acknowledge"
        self.acknowledged = request(path, key, {"comment": "seen it"})


def run_demo(directory: Path, seconds: int, *, visit: bool) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
    """Run the demo as a user does; return its last line, all lines, and the alarm that the visitor acknowledged."""
    shown: dict[str, str] = {}
    visitor = Visitor(shown)
    with demo_process(directory, seconds) as demo:
        assert demo.stdout is not None
        lines = []
        for line in demo.stdout:
            lines.append(line.strip())
            found = re.match(r"(lake|api|api key|connection) {2,}(.+)", line)
            if found:
                shown[found[1]] = found[2]
                if visit and found[1] == "connection":
                    visitor.start()
        if visit:
            visitor.join()
    assert demo.returncode == 0, lines
    return json.loads(lines[-1]), lines, visitor.acknowledged


def ledger(directory: Path, function: str, *options: str) -> dict[str, Any]:
    """Call a command of the ledger on a demo's folder, as the README does."""
    at = [f"--lake=file:{directory / 'lake'}", f"--ledger={directory / 'ledger'}"]
    key = [f"--key={directory / 'keys' / 'ledger.vkey'}"]
    command = [sys.executable, "-m", "alumicatalyst.cli.main", "ledger", function, *at, *key, *options]
    done = subprocess.run(command, cwd=directory, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout or "{}"))


@pytest.mark.timeout(600)
def test_the_demo_shows_alarms_takes_a_strangers_reading_ends_well_and_resumes(tmp_path: Path) -> None:
    import polars as pl

    first, lines, acknowledged = run_demo(tmp_path, 8, visit=True)
    assert first["ok"]
    assert first["rows_total"] == first["windowed"] + first["late"] + first["duplicate"] + first["rejected"]
    assert first["rows_total"] == first["lake_rows"] > 60_000
    sent = pl.scan_delta(str(tmp_path / "lake" / "readings")).filter(
        (pl.col("device") == "pot-001") & (pl.col("metric") == "bath_temperature") & (pl.col("value") == 961.505)
    )
    assert sent.collect().height == 1

    alarms = pl.scan_delta(str(tmp_path / "lake" / "alarms")).collect()
    assert first["alarms"] == alarms["alarm_id"].n_unique() > 0
    assert first["transitions"] == alarms.height >= first["alarms"]
    # Which faults there are depends on the time of day, and once in a hundred times none of them must raise an alarm.
    assert first["faults"]["raised"] == first["faults"]["expected_alarms"]
    assert first["faults"]["injected"] > 0
    told = [line.split() for line in lines if re.match(r"\d\d:\d\d:\d\d  ", line)]
    assert {line[3] for line in told} <= {f"{kind}-{number:03}" for kind in ("pot",) for number in range(49)} | {
        f"{kind}-{number}" for kind in ("furnace", "press", "rectifier") for number in range(5)
    }
    assert {"raised", "cleared", "acknowledged"} <= {line[1] for line in told}
    assert acknowledged["acknowledged_by"] == "operator"
    assert acknowledged["comment"] == "seen it"

    verified = ledger(tmp_path, "verify", "--strict", "--json")
    assert verified["ok"]
    assert verified["size"] == verified["figures"]["commits"] == first["ledger_entries"] > 0
    assert verified["figures"]["rows"] > first["lake_rows"], "windows and alarms are verified too"
    proof, checkpoint = tmp_path / "reading.tlog-proof", tmp_path / "kept.checkpoint"
    ledger(tmp_path, "prove", "--row=readings metric=bath_temperature value=961.505", f"--output={proof}")
    checkpoint.write_bytes((tmp_path / "ledger" / "checkpoint").read_bytes())

    key = next(line.split()[2] for line in lines if line.startswith("api key"))
    assert re.fullmatch(r"alu_\S{20,}", key)
    kept = tmp_path / "keys" / "ingest"
    assert kept.stat().st_mode & 0o777 == 0o600
    for secret in (key, kept.read_text().strip()):
        assert not [log for log in (tmp_path / "logs").iterdir() if secret in log.read_text()]

    second, lines, _ = run_demo(tmp_path, 8, visit=False)
    assert second["ok"]
    assert second["rows_total"] > first["rows_total"]
    assert second["late"] == first["late"], "a second start's history begins behind what the lake has"
    assert second["alarms"] >= first["alarms"]
    verified = ledger(tmp_path, "verify", "--strict", "--json", f"--checkpoint={checkpoint}")
    assert verified["size"] == second["ledger_entries"] > first["ledger_entries"]
    vkey = f"--key={tmp_path / 'keys' / 'ledger.vkey'}"
    command = [sys.executable, "-m", "alumicatalyst.cli.main", "ledger", "verify", str(proof), vkey, "--json"]
    shown = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout)
    assert (shown["row"]["device"], shown["row"]["value"]) == ("pot-001", 961.505)
    assert "keys create" in next(line for line in lines if line.startswith("api key"))
    assert not [line for line in lines if "alu_" in line]
    journal = pl.scan_delta(str(tmp_path / "lake" / "journal")).collect()
    assert journal.group_by("partition").len()["len"].to_list() == [1] * 4, "the second start took the same partitions"


def children_of(pid: int) -> dict[int, str]:
    """Return the processes that a process started, with their command lines."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                command = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            if int(parent) == pid:
                found[int(folder.name)] = command
    return found


def runs(pid: int) -> bool:
    """Whether a process has not ended; nobody may have asked for the end of one that lost its parent."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the parts end only when the demo stops them")
@pytest.mark.timeout(700)
def test_the_parts_die_with_a_demo_that_is_killed(tmp_path: Path) -> None:
    with demo_process(tmp_path, 0) as demo:
        eventually(lambda: any(" simulate " in command for command in children_of(demo.pid).values()), 400)
        parts = children_of(demo.pid)
        demo.send_signal(signal.SIGKILL)
    assert len(parts) == 4, "API, flow, ledger and simulator"
    eventually(lambda: not [pid for pid in parts if runs(pid)], 180)

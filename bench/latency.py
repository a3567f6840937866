"""How long after the broker stored a reading its alarm is visible: hub, flow, API and a reader of its live stream.

    python -m bench.latency --rates 10000,100000 --seconds 20 --out var/bench/latency.json

All parts are processes of their own, as in a plant: the stand-in for Event Hubs, a sender with Azure's SDK, the flow on
Bytewax, the API on SQLite. The load is open: a reading is sent when its time has come, whether the flow keeps up or
not. A transition is as late as the stream delivers it after the enqueued time of the envelope that caused it.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from alumicatalyst.demo.client import Client
from alumicatalyst.demo.parts import Parts
from bench.results import FOLDER, machine, versions
from tests.parts.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES = 1_000
PARTITIONS = 4
GOAL_MS = 250.0
_SETTLE_S = 60.0
_DRAIN_S = 3.0
DICTIONARY = f"""
name = "bench-latency"
version = "1"
site = "bench/site"

[payload]
device = ["d"]
time = {{field = "t", format = "epoch_us"}}
metric = "m"
value = "v"

[time]
out_of_orderness = "5s"

[default]
windows  = ["10s", "5min/1min"]
detector = "ewma"

[machine.pot]
device = "pot-{{0001..{DEVICES:04}}}"
cell_voltage = {{unit = "V", range = [0, 100], alarm.HH={{above=8, priority="high"}}}}
"""


def main() -> None:
    """Measure each rate in a fresh folder, and print a line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rates", default="10000,100000", help="readings a second, separated by commas")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long to send at each rate")
    parser.add_argument("--per-envelope", type=int, default=100, help="readings in an envelope")
    parser.add_argument("--alarms", type=float, default=20.0, help="transitions a second")
    parser.add_argument("--out", type=Path, default=FOLDER / "latency.json", metavar="FILE")
    arguments = parser.parse_args()
    command = f"python -m bench.latency {' '.join(sys.argv[1:])}".strip()
    about: dict[str, Any] = {"machine": machine(), "versions": versions(), "command": command, "goal_ms": GOAL_MS}
    runs = []
    for rate in arguments.rates.split(","):
        with tempfile.TemporaryDirectory(prefix="alumicatalyst-latency-") as folder:
            run = measure(Path(folder), int(rate), arguments.seconds, arguments.per_envelope, arguments.alarms)
        print(told(run))
        runs.append(run)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(about | {"runs": runs}) + "\n")


def told(run: dict[str, Any]) -> str:
    """Return the line for a rate."""
    return (
        f"{run['rate']:>9,} readings/s: p50 {run['p50_ms']:.0f} ms, p90 {run['p90_ms']:.0f} ms, "
        f"p99 {run['p99_ms']:.0f} ms, max {max(run['late_ms']):.0f} ms (goal: p99 {GOAL_MS:.0f}) over "
        f"{len(run['late_ms'])} transitions; {run['kept_up']}; {run['stages']}"
    )


def measure(folder: Path, rate: int, seconds: float, per_envelope: int, alarms: float) -> dict[str, Any]:
    """Run everything once and return what was found."""
    parts = Parts(folder / "logs")
    client = set_up(folder, parts)
    seen: dict[str, list[tuple[int, float]]] = defaultdict(list)
    follower = threading.Thread(target=follow, args=(client, seen), daemon=True)
    follower.start()
    try:
        parts.start("flow", ["-m", "bytewax.run", "flows.telemetry"])
        wait(parts, lambda: bool(samples(parts.environment["ALUMICATALYST_RUNNER__METRICS_PORT"])), "the flow")
        load = ["--rate", str(rate), "--seconds", str(seconds), "--per-envelope", str(per_envelope)]
        sender = subprocess.run(
            [sys.executable, "-m", "bench.latency_sender", *load, "--alarms", str(alarms)],
            env=parts.environment | {"PATH": "/usr/bin:/bin"},
            check=True,
            capture_output=True,
            text=True,
        )
        sent = json.loads(sender.stdout.splitlines()[-1])
        metrics = parts.environment["ALUMICATALYST_RUNNER__METRICS_PORT"]
        wait(parts, lambda: analysed(metrics) >= sent["readings"], "the flow to catch up")
        stages = mean_stages(metrics)
        parts.stop("flow")
        time.sleep(_DRAIN_S)
        enqueued = enqueued_times(folder)
    finally:
        parts.close()
    assert len(enqueued) == sent["transitions"], "the lake holds other transitions than were sent"
    visible = {key: min((at for step, at in seen[key[0]] if step >= key[1]), default=np.inf) for key in enqueued}
    warm = min(enqueued.values()) + min(5.0, seconds / 4)
    late_ms = np.array([(visible[key] - at) * 1e3 for key, at in enqueued.items() if at >= warm])
    p50, p90, p99 = np.percentile(late_ms, [50, 90, 99])
    kept_up = (
        f"sent {sent['readings'] / sent['seconds']:,.0f}/s, at most {sent['behind_ms']:.0f} ms behind its schedule"
    )
    return {
        "rate": rate,
        "seconds": seconds,
        "p50_ms": float(p50),
        "p90_ms": float(p90),
        "p99_ms": float(p99),
        "late_ms": np.round(np.sort(late_ms), 1).tolist(),
        "kept_up": kept_up,
        "stages": stages,
    }


def set_up(folder: Path, parts: Parts) -> Client:
    """Start hub and API, and return a reader of the API."""
    hub, api, metrics = free_ports(3)
    (folder / "dictionary.toml").write_text(DICTIONARY)
    key = folder / "hub" / "key"
    parts.environment |= {
        "PYTHONPATH": ".",
        "ALUMICATALYST_DICTIONARY": str(folder / "dictionary.toml"),
        "ALUMICATALYST_SOURCE__CONNECTION_STRING": "env:EVENTHUBS_CONNECTION_STRING",
        "ALUMICATALYST_LAKE__URI": f"file:{folder / 'lake'}",
        "ALUMICATALYST_LAKE__FLUSH_INTERVAL_S": "2",
        "ALUMICATALYST_RUNNER__METRICS_PORT": str(metrics),
        "ALUMICATALYST_API__PORT": str(api),
        "ALUMICATALYST_API__URL": f"http://127.0.0.1:{api}",
        "ALUMICATALYST_API__KEY": f"file:{folder / 'ingest'}",
        "ALUMICATALYST_API__DATABASE_URL": f"sqlite:///{folder / 'api.sqlite'}",
    }
    emulator = ["emulator", "--hub", f"telemetry:{PARTITIONS}", "--directory", str(folder / "hub"), "--port", str(hub)]
    parts.start("hub", ["-m", "alumicatalyst.cli.main", *emulator])
    wait(parts, lambda: key.exists() and listens(hub), "the hub")
    parts.environment["EVENTHUBS_CONNECTION_STRING"] = (
        f"Endpoint=sb://127.0.0.1:{hub};SharedAccessKeyName=RootManageSharedAccessKey;"
        f"SharedAccessKey={key.read_text()};EntityPath=telemetry;UseDevelopmentEmulator=true"
    )
    keys = ["-m", "api", "keys", "create"]
    parts.run([*keys, "--name=flow", "--scopes=ingest", f"--out={folder / 'ingest'}"])
    reader = parts.run([*keys, "--name=reader", "--scopes=read", "--quiet"])
    parts.start("api", ["-m", "api", "serve"])
    client = Client(f"http://127.0.0.1:{api}", reader)
    wait(parts, client.ready, "the API")
    return client


def follow(client: Client, seen: dict[str, list[tuple[int, float]]]) -> None:
    """Note when each alarm is told of, and up to which step: several that came in one post are told of once."""
    for event in client.events(0):
        if event.name == "alarm":
            seen[event.data["alarm_id"]].append((event.data["step"], time.time()))


def analysed(port: str) -> float:
    """Return how many readings the flow has analysed."""
    return float(sum(sample.value for sample in samples(port) if sample.name == "alumicatalyst_readings_total"))


def enqueued_times(folder: Path) -> dict[tuple[str, int], float]:
    """Return when the broker had stored what caused each transition of the lake."""
    from alumicatalyst.lake import Lake

    rows = (
        Lake.open(f"file:{folder / 'lake'}").table("alarms").select("SELECT alarm_id, step, enqueued_time FROM alarms")
    )
    return {(row["alarm_id"], row["step"]): row["enqueued_time"].timestamp() for row in rows}


def mean_stages(port: str) -> str:
    """Return the mean time of a batch in the core, and of a post until the API has answered it."""
    found = samples(port)
    stages = dict(means(found, "alumicatalyst_stage_seconds", "stage"))
    posts = dict(means(found, "alumicatalyst_alerts_post_seconds", "kind"))
    return (
        f"mean of a batch: decode {stages['decode'] * 1e3:.1f} ms, analyse {stages['analyse'] * 1e3:.1f} ms; "
        "of a post: " + ", ".join(f"{kind} {each * 1e3:.1f} ms" for kind, each in posts.items())
    )


def samples(port: str) -> list[Any]:
    """Return the samples that a process serves; none while it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return []
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def means(found: list[Any], metric: str, label: str) -> Iterator[tuple[str, float]]:
    """Yield each label of a histogram with the mean of what it observed."""
    sums = {sample.labels[label]: sample.value for sample in found if sample.name == f"{metric}_sum"}
    for sample in found:
        if sample.name == f"{metric}_count" and sample.value:
            yield sample.labels[label], sums[sample.labels[label]] / sample.value


def wait(parts: Parts, condition: Any, what: str) -> None:
    """Wait until something is so, as long as all parts run."""
    until = time.monotonic() + _SETTLE_S
    while not condition():
        parts.check()
        if time.monotonic() > until:
            raise TimeoutError(f"waited {_SETTLE_S:.0f} s in vain for {what}")
        time.sleep(0.05)


def listens(port: int) -> bool:
    """Whether somebody listens at a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()

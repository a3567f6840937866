"""What a run of the benchmarks found: figures, and the machine, versions and command that they belong to, as JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "var" / "bench"
PEER = "peer"
RATE = "M readings/CPU-s"
PACKAGES = (
    "alumicatalyst",
    "bytewax",
    "deltalake",
    "duckdb",
    "msgspec",
    "numpy",
    "orjson",
    "pandas",
    "polars",
    "pyarrow",
    "river",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured of one who, on one load of one layer.

    Attributes:
        layer: The benchmark's file, without `test_`.
        load: What was worked on; figures of one layer and load stand beside each other.
        who: Us, or a peer; peers begin with "peer: ".
        unit: Of the numbers; rates by processor time unless it says otherwise.
        median: Of the rounds.
        lowest: Of the rounds.
        highest: Of the rounds.
        rounds: How many there were.
        readings: How many readings, rows or pages a round worked on; a slow peer gets fewer.
        wall: The median by the wall clock, where `median` is by processor time.
        goal: What ours is held to.
        lower_is_better: Whether less is better: times rather than rates.
        tier: The claim that it stands for, of `bench.tiers`.
        note: What differs between ours and a peer.
    """

    layer: str
    load: str
    who: str
    unit: str
    median: float
    lowest: float
    highest: float
    rounds: int
    readings: int
    wall: float | None = None
    goal: float | None = None
    lower_is_better: bool = False
    tier: str = ""
    note: str = ""

    @property
    def is_peer(self) -> bool:
        """Whether it is somebody else's."""
        return self.who.startswith(PEER)

    @property
    def met(self) -> bool | None:
        """Whether the median meets the goal; None where there is none."""
        if self.goal is None:
            return None
        return self.median <= self.goal if self.lower_is_better else self.median >= self.goal


def ratio(ours: Figure, peer: Figure) -> float:
    """Return how many times as good ours is: above 1 we win."""
    return peer.median / ours.median if ours.lower_is_better else ours.median / peer.median


def groups(figures: list[Figure]) -> list[list[Figure]]:
    """Return the figures that stand beside each other: of one layer, load and unit, in the order they came."""
    found: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in figures:
        found.setdefault((figure.layer, figure.load, figure.unit), []).append(figure)
    return list(found.values())


def best_of_ours(group: list[Figure]) -> Figure | None:
    """Return the best of our own figures in a group; None if there is none."""
    ours = [figure for figure in group if not figure.is_peer]
    if not ours:
        return None
    return min(ours, key=lambda each: each.median if each.lower_is_better else -each.median)


def save(path: Path, figures: list[Figure], *, command: str, scale: float, machine_before: dict[str, Any]) -> None:
    """Write what a run found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {
        "command": command,
        "scale": scale,
        "machine": machine_before | {"load_after": round(os.getloadavg()[0], 2)},
        "versions": versions(),
        "figures": [dataclasses.asdict(figure) for figure in figures],
    }
    path.write_text(json.dumps(found, indent=1) + "\n")


def load_figures(found: dict[str, Any]) -> list[Figure]:
    """Return the figures of what `save` wrote."""
    return [Figure(**each) for each in found["figures"]]


def machine() -> dict[str, Any]:
    """Return what a figure depends on: processor, memory, kernel, and what else was running."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    memory = Path("/proc/meminfo").read_text() if Path("/proc/meminfo").exists() else ""

    def field(text: str, name: str) -> str:
        found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
        return found[1].strip() if found else "unknown"

    kilobytes = field(memory, "MemTotal").split()[0]
    return {
        "cpu": field(cpu, "model name"),
        "cpu_family_model": f"{field(cpu, 'cpu family')}/{field(cpu, 'model')}",
        "mhz": field(cpu, "cpu MHz"),
        "cores": os.cpu_count(),
        "cache": field(cpu, "cache size"),
        "memory_gib": round(int(kilobytes) / 2**20, 1) if kilobytes.isdigit() else None,
        "kernel": platform.release(),
        "virtual": "hypervisor" in cpu,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Return what was measured, and what it was built with."""
    found = {"python": platform.python_version(), "rustc": output("rustc", "--version")}
    found["commit"] = output("git", "describe", "--always", "--dirty", "--exclude", "*")
    found["extension"] = extension_profile()
    return found | {name: installed(name) for name in PACKAGES}


def installed(package: str) -> str:
    """Return the version of a package, "missing" for none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def extension_profile() -> str:
    """Return how the extension was built, which `make` keeps note of; only "release" is for quoting."""
    stamps = Path(sys.prefix) / ".stamps"
    return next((name for name in ("release", "ci") if (stamps / name).exists()), "unknown")


def output(*command: str) -> str:
    """Return what a command prints, "missing" if it cannot be run."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "missing"
    return done.stdout.strip()

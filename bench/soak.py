"""Whether memory stays flat: the flow and the ledger at a steady high rate for minutes, their memory noted all along.

    python -m bench.soak --minutes 10

The flow gets envelopes made in its own process, without end, and stores them in a lake of its own folder, which the
ledger follows; the folder is removed in the end. Nothing is removed meanwhile, as a flow's lake does not shrink either:
a reading takes three bytes or so, since five minutes of values come again and again, hence less than a gigabyte in ten
minutes. Memory is flat if a line through the second half of the samples rises by less than the tolerance; what rises
more is named.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from deltalake import DeltaTable

from bench.results import FOLDER, ROOT, machine, versions

RATE = 300_000
TOLERANCE = 0.05
SLACK_BYTES = 16 * 2**20
SAMPLE_S = 2.0
FREE_BYTES_MIN = 5 * 2**30
_DRAIN_S = 60.0
# What is judged; the allocators' own numbers tell where a growth comes from.
JUDGED = {"flow_rss_bytes": "the flow's memory (RSS)", "ledger_rss_bytes": "the ledger's memory (RSS)"}
EXPLAINING = {
    "arrow_bytes": "Arrow's pool",
    "malloc_used_bytes": "what the C allocator has handed out",
    "malloc_free_bytes": "what the C allocator holds free",
    "python_blocks": "Python's objects",
}


@dataclass(frozen=True, slots=True)
class Trend:
    """How one number went over the second half.

    Attributes:
        mean: Over the second half.
        growth: What a line through it rises by, from the beginning of the half to its end.
        flat: Whether that is within the tolerance.
    """

    name: str
    mean: float
    growth: float
    flat: bool

    def __str__(self) -> str:
        unit, scale = (" MiB", 2**20) if self.name.endswith("bytes") else ("", 1)
        told = (JUDGED | EXPLAINING)[self.name]
        rise = f"{self.growth / scale:+,.1f}{unit} ({self.growth / max(self.mean, 1):+.1%})"
        return f"{told}: mean {self.mean / scale:,.0f}{unit}, {rise} over the second half: " + (
            "flat" if self.flat else "GROWS"
        )


def main() -> None:
    """Soak, print the verdict, and write everything to a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=RATE, help="readings a second")
    parser.add_argument("--out", type=Path, default=FOLDER / "soak.json", metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alumicatalyst-soak-") as folder:
        found = soak(Path(folder), arguments.minutes * 60, arguments.rate)
    trends = judge(found["samples"])
    verdict = [str(trend) for trend in trends]
    flat = all(trend.flat for trend in trends if trend.name in JUDGED)
    verdict.append("Python objects that became more over the second half: " + grown(found["censuses"]))
    found |= {"flat": flat, "verdict": verdict, "trends": [asdict(trend) for trend in trends]}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(
        f"{found['readings']:,} readings in {found['seconds']:.0f} s: {found['readings'] / found['seconds']:,.0f}/s, "
        f"{found['lake_bytes'] / 2**30:.2f} GiB in the lake, {found['ledger_entries']} entries in the ledger",
        *verdict,
        f"memory is {'flat' if flat else 'NOT flat'}; all samples: {arguments.out}",
        sep="\n",
    )
    sys.exit(0 if flat else 1)


def soak(folder: Path, seconds: float, rate: float) -> dict[str, Any]:
    """Run both processes for so long, and return what was seen of them."""
    about = {
        "machine": machine(),
        "versions": versions(),
        "rate": rate,
        "command": f"python -m {' '.join(sys.argv[1:])}",
    }
    environment = os.environ | {
        "ALUMICATALYST_LAKE__URI": f"file:{folder / 'lake'}",
        "ALUMICATALYST_LEDGER__URI": f"file:{folder / 'ledger'}",
        "ALUMICATALYST_LEDGER__KEY": f"file:{folder / 'key'}",
        "PYTHONPATH": str(ROOT),
    }
    samples: list[dict[str, float]] = []
    with (folder / "flow.out").open("w+") as out, (folder / "ledger.log").open("w") as log:
        flow = subprocess.Popen(
            [sys.executable, "-m", "bench.soak_flow", folder, str(rate)], cwd=ROOT, env=environment, stdout=out
        )
        ledger = subprocess.Popen(
            [sys.executable, "-m", "alumicatalyst.cli.main", "ledger", "run"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            started = time.monotonic()
            while (elapsed := time.monotonic() - started) < seconds:
                for name, process in (("flow", flow), ("ledger", ledger)):
                    if process.poll() is not None:
                        told = (folder / "ledger.log").read_text()[-2_000:] if process is ledger else ""
                        raise RuntimeError(f"couldn't soak: the {name} ended with {process.returncode}; {told}")
                if shutil.disk_usage(folder).free < FREE_BYTES_MIN:
                    raise RuntimeError(f"couldn't soak: less than {FREE_BYTES_MIN / 2**30:.0f} GiB free at {folder}")
                samples.append(
                    {
                        "seconds": elapsed,
                        "flow_rss_bytes": rss_of(flow.pid),
                        "ledger_rss_bytes": rss_of(ledger.pid),
                    }
                    | {name: value for name, value in last_line(folder / "memory.ndjson").items() if name != "census"}
                )
                time.sleep(SAMPLE_S)
            for process in (flow, ledger):
                process.send_signal(signal.SIGTERM)
                process.wait(_DRAIN_S)
        finally:
            for process in (flow, ledger):
                process.kill()
                process.wait()
        out.seek(0)
        readings = json.loads(out.read().splitlines()[-1])["readings"]
    files = DeltaTable(str(folder / "lake/batches")).file_uris()
    stored = pl.read_parquet(files, columns=["rows_total"])["rows_total"].sum()
    assert stored == readings, f"{readings} readings were sent, {stored} are stored"
    return about | {
        "seconds": seconds,
        "readings": readings,
        "lake_bytes": sum(path.stat().st_size for path in (folder / "lake").rglob("*") if path.is_file()),
        "ledger_entries": entries_of(folder / "ledger"),
        "samples": samples,
        "censuses": [line["census"] for line in lines_of(folder / "memory.ndjson") if "census" in line],
    }


def rss_of(pid: int) -> int:
    """Return the memory of a process that is in use, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return what the flow has noted; the last line may be in the making."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def last_line(path: Path) -> dict[str, float]:
    """Return what the flow has noted last; nothing before the first line."""
    lines = lines_of(path)
    return lines[-1] if lines else {}


def grown(censuses: list[dict[str, int]], most: int = 5) -> str:
    """Return which types of objects became more between the middle and the end, and by how many."""
    if len(censuses) < 2:
        return "too short a run to tell"
    middle, end = censuses[len(censuses) // 2 - (len(censuses) < 3)], censuses[-1]
    more = sorted(((end[each] - middle.get(each, 0), each) for each in end), reverse=True)[:most]
    return ", ".join(f"{each} +{by}" for by, each in more if by > 0) or "none"


def entries_of(log: Path) -> int:
    """Return how many entries the ledger's checkpoint covers: its second line."""
    return int((log / "checkpoint").read_text().splitlines()[1])


def judge(samples: list[dict[str, float]], tolerance: float = TOLERANCE) -> list[Trend]:
    """Fit a line through the second half of each number, and say whether it is flat."""
    half = [each for each in samples if each["seconds"] >= samples[-1]["seconds"] / 2]
    trends = []
    for name in JUDGED | EXPLAINING:
        points = [(each["seconds"], each[name]) for each in half if name in each]
        if len(points) < 2:
            continue
        at, value = np.array(points).T
        slope = np.polyfit(at, value, 1)[0]
        mean, growth = float(value.mean()), float(slope * (at[-1] - at[0]))
        slack = SLACK_BYTES if name.endswith("bytes") else 0
        trends.append(Trend(name, mean, growth, growth <= max(tolerance * mean, slack)))
    return trends


if __name__ == "__main__":
    main()

"""One of the processes of the benchmark of scaling out: its share of the partitions to a lake, by the plain loop.

python -m bench.scale_child FOLDER ORDINAL/REPLICAS

It says "ready" when everything is loaded, runs when it is sent a line, and answers with its processor time, commits and
conflicts as a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from prometheus_client import REGISTRY

from alumicatalyst._core import Dictionary
from alumicatalyst.lake import Lake
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from alumicatalyst.sources.share import Share
from bench.memory import MemorySource

PARTITIONS = 4
FLUSH_ROWS = 250_000
COMMITS, CONFLICTS = "alumicatalyst_lake_commits_total", "alumicatalyst_lake_conflicts_total"


def total(metric: str) -> int:
    """Return a counter, summed over its labels."""
    samples = (sample for family in REGISTRY.collect() for sample in family.samples if sample.name == metric)
    return int(sum(sample.value for sample in samples))


def main() -> None:
    """Run until the input ends."""
    folder, share = Path(sys.argv[1]), Share.parse(sys.argv[2])
    dictionary = Dictionary.from_toml((folder / "dictionary.toml").read_text())

    def run(batches: list[pa.RecordBatch], lake: Path) -> None:
        source = MemorySource(batches, PARTITIONS)
        run_loop(Pipeline(source, dictionary, Lake.open(f"file:{lake}"), share=share, flush_rows_max=FLUSH_ROWS))

    with pa.memory_map(str(folder / "envelopes.arrow")) as source, pa.ipc.open_file(source) as file:
        batches = [file.get_batch(at) for at in range(file.num_record_batches)]
        # What is imported or set up once is no part of a rate.
        with TemporaryDirectory() as once:
            run(batches[:1], Path(once))
        before = total(COMMITS), total(CONFLICTS)
        print("ready", flush=True)
        sys.stdin.readline()
        started = time.process_time()
        run(batches, folder / "lake")
        found = {
            "cpu_s": time.process_time() - started,
            "commits": total(COMMITS) - before[0],
            "conflicts": total(CONFLICTS) - before[1],
        }
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

"""The process that the recovery benchmark kills: envelopes from a file to a lake, by the plain loop.

python -m bench.recovery_child FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa

from alumicatalyst._core import Dictionary
from alumicatalyst.lake import Lake
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from bench.memory import MemorySource

FLUSH_ROWS = 250_000
STATE_INTERVAL_S = 0.5


def main() -> None:
    """Run until the input ends, or somebody kills it."""
    folder = Path(sys.argv[1])
    with pa.memory_map(str(folder / "envelopes.arrow")) as source, pa.ipc.open_file(source) as file:
        batches = [file.get_batch(at) for at in range(file.num_record_batches)]
        run_loop(
            Pipeline(
                MemorySource(batches),
                Dictionary.from_toml((folder / "dictionary.toml").read_text()),
                Lake.open(f"file:{folder / 'lake'}"),
                flush_rows_max=FLUSH_ROWS,
                state_interval_s=STATE_INTERVAL_S,
            )
        )


if __name__ == "__main__":
    main()

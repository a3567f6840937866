"""The flow that the soak runs: envelopes made as fast as told, without end, to a lake; its allocators noted as it goes.

python -m bench.soak_flow FOLDER RATE
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
from bytewax.run import cli_main

from alumicatalyst import log
from alumicatalyst._core import Dictionary
from alumicatalyst.lake import Lake
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.sources import envelopes
from bench.load import SMELTER, SMELTER_SERIES, START_US, load
from bench.memory import PARTITION
from flows.telemetry import flow

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTES = 5
FLUSH_INTERVAL_S = 2.0
STATE_INTERVAL_S = 10.0
SAMPLE_S = 2.0
CENSUS_EVERY = 15


class EndlessSource:
    """Five minutes of the smelter over and over, each time five minutes later.

    Args:
        rate: Readings a second of the wall's clock, at most.
    """

    def __init__(self, rate: float) -> None:
        made = load("smelter", MINUTES * 60 * len(SMELTER_SERIES), per_envelope=100)
        bodies = [body for batch in made.batches for body in batch["body"].to_pylist()]
        self._bodies = pl.Series([body.decode() for body in bodies])
        self._enqueued = pa.chunked_array([batch["enqueued_time"] for batch in made.batches])
        self._enqueued_us = self._enqueued.cast(pa.int64()).to_numpy()
        self._readings, self._rate = made.readings, rate
        self._cycle = 0
        self._started = 0.0
        self.readings = 0

    def partitions(self) -> list[str]:
        return [PARTITION]

    def first_sequence(self, _partition: str) -> int:
        return 0

    def open(self, _partition: str, _after: int, _owner_level: int) -> EndlessSource:
        self._started = time.monotonic()
        return self

    finished = False
    queued = 0

    def take(self) -> pa.RecordBatch | None:
        """Return the next batch once its time has come."""
        if self.readings > (time.monotonic() - self._started) * self._rate:
            return None
        shift = timedelta(minutes=MINUTES * self._cycle)
        starts = [datetime.fromtimestamp(START_US / 1e6, UTC) + timedelta(minutes=each) for each in range(MINUTES + 1)]
        bodies = self._bodies.str.replace_many(
            [f"{each:%Y-%m-%dT%H:%M}:" for each in starts], [f"{each + shift:%Y-%m-%dT%H:%M}:" for each in starts]
        )
        first = self._cycle * len(bodies)
        batch = envelopes(
            [body.encode() for body in bodies.to_list()],
            range(first, first + len(bodies)),
            (self._enqueued_us + shift // timedelta(microseconds=1)).tolist(),
        )
        self._cycle += 1
        self.readings += self._readings
        return batch

    def lag(self) -> tuple[int, float] | None:
        return None

    def close(self) -> None:
        """Nothing is held."""


class Mallinfo(ctypes.Structure):
    """What glibc's allocator says of itself (mallinfo2(3))."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def mallinfo() -> Callable[[], Any] | None:
    """Return glibc's mallinfo2; None for another C library."""
    try:
        found = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    found.restype = Mallinfo
    return found


def note(path: Path, source: EndlessSource, ended: threading.Event) -> None:
    """Write what the allocators hold every few seconds, a line of JSON each, until the end."""
    pool, of_c, lines = pa.default_memory_pool(), mallinfo(), 0
    with path.open("w") as file:
        while not ended.wait(SAMPLE_S):
            held = of_c() if of_c else None
            line = {
                "at": time.time(),
                "readings": source.readings,
                "arrow_bytes": pool.bytes_allocated(),
                "python_blocks": sys.getallocatedblocks(),
            }
            if held is not None:
                line["malloc_used_bytes"] = held.uordblks + held.hblkhd
                line["malloc_free_bytes"] = held.fordblks
            if lines % CENSUS_EVERY == 0:
                # Which objects there are, now and then, as it takes a tenth of a second: what grows has a name.
                line["census"] = dict(Counter(type(each).__qualname__ for each in gc.get_objects()).most_common(200))
            lines += 1
            file.write(json.dumps(line) + "\n")
            file.flush()


def main() -> None:
    """Run until SIGTERM, then say how many readings there were."""
    folder, rate = Path(sys.argv[1]), float(sys.argv[2])
    log.configure("console", level=30)
    source = EndlessSource(rate)
    pipeline = Pipeline(
        source,
        Dictionary.from_toml(SMELTER),
        Lake.open(f"file:{folder / 'lake'}"),
        flush_interval_s=FLUSH_INTERVAL_S,
        state_interval_s=STATE_INTERVAL_S,
    )
    ended = threading.Event()
    sampler = threading.Thread(target=note, args=(folder / "memory.ndjson", source, ended), daemon=True)
    sampler.start()
    cli_main(flow(pipeline))
    ended.set()
    sampler.join()
    print(json.dumps({"readings": source.readings}))


if __name__ == "__main__":
    main()

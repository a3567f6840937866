"""The ledger: digests of rows in the core, entries signed into the log, a lake verified, a row proven.

Row digests are what the flow pays; the rest is the ledger's own process, which waits for disks and is timed by the wall
clock as well. The peers give digests of the same rows by libraries at hand: of each row as JSON, and of the data file,
which says nothing of a row once the file is rewritten.
"""

from __future__ import annotations

import hashlib
import io
import statistics
import time
import uuid
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alumicatalyst import _core
from alumicatalyst.lake import Lake
from alumicatalyst.ledger import merkle
from alumicatalyst.ledger.log import LogReader, LogWriter
from alumicatalyst.ledger.note import SigningKey
from alumicatalyst.ledger.place import Place
from alumicatalyst.ledger.process import Ledger
from alumicatalyst.ledger.prove import prove_row
from alumicatalyst.ledger.verify import verify
from alumicatalyst.ledger.verify_report import Report
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from bench.load import SCALE, Load, load, scaled
from bench.memory import PARTITION, MemorySource
from bench.results import Figure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.conftest import Measure

READINGS = scaled(1_000_000, 200_000)
PEER_READINGS = scaled(200_000, 50_000)
BATCH = uuid.UUID(int=7).bytes
DIGESTS = "row digests of the smelter's readings"
GROUPS = (1, 100)
PROOFS = 20 if SCALE == 1 else 3


@cache
def made() -> Load:
    return load("smelter", READINGS, per_envelope=100)


@cache
def rows(readings: int) -> pa.RecordBatch:
    """Return the rows of one data file."""
    partition = _core.Partition(PARTITION, _core.Dictionary.from_toml(made().dictionary))
    outputs = [partition.on_batch(batch) for batch in made().batches]
    found, _ = _core.file_rows("readings", [output.readings for output in outputs], BATCH)
    return found.slice(0, readings)


def test_row_digests(measure: Measure) -> None:
    found = rows(READINGS)
    hashes = _core.leaf_hashes("readings", found, BATCH)
    leaf = hashlib.sha256(b"\0" + _core.row_leaf("readings", found.slice(64, 64), BATCH, 64)).digest()
    assert hashes[32:64] == leaf
    leaves = [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
    assert len(leaves) == -(-READINGS // 64)
    assert _core.rows_root("readings", found, BATCH) == merkle.root(leaves)
    measure(
        lambda: _core.rows_root("readings", found, BATCH),
        layer="ledger",
        load=DIGESTS,
        who="AlumiCatalyst, 64 rows a leaf",
        readings=READINGS,
        rounds=9,
    )


def test_json_digests(measure: Measure) -> None:
    found = rows(PEER_READINGS).drop_columns(["_batch"])

    def run() -> bytes:
        rows_of = found.to_pylist()
        leaves = [hashlib.sha256(b"\0" + orjson.dumps(row)).digest() for row in rows_of]
        return merkle.root(leaves)

    assert run() == run() != b""
    measure(
        run,
        layer="ledger",
        load=DIGESTS,
        who="peer: orjson and hashlib, a leaf a row",
        readings=PEER_READINGS,
        rounds=3,
        note="a leaf for each row as JSON, and the same tree over them in Python",
    )


def test_file_digest(measure: Measure) -> None:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_batches([rows(READINGS)]), out, compression="zstd", compression_level=1)
    data = out.getvalue()
    assert len(hashlib.sha256(data).digest()) == 32
    measure(
        lambda: hashlib.sha256(data).digest(),
        layer="ledger",
        load=DIGESTS,
        who="peer: hashlib over the Parquet file",
        readings=READINGS,
        rounds=9,
        note="one digest of a file that exists already: proves no row, and none of it once the file is rewritten",
    )


@pytest.mark.parametrize("group", GROUPS)
def test_append_and_publish(group: int, tmp_path: Path, figure: Callable[[Figure], None]) -> None:
    """Entries of a usual size, so many under each signed checkpoint, every one of which is on the disk."""
    entry = b"alumicatalyst/commit\n" + b"x" * 600 + b"\n"
    publishes = 60 if SCALE == 1 else 10
    key = SigningKey.create(tmp_path / "key", "example.com/bench")
    took: list[float] = []
    with LogWriter(tmp_path / "log", key, tmp_path / "kept") as log:
        for number in range(publishes):
            entries = [entry + str(number * group + each).encode() for each in range(group)]
            before = time.perf_counter()
            log.append(entries)
            log.publish()
            took.append(time.perf_counter() - before)
    assert LogReader(tmp_path / "log").root() == merkle.root(
        [hashlib.sha256(b"\0" + entry + str(each).encode()).digest() for each in range(publishes * group)]
    )
    rates = [group / each for each in took]
    about: dict[str, Any] = {"rounds": publishes, "readings": publishes * group}
    figure(
        Figure(
            layer="ledger",
            load=f"entries signed, {group} a checkpoint, each checkpoint durable",
            who="AlumiCatalyst",
            unit="entries/s",
            median=statistics.median(rates),
            lowest=min(rates),
            highest=max(rates),
            **about,
        )
    )


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Place]:
    """Return a lake of the smelter's readings, and the ledger over it."""
    folder = tmp_path_factory.mktemp("signed")
    lake = Lake.open(f"file:{folder / 'lake'}")
    dictionary = _core.Dictionary.from_toml(made().dictionary)
    run_loop(Pipeline(MemorySource(made().batches), dictionary, lake, flush_rows_max=250_000))
    place = Place(folder / "log", folder / "key", "example.com/bench")
    Ledger(place, lambda: lake.store, interval_s=0.01).run(once=True)
    return lake, place


def test_verify(signed: tuple[Lake, Place], measure: Measure) -> None:
    """Log, files and every row: what `ledger verify` does."""
    lake, place = signed

    def run() -> Report:
        report = Report()
        verify(place.folder, place.verifier_key(), [], lake.store, report)
        return report

    report = run()
    assert report.is_ok(strict=True)
    assert (report.size or 0) > 0
    measure(run, layer="ledger", load="a lake verified, every row", who="AlumiCatalyst", readings=READINGS, rounds=3)


def test_prove(signed: tuple[Lake, Place], figure: Callable[[Figure], None]) -> None:
    """Find a reading in the lake, and write its proof, which is verified on the way."""
    lake, place = signed
    stored = rows(READINGS)
    took: list[float] = []
    for number in range(PROOFS):
        row = stored.slice(number * (READINGS // PROOFS), 1).to_pylist()[0]
        time_of = row["event_time"].isoformat().replace("+00:00", "Z")
        before = time.perf_counter()
        found = prove_row(
            lake,
            LogReader(place.folder),
            place.verifier_key(),
            f"readings device={row['device']} metric={row['metric']} event_time={time_of}",
        )
        took.append(1e3 * (time.perf_counter() - before))
        assert found
    load_ = f"a row of {READINGS:,} proven, found by device, metric and time"
    median, low, high = statistics.median(took), min(took), max(took)
    figure(Figure("ledger", load_, "AlumiCatalyst", "ms", median, low, high, PROOFS, 1, lower_is_better=True))

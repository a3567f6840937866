"""Compaction: many small files of readings to one, sorted by series and time, beside deltalake's own."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from alumicatalyst._core import Dictionary, Partition
from alumicatalyst.lake import Lake
from alumicatalyst.maintenance.compact import compact
from alumicatalyst.maintenance.lease import Lease
from alumicatalyst.operator import Analysed
from alumicatalyst.sinks.lake import LakeSink
from bench.load import load, scaled
from bench.memory import PARTITION

if TYPE_CHECKING:
    from pathlib import Path

    from bench.conftest import Measure

READINGS = scaled(2_000_000, 100_000)
FILES = 100
LOAD = f"{FILES} files of readings to one, {READINGS:,} rows"


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a lake and a plain table, of the same readings in as many files."""
    folder = tmp_path_factory.mktemp("upkeep")
    made = load("smelter", READINGS, per_envelope=100, per_batch=READINGS // FILES)
    dictionary = Dictionary.from_toml(made.dictionary)
    partition = Partition(PARTITION, dictionary)
    lake = Lake.open(f"file:{folder / 'lake'}")
    resume = lake.resume(PARTITION, dictionary=dictionary, first_sequence=0)
    sink = LakeSink(lake, flush_interval_s=3_600, flush_rows_max=10**9)
    for batch in made.batches:
        output = partition.on_batch(batch)
        sink.write(Analysed(resume, output, ends_batch=True))
        sink.flush()
        write_deltalake(
            str(folder / "peer"), pa.Table.from_batches([output.readings]).unify_dictionaries(), mode="append"
        )
    return folder


def rows_of(table: Path) -> pl.DataFrame:
    found = pl.read_parquet(DeltaTable(str(table)).file_uris())
    return found.select("sequence_number", "item", "value").sort("sequence_number", "item")


def test_compaction(small_files: Path, tmp_path: Path, measure: Measure) -> None:
    def started() -> tuple[tuple[Any, ...], dict[str, Any]]:
        shutil.rmtree(tmp_path / "lake", ignore_errors=True)
        shutil.copytree(small_files / "lake", tmp_path / "lake")
        return (Lake.open(f"file:{tmp_path / 'lake'}"),), {}

    def run(lake: Lake) -> None:
        with Lease(lake) as lease:
            compact(lake, lease, ["readings"], files_min=2)

    run(*started()[0])
    assert len(DeltaTable(str(tmp_path / "lake/readings")).file_uris()) == 1
    assert rows_of(tmp_path / "lake/readings").equals(rows_of(small_files / "lake/readings"))
    measure(run, setup=started, layer="lake", load=LOAD, who="AlumiCatalyst", readings=READINGS, rounds=3)


@pytest.mark.parametrize("way", ["compact", "z_order"])
def test_peer(way: str, small_files: Path, tmp_path: Path, measure: Measure) -> None:
    def started() -> tuple[tuple[Any, ...], dict[str, Any]]:
        shutil.rmtree(tmp_path / "peer", ignore_errors=True)
        shutil.copytree(small_files / "peer", tmp_path / "peer")
        return (DeltaTable(str(tmp_path / "peer")),), {}

    def run(table: DeltaTable) -> None:
        if way == "compact":
            table.optimize.compact()
        else:
            table.optimize.z_order(["device", "event_time"])

    run(*started()[0])
    assert rows_of(tmp_path / "peer").equals(rows_of(small_files / "peer"))
    note = "as they come, not sorted" if way == "compact" else "sorted along a curve"
    who = f"peer: deltalake optimize.{way}"
    measure(run, setup=started, layer="lake", load=LOAD, who=who, readings=READINGS, rounds=3, note=note)

"""Rows to a committed lake on a local directory and on Azurite, beside plain writers of the same rows.

What is written is what the operator made of the smelter's readings: readings with their outcome and score, and windows.
Ours also writes a row per flush that seals it, marks, claims, digests of files and rows, statistics to prune by, and a
folder for each date; it commits so that a kill at any moment leaves no row missing or doubled. The peers append.
"""

from __future__ import annotations

import shutil
import uuid
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from alumicatalyst._core import Dictionary, Output, Partition
from alumicatalyst.lake import Lake
from alumicatalyst.operator import Analysed
from alumicatalyst.sinks.lake import LakeSink
from bench.load import Load, load, scaled
from bench.memory import PARTITION
from bench.results import Figure
from tests.conftest import require
from tests.parts.azurite import Azurite, azurite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.conftest import Measure

__all__ = ["azurite", "require"]

READINGS = scaled(3_000_000, 200_000)
FLUSH_ROWS = 1_000_000
LOAD = "readings and windows of the smelter, 1,000,000 rows a commit"
TABLES = ("readings", "windows")


@cache
def made() -> Load:
    return load("smelter", READINGS, per_envelope=100)


@cache
def outputs() -> list[Output]:
    partition = Partition(PARTITION, Dictionary.from_toml(made().dictionary))
    return [partition.on_batch(batch) for batch in made().batches]


@cache
def flushes() -> list[dict[str, pa.Table]]:
    """The same rows as tables, as many together as ours commits at once."""
    found: list[list[Output]] = [[]]
    for output in outputs():
        if sum(each.readings.num_rows + each.windows.num_rows for each in found[-1]) >= FLUSH_ROWS:
            found.append([])
        found[-1].append(output)
    return [
        {name: pa.Table.from_batches([getattr(each, name) for each in group]).unify_dictionaries() for name in TABLES}
        for group in found
    ]


def size_of(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*.parquet"))


def assert_whole(tables: dict[str, pl.DataFrame]) -> None:
    assert tables["readings"].height == READINGS
    assert tables["readings"]["value"].sum() == pytest.approx(
        sum(pl.Series(each.readings["value"]).sum() for each in outputs()), rel=1e-9
    )
    assert tables["windows"].height == sum(each.windows.num_rows for each in outputs())


def stored_size(root: Path, who: str, figure: Callable[[Figure], None]) -> None:
    each = size_of(root) / READINGS
    figure(Figure("lake", LOAD, who, "bytes/reading", each, each, each, 1, READINGS, lower_is_better=True))


def begun(uri: str, options: dict[str, str] | None = None) -> tuple[tuple[LakeSink, Any], dict[str, Any]]:
    """A new lake, and its partition taken."""
    lake = Lake.open(uri, storage_options=options)
    dictionary = Dictionary.from_toml(made().dictionary)
    resume = lake.resume(PARTITION, dictionary=dictionary, first_sequence=0)
    return (LakeSink(lake, flush_interval_s=3_600, flush_rows_max=FLUSH_ROWS), resume), {}


def run(sink: LakeSink, resume: Any) -> None:
    for output in outputs():
        sink.write(Analysed(resume, output, ends_batch=True))
    sink.close()


def test_sink(tmp_path: Path, measure: Measure, figure: Callable[[Figure], None]) -> None:
    root = tmp_path / "lake"
    outputs()

    def started() -> tuple[tuple[Any, ...], dict[str, Any]]:
        shutil.rmtree(root, ignore_errors=True)
        return begun(f"file:{root}")

    run(*started()[0])
    assert_whole({name: pl.read_parquet(DeltaTable(str(root / name)).file_uris()) for name in TABLES})
    who = "AlumiCatalyst"
    measure(run, setup=started, layer="lake", load=LOAD, who=who, readings=READINGS, rounds=5, goal=4.0)
    stored_size(root, who, figure)


def test_sink_on_azurite(azurite: Azurite, measure: Measure) -> None:
    container, number = azurite.container(f"bench-{uuid.uuid4().hex[:12]}"), count()
    options = azurite.storage_options
    outputs()

    def started() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return begun(f"{container}/{next(number)}", options)

    run(*started()[0])
    assert_whole({name: pl.read_delta(f"{container}/0/{name}", storage_options=options) for name in TABLES})
    who = "AlumiCatalyst, on Azurite"
    note = "processor time of the flow's side: Azurite's own is not in it"
    measure(run, setup=started, layer="lake", load=LOAD, who=who, readings=READINGS, rounds=3, note=note)


def by_deltalake(root: Path) -> None:
    for tables in flushes():
        for name, table in tables.items():
            write_deltalake(str(root / name), table, mode="append")


def by_write_table(root: Path) -> None:
    for number, tables in enumerate(flushes()):
        for name, table in tables.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            pq.write_table(table, root / name / f"{number}.parquet", compression="zstd", compression_level=1)


def by_write_dataset(root: Path) -> None:
    for number, tables in enumerate(flushes()):
        for name, table in tables.items():
            ds.write_dataset(
                table,
                root / name,
                format="parquet",
                basename_template=f"{number}-{{i}}.parquet",
                existing_data_behavior="overwrite_or_ignore",
            )


PEERS = {
    "write_deltalake": (by_deltalake, "snappy, as it comes; no marks, digests, sorting or folders by date"),
    "pyarrow write_table, zstd 1": (by_write_table, "files alone, no table format: nothing is committed"),
    "pyarrow write_dataset": (by_write_dataset, "snappy, as it comes; files alone: nothing is committed"),
}


@pytest.mark.parametrize("peer", PEERS)
def test_peer(peer: str, tmp_path: Path, measure: Measure, figure: Callable[[Figure], None]) -> None:
    work, note = PEERS[peer]
    root = tmp_path / "lake"
    flushes()

    def started() -> tuple[tuple[Any, ...], dict[str, Any]]:
        shutil.rmtree(root, ignore_errors=True)
        return (root,), {}

    work(root)
    assert_whole({name: pl.read_parquet(list((root / name).rglob("*.parquet"))) for name in TABLES})
    who = f"peer: {peer}"
    measure(work, setup=started, layer="lake", load=LOAD, who=who, readings=READINGS, rounds=5, note=note)
    stored_size(root, who, figure)

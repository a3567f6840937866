"""Bodies to columns: the decoder alone, in a process without Python, beside msgspec, orjson and polars."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pytest

from alumicatalyst._core import Dictionary
from bench.kernels import Kernel
from bench.load import Load, load, scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.conftest import Measure

READINGS = scaled(500_000)
# How many readings an envelope has.
LOADS = {"objects": 1, "arrays of 100": 100, "lines of 100": 100}
GOAL = 8.0


class Reading(msgspec.Struct, gc=False):
    deviceId: str  # noqa: N815 as it is sent
    metric: str
    ts: str
    value: float
    q: int = 192


@cache
def made(kind: str) -> Load:
    return load("site", READINGS, per_envelope=LOADS[kind])


@cache
def batches(kind: str) -> list[list[bytes]]:
    """The bodies of each batch; a line is what an envelope of one reading has."""
    if not kind.startswith("lines"):
        return [batch.column("body").to_pylist() for batch in made(kind).batches]
    lines = LOADS[kind]
    return [[b"\n".join(batch[at : at + lines]) for at in range(0, len(batch), lines)] for batch in batches("objects")]


@pytest.fixture
def decoder(tmp_path: Path, kind: str) -> Iterator[Kernel]:
    bodies = [body for batch in batches(kind) for body in batch]
    ends = np.cumsum([len(body) for body in bodies])
    (tmp_path / "dictionary.json").write_text(Dictionary.from_toml(made(kind).dictionary).to_json())
    (tmp_path / "envelopes").write_bytes(np.array([len(bodies), *ends], "<i8").tobytes() + b"".join(bodies))
    per_batch = str(len(batches(kind)[0]))
    kernel = Kernel("decode", tmp_path / "dictionary.json", tmp_path / "envelopes", per_batch)
    yield kernel
    kernel.close()


@pytest.mark.parametrize("kind", LOADS)
def test_decoder(kind: str, decoder: Kernel, measure: Measure) -> None:
    rows, rejected, value_sum, time_sum = decoder.run("check")
    assert (int(rows), int(rejected)) == (READINGS, 0)
    assert float(value_sum) == pytest.approx(made(kind).value_sum, rel=1e-9)
    # Both sums wrap around.
    assert int(time_sum) == int(made(kind).columns.time_us.sum())
    measure(
        decoder.run,
        layer="decode",
        load=kind,
        who="AlumiCatalyst",
        readings=READINGS,
        rounds=15,
        goal=GOAL,
        clock=decoder.clock,
    )


def by_msgspec(kind: str) -> list[pa.RecordBatch]:
    single = msgspec.json.Decoder(Reading)
    if LOADS[kind] == 1:
        return [columns_of([single.decode(body) for body in batch]) for batch in batches(kind)]
    several = msgspec.json.Decoder(list[Reading]).decode if kind.startswith("arrays") else single.decode_lines
    return [columns_of([each for body in batch for each in several(body)]) for batch in batches(kind)]


def by_orjson(kind: str) -> list[pa.RecordBatch]:
    loads = orjson.loads
    if LOADS[kind] == 1:
        return [columns_of_objects([loads(body) for body in batch]) for batch in batches(kind)]
    if kind.startswith("arrays"):
        return [columns_of_objects([each for body in batch for each in loads(body)]) for batch in batches(kind)]
    return [
        columns_of_objects([loads(line) for body in batch for line in body.split(b"\n")]) for batch in batches(kind)
    ]


SCHEMA = {"deviceId": pl.String, "metric": pl.String, "ts": pl.String, "value": pl.Float64, "q": pl.Int64}


def by_polars(kind: str) -> list[pl.DataFrame]:
    """Objects are read as lines, which is the quicker of two ways; arrays are decoded as a column of texts."""
    if kind.startswith("arrays"):
        texts = [pl.Series(batch, dtype=pl.Binary).cast(pl.String) for batch in batches(kind)]
        found = [text.str.json_decode(pl.List(pl.Struct(SCHEMA))).explode().struct.unnest() for text in texts]
    else:
        found = [pl.read_ndjson(b"\n".join(batch), schema=SCHEMA) for batch in batches(kind)]
    return [
        frame.with_columns(pl.col("ts").str.to_datetime("%+", time_unit="us", time_zone="UTC")).rename(
            {"ts": "event_time"}
        )
        for frame in found
    ]


PEERS: dict[str, Callable[[str], Any]] = {"msgspec": by_msgspec, "orjson": by_orjson, "polars": by_polars}
NOTES = {
    "msgspec": "names stay strings; nothing is checked but types",
    "orjson": "names stay strings; nothing is checked",
    "polars": "names stay strings; nothing is checked but types",
}


@pytest.mark.parametrize("kind", LOADS)
@pytest.mark.parametrize("peer", PEERS)
def test_peer(peer: str, kind: str, measure: Measure) -> None:
    work = PEERS[peer]
    found = work(kind)
    table = pl.concat(found) if peer == "polars" else pl.from_arrow(pa.Table.from_batches(found))
    assert isinstance(table, pl.DataFrame)
    assert table.height == READINGS
    assert table["value"].sum() == pytest.approx(made(kind).value_sum, rel=1e-9)
    assert (table["event_time"].to_physical().to_numpy() == made(kind).columns.time_us).all()
    del table, found
    measure(
        lambda: work(kind),
        layer="decode",
        load=kind,
        who=f"peer: {peer} to {'a frame' if peer == 'polars' else 'Arrow'}",
        readings=READINGS,
        note=NOTES[peer],
    )


def columns_of(readings: list[Reading]) -> pa.RecordBatch:
    return columns_from(
        [each.deviceId for each in readings],
        [each.metric for each in readings],
        [each.ts for each in readings],
        [each.value for each in readings],
        [each.q for each in readings],
    )


def columns_of_objects(readings: list[dict[str, Any]]) -> pa.RecordBatch:
    return columns_from(
        [each["deviceId"] for each in readings],
        [each["metric"] for each in readings],
        [each["ts"] for each in readings],
        [each["value"] for each in readings],
        [each.get("q", 192) for each in readings],
    )


def columns_from(
    devices: list[str], metrics: list[str], texts: list[str], values: list[float], qualities: list[int]
) -> pa.RecordBatch:
    times: Any = pa.array(texts)
    return pa.RecordBatch.from_pydict(
        {
            "device": pa.array(devices),
            "metric": pa.array(metrics),
            "event_time": times.cast(pa.timestamp("us", tz="UTC")),
            "value": pa.array(values, pa.float64()),
            "quality": pa.array(qualities, pa.int16()),
        }
    )

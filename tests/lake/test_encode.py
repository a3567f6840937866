"""Encodings, the split by date, and the statistics that readers prune by."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alumicatalyst.lake.encode import day_of, encode
from tests.lake import plant


def rows(values: np.ndarray[Any, Any], per_batch: int = 10_000) -> list[pa.RecordBatch]:
    """Return batches of readings, each with dictionaries of its own, as outputs have."""
    batches = []
    for start in range(0, len(values), per_batch):
        part = values[start : start + per_batch]
        number = np.arange(start, start + len(part))
        time = pa.array(1_795_267_661_000_000 + number * 1_000, pa.timestamp("us", tz="UTC"))
        names = [f"pot-{start // per_batch:03d}", "pot-100"]
        made: dict[str, Any] = {
            "partition": constant(plant.PARTITION, len(part)),
            "sequence_number": pa.array(number // 100),
            "item": pa.array((number % 100).astype(np.int32)),
            "enqueued_time": pa.array(1_795_267_661_000_000 + number // 100, pa.timestamp("us", tz="UTC")),
            "device": pa.DictionaryArray.from_arrays(pa.array((number % 2).astype(np.int32)), names),
            "metric": constant("cell_voltage", len(part)),
            "event_time": time,
            "value": pa.array(part),
            "quality": pa.array(np.full(len(part), 192, np.int16)),
            "outcome": constant("windowed", len(part)),
            "windows_missed": pa.array(np.zeros(len(part), np.int16)),
            "lateness_us": pa.nulls(len(part), pa.int64()),
            "score_state": constant("off", len(part)),
            "score": pa.nulls(len(part), pa.float32()),
        }
        schema = plant.table_schema("readings")
        batches.append(pa.RecordBatch.from_arrays([made[name] for name in schema.names], schema=schema))
    return batches


def constant(text: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [text])


def encodings(data: bytes) -> dict[str, str]:
    group = pq.read_metadata(pa.BufferReader(data)).row_group(0)
    columns = [group.column(at) for at in range(group.num_columns)]
    order = ("DELTA_BINARY_PACKED", "RLE_DICTIONARY", "PLAIN")
    return {column.path_in_schema: next(e for e in order if e in column.encodings) for column in columns}


def test_every_column_has_its_encoding() -> None:
    quantised = np.round(np.random.default_rng(0).normal(4.2, 0.05, 200_000), 3)
    (file,) = encode("readings", rows(quantised))
    found = encodings(file.data)
    steps = {"sequence_number", "item", "event_time", "_row"}
    assert {found[name] for name in steps} == {"DELTA_BINARY_PACKED"}
    assert {encoding for name, encoding in found.items() if name not in steps} == {"RLE_DICTIONARY"}
    assert len(file.data) < 3 * 200_000


@pytest.mark.parametrize("count", [500, 200_000])
def test_values_without_repetition_are_plain_as_every_reader_takes_them(count: int) -> None:
    (file,) = encode("readings", rows(np.random.default_rng(0).normal(size=count)))
    assert encodings(file.data)["value"] == "PLAIN"


def test_times_of_envelopes_with_one_reading_each_are_plain() -> None:
    batches = rows(np.zeros(20_000))
    at = batches[0].schema.get_field_index("enqueued_time")
    single = [batch.set_column(at, "enqueued_time", batch.column("event_time")) for batch in batches]
    assert encodings(encode("readings", batches)[0].data)["enqueued_time"] == "RLE_DICTIONARY"
    assert encodings(encode("readings", single)[0].data)["enqueued_time"] == "PLAIN"


def test_first_and_last_times_of_windows_are_steps() -> None:
    (file,) = encode("windows", [plant.Operator().take(10, 60).windows])
    found = encodings(file.data)
    assert found["first_time"] == found["last_time"] == "DELTA_BINARY_PACKED"


@pytest.mark.parametrize(("name", "rows_max"), [("readings", 16_384), ("rejected", 1_024)])
def test_pages_are_looked_at_more_often_where_rows_hold_bodies(
    name: str, rows_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    write = pq.write_table

    def watched(*given: Any, **options: Any) -> None:
        told.append(options["write_batch_size"])
        write(*given, **options)

    monkeypatch.setattr(pq, "write_table", watched)
    encode(name, [getattr(plant.Operator().take(11, 90), name)])
    assert set(told) == {rows_max}


def test_readers_see_plain_strings_and_every_series_in_one_place() -> None:
    values = np.arange(25_000) / 8
    batches = rows(values)
    (file,) = encode("readings", batches)
    table = pq.read_table(pa.BufferReader(file.data))
    assert table.schema.field("device").type == pa.string()
    arrived = [row for batch in batches for row in batch.to_pylist()]
    by_series = sorted(arrived, key=lambda row: (row["device"], row["metric"], row["event_time"]))
    assert table.drop_columns(["_batch", "_row"]).to_pylist() == by_series
    assert table.column("_batch").unique().to_pylist() == [file.batch.bytes]
    assert table.column("_row").to_pylist() == list(range(25_000))
    assert (file.rows, file.sha256) == (25_000, hashlib.sha256(file.data).hexdigest())


def test_rows_are_split_by_the_date_of_their_cause() -> None:
    output = plant.Operator().take(0, 30)
    files = encode("readings", [output.readings, output.readings])
    assert [file.day for file in files] == [date(2026, 11, 21), date(2026, 11, 22)]
    before = [row for row in output.readings.to_pylist() if row["enqueued_time"].day == 21]
    stored = pq.read_table(pa.BufferReader(files[0].data)).drop_columns(["_batch", "_row"]).to_pylist()
    assert plant.sort(stored) == plant.sort(before * 2)
    assert sum(file.rows for file in files) == 2 * output.readings.num_rows


def test_no_rows_make_no_file() -> None:
    assert encode("readings", [plant.Operator().nothing().readings]) == []
    assert encode("journal", []) == []


def test_statistics_are_those_of_the_rows() -> None:
    (file,) = encode("rejected", [plant.Operator().take(11, 90).rejected, plant.Operator().take(11, 90).rejected])
    told = json.loads(file.statistics)
    assert told["numRecords"] == file.rows == 22
    assert told["minValues"]["sequence_number"] == 17
    assert told["maxValues"]["enqueued_time"] == "2026-11-22T00:01:17.000000Z"
    assert told["minValues"]["partition"] == told["maxValues"]["partition"] == plant.PARTITION
    assert told["nullCount"]["device"] == 22
    assert "detail" not in told["minValues"]
    assert "body" not in told["minValues"]
    (file,) = encode("readings", rows(np.array([3.0, -1.5, 2.0])))
    told = json.loads(file.statistics)
    assert (told["minValues"]["value"], told["maxValues"]["value"]) == (-1.5, 3.0)
    assert "lateness_us" not in told["minValues"]


def test_the_date_of_times_before_1970_is_right() -> None:
    assert day_of(-1) == date(1969, 12, 31)
    assert day_of(86_400_000_000) == date(1970, 1, 2)

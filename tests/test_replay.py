"""Replays: the same envelopes whatever the format, from any row on, and a broken row is a row like any other."""

from __future__ import annotations

import gzip
import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst._core import Dictionary, Partition
from alumicatalyst.dictionary import load
from alumicatalyst.errors import InputError
from alumicatalyst.simulator import Impairments, Plan, Simulator
from alumicatalyst.simulator.files import open_file
from alumicatalyst.sources import replay_lines, replay_rows
from alumicatalyst.sources.replay import ROWS_PER_FILE, ReplayReader, ReplaySource, partition_of
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECOND = 1_000_000
START = 1_767_225_600 * SECOND
SMELTER = load(ROOT / "flows" / "smelter.toml")
RIG = """
name = "rig"
version = "1"
site = "example/rig"
time_zone = "UTC"
[payload]
device = ["unit", "@file"]
time = {field = "ts", format = "FORMAT"}
unknown = "accept"
ignore = ["note"]
[time]
max_age = "10000d"
[machine.pump]
device = "pump"
asset = "rig/pump"
pressure = {unit = "bar"}
"""
WIDE = Dictionary.from_toml(RIG.replace("FORMAT", "rfc3339"))
EPOCH = Dictionary.from_toml(RIG.replace("FORMAT", "epoch_s"))


def rows_of(source: ReplaySource, partition: int = 0, after: int = -1) -> list[dict[str, Any]]:
    reader = source.open(source.partitions()[partition], after, 1)
    rows = [row for batch in batches_of(reader) for row in batch.to_pylist()]
    reader.close()
    return rows


def batches_of(reader: ReplayReader) -> Iterator[pa.RecordBatch]:
    while not reader.finished:
        batch = reader.take()
        if batch is not None and batch.num_rows:
            yield batch


def read(
    folder: Path, name: str, content: bytes | str, dictionary: Dictionary = WIDE, **options: Any
) -> list[dict[str, Any]]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return rows_of(ReplaySource([path], dictionary, **options))


def bodies(rows: list[dict[str, Any]]) -> list[bytes]:
    return [row["body"] for row in rows]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


TABLE: list[dict[str, Any]] = [
    {"ts": "2026-01-01T00:00:00Z", "unit": "pump", "pressure": 1.5, "flow": -3, "note": "a"},
    {"ts": "2026-01-01T00:00:02Z", "unit": "007", "pressure": 0.001, "flow": 12, "note": 'quote " and \\'},
    {"ts": "2026-01-01T00:00:01Z", "unit": "pump", "pressure": None, "flow": 7, "note": "line\nbreak, comma"},
    {"ts": "2026-01-01T00:00:03.250Z", "unit": "p\u00e4mp", "pressure": 2.25, "flow": None, "note": None},
]


def written(folder: Path) -> dict[str, Path]:
    """The same table in every format."""
    paths = {name: folder / f"table.{name}" for name in ("csv", "tsv", "ndjson", "parquet", "csv.gz", "ndjson.gz")}
    for name, separator in (("csv", ","), ("tsv", "\t")):
        lines = [separator.join(TABLE[0])]
        for row in TABLE:
            cells = ["" if cell is None else str(cell) for cell in row.values()]
            cells = [
                '"' + cell.replace('"', '""') + '"' if any(c in cell for c in '",\n\t') else cell for cell in cells
            ]
            lines.append(separator.join(cells))
        paths[name].write_text("\n".join(lines) + "\n")
    text = "".join(
        json.dumps(row, separators=(",", ":"), ensure_ascii=False).replace("\\n", "\\u000a") + "\n" for row in TABLE
    )
    paths["ndjson"].write_text(text)
    pq.write_table(pa.Table.from_pylist(TABLE), paths["parquet"])
    for name in ("csv", "ndjson"):
        paths[f"{name}.gz"].write_bytes(gzip.compress(paths[name].read_bytes()))
    return paths


def test_every_format_gives_the_same_envelopes(tmp_path: Path) -> None:
    found = {name: rows_of(ReplaySource([path], WIDE)) for name, path in written(tmp_path).items()}
    expected = found["ndjson"]
    assert [json.loads(row["body"]) for row in expected] == TABLE
    for name, rows in found.items():
        assert rows == expected, name
    assert [row["sequence_number"] for row in expected] == [0, 1, 2, 3]
    assert [row["enqueued_time"] for row in expected] == [
        at(f"2026-01-01T00:00:{second}+00:00") for second in ("00", "02", "02", "03.250")
    ]
    assert {row["properties"][0] for row in expected} == {("file", "table")}


def test_numbers_of_a_csv_keep_exactly_their_digits(tmp_path: Path) -> None:
    cells = ["1.10", "-0.0", "1e3", "12345678901234567890.123456789", "0", "+5", "05", ".5", "nan", "-inf", "x", ""]
    content = "ts,pressure\n" + "".join(f"2026-01-01T00:00:00Z,{cell}\n" for cell in cells)
    values = [body.split(b'"pressure":')[1][:-1].decode() for body in bodies(read(tmp_path, "a.csv", content))]
    assert values == [*cells[:5], '"+5"', '"05"', '".5"', "NaN", "-Infinity", '"x"', "null"]


def test_a_row_that_cannot_be_taken_apart_is_sent_as_it_is_and_rejected(tmp_path: Path) -> None:
    content = (
        b"ts,unit,pressure\n2026-01-01T00:00:00Z,pump,1\ntoo,few\n\n2026-01-01T00:00:01Z,pump,2,many\r\n"
        b'2026-01-01T00:00:05Z,5" pump,5\n2026-01-01T00:00:03Z,pump,4\n\xff\xfe\n2026-01-01T00:00:02Z,"pump,3\n'
        b"2026-01-01T00:00:04Z,pu\xffmp,6"
    )
    rows = read(tmp_path, "a.csv", content)
    assert [(row["sequence_number"], row["body"]) for row in rows] == [
        (0, b'{"ts":"2026-01-01T00:00:00Z","unit":"pump","pressure":1}'),
        (1, b"too,few"),
        (3, b"2026-01-01T00:00:01Z,pump,2,many"),
        (4, b'{"ts":"2026-01-01T00:00:05Z","unit":"5\\" pump","pressure":5}'),
        (5, b'{"ts":"2026-01-01T00:00:03Z","unit":"pump","pressure":4}'),
        (6, b"\xff\xfe"),
        (7, b'2026-01-01T00:00:02Z,"pump,3'),
        (8, b'{"ts":"2026-01-01T00:00:04Z","unit":"pu\xffmp","pressure":6}'),
    ]
    source = ReplaySource([tmp_path / "a.csv"], WIDE)
    partition = Partition(source.partitions()[0], WIDE)
    reader = source.open(source.partitions()[0], -1, 1)
    (batch,) = batches_of(reader)
    output = partition.on_batch(batch)
    assert source.unreadable == 4
    reasons = dict(
        zip(*(output.rejected.column(name).to_pylist() for name in ("sequence_number", "reason")), strict=True)
    )
    assert reasons == {1: "bad_json", 3: "bad_json", 6: "bad_encoding", 7: "bad_json", 8: "bad_encoding"}
    assert output.readings.num_rows == 3


@pytest.mark.parametrize("block", [16, 100, 4096])
def test_i4_the_size_of_blocks_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    lines = [f"2026-01-01T00:{i // 60:02d}:{i % 60:02d}Z,pump,{i / 8}" for i in range(300)]
    lines[40] = 'broken "row'
    lines[80] = '2026-01-01T00:05:00Z,"two\nlines",3'
    lines[120] = ""
    content = "ts,unit,pressure\n" + "\r\n".join(lines)
    whole = read(tmp_path, "a.csv", content)
    ndjson = b"\n".join(row["body"] for row in whole)
    whole_lines = read(tmp_path, "a.ndjson", ndjson)
    monkeypatch.setattr(replay_rows, "BLOCK_BYTES", max(block, 20))
    monkeypatch.setattr(replay_lines, "_BLOCK_BYTES", block)
    assert read(tmp_path, "a.csv", content, batch_envelopes_max=7) == whole
    assert read(tmp_path, "a.ndjson", ndjson, batch_bytes_max=200) == whole_lines
    assert bodies(whole_lines) == bodies(whole)


def test_i6_a_quote_that_is_never_closed_costs_a_row_and_not_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_rows, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(replay_rows, "ROW_BYTES_MAX", 8192)
    good = "2026-01-01T00:00:00Z,pump,1\n"
    rows = read(tmp_path, "a.csv", "ts,unit,pressure\n" + good * 500 + '2026-01-01T00:00:00Z,"pump,1\n' + good * 2000)
    assert len(rows) == 2501
    assert sum(body.startswith(b"{") for body in bodies(rows)) == 2500
    long = read(tmp_path, "b.csv", "ts,unit,pressure\n" + "x" * 50_000 + "\n" + good)
    assert len(long[0]["body"]) == 8192
    assert len(long) == 2


def test_i6_a_line_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_lines, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(replay_lines, "LINE_BYTES_MAX", 3000)
    good = b'{"ts":"2026-01-01T00:00:00Z","unit":"pump","pressure":1}'
    rows = read(tmp_path, "a.ndjson", good + b"\n" + b"x" * 20_000 + b"\n" + good + b"\n")
    assert [(row["sequence_number"], len(row["body"])) for row in rows] == [(0, len(good)), (1, 3000), (2, len(good))]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_guessed(tmp_path: Path, separator: str) -> None:
    content = "ts,unit,pressure\n2026-01-01T00:00:00Z,pump,1\n".replace(",", separator)
    expected = b'{"ts":"2026-01-01T00:00:00Z","unit":"pump","pressure":1}'
    assert (
        bodies(read(tmp_path, "a.csv", content))
        == bodies(read(tmp_path, "a.csv", content, separator=separator))
        == [expected]
    )


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.parquet"])
def test_a_time_without_offset_is_refused_until_its_offset_is_given(tmp_path: Path, name: str) -> None:
    times = ["2026-01-01 02:00:00", "2026-01-01 02:00:01.5"]
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_text("ts,pressure\n" + "".join(f"{time},1.5\n" for time in times))
    elif name.endswith("ndjson"):
        path.write_text("".join(f'{{"ts": "{time}", "pressure": 1.5}}\n' for time in times))
    else:
        naive = [datetime.fromisoformat(time) for time in times]
        pq.write_table(pa.table({"ts": pa.array(naive, pa.timestamp("us")), "pressure": [1.5, 1.5]}), path)
    with pytest.raises(InputError, match=r"no offset.*--utc-offset"):
        rows_of(ReplaySource([path], WIDE))
    for offset, hour in (("+02:00", "00"), ("Z", "02"), ("-01:30", "03:30")):
        rows = rows_of(ReplaySource([path], WIDE, utc_offset=offset))
        first, second = (json.loads(row["body"])["ts"] for row in rows)
        assert first.endswith("Z")
        minute = "" if ":" in hour else ":00"
        assert at(first) == rows[0]["enqueued_time"] == at(f"2026-01-01T{hour}{minute}:00+00:00")
        assert at(second) == at(f"2026-01-01T{hour}{minute}:01.500+00:00")


@pytest.mark.parametrize("offset", ["", "2", "+2:00", "Europe/Oslo", "+24:00", "+02:60"])
def test_an_offset_that_is_none_is_refused(tmp_path: Path, offset: str) -> None:
    with pytest.raises(InputError, match="utc-offset"):
        read(tmp_path, "a.csv", "ts,pressure\n", utc_offset=offset)


def test_single_times_that_cannot_be_read_are_left_to_the_decoder(tmp_path: Path) -> None:
    content = "ts,pressure\n2026-01-01T00:00:00Z,1\nsoon,2\n,3\n2026-01-01T00:00:01.123456789+01:00,4\n"
    content += "2026-01-01T00:00:02z,5\n"
    rows = read(tmp_path, "a.csv", content)
    assert bodies(rows)[1:3] == [b'{"ts":"soon","pressure":2}', b'{"ts":null,"pressure":3}']
    times = [row["enqueued_time"] for row in rows]
    assert times == sorted(times)
    assert times[1] == times[2] == times[3] == at("2026-01-01T00:00:00+00:00")


def test_a_file_whose_times_are_all_of_another_kind_is_refused_with_samples(tmp_path: Path) -> None:
    for name, content in (
        ("a.csv", "ts,pressure\n01/02/2026 10:00,1\n"),
        ("a.ndjson", '{"ts":1767225600,"pressure":1}\n'),
    ):
        with pytest.raises(InputError, match=r"times.*rfc3339.*--time"):
            read(tmp_path, name, content)


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.parquet"])
def test_epoch_times_are_read_exactly(tmp_path: Path, name: str) -> None:
    times = ["1767225600", "1767225600.000001", "1767225601.5"]
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_text("ts,pressure\n" + "".join(f"{time},1\n" for time in times))
    elif name.endswith("ndjson"):
        path.write_text("".join(f'{{"ts":{time},"pressure":1}}\n' for time in times))
    else:
        instants = pa.array([START, START + 1, START + 1_500_000]).cast(pa.timestamp("us", tz="UTC"))
        pq.write_table(pa.table({"ts": instants, "pressure": [1, 1, 1]}), path)
    rows = rows_of(ReplaySource([path], EPOCH))
    enqueued = pa.array([row["enqueued_time"] for row in rows]).cast(pa.int64()).to_pylist()
    assert enqueued == [START, START + 1, START + 1_500_000]


def test_the_arrival_can_stand_in_a_column_and_the_time_under_another_name(tmp_path: Path) -> None:
    content = (
        "when,unit,pressure,note\n2026-01-01T00:00:00Z,pump,1,2026-01-01T00:10:00Z\n2026-01-01T00:00:01Z,pump,2,\n"
    )
    rows = read(tmp_path, "a.csv", content, time_column="when", enqueued_column="note")
    assert json.loads(rows[0]["body"])["ts"] == "2026-01-01T00:00:00Z"
    assert [row["enqueued_time"] for row in rows] == [at("2026-01-01T00:10:00+00:00")] * 2
    lines = '{"when":"2026-01-01T00:00:00Z","unit":"pump","pressure":1.50,"note":"2026-01-01T00:10:00Z"}\n'
    row = read(tmp_path, "a.ndjson", lines, time_column="when", enqueued_column="note")[0]
    assert b'"pressure":1.50' in row["body"]
    assert json.loads(row["body"])["ts"] == "2026-01-01T00:00:00Z"
    assert row["enqueued_time"] == at("2026-01-01T00:10:00+00:00")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "first row is empty"),
        ("a.csv", "1,2\n3,4\n", "put the names there"),
        ("a.csv", "ts,ts\n", "same name"),
        ("a.csv", "ts,,b\n", "one is empty"),
        ("a.csv", "when,b\n", "--time"),
        ("a.csv", b"t\xff,b\n", "UTF-8"),
        ("a.parquet", "no parquet", "Parquet"),
        ("a.csv.gz", "no gzip", "couldn't read"),
        ("a.xlsx", "", "ends in none"),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused_with_the_reason(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, name, content)


def test_files_that_are_missing_or_named_twice_and_odd_options_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("ts,b\n")
    for paths, options in (
        ([], {}),
        ([tmp_path / "none.csv"], {}),
        ([path, path], {}),
        ([path], {"partitions": 0}),
        ([path], {"separator": '"'}),
    ):
        with pytest.raises(InputError, match="couldn't"):
            ReplaySource(paths, WIDE, **options)
    assert rows_of(ReplaySource([path], WIDE)) == []


def simulated(folder: Path, name: str, impairments: Impairments | None = None, seconds: int = 120) -> Path:
    path = folder / name
    simulator = Simulator(json.loads(SMELTER.to_json()), Plan(START, impairments=impairments or Impairments()))
    file = open_file(path, simulator)
    file.send(simulator.advance(START + seconds * SECOND))
    file.close()
    return path


def test_a_simulation_written_to_a_file_comes_back_byte_by_byte(tmp_path: Path) -> None:
    impairments = Impairments(malformed=0.1, duplicates=0.1, disorder=0.1)
    simulator = Simulator(json.loads(SMELTER.to_json()), Plan(START, impairments=impairments))
    released = simulator.advance(START + 120 * SECOND)
    for name in ("a.ndjson", "a.ndjson.gz"):
        rows = rows_of(ReplaySource([simulated(tmp_path, name, impairments)], SMELTER))
        assert bodies(rows) == released.bodies.to_pylist()
        assert (
            pa.array([row["enqueued_time"] for row in rows]).cast("int64").to_pylist() == released.enqueued_us.tolist()
        )


def test_a_simulation_as_a_table_comes_back_as_the_same_readings(tmp_path: Path) -> None:
    columns = ["device", "metric", "event_time", "value", "quality"]
    found = {}
    for name in ("a.ndjson", "a.csv", "a.csv.gz", "a.parquet"):
        source = ReplaySource([simulated(tmp_path, name)], SMELTER)
        partition, reader = Partition(source.partitions()[0], SMELTER), source.open(source.partitions()[0], -1, 1)
        rows: list[tuple[Any, ...]] = []
        for batch in batches_of(reader):
            output = partition.on_batch(batch)
            assert not output.rejected.num_rows
            rows += [tuple(row.values()) for row in output.readings.select(columns).to_pylist()]
        found[name] = rows
    assert len(found["a.csv"]) > 6_000
    assert all(rows == found["a.csv"] for rows in found.values())


@settings(max_examples=20)
@given(data=st.data())
def test_i5_resume_after_any_row_gives_the_rest(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("replay")
    first = "ts,unit,pressure\n" + "".join(
        f"2026-01-01T00:00:{(i * 7) % 60:02d}Z,pump-{i % 5},{i}\n" for i in range(40)
    )
    (folder / "a.csv").write_text(first)
    (folder / "b.ndjson").write_text('{"ts":"2026-01-01T00:00:30Z","unit":"pump-1","pressure":1}\n\n' * 20)
    partitions = data.draw(st.integers(1, 3))
    source = ReplaySource([folder / "a.csv", folder / "b.ndjson"], WIDE, partitions=partitions, batch_envelopes_max=6)
    number = data.draw(st.integers(0, partitions - 1))
    whole = rows_of(source, number)
    after = data.draw(st.sampled_from([-1, 5, 39, 40, ROWS_PER_FILE - 1, ROWS_PER_FILE, ROWS_PER_FILE + 50]))
    assert rows_of(source, number, after) == [row for row in whole if row["sequence_number"] > after]
    reader = source.open(source.partitions()[number], ROWS_PER_FILE + 50, 1)
    assert list(batches_of(reader)) == []
    assert reader.last_sequence == (whole[-1]["sequence_number"] if whole else -1)


@pytest.mark.parametrize("name", ["csv", "ndjson", "parquet"])
def test_partitions_split_rows_by_the_digest_of_the_device_and_keep_their_numbers(tmp_path: Path, name: str) -> None:
    path = written(tmp_path)[name]
    whole = rows_of(ReplaySource([path], WIDE))
    source = ReplaySource([path], WIDE, partitions=4)
    split = [rows_of(source, number) for number in range(4)]
    assert sorted(row["sequence_number"] for rows in split for row in rows) == [row["sequence_number"] for row in whole]
    for number, rows in enumerate(split):
        for row in rows:
            device = json.loads(row["body"])["unit"].encode()
            expected = int.from_bytes(hashlib.sha256(device).digest()[:8], "big") % 4
            assert partition_of(device, 4) == expected == number
            assert row["enqueued_time"].microsecond in {0, 250_000}


@pytest.mark.parametrize("folder", ["nab", "skab"])
def test_recorded_runs_are_read_whole(data: Path, folder: str) -> None:
    text = RIG.replace('"unit", ', "").replace("FORMAT", "rfc3339")
    text = text.replace('"ts"', '"timestamp"' if folder == "nab" else '"datetime"')
    dictionary = Dictionary.from_toml(text)
    paths = sorted((data / folder / "data").rglob("*.csv"))
    assert len(paths) > 10
    for path in paths:
        source = ReplaySource([path], dictionary, utc_offset="Z")
        name = source.partitions()[0]
        partition, reader = Partition(name, dictionary), source.open(name, -1, 1)
        count = rejected = 0
        for batch in batches_of(reader):
            count += batch.num_rows
            rejected += partition.on_batch(batch).rejected.num_rows
        assert count == len(path.read_text().splitlines()) - 1
        assert (source.unreadable, rejected) == (0, 0), path


_CELLS = st.sampled_from(
    ['"', ",", "\n", "\r\n", "pump", "1.5", "", "2026-01-01T00:00:00Z", "nan", "\x00", "\u00e9", "{", "[", ":", "ts"]
)
_LINES = st.sampled_from(
    [
        b'{"ts":"2026-01-01T00:00:00Z","unit":"pump","pressure":1}',
        b'[{"ts":"2026-01-01T00:00:00Z","unit":"\xff"},{"ts":1}]',
        b'{"enqueued_time":"2026-01-01T00:00:00Z","partition_key":"a","body":{}}',
        b'{"enqueued_time":"2026-01-01T00:00:00Z","body_base64":"\xc3\xa9"}',
        b'{"enqueued_time":1,"body":[1,2]}',
        b'{"enqueued_time":"2026-01-01T00:00:00Z","properties":{"a":1},"body":1}',
        b'{"ts":"\xff","unit":3}',
        b'{"ts":"2026-01-01T00:00:00Z","ts":null}',
        b"[" * 5000,
        b"\xef\xbb\xbf{}",
    ]
)


@settings(max_examples=150)
@given(data=st.data(), name=st.sampled_from(["a.csv", "a.ndjson", "a.parquet", "a.csv.gz"]))
def test_i9_any_bytes_end_in_rows_or_in_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, name: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    if name == "a.csv":
        head = data.draw(st.sampled_from(["ts,unit,pressure\n2026-01-01T00:00:00Z,pump,1\n", ""]))
        content = (head + "".join(data.draw(st.lists(_CELLS, max_size=60)))).encode()
    elif name == "a.ndjson":
        content = b"\n".join(data.draw(st.lists(st.one_of(_LINES, st.binary(max_size=20)), max_size=10)))
    else:
        content = data.draw(st.binary(max_size=200))
    content += data.draw(st.binary(max_size=5))
    partitions = data.draw(st.integers(1, 2))
    try:
        (folder / name).write_bytes(content)
        source = ReplaySource([folder / name], data.draw(st.sampled_from([WIDE, EPOCH])), partitions=partitions)
        rows = [rows_of(source, number) for number in range(partitions)]
    except InputError:
        return
    numbers = [row["sequence_number"] for found in rows for row in found]
    assert len(set(numbers)) == len(numbers)

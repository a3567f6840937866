"""Replays that go on: the input has to be the one that was stored, skipping holds nobody up, and time may be any."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst._core import Dictionary, Partition
from alumicatalyst.errors import IncarnationChanged, InputError, SourceError
from alumicatalyst.sources import replay_reader, replay_rows
from alumicatalyst.sources.replay import ReplaySource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa

    from alumicatalyst.sources.replay import ReplayReader

RIG = Dictionary.from_toml(
    """
name = "rig"
version = "1"
site = "example/rig"
time_zone = "UTC"
[payload]
device = "unit"
time = {field = "ts", format = "rfc3339"}
[machine.pump]
device = "pump"
asset = "rig/pump"
pressure = {unit = "bar"}
"""
)


def written(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).write_text(f"ts,unit,pressure\n2026-01-01T00:00:00Z,pump,{ord(name[0])}\n")
    return [folder / name for name in names]


def taken(reader: ReplayReader) -> list[pa.RecordBatch | None]:
    """Everything that a reader gives, in order."""
    out = []
    while not reader.finished:
        out.append(reader.take())
    return out


def rows_of(source: ReplaySource, partition: int = 0) -> list[dict[str, Any]]:
    batches = taken(source.open(source.partitions()[partition], -1, 1))
    return [row for batch in batches if batch is not None for row in batch.to_pylist()]


def test_the_first_file_names_the_incarnation_and_files_may_only_be_added_behind(tmp_path: Path) -> None:
    paths = written(tmp_path, "a.csv", "b.csv", "c.csv")
    sources = [ReplaySource(paths[:count], RIG, name="plant") for count in (1, 2, 3)]
    digest = hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert {source.partitions()[0] for source in sources} == {f"plant/{digest[:16]}/0"}
    first = sources[0].input()
    assert first == {
        "files": [{"name": "a.csv", "size": paths[0].stat().st_size, "sha256": digest}],
        "options": {"partitions": 1, "time": None, "enqueued": None, "utc_offset": None, "separator": None},
    }
    assert json.loads(json.dumps(first)) == first
    for earlier, later in itertools.combinations_with_replacement(sources, 2):
        later.check_input(earlier.input())
    swapped = ReplaySource([paths[0], paths[2], paths[1]], RIG)
    for before, now, message in (
        (sources[1], sources[0], r"file 2 was b\.csv and is missing"),
        (sources[2], swapped, r"file 2 was b\.csv .* is now c\.csv"),
    ):
        with pytest.raises(IncarnationChanged, match=message):
            now.check_input(before.input())


def _grow(path: Path) -> Path:
    path.write_text(path.read_text() + "2026-01-01T00:00:01Z,pump,1\n")
    return path


def _insert(path: Path) -> Path:
    path.write_text(path.read_text().replace("\n", "\n2026-01-01T00:00:00Z,pump,7\n", 1))
    return path


def _rename(path: Path) -> Path:
    return path.rename(path.with_suffix(".tsv"))


@pytest.mark.parametrize(
    ("change", "message"),
    [(_grow, "has changed"), (_insert, "has changed"), (_rename, r"is now named b\.tsv, with the same content")],
)
def test_a_later_file_that_changed_is_refused_with_its_name(
    tmp_path: Path, change: Callable[[Path], Path], message: str
) -> None:
    paths = written(tmp_path, "a.csv", "b.csv")
    before = ReplaySource(paths, RIG).input()
    now = ReplaySource([paths[0], change(paths[1])], RIG)
    with pytest.raises(IncarnationChanged, match=rf"file 2 was b\.csv.*{message}"):
        now.check_input(before)


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({}, {"partitions": 4}, "--partitions was 1 and is 4.*give --partitions 1"),
        ({"partitions": 2}, {}, "--partitions was 2 and is 1.*give --partitions 2"),
        ({}, {"time_column": "at"}, "--time was not given and is at.*leave --time out"),
        ({"enqueued_column": "at"}, {}, "--enqueued was at and is not given.*give --enqueued at"),
        ({"utc_offset": "+02:00"}, {"utc_offset": "Z"}, r"--utc-offset was \+02:00 and is Z"),
        ({}, {"separator": ";"}, "--separator was not given and is ;"),
    ],
)
def test_i3_files_that_would_be_read_in_another_way_are_refused_with_the_option(
    tmp_path: Path, before: dict[str, Any], now: dict[str, Any], message: str
) -> None:
    paths = written(tmp_path, "a.csv")
    earlier = ReplaySource(paths, RIG, **before).input()
    with pytest.raises(InputError, match=message):
        ReplaySource(paths, RIG, **now).check_input(earlier)


def test_an_offset_is_the_same_however_it_is_written(tmp_path: Path) -> None:
    paths = written(tmp_path, "a.csv")
    for one, other in (("Z", "+00:00"), ("z", "-00:00"), ("-0130", "-01:30"), ("+0530", "+05:30")):
        earlier = ReplaySource(paths, RIG, utc_offset=one).input()
        assert earlier["options"]["utc_offset"] in {"Z", other}
        ReplaySource(paths, RIG, utc_offset=other).check_input(earlier)


@pytest.mark.parametrize(
    "body", [{}, {"files": [], "options": 3}, {"files": [{}], "options": {}}, {"files": [3], "options": {}}]
)
def test_a_journal_that_names_no_input_is_refused(tmp_path: Path, body: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match="names none"):
        ReplaySource(written(tmp_path, "a.csv"), RIG).check_input(body)


@pytest.mark.parametrize("after", [998, 2_000])
def test_skipping_what_is_stored_lets_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    path = tmp_path / "a.csv"
    path.write_text("ts,unit,pressure\n" + "2026-01-01T00:00:00Z,pump,1\n" * 1_000)
    monkeypatch.setattr(replay_rows, "BLOCK_BYTES", 1_000)
    monkeypatch.setattr(replay_reader, "_PATIENCE_S", 0.0)
    # However long this takes, no heartbeat comes in between.
    monkeypatch.setattr(replay_reader, "_HEARTBEAT_S", math.inf)
    source = ReplaySource([path], RIG)
    reader = source.open(source.partitions()[0], after, 1)
    for _ in range(20):
        assert reader.take() is None
        assert not reader.finished
    found = [batch.num_rows for batch in taken(reader) if batch is not None]
    assert found == ([1] if after == 998 else [])
    assert reader.last_sequence == 999


def test_a_partition_without_rows_gives_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text("ts,unit,pressure\n" + "2026-01-01T00:00:00Z,pump,1\n" * 1_000)
    monkeypatch.setattr(replay_rows, "BLOCK_BYTES", 1_000)
    monkeypatch.setattr(replay_reader, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(replay_reader, "_HEARTBEAT_S", 0.0)
    source = ReplaySource([path], RIG, partitions=2)
    empty = next(number for number in (0, 1) if not rows_of(source, number))
    batches = taken(source.open(source.partitions()[empty], -1, 1))
    assert len(batches) > 20
    assert all(batch is not None and not batch.num_rows for batch in batches[:-1])


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson"])
def test_files_from_before_1970_are_stored_like_any_other(tmp_path: Path, name: str) -> None:
    times = ["soon", "1958-05-01T00:00:00Z", "1958-05-01T00:00:10Z", "", "1958-05-01T00:00:05Z"]
    if name == "a.csv":
        text = "ts,unit,pressure\n" + "".join(f"{at},pump,{row}\n" for row, at in enumerate(times))
    else:
        text = "".join(f'{{"ts":"{at}","unit":"pump","pressure":{row}}}\n' for row, at in enumerate(times))
    (tmp_path / name).write_text(text)
    source = ReplaySource([tmp_path / name], RIG)
    rows = rows_of(source)
    assert [row["enqueued_time"] for row in rows] == [
        datetime(1958, 5, 1, 0, 0, second, tzinfo=UTC) for second in (0, 0, 10, 10, 10)
    ]
    partition = Partition(source.partitions()[0], RIG)
    (batch,) = (batch for batch in taken(source.open(source.partitions()[0], -1, 1)) if batch)
    output = partition.on_batch(batch)
    assert output.readings.num_rows == 3
    assert set(output.rejected.column("reason").to_pylist()) <= {"bad_time", "missing_time"}


def test_rows_before_any_time_take_the_first_one_also_where_it_belongs_to_another_partition(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ts,unit,pressure\nsoon,pump,1\n1958-05-01T00:00:00Z,pump-2,1\nsoon,pump,2\n")
    source = ReplaySource([tmp_path / "a.csv"], RIG, partitions=64)
    found = [row["enqueued_time"] for number in range(64) for row in rows_of(source, number)]
    assert found == [datetime(1958, 5, 1, tzinfo=UTC)] * 3


def test_an_empty_arrival_takes_the_first_one_that_follows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "ts,unit,at\n1958-05-01T00:00:00Z,pump,\n1958-05-01T00:00:00Z,pump,1958-05-02T00:00:00Z\n"
        "1958-05-01T00:00:01Z,pump,1958-05-01T12:00:00Z\n1958-05-01T00:00:02Z,pump,\n"
    )
    rows = rows_of(ReplaySource([tmp_path / "a.csv"], RIG, enqueued_column="at"))
    assert [(row["enqueued_time"].day, row["enqueued_time"].hour) for row in rows] == [(2, 0), (2, 0), (1, 12), (2, 0)]


def test_rows_of_a_file_without_any_time_are_of_1970(tmp_path: Path) -> None:
    line = '{"enqueued_time":"never","partition_key":"a","body":{}}\n'
    (tmp_path / "a.ndjson").write_text(line * 2)
    rows = rows_of(ReplaySource([tmp_path / "a.ndjson"], RIG))
    assert [row["enqueued_time"] for row in rows] == [datetime(1970, 1, 1, tzinfo=UTC)] * 2

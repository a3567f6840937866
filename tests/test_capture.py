"""Event Hubs Capture's Avro files: replayed, they give what the flow gave on the same events, bit for bit."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst._core import Dictionary
from alumicatalyst.errors import IncarnationChanged, InputError
from alumicatalyst.lake import Lake
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from alumicatalyst.sources.capture import CaptureSource
from alumicatalyst.sources.capture_files import CaptureFile, time_us
from tests.logs import Envelope, seeded_log
from tests.plants import PLANTS, SECOND
from tests.replaying import assert_same, run, sums

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# As the service writes it.
SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "EventData",
        "namespace": "Microsoft.ServiceBus.Messaging",
        "fields": [
            {"name": "SequenceNumber", "type": "long"},
            {"name": "Offset", "type": "string"},
            {"name": "EnqueuedTimeUtc", "type": "string"},
            {"name": "SystemProperties", "type": {"type": "map", "values": ["long", "double", "string", "bytes"]}},
            {
                "name": "Properties",
                "type": {"type": "map", "values": ["long", "double", "string", "bytes", "null"]},
            },
            {"name": "Body", "type": ["null", "bytes"]},
        ],
    }
)
HUB = "hub"
CODECS = ("null", "deflate", "snappy")


def dictionary() -> Dictionary:
    return Dictionary.from_json(json.dumps(PLANTS["narrow"]))


def numbered(log: Sequence[Envelope]) -> list[Envelope]:
    """A hub's log: numbers without gaps, times of milliseconds, properties that are there."""
    found = []
    for number, each in enumerate(log, start=40):
        properties = {name: value for name, value in each.properties.items() if value is not None}
        found.append(Envelope(number, each.enqueued_us // 1000 * 1000, each.body, dict(properties)))
    return found


def record(event: Envelope, *, precise: bool = True) -> dict[str, Any]:
    system: dict[str, Any] = {"x-opt-partition-key": b"any"}
    if precise:
        system["x-opt-enqueued-time"] = event.enqueued_us // 1000
    properties: dict[str, Any] = {"priority": 3, "ratio": 1.5, "nothing": None}
    for name, value in event.properties.items():
        # What the service puts on stands before what a device may claim.
        system[name] = value
        properties[name] = "somebody else"
    return {
        "SequenceNumber": event.sequence_number,
        "Offset": str(event.sequence_number * 100),
        "EnqueuedTimeUtc": _us(event.enqueued_us),
        "SystemProperties": system,
        "Properties": properties,
        "Body": event.body or None,
    }


def _us(us: int) -> str:
    from datetime import UTC, datetime, timedelta

    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    return f"{time.month}/{time.day}/{time.year} {time.hour % 12 or 12}:{time:%M:%S} {'AM' if time.hour < 12 else 'PM'}"


def write(path: Path, events: Sequence[Envelope], codec: str = "deflate", **given: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        fastavro.writer(file, SCHEMA, [record(each, **given) for each in events], codec=codec, sync_interval=2_000)
    return path


def place(folder: Path, partition: str, minute: int) -> Path:
    return folder / "namespace" / HUB / partition / "2026/01/15/12" / f"{minute:02d}" / "00.avro"


def captured(folder: Path, logs: dict[str, list[Envelope]], size: int = 50) -> list[Path]:
    """Files as Capture leaves them, empty ones among them, in codecs of every kind."""
    paths = []
    for partition, log in logs.items():
        for number, start in enumerate(range(0, len(log), size)):
            paths.append(
                write(place(folder, partition, number), log[start : start + size], CODECS[number % len(CODECS)])
            )
        paths.append(write(place(folder, partition, 59), []))
    return paths


def replay(paths: Sequence[Path], into: Path, **given: Any) -> CaptureSource:
    source = CaptureSource(paths, dictionary(), **{"incarnation": "1", "batch_envelopes_max": 33, **given})
    wanted: dict[str, Any] = {"flush_rows_max": 100, "flush_interval_s": 3600.0}
    run_loop(Pipeline(source, dictionary(), Lake.open(f"file:{into}"), **wanted))
    return source


@pytest.fixture(scope="module")
def logs() -> dict[str, list[Envelope]]:
    return {number: numbered(seeded_log(int(number), "narrow", 150)) for number in ("0", "1")}


def test_i2_captured_files_give_the_rows_of_the_live_flow_bit_for_bit(tmp_path, logs):
    run(tmp_path / "live", dictionary(), {f"{HUB}/1/{each}": log for each, log in logs.items()}, flush=True)
    paths = captured(tmp_path / "capture", logs)
    random.Random(3).shuffle(paths)
    source = replay(paths, tmp_path / "again")
    assert source.partitions() == [f"{HUB}/1/0", f"{HUB}/1/1"]
    assert_same(tmp_path / "again", tmp_path / "live")
    counts = ("body_bytes", "envelopes", "rows_total", "rows_windows", "redelivered")
    assert sums(tmp_path / "again", *counts) == sums(tmp_path / "live", *counts)


def test_i3_overlapping_and_repeated_files_count_once(tmp_path, logs):
    log = logs["0"]
    run(tmp_path / "live", dictionary(), {f"{HUB}/1/0": log}, flush=True)
    paths = [
        write(place(tmp_path, "0", minute), log[start:end])
        for minute, (start, end) in enumerate([(0, 60), (40, 90), (90, 150), (100, 140)])
    ]
    copy = place(tmp_path / "copy", "0", 0)
    copy.parent.mkdir(parents=True)
    copy.write_bytes(paths[0].read_bytes())
    replay([*paths, copy], tmp_path / "again")
    assert_same(tmp_path / "again", tmp_path / "live")
    assert sums(tmp_path / "again", "redelivered") == {"redelivered": 20 + 40}


def test_i5_a_replay_goes_on_with_the_files_that_came_since(tmp_path, logs):
    run(tmp_path / "live", dictionary(), {f"{HUB}/1/{each}": log for each, log in logs.items()}, flush=False)
    paths = captured(tmp_path / "capture", logs)
    for count in (1, 2, 3):
        chosen = [path for path in paths if path.parts[-2] == "59" or int(path.parts[-2]) < count]
        source = CaptureSource(chosen, dictionary(), incarnation="1")
        lake = Lake.open(f"file:{tmp_path / 'again'}")
        run_loop(Pipeline(source, dictionary(), lake, flush_at_end=False))
    assert_same(tmp_path / "again", tmp_path / "live")
    changed = write(place(tmp_path / "capture", "1", 0), logs["1"][:49])
    assert changed in paths
    with pytest.raises(InputError, match="ends at 88"):
        replay(paths, tmp_path / "again")
    fewer = [path for path in paths if path != changed]
    with pytest.raises(IncarnationChanged, match="of partition 1 there were 3 files up to 1/2026/01/15/12/02/00"):
        replay(fewer, tmp_path / "again")


def test_a_gap_between_files_or_in_one_is_refused_until_accepted(tmp_path, logs):
    log = logs["0"]
    apart = [write(place(tmp_path, "0", 0), log[:50]), write(place(tmp_path, "0", 1), log[60:100])]
    with pytest.raises(InputError, match=r"goes on at sequence number 100, and what came before ends at 89"):
        replay(apart, tmp_path / "lake")
    inside = [write(place(tmp_path, "1", 0), log[:50] + log[60:])]
    with pytest.raises(InputError, match=r"goes on at sequence number 100, and what came before ends at 89"):
        replay(inside, tmp_path / "other")
    for number, paths in enumerate((apart, inside)):
        source = replay(paths, tmp_path / f"accepted{number}", accept_gaps=True)
        assert source.rows == sum(CaptureFile.of(path).events for path in paths)


def test_without_captures_folders_files_are_one_partition_and_must_agree(tmp_path, logs):
    one, two = write(tmp_path / "a.avro", logs["0"][:50]), write(tmp_path / "b.avro", logs["0"][40:])
    source = CaptureSource([two, one], dictionary())
    (partition,) = source.partitions()
    assert partition == f"capture/{CaptureFile.of(one).sha256[:16]}/0"
    assert source.first_sequence(partition) == 40
    other = write(tmp_path / "c.avro", logs["1"][:60])
    with pytest.raises(InputError, match="they hold different events 40, so they are of several partitions"):
        CaptureSource([one, other], dictionary())
    flat = write(tmp_path / "7_2026_01_15_12_00_00.avro", logs["0"])
    assert CaptureFile.of(flat).partition == "7"
    with pytest.raises(InputError, match="they hold no event"):
        CaptureSource([write(tmp_path / "d.avro", [])], dictionary())
    hubs = [write(tmp_path / f"n/{hub}/0/2026/01/01/00/00/00.avro", logs["0"]) for hub in ("one", "two")]
    with pytest.raises(InputError, match="files of one and two together"):
        CaptureSource(hubs, dictionary())


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1/15/2026 12:00:00 PM", 1_768_478_400 * SECOND),
        ("1/15/2026 12:00:01 AM", (1_768_478_400 - 43_199) * SECOND),
        ("1/15/2026 1:02:03 PM", (1_768_478_400 + 3_723) * SECOND),
        ("1/15/2026 12:00:00.1234567 PM", 1_768_478_400 * SECOND + 123_456),
        ("2026-01-15T12:00:00.1234567Z", 1_768_478_400 * SECOND + 123_456),
        ("2026-01-15T12:00:00", 1_768_478_400 * SECOND),
    ],
)
def test_times_are_read_as_the_service_writes_them(text, us):
    assert time_us(text) == us


@pytest.mark.parametrize("text", ["", "13/1/2026 1:00:00 PM", "1/1/2026 13:00:00 PM", "1/1/2026 0:00:00 AM", "soon"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match=r".*"):
        time_us(text)


def test_events_without_a_precise_time_take_the_seconds_of_the_text(tmp_path, logs):
    path = write(tmp_path / "a.avro", logs["0"][:20], precise=False)
    times = [event.enqueued_us for event in CaptureFile.of(path).read()]
    assert times == [event.enqueued_us // SECOND * SECOND for event in logs["0"][:20]]


def other_schema(path: Path, fields: list[dict[str, Any]], records: list[dict[str, Any]]) -> Path:
    schema = fastavro.parse_schema({"type": "record", "name": "E", "fields": fields})
    with path.open("wb") as file:
        fastavro.writer(file, schema, records)
    return path


def test_files_that_are_none_of_captures_end_in_one_sentence(tmp_path, logs):
    body, time = {"name": "Body", "type": "bytes"}, {"name": "EnqueuedTimeUtc", "type": "string"}
    without = other_schema(tmp_path / "a.avro", [body, time], [])
    with pytest.raises(InputError, match="no SequenceNumber, without which there is no order"):
        CaptureFile.of(without)
    number = {"name": "SequenceNumber", "type": "long"}
    nested = other_schema(
        tmp_path / "b.avro", [number, body, time, {"name": "x", "type": {"type": "array", "items": "null"}}], []
    )
    with pytest.raises(InputError, match="x is of type array"):
        CaptureFile.of(nested)
    with pytest.raises(InputError, match="No such file"):
        CaptureFile.of(tmp_path / "none.avro")
    backwards = write(tmp_path / "c.avro", logs["0"][10:20] + logs["0"][:10])
    with pytest.raises(InputError, match="do not rise"):
        CaptureFile.of(backwards)
    whole = write(tmp_path / "d.avro", logs["0"]).read_bytes()
    for length in (0, 3, 200, len(whole) // 2, len(whole) - 1):
        (tmp_path / "e.avro").write_bytes(whole[:length])
        with pytest.raises(InputError, match="damaged, cut short, or no file of Event Hubs Capture"):
            CaptureFile.of(tmp_path / "e.avro")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, logs) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    return {codec: write(folder / f"{codec}.avro", logs["0"][:8], codec).read_bytes() for codec in CODECS}


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_bytes_end_in_events_or_in_one_sentence(tmp_path_factory, whole, data):
    path = tmp_path_factory.getbasetemp() / "any.avro"
    found = bytearray(whole[data.draw(st.sampled_from(CODECS))])
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(found) - 1))
        found[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    path.write_bytes(bytes(found) if data.draw(st.booleans()) else data.draw(st.binary(max_size=60)))
    said = ""
    try:
        for event in CaptureFile.of(path).read():
            assert isinstance(event.body, bytes)
    except InputError as error:
        said = str(error)
    assert not said or said.startswith("couldn't read")

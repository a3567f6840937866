"""Whatever comes in from outside ends in a counted rejection or a clear error: no crash, no hang (I9)."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst._core import Dictionary, Partition, schema
from tests.compare import assert_as_oracle, batch_of, consult, feed
from tests.logs import START_US, Envelope, seeded_log
from tests.oracle import Oracle
from tests.plants import PLANTS, SECOND

PARTITION = "test/1/0"
# As the plants, but with room for large bodies.
ROOMY = {
    name: {**plant, "bounds": {"series": 100, "body_bytes": 1 << 20, "readings_per_envelope": 10_000, "depth": 32}}
    for name, plant in PLANTS.items()
}
DICTIONARIES = {name: Dictionary.from_json(json.dumps(plant)) for name, plant in ROOMY.items()}
plants = st.sampled_from(sorted(ROOMY))


def check(plant: str, bodies: list[bytes]) -> list[str]:
    """Hand bodies to the core; its rows must be the oracle's. Returns the reasons of rejection."""
    log = [Envelope(number, START_US, body) for number, body in enumerate(bodies)]
    run = feed(Partition(PARTITION, DICTIONARIES[plant]), log)
    assert_as_oracle(run, consult(Oracle(PARTITION, ROOMY[plant]), log))
    return [row["reason"] for row in run.rows("rejected")]


@settings(max_examples=300, deadline=None)
@given(plants, st.lists(st.binary(max_size=200), max_size=8))
def test_i9_arbitrary_bytes_are_rejected_and_counted(plant, bodies):
    check(plant, bodies)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["deviceId", "dev", "device", "ts", "t", "metric", "m", "value", "v", "q", "cell_voltage", ""])
OBJECTS = st.dictionaries(
    NAMES, JSON | st.sampled_from(["pot-1", START_US // 1000, "2026-01-15T12:00:00Z"]), max_size=8
)


@settings(max_examples=300, deadline=None)
@given(plants, st.lists(OBJECTS, max_size=5), st.booleans())
def test_i9_documents_of_the_right_shape_and_any_content(plant, objects, ascii_only):
    text = json.dumps(objects, ensure_ascii=ascii_only)
    check(plant, [text.encode("utf-8", "surrogatepass")])


@settings(max_examples=300, deadline=None)
@given(plants, st.integers(0, 10**6), st.data())
def test_i9_valid_documents_with_a_few_bytes_changed(plant, seed, data):
    bodies = []
    for envelope in seeded_log(seed, plant, 4):
        body = bytearray(envelope.body)
        for _ in range(data.draw(st.integers(0, 3))):
            place = data.draw(st.integers(0, len(body)))
            body[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        bodies.append(bytes(body))
    check(plant, bodies)


@pytest.mark.parametrize("levels", [31, 32, 33, 1_000, 50_000])
@pytest.mark.parametrize("shape", ["arrays", "objects", "member"])
def test_i9_nesting_of_any_depth_is_survived(levels, shape):
    if shape == "arrays":
        body = b"[" * levels + b"]" * levels
    elif shape == "objects":
        body = b'{"a":' * levels + b"1" + b"}" * levels
    else:
        body = b'{"dev":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"
    reasons = check("accepting", [body, body[:-1], body[: len(body) // 2]])
    assert reasons[1:] == ["bad_json", "bad_json"]
    assert (reasons[0] == "too_deep") == (levels > 32)


MEBIBYTE = 1 << 20
LARGE = [
    (b" " * MEBIBYTE, "empty_body"),
    (b'"' + b"a" * (MEBIBYTE - 2) + b'"', "wrong_type"),
    (b'"' + b"\\" * (MEBIBYTE - 2) + b'"', "wrong_type"),
    (b'"' + b"\\u0061" * 170_000 + b'"', "wrong_type"),
    (b'"' + "\u00e9".encode() * (MEBIBYTE // 2 - 1) + b'"', "wrong_type"),
    (b"9" * MEBIBYTE, "wrong_type"),
    (b"-0." + b"0" * (MEBIBYTE - 4) + b"1", "wrong_type"),
    (b"[" + b"0," * (MEBIBYTE // 2 - 2) + b"0]", "too_many_readings"),
    (b"[" + b"{}," * 349_000 + b"{}]", "too_many_readings"),
    (b'{"deviceId":"pot-1","t":0,' + b",".join(b'"%d":%d' % (n, n) for n in range(70_000)) + b"}", "too_many_readings"),
    (b'{"' + b"k" * (MEBIBYTE - 6) + b'":1}', "missing_device"),
    (b"\xff" * MEBIBYTE, "bad_encoding"),
    (b"[" * MEBIBYTE, "bad_json"),
    (b"[" * (MEBIBYTE // 2) + b"]" * (MEBIBYTE // 2), "too_deep"),
    (b"[1" + b" " * (MEBIBYTE - 2), "bad_json"),
    (b'"' + b"x" * (MEBIBYTE - 1), "bad_json"),
    (b"x" * (MEBIBYTE + 1), "too_large"),
    (b"{}\n" * (MEBIBYTE // 3), "too_many_readings"),
    (b"[]\n" + b"x\n" * (MEBIBYTE // 2 - 2), "too_many_readings"),
    (b"[]\n" + b"[1,\n" * (MEBIBYTE // 4 - 1), "too_many_readings"),
    (b"[]\n" + b"[[[\n" * 9_000 + b"1,\n" * 300_000, "too_many_readings"),
    (b"[]\n" + b"\r\n" * (MEBIBYTE // 2 - 2) + b"\xff", "bad_encoding"),
    (b"[\n" * (MEBIBYTE // 2), "bad_json"),
]


@pytest.mark.parametrize(("body", "reason"), LARGE, ids=lambda each: repr(each[:8]))
def test_i9_a_body_of_a_mebibyte_is_answered_at_once(body, reason):
    partition = Partition(PARTITION, DICTIONARIES["wide"])
    batch = batch_of([Envelope(number, START_US, body) for number in range(8)])
    started = time.process_time()
    output = partition.on_batch(batch)
    assert time.process_time() - started < 1.0
    assert output.rejected["reason"].to_pylist() == [reason] * 8
    assert max(map(len, output.rejected["body"].to_pylist())) <= 4096
    assert output.rejected["body_bytes"].to_pylist() == [len(body)] * 8


NUMBERS = ["1e999", "-1e999", "1e-999", "1e2147483648", "1e-2147483649", "1e99999999999999999999", "-0.0", "1E+2"]
NUMBERS += ["0e99999999999999999999", "4.9e-324", "2.4e-324", "9007199254740993", "123456789012345678901234567890"]
NUMBERS += ["1.7976931348623158e308", "179769313486231580793728971405301e276"]
NUMBERS += ["9" * 400, "0." + "0" * 400 + "1", "1" + "0" * 309]


@pytest.mark.parametrize("number", NUMBERS)
def test_i9_numbers_of_any_size_are_read_or_refused(number):
    objects = [f'{{"dev":"new","m":"any","t":{START_US // SECOND},"v":{number}}}']
    objects += [f'{{"dev":"pot-1","m":"alumina_feed","t":{START_US // SECOND},"v":{number}}}']
    if "9999999999999999" not in number:
        objects += [f'{{"dev":"new","m":"any","t":{number},"v":1}}']
    check("accepting", [f"[{','.join(objects)}]".encode()])


@pytest.mark.parametrize("time", ["1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2099-12-31T23:59:59Z"])
def test_i9_clocks_that_are_far_off_are_rejected(time):
    body = json.dumps({"deviceId": "pot-1", "metric": "volts", "value": 4, "ts": time}).encode()
    assert check("narrow", [body]) in (["past_event_time"], ["future_event_time"])


FAR_OFF_US = [-(2**62), -62_135_596_800_000_000, -1, 0, 4_102_444_800_000_000, 2**62, 2**63 - 1]


@pytest.mark.parametrize("enqueued", FAR_OFF_US)
def test_i9_a_broker_whose_clock_is_far_off_harms_nothing(enqueued):
    partition = Partition(PARTITION, DICTIONARIES["narrow"])
    body = json.dumps({"deviceId": "pot-1", "metric": "volts", "value": 4, "ts": "2026-01-15T12:00:00Z"}).encode()
    log = [Envelope(1, START_US, body), Envelope(2, enqueued, body), Envelope(3, START_US, body)]
    run = feed(partition, log)
    assert run.table("readings").num_rows + run.table("rejected").num_rows == 3
    partition.flush(9, 1)
    assert Partition(PARTITION, DICTIONARIES["narrow"], partition.snapshot()).last_sequence == 9


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ('"value":1,"value":1', "repeated_key"),
        ('"value":1,"val\\u0075e":1', "repeated_key"),
        ('"value":1,"\\u0064eviceId":null', "repeated_key"),
        ('"value":1,"dev":"pot-1","dev":"pot-2"', "repeated_key"),
        ('"value":1,"q":192,"q":192', "repeated_key"),
        ('"value":null,"value":null', "missing_value"),
        ('"value":1,"ts":"yesterday"', "bad_time"),
        ('"value":1,"value":[]', "wrong_type"),
        ('"value":1,"other":1,"other":2', None),
    ],
)
def test_i9_repeated_keys_are_found_however_they_are_spelt(members, reason):
    body = f'{{"deviceId":"pot-1","ts":"2026-01-15T12:00:00Z","metric":"volts",{members}}}'
    run = feed(Partition(PARTITION, DICTIONARIES["narrow"]), [Envelope(0, START_US, body.encode())])
    assert [row["reason"] for row in run.rows("rejected")] == ([reason] if reason else [])


MILLION = """
import json, resource, sys
from alumicatalyst._core import Dictionary, Partition
from tests.compare import batch_of
from tests.logs import START_US, Envelope
from tests.test_bad_input import ROOMY
partition = Partition("test/1/0", Dictionary.from_json(json.dumps(ROOMY[sys.argv[1]])))
device, time, metric, value = sys.argv[2:6]
reasons, grown = {}, []
def envelope(number):
    names = range(number * 5000, number * 5000 + 5000)
    row = '{"%s":"invented-%d","%s":%s,"%s":"cell_voltage","%s":1}'
    rows = ",".join(row % (device, n, time, sys.argv[6], metric, value) for n in names)
    return Envelope(number, START_US, ("[" + rows + "]").encode())
for batch in range(20):
    output = partition.on_batch(batch_of([envelope(batch * 10 + n) for n in range(10)]))
    for reason, count in zip(*map(lambda c: c.to_pylist(), output.rejected["reason"].value_counts().flatten())):
        reasons[reason] = reasons.get(reason, 0) + count
    accepted = output.readings.num_rows
    reasons["accepted"] = reasons.get("accepted", 0) + accepted
    del output
    grown.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(json.dumps({"reasons": reasons, "grown_kib": grown[-1] - grown[3], "state": len(partition.snapshot())}))
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("plant", "fields", "reasons"),
    [
        (
            "narrow",
            ["deviceId", "ts", "metric", "value", '"2026-01-15T12:00:00Z"'],
            {"unknown_device": 1_000_000, "accepted": 0},
        ),
        ("accepting", ["dev", "t", "m", "v", str(START_US // SECOND)], {"too_many_series": 999_900, "accepted": 100}),
    ],
)
def test_i9_a_million_invented_devices_are_counted_and_cost_no_memory(plant, fields, reasons):
    child = subprocess.run(
        [sys.executable, "-c", MILLION, plant, *fields],
        cwd=Path(__file__).parents[1],
        check=True,
        capture_output=True,
        timeout=240,
    )
    found = json.loads(child.stdout)
    assert found["reasons"] == reasons
    assert found["grown_kib"] < 16 * 1024
    assert found["state"] < 100_000


def columns(count: int = 3) -> dict[str, pa.Array]:
    batch = batch_of(seeded_log(2, "narrow", 12)[:count])
    return dict(zip(batch.schema.names, batch.columns, strict=True))


def wrong(**changed: Any) -> pa.RecordBatch:
    made = {name: changed.get(name, column) for name, column in columns().items()}
    return pa.record_batch({name: column for name, column in made.items() if column is not None})


WRONG = {
    "no body": wrong(body=None),
    "no sequence numbers": wrong(sequence_number=None),
    "no times": wrong(enqueued_time=None),
    "bodies are text": wrong(body=pa.array(["a", "b", "c"])),
    "bodies are small binary": wrong(body=pa.array([b"a", b"b", b"c"], pa.binary())),
    "a body is null": wrong(body=pa.array([b"a", None, b"c"], pa.large_binary())),
    "numbers are small": wrong(sequence_number=pa.array([1, 2, 3], pa.int32())),
    "numbers are unsigned": wrong(sequence_number=pa.array([1, 2, 3], pa.uint64())),
    "a number is null": wrong(sequence_number=pa.array([1, None, 3], pa.int64())),
    "a number is negative": wrong(sequence_number=pa.array([-5, 2, 3], pa.int64())),
    "times are integers": wrong(enqueued_time=pa.array([1, 2, 3], pa.int64())),
    "times are in milliseconds": wrong(enqueued_time=pa.array([1, 2, 3], pa.timestamp("ms", "UTC"))),
    "a time is null": wrong(enqueued_time=pa.array([1, None, 3], pa.timestamp("us", "UTC"))),
    "properties are text": wrong(properties=pa.array(["a", "b", "c"])),
    "properties are of another kind": wrong(properties=pa.array([[("a", 1)]] * 3, pa.map_(pa.string(), pa.int64()))),
    "no columns": pa.record_batch({}),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_i9_a_batch_of_another_schema_is_a_clear_error_and_harms_nothing(case):
    partition = Partition(PARTITION, DICTIONARIES["narrow"])
    feed(partition, seeded_log(2, "narrow", 30))
    before = partition.snapshot()
    with pytest.raises(ValueError, match="couldn't read a batch of envelopes"):
        partition.on_batch(WRONG[case])
    assert partition.snapshot() == before


@pytest.mark.parametrize("thing", [None, 5, b"bytes", [], {"body": [b""]}, "text", pa.array([1])])
def test_i9_what_is_no_batch_is_a_clear_error(thing):
    with pytest.raises((ValueError, TypeError)):
        Partition(PARTITION, DICTIONARIES["narrow"]).on_batch(thing)


@pytest.mark.parametrize("name", ["offset", "properties"])
def test_columns_that_not_every_source_has_may_be_absent_or_null(name):
    made = columns()
    for changed in ({}, {name: pa.nulls(3, made[name].type)}):
        batch = pa.record_batch(
            {key: column for key, column in (made | {name: None} | changed).items() if column is not None}
        )
        assert Partition(PARTITION, DICTIONARIES["narrow"]).on_batch(batch).counts.num_rows == 3


def test_slices_of_a_batch_are_read_where_they_stand():
    log = seeded_log(5, "narrow", 60)
    whole = batch_of(log)
    partition, expected = (
        Partition(PARTITION, DICTIONARIES["narrow"]),
        feed(Partition(PARTITION, DICTIONARIES["narrow"]), log),
    )
    run = type(expected)()
    for start in range(0, 60, 7):
        run.add(partition.on_batch(whole.slice(start, 7)))
    assert run.fingerprints() == expected.fingerprints()


def test_the_order_of_columns_and_further_ones_do_not_matter():
    log = seeded_log(6, "narrow", 30)
    batch = batch_of(log)
    shuffled = list(zip(batch.schema.names, batch.columns, strict=True))
    random.Random(1).shuffle(shuffled)
    other = pa.record_batch({"extra": pa.array(range(batch.num_rows)), **dict(shuffled)})
    one, two = (Partition(PARTITION, DICTIONARIES["narrow"]) for _ in range(2))
    assert one.on_batch(batch).readings.equals(two.on_batch(other).readings)
    assert schema("envelopes").names == ["body", "sequence_number", "offset", "enqueued_time", "properties"]

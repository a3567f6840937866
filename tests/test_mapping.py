"""What a dictionary says of a body, end to end: where a reading's parts stand, and what becomes of its value."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst._core import Dictionary, Partition
from tests.compare import Run, assert_as_oracle, consult, feed
from tests.logs import START_US, Envelope
from tests.oracle import Oracle

TEXT = "2026-01-15T12:00:00Z"
PLANT = """
name = "mapped"
version = "1"
site = "example/test"
[payload]
{payload}
rename = {{volts="cell_voltage", "state of the furnace"="status"}}
ignore = ["seq", "firmware"]
unknown = "reject"
[time]
out_of_orderness = "5s"
idle = "30s"
duplicates = 0
[default]
windows = ["10s"]
detector = "none"
[machine.pot]
device = ["pot-1", "pot-2"]
cell_voltage = {{unit="V", sent_in="mV", range=[0, 100]}}
temperature = {{unit="°C", sent_in="°F"}}
status = {{states={{off=0, melting=1, fault=9}}}}
"""
NARROW = (
    'device = ["deviceId"]\ntime = {field="ts", format="rfc3339"}\nmetric = "metric"\nvalue = "value"\nquality = "q"'
)
WIDE = 'device = ["deviceId"]\ntime = {field="ts", format="rfc3339"}\nquality = "q"'


@cache
def compiled(payload: str) -> Dictionary:
    return Dictionary.from_toml(PLANT.format(payload=payload))


def read(payload: str, *bodies: Any, properties: dict[str, str | None] | None = None) -> Run:
    """Hand bodies, objects or bytes, to the core; its rows must be the oracle's."""
    texts = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
    log = [Envelope(number, START_US, text, properties or {}) for number, text in enumerate(texts)]
    dictionary = compiled(payload)
    run = feed(Partition("test/1/0", dictionary), log)
    assert_as_oracle(run, consult(Oracle("test/1/0", json.loads(dictionary.to_json())), log))
    return run


def rows(run: Run, *columns: str, table: str = "readings") -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in run.rows(table)]


def narrow(metric: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"deviceId": "pot-1", "ts": TEXT, "metric": metric, "value": value} | more


def test_objects_arrays_and_lines_give_the_same_readings():
    one, two = narrow("status", 1), narrow("volts", 4200)
    lines = b"\n".join(json.dumps(each).encode() for each in (one, two, [one, two]))
    run = read(NARROW, one, [one, two], lines, two)
    status, volts = ("status", 1.0), ("cell_voltage", 4.2)
    found = [(s, i, (m, v)) for s, i, m, v in rows(run, "sequence_number", "item", "metric", "value")]
    assert found == [
        (0, 0, status),
        (1, 0, status),
        (1, 1, volts),
        (2, 0, status),
        (2, 1, volts),
        (2, 2, status),
        (2, 3, volts),
        (3, 0, volts),
    ]


def test_a_wide_object_is_read_alike_alone_in_an_array_and_on_a_line():
    row = {"ts": TEXT, "volts": 4200, "seq": 5, "temperature": 212, "deviceId": "pot-2", "status": None, "firmware": {}}
    text = json.dumps(row).encode()
    run = read(WIDE, row, [row, row], text + b"\n" + text + b"\r\n")
    metrics = [("cell_voltage", 4.2), ("temperature", 100.0)]
    assert rows(run, "metric", "value") == metrics * 5
    assert rows(run, "item") == [(0,), (1,), *[(n,) for n in range(4)] * 2]
    assert set(rows(run, "device", "event_time", "quality")) == {("pot-2", START_US, 192)}
    assert run.rows("rejected") == []


def test_values_are_stored_in_the_metrics_own_unit_and_judged_in_it():
    run = read(NARROW, [narrow("cell_voltage", v) for v in (0, 4200, 1e5, 100_001, -1, "4200")])
    assert rows(run, "value") == [(0.0,), (4.2,), (100.0,)]
    assert rows(run, "reason", table="rejected") == [("out_of_range",), ("out_of_range",), ("wrong_type",)]
    run = read(NARROW, [narrow("temperature", v) for v in (32, 212, -40)])
    assert rows(run, "value") == [(0.0,), (100.0,), (-40.0,)]


@pytest.mark.parametrize("metric", ["status", "state of the furnace"])
def test_a_status_is_sent_by_name_or_by_code(metric):
    sent = ["off", 0, "melting", 1, 1.0, -0.0, "fault", 9, "0", 2, 1.5, "Melting", "", True, None]
    run = read(NARROW, [narrow(metric, value) for value in sent])
    assert rows(run, "item", "value") == [(i, v) for i, v in enumerate([0, 0, 1, 1, 1, 0, 9, 9])]
    reasons = ["unknown_status"] * 5 + ["wrong_type", "missing_value"]
    assert rows(run, "reason", table="rejected") == [(reason,) for reason in reasons]
    wide = read(WIDE, [{"deviceId": "pot-1", "ts": TEXT, metric: value} for value in sent])
    assert rows(wide, "value") == rows(run, "value")


def test_what_is_renamed_goes_by_either_name_and_what_is_ignored_is_no_metric():
    run = read(NARROW, narrow("volts", 1, seq=[1], volts=2), narrow("cell_voltage", 1), narrow("seq", 1))
    assert rows(run, "metric") == [("cell_voltage",)] * 2
    assert rows(run, "metric", "reason", table="rejected") == [("seq", "unknown_metric")]
    both = {"deviceId": "pot-1", "ts": TEXT, "volts": 1, "cell_voltage": 2}
    other = {"deviceId": "pot-1", "ts": TEXT, "volts": 1, "seq": "x", "speed": 2}
    run = read(WIDE, both, other)
    assert rows(run, "metric") == [("cell_voltage",)]
    assert rows(run, "metric", "reason", table="rejected") == [(None, "repeated_key"), ("speed", "unknown_metric")]


def test_a_quality_is_kept_if_it_is_not_bad():
    sent = [64, 192, 32767, 64.0, None, 63, 0, -1, 32768, 192.5, "good"]
    run = read(NARROW, [narrow("volts", 1, q=q) for q in sent])
    assert rows(run, "quality") == [(64,), (192,), (32767,), (64,), (192,)]
    assert rows(run, "reason", table="rejected") == [("bad_quality",)] * 5 + [("wrong_type",)]
    assert rows(read(NARROW, narrow("volts", 1)), "quality") == [(192,)]


FORMATS = {
    "rfc3339": ["2026-01-15T12:00:00Z", "2026-01-15 13:00:00.000000+01:00"],
    "epoch_s": ["1768478400", "1768478400.0", "17684784e2"],
    "epoch_ms": ["1768478400000", "1768478400000.000999"],
    "epoch_us": ["1768478400000000", "1.7684784e15"],
}
BODIES = {
    "object": (b'{"metric":"volts","value":1}', 1),
    "array": (b'[{"metric":"volts","value":1},{"metric":"status","value":1}]', 2),
    "lines": (b'{"metric":"volts","value":1}\nno\n[{"metric":"status","value":1}]\n', 2),
}


def by_properties(time_format: str, device: str = '"@gateway"', time: str = '"@sent"') -> str:
    time = f'{{field=[{time}], format="{time_format}"}}'
    return f'device = [{device}]\ntime = {time}\nmetric = "metric"\nvalue = "value"'


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("time_format", "text"), [(f, text) for f, texts in FORMATS.items() for text in texts])
def test_device_and_time_come_from_the_envelopes_properties(body, time_format, text):
    sent, readings = BODIES[body]
    run = read(by_properties(time_format), sent, properties={"sent": text, "gateway": "pot-2", "other": "x"})
    assert rows(run, "device", "event_time") == [("pot-2", START_US)] * readings
    assert rows(run, "reason", table="rejected") == ([("bad_json",)] if body == "lines" else [])


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"sent": "1768478400"}, "missing_device"),
        ({"sent": "1768478400", "gateway": ""}, "missing_device"),
        ({"sent": "1768478400", "gateway": "pot-9"}, "unknown_device"),
        ({"gateway": "pot-1"}, "missing_time"),
        ({"gateway": "pot-1", "sent": ""}, "bad_time"),
        ({"gateway": "pot-1", "sent": TEXT}, "bad_time"),
        ({"gateway": "pot-1", "sent": "NaN"}, "bad_time"),
        ({"gateway": "pot-1", "sent": " 1768478400"}, "bad_time"),
        ({"gateway": "pot-1", "sent": "1768478400\n"}, "bad_time"),
        ({"gateway": "pot-1", "sent": "\u0661"}, "bad_time"),
    ],
)
def test_what_the_properties_lack_or_spoil_rejects_every_reading(body, properties, reason):
    sent, readings = BODIES[body]
    run = read(by_properties("epoch_s"), sent, properties=properties)
    found = [each for (each,) in rows(run, "reason", table="rejected") if each != "bad_json"]
    assert (found, run.rows("readings")) == ([reason] * readings, [])


def test_members_and_properties_are_candidates_in_the_order_of_the_list():
    member_first = by_properties("rfc3339", '"deviceId", "@gateway"', '"ts", "@sent"')
    property_first = by_properties("rfc3339", '"@gateway", "deviceId"', '"@sent", "ts"')
    both: dict[str, str | None] = {"gateway": "pot-2", "sent": "2026-01-15T12:00:01Z"}
    bare = {"metric": "volts", "value": 1}
    whole = narrow("volts", 1)
    by_member, by_property = ("pot-1", START_US), ("pot-2", START_US + 1_000_000)
    nulls = narrow("volts", 1, deviceId=None, ts=None)
    assert rows(read(member_first, [whole, bare, nulls], properties=both), "device", "event_time") == [
        by_member,
        by_property,
        by_property,
    ]
    assert rows(read(property_first, [whole, bare], properties=both), "device", "event_time") == [by_property] * 2
    assert rows(read(property_first, whole, properties={"gateway": None}), "device", "event_time") == [by_member]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(FORMATS)),
    st.text(max_size=30) | st.from_regex(r"[+-]?[0-9]{0,20}(\.[0-9]{0,9})?([eE][+-]?[0-9]{0,3})?", fullmatch=True),
    st.none() | st.text(max_size=4) | st.sampled_from(["pot-1", "pot-2"]),
)
def test_i9_properties_of_any_content_are_read_as_the_oracle_reads_them(time_format, sent, gateway):
    read(
        by_properties(time_format),
        *(body for body, _ in BODIES.values()),
        properties={"sent": sent, "gateway": gateway},
    )

"""What is posted as a table is one, or is refused: no bytes end in anything but rows or a problem of status 422."""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst import _core
from api.problems import Problem
from api.security.limits import Limits
from api.table import Span, read_table
from tests.api.serving import PARTITION, alarm_id, newest, stream_of, table, transition, window

SPAN = Span(PARTITION, 0, 100)
LIMITS = Limits()
ROWS = {
    "alarms": [transition(n, n + 1) for n in range(5)],
    "windows": [window(n, n + 1) for n in range(5)],
    "latest": [newest(n, n + 1) for n in range(5)],
}


def refused(body: bytes, kind: Any = "alarms", limits: Limits = LIMITS, slug: str = "bad-table") -> str:
    with pytest.raises(Problem) as caught:
        read_table(body, kind, SPAN, limits)
    assert (caught.value.slug, caught.value.status_code) == (slug, {"bad-table": 422, "too-large": 413}[slug])
    return str(caught.value.detail)


def too_large(body: bytes, limits: Limits) -> str:
    return refused(body, limits=limits, slug="too-large")


def rows_or_problem(body: bytes | bytearray, kind: Any) -> list[dict[str, Any]] | None:
    """Return the rows, or None where the body was refused as it should be; any other error goes on."""
    try:
        return list(read_table(body, kind, SPAN, LIMITS).to_pylist())
    except Problem as problem:
        if problem.slug not in {"bad-table", "too-large"}:
            raise
        return None


def changed(kind: str = "alarms", **columns: Any) -> bytes:
    """Return the table with the same value in all rows of some columns."""
    return stream_of(table(kind, [{**row, **columns} for row in ROWS[kind]]))


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("plain", [True, False])
def test_a_table_arrives_as_it_was_sent(kind: Any, plain: bool) -> None:
    given = table(kind, ROWS[kind], plain=plain)
    got = read_table(stream_of(given), kind, SPAN, LIMITS)
    assert got.to_pylist() == given.to_pylist()
    assert not any(pa.types.is_dictionary(field.type) for field in got.schema)


def test_batches_with_dictionaries_of_their_own_arrive_whole() -> None:
    given = table("alarms", ROWS["alarms"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, given.schema) as writer:
        for at in range(5):
            rows = table("alarms", [ROWS["alarms"][at]])
            writer.write_batch(rows.combine_chunks().to_batches()[0])
    assert read_table(bytes(sink.getvalue()), "alarms", SPAN, LIMITS).to_pylist() == given.to_pylist()


@pytest.mark.parametrize("kind", ROWS)
def test_an_empty_table_is_a_table(kind: Any) -> None:
    given = table(kind, [])
    assert read_table(stream_of(given), kind, SPAN, LIMITS).num_rows == 0
    # A stream that ends after its schema has no batch at all.
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, given.schema):
        pass
    assert read_table(bytes(sink.getvalue()), kind, SPAN, LIMITS).num_rows == 0


def test_the_lakes_column_date_may_come_along_in_any_order_and_goes() -> None:
    lake = _core.schema("alarms")
    rows = [{**row, "date": 20_000} for row in ROWS["alarms"]]
    given = pa.Table.from_pylist(rows, schema=lake).select(sorted(lake.names))
    got = read_table(stream_of(given), "alarms", SPAN, LIMITS)
    assert got.schema.names == [name for name in lake.names if name != "date"]
    assert got.num_rows == 5


def test_small_indices_and_large_texts_are_strings_too() -> None:
    given = table("alarms", ROWS["alarms"], plain=True)
    for kind in (
        pa.large_string(),
        pa.dictionary(pa.int8(), pa.large_string()),
        pa.dictionary(pa.int64(), pa.string()),
    ):
        at = given.schema.get_field_index("device")
        other = given.set_column(at, given.schema.field("device").with_type(kind), given.column("device").cast(kind))
        assert read_table(stream_of(other), "alarms", SPAN, LIMITS).to_pylist() == given.to_pylist()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"partition": "another"}, f"send {PARTITION} alone"),
        ({"sequence_number": 0}, "sequence_number is 0 in some row; send 1 to 100"),
        ({"sequence_number": 101}, "sequence_number is 101"),
        ({"item": -2}, "item is -2"),
        ({"step": -1}, "step is -1"),
        ({"value": float("nan")}, "value is not finite"),
        ({"peak": float("inf")}, "peak is not finite"),
        ({"score": float("-inf")}, "score is not finite"),
        ({"transition": "acknowledged"}, "send cleared, raised, updated"),
        ({"priority": "urgent"}, "send critical, high, low, medium"),
        ({"alarm_id": alarm_id(1).upper()}, "lower-case hexadecimal"),
        ({"alarm_id": alarm_id(1) + "\n"}, "lower-case hexadecimal"),
        ({"message": "a" * 70_000}, "a text of 70000 bytes"),
        ({"device": "a" * 70_000}, "a text of 70000 bytes"),
        ({"event_time": 2**62}, "event_time is 4611686018427387904"),
        ({"enqueued_time": -(2**62)}, "enqueued_time is -4611686018427387904"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_column(columns: dict[str, Any], said: str) -> None:
    assert said in refused(changed(**columns))


def test_a_window_states_how_it_closed_and_what_it_counted() -> None:
    assert "send flush, idle, watermark" in refused(changed("windows", closed_by="noon"), "windows")
    assert "count is 0" in refused(changed("windows", count=0), "windows")
    assert "mean is not finite" in refused(changed("windows", mean=float("nan")), "windows")


def test_a_null_is_refused_where_the_schema_has_none() -> None:
    given = table("alarms", ROWS["alarms"])
    nulls = pa.nulls(5, pa.float64())
    at = given.schema.get_field_index("value")
    other = given.set_column(at, pa.field("value", pa.float64(), nullable=True), nulls)
    assert "value is null in 5 rows" in refused(stream_of(other))
    # A dictionary can hide them: the indices are all valid and point to a null.
    hidden = pa.DictionaryArray.from_arrays(pa.array([0] * 5, pa.int32()), pa.array([None], pa.string()))
    at = given.schema.get_field_index("device")
    other = given.set_column(at, pa.field("device", hidden.type, nullable=True), hidden)
    assert "device is null in 5 rows" in refused(stream_of(other))


def test_columns_and_types_are_those_of_the_core() -> None:
    given = table("alarms", ROWS["alarms"])
    assert "peak missing" in refused(stream_of(given.drop_columns(["peak"])))
    assert "extra unknown" in refused(stream_of(given.append_column("extra", pa.array(range(5)))))
    assert "a column comes twice" in refused(stream_of(given.append_column("value", given.column("value"))))
    at = given.schema.get_field_index("value")
    assert "value has the type float" in refused(
        stream_of(given.set_column(at, "value", given.column("value").cast(pa.float32())))
    )
    assert "value has the type dictionary" in refused(
        stream_of(given.set_column(at, "value", given.column("value").combine_chunks().dictionary_encode()))
    )
    assert "missing" in refused(stream_of(given), "windows")


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_compressed_table_is_refused_before_it_is_decompressed(compression: str) -> None:
    given = table("alarms", [transition(n, 1) for n in range(1_000)], plain=True)
    assert "it is compressed" in refused(stream_of(given, compression))
    # Only the dictionaries are compressed here: those of the batch would be too, but it has no rows.
    only = table("alarms", [transition(1, 1)])
    assert "it is compressed" in refused(stream_of(only, compression))


def test_more_rows_or_batches_than_the_bound_are_refused_before_they_are_read() -> None:
    body = stream_of(table("alarms", ROWS["alarms"]))
    assert "more than 4 rows" in too_large(body, Limits(table_rows_max=4))
    assert "more than 3 messages" in too_large(body, Limits(table_batches_max=3))
    rows = table("alarms", [transition(1, 1)], plain=True)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        for _ in range(5):
            writer.write_table(rows)
    assert "more than 4 rows" in too_large(bytes(sink.getvalue()), Limits(table_rows_max=4))


def test_a_dictionary_does_not_smuggle_in_more_text_than_the_bound() -> None:
    rows = [transition(1, 1, device="d" * 4_000) for _ in range(5_000)]
    body = stream_of(table("alarms", rows))
    assert len(body) < 2_000_000
    assert "bytes of text" in too_large(body, Limits(table_text_bytes_max=10_000_000))


def test_a_batch_that_lies_about_its_length_is_refused() -> None:
    body = bytearray(stream_of(table("latest", ROWS["latest"], plain=True)))
    needle = struct.pack("<q", 5)
    places = [at for at in range(len(body) - 8) if body[at : at + 8] == needle]
    assert places
    for at in places:
        for lie in (2**62, -1, 6, 2**31):
            copy = bytearray(body)
            copy[at : at + 8] = struct.pack("<q", lie)
            assert len(rows_or_problem(copy, "latest") or []) <= LIMITS.table_rows_max


@settings(max_examples=300)
@given(st.binary(max_size=2_000))
def test_i9_random_bytes_are_a_problem(body: bytes) -> None:
    refused(body)


GOOD = {kind: [stream_of(table(kind, rows, plain=plain)) for plain in (True, False)] for kind, rows in ROWS.items()}


@settings(max_examples=1_000)
@given(data=st.data())
def test_i9_mutated_tables_are_rows_or_a_problem(data: st.DataObject) -> None:
    kind: Any = data.draw(st.sampled_from(sorted(GOOD)))
    body = bytearray(data.draw(st.sampled_from(GOOD[kind])))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(body) - 1))
        match data.draw(st.sampled_from(["set", "flip", "word", "cut", "insert"])):
            case "set":
                body[at] = data.draw(st.integers(0, 255))
            case "flip":
                body[at] ^= 1 << data.draw(st.integers(0, 7))
            case "word":
                word = data.draw(st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]))
                body[at : at + 8] = word.to_bytes(8, "little")
            case "cut":
                del body[at : at + data.draw(st.integers(1, 64))]
            case _:
                body[at:at] = data.draw(st.binary(min_size=1, max_size=16))
        if not body:
            break
    for row in rows_or_problem(body, kind) or []:
        assert row["partition"] == PARTITION
        assert 0 < row["sequence_number"] <= 100
        # Any time that there is may have come of it.
        assert row["enqueued_time"].tzinfo is not None

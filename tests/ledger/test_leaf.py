"""Leaves in plain Python: the known answer, the way there and back, and nothing else that reads as one."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alumicatalyst import _core
from alumicatalyst.errors import LedgerError
from alumicatalyst.lake import tables
from alumicatalyst.ledger import leaf, merkle, rows

KNOWN_SCHEMA = "dtl1/schema\nts ts_us\ntag str\nvalue f64\nquality code\n"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

INT64 = st.integers(-(2**63), 2**63 - 1)
TIMES = st.integers(-(10**16), 10**16).map(lambda us: EPOCH + timedelta(microseconds=us))
FLOATS = st.floats(allow_nan=False)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "ts_us": TIMES,
    "i64": INT64,
    "f64": FLOATS,
    "bool": st.booleans(),
    "code": st.integers(0, 2) | INT64,
    "str": st.sampled_from(["", "a", "pot-001"]) | st.text(max_size=5),
    "bytes": st.binary(max_size=5),
    "f64r": st.sampled_from([0.0, -0.0, 1.5]) | FLOATS,
    "i64d": st.integers(0, 300) | INT64,
    "tsd": TIMES,
}
SCHEMA = "dtl1/schema\n" + "".join(f"c_{kind} {kind}\n" for kind in VALUES)
ROWS = st.lists(
    st.fixed_dictionaries({f"c_{kind}": values | st.none() for kind, values in VALUES.items()}), min_size=1, max_size=64
)
BATCH = bytes(range(16))


def known_rows() -> list[dict[str, Any]]:
    return [
        {"ts": 1763724000000000, "tag": "a/b", "value": 1.5, "quality": 192},
        {"ts": EPOCH + timedelta(microseconds=1763724000600000), "tag": "a/b", "value": None, "quality": 0},
    ]


def test_the_known_answer_is_met() -> None:
    made = leaf.encode(KNOWN_SCHEMA, known_rows(), uuid.UUID(int=1).bytes, 0)
    assert merkle.leaf_hash(made).hex() == "7a57c8c5c8d45867acf8dd0aef56ffc1f15b3965ae279cecaaf835df15ba966c"
    found = leaf.decode(KNOWN_SCHEMA, made)
    assert found.rows[1]["value"] is None
    assert found.rows[0]["ts"] == datetime(2025, 11, 21, 11, 20, tzinfo=UTC)


@given(ROWS, st.integers(0, 1_000))
def test_a_leaf_reads_back_as_its_rows(rows: list[dict[str, Any]], number: int) -> None:
    found = leaf.decode(SCHEMA, leaf.encode(SCHEMA, rows, BATCH, 64 * number))
    assert (found.batch, found.first, found.rows) == (BATCH, 64 * number, rows)


@given(ROWS, st.data())
def test_a_changed_byte_makes_another_leaf_or_none(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    made = bytearray(leaf.encode(SCHEMA, rows, BATCH, 0))
    before = bytes(made)
    at = data.draw(st.integers(0, len(made) - 1))
    made[at] = data.draw(st.integers(0, 255))
    try:
        found = leaf.decode(SCHEMA, bytes(made))
    except LedgerError:
        return
    assert leaf.encode(SCHEMA, found.rows, found.batch, found.first) == made
    assert (found == leaf.decode(SCHEMA, before)) == (made == before)


@given(st.binary(max_size=200))
def test_i9_arbitrary_bytes_are_no_leaf(data: bytes) -> None:
    head = leaf.encode(SCHEMA, [dict.fromkeys((f"c_{kind}" for kind in VALUES), None)] * 64, BATCH, 0)[:68]
    for each in (data, head + data):
        try:
            found = leaf.decode(SCHEMA, each)
        except LedgerError:
            continue
        assert leaf.encode(SCHEMA, found.rows, found.batch, found.first) == each


def test_a_negative_zero_is_a_zero_and_no_number_is_refused() -> None:
    schema = "dtl1/schema\nv f64\n"
    assert leaf.encode(schema, [{"v": -0.0}], BATCH, 0) == leaf.encode(schema, [{"v": 0.0}], BATCH, 0)
    with pytest.raises(LedgerError, match="v does not fit f64"):
        leaf.encode(schema, [{"v": float("nan")}], BATCH, 0)


@pytest.mark.parametrize(
    "schema",
    [
        "",
        "dtl1/schema\n",
        "dtl1/schema\nv f64",
        "dtl1/schema\nv f64\nv f64\n",
        "dtl1/schema\nv f32\n",
        "dtl2\nv f64\n",
        "dtl1/schema\nv  f64\n",
        "dtl1/schema\n\n",
        "dtl1/schema\n" + "".join(f"v{n} f64\n" for n in range(2_000)),
    ],
)
def test_i9_a_text_that_is_no_schema_is_refused(schema: str) -> None:
    with pytest.raises(LedgerError, match="couldn't read a schema"):
        leaf.fields(schema)


@pytest.mark.parametrize(("rows", "batch", "first"), [(0, BATCH, 0), (65, BATCH, 0), (1, BATCH, 1), (1, b"x", 0)])
def test_a_leaf_out_of_bounds_is_refused(rows: int, batch: bytes, first: int) -> None:
    with pytest.raises(LedgerError, match="make none"):
        leaf.encode("dtl1/schema\nv f64\n", [{"v": 1.0}] * rows, batch, first)


def column(field: pa.Field) -> st.SearchStrategy[Any]:
    """Values of a column, few distinct ones and extreme ones."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_integer(kind):
        edge = 2 ** (kind.bit_width - 1)
        values: st.SearchStrategy[Any] = st.integers(0, 3) | st.integers(-edge, edge - 1)
    elif pa.types.is_timestamp(kind):
        values = TIMES
    elif pa.types.is_float64(kind):
        values = st.sampled_from([0.0, -0.0, 1.5]) | st.floats(allow_nan=False)
    elif pa.types.is_float32(kind):
        values = st.sampled_from([0.0, -0.0, 1.5]) | st.floats(allow_nan=False, width=32)
    elif pa.types.is_boolean(kind):
        values = st.booleans()
    elif pa.types.is_binary(kind):
        values = st.binary(max_size=4)
    else:
        text = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
        values = st.sampled_from(["", "a", "pot-001"]) | text
    return values | st.none() if field.nullable else values


@cache
def some_rows(table: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    row = st.fixed_dictionaries({field.name: column(field) for field in tables.columns(table)})
    return st.lists(row, min_size=1, max_size=4)


@pytest.mark.parametrize("table", tables.SPECS)
@given(data=st.data())
def test_the_core_and_plain_python_agree_on_any_rows(table: str, data: st.DataObject) -> None:
    schema = tables.columns(table)
    some = data.draw(some_rows(table))
    # Up to three leaves, of rows that repeat.
    order = random.Random(data.draw(st.integers(0, 1_000)))
    drawn = [order.choice(some) for _ in range(data.draw(st.integers(1, 140)))]
    batch = pa.RecordBatch.from_pylist(drawn, schema=schema)
    leaves = [leaf.encode(_core.leaf_schema(table), drawn[at : at + 64], BATCH, at) for at in range(0, len(drawn), 64)]
    hashes = [merkle.leaf_hash(each) for each in leaves]
    assert [_core.row_leaf(table, batch.slice(at, 64), BATCH, at) for at in range(0, len(drawn), 64)] == leaves
    assert _core.leaf_hashes(table, batch, BATCH) == b"".join(hashes)
    assert _core.rows_root(table, batch, BATCH) == merkle.root(hashes)
    plain = pa.Table.from_batches([batch]).cast(pa.schema(list(rows.files_schema(table))[:-2]))
    assert rows.root(table, plain, BATCH) == merkle.root(hashes)

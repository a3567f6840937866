"""Tables at the door of the hot store: the core's own pass, and what breaks its schema or range is refused whole."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from alumicatalyst import _core
from api.store import AlarmFilter, BadRows, HotStore
from api.store.rows import COLUMNS, NULLABLE, checked, parts
from tests.api import plant
from tests.api.plant import P, transition

if TYPE_CHECKING:
    from api.store import Kind

KINDS: list[Kind] = ["alarms", "windows", "latest"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_columns_are_the_cores(kind: Kind) -> None:
    fields = list(_core.schema(kind))
    assert {field.name for field in fields} == set(COLUMNS[kind])
    assert {field.name for field in fields if field.nullable} == NULLABLE & set(COLUMNS[kind])
    plain = {field.name: field.type for field in fields}
    for name, stored in COLUMNS[kind].items():
        found = plain[name].value_type if pa.types.is_dictionary(plain[name]) else plain[name]
        if pa.types.is_string(stored) or pa.types.is_floating(stored):
            assert (pa.types.is_string(found), pa.types.is_floating(found)) == (
                pa.types.is_string(stored),
                pa.types.is_floating(stored),
            )
        else:
            assert pa.types.is_integer(found) or pa.types.is_timestamp(found)


def rows() -> pa.Table:
    return plant.table("alarms", [transition("a", 0, 3), transition("b", 0, 5), transition("a", 1, 8)])


def with_column(name: str, values: Any) -> pa.Table:
    table = rows()
    return table.set_column(table.column_names.index(name), name, values)


def test_plain_texts_and_the_lakes_date_are_taken_too() -> None:
    plain = pa.schema(
        [(field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type) for field in rows().schema]
    )
    table = rows().cast(plain).append_column("date", pa.array([None] * 3, pa.date32()))
    assert checked("alarms", table, P, -1, 8).equals(checked("alarms", rows(), P, -1, 8))


def test_rows_come_in_the_order_of_their_envelopes_and_are_cut_between_them() -> None:
    made = [transition(f"{place}", 0, place // 3) for place in range(10)]
    table = checked("alarms", plant.table("alarms", [*made[5:], *made[:5]]), P, -1, 9)
    found = list(parts(table, 4))
    assert [columns["sequence_number"] for _, columns in found] == [[0, 0, 0, 1, 1, 1], [2, 2, 2, 3]]
    assert [covered for covered, _ in found] == [1, None]


TIME = pa.timestamp("us", "UTC")
BROKEN: dict[str, tuple[pa.Table, str]] = {
    "a column is missing": (rows().drop_columns(["peak"]), "0 columns are named peak"),
    "a column is there twice": (rows().append_column("peak", pa.array([1.0] * 3)), "2 columns are named peak"),
    "a number is a text": (with_column("step", pa.array(["0", "x", "1"])), "column step"),
    "a time is a number": (with_column("event_time", pa.array([1, 2, 3])), "send timestamp"),
    "a time is beyond all years": (with_column("event_time", pa.array([2**60, 0, 0], TIME)), "years 1 to 9999"),
    "a null": (with_column("peak", pa.array([1.0, None, 2.0])), "1 nulls"),
    "a number that is not finite": (with_column("value", pa.array([1.0, float("nan"), 2.0])), "not finite"),
    "a transition that is none": (with_column("transition", pa.array(["raised", "x", "cleared"])), "none of raised"),
    "a priority that is none": (with_column("priority", pa.array(["low", "x", "high"])), "none of low"),
    "a step below 0": (with_column("step", pa.array([0, -1, 1], pa.int32())), "below 0"),
    "rows of another partition": (with_column("partition", pa.array([P, "x", P])), "other partitions"),
    "no table of ours": (pa.table({"x": [1]}), "0 columns"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_table_that_breaks_the_schema_is_refused(broken: str) -> None:
    table, said = BROKEN[broken]
    with pytest.raises(BadRows, match=said):
        checked("alarms", table, P, -1, 8)


def test_an_identity_comes_once() -> None:
    table = plant.table("alarms", [transition("a", 0, 3), transition("a", 0, 4)])
    with pytest.raises(BadRows, match="same alarm_id and step"):
        checked("alarms", table, P, -1, 8)


@pytest.mark.parametrize(("follows", "last"), [(3, 8), (-1, 7), (8, 8), (5, 4), (-2, 8), (-1, 2**63)])
def test_rows_outside_of_the_range_are_refused(follows: int, last: int) -> None:
    with pytest.raises(BadRows, match=r"range|outside"):
        checked("alarms", rows(), P, follows, last)


def test_indices_that_point_nowhere_are_refused() -> None:
    """Arrow reads what it is sent without a look: an index beyond its dictionary would read what is not ours."""
    broken = pa.DictionaryArray.from_arrays(pa.array([0, 1, 7], pa.int32()), pa.array(["a", "b"]), safe=False)
    with pytest.raises(BadRows, match="column device"):
        checked("alarms", with_column("device", broken), P, -1, 8)


@pytest.mark.anyio
async def test_an_alarm_of_another_partition_is_refused(hot_store: HotStore) -> None:
    await hot_store.ingest("alarms", P, -1, 8, rows(), committed=False)
    other = plant.table("alarms", [transition("a", 2, 0, partition="other")])
    with pytest.raises(BadRows, match=f"one of {P}"):
        await hot_store.ingest("alarms", "other", -1, 0, other, committed=False)
    assert [marks.partition for marks in await hot_store.marks()] == [P]


@pytest.mark.anyio
async def test_every_text_comes_back_as_it_was_but_for_what_no_database_holds(hot_store: HotStore) -> None:
    texts = ["Größe", "漢字", "a\tb\\c\n'\"%_", "\\N", "{}", "a\0b", "\U0001f525"]
    made = [transition(text, 0, place, device=text, message=text, asset=text) for place, text in enumerate(texts)]
    await hot_store.ingest("alarms", P, -1, 9, plant.table("alarms", made), committed=False)
    await hot_store.acknowledge(made[0]["alarm_id"], actor="k\0im", comment="half \ud83d", idempotency_key="\0")
    items = (await hot_store.alarms(AlarmFilter(), limit=100, cursor=None)).items
    wanted = [text.replace("\0", "\ufffd") for text in reversed(texts)]
    assert [(item["device"], item["message"], item["asset"]) for item in items] == [(text,) * 3 for text in wanted]
    assert (items[-1]["acknowledged_by"], items[-1]["comment"]) == ("k\ufffdim", "half ?")
    for text in texts:
        [item] = (await hot_store.alarms(AlarmFilter(device=text), limit=100, cursor=None)).items
        assert item["device"] == text.replace("\0", "\ufffd")


@pytest.mark.anyio
async def test_numbers_and_times_come_back_exactly(hot_store: HotStore) -> None:
    value: dict[str, Any] = {"value": 0.1 + 0.2, "peak": -1.7976931348623157e308, "threshold": 5e-324}
    row = transition("a", 0, 1, event_time=datetime.fromisoformat("0001-01-01T00:00:00.000001Z"), **value)
    row["sequence_number"] = 2**63 - 1
    await hot_store.ingest("alarms", P, -1, 2**63 - 1, plant.table("alarms", [row]), committed=False)
    [item] = (await hot_store.alarms(AlarmFilter(), limit=1, cursor=None)).items
    assert {name: item[name] for name in value} == value
    assert item["raised_time"] == "0001-01-01T00:00:00.000001Z"
    [marks] = await hot_store.marks()
    assert marks.alarms == 2**63 - 1

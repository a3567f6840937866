"""Lists of the hot store: filters as a plain loop would apply them, and pages that nothing moves."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from api.store import (
    PRIORITIES,
    STATES,
    AlarmFilter,
    BadCursor,
    HotStore,
    SeriesFilter,
    WindowFilter,
    listing,
    migrate,
)
from api.store.cursor import made
from tests.api import plant
from tests.api.plant import P, alarm_id, at, transition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from api.store import Page

pytestmark = pytest.mark.anyio

ASSETS = ["a", "a/b", "a/b/c", "a/bc", "a/b-c", "a/b0", "a/b.x", "x", None]
TEXTS = ["100% full", "a_b", "A_B and more", "back\\slash", "Größe", "plain"]


async def every(ask: Callable[[str | None], Awaitable[Page]]) -> list[dict[str, Any]]:
    """Return the items of all pages."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = await ask(cursor)
        items += page.items
        if (cursor := page.next) is None:
            return items


async def listed(store: HotStore, where: AlarmFilter, limit: int = 1_000) -> list[str]:
    items = await every(lambda cursor: store.alarms(where, limit=limit, cursor=cursor))
    return [item["alarm_id"] for item in items]


async def filled(store: HotStore, number: int, seed: int) -> list[dict[str, Any]]:
    """Post alarms in every state, several raised in the same microsecond, and return them as they are listed."""
    chosen = random.Random(seed)
    rows = []
    for place in range(number):
        made = transition(
            f"alarm {place}",
            0,
            place,
            device=chosen.choice(["pot-1", "pot-2", "pot-3"]),
            metric=chosen.choice(["current", "voltage"]),
            asset=chosen.choice(ASSETS),
            alarm_rule=chosen.choice(["H", "HH"]),
            priority=chosen.choice(PRIORITIES),
            message=chosen.choice(TEXTS),
            event_time=at(chosen.randrange(number // 3)),
        )
        rows.append(made)
        if chosen.random() < 0.5:
            cleared = {"transition": "cleared", "event_time": at(number), "step": 1}
            rows.append(made | cleared)
    await store.ingest("alarms", P, -1, number, plant.table("alarms", rows), committed=False)
    for place in range(number):
        if chosen.random() < 0.5:
            await store.acknowledge(alarm_id(f"alarm {place}"), actor="kim", comment="", idempotency_key=None)
    half = number // 2
    early = [row for row in rows if row["sequence_number"] <= half]
    await store.commit(P, -1, half, *plant.digest(early))
    found = [await store.alarm(alarm_id(f"alarm {place}")) or {} for place in range(number)]
    return sorted(sorted(found, key=lambda each: each["alarm_id"]), key=lambda each: each["raised_time"], reverse=True)


FILTERS = {
    "nothing": (AlarmFilter(), lambda a: True),
    "a state": (AlarmFilter(states=frozenset({"active_acked"})), lambda a: a["state"] == "active_acked"),
    "two states": (
        AlarmFilter(states=frozenset({"normal", "active_unacked"})),
        lambda a: a["state"] in {"normal", "active_unacked"},
    ),
    "all states": (AlarmFilter(states=frozenset(STATES)), lambda a: True),
    "a priority": (AlarmFilter(priorities=frozenset({"high"})), lambda a: a["priority"] == "high"),
    "states and priorities": (
        AlarmFilter(states=frozenset({"normal"}), priorities=frozenset({"low", "critical"})),
        lambda a: a["state"] == "normal" and a["priority"] in {"low", "critical"},
    ),
    "a device": (AlarmFilter(device="pot-2"), lambda a: a["device"] == "pot-2"),
    "a device and a state": (
        AlarmFilter(device="pot-2", states=frozenset({"normal"}), priorities=frozenset({"low"})),
        lambda a: a["device"] == "pot-2" and a["state"] == "normal" and a["priority"] == "low",
    ),
    "a metric and a rule": (
        AlarmFilter(metric="current", rule="HH"),
        lambda a: a["metric"] == "current" and a["alarm_rule"] == "HH",
    ),
    "an asset and below": (AlarmFilter(asset="a/b"), lambda a: a["asset"] in {"a/b", "a/b/c"}),
    "a whole area": (AlarmFilter(asset="a"), lambda a: a["asset"] not in {"x", None}),
    "an asset and a state": (
        AlarmFilter(asset="a/b", states=frozenset({"active_unacked"})),
        lambda a: a["asset"] in {"a/b", "a/b/c"} and a["state"] == "active_unacked",
    ),
    "a percent sign": (AlarmFilter(text="100%"), lambda a: "100%" in a["message"]),
    "an underscore": (AlarmFilter(text="a_b"), lambda a: "a_b" in a["message"].lower()),
    "a backslash": (AlarmFilter(text="k\\s"), lambda a: "k\\s" in a["message"]),
    "letters beyond ASCII": (AlarmFilter(text="größe"), lambda a: "größe" in a["message"].lower()),
    "a device's name as text": (AlarmFilter(text="POT-3"), lambda a: a["device"] == "pot-3"),
    "from a time": (AlarmFilter(start=at(20)), lambda a: a["raised_time"] >= f"{at(20):%Y-%m-%dT%H:%M:%S}.000000Z"),
    "to a time": (AlarmFilter(end=at(20)), lambda a: a["raised_time"] < f"{at(20):%Y-%m-%dT%H:%M:%S}.000000Z"),
    "provisional": (AlarmFilter(provisional=True), lambda a: a["provisional"]),
    "firm": (AlarmFilter(provisional=False), lambda a: not a["provisional"]),
    "provisional in a state": (
        AlarmFilter(provisional=True, states=frozenset({"normal"})),
        lambda a: a["provisional"] and a["state"] == "normal",
    ),
    "a text that no database takes": (AlarmFilter(device="pot\0-2"), lambda a: False),
}


@pytest.mark.parametrize("rare", [listing.RARE, 3])
async def test_a_filter_lists_what_a_loop_would(
    hot_store: HotStore, rare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where few match, and where many do, the question takes another form.
    monkeypatch.setattr(listing, "RARE", rare)
    monkeypatch.setattr(listing, "ASSETS", min(rare, 32))
    alarms = await filled(hot_store, 150, seed=1)
    for name, (where, matches) in FILTERS.items():
        wanted = [each["alarm_id"] for each in alarms if matches(each)]
        assert await listed(hot_store, where) == wanted, name
        assert await listed(hot_store, where, limit=7) == wanted, name
        late = replace(where, start=max(at(10), where.start or at(10)))
        shown = [each["alarm_id"] for each in alarms if matches(each) and each["raised_time"] >= f"{at(10):%FT%T}"]
        assert await listed(hot_store, late, limit=11) == shown, name


async def test_pages_miss_nothing_and_repeat_nothing_while_alarms_come_in(hot_store: HotStore) -> None:
    old = {alarm_id(f"old {place}") for place in range(60)}
    rows = [transition(f"old {place}", 0, place, event_time=at(place % 7)) for place in range(60)]
    await hot_store.ingest("alarms", P, -1, 59, plant.table("alarms", rows), committed=False)
    seen: list[str] = []
    cursor, number = None, 60
    while True:
        page = await hot_store.alarms(AlarmFilter(), limit=7, cursor=cursor)
        seen += [each["alarm_id"] for each in page.items]
        if (cursor := page.next) is None:
            break
        # Before, at and behind the place of the cursor.
        new = [transition(f"new {number + each}", 0, number + each, event_time=at(each * 3)) for each in range(4)]
        await hot_store.ingest("alarms", P, number - 1, number + 3, plant.table("alarms", new), committed=False)
        await hot_store.acknowledge(seen[-1], actor="kim", comment="", idempotency_key=None)
        number += 4
    assert len(seen) == len(set(seen))
    assert old <= set(seen)


async def test_a_page_ends_where_the_list_does(hot_store: HotStore) -> None:
    await filled(hot_store, 10, seed=2)
    page = await hot_store.alarms(AlarmFilter(), limit=10, cursor=None)
    assert (len(page.items), page.next) == (10, None)
    assert len((await hot_store.alarms(AlarmFilter(), limit=0, cursor=None)).items) == 1
    assert len((await hot_store.alarms(AlarmFilter(), limit=10**9, cursor=None)).items) == 10


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "=",
        "A" * 100_000,
        made("series", ["a", "b"]),
        made("alarms", []),
        made("alarms", [1]),
        made("alarms", [2**63, "a"]),
        made("alarms", [1, "\0"]),
        made("alarms", [True, "a"]),
        made("alarms", ["1", "a"]),
    ],
)
async def test_a_cursor_that_no_page_gave_is_refused(hot_store: HotStore, cursor: str) -> None:
    with pytest.raises(BadCursor):
        await hot_store.alarms(AlarmFilter(), limit=10, cursor=cursor)


async def test_windows_are_listed_newest_first_and_replaced_by_their_key(hot_store: HotStore) -> None:
    rows = [
        plant.window(start, number * 10 + start // 10, device=device, metric=metric, window_name=name, item=place)
        for number, device in enumerate(["pot-1", "pot-2"])
        for start in range(0, 100, 10)
        for place, (metric, name) in enumerate([("current", "10s"), ("voltage", "10s"), ("voltage", "session/10min")])
    ]
    rows.sort(key=lambda row: row["sequence_number"])
    await hot_store.ingest("windows", P, -1, 19, plant.table("windows", rows), committed=False)
    # A partition's own window, whatever others call theirs.
    other = plant.window(0, 0, partition="plant/1/1", device="pot-1", mean=9.0)
    await hot_store.ingest("windows", "plant/1/1", -1, 0, plant.table("windows", [other]), committed=False)
    order = ["window_start", "device", "metric", "window_name", "partition"]
    wanted = sorted(([row[name] for name in order] for row in [*rows, other]), reverse=True)

    async def listed(limit: int) -> list[list[Any]]:
        items = await every(lambda cursor: hot_store.windows(WindowFilter(), limit=limit, cursor=cursor))
        for item in items:
            item["window_start"] = datetime.fromisoformat(item["window_start"])
        return [[item[name] for name in order] for item in items]

    assert await listed(1_000) == wanted
    assert await listed(7) == wanted
    where = WindowFilter(device="pot-1", metric="voltage", window_name="10s", start=at(20), end=at(50))
    page = await hot_store.windows(where, limit=2, cursor=None)
    assert [item["window_start"][17:19] for item in page.items] == ["40", "30"]
    page = await hot_store.windows(where, limit=2, cursor=page.next)
    assert ([item["window_start"][17:19] for item in page.items], page.next) == (["20"], None)

    # The process does not say a thing twice; the lake's word replaces what is there.
    again = [rows[0] | {"mean": 5.0}]
    assert (await hot_store.ingest("windows", P, -1, 0, plant.table("windows", again), committed=False)).accepted == 0
    assert (await hot_store.ingest("windows", P, -1, 0, plant.table("windows", again), committed=True)).mark == 19
    where = WindowFilter(device="pot-1", metric="current", end=at(10))
    [item] = (await hot_store.windows(where, limit=10, cursor=None)).items
    assert item["mean"] == 5.0
    assert item["std"] is None


async def test_latest_values_only_grow(hot_store: HotStore) -> None:
    async def post(follows: int, last: int, *rows: dict[str, Any]) -> None:
        await hot_store.ingest("latest", P, follows, last, plant.table("latest", list(rows)), committed=False)

    async def values() -> list[tuple[str, str, float]]:
        items = await every(lambda cursor: hot_store.series(SeriesFilter(), limit=1, cursor=cursor))
        return [(item["device"], item["metric"], item["value"]) for item in items]

    # Several of one series in one post: the greatest time counts, then the greatest sequence number.
    await post(-1, 3, plant.latest(5, 1, value=1.0), plant.latest(3, 2, value=2.0), plant.latest(5, 3, value=3.0))
    assert await values() == [("pot-001", "cell_voltage", 3.0)]
    await post(3, 4, plant.latest(4, 4, value=4.0), plant.latest(1, 4, device="a", value=5.0))
    assert await values() == [("a", "cell_voltage", 5.0), ("pot-001", "cell_voltage", 3.0)]
    await post(4, 5, plant.latest(6, 5, value=6.0))
    where = SeriesFilter(device="pot-001", metric="cell_voltage")
    [item] = (await hot_store.series(where, limit=10, cursor=None)).items
    assert (item["value"], item["event_time"], item["quality"]) == (6.0, "2026-11-01T00:00:06.000000Z", 192)
    # A refill of an older range changes nothing that is newer.
    older = plant.table("latest", [plant.latest(2, 1, value=7.0)])
    await hot_store.ingest("latest", P, -1, 1, older, committed=True)
    assert (await values())[1] == ("pot-001", "cell_voltage", 6.0)


async def test_sqlite_answers_a_list_of_alarms_from_an_index(tmp_path: Path) -> None:
    """It knows nothing of the values, so the form of the question decides: no list sorts what it could walk."""
    migrate(f"sqlite:///{tmp_path / 'hot.sqlite'}")
    store = await HotStore.open(f"sqlite:///{tmp_path / 'hot.sqlite'}")
    indexes = {
        AlarmFilter(): "alarms_by_raised",
        AlarmFilter(device="pot-1", states=frozenset({"normal"})): "alarms_by_device",
        AlarmFilter(states=frozenset({"normal"})): "alarms_by_state",
        AlarmFilter(asset="a/b"): "alarms_by_asset",
    }
    await filled(store, 20, seed=3)
    for where, index in indexes.items():

        async def explained(connection: Any, where: AlarmFilter = where) -> str:
            statement = await listing._planned(connection, where, listing._conditions(where), 10)
            text = str(statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
            return str((await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")).all())

        plan = await store._database.read(explained)
        assert index in plan
        # The first rows of several walks are few, and are put in order.
        assert ("TEMP B-TREE FOR ORDER BY" in plan) == (index in {"alarms_by_state", "alarms_by_asset"})
    await store.close()

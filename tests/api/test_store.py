"""The hot store's alarms: posts, marks, confirmation, refills, acknowledgements and what readers see of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from api.store import AlarmFilter, Gap, HotStore, Marks, Mismatch, NotAllowed, Position
from tests.api import plant
from tests.api.plant import P, transition

if TYPE_CHECKING:
    from api.store import Kind

pytestmark = pytest.mark.anyio
ALL = AlarmFilter()


async def post(
    store: HotStore, follows: int, last: int, *rows: dict[str, Any], committed: bool = False
) -> tuple[int, int]:
    accepted = await store.ingest("alarms", P, follows, last, plant.table("alarms", list(rows)), committed=committed)
    return accepted.mark, accepted.accepted


async def confirm(store: HotStore, follows: int, last: int, *rows: dict[str, Any]) -> int:
    return (await store.commit(P, follows, last, *plant.digest(list(rows)))).mark


async def listed(store: HotStore, where: AlarmFilter = ALL) -> list[dict[str, Any]]:
    return (await store.alarms(where, limit=1_000, cursor=None)).items


async def test_an_alarm_is_raised_acknowledged_and_cleared(hot_store: HotStore) -> None:
    a, b = transition("a", 0, 5), transition("a", 1, 9, "cleared")
    assert await post(hot_store, -1, 7, a) == (7, 1)
    [alarm] = await listed(hot_store)
    assert alarm["state"] == "active_unacked"
    assert alarm["provisional"] is True
    assert alarm["raised_time"] == "2026-11-01T00:00:05.000000Z"
    assert await confirm(hot_store, -1, 7, a) == 7
    acknowledged = await hot_store.acknowledge(alarm["alarm_id"], actor="kim", comment="seen", idempotency_key=None)
    assert (acknowledged["state"], acknowledged["acknowledged_by"]) == ("active_acked", "kim")
    assert acknowledged["provisional"] is False
    assert await post(hot_store, 7, 9, b) == (9, 1)
    assert (await hot_store.alarm(alarm["alarm_id"]) or {})["state"] == "normal"
    changes = await hot_store.changes(0, 100)
    assert [each.seq for each in changes] == [1, 2, 3, 4]
    assert [each.alarm["state"] for each in changes] == ["active_unacked", "active_unacked", "active_acked", "normal"]
    assert await hot_store.position() == Position(1, 4)


async def test_what_the_lake_does_not_have_is_retracted_and_kept(hot_store: HotStore) -> None:
    a, b, c = transition("a", 0, 1), transition("b", 0, 2), transition("c", 0, 3)
    await post(hot_store, -1, 3, a, b)
    with pytest.raises(Mismatch) as found:
        await confirm(hot_store, -1, 3, a, c)
    assert found.value.committed == -1
    assert await post(hot_store, -1, 3, a, c, committed=True) == (3, 1)
    assert {each["alarm_id"] for each in await listed(hot_store)} == {a["alarm_id"], c["alarm_id"]}
    gone = await hot_store.alarm(b["alarm_id"])
    assert gone is not None
    assert gone["retracted"] is True
    [entry] = await hot_store.history(b["alarm_id"]) or []
    assert entry["retracted"] is True
    with pytest.raises(Gap):
        await confirm(hot_store, -1, 4)
    assert await confirm(hot_store, 3, 8) == 8


async def test_a_row_that_a_process_made_anew_takes_the_place_of_an_unconfirmed_one(hot_store: HotStore) -> None:
    a, old, new = transition("a", 0, 1), transition("a", 1, 3, value=1.0), transition("a", 1, 5, "cleared", value=2.0)
    await post(hot_store, -1, 3, a, old)
    assert await post(hot_store, 3, 5, new) == (5, 1)
    [alarm] = await listed(hot_store)
    assert (alarm["state"], alarm["value"], alarm["step"]) == ("cleared_unacked", 2.0, 1)
    history = await hot_store.history(a["alarm_id"]) or []
    assert [(each["step"], each["sequence_number"], each["retracted"]) for each in history] == [
        (0, 1, False),
        (1, 3, True),
        (1, 5, False),
    ]
    assert await confirm(hot_store, -1, 5, a, new) == 5


async def test_what_the_lake_confirmed_stands_against_what_comes_later(hot_store: HotStore) -> None:
    a, b = transition("a", 0, 1), transition("a", 1, 3, value=1.0)
    await post(hot_store, -1, 3, a, b)
    await confirm(hot_store, -1, 3, a, b)
    assert await post(hot_store, 3, 5, transition("a", 1, 5, value=2.0)) == (5, 0)
    assert await post(hot_store, 3, 6, transition("a", 1, 6, value=3.0), committed=True) == (6, 0)
    [alarm] = await listed(hot_store)
    assert (alarm["value"], alarm["provisional"]) == (1.0, False)


async def test_an_alarm_that_was_taken_back_is_raised_anew_from_what_stands(hot_store: HotStore) -> None:
    await post(hot_store, -1, 4, transition("a", 0, 1), transition("a", 1, 4, "cleared"))
    await hot_store.acknowledge(plant.alarm_id("a"), actor="kim", comment="", idempotency_key=None)
    await post(hot_store, -1, 4, committed=True)
    assert await listed(hot_store) == []
    with pytest.raises(NotAllowed) as refused:
        await hot_store.acknowledge(plant.alarm_id("a"), actor="kim", comment="", idempotency_key=None)
    assert (refused.value.state, refused.value.allowed) == ("retracted", ())
    await post(hot_store, 4, 7, transition("a", 0, 7, value=9.0))
    [alarm] = await listed(hot_store)
    # What an operator did to it is not undone by the process.
    assert (alarm["state"], alarm["step"], alarm["value"]) == ("active_acked", 0, 9.0)
    assert alarm["raised_time"] == "2026-11-01T00:00:07.000000Z"


async def test_a_step_that_comes_late_is_the_one_that_raised(hot_store: HotStore) -> None:
    """The store began in the middle of a log, and is refilled from its beginning."""
    late, first = transition("a", 2, 9, "cleared"), transition("a", 0, 3)
    await post(hot_store, -1, 9, late)
    [alarm] = await listed(hot_store)
    assert alarm["raised_time"] == "2026-11-01T00:00:09.000000Z"
    await post(hot_store, -1, 9, first, late, committed=True)
    [alarm] = await listed(hot_store)
    assert (alarm["raised_time"], alarm["state"]) == ("2026-11-01T00:00:03.000000Z", "cleared_unacked")
    assert alarm["onset_time"] == "2026-11-01T00:00:00.000000Z"


async def test_a_gap_names_the_mark_and_stores_nothing(hot_store: HotStore) -> None:
    for kind, row in (
        ("alarms", transition("a", 0, 5)),
        ("windows", plant.window(0, 5)),
        ("latest", plant.latest(0, 5)),
    ):
        table = plant.table(kind, [row])
        for committed in (False, True):
            with pytest.raises(Gap) as found:
                await hot_store.ingest(cast("Kind", kind), P, 4, 5, table, committed=committed)
            assert (found.value.mark, found.value.committed) == (-1, -1)
    with pytest.raises(Gap):
        await confirm(hot_store, 4, 5)
    # Not even the name of the partition.
    assert await hot_store.marks() == []


async def test_an_empty_post_moves_the_mark(hot_store: HotStore) -> None:
    assert await post(hot_store, -1, 4) == (4, 0)
    assert await post(hot_store, 2, 3) == (4, 0)
    assert await confirm(hot_store, -1, 9) == 9
    assert await hot_store.marks() == [Marks(P, alarms=9, windows=-1, latest=-1, committed=9)]
    assert await hot_store.position() == Position(1, 0)


async def test_a_confirmation_publishes_what_it_changes(hot_store: HotStore) -> None:
    told: list[int] = []
    hot_store.on_change = lambda: told.append(1)
    a, b, c = transition("a", 0, 1), transition("b", 0, 2), transition("a", 1, 5)
    await post(hot_store, -1, 5, a, b, c)
    assert (await hot_store.commit(P, -1, 3, *plant.digest([a, b]))).accepted == 1
    [firm] = await listed(hot_store, AlarmFilter(provisional=False))
    assert firm["alarm_id"] == b["alarm_id"]
    assert (await hot_store.commit(P, 3, 5, *plant.digest([c]))).accepted == 1
    # In the order in which the process last spoke of them, then as they became firm.
    assert [(each.alarm["alarm_id"], each.alarm["provisional"]) for each in await hot_store.changes(0, 9)] == [
        (b["alarm_id"], True),
        (a["alarm_id"], True),
        (b["alarm_id"], False),
        (a["alarm_id"], False),
    ]
    assert len(told) == 3


async def test_posts_of_several_thousand_rows_are_one_transaction(hot_store: HotStore) -> None:
    """Several parts of one post; an alarm goes on from one part to the next."""
    rows = [transition(f"{place % 1_500}", place // 1_500, place) for place in range(4_500)]
    assert await post(hot_store, -1, 4_499, *rows) == (4_499, 4_500)
    assert (await hot_store.commit(P, -1, 4_499, *plant.digest(rows))).accepted == 1_500
    assert {each["step"] for each in await listed(hot_store)} == {2}
    again = [row | {"value": 1.0} if row["step"] == 2 else row for row in rows]
    assert await post(hot_store, -1, 4_499, *again, committed=True) == (4_499, 0)


async def test_a_large_refill_puts_everything_right(hot_store: HotStore) -> None:
    wrong = [transition(f"{place % 1_500}", place // 1_500, place, value=1.0) for place in range(4_500)]
    right = [row | {"value": 2.0} if row["step"] == 2 else row for row in wrong if row["sequence_number"] % 7]
    await post(hot_store, -1, 4_499, *wrong)
    await post(hot_store, -1, 4_499, *right, committed=True)
    shown = {each["alarm_id"]: each for each in await every(hot_store)}
    steps: dict[str, list[int]] = {}
    for row in right:
        steps.setdefault(row["alarm_id"], []).append(row["step"])
    assert {alarm: each["step"] for alarm, each in shown.items()} == {alarm: max(each) for alarm, each in steps.items()}
    assert {each["value"] for each in shown.values() if each["step"] == 2} == {2.0}
    assert not any(each["provisional"] for each in shown.values())
    assert (await hot_store.commit(P, -1, 4_499, *plant.digest(right))).mark == 4_499


async def every(store: HotStore) -> list[dict[str, Any]]:
    items, cursor = [], None
    while True:
        page = await store.alarms(ALL, limit=1_000, cursor=cursor)
        items += page.items
        if (cursor := page.next) is None:
            return items

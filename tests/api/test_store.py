"""The hot store's alarms: posts, marks, confirmation, refills, acknowledgements and what readers see of them."""

from __future__ import annotations

from typing import Any

import pytest
from api.store import (
    AlarmFilter,
    Gap,
    HotStore,
    Mismatch,
    Position,
)

from tests.api import plant
from tests.api.plant import P, transition

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

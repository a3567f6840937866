"""What the hot store keeps and for how long: its schema, keys, answers, the audit, and what it prunes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select

from api.store import (
    AlarmFilter,
    HotStore,
    KeyReused,
    NotAllowed,
    NotFound,
    Position,
    Retention,
    StoreError,
    WindowFilter,
    migrate,
    schema,
)
from api.store.database import url_of
from api.store.migrate import sync_engine
from tests.api import plant
from tests.api.plant import P, alarm_id, transition

pytestmark = pytest.mark.anyio


async def audited(store: HotStore) -> list[tuple[str, str, str]]:
    async def work(connection: Any) -> list[tuple[str, str, str]]:
        columns = schema.audit.c
        rows = await connection.execute(select(columns.actor, columns.action, columns.subject).order_by(columns.id))
        return [tuple(row) for row in rows]

    return await store._database.read(work)


def test_the_migrations_make_what_the_code_expects(store_url: str) -> None:
    engine = sync_engine(url_of(store_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()


async def test_migrating_again_keeps_everything(hot_store: HotStore, store_url: str) -> None:
    table = plant.table("alarms", [transition("a", 0, 1)])
    await hot_store.ingest("alarms", P, -1, 1, table, committed=False)
    migrate(store_url)
    await hot_store.ready()
    assert len((await hot_store.alarms(AlarmFilter(), limit=10, cursor=None)).items) == 1


async def test_a_key_is_made_found_and_revoked(hot_store: HotStore) -> None:
    expires = datetime(2027, 1, 1, tzinfo=UTC)
    await hot_store.create_key("sink", frozenset({"ingest"}), None, id="k1", sha256=b"\x00\xff" * 16)
    await hot_store.create_key("sink", frozenset({"read", "operate"}), expires, id="k2", sha256=b"2" * 32)
    await hot_store.create_key("ola", frozenset({"read"}), None, id="k3", sha256=b"3" * 32)
    with pytest.raises(StoreError, match="one of this id"):
        await hot_store.create_key("other", frozenset({"read"}), None, id="k1", sha256=b"4" * 32)
    found = await hot_store.key("k2")
    assert found is not None
    assert (found.name, sorted(found.scopes)) == ("sink", ["operate", "read"])
    assert (found.expires, found.revoked) == (expires, None)
    assert (await hot_store.key("k1") or found).sha256 == b"\x00\xff" * 16
    assert await hot_store.key("none") is None
    assert await hot_store.revoke_key("sink", actor="kim")
    assert not await hot_store.revoke_key("sink")
    assert await hot_store.revoke_key("k3")
    assert not await hot_store.revoke_key("nobody")
    assert [(key.id, key.revoked is None) for key in await hot_store.keys()] == [
        ("k1", False),
        ("k2", False),
        ("k3", False),
    ]
    assert sorted(await audited(hot_store)) == [
        ("console", "create_key", "k1"),
        ("console", "create_key", "k2"),
        ("console", "create_key", "k3"),
        ("console", "revoke_key", "k3"),
        ("kim", "revoke_key", "k1"),
        ("kim", "revoke_key", "k2"),
    ]


async def test_the_same_idempotency_key_gives_the_first_answer_again(hot_store: HotStore) -> None:
    rows = [transition("a", 0, 1), transition("b", 0, 2)]
    await hot_store.ingest("alarms", P, -1, 2, plant.table("alarms", rows), committed=False)
    a, b = alarm_id("a"), alarm_id("b")
    first = await hot_store.acknowledge(a, actor="kim", comment="seen", idempotency_key="1")
    cleared = plant.table("alarms", [transition("a", 1, 3, "cleared")])
    await hot_store.ingest("alarms", P, 2, 3, cleared, committed=False)
    assert await hot_store.acknowledge(a, actor="kim", comment="seen", idempotency_key="1") == first
    for alarm, comment in ((a, "other"), (b, "seen")):
        with pytest.raises(KeyReused):
            await hot_store.acknowledge(alarm, actor="kim", comment=comment, idempotency_key="1")
    # Another actor's key is another key.
    assert (await hot_store.acknowledge(b, actor="ola", comment="", idempotency_key="1"))["acknowledged_by"] == "ola"
    with pytest.raises(NotAllowed) as refused:
        await hot_store.acknowledge(a, actor="kim", comment="seen", idempotency_key="2")
    assert (refused.value.state, refused.value.allowed) == ("normal", ())
    with pytest.raises(NotFound):
        await hot_store.acknowledge("none", actor="kim", comment="", idempotency_key="3")
    assert await audited(hot_store) == [("kim", "acknowledge", a), ("ola", "acknowledge", b)]
    history = await hot_store.history(a) or []
    assert [(each["side"], each["action"], each["actor"]) for each in history] == [
        ("process", "raised", "process"),
        ("operator", "acknowledge", "kim"),
        ("process", "cleared", "process"),
    ]
    assert [each["seq"] for each in history] == sorted(each["seq"] for each in history)
    assert await hot_store.history("none") is None


async def test_only_what_is_over_is_pruned(hot_store: HotStore) -> None:
    now = datetime(2026, 11, 20, tzinfo=UTC)
    rows = [
        transition("normal", 0, 1),
        transition("open", 0, 2),
        transition("unseen", 0, 3),
        transition("normal", 1, 4, "cleared"),
        transition("unseen", 1, 5, "cleared"),
        transition("gone", 0, 6),
        transition("late", 0, 8),
        transition("late", 1, 9, "cleared"),
    ]
    kept = [row for row in rows if row["alarm_id"] != alarm_id("gone")]
    await hot_store.ingest("alarms", P, -1, 9, plant.table("alarms", rows), committed=False)
    await hot_store.acknowledge(alarm_id("normal"), actor="kim", comment="", idempotency_key="1")
    await hot_store.acknowledge(alarm_id("late"), actor="kim", comment="", idempotency_key="2")
    firm = plant.table("alarms", [row for row in kept if row["sequence_number"] <= 8])
    await hot_store.ingest("alarms", P, -1, 8, firm, committed=True)
    newest = (await hot_store.position()).newest

    # Nothing is old yet: the operator acknowledged now.
    await hot_store.prune(now=now, retention=Retention(alarms_days=10**4, changes_days=10**4, answers_days=10**4))
    assert await hot_store.position() == Position(1, newest)
    later = max(datetime.now(UTC), now) + timedelta(days=1)
    await hot_store.prune(now=later, retention=Retention(alarms_days=0.5, answers_days=0.5))
    found = {name: await hot_store.alarm(alarm_id(name)) for name in ("normal", "open", "unseen", "gone", "late")}
    # What the lake has not confirmed stays: it may still be taken back.
    assert {name for name, alarm in found.items() if alarm is not None} == {"open", "unseen", "late"}
    assert await hot_store.history(alarm_id("normal")) is None
    # The answer is forgotten, and the audit is not.
    with pytest.raises(NotFound):
        await hot_store.acknowledge(alarm_id("normal"), actor="kim", comment="", idempotency_key="1")
    assert ("kim", "acknowledge", alarm_id("normal")) in await audited(hot_store)
    assert ("process", "retract", P) in await audited(hot_store)
    # What was stored is still confirmed in the same way.
    last = [row for row in kept if row["sequence_number"] == 9]
    assert (await hot_store.commit(P, 8, 9, *plant.digest(last))).mark == 9


async def test_changes_are_pruned_by_number_and_by_age_without_a_gap(hot_store: HotStore) -> None:
    rows = [transition(f"{place}", 0, place) for place in range(30)]
    await hot_store.ingest("alarms", P, -1, 29, plant.table("alarms", rows), committed=False)
    now = datetime.now(UTC)
    await hot_store.prune(now=now, retention=Retention(changes_max=10))
    assert await hot_store.position() == Position(21, 30)
    assert [each.seq for each in await hot_store.changes(0, 100)] == list(range(21, 31))
    await hot_store.prune(now=now + timedelta(days=3))
    assert await hot_store.position() == Position(31, 30)
    await hot_store.acknowledge(alarm_id("1"), actor="kim", comment="", idempotency_key=None)
    assert await hot_store.position() == Position(31, 31)


async def test_windows_are_pruned_by_their_end(hot_store: HotStore) -> None:
    long = plant.window(0, 0, window_name="session/10min", window_end=plant.at(86_400))
    rows = [long, *(plant.window(start, start) for start in range(0, 50_000, 10))]
    rows.sort(key=lambda row: row["sequence_number"])
    await hot_store.ingest("windows", P, -1, 50_000, plant.table("windows", rows), committed=False)
    await hot_store.prune(now=plant.at(7 * 86_400 + 40_000))
    page = await hot_store.windows(WindowFilter(end=plant.at(40_000)), limit=1_000, cursor=None)
    # One that ends at the border stays with those behind it.
    assert [item["window_name"] for item in page.items] == ["10s", "session/10min"]
    assert page.items[0]["window_end"] == "2026-11-01T11:06:40.000000Z"

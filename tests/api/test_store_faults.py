"""Locked, full, stopped and cancelled: a write of the hot store is whole or not at all, and the next one works."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from api.store import AlarmFilter, HotStore, NotAllowed, StoreBusy, StoreError, connections, migrate
from api.store.database import Database
from tests.api import plant
from tests.api.plant import P, alarm_id, transition
from tests.parts.postgres import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from tests.conftest import Require
    from tests.parts.postgres import Postgres

pytestmark = pytest.mark.anyio
ALL = AlarmFilter()


def many(number: int, first: int = 0) -> list[dict[str, Any]]:
    return [transition(f"alarm {each}", 0, each) for each in range(first, first + number)]


async def post(store: HotStore, follows: int, rows: list[dict[str, Any]]) -> int:
    last = rows[-1]["sequence_number"]
    return (await store.ingest("alarms", P, follows, last, plant.table("alarms", rows), committed=False)).accepted


async def number_of_alarms(store: HotStore) -> int:
    number, cursor = 0, None
    while True:
        page = await store.alarms(ALL, limit=1_000, cursor=cursor)
        number += len(page.items)
        if (cursor := page.next) is None:
            return number


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    # Twice this is also how long PostgreSQL lets a transaction pause between two statements.
    monkeypatch.setattr(connections, "WAIT_S", 0.9)


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    path = tmp_path / "hot.sqlite"
    migrate(f"sqlite:///{path}")
    return path


async def test_a_locked_file_is_busy_and_stores_nothing(short_wait: None, sqlite_file: Path) -> None:
    store = await HotStore.open(f"sqlite:///{sqlite_file}")
    with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="locked"):
            await post(store, -1, many(3))
        # Readers go on while another writes.
        assert await number_of_alarms(store) == 0
        other.execute("ROLLBACK")
    assert await post(store, -1, many(3)) == 3
    await store.close()


async def test_a_full_file_is_busy_and_a_post_is_never_half_stored(
    sqlite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = connections._sqlite_engine

    def bounded(*args: Any, pragmas: tuple[str, ...], **more: Any) -> Any:
        return real(*args, pragmas=(*pragmas, "max_page_count=200"), **more)

    monkeypatch.setattr(connections, "_sqlite_engine", bounded)
    store = await HotStore.open(f"sqlite:///{sqlite_file}")
    assert await post(store, -1, many(50)) == 50
    with pytest.raises(StoreBusy, match="full"):
        await post(store, 49, many(5_000, 50))
    assert await number_of_alarms(store) == 50
    assert [marks.alarms for marks in await store.marks()] == [49]
    assert (await store.position()).newest == 50
    await store.close()
    monkeypatch.undo()
    # Once there is room, the same post fits: nothing of it is there twice.
    store = await HotStore.open(f"sqlite:///{sqlite_file}")
    assert await post(store, 49, many(5_000, 50)) == 5_000
    assert await number_of_alarms(store) == 5_050
    await store.close()


async def test_a_file_that_went_away_is_busy(sqlite_file: Path) -> None:
    store = await HotStore.open(f"sqlite:///{sqlite_file}")
    assert isinstance(store._database._connections, connections.File)
    store._database._connections._reader.dispose()
    await asyncio.to_thread(sqlite_file.rename, f"{sqlite_file}.moved")
    with pytest.raises(StoreBusy):
        await store.alarms(ALL, limit=1, cursor=None)
    await store.close()


def test_a_damaged_file_says_so(sqlite_file: Path) -> None:
    sqlite_file.write_bytes(b"no database" * 1_000)
    with pytest.raises(StoreError, match="mend") as found:
        asyncio.run(HotStore.open(f"sqlite:///{sqlite_file}"))
    assert not isinstance(found.value, StoreBusy)


@pytest.fixture(scope="module")
def own_server(require: Require) -> Iterator[Postgres]:
    """Return a server that a test may stop."""
    with running(require) as server:
        yield server


@pytest.fixture
def own_url(own_server: Postgres) -> str:
    """Return the address of an empty database on a server that a test may stop."""
    url = own_server.url(own_server.database())
    migrate(url)
    return url


async def test_a_stopped_server_is_busy_and_a_started_one_goes_on(own_server: Postgres, own_url: str) -> None:
    store = await HotStore.open(own_url)
    assert await post(store, -1, many(3)) == 3
    own_server.stop()
    with pytest.raises(StoreBusy):
        await post(store, 2, many(3, 3))
    with pytest.raises(StoreBusy):
        await store.ready()
    with pytest.raises(StoreBusy):
        await store.alarms(ALL, limit=1, cursor=None)
    own_server.start()
    assert await post(store, 2, many(3, 3)) == 3
    assert await number_of_alarms(store) == 6
    await store.close()


async def test_a_server_that_stops_in_a_write_leaves_nothing_of_it(own_server: Postgres, own_url: str) -> None:
    import psycopg

    store = await HotStore.open(own_url)
    assert await post(store, -1, many(3)) == 3
    other = psycopg.connect(own_url)
    other.execute("UPDATE counters SET value = value")
    # It has inserted nothing yet, holds the partition's mark, and waits for the counter.
    waiting = asyncio.create_task(post(store, 2, many(3, 3)))
    await until_waiting(own_url)
    own_server.stop()
    with pytest.raises(StoreBusy):
        await waiting
    other.close()
    own_server.start()
    assert await number_of_alarms(store) == 3
    assert await post(store, 2, many(3, 3)) == 3
    await store.close()


async def until_waiting(url: str) -> None:
    """Return once a connection waits for a lock."""
    import psycopg

    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while True:
            found = await connection.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            row = await found.fetchone()
            if row is not None and row[0]:
                return
            await asyncio.sleep(0.01)


async def test_a_lock_held_too_long_is_busy_on_postgresql(short_wait: None, postgres: Postgres, migrated: str) -> None:
    import psycopg

    name = postgres.database(migrated)
    store = await HotStore.open(postgres.url(name))
    assert await post(store, -1, many(1)) == 1
    with psycopg.connect(postgres.url(name)) as other:
        other.execute("SELECT * FROM marks FOR UPDATE")
        with pytest.raises(StoreBusy, match="lock"):
            await post(store, 0, many(1, 1))
    assert await post(store, 0, many(1, 1)) == 1
    await store.close()
    postgres.drop(name)


async def test_replicas_that_post_the_same_rows_store_them_once(store_url: str) -> None:
    stores = [await HotStore.open(store_url) for _ in range(3)]
    rows = many(200)
    accepted = await asyncio.gather(*(post(each, -1, rows) for each in stores * 2))
    assert sorted(accepted) == [0, 0, 0, 0, 0, 200]
    changes = await stores[0].changes(0, 1_000)
    assert [each.seq for each in changes] == list(range(1, 201))
    for store in stores:
        await store.close()


async def test_whoever_has_seen_a_seq_has_seen_all_below(store_url: str) -> None:
    """Several replicas write to several partitions while a reader follows: it never meets a seq it had gone past."""
    stores = [await HotStore.open(store_url) for _ in range(3)]
    reader = await HotStore.open(store_url)

    async def write(number: int) -> None:
        partition = f"plant/1/{number}"
        for place in range(20):
            row = transition(f"{number} {place}", 0, place, partition=partition)
            table = plant.table("alarms", [row])
            await stores[number].ingest("alarms", partition, place - 1, place, table, committed=False)

    async def follow() -> list[int]:
        seen: list[int] = []
        while len(seen) < 60:
            seen += [each.seq for each in await reader.changes(seen[-1] if seen else 0, 7)]
            await asyncio.sleep(0)
        return seen

    seen, *_ = await asyncio.gather(follow(), *(write(number) for number in range(3)))
    assert seen == list(range(1, 61))
    for store in (*stores, reader):
        await store.close()


async def test_two_operators_cannot_both_be_the_first(store_url: str) -> None:
    stores = [await HotStore.open(store_url) for _ in range(4)]
    await post(stores[0], -1, many(1))
    works = [
        store.acknowledge(alarm_id("alarm 0"), actor=f"operator {place}", comment="", idempotency_key=None)
        for place, store in enumerate(stores)
    ]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    assert sum(isinstance(each, NotAllowed) for each in outcomes) == 3
    [first] = [each for each in outcomes if isinstance(each, dict)]
    shown = await stores[0].alarm(alarm_id("alarm 0")) or {}
    assert shown == first
    for store in stores:
        await store.close()


async def test_the_same_idempotency_key_at_the_same_time_has_one_answer(store_url: str) -> None:
    stores = [await HotStore.open(store_url) for _ in range(3)]
    await post(stores[0], -1, many(1))
    answers = await asyncio.gather(
        *(
            store.acknowledge(alarm_id("alarm 0"), actor="kim", comment="seen", idempotency_key="key 1")
            for store in stores
        )
    )
    assert answers == [answers[0]] * 3
    assert (await stores[0].position()).newest == 2
    for store in stores:
        await store.close()


async def test_a_post_whose_request_is_cancelled_is_whole_and_holds_nothing(store_url: str) -> None:
    store = await HotStore.open(store_url)
    told: list[int] = []
    store.on_change = lambda: told.append(1)
    waits = [0.0, 0.001, 0.01, 0.05, 0.1]
    for number, wait in enumerate(waits):
        rows = [transition(f"{number} {place}", 0, place, partition=f"plant/1/{number}") for place in range(1_000)]
        table = plant.table("alarms", rows)
        work = store.ingest("alarms", f"plant/1/{number}", -1, 999, table, committed=False)
        try:
            async with asyncio.timeout(wait):
                await work
        except TimeoutError:
            pass
        # What was posted again fits, whether the first was stored or not.
        again = await store.ingest("alarms", f"plant/1/{number}", -1, 999, table, committed=False)
        assert again.mark == 999
        assert await number_of_alarms(store) == 1_000 * (number + 1)
        assert len(told) == number + 1
    await store.close()


async def test_a_database_that_was_never_set_up_says_what_to_run(tmp_path: Path, postgres: Postgres) -> None:
    missing = tmp_path / "missing.sqlite"
    name = postgres.database()
    for url in (f"sqlite:///{missing}", postgres.url(name)):
        with pytest.raises(StoreError, match="python -m api migrate"):
            await HotStore.open(url)
    assert not missing.exists()
    postgres.drop(name)


async def test_a_database_of_another_version_is_refused(store_url: str) -> None:
    store = await HotStore.open(store_url)

    async def work(connection: Any) -> None:
        await connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'later'")

    await store._database.write(work)
    with pytest.raises(StoreError, match="version later"):
        await store.ready()
    await store.close()
    with pytest.raises(StoreError, match="version later"):
        await HotStore.open(store_url)
    with pytest.raises(StoreError, match="newer software"):
        await asyncio.to_thread(migrate, store_url)


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "hot.sqlite"
    migrate(f"sqlite:///{path}")

    async def use() -> set[int]:
        store = await HotStore.open(f"sqlite:///{path}")
        await post(store, -1, many(3))
        modes = {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        await store.close()
        return modes

    assert asyncio.run(use()) == {0o600}


@pytest.mark.parametrize(
    "url", ["mysql://h/d", "sqlite://", "sqlite:///:memory:", "no address", "postgresql+pg8000://h/d"]
)
async def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(StoreError, match="use sqlite:///PATH or postgresql"):
        await HotStore.open(url)


async def test_no_message_shows_the_password() -> None:
    url = "postgresql://alumi:hunter2@127.0.0.1:1/nothing"
    with pytest.raises(StoreBusy) as found:
        await HotStore.open(url)
    with pytest.raises(StoreBusy) as again:
        await asyncio.to_thread(migrate, url)
    assert make_url(url).password == "hunter2"
    assert "hunter2" not in f"{found.value}{again.value}"


async def test_a_replica_that_stalls_in_a_transaction_is_busy_on_postgresql(
    short_wait: None, postgres: Postgres, migrated: str
) -> None:
    name = postgres.database(migrated)
    database = Database(make_url(postgres.url(name)))

    async def stall(connection: AsyncConnection) -> None:
        await connection.execute(text("SELECT 1"))
        await asyncio.sleep(2 * connections.WAIT_S + 1.0)
        await connection.execute(text("SELECT 1"))

    with pytest.raises(StoreBusy, match="idle-in-transaction"):
        await database.write(stall)
    await database.close()
    postgres.drop(name)

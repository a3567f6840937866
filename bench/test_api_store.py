"""The hot store on both databases: transitions taken in a second, and how long a page of alarms takes.

The clock is the wall's, as a database has threads or processes of its own: only a calm machine gives figures that can
be compared. Nothing in this environment does the same work, so there is no peer.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from alumicatalyst import _core
from api.store import AlarmFilter, HotStore
from bench.load import scaled
from bench.results import Figure
from tests.api.conftest import migrated, postgres, store_url
from tests.conftest import require

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["migrated", "postgres", "require", "store_url"]

P = "bench/1/0"
START = datetime(2026, 11, 1, tzinfo=UTC)
# Rows in a post: about two MB of Arrow.
POST = 10_000
INGESTED = scaled(120_000, 20_000)
INGEST_GOAL = 20_000.0
# What lists are asked of: a million transitions, of which the newest 100,000 alarms are still active.
ALARMS = scaled(550_000, 110_000)
OPEN = ALARMS * 2 // 11
TRANSITIONS = 2 * ALARMS - OPEN
PAGE, PAGES = 100, 300
PAGE_GOAL_MS = 10.0


def table(first: int, number: int, alarms: int) -> pa.Table:
    """Return transitions of a flood: all alarms are raised, one after another, then cleared in the same order."""
    numbers = range(first, first + number)
    alarm = [each % alarms for each in numbers]
    step = [each // alarms for each in numbers]
    times = [START + timedelta(milliseconds=10 * each) for each in numbers]
    pots = [f"pot-{each % 96:03}" for each in alarm]
    columns: dict[str, list[Any]] = {
        "partition": [P] * number,
        "sequence_number": list(numbers),
        "item": [0] * number,
        "enqueued_time": times,
        "alarm_id": [identity(each) for each in alarm],
        "step": step,
        "transition": ["cleared" if each else "raised" for each in step],
        "device": pots,
        "metric": ["cell_voltage"] * number,
        "asset": [f"plant/hall-{each % 4}/{pot}" for each, pot in zip(alarm, pots, strict=True)],
        "alarm_rule": ["HH"] * number,
        "priority": [("low", "low", "medium", "high")[each % 4] for each in alarm],
        "onset_time": times,
        "event_time": times,
        "value": [8.25] * number,
        "threshold": [8.0] * number,
        "peak": [8.5] * number,
        "score": [None] * number,
        "message": ["anode effect: cell_voltage 8.25 V, above 8 V"] * number,
    }
    fields = [field for field in _core.schema("alarms") if field.name != "date"]
    return pa.table([pa.array(columns[field.name], field.type) for field in fields], schema=pa.schema(fields))


@cache
def identity(alarm: int) -> str:
    return hashlib.sha256(str(alarm).encode()).hexdigest()[:32]


def test_ingest(store_url: str, figure: Callable[[Figure], None]) -> None:
    """Each transition is another alarm's than the one before, so each is folded, written and published by itself."""
    tables = [table(first, POST, INGESTED // 2) for first in range(0, INGESTED, POST)]

    async def run() -> float:
        store = await HotStore.open(store_url)
        # As a server does once it has started: what it has imported is not garbage.
        gc.collect()
        gc.freeze()
        before = time.perf_counter()
        for number, each in enumerate(tables):
            follows = number * POST - 1
            accepted = await store.ingest("alarms", P, follows, follows + POST, each, committed=False)
            assert (accepted.mark, accepted.accepted) == (follows + POST, POST)
        took = time.perf_counter() - before
        gc.unfreeze()
        assert (await store.position()).newest == INGESTED
        start = START + timedelta(milliseconds=10 * (INGESTED // 2 - 1_000))
        cleared = AlarmFilter(states=frozenset({"cleared_unacked"}), start=start)
        page = await store.alarms(cleared, limit=1_000, cursor=None)
        assert (len(page.items), page.next) == (1_000, None)
        await store.close()
        return took

    rate = INGESTED / asyncio.run(run())
    load = f"transitions taken, {POST:,} a post, {kind_of(store_url)}"
    figure(Figure("api", load, "AlumiCatalyst", "transitions/s", rate, rate, rate, 1, INGESTED, goal=INGEST_GOAL))


def kind_of(url: str) -> str:
    return "SQLite" if url.startswith("sqlite") else "PostgreSQL"


QUESTIONS = {
    "newest": AlarmFilter(),
    "active": AlarmFilter(states=frozenset({"active_unacked", "active_acked"})),
    "active, high": AlarmFilter(states=frozenset({"active_unacked"}), priorities=frozenset({"high"})),
    "cleared": AlarmFilter(states=frozenset({"cleared_unacked"})),
    "a pot": AlarmFilter(device="pot-042"),
    "a pot, active": AlarmFilter(device="pot-042", states=frozenset({"active_unacked"})),
    "a hall, active": AlarmFilter(asset="plant/hall-2", states=frozenset({"active_unacked"})),
    "a pot by its asset": AlarmFilter(asset="plant/hall-2/pot-042"),
    "a text": AlarmFilter(text="POT-04"),
    "nothing": AlarmFilter(asset="plant/hall-9"),
}


@pytest.mark.timeout(1_800)
def test_pages(store_url: str, figure: Callable[[Figure], None]) -> None:
    async def run() -> None:
        store = await HotStore.open(store_url)
        for first in range(0, TRANSITIONS, 5 * POST):
            made = table(first, 5 * POST, ALARMS)
            await store.ingest("alarms", P, first - 1, first + 5 * POST - 1, made, committed=True)
        assert (await store.marks())[0].committed == TRANSITIONS - 1
        for name, where in QUESTIONS.items():
            milliseconds: list[float] = []
            cursor: str | None = None
            for _ in range(PAGES):
                before = time.perf_counter()
                page = await store.alarms(where, limit=PAGE, cursor=cursor)
                milliseconds.append(1_000 * (time.perf_counter() - before))
                assert len(page.items) == PAGE or page.next is None
                assert bool(page.items) == (name != "nothing")
                assert "active" not in name or all(item["active"] for item in page.items)
                assert "pot" not in name or all(item["device"] == "pot-042" for item in page.items)
                cursor = page.next
            milliseconds.sort()
            median, worst = milliseconds[PAGES // 2], milliseconds[PAGES * 99 // 100]
            load = f"a page of {PAGE} of {TRANSITIONS:,}: {name}, {kind_of(store_url)}"
            about: dict[str, Any] = {
                "goal": PAGE_GOAL_MS,
                "lower_is_better": True,
                "note": "from p50 to p99; the goal is for p50",
            }
            figure(Figure("api", load, "AlumiCatalyst", "ms", median, median, worst, PAGES, PAGE, **about))
        await store.close()

    asyncio.run(run())

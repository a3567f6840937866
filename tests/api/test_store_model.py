"""The store's alarms are the model's, whatever the process posts, loses, makes anew, and what operators do then."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from api.store import AlarmFilter, Gap, HotStore, Mismatch, NotAllowed, NotFound, migrate
from tests.api import plant
from tests.api.model import Model
from tests.api.plant import P, transition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

NAMES = "abc"
# What happens in each envelope: alarms that make their next transition, and whether it clears them.
TAILS = st.lists(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([False, False, True])), min_size=1, max_size=2),
    min_size=1,
    max_size=3,
)
BACK = st.sampled_from([0, 0, 0, 1, 2, -1])
LENGTH = st.sampled_from([8, 8, 1, 2, 3, 0])
STEPS = st.one_of(
    st.tuples(st.just("goes_on"), TAILS),
    st.tuples(st.just("goes_on_and_posts"), TAILS),
    st.tuples(st.just("goes_on_and_posts"), TAILS),
    st.tuples(st.just("starts_again"), st.integers(1, 4), TAILS),
    st.tuples(st.just("posts"), BACK, LENGTH),
    st.tuples(st.just("lake_commits"), st.integers(1, 2)),
    st.tuples(st.just("lake_tells"), BACK, LENGTH),
    st.tuples(st.just("refills"), BACK, LENGTH),
    st.tuples(st.just("acknowledges"), st.sampled_from(NAMES), st.sampled_from(["kim", "ola"])),
)
REFUSALS = {Gap: "gap", Mismatch: "mismatch", NotAllowed: "not allowed", NotFound: "none"}


class Plant:
    """A process with its log, a lake that holds a beginning of it, operators, the store and its model."""

    def __init__(self, store: HotStore) -> None:
        self.store = store
        self.model = Model()
        self.log: list[list[dict[str, Any]]] = []
        self.lake = 0
        self.version = 0

    async def goes_on(self, tail: list[list[tuple[str, bool]]]) -> None:
        for happened in tail:
            number = len(self.log)
            made: list[dict[str, Any]] = []
            for item, (name, cleared) in enumerate(happened):
                alarm = plant.alarm_id(name)
                before = [row for envelope in [*self.log, made] for row in envelope if row["alarm_id"] == alarm]
                if before and before[-1]["transition"] == "cleared":
                    continue
                kind = ("cleared" if cleared else "updated") if before else "raised"
                value = 10.0 + number + self.version / 16
                made.append(transition(name, len(before), number, kind, item=item, value=value))
            self.log.append(made)

    async def goes_on_and_posts(self, tail: list[list[tuple[str, bool]]]) -> None:
        await self.goes_on(tail)
        await self.posts(0, 8)

    async def starts_again(self, lost: int, tail: list[list[tuple[str, bool]]]) -> None:
        """Go on from what the lake holds, under another dictionary: from there on other rows are made."""
        del self.log[max(self.lake, len(self.log) - lost) :]
        self.version += 1
        await self.goes_on(tail)
        await self.posts(0, 8)

    async def lake_commits(self, length: int) -> None:
        self.lake = min(self.lake + length, len(self.log))

    async def posts(self, back: int, length: int) -> None:
        follows, last, rows = self._cut(self.model.mark - back, length, len(self.log))
        if last >= follows:
            table = plant.table("alarms", rows)
            found = await outcome(self.store.ingest("alarms", P, follows, last, table, committed=False))
            assert found == self.model.post(follows, last, rows)

    async def lake_tells(self, back: int, length: int) -> None:
        follows, last, rows = self._cut(self.model.committed - back, length, self.lake)
        if last >= follows:
            found = await outcome(self.store.commit(P, follows, last, *plant.digest(rows)))
            event(f"commit: {found}")
            assert found == self.model.commit(follows, last, rows)

    async def refills(self, back: int, length: int) -> None:
        follows, last, rows = self._cut(self.model.committed - back, length, self.lake)
        if last >= follows:
            table = plant.table("alarms", rows)
            found = await outcome(self.store.ingest("alarms", P, follows, last, table, committed=True))
            assert found == self.model.refill(follows, last, rows)

    async def acknowledges(self, name: str, actor: str) -> None:
        alarm_id = plant.alarm_id(name)
        work = self.store.acknowledge(alarm_id, actor=actor, comment="", idempotency_key=None)
        assert await outcome(work) == self.model.acknowledge(alarm_id, actor)

    def _cut(self, follows: int, length: int, end: int) -> tuple[int, int, list[dict[str, Any]]]:
        """Return a range and its rows; the envelope at place n has the sequence number n."""
        follows = max(-1, follows)
        last = min(follows + length, end - 1)
        return follows, last, [row for envelope in self.log[follows + 1 : last + 1] for row in envelope]

    async def check(self) -> None:
        wanted = {alarm_id: self.model.alarm(alarm_id) for alarm_id in self.model.ids()}
        found = {alarm_id: await self.store.alarm(alarm_id) or {} for alarm_id in wanted}
        beside = {"seq", "acknowledged_time", "comment"}
        assert {
            alarm_id: {name: value for name, value in alarm.items() if name not in beside}
            for alarm_id, alarm in found.items()
        } == wanted
        page = await self.store.alarms(AlarmFilter(), limit=1_000, cursor=None)
        assert {each["alarm_id"]: each for each in page.items} == {
            alarm_id: alarm for alarm_id, alarm in found.items() if "retracted" not in alarm
        }
        changes = await self.store.changes(0, 10_000)
        assert [each.seq for each in changes] == list(range(1, len(changes) + 1))
        assert {each.alarm["alarm_id"]: each.alarm for each in changes} == found

    async def check_histories(self) -> None:
        for alarm_id in self.model.ids():
            history = await self.store.history(alarm_id) or []
            kept = [each for each in history if each["side"] == "process"]
            assert sorted((each["step"], each["sequence_number"], each["retracted"]) for each in kept) == sorted(
                (each.row["step"], each.row["sequence_number"], each.retracted)
                for each in self.model.entries
                if each.row["alarm_id"] == alarm_id
            )
        for marks in await self.store.marks():
            assert (marks.alarms, marks.committed) == (self.model.mark, self.model.committed)
        event(f"taken back: {min(3, sum(each.retracted for each in self.model.entries))}")


async def outcome(work: Awaitable[object]) -> str:
    try:
        await work
    except (Gap, Mismatch, NotAllowed, NotFound) as refused:
        return REFUSALS[type(refused)]
    return "ok"


def check(fresh: Callable[[], AbstractContextManager[str]], part: float) -> None:
    """Run the property on databases that `fresh` makes, with a part of the profile's examples."""
    assert settings.default is not None

    # Long lists, as it takes a few steps to meet a conflict.
    @settings(max_examples=max(5, int(settings.default.max_examples * part)), suppress_health_check=list(HealthCheck))
    @given(st.lists(STEPS, min_size=25, max_size=50))
    def holds(steps: list[tuple[Any, ...]]) -> None:
        async def run(url: str) -> None:
            store = await HotStore.open(url)
            try:
                world = Plant(store)
                for name, *arguments in steps:
                    await getattr(world, name)(*arguments)
                    await world.check()
                await world.check_histories()
            finally:
                await store.close()

        with fresh() as url:
            asyncio.run(run(url))

    holds()


@pytest.mark.timeout(600)
def test_i5_the_alarms_are_a_fold_of_both_histories_on_sqlite(tmp_path: Path) -> None:
    empty, used = tmp_path / "empty.sqlite", tmp_path / "used.sqlite"
    migrate(f"sqlite:///{empty}")

    @contextmanager
    def fresh() -> Iterator[str]:
        shutil.copy(empty, used)
        try:
            yield f"sqlite:///{used}"
        finally:
            for path in tmp_path.glob("used.sqlite*"):
                path.unlink()

    check(fresh, 0.4)


@pytest.mark.timeout(600)
def test_i5_the_alarms_are_a_fold_of_both_histories_on_postgresql(postgres: Any, migrated: str) -> None:
    @contextmanager
    def fresh() -> Iterator[str]:
        name = postgres.database(migrated)
        try:
            yield postgres.url(name)
        finally:
            postgres.drop(name)

    check(fresh, 0.1)

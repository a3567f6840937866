"""What waits for the API, without one: whole envelopes in order, and refills that read little at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alumicatalyst import _core
from alumicatalyst.lake import Lake
from alumicatalyst.lake.resume import Resume
from alumicatalyst.sinks import alerts_refill
from alumicatalyst.sinks.alerts_client import Gap
from alumicatalyst.sinks.alerts_condition import Condition
from alumicatalyst.sinks.alerts_held import Commit, Held
from alumicatalyst.sinks.alerts_lane import Lane
from alumicatalyst.sinks.alerts_refill import Wanted, refill
from alumicatalyst.sinks.alerts_rows import plain
from alumicatalyst.transitions import FIELDS, digest
from tests.lake import plant
from tests.lake.plant import PARTITION, START, table_schema
from tests.posting import Operator

if TYPE_CHECKING:
    from alumicatalyst.sinks.alerts_client import Kind


def latest(numbers: list[int]) -> pa.RecordBatch:
    """A batch of latest values, one for each number."""
    rows: list[dict[str, Any]] = [
        {
            "partition": PARTITION,
            "sequence_number": number,
            "item": at,
            "enqueued_time": START,
            "device": f"pot-{at}",
            "metric": "cell_voltage",
            "event_time": START,
            "value": float(number),
            "quality": 192,
        }
        for at, number in enumerate(numbers)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=table_schema("latest"))


OUTPUTS = st.lists(st.lists(st.integers(1, 4), max_size=6), max_size=8)
STEPS = st.lists(st.sampled_from(["offer", "post", "lost", "ahead", "shrink", "drop"]), max_size=40)


@given(outputs=OUTPUTS, steps=STEPS, rows_max=st.integers(1, 9), kind=st.sampled_from(["windows", "latest"]))
def test_i6_whatever_happens_a_lane_posts_whole_envelopes_in_order_and_loses_none_in_silence(
    outputs: list[list[int]], steps: list[str], rows_max: int, kind: Kind
) -> None:
    lane = Lane(kind, -1, -1, mark=-1, post_rows_max=rows_max)
    waiting, sent, has, missing, came = list(outputs), set[int](), -1, set[int](), set[int]()

    def post(*, answered: bool) -> None:
        nonlocal has
        if lane.blocked:
            return
        follows, last, batches = lane.next_post()
        assert follows <= last
        numbers = [number for batch in batches for number in batch.column("sequence_number").to_pylist()]
        assert all(follows < number <= last for number in numbers)
        assert set(numbers) == {number for number in came if follows < number <= last}, "every envelope, whole"
        if follows > has:
            lane.mark = has
            return
        sent.update(number for number in numbers if number > has)
        has = max(has, last)
        if answered:
            lane.taken(has, 0.0)

    for step in [*steps, *["offer"] * len(outputs)]:
        match step:
            case "offer" if waiting:
                steps_up = waiting.pop(0)
                numbers = [lane.last + sum(steps_up[: at + 1]) for at in range(len(steps_up))]
                last = max([lane.last + 1, *numbers])
                rows = latest(numbers[::-1] if kind == "latest" else numbers)
                came.update(numbers)
                lane.offer(lane.last, last, rows, 0.0)
            case "post" | "lost":
                post(answered=step == "post")
            case "ahead":
                # Another process was there before, up to somewhere in what waits.
                has = max(has, lane.last - 1)
                missing.update(number for number in came if number <= has and number not in sent)
            case "shrink":
                lane.shrink(lane.post_rows_max)
            case "drop":
                missing.update(number for number in came if lane.follows < number)
                lane.drop()
                assert lane.rows == lane.size == 0
        assert lane.rows == sum(entry.rows.num_rows for entry in lane.entries)
        assert lane.size == 0 if not lane.entries else lane.size > 0
    # What was dropped is seen as a gap, and only the lake can fill it.
    lane.taken(max(has, lane.follows), 0.0)
    has = max(has, lane.follows)
    while lane.follows < lane.last:
        post(answered=True)
    assert sent | missing == came


def test_a_post_of_latest_values_holds_the_newest_of_each_series() -> None:
    batches = [latest([1, 2, 3]), latest([4, 5]), latest([6])]
    table = plain("latest", batches)
    assert sorted(table.column("sequence_number").to_pylist()) == [3, 5, 6]
    assert not any(pa.types.is_dictionary(field.type) for field in table.schema)


def resume(**given: Any) -> Resume:
    usual: dict[str, Any] = {"mark": 100, "state_sequence": 90, "journal": (), "state_loss": False}
    return Resume(PARTITION, 1, **usual | given)


def test_i5_a_commit_is_told_when_the_api_has_its_alarms_and_nothing_is_in_doubt() -> None:
    held = Held.of(resume(), 0.0)
    asked = held.next_commit()
    assert asked is not None
    assert asked.asks
    held.on_confirmed(100)
    held.note(Commit(100, 130, 0, "", 1.0))
    assert held.next_commit() is None, "nobody knows yet how far the API is"
    held.on_taken("alarms", 130, 130, 1.0)
    held.on_taken("windows", 130, 100, 1.0)
    held.on_taken("latest", 100, 120, 1.0)
    assert held.next_commit() is None, "another process posted latest values up to 120"
    assert held.refill_range("latest") == (100, 120)
    held.on_refilled("latest", 120, 120, 2.0)
    told = held.next_commit()
    assert told is not None
    assert (told.follows, told.last) == (100, 130)


@pytest.mark.parametrize("kind", ["windows", "latest"])
@pytest.mark.parametrize("committed", [None, 60, 100])
def test_i5_what_another_process_posted_is_in_doubt_from_what_was_confirmed_on(
    kind: Kind, committed: int | None
) -> None:
    held = Held.of(resume(), 0.0)
    held.committed = committed
    # Between the start and the first contact the lake has gone on.
    held.note(Commit(100, 300, 0, "", 1.0))
    held.on_gap(kind, Gap(140, committed))
    assert held.refill_range(kind) == (committed or 100, 140)
    held.on_refilled(kind, 140, 140, 2.0)
    held.lanes[kind].offer(300, 310, latest([]), 0.0)
    assert held.refill_range(kind) == (140, 300), "and then what it lacks"


def test_i5_what_was_not_confirmed_is_in_doubt_however_far_the_lake_has_come() -> None:
    # A process that posted up to 140 ahead of a commit died, and so did the next one, which had committed up to 300.
    held = Held.of(resume(mark=300, state_sequence=300), 0.0)
    held.on_disputed(100)
    held.on_gap("windows", Gap(140, 100))
    assert held.refill_range("windows") == (100, 140)


def test_i5_a_dispute_ends_with_what_the_lake_had_when_it_arose_however_quickly_commits_follow() -> None:
    held = Held.of(resume(), 0.0)
    held.on_taken("windows", 100, 100, 0.0)
    held.on_taken("latest", 100, 100, 0.0)
    held.on_disputed(60)
    assert held.refill_range("alarms") == (60, 100)
    # Before the refill has ended, the lake and the flow's own posts have gone on.
    held.note(Commit(100, 130, 0, "", 1.0))
    held.on_taken("alarms", 140, 140, 1.0)
    held.on_refilled("alarms", 100, 140, 2.0)
    assert held.refill_range("alarms") is None
    told = held.next_commit()
    assert told is not None
    assert (told.follows, told.last) == (100, 130)


@pytest.mark.parametrize("lacks", ["some that were dropped", "those of the lake"])
def test_i5_alarms_come_from_the_lake_as_far_as_the_other_kinds_do_however_quickly_commits_follow(lacks: str) -> None:
    held = Held.of(resume(), 0.0)
    # Another process posted windows and latest values far ahead of what the lake has.
    others: tuple[Kind, ...] = ("windows", "latest")
    for kind in others:
        held.on_taken(kind, 100, 1_000, 0.0)
    if lacks == "those of the lake":
        held.on_disputed(60)
    else:
        held.lanes["alarms"].offer(300, 310, latest([]).slice(0, 0), 0.0)
        held.on_gap("alarms", Gap(60, 60))
    for sealed in range(100, 200, 20):
        for kind in others:
            # No refill ends before the next commit.
            held.note(Commit(held.sealed, held.sealed + 10, 0, "", 1.0))
            wanted = held.refill_range(kind)
            assert wanted is not None
            held.on_refilled(kind, wanted[1], 1_000, 2.0)
        wanted = held.refill_range("alarms")
        if wanted is not None:
            held.on_refilled("alarms", wanted[1], wanted[1], 2.0)
        if lacks == "those of the lake":
            held.on_taken("alarms", held.sealed, held.sealed, 2.0)
        while (told := held.next_commit()) is not None:
            held.on_confirmed(told.last)
        assert held.committed is not None
        assert sealed < held.committed < held.sealed, "behind by what came during the refills, and no more"


def test_i6_of_too_many_commits_only_the_newest_is_kept() -> None:
    held = Held.of(resume(), 0.0)
    for number in range(100, 100_000):
        held.note(Commit(number, number + 1, 0, "", 0.0))
    assert len(held.commits) <= 256
    assert held.commits[-1].last == 100_000


def test_a_digest_is_of_whole_transitions_whatever_their_order_and_batches() -> None:
    blank = dict.fromkeys(FIELDS) | {"onset_time": datetime.now(UTC), "event_time": datetime.now(UTC), "value": 0.0}
    rows = [blank | {"alarm_id": name, "step": step} for name in ("b" * 32, "a" * 32) for step in (10, 9, 0)]
    one = pa.RecordBatch.from_pylist(rows)
    two = [pa.RecordBatch.from_pylist(rows[::-1][part : part + 2]) for part in (0, 2, 4)]
    assert digest([one]) == digest(two)
    assert digest([one])[0] == 6
    other = pa.RecordBatch.from_pylist([*rows[:-1], rows[-1] | {"value": -0.0, "message": "another"}])
    assert digest([other])[1] != digest([one])[1], "the same steps with other contents"
    same = pa.RecordBatch.from_pylist([*rows[:-1], rows[-1] | {"value": -0.0}])
    assert digest([same]) == digest([one]), "some databases know one zero only"
    assert digest([]) == (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


# ---------------------------------------------------------------------- refills


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of two partitions, each of 400 envelopes in ten commits; nobody changes it."""
    lake = Lake.open(f"file:{tmp_path_factory.mktemp('refill') / 'lake'}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_core, "state_info", plant.state_info)
        for partition in (PARTITION, "telemetry/1/1"):
            plant.run(lake, 399, flush_every=40, partition=partition)
    return lake


@pytest.mark.parametrize("kind", ["alarms", "windows", "latest"])
@pytest.mark.parametrize(("after", "until"), [(-1, 399), (79, 319), (100, 399), (199, 199)])
@pytest.mark.parametrize("rows_max", [3, 40, 10_000])
def test_i5_a_refill_is_the_lakes_rows_in_posts_that_follow_one_another(
    kind, after, until, rows_max, lake, monkeypatch
):
    monkeypatch.setattr(alerts_refill, "READINGS_MAX", 10 * rows_max)
    posts = list(refill(lake, Wanted(kind, PARTITION, after, until), rows_max))
    assert posts[0].follows == after
    assert posts[-1].last == until
    assert all(one.last == two.follows for one, two in pairwise(posts))
    assert all(post.committed for post in posts)
    rows = [row for post in posts for row in post.table.to_pylist()]
    for post in posts:
        assert all(post.follows < row["sequence_number"] <= post.last for row in post.table.to_pylist())
    if kind == "latest":
        assert {row["sequence_number"]: row for row in rows}.keys() >= newest_of(lake, after, until)
        return
    assert all(post.table.num_rows <= rows_max for post in posts)
    stored = [row for row in plant.stored(lake)[kind] if row["partition"] == PARTITION]
    assert plant.sort(rows) == [row for row in stored if after < row["sequence_number"] <= until]


def newest_of(lake: Lake, after: int, until: int) -> set[int]:
    newest: dict[str, int] = {}
    for row in plant.stored(lake)["readings"]:
        if row["partition"] == PARTITION and after < row["sequence_number"] <= until:
            newest[row["device"]] = row["sequence_number"]
    return set(newest.values())


def test_a_refill_reads_only_the_files_of_its_range(lake, monkeypatch):
    looked_at: list[int] = []
    from alumicatalyst.lake.query import connect

    def counting(lake: Lake, contents: Any) -> Any:
        looked_at.append(len(contents["windows"].paths))
        return connect(lake, contents)

    monkeypatch.setattr(alerts_refill, "connect", counting)
    list(refill(lake, Wanted("windows", PARTITION, 340, 399), 100))
    list(refill(lake, Wanted("windows", PARTITION, -1, 399), 100))
    assert looked_at[0] <= 3
    assert looked_at[1] >= 10


def test_windows_that_the_api_would_remove_again_are_left_out(lake):
    since_us = int(START.timestamp() * 1e6) + 300_000_000
    rows = [
        row
        for post in refill(lake, Wanted("windows", PARTITION, -1, 399, since_us=since_us), 20)
        for row in post.table.to_pylist()
    ]
    stored = [row for row in plant.stored(lake)["windows"] if row["partition"] == PARTITION]
    assert rows
    assert plant.sort(rows) == [row for row in stored if row["window_end"].timestamp() * 1e6 >= since_us]


def test_latest_values_that_are_taken_back_uncover_older_ones(lake, monkeypatch):
    monkeypatch.setattr(alerts_refill, "READINGS_MAX", 150)
    posts = list(refill(lake, Wanted("latest", PARTITION, 395, 399, replaces=True), 100))
    assert 200 < posts[0].follows < 395
    assert posts[-1].last == 399
    assert len({row["device"] for post in posts for row in post.table.to_pylist()}) == 3


def test_what_comes_and_goes_is_logged_once(caplog):
    condition = Condition("tests")
    pauses = [condition.failed("timeout", "no answer") for _ in range(20)]
    assert pauses[0] < 0.1
    assert 2.0 < pauses[-1] <= 5.0
    for _ in range(20):
        condition.succeeded()
        condition.failed("timeout", "no answer")
    condition.failed("refused", "another key")
    condition.succeeded()
    said = [record.getMessage() for record in caplog.records]
    assert sum("api not served" in text for text in said) == 2, "timeout and refused"
    assert sum("api served again" in text for text in said) <= 2
    assert condition.failed("busy", "wait", retry_after_s=30.0) == 30.0


def test_an_operators_output_is_offered_as_it_is():
    output = Operator().take(0, 60)
    assert output.latest.num_rows == 3

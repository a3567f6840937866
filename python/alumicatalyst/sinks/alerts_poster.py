"""Decides what the API is sent next, and sends it: alarms first, then what is oldest; one post at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

from alumicatalyst import metrics
from alumicatalyst.errors import AlumicatalystError
from alumicatalyst.log import get_logger
from alumicatalyst.sinks.alerts_client import ApiFailure, Gap, Mismatch, Post, Taken
from alumicatalyst.sinks.alerts_condition import Condition
from alumicatalyst.sinks.alerts_held import KINDS
from alumicatalyst.sinks.alerts_refill import Wanted, refill
from alumicatalyst.sinks.alerts_rows import plain

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator

    import pyarrow as pa

    from alumicatalyst.lake import Lake
    from alumicatalyst.sinks.alerts_client import Client, Kind
    from alumicatalyst.sinks.alerts_held import Commit, Held
    from alumicatalyst.sinks.alerts_lane import Lane

    _Job = Callable[[], None]

LANE_PAUSE_S = 5.0
"""Pause of one kind after the API, or the lake, would not have or give its rows."""

REGAP_S = 1.0
"""Pause between a refill and one for the next gap: an API that forgets would have the lake read without end."""

_IDLE_S = 1.0

_log = get_logger(__name__)


@dataclass
class _Refill:
    """A refill under way: the posts to come, and the one that is not yet taken."""

    held: Held
    until: int
    posts: Generator[Post]
    post: Post | None = None
    rows: int = 0


class Poster:
    """One job at a time, for all partitions; used by the sink's thread alone.

    Args:
        client: The way to the API.
        lake: Where refills come from.
        held: The partitions; filled by the flow's threads.
        lock: Guards `held`; never held during a post.
        windows_s: Windows that ended longer ago are not refilled.
    """

    def __init__(
        self, client: Client, lake: Lake, held: dict[str, Held], lock: threading.Condition, windows_s: float
    ) -> None:
        self._client, self._lake, self._held, self._lock = client, lake, held, lock
        self._windows_s = windows_s
        self.condition = Condition("anything")
        self._conditions = {what: Condition(what) for what in (*KINDS, "commits")}
        self._paused_until = 0.0
        self._refills: dict[tuple[str, Kind], _Refill] = {}
        self._was_urgent = False

    def step(self, *, draining: bool = False) -> float:
        """Do one job. Return how long there is nothing to do, 0 if there may be more right now."""
        now = time.monotonic()
        if now < self._paused_until:
            return self._paused_until - now
        with self._lock:
            job, wait_s = self._choose(now, draining=draining)
        if job is None:
            return wait_s
        try:
            job()
        except ApiFailure as error:
            pause = self.condition.failed(
                error.reason, str(error), retry_after_s=error.retry_after_s, url=self._client.url
            )
            self._paused_until = time.monotonic() + pause
        return 0.0

    def close(self) -> None:
        """Let go of the lake and of the connection."""
        for each in list(self._refills):
            self._end_refill(each)
        self._client.close()

    def abort(self) -> None:
        """End the post that is under way; called by another thread."""
        self._client.abort()

    # ------------------------------------------------------------------ what next

    def _choose(self, now: float, *, draining: bool) -> tuple[_Job | None, float]:
        """Return the next job, or how long to wait for one."""
        urgent: list[tuple[float, _Job]] = []
        others: list[tuple[float, _Job]] = []
        for held in self._held.values():
            commit = held.next_commit()
            if commit is not None:
                # How far the API has come is asked first: what it says of the other kinds is understood by that.
                at = -1.0 if commit.asks else commit.at_s
                others.append((max(at, held.not_before_s), partial(self._tell, held, commit)))
            for kind, lane in held.lanes.items():
                range_ = held.refill_range(kind)
                if range_ is not None:
                    others.append((lane.not_before_s, partial(self._refill, held, kind, range_)))
                    continue
                due = held.due(kind, draining=draining)
                if due is not None:
                    place = urgent if kind == "alarms" and lane.rows else others
                    place.append((due, partial(self._post, held, lane)))
        return self._first_of(urgent, others, now)

    def _first_of(
        self, urgent: list[tuple[float, _Job]], others: list[tuple[float, _Job]], now: float
    ) -> tuple[_Job | None, float]:
        """Alternate between alarms and the rest where both are due, so that neither waits for more than one post."""
        for jobs in (others, urgent) if self._was_urgent else (urgent, others):
            if jobs and (first := min(jobs, key=itemgetter(0)))[0] <= now:
                self._was_urgent = jobs is urgent
                return first[1], 0.0
        return None, max(0.001, min((at for at, _ in (*urgent, *others)), default=now + _IDLE_S) - now)

    # ------------------------------------------------------------------ the jobs

    def _post(self, held: Held, lane: Lane) -> None:
        """Post what waits in a lane, or only how far the flow has come."""
        with self._lock:
            if lane.mark is None and lane.kind != "alarms":
                # This only asks: whatever the API has beyond the lake, another process posted, and may be a ghost. A
                # post of rows would hide it behind a mark of its own. Alarms have their digests.
                follows = last = held.sealed
                batches: list[pa.RecordBatch] = []
            else:
                follows, last, batches = lane.next_post()
        post = Post(lane.kind, held.partition, follows, last, plain(lane.kind, batches))
        try:
            answer = self._client.post(post)
        except ApiFailure as error:
            if not error.of_this_post:
                raise
            self._refused(lane, sum(batch.num_rows for batch in batches), error)
            return
        self._succeeded(lane.kind)
        with self._lock:
            if isinstance(answer, Taken):
                held.on_taken(lane.kind, last, answer.mark, time.monotonic())
            else:
                held.on_gap(lane.kind, answer)
                lane.not_before_s = lane.refilled_s + REGAP_S
        self._note(held)
        if isinstance(answer, Taken):
            metrics.ALERTS_ROWS.labels(lane.kind).inc(post.table.num_rows)
        else:
            _log.info("api behind", partition=held.partition, kind=lane.kind, mark=answer.mark, follows=follows)

    def _tell(self, held: Held, commit: Commit) -> None:
        """Tell the API of a commit of the lake."""
        try:
            answer = self._client.post_commit(
                held.partition, commit.follows, commit.last, commit.transitions, commit.sha256
            )
        except ApiFailure as error:
            if not error.of_this_post:
                raise
            held.not_before_s = self._lane_failed("commits", error.reason, error)
            return
        self._succeeded("commits")
        with self._lock:
            match answer:
                case Taken(mark):
                    held.on_confirmed(mark)
                case Gap(mark, committed):
                    held.on_disputed(mark if committed is None else committed)
                case Mismatch(committed):
                    held.on_disputed(committed)
        self._note(held)
        if isinstance(answer, Mismatch):
            _log.warning(
                "api holds other alarms than the lake",
                partition=held.partition,
                after=answer.committed,
                remedy="none needed: it is sent the lake's, and retracts the others",
            )
        elif isinstance(answer, Taken) and answer.mark > max(commit.last, held.sealed):
            _log.warning(
                "api is ahead of the lake",
                partition=held.partition,
                committed=answer.mark,
                mark=commit.last,
                remedy="if the lake was replaced by an older or a new one, empty the API's database: it fills again",
            )

    def _refill(self, held: Held, kind: Kind, range_: tuple[int, int]) -> None:
        """Send the next part of what the lake has and the API lacks."""
        name, lane = (held.partition, kind), held.lanes[kind]
        under_way = self._refills.get(name)
        if under_way is not None and under_way.held is not held:
            self._end_refill(name)
            under_way = None
        try:
            if under_way is None:
                since_us = int((time.time() - self._windows_s) * 1e6)
                wanted = Wanted(kind, held.partition, *range_, replaces=lane.doubt is not None, since_us=since_us)
                posts = refill(self._lake, wanted, lane.post_rows_max)
                under_way = self._refills[name] = _Refill(held, range_[1], posts)
            under_way.post = under_way.post or next(under_way.posts)
        except AlumicatalystError as error:
            self._end_refill(name)
            lane.refused = True
            lane.not_before_s = self._lane_failed(kind, "lake", error)
            return
        post = under_way.post
        try:
            answer = self._client.post(post)
        except ApiFailure as error:
            if not error.of_this_post:
                raise
            if error.reason == "too_large" and kind != "alarms" and lane.post_rows_max == 1:
                # One envelope made more rows than any post may have. The lake has them; the API goes on without.
                metrics.ALERTS_DROPPED_ROWS.labels(kind).inc(post.table.num_rows)
                under_way.post = replace(post, table=post.table.slice(0, 0))
                return
            self._end_refill(name)
            self._refused(lane, post.table.num_rows, error)
            return
        self._succeeded(kind)
        under_way.post = None
        now = time.monotonic()
        with self._lock:
            # Refills of several kinds and partitions take turns.
            lane.not_before_s = now
            if isinstance(answer, Taken):
                held.on_refilled(kind, post.last, answer.mark, now)
            else:
                held.on_gap(kind, answer)
            goes_on = held.refill_range(kind) is not None
        self._note(held)
        if isinstance(answer, Taken):
            metrics.ALERTS_REFILLED_ROWS.labels(kind).inc(post.table.num_rows)
            under_way.rows += post.table.num_rows
        if isinstance(answer, Gap) or post.last >= under_way.until or not goes_on:
            _log.info("api refilled", partition=held.partition, kind=kind, mark=lane.mark, rows=under_way.rows)
            self._end_refill(name)
            lane.refilled_s = now
            lane.not_before_s = now + REGAP_S * isinstance(answer, Gap)

    def _refused(self, lane: Lane, rows: int, error: ApiFailure) -> None:
        """Make smaller posts after one that was too large; leave the lane alone for a while after anything else."""
        with self._lock:
            if error.reason == "too_large" and lane.shrink(rows):
                return
            lane.refused = True
            skips = error.reason == "too_large" and lane.kind != "alarms" and bool(lane.entries)
            if skips:
                # As above: what cannot be posted whole is not posted.
                metrics.ALERTS_DROPPED_ROWS.labels(lane.kind).inc(lane.skip_first())
        until = self._lane_failed(lane.kind, error.reason, error)
        lane.not_before_s = 0.0 if skips else until

    def _lane_failed(self, what: str, reason: str, error: Exception) -> float:
        """Note a failure that says nothing about other posts; return until when to leave it alone."""
        pause = self._conditions[what].failed(reason, str(error), retry_after_s=LANE_PAUSE_S, url=self._client.url)
        return time.monotonic() + pause

    def _succeeded(self, what: str) -> None:
        metrics.ALERTS_LAST_SUCCESS_TIME_SECONDS.set_to_current_time()
        self.condition.succeeded()
        self._conditions[what].succeeded()

    def _end_refill(self, name: tuple[str, Kind]) -> None:
        under_way = self._refills.pop(name, None)
        if under_way is not None:
            under_way.posts.close()  # Which ends its database.

    def _note(self, held: Held) -> None:
        """Show how far the API is, and what waits."""
        with self._lock:
            marks: dict[str, int | None] = {kind: lane.mark for kind, lane in held.lanes.items()}
            marks["committed"] = held.committed
            waiting = {kind: sum(each.lanes[kind].rows for each in self._held.values()) for kind in held.lanes}
        for kind, mark in marks.items():
            if mark is not None:
                metrics.ALERTS_MARK.labels(held.partition, kind).set(mark)
        for kind, rows in waiting.items():
            metrics.ALERTS_QUEUE_ROWS.labels(kind).set(rows)

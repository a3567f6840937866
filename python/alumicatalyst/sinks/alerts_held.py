"""What is known of one partition on the API's side: its lanes, the lake's commits to be told, and what to refill."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from alumicatalyst.sinks.alerts_lane import Lane
from alumicatalyst.transitions import digest

if TYPE_CHECKING:
    from alumicatalyst.lake.resume import Resume
    from alumicatalyst.sinks.alerts_client import Gap, Kind

KINDS: Final[tuple[Kind, ...]] = ("alarms", "windows", "latest")

# Alarms never wait for company. The others gather a while: a post costs the API ten milliseconds, be it of one row or
# of a thousand, and alarms wait for the one that is under way.
PACE_S: Final[dict[Kind, float]] = {"alarms": 0.0, "windows": 0.25, "latest": 0.5}

MARK_S = 1.0
"""How long the API's marks may lag where there are no rows to post."""

ASK_S = 30.0
"""After so long without a post an idle partition asks whether the API still has it."""

COMMITS_MAX = 256
"""Commits of the lake that wait to be told; of more only the first and the newest, and then the API finds a gap."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of the lake: its range, the number and digest of its transitions, and when it was made."""

    follows: int
    last: int
    transitions: int
    sha256: str
    at_s: float

    @property
    def asks(self) -> bool:
        """Whether it covers nothing, and only asks how far the API has come."""
        return self.follows == self.last


@dataclass(slots=True)
class Held:
    """A partition in this process's hands, as far as the API is concerned.

    Attributes:
        claim: The claim under which its outputs come.
        begins: What comes follows this number at least: what lies before was given up.
        found: The lake's mark of `batches` when the partition was taken.
        sealed: The same now: a refill reads up to it.
        lanes: What waits, by kind.
        committed: Up to where the API has confirmed the partition; None: it has not said.
        commits: Those that the API was not told, in order.
        disputed: The API's alarms in (committed, disputed] are not those of the lake, or it lacks some. What is
            committed later is told as ever: a dispute over all that the lake has would not end while commits come
            quicker than refills.
        not_before_s: No commit is told earlier, as the API would not have the last one.
    """

    partition: str
    claim: int
    begins: int
    found: int
    sealed: int
    lanes: dict[Kind, Lane]
    committed: int | None = None
    commits: deque[Commit] = field(default_factory=deque)
    disputed: int = -1
    not_before_s: float = 0.0

    @classmethod
    def of(cls, resume: Resume, now_s: float) -> Held:
        """Begin where a process takes the partition, by asking how far the API is behind the lake."""
        given_up = max((row.after_sequence for row in resume.journal if row.kind == "state_loss"), default=-1)
        begins = max(given_up, resume.state_sequence)
        lanes = {kind: Lane(kind, begins, begins) for kind in KINDS}
        mark = resume.mark
        held = cls(resume.partition, resume.claim, begins, mark, mark, lanes)
        if mark >= 0:
            held.commits.append(Commit(mark, mark, *digest(()), now_s))
        return held

    @property
    def is_disputed(self) -> bool:
        """Whether only the lake's own alarms can be confirmed next."""
        return self.committed is not None and self.committed < self.disputed

    def note(self, commit: Commit) -> None:
        """Take in a commit of the lake."""
        self.sealed = max(self.sealed, commit.last)
        if len(self.commits) >= COMMITS_MAX:
            self.commits.pop()
        self.commits.append(commit)

    def due(self, kind: Kind, *, draining: bool) -> float | None:
        """Return when a lane's next post of its own is due; None: not before a refill, or anything comes."""
        lane = self.lanes[kind]
        if lane.blocked or max(lane.last, self.sealed) < 0 or (kind == "alarms" and lane.last < 0):
            return None
        if lane.mark is None or (draining and lane.last > lane.mark):
            due = 0.0  # The first contact, or the last.
        elif lane.last <= lane.mark:
            due = lane.answered_s + ASK_S
        elif kind == "alarms" and self.commits and lane.mark < self.commits[0].last:
            due = 0.0  # A commit can be told only when the API has its alarms, or knows that there are none.
        else:
            pace = 0.0 if lane.rows >= lane.post_rows_max else PACE_S[kind]
            due = (lane.since_s or 0.0) + (pace if lane.rows else MARK_S)
        return max(due, lane.not_before_s)

    def next_commit(self) -> Commit | None:
        """Return the commit to be told now.

        Not before the API has its alarms, as it would find some missing. And not before what another process has posted
        of the range ahead of a commit is read from the lake: what is confirmed is right for every kind, so that a later
        process need not look further back.
        """
        if not self.commits or self.is_disputed:
            return None
        commit = self.commits[0]
        if commit.asks:
            return commit
        mark = self.lanes["alarms"].mark
        return commit if mark is not None and commit.last <= min(mark, self._settled()) else None

    def refill_range(self, kind: Kind) -> tuple[int, int] | None:
        """Return what the API is to be sent from the lake now, as (after, until)."""
        lane = self.lanes[kind]
        if kind == "alarms":
            if not (lane.blocked or self.is_disputed):
                return None
            after = self.committed if self.committed is not None else lane.mark
            # As far as may be confirmed now, and in a dispute no further: the commits that follow are told.
            until = self._settled() if lane.blocked else min(self._settled(), self.disputed)
            return (after, until) if after is not None and after < until else None
        if lane.doubt is not None:
            after, until = lane.doubt
            if after < self.sealed:
                return after, min(until, self.sealed)
        if lane.mark is not None and lane.mark < min(lane.follows, self.sealed):
            return lane.mark, self.sealed
        return None

    def _settled(self) -> int:
        """Return up to where the API has the lake's windows and latest values, whoever else had posted some."""
        others = [lane for kind, lane in self.lanes.items() if kind != "alarms" and not lane.refused]
        if any(lane.mark is None for lane in others):
            return -1
        return min([self.sealed, *(lane.doubt[0] for lane in others if lane.doubt is not None)])

    def on_taken(self, kind: Kind, posted: int, mark: int, now_s: float) -> None:
        """The API took a post of the flow's own up to `posted`, and has come to `mark`."""
        lane = self.lanes[kind]
        if lane.mark is None or mark > posted:
            self._doubt(lane, mark)
        lane.taken(mark, now_s)

    def _doubt(self, lane: Lane, mark: int) -> None:
        """Note that another process posted up to a mark, and nobody knows whether the lake has or will have that.

        So it is at the first contact with whatever was not confirmed. Alarms have their digests for this.
        """
        after, until = self.found if self.committed is None else self.committed, mark
        if lane.doubt is not None:
            after, until = min(after, lane.doubt[0]), max(until, lane.doubt[1])
        lane.doubt = (after, until) if after < until and lane.kind != "alarms" else None

    def on_refilled(self, kind: Kind, until: int, mark: int, now_s: float) -> None:
        """The API took what the lake has up to `until`."""
        lane = self.lanes[kind]
        if kind == "alarms":
            self.on_confirmed(until)
        elif lane.doubt is not None:
            lane.doubt = None if until >= lane.doubt[1] else (max(until, lane.doubt[0]), lane.doubt[1])
        lane.taken(max(mark, until), now_s)

    def on_confirmed(self, committed: int) -> None:
        """The API holds what the lake does through `committed`, so all commits up to there are told."""
        self.committed = committed
        while self.commits and self.commits[0].last <= committed:
            self.commits.popleft()

    def on_disputed(self, committed: int) -> None:
        """The API holds something else after `committed`: it is sent what the lake has by now."""
        self.committed = committed
        self.commits.clear()
        self.disputed = self.sealed

    def on_gap(self, kind: Kind, gap: Gap) -> None:
        """The API lacks what a post followed."""
        lane = self.lanes[kind]
        if lane.mark is None:
            self._doubt(lane, gap.mark)
        lane.mark, lane.refused = gap.mark, False
        if kind == "alarms":
            self.committed = gap.committed if gap.committed is not None else self.committed

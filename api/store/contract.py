"""What the hot store takes and gives: filters, pages, marks, changes and keys, as plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from datetime import datetime

Kind = Literal["alarms", "windows", "latest"]
State = Literal["active_unacked", "active_acked", "cleared_unacked", "normal"]
Priority = Literal["low", "medium", "high", "critical"]
Scope = Literal["ingest", "read", "operate"]

KINDS: tuple[Kind, ...] = ("alarms", "windows", "latest")
STATES: tuple[State, ...] = ("active_unacked", "active_acked", "cleared_unacked", "normal")
PRIORITIES: tuple[Priority, ...] = ("low", "medium", "high", "critical")
SCOPES: tuple[Scope, ...] = ("ingest", "read", "operate")

LIMIT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a post.

    Attributes:
        mark: Last sequence number stored of the partition and kind; of a commit, the last one confirmed.
        accepted: Rows that were new; of a commit, alarms that it confirmed.
    """

    mark: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Marks:
    """Last sequence numbers of a partition: stored of each kind, and confirmed by the lake; -1 for none."""

    partition: str
    alarms: int
    windows: int
    latest: int
    committed: int


@dataclass(frozen=True, slots=True)
class AlarmFilter:
    """Which alarms to list; an empty filter lists all that are not retracted.

    Attributes:
        states: Any of these states; empty: any state.
        priorities: Any of these priorities; empty: any priority.
        asset: An asset path and everything below it, by segment.
        device: Exactly this device.
        metric: Exactly this metric.
        rule: Exactly this alarm rule.
        start: Raised at this time or later.
        end: Raised before this time.
        text: Is part of the message, device, asset or rule; ASCII letters of either case are the same.
        provisional: Only those that the lake has not confirmed yet, or only those that it has.
    """

    states: frozenset[State] = frozenset()
    priorities: frozenset[Priority] = frozenset()
    asset: str | None = None
    device: str | None = None
    metric: str | None = None
    rule: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    text: str | None = None
    provisional: bool | None = None


@dataclass(frozen=True, slots=True)
class SeriesFilter:
    """Which series' latest values to list."""

    device: str | None = None
    metric: str | None = None


@dataclass(frozen=True, slots=True)
class WindowFilter:
    """Which windows to list: of a series or definition, with a start at `start` or later and before `end`."""

    device: str | None = None
    metric: str | None = None
    window_name: str | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list.

    Attributes:
        items: JSON-ready rows; times are RFC 3339 texts with microseconds and Z.
        next: Cursor of the following part, or None at the end.
    """

    items: list[dict[str, Any]]
    next: str | None


@dataclass(frozen=True, slots=True)
class Position:
    """Which changes there are.

    A reader that has seen `n` can go on iff `oldest - 1 <= n <= newest`; else it has to load the list anew.

    Attributes:
        oldest: First seq that is retained; newest + 1 when none is.
        newest: Last seq given out, 0 for none.
    """

    oldest: int
    newest: int


@dataclass(frozen=True, slots=True)
class Change:
    """An alarm as it was after the change `seq`."""

    seq: int
    alarm: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, without its secret.

    Attributes:
        id: Its public part.
        name: Who holds it: the actor of what is done with it.
        sha256: Digest of the whole key.
        scopes: What it opens.
        created: When it was made.
        expires: When it ends, or None.
        revoked: When it was revoked, or None.
    """

    id: str
    name: str
    sha256: bytes
    scopes: frozenset[Scope]
    created: datetime
    expires: datetime | None
    revoked: datetime | None


@dataclass(frozen=True, slots=True)
class Retention:
    """How long the hot store keeps what the lake keeps for good.

    Attributes:
        windows_days: Windows, by their end.
        changes_days: Changes, by when they were published.
        changes_max: Changes at most, whatever their age.
        alarms_days: Alarms that are normal, with their histories, by when they became so.
        answers_days: Answers kept for idempotency keys.
    """

    windows_days: float = 7.0
    changes_days: float = 2.0
    changes_max: int = 1_000_000
    alarms_days: float = 90.0
    answers_days: float = 2.0

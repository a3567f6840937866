"""An alarm as the fold over what the process and the operators did to it; pure, and the same in any order.

`with_transition` takes one more transition of the process, wherever it belongs among those it already took, so that
most posts extend the alarm that is stored instead of reading its whole history. Each step is taken at most once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

RETRACTED = "retracted"
CLEARED = "cleared"


class Transition(NamedTuple):
    """One row of the lake's table `alarms`; times in microseconds since 1970."""

    alarm_id: str
    step: int
    partition: str
    sequence_number: int
    item: int
    enqueued_time: int
    transition: str
    device: str
    metric: str
    asset: str | None
    alarm_rule: str
    priority: str
    onset_time: int
    event_time: int
    value: float
    threshold: float | None
    peak: float
    score: float | None
    message: str


class Acknowledgement(NamedTuple):
    """What an operator did: who, when, and the comment."""

    actor: str
    time: int
    comment: str


class Alarm(NamedTuple):
    """The fold; its fields are columns of the table `alarms`.

    Attributes:
        first_step: The lowest step taken: 0, or the lowest known.
        step: The highest step taken, which says whether the alarm is active, and all that it shows.
        sequence_last: The greatest sequence number taken: above what the lake has confirmed, the alarm is provisional.
    """

    alarm_id: str
    partition: str
    device: str
    metric: str
    asset: str | None
    alarm_rule: str
    priority: str
    message: str
    onset_time: int
    raised_time: int
    cleared_time: int | None
    value: float
    threshold: float | None
    peak: float
    score: float | None
    first_step: int
    step: int
    sequence_last: int
    acknowledged_by: str | None
    acknowledged_time: int | None
    comment: str | None


def of_transition(row: Transition, by: Acknowledgement | None = None) -> Alarm:
    """Return the alarm of which only this transition is known."""
    return Alarm(
        row.alarm_id,
        row.partition,
        row.device,
        row.metric,
        row.asset,
        row.alarm_rule,
        row.priority,
        row.message,
        row.onset_time,
        row.event_time,
        row.event_time if row.transition == CLEARED else None,
        row.value,
        row.threshold,
        row.peak,
        row.score,
        row.step,
        row.step,
        row.sequence_number,
        *(by or (None, None, None)),
    )


def with_transition(alarm: Alarm, row: Transition) -> Alarm:
    """Return an alarm with a transition of a step that it has not taken yet."""
    sequence_last = max(alarm.sequence_last, row.sequence_number)
    if row.step > alarm.step:
        return Alarm(
            alarm.alarm_id,
            alarm.partition,
            row.device,
            row.metric,
            row.asset,
            row.alarm_rule,
            row.priority,
            row.message,
            alarm.onset_time,
            alarm.raised_time,
            row.event_time if row.transition == CLEARED else None,
            row.value,
            row.threshold,
            row.peak,
            row.score,
            alarm.first_step,
            row.step,
            sequence_last,
            alarm.acknowledged_by,
            alarm.acknowledged_time,
            alarm.comment,
        )
    if row.step < alarm.first_step:
        return alarm._replace(
            onset_time=row.onset_time,
            raised_time=row.event_time,
            first_step=row.step,
            sequence_last=sequence_last,
        )
    return alarm._replace(sequence_last=sequence_last)


def with_acknowledgement(alarm: Alarm, by: Acknowledgement) -> Alarm:
    """Return an alarm with an operator's acknowledgement; the first one stands."""
    if alarm.acknowledged_by is not None:
        return alarm
    return alarm._replace(acknowledged_by=by.actor, acknowledged_time=by.time, comment=by.comment)


def fold(transitions: Iterable[Transition], acknowledgements: Iterable[Acknowledgement]) -> Alarm | None:
    """Return the alarm of these histories, or None without any transition.

    Args:
        transitions: Of one alarm, each step once, in any order.
        acknowledgements: Of that alarm, in order of arrival.
    """
    alarm: Alarm | None = None
    for row in transitions:
        alarm = of_transition(row) if alarm is None else with_transition(alarm, row)
    if alarm is not None:
        for by in acknowledgements:
            alarm = with_acknowledgement(alarm, by)
    return alarm


def state_of(alarm: Alarm) -> str:
    """Return the state of an alarm (ISA-18.2) that is not retracted."""
    if alarm.cleared_time is None:
        return "active_unacked" if alarm.acknowledged_by is None else "active_acked"
    return "cleared_unacked" if alarm.acknowledged_by is None else "normal"


def allowed_in(state: str) -> tuple[str, ...]:
    """Return what an operator may do to an alarm in a state."""
    return ("acknowledge",) if state in {"active_unacked", "cleared_unacked"} else ()

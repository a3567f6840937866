"""What the API gives, as OpenAPI describes it."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.store import State

_EXAMPLE: Final[dict[str, Any]] = {
    "alarm_id": "5f0c8a4e1b7d92c36a0e4d18f2b7c951",
    "state": "active_unacked",
    "active": True,
    "acknowledged": False,
    "priority": "high",
    "device": "pot-017",
    "metric": "cell_voltage",
    "asset": "reduction/line-1/pot-017",
    "alarm_rule": "HH",
    "message": "anode effect: cell_voltage 31.2 V, above 8 V",
    "onset_time": "2026-01-31T06:00:02.000000Z",
    "raised_time": "2026-01-31T06:00:05.000000Z",
    "cleared_time": None,
    "value": 31.2,
    "threshold": 8.0,
    "peak": 31.2,
    "score": 14.5,
    "step": 0,
    "partition": "telemetry/1795256130123/0",
    "provisional": True,
    "retracted": False,
    "seq": 4211,
    "acknowledged_by": None,
    "acknowledged_time": None,
    "comment": None,
}
AlarmId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class Answer(BaseModel):
    """Something that the API gives: exactly these members."""

    model_config = ConfigDict(extra="forbid")


class Alarm(Answer):
    """An alarm: the fold over what the process and the operators did."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    alarm_id: AlarmId = Field(description="The identity everywhere: in the lake, here and in streams.")
    state: State = Field(description="ISA-18.2: active or cleared, acknowledged or not; normal: cleared and acked.")
    active: bool = Field(description="Whether the condition stands.")
    acknowledged: bool
    priority: str
    device: str
    metric: str
    asset: str | None = Field(description="The asset's path; null for a device that the dictionary does not name.")
    alarm_rule: str = Field(description="The rule's name in the data dictionary.")
    message: str
    onset_time: datetime = Field(description="Event time at which the condition began to stand.")
    raised_time: datetime = Field(description="Event time at which its delay was over.")
    cleared_time: datetime | None
    value: float = Field(description="The reading's value, in the metric's unit.")
    threshold: float | None = Field(description="The rule's limit; null for a state.")
    peak: float = Field(description="The most extreme value, rate or score so far.")
    score: float | None = Field(description="The reading's score, if it had one.")
    step: int = Field(description="How many transitions came before the newest.")
    partition: str
    provisional: bool = Field(description="Whether the lake is not known to hold its newest transition yet.")
    retracted: bool = Field(
        default=False, description="Whether the lake holds none of its transitions: it never was. Not in lists."
    )
    seq: int = Field(description="The number of its newest change in /v1/stream.")
    acknowledged_by: str | None = Field(description="The name of the key that acknowledged it.")
    acknowledged_time: datetime | None
    comment: str | None


class AlarmPage(Answer):
    """A part of a list of alarms."""

    items: list[Alarm]
    next: str | None = Field(description="The cursor of the following part; null at the end.")


class ProcessEntry(Answer):
    """What the process did to an alarm: a transition, as the lake has it."""

    side: Literal["process"]
    seq: int = Field(description="The number of the change that it made.")
    time: datetime = Field(description="When the API took it.")
    actor: Literal["process"]
    action: Literal["raised", "updated", "cleared"]
    step: int
    event_time: datetime = Field(description="When it happened in the plant.")
    partition: str
    sequence_number: int = Field(description="Of the envelope that caused it.")
    item: int = Field(description="The reading's place in its envelope.")
    value: float
    threshold: float | None
    peak: float
    score: float | None
    priority: str
    message: str
    retracted: bool = Field(description="Whether the lake turned out not to hold it.")
    retracted_seq: int | None
    retracted_time: datetime | None


class OperatorEntry(Answer):
    """What an operator did to an alarm."""

    side: Literal["operator"]
    seq: int = Field(description="The number of the change that it made.")
    time: datetime = Field(description="When the API took it.")
    actor: str = Field(description="The name of the key.")
    action: Literal["acknowledge"]
    comment: str


class History(Answer):
    """An alarm's history, in order of arrival."""

    items: list[Annotated[ProcessEntry | OperatorEntry, Field(discriminator="side")]]
    next: None = Field(description="Always null: a history comes whole.")


class Series(Answer):
    """The newest value of a series."""

    device: str
    metric: str
    event_time: datetime
    value: float
    quality: int = Field(description="OPC quality; 192 is good.")
    partition: str
    sequence_number: int
    item: int
    enqueued_time: datetime


class SeriesPage(Answer):
    """A part of a list of series."""

    items: list[Series]
    next: str | None = Field(description="The cursor of the following part; null at the end.")


class Window(Answer):
    """A closed window with its statistics; undefined ones are null."""

    device: str
    metric: str
    window_name: str
    window_start: datetime
    window_end: datetime
    closed_by: str
    count: int
    mean: float | None
    min: float | None
    max: float | None
    first: float | None
    last: float | None
    std: float | None
    first_time: datetime
    last_time: datetime
    slope_per_s: float | None
    score_max: float | None
    partition: str
    sequence_number: int
    item: int
    enqueued_time: datetime


class WindowPage(Answer):
    """A part of a list of windows."""

    items: list[Window]
    next: str | None = Field(description="The cursor of the following part; null at the end.")


class Accepted(Answer):
    """What became of a post of the sink."""

    model_config = ConfigDict(json_schema_extra={"example": {"mark": 42_000, "accepted": 17}})

    mark: int = Field(description="The last sequence number taken of this partition and kind.")
    accepted: int = Field(description="How many rows were new.")


class Health(Answer):
    """That the process runs, or that it can serve."""

    status: Literal["ok"]

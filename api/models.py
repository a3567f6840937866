"""What the API takes and gives, as OpenAPI describes it."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from api.store import LIMIT_MAX, State

INT64_MAX: Final = 2**63 - 1
_RFC_3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(\.\d+)?(?:([Zz])|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)
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


def parse_time(value: object) -> object:
    """Read an RFC 3339 time with an offset, and nothing looser: a time without one would be somebody's guess."""
    if not isinstance(value, str):
        return value
    found = _RFC_3339.fullmatch(value)
    if not found:
        raise ValueError("it is no RFC 3339 time with an offset, such as 2026-01-31T06:00:00Z")
    date, minute, second, fraction, zulu, sign, hours, minutes = found.groups()
    micros = (fraction or ".0")[1:7].ljust(6, "0")
    # A leap second is the first of the next minute here, as in most clocks.
    leap = second == "60"
    try:
        time = datetime.fromisoformat(f"{date}T{minute}:{'59' if leap else second}.{micros}+00:00")
        offset = timedelta() if zulu else timedelta(hours=int(hours), minutes=int(minutes))
        time += timedelta(seconds=int(leap)) + (offset if sign == "-" else -offset)
    except (ValueError, OverflowError):
        raise ValueError("there is no such time") from None
    return time.astimezone(UTC)


def _no_text(value: object) -> object:
    if isinstance(value, str | bool):
        raise ValueError("it is no number")  # noqa: TRY004 - what pydantic takes for an error of the input
    return value


Time = Annotated[
    datetime, BeforeValidator(parse_time), WithJsonSchema({"type": "string", "format": "date-time"}, mode="validation")
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Text = Annotated[str, StringConstraints(max_length=1_000)]
Partition = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[!-~]+$")]
Cursor = Annotated[str, StringConstraints(min_length=1, max_length=1_024, pattern=r"^[!-~]+$")]
AlarmId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Sequence = Annotated[int, Field(ge=-1, le=INT64_MAX)]
# As JSON has integers: 5 and 5.0, neither "5" nor true.
_WHOLE: Final = BeforeValidator(_no_text)
Priority = Literal["low", "medium", "high", "critical"]


class Answer(BaseModel):
    """Something that the API gives: exactly these members."""

    model_config = ConfigDict(extra="forbid")


class Request(BaseModel):
    """Something that the API takes: a member that it does not know is refused, as it would be a misspelt one."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class Acknowledge(Request):
    """An operator's acknowledgement."""

    model_config = ConfigDict(json_schema_extra={"example": {"comment": "anode effect quenched"}})

    comment: Text = Field(default="", description="What the operator has to say, up to 1000 characters.")


class Commit(Request):
    """What the lake holds of a partition since the last confirmation."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "partition": "telemetry/1795256130123/0",
                "follows": 41_000,
                "last": 42_000,
                "transitions": 2,
                "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            }
        }
    )

    partition: Partition
    follows: Annotated[Sequence, _WHOLE] = Field(description="The lake's mark before.")
    last: Annotated[Sequence, _WHOLE] = Field(description="The lake's mark now.")
    transitions: Annotated[int, Field(ge=0, le=INT64_MAX), _WHOLE] = Field(
        description="How many transitions of alarms the lake holds with a sequence number in (follows, last]."
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description='SHA-256 of their lines "alarm_id step\\n", sorted by both.'
    )


# A parameter that may be left out, and cannot be null.
_Left = SkipJsonSchema[None]


class IngestQuery(Request):
    """Which rows a posted table holds."""

    partition: Partition = Field(description="The source partition that every row is of.")
    follows: Sequence = Field(description="The last sequence number before these rows; -1 for none.")
    last: Sequence = Field(description="The last sequence number that the rows cover.")
    committed: bool = Field(
        default=False, description="A refill: the rows are exactly what the lake holds in (follows, last]."
    )


class PageQuery(Request):
    """Which part of a list."""

    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = Field(default=100, description="Items in the answer at most.")
    cursor: Cursor | _Left = Field(
        default=None,
        description="`next` of the former answer, with the same filters.",
        json_schema_extra={"format": "cursor"},
    )


class AlarmQuery(PageQuery):
    """Which alarms."""

    state: list[State] = Field(default=[], max_length=4, description="Any of these states.")
    priority: list[Priority] = Field(default=[], max_length=4, description="Any of these priorities.")
    asset: Name | _Left = Field(default=None, description="This asset path, and everything below it.")
    device: Name | _Left = Field(default=None, description="Exactly this device.")
    metric: Name | _Left = Field(default=None, description="Exactly this metric.")
    rule: Name | _Left = Field(default=None, description="The alarm rule's name.")
    from_: Time | _Left = Field(default=None, alias="from", description="Raised at this time or later.")
    to: Time | _Left = Field(default=None, description="Raised before this time.")
    text: Name | _Left = Field(default=None, description="Is part of the message, device, asset or rule.")
    provisional: bool | _Left = Field(
        default=None, description="Only those that the lake has not confirmed, or only those that it has."
    )


class SeriesQuery(PageQuery):
    """Which series."""

    device: Name | _Left = Field(default=None, description="Exactly this device.")
    metric: Name | _Left = Field(default=None, description="Exactly this metric.")


class WindowQuery(PageQuery):
    """Which windows."""

    device: Name | _Left = Field(default=None, description="Exactly this device.")
    metric: Name | _Left = Field(default=None, description="Exactly this metric.")
    window_name: Name | _Left = Field(
        default=None, description="The definition, such as 10s, 5min/1min, session/10min."
    )
    from_: Time | _Left = Field(default=None, alias="from", description="Starts at this time or later.")
    to: Time | _Left = Field(default=None, description="Starts before this time.")

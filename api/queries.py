"""What the API takes: bodies and queries, each with what OpenAPI says of it."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from api.store import LIMIT_MAX, State

INT64_MAX: Final = 2**63 - 1
_RFC_3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(\.\d+)?(?:([Zz])|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)


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
Sequence = Annotated[int, Field(ge=-1, le=INT64_MAX)]
# As JSON has integers: 5 and 5.0, neither "5" nor true.
_WHOLE: Final = BeforeValidator(_no_text)
Priority = Literal["low", "medium", "high", "critical"]


class Request(BaseModel):
    """Something that the API takes: a member that it does not know is refused, as it would be a misspelt one."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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

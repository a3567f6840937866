"""Microseconds since 1970 (UTC), as the database holds times, and the texts and clocks on either side of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 -- naive, so that its text has no offset; Z is put behind it.
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
DAY_US = 86_400_000_000

# What RFC 3339 can say: the years 1 to 9999.
EARLIEST = (datetime.min.replace(tzinfo=UTC) - _EPOCH_UTC) // _MICROSECOND
LATEST = (datetime.max.replace(tzinfo=UTC) - _EPOCH_UTC) // _MICROSECOND


def text_of(time: int) -> str:
    """Return a time as RFC 3339 with microseconds and Z."""
    return (_EPOCH + timedelta(microseconds=time)).isoformat(timespec="microseconds") + "Z"


def maybe_text_of(time: int | None) -> str | None:
    """Return a time as RFC 3339, or None for none."""
    return None if time is None else text_of(time)


def texts_of(times: Sequence[int | None]) -> list[str | None]:
    """Return many times as RFC 3339, at a fifth of the cost of one at a time."""
    numbers = np.array([0 if time is None else time for time in times], "datetime64[us]")
    texts: list[str] = np.datetime_as_string(numbers, timezone="UTC").tolist()
    return [None if time is None else text for time, text in zip(times, texts, strict=True)]


def datetime_of(time: int) -> datetime:
    """Return a time as an aware datetime."""
    return _EPOCH_UTC + timedelta(microseconds=time)


def number_of(time: datetime) -> int:
    """Return an aware datetime as microseconds."""
    return (time - _EPOCH_UTC) // _MICROSECOND


def now() -> int:
    """Return the system time."""
    return number_of(datetime.now(UTC))

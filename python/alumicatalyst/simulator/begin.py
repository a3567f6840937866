"""Where a simulation begins: at a given time, now, or so long ago that all that is wanted of it is past."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from alumicatalyst.errors import InputError
from alumicatalyst.simulator.plan import SECOND_US

if TYPE_CHECKING:
    from alumicatalyst.simulator.plant import Compiled

_DAY_S = 86_400


def start_us(
    start: str, speed: float, seconds: float | None, readings: int | None, compiled: Compiled, scale: float
) -> int:
    """Return the first event time: as given, now for real time, else so early that all that is wanted is past."""
    now = datetime.now(UTC).replace(microsecond=0)
    if start:
        try:
            given = datetime.fromisoformat(start)
        except ValueError:
            given = None
        if given is None or given.tzinfo is None:
            raise InputError(f"couldn't read --start: {start!r}; write a time with its offset, as 2026-01-31T06:00:00Z")
        return round((given - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
    if speed == 1.0:
        back = 0.0
    elif seconds is not None:
        back = seconds + 1.0
    elif readings is not None:
        metrics = compiled["metrics"]
        rate = sum(SECOND_US / (metrics[s["metric"]]["every_us"] or 30 * SECOND_US) for s in compiled["series"])
        # Some more than needed: packs end late, and a fault can take readings away.
        back = 1.2 * readings / (rate * scale) + 60.0
    else:
        back = _DAY_S
    return int((now.timestamp() - back) // 1) * SECOND_US


def midnight_us(compiled: Compiled, seconds: float | None) -> int:
    """Return the latest midnight at the plant since which all that is wanted, a day unless given, is past."""
    zone = ZoneInfo(compiled["time_zone"])
    latest = datetime.now(UTC) - timedelta(seconds=_DAY_S if seconds is None else seconds)
    local = latest.astimezone(zone)
    return int(local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) * SECOND_US


def history_us(history: str, speed: float, start: str) -> int:
    """Return how long ago a run begins whose past is sent at once."""
    if not history:
        return 0
    found = re.fullmatch(r"(\d{1,9})(s|min|h|d)", history)
    if found is None:
        raise InputError(f"couldn't read --history: {history!r}; write a whole number and s, min, h or d, as 30min")
    if speed == 0 or start:
        raise InputError(
            f"couldn't send a history of {history}: with --start, at speed 0 or to a file everything is sent at once; "
            "leave --history out, or give --speed 1 without --start"
        )
    return int(found[1]) * {"s": 1, "min": 60, "h": 3600, "d": 86_400}[found[2]] * SECOND_US

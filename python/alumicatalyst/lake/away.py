"""How long the lake has been away: one warning when it stays away, one when it is back, and a metric in between."""

from __future__ import annotations

import threading
import time
import weakref
from datetime import UTC, datetime, timedelta

from alumicatalyst import metrics
from alumicatalyst.lake.fault import first_line, remedy
from alumicatalyst.log import get_logger

AWAY_AFTER_S = 5.0
"""A store that fails for less is not worth a word: the next attempt nearly always does it."""

_log = get_logger(__name__)

_known: weakref.WeakSet[Away] = weakref.WeakSet()


class Away:
    """What fails of one lake, and since when; several threads commit to its tables."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since_s: dict[str, float] = {}
        self._told = False
        _known.add(self)
        metrics.LAKE_AWAY_SECONDS.set_function(_longest_s)

    def failed(self, what: str, error: BaseException) -> None:
        """Something failed, and will be tried again."""
        with self._lock:
            self._since_s.setdefault(what, time.monotonic())
            seconds = self._seconds()
            if self._told or seconds < AWAY_AFTER_S:
                return
            self._told = True
        _log.warning(
            "lake away",
            what=what,
            since=(datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds"),
            error=first_line(error),
            remedy=remedy(error) or "see that the store can be reached",
        )

    def answered(self, what: str) -> None:
        """The same thing has worked."""
        with self._lock:
            if what not in self._since_s:
                return
            seconds = self._seconds()
            del self._since_s[what]
            if self._since_s or not self._told:
                return
            self._told = False
        _log.warning("lake back", what=what, seconds=round(seconds, 1))

    def given_up(self, what: str) -> None:
        """It is not tried any more; whoever tried says so."""
        with self._lock:
            self._since_s.pop(what, None)
            self._told = self._told and bool(self._since_s)

    def seconds(self) -> float:
        """Return how long something has been failing, 0 if nothing is."""
        with self._lock:
            return self._seconds()

    def _seconds(self) -> float:
        return time.monotonic() - min(self._since_s.values()) if self._since_s else 0.0


def _longest_s() -> float:
    return max((each.seconds() for each in list(_known)), default=0.0)

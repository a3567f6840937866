"""How posting goes, for the log and the metrics: a line when it changes, a longer pause after each failure."""

from __future__ import annotations

import random
import time
from typing import Any

from alumicatalyst import metrics
from alumicatalyst.log import get_logger

PAUSE_FIRST_S, PAUSE_MAX_S = 0.05, 5.0
"""Pauses after failures in a row double from the first to the longest, each shortened by chance, so that many flows
do not come back to an API at once."""

LOG_EVERY_S = 60.0
"""What comes and goes is logged once in this time."""

_REMEDY = "mend or start the API; the flow goes on, and what the API misses comes from the lake"

_log = get_logger(__name__)


class Condition:
    """Whether posts succeed; whatever happens in between, the log gets one line for each change.

    Args:
        of: What it is that is posted, for the log.

    Attributes:
        failures: Failures since the last success.
    """

    def __init__(self, of: str) -> None:
        self.failures = 0
        self._of = of
        self._shown: dict[str, float] = {}
        self._failing: dict[str, bool] = {}

    def failed(self, reason: str, text: str, *, retry_after_s: float = 0.0, **more: Any) -> float:
        """Note a failure and return how long to pause."""
        metrics.ALERTS_ERRORS.labels(reason).inc()
        self.failures += 1
        now = time.monotonic()
        if reason not in self._failing:
            shown = now - self._shown.get(reason, -LOG_EVERY_S) >= LOG_EVERY_S
            self._failing[reason] = shown
            if shown:
                self._shown[reason] = now
                _log.warning("api not served", of=self._of, reason=reason, error=text, remedy=_REMEDY, **more)
        pause: float = min(PAUSE_MAX_S, PAUSE_FIRST_S * 2 ** min(self.failures - 1, 20))
        return max(retry_after_s, pause * random.uniform(0.5, 1.0))  # noqa: S311 jitter

    def succeeded(self) -> None:
        """Note a success."""
        if self._failing and any(self._failing.values()):
            _log.info("api served again", of=self._of, failures=self.failures)
        self._failing.clear()
        self.failures = 0

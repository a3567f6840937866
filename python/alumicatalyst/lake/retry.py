"""How long a store that fails is tried again: by patience rather than by number, and not at all where none helps."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from alumicatalyst.errors import AlumicatalystError, LakeError
from alumicatalyst.lake.away import Away
from alumicatalyst.lake.fault import first_line, hopeless, remedy, retry_after_s
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 600.0
ATTEMPTS_MIN = 4
"""Attempts that are made even when the first of them took longer than all patience."""

ATTEMPTS_WHILE_DRAINING_MAX = 4
RETRY_AFTER_MAX_S = 30.0
"""A store that asks to be left alone is, up to here."""

_PAUSE_FIRST_S = 0.02
_PAUSE_MAX_S = 5.0
_PAUSE_CONFLICT_MAX_S = 1.0
_PAUSE_POLL_S = 0.05

_log = get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retry:
    """How long something is tried again.

    Attributes:
        patience_s: For how long failures in a row are put up with.
        draining: Says whether the process is asked to stop: then only a few more attempts are made, without pauses.
        away: Told of what fails.
    """

    patience_s: float = PATIENCE_S
    draining: Callable[[], bool] = lambda: False
    away: Away = field(default_factory=Away, compare=False)

    def attempts(self, what: str) -> Attempts:
        """Begin to try something; threads that try the same thing at once count as one."""
        return Attempts(self, what)

    def call(self, what: str, act: Callable[[], T]) -> T:
        """Do something that may be done twice until it works.

        Raises:
            AlumicatalystError: `act` raised one: trying again does not help.
            LakeError: The store failed for longer than there is patience.
        """
        attempts = self.attempts(what)
        for _ in attempts:
            try:
                done = act()
            except AlumicatalystError:
                raise
            except Exception as error:  # noqa: BLE001 whatever the storage libraries raise
                attempts.failed(error)
                continue
            attempts.worked()
            return done
        raise attempts.error(what)


class Attempts:
    """Attempts at one thing: iterate over them, and say how each has ended."""

    def __init__(self, retry: Retry, what: str) -> None:
        self._retry = retry
        self._what = what
        self._failure: Exception | None = None
        self._since_s = 0.0
        self._failures = 0
        self._conflicts = 0
        self._left_while_draining = ATTEMPTS_WHILE_DRAINING_MAX
        self._pause_s = 0.0
        self._given_up = False

    def __iter__(self) -> Iterator[int]:
        """Yield attempt numbers, with a pause before each but the first."""
        try:
            for attempt in itertools.count():
                yield attempt
                if self._given_up:
                    return
                self._pause()
        finally:
            self._retry.away.given_up(self._what)

    def worked(self) -> None:
        """The last attempt did it."""
        self._retry.away.answered(self._what)

    def conflict(self) -> None:
        """What looked like a failure was somebody else who came first: the store works."""
        self.worked()
        self._conflicts += 1
        self._failures, self._left_while_draining = 0, ATTEMPTS_WHILE_DRAINING_MAX

    def failed(self, error: Exception) -> None:
        """The last attempt failed, for whatever reason."""
        now = time.monotonic()
        self._failure = error
        if self._failures == 0:
            self._since_s = now
        self._failures += 1
        self._retry.away.failed(self._what, error)
        _log.debug("tried again", what=self._what, failures=self._failures, error=first_line(error))
        if self._retry.draining():
            self._left_while_draining -= 1
        self._given_up = (
            (now - self._since_s >= self._retry.patience_s and self._failures >= ATTEMPTS_MIN)
            or self._left_while_draining <= 0
            or hopeless(error) is not None
        )
        longest_s = _PAUSE_MAX_S if self._failures > 1 else _PAUSE_CONFLICT_MAX_S
        doubled = min(self._failures + self._conflicts, 16)
        jittered_s = min(longest_s, _PAUSE_FIRST_S * 2**doubled) * random.random()  # noqa: S311 jitter
        self._pause_s = max(min(retry_after_s(error) or 0.0, RETRY_AFTER_MAX_S), jittered_s)

    def error(self, what: str) -> LakeError:
        """Return the error of having given up, which says what failed last and what to do about it."""
        failure = self._failure
        if failure is None:
            raise RuntimeError(f"{what} was given up without a failure")
        seconds = time.monotonic() - self._since_s
        tried = f" for {seconds:.0f} s" if seconds >= 1 else ""
        error = LakeError(
            f"couldn't {what}{tried}: {first_line(failure)}; nothing is lost: {remedy(failure) or 'mend the store'} "
            "and start again, the process resumes from the last marks"
        )
        error.__cause__ = failure
        return error

    def _pause(self) -> None:
        until = time.monotonic() + self._pause_s
        while not self._retry.draining() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _PAUSE_POLL_S))

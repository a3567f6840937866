"""The ledger's process: looks at the lake now and then, appends what is new, and publishes it in one group."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from alumicatalyst.errors import AlumicatalystError, LakeError
from alumicatalyst.lake.fault import first_line
from alumicatalyst.ledger.follow import Follower
from alumicatalyst.ledger.log import LogReader, LogWriter
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from alumicatalyst.lake.store import Store
    from alumicatalyst.ledger.follow import Found
    from alumicatalyst.ledger.place import Place

PAUSE_MAX_S: Final = 30.0
ATTEMPTS_ONCE_MAX: Final = 5
"""Looks at a store that fails before a single run gives up."""

# Storage libraries raise what they like when a store fails, but these only come from a mistake in a program.
_DEFECTS: Final = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError)

_log = get_logger(__name__)


class Ledger:
    """Signs the commits of one lake.

    Args:
        place: The ledger's files.
        open_store: Opens the lake's store; tried again while it fails.
        interval_s: Seconds between two looks.
        accept_unkept: See `LogWriter`.

    Example:
        >>> Ledger(place, lambda: open_store("file:var/lake"), interval_s=1.0).run(once=True)
    """

    def __init__(
        self, place: Place, open_store: Callable[[], Store], *, interval_s: float, accept_unkept: bool = False
    ) -> None:
        self._place = place
        self._open_store = open_store
        self._interval_s = interval_s
        self._accept_unkept = accept_unkept
        self._follower: Follower | None = None
        self._failures = 0

    def run(self, stop: threading.Event | None = None, *, once: bool = False) -> int:
        """Look until told to stop, and once more then; return the number of entries signed.

        Args:
            stop: Set by whoever wants it to end.
            once: End when nothing is new.

        Raises:
            ClaimLost: Another process signs this log.
            LedgerError: The log, its key or the lake is not what was signed.
            LakeError: A single run could not read the lake.
        """
        stop = stop or threading.Event()
        signed = 0
        with LogWriter(
            self._place.folder, self._place.signing_key(), self._place.kept, accept_unkept=self._accept_unkept
        ) as writer:
            _log.info("ledger opened", folder=str(self._place.folder), origin=self._place.origin, size=writer.size)
            while True:
                last = once or stop.is_set()
                found = self._look(last=last, once=once)
                if found is not None and found.entries:
                    # One group (I7): the tiles are durable before the checkpoint over all of them is signed.
                    writer.append(found.entries)
                    checkpoint = writer.publish()
                    signed += len(found.entries)
                    _log.info(
                        "ledger published",
                        entries=len(found.entries),
                        size=checkpoint.size,
                        lag_s=round(found.lag_s, 3),
                    )
                if found is not None and found.more:
                    continue
                if last and (found is not None or not once):
                    break
                stop.wait(self._interval_s if found is not None else self._pause_s())
        _log.info("ledger closed", entries=signed)
        return signed

    def _look(self, *, last: bool, once: bool) -> Found | None:
        """Return what is new; None if the store failed, which skips nothing: the next look begins where this did."""
        try:
            if self._follower is None:
                follower = Follower(self._open_store(), LogReader(self._place.folder))
                follower.check()
                self._follower = follower
            found = self._follower.look()
        except _DEFECTS:
            raise
        except Exception as error:
            # A lake that says why it cannot be opened is waited for by a process, and told to whoever asked once.
            if isinstance(error, AlumicatalystError) and (once or not isinstance(error, LakeError)):
                raise
            self._failures += 1
            if once and self._failures >= ATTEMPTS_ONCE_MAX:
                raise LakeError(
                    f"couldn't read the lake for the ledger: {first_line(error)}; mend the store and start again, "
                    "nothing is skipped"
                ) from error
            _log.warning(
                "lake not read",
                error=first_line(error),
                failures=self._failures,
                remedy="it is not tried again, the next start goes on here"
                if last and not once
                else "it is tried again",
            )
            return None
        self._failures = 0
        return found

    def _pause_s(self) -> float:
        return min(PAUSE_MAX_S, self._interval_s * (1 << min(self._failures, 16)))

"""Maintenance beside the flow: a thread of its process that takes the lease now and then, and does what is due.

It has its own handles on the tables, so it holds no lock that a flush waits for but for the moment of a commit; it
sorts with one thread at a low priority, in bounded memory; and what it was at when it is stopped is simply left.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from alumicatalyst.errors import ClaimLost
from alumicatalyst.lake.fault import first_line
from alumicatalyst.lake.lake import Lake
from alumicatalyst.log import get_logger
from alumicatalyst.maintenance.lease import Lease, Stopped
from alumicatalyst.maintenance.maintain import Limits, maintain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from alumicatalyst.settings import Settings

_NICENESS: Final = 10

_log = get_logger(__name__)


class Schedule:
    """Runs maintenance every so often, on a thread of its own, until it is closed.

    Args:
        open_lake: Opens the lake anew, for handles of its own; given what says that nothing shall be tried for long.
        signed: Returns the last version of each table that the ledger has signed, given the lake.
        limits: How much and how long.
        interval_s: Seconds from the end of one round to the next; the first comes after one interval, too.

    Example:
        >>> schedule = Schedule.of(settings)
        >>> schedule.start()
        >>> schedule.close()
    """

    def __init__(
        self,
        open_lake: Callable[[Callable[[], bool]], Lake],
        signed: Callable[[Lake], Mapping[str, int] | None],
        limits: Limits,
        *,
        interval_s: float,
    ) -> None:
        self._open_lake = open_lake
        self._signed = signed
        self._limits = limits
        self._interval_s = interval_s
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Return what the settings ask for; None if they ask for none."""
        if settings.maintenance.interval_s <= 0:
            return None
        from alumicatalyst.ledger.cursor import cursor
        from alumicatalyst.ledger.place import Place

        def signed(lake: Lake) -> Mapping[str, int] | None:
            if settings.maintenance.without_ledger:
                return None
            return cursor(lake, Place.of(settings.ledger).folder)

        return cls(
            lambda closed: Lake.open(
                settings.lake.uri,
                credential=settings.lake.credential,
                draining=closed,
                create=False,
                patience_s=settings.lake.patience_s,
            ),
            signed,
            Limits.of(settings.maintenance),
            interval_s=settings.maintenance.interval_s,
        )

    def start(self) -> None:
        """Start the thread. It is no daemon: one that runs native code while Python ends aborts the process."""
        self._thread = threading.Thread(target=self._run, name="maintenance")
        self._thread.start()

    def close(self) -> None:
        """Stop what is being done at its next step, and wait for it."""
        self._closed.set()
        with self._lock:
            if self._lease is not None:
                self._lease.stop()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        # On Linux a priority belongs to a thread. Where it cannot be lowered, maintenance is only less polite.
        if hasattr(os, "setpriority"):
            try:
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
            except OSError as error:
                _log.debug("priority not lowered", error=str(error))
        while not self._closed.wait(self._interval_s):
            self.round()

    def round(self) -> None:
        """Do what is due, unless another process is at it; a failure is told, and the next round tries again."""
        started = time.monotonic()
        try:
            lake = self._open_lake(self._closed.is_set)
            lease = Lease(lake)
            with self._lock:
                self._lease = lease
                if self._closed.is_set():
                    lease.stop()
            with lease:
                done = maintain(lake, lease, self._limits, signed=lambda: self._signed(lake))
        except ClaimLost as error:
            _log.debug("maintenance left to another process", reason=str(error))
        except Stopped:
            _log.info("maintenance stopped", remedy="the next round goes on")
        except Exception as error:  # noqa: BLE001 whatever it was, the flow goes on
            _log.warning("maintenance failed", error=first_line(error), remedy="the next round tries again")
        else:
            _log.info(
                "maintained",
                seconds=round(time.monotonic() - started, 1),
                expired=sum(each.total for each in done.expired),
                compacted=sum(each.files_before for each in done.compacted),
                vacuumed=sum(each.files for each in done.vacuumed),
                trimmed=sum(each.commits for each in done.trimmed),
            )
        finally:
            with self._lock:
                self._lease = None

"""The lease of a lake's maintenance: of several processes that would tidy, one does, and the others say who.

It saves work and nothing rests on it, nor on any clock. Two processes that both believe they hold it, one of which
slept, say, do no harm: a compaction is committed on a snapshot on which every file that it replaces is still live, and
vacuum deletes what nobody can commit any more (see `compact` and `vacuum`). Still, every commit of maintenance carries
the lease's number as the transaction `claim/maintenance`, and is refused on a snapshot that has a higher one, so that a
holder that slept stops at its first commit after its successor's.

A lease is the object `_lease/maintenance/<number>`. Whoever creates the next number has it; numbers only rise. Its age
is the time since the holder last wrote it, by the store's clock on both ends.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from alumicatalyst.errors import AlumicatalystError, ClaimLost
from alumicatalyst.lake import tables
from alumicatalyst.lake.fault import first_line
from alumicatalyst.lake.table import CLAIM_PREFIX
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.store import Store
    from alumicatalyst.lake.table import Snapshot

FOLDER: Final = "_lease"
WHAT: Final = "maintenance"
EXPIRES_S: Final = 90.0
"""A lease that its holder has not written for so long may be taken."""

HEARTBEAT_S: Final = 15.0

_NUMBERS: Final = f"{FOLDER}/{WHAT}"
_CLOCK: Final = f"{FOLDER}/clock"

_log = get_logger(__name__)


class Stopped(AlumicatalystError):
    """Maintenance was asked to stop; what it was at is left as it is, which harms nothing."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, as the lease tells it.

    Attributes:
        number: Its number.
        owner: Host and process.
        since: When it was taken, by the holder's clock.
        released: Whether it was given back.
    """

    number: int
    owner: str
    since: str
    released: bool

    def data(self) -> bytes:
        """Return the bytes of the lease's object."""
        return json.dumps({"owner": self.owner, "since": self.since, "released": self.released}).encode()

    @classmethod
    def parse(cls, number: int, data: bytes) -> Self:
        """Read a lease; one that cannot be read is held by nobody who is known, until it expires."""
        try:
            told: Any = json.loads(data)
            return cls(number, str(told["owner"]), str(told["since"]), told["released"] is True)
        except (ValueError, TypeError, KeyError):
            return cls(number, "an unknown process", "an unknown time", released=False)


class Lease:
    """The lease while this process holds it: renewed by a thread of its own, given back at the end.

    Args:
        lake: The lake.
        expires_s: Seconds after which a lease that was not renewed may be taken.

    Raises:
        ClaimLost: Another process holds it; the message says which and since when.

    Example:
        >>> with Lease(lake) as lease:
        ...     compact(lake, lease)
    """

    def __init__(self, lake: Lake, *, expires_s: float = EXPIRES_S) -> None:
        self._store = lake.store
        self._lost: str | None = None
        self._ended = threading.Event()
        self._stopped = threading.Event()
        self._interrupt: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._holder = _take(lake, expires_s)
        self.number = self._holder.number

    def __enter__(self) -> Self:
        """Begin to renew it."""
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back, so that nobody has to wait until it expires."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if kind is None or issubclass(kind, Exception):
            self.release()

    def release(self) -> None:
        """Give it back; where the store fails, it expires."""
        if self._lost is None:
            try:
                given = Holder(self.number, self._holder.owner, self._holder.since, released=True)
                self._store.put(_path(self.number), given.data())
            except Exception as failure:  # noqa: BLE001 whatever it is, the lease ends by itself
                _log.debug("lease not given back", number=self.number, error=first_line(failure))

    def renew(self) -> None:
        """Write it again, and see that nobody has taken the next one.

        Raises:
            ClaimLost: Somebody has.
        """
        newest = _newest(self._store)
        if newest is not None and newest[0] > self.number:
            self._lost = f"lease {newest[0]} was taken after ours, {self.number}"
        self.check()
        self._store.put(_path(self.number), self._holder.data())

    def stop(self) -> None:
        """Ask whoever works under it, in another thread, to stop at its next step; what lasts long is interrupted."""
        with self._lock:
            self._stopped.set()
            if self._interrupt is not None:
                self._interrupt()

    @contextmanager
    def interruptible(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Have `stop` call this while the block runs."""
        with self._lock:
            self._interrupt = interrupt
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._interrupt = None

    def check(self) -> None:
        """See that the work may go on; called between any two of its steps.

        Raises:
            Stopped: It shall end.
            ClaimLost: The lease is known to be lost.
        """
        if self._stopped.is_set():
            raise Stopped
        self._check_lost()

    def wait(self, seconds: float) -> None:
        """Wait, and see that the work may go on.

        Raises:
            Stopped: It shall end.
            ClaimLost: The lease is known to be lost.
        """
        self._stopped.wait(seconds)
        self.check()

    def check_on(self, snapshot: Snapshot) -> None:
        """Raise ClaimLost if a successor has committed: the fence of a holder that slept."""
        found = snapshot.claim(WHAT)
        if found > self.number:
            self._lost = f"lease {found} has committed, ours is {self.number}"
        self._check_lost()

    def transactions(self) -> dict[str, int]:
        """Return what every commit of maintenance carries."""
        return {CLAIM_PREFIX + WHAT: self.number}

    def now_s(self) -> float:
        """Return the time by the store's clock, in seconds since 1970."""
        self.check()
        return now_s(self._store)

    def _check_lost(self) -> None:
        if self._lost is not None:
            raise ClaimLost(f"couldn't go on with maintenance: {self._lost}; the other process does it")

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            try:
                self.renew()
            except ClaimLost:
                return  # The next check tells whoever works.
            except Exception as failure:  # noqa: BLE001 a store that fails now may answer the next time
                _log.debug("lease not renewed", number=self.number, error=first_line(failure))


def holder(store: Store) -> Holder | None:
    """Return who has the newest lease, whether it has expired or not; None if there never was one."""
    newest = _newest(store)
    if newest is None:
        return None
    try:
        return Holder.parse(newest[0], store.get(_path(newest[0])))
    except FileNotFoundError:
        return None


def now_s(store: Store) -> float:
    """Return the time by the store's clock: when it has written an object just now."""
    store.put(_CLOCK, b"")
    for path, _, modified_s in store.modified(FOLDER):
        if path == _CLOCK:
            return modified_s
    return time.time()  # Listed late; no decision that matters rests on it.


def today(lease: Lease | None) -> date:
    """Return the date by which days are counted: the store's, as a maintainer's own clock may be wrong.

    Args:
        lease: The lease; None for a dry run, which asks its own clock and changes nothing.
    """
    return datetime.fromtimestamp(time.time() if lease is None else lease.now_s(), UTC).date()


def _take(lake: Lake, expires_s: float) -> Holder:
    store = lake.store
    newest = _newest(store)
    number = 0
    if newest is not None:
        number = newest[0]
        found = holder(store)
        # A lease of the future was written before the store's clock was set back: a living holder writes it again.
        if found is not None and not found.released and abs(now_s(store) - newest[1]) < expires_s:
            raise ClaimLost(
                f"couldn't start maintenance: {found.owner} has been at it since {found.since} (lease {number}); wait "
                f"for it, or, if it is gone, {expires_s:.0f} seconds from its last sign"
            )
    # Beyond what any table has seen, too: leases that were removed by hand must not fence us off for ever.
    for name in tables.SPECS:
        number = max(number, lake.table(name).refresh().claim(WHAT))
    owner = f"{socket.gethostname()} process {os.getpid()} ({uuid.uuid4().hex[:8]})"
    taken = Holder(number + 1, owner, datetime.now(UTC).isoformat(timespec="seconds"), released=False)
    # A name that is taken may be taken by ourselves, in a request whose answer was lost: it says whose it is.
    won = store.create_if_absent(_path(taken.number), taken.data()) or store.get(_path(taken.number)) == taken.data()
    newest = _newest(store)
    if newest is not None and newest[0] > taken.number:
        won = False
    if not won:
        raise ClaimLost(f"couldn't start maintenance: another process took lease {taken.number} just now; it does it")
    for path, _ in list(store.list(_NUMBERS)):
        if _number(path) is not None and path < _path(taken.number):
            store.delete(path)
    return taken


def _newest(store: Store) -> tuple[int, float] | None:
    found = [(number, at_s) for path, _, at_s in store.modified(_NUMBERS) if (number := _number(path)) is not None]
    return max(found, default=None)


def _number(path: str) -> int | None:
    name = path.rpartition("/")[2]
    return int(name) if len(name) == 20 and name.isdigit() else None


def _path(number: int) -> str:
    return f"{_NUMBERS}/{number:020d}"

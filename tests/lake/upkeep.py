"""What the tests of maintenance stand on: a store that does something at a chosen write, and rows to compare."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import Lake, tables
from alumicatalyst.maintenance.compact import compact
from alumicatalyst.maintenance.trim import trim
from alumicatalyst.maintenance.vacuum import vacuum
from tests.lake import plant
from tests.lake.faults import Killed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from alumicatalyst.lake.store import Store

NAMES = ("readings",)


class Hooked:
    """A store that calls `act` before or after its n-th write; `writes` counts them."""

    def __init__(self, store: Store, at: int = -1, act: Callable[[], None] | None = None, *, after: bool = False):
        self._store, self._at, self._act, self._after = store, at, act, after
        self.writes = 0
        self._lock = threading.Lock()
        self.root = store.root

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, path: str, data: bytes) -> None:
        self._write(lambda: self._store.put(path, data))

    def create_if_absent(self, path: str, data: bytes) -> bool:
        made: bool = self._write(lambda: self._store.create_if_absent(path, data))
        return made

    def delete(self, path: str) -> None:
        self._write(lambda: self._store.delete(path))

    def _write(self, write: Callable[[], Any]) -> Any:
        # A partition is claimed on several tables at once.
        with self._lock:
            here = self.writes == self._at and self._act is not None
            self.writes += 1
        if here and not self._after:
            self._call()
        done = write()
        if here and self._after:
            self._call()
        return done

    def _call(self) -> None:
        assert self._act is not None
        act, self._act = self._act, None  # What it does may write through this store, too.
        act()


class NoLease:
    """Stands in for the lease: it stops nobody, so that what is tested is safe without it."""

    number = 1

    def __init__(self, clock_s: float | None = None) -> None:
        self._clock_s = clock_s

    def check(self) -> None: ...

    def check_on(self, snapshot: Any) -> None: ...

    def wait(self, seconds: float) -> None: ...

    def transactions(self) -> dict[str, int]:
        return {"claim/maintenance": self.number}

    def now_s(self) -> float:
        import time

        return time.time() if self._clock_s is None else self._clock_s

    @contextmanager
    def interruptible(self, interrupt: Callable[[], None]) -> Iterator[None]:
        yield


def unleased() -> Any:
    return NoLease()


def open_hooked(folder: Path, store: Store | None = None) -> Lake:
    """Open a lake through a store."""
    lake = Lake.open(str(folder))
    return lake if store is None else Lake(store, lake.retry)


def copy(folder: Path, to: Path) -> Path:
    if to.exists():
        shutil.rmtree(to)
    shutil.copytree(folder, to)
    return to


def squeeze(lake: Lake, names: Sequence[str] = NAMES, lease: Any = None) -> None:
    compact(lake, lease or unleased(), names, files_min=2)


def sweep(lake: Lake, names: Sequence[str] = NAMES, signed: dict[str, int] | None = None, lease: Any = None) -> None:
    vacuum(lake, lease or unleased(), names, signed=signed, days=0)


def cut(lake: Lake, names: Sequence[str] = NAMES, signed: dict[str, int] | None = None, lease: Any = None) -> None:
    trim(lake, lease or unleased(), names, signed=signed, days=0, age_s_min=0, known_s=0)


DEEDS: dict[str, Callable[[Lake], None]] = {"compact": squeeze, "vacuum": sweep, "trim": cut}


def rows(lake: Lake, names: Sequence[str] = NAMES) -> dict[str, Counter[str]]:
    """Return every row with its locators, as a multiset for each table."""
    return {name: Counter(map(repr, plant.scan(lake, name).iter_rows())) for name in names}


def assert_whole(lake: Lake) -> None:
    """Every live file is in the store with its size, and every version's commit in the log or an archive, once."""
    from alumicatalyst.lake import archive

    listed = dict(lake.store.list(""))
    for name in tables.SPECS:
        table = lake.table(name)
        with table.lock:
            version = table.refresh().version
            files = table.files()
        for path, action in files.items():
            assert listed.get(f"{name}/{path}") == action["size"], f"{name}/{path} is part of the table and gone"
        kept = archive.Archive(lake.store, name)
        for each in range(version + 1):
            in_log = f"{name}/_delta_log/{each:020d}.json" in listed
            archived = kept.get(each)
            assert in_log or archived is not None, f"{name}@{each} is gone"
            if in_log and archived is not None:
                assert lake.store.get(f"{name}/_delta_log/{each:020d}.json") == archived


def kill() -> None:
    raise Killed


def fail() -> None:
    raise OSError("the connection was reset")


def survive(do: Callable[[], None]) -> bool:
    """Do something that may be killed or fail; return whether it came to its end."""
    try:
        do()
    except (Killed, LakeError):
        return False
    return True

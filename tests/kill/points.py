"""The diary of a child, and the named points at which it is killed or paused: around every write of the lake.

A point is "commit:batches after 2": the n-th call of a name (after: that has come to pass), and where in it.

    before, after   beside the call
    inside          where the call leaves half of a file (a local store only)
    during          at a random moment of the call, or shortly behind it: nobody knows what became of it
    pause           the child stops itself before the call, as one that is paged out; SIGCONT lets it go on

Names are those of what is written: `put`, `create` (of a state or dictionary), `delete`, `log` (a commit file),
`checkpoint`, `last_checkpoint`, each with `:` and the folder; `commit`, `claim` or the operation around the whole
commit of a table; `post` and `refill` for what is posted to the API; `trim` for what is removed from a log.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DURING_S = 0.006
"""How long a call takes at most, more or less: that of a store in the network does a few milliseconds."""


def die() -> NoReturn:
    """As if the power went: nothing is closed, nothing is written."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit("unreachable")


class Diary:
    """What the process did, written so that a kill cannot take it back."""

    def __init__(self, path: str, point: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._calls: dict[str, int] = {}
        self._lock = threading.Lock()
        self.sealed: dict[str, int] = {}  # Marks in the table that is committed last.
        self.name, self.place, number = point.split(" ") if point else ("", "", "0")
        self.number = int(number)

    def note(self, **what: Any) -> None:
        os.write(self._file, (json.dumps(what) + "\n").encode())

    def around(self, name: str, call: Callable[[], Any]) -> Any:
        """Make a call, or die before or after it."""
        with self._lock:
            self._calls[name] = self._calls.get(name, 0) + 1
            due = name == self.name and self._calls[name] == self.number
        if due:
            self._reach(name)
        try:
            result = call()
        except Exception:
            self.note(event="failed", name=name)
            if due and self.place == "after":
                # Another process may have been quicker: behind the next one, then.
                self.number += 1
            raise
        self.note(event="done", name=name)
        if due and self.place == "after":
            self.note(event="killed", at=name)
            die()
        return result

    def _reach(self, name: str) -> None:
        if self.place == "before":
            self.note(event="killed", at=name)
            die()
        if self.place == "during":
            self.note(event="killed", at=name)
            timer = threading.Timer(random.uniform(0, DURING_S), die)
            timer.daemon = True
            timer.start()
        if self.place == "pause":
            self.note(event="paused", at=name)
            os.kill(os.getpid(), signal.SIGSTOP)

    def is_inside(self, name: str) -> bool:
        """Whether the next call of this name is to be cut short in its middle."""
        return name == self.name and self.place == "inside" and self._calls.get(name, 0) == self.number


def instrument(diary: Diary) -> None:
    """Put the points around the lake's writes and the posts to the API, and note what is cut at marks."""
    from alumicatalyst.lake.adls import AdlsStore
    from alumicatalyst.lake.store import LocalStore
    from alumicatalyst.lake.table import Table

    commit = Table.commit

    def commit_at(self: Table, snapshot: Any, actions: Any, transactions: Any, *rest: Any, **options: Any) -> Any:
        operation = options.get("operation", rest[1] if len(rest) > 1 else "WRITE")
        kind = "commit" if actions else "claim"
        if operation != "WRITE":
            kind = str(operation).lower().replace(" ", "-")
        result = diary.around(
            f"{kind}:{self.name}", lambda: commit(self, snapshot, actions, transactions, *rest, **options)
        )
        if self.name == "batches":
            diary.sealed |= snapshot.transactions | transactions
        return result

    Table.commit = commit_at  # type: ignore[method-assign]
    for store in (LocalStore, AdlsStore):
        _around_writes(diary, store)
    _inside_writes(diary, LocalStore)
    _around_posts(diary)
    _note_cuts(diary)


def name_of(verb: str, path: str) -> str:
    """Return how the write of an object is named."""
    folder, _, rest = path.partition("/")
    if not rest.startswith("_delta_log/"):
        return f"{verb}:{folder}"
    if rest.endswith("_last_checkpoint"):
        return f"last_checkpoint:{folder}"
    if verb == "delete":
        return f"trim:{folder}"
    return f"{'log' if rest.endswith('.json') else 'checkpoint'}:{folder}"


def _around_writes(diary: Diary, store: Any) -> None:
    put, create, delete = store.put, store.create_if_absent, store.delete

    def put_at(self: Any, path: str, *rest: Any, **options: Any) -> Any:
        return diary.around(name_of("put", path), lambda: put(self, path, *rest, **options))

    def create_at(self: Any, path: str, *rest: Any, **options: Any) -> Any:
        return diary.around(name_of("create", path), lambda: create(self, path, *rest, **options))

    def delete_at(self: Any, path: str, *rest: Any, **options: Any) -> Any:
        return diary.around(name_of("delete", path), lambda: delete(self, path, *rest, **options))

    store.put, store.create_if_absent, store.delete = put_at, create_at, delete_at


def _inside_writes(diary: Diary, store: Any) -> None:
    write_temporary = store._write_temporary

    def write_half(self: Any, target: Path, data: bytes) -> Path:
        path = target.relative_to(self.root).as_posix()
        for name in {name_of("put", path), name_of("create", path)}:
            if diary.is_inside(name):
                write_temporary(self, target, data[: len(data) // 2])
                diary.note(event="killed", at=f"half of {name}")
                die()
        made: Path = write_temporary(self, target, data)
        return made

    store._write_temporary = write_half


def _around_posts(diary: Diary) -> None:
    from alumicatalyst.sinks.alerts_client import Client

    call, tell = Client.post, Client.post_commit

    def post_at(self: Client, post: Any) -> Any:
        return diary.around(f"{'refill' if post.committed else 'post'}:{post.kind}", lambda: call(self, post))

    def tell_at(self: Client, partition: str, *rest: Any) -> Any:
        return diary.around("post:commits", lambda: tell(self, partition, *rest))

    Client.post, Client.post_commit = post_at, tell_at  # type: ignore[method-assign, assignment]


def _note_cuts(diary: Diary) -> None:
    """Note the rows of a flush that a table had already: how many at most were cut, once the flush is sealed."""
    from alumicatalyst.lake.buffer import Buffer
    from alumicatalyst.lake.tables import ROW_TABLES

    rows_after, committed = Buffer.rows_after, Buffer.committed
    cut: dict[tuple[int, str], int] = {}

    def rows_after_at(self: Buffer, table: str, mark: int) -> Any:
        kept = rows_after(self, table, mark)
        there = sum(getattr(output, table).num_rows for output in self.outputs)
        cut[id(self), table] = max(cut.get((id(self), table), 0), there - sum(each.num_rows for each in kept))
        return kept

    def committed_at(self: Buffer) -> None:
        found = {table: cut.pop((id(self), table), 0) for table in ROW_TABLES}
        if any(found.values()):
            diary.note(event="cut", partition=self.resume.partition, rows=found)
        committed(self)

    Buffer.rows_after, Buffer.committed = rows_after_at, committed_at  # type: ignore[method-assign]

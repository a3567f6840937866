"""A process that runs the flow on a log of the tests, tells what it does, and kills itself at a named point.

`python -m tests.kill.child RUNNER` with the product's own settings in the environment, and KILL_CHILD in JSON:

    logs      file of the partitions' logs (pickle: partition -> envelopes); "" for the source that the settings name
    diary     file to which each step is appended; it outlives the process
    point     where to die, as "commit:batches after 2": before, inside or after the n-th of these calls; "" lives on
    quota     envelopes handed out per partition before the source goes quiet; 0 for all, and then its end
    meter     file whose size is the quota, so that it can be raised; "" for none
    pace_s    seconds between batches of a partition
    stays     whether the source goes on, silently, behind its last envelope
"""

from __future__ import annotations

import json
import os
import pickle
import random
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tests.compare import batch_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa

    from tests.logs import Envelope

ORDER = json.loads(os.environ.get("KILL_CHILD", "{}"))
HEARTBEAT_S = 0.05
QUIET_S = 0.8


def die() -> NoReturn:
    """As if the power went: nothing is closed, nothing is written."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit("unreachable")


class Diary:
    """What the process did, written so that a kill cannot take it back."""

    def __init__(self, path: str, point: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._calls: dict[str, int] = {}
        self.name, self.place, number = point.split(" ") if point else ("", "", "0")
        self.number = int(number)

    def note(self, **what: Any) -> None:
        os.write(self._file, (json.dumps(what) + "\n").encode())

    def around(self, name: str, call: Callable[[], Any]) -> Any:
        """Make a call, or die before or after it."""
        self._calls[name] = self._calls.get(name, 0) + 1
        due = name == self.name and self._calls[name] == self.number
        if due and self.place == "before":
            self.note(event="killed", at=name)
            die()
        result = call()
        self.note(event="done", name=name)
        if due and self.place == "after":
            self.note(event="killed", at=name)
            die()
        return result

    def is_inside(self, name: str) -> bool:
        """Whether the next call of this name is to be cut short in its middle."""
        return name == self.name and self.place == "inside" and self._calls.get(name, 0) == self.number


class LogSource:
    """The logs of the tests as a source; how they are cut into batches differs in every run."""

    def __init__(self, logs: dict[str, list[Envelope]], diary: Diary) -> None:
        self._logs, self._diary = logs, diary

    def partitions(self) -> list[str]:
        return sorted(self._logs)

    def first_sequence(self, partition: str) -> int | None:
        return self._logs[partition][0].sequence_number

    def open(self, partition: str, after: int, owner_level: int) -> LogReader:
        self._diary.note(event="opened", partition=partition, after=after, claim=owner_level)
        return LogReader(partition, [e for e in self._logs[partition] if e.sequence_number > after], self._diary)

    def input(self) -> dict[str, Any]:
        return {}

    def check_input(self, previous: Mapping[str, Any]) -> None:
        assert previous == {}


class LogReader:
    queued = 0

    def __init__(self, partition: str, log: list[Envelope], diary: Diary) -> None:
        self._partition, self._log, self._diary = partition, log, diary
        self._at = 0
        self._next_s = 0.0
        self._quiet_s = 0.0
        self._random = random.SystemRandom()

    @property
    def finished(self) -> bool:
        return self._at == len(self._log) and not ORDER["stays"]

    def take(self) -> pa.RecordBatch | None:
        now = time.monotonic()
        if now < self._next_s or self.finished:
            return None
        quota = Path(ORDER["meter"]).stat().st_size if ORDER["meter"] else ORDER["quota"] or len(self._log)
        given_all = self._at >= quota
        if given_all and not self._quiet_s:
            self._quiet_s = now + QUIET_S
        elif self._quiet_s and now > self._quiet_s:
            self._diary.note(event="quiet")
        self._next_s = now + (HEARTBEAT_S if given_all else ORDER["pace_s"])
        size = 0 if given_all else self._random.randint(0, 25)
        if ORDER["meter"]:
            size = min(size, quota - self._at)
        taken = self._log[self._at : self._at + size]
        self._at += len(taken)
        if taken:
            numbers = sorted({envelope.sequence_number for envelope in taken})
            self._diary.note(event="took", partition=self._partition, numbers=numbers)
        return batch_of(taken)

    def lag(self) -> tuple[int, float] | None:
        return None

    def close(self) -> None:
        pass


def instrument(diary: Diary) -> None:
    """Put the points around the lake's writes and the posts to the API."""
    from alumicatalyst.lake.store import LocalStore
    from alumicatalyst.lake.table import Table
    from alumicatalyst.sinks.alerts_client import ApiFailure, Client

    commit, put, create = Table.commit, LocalStore.put, LocalStore.create_if_absent
    write_temporary = LocalStore._write_temporary

    def commit_at(self: Table, snapshot: Any, actions: Any, transactions: Any, metadata: Any) -> None:
        name = f"{'commit' if actions else 'claim'}:{self.name}"
        diary.around(name, lambda: commit(self, snapshot, actions, transactions, metadata))

    def put_at(self: LocalStore, path: str, data: bytes) -> None:
        diary.around(f"put:{path.split('/', maxsplit=1)[0]}", lambda: put(self, path, data))

    def create_at(self: LocalStore, path: str, data: bytes) -> bool:
        return bool(diary.around(f"create:{path.split('/', maxsplit=1)[0]}", lambda: create(self, path, data)))

    def write_half(self: LocalStore, target: Path, data: bytes) -> Path:
        folder = target.relative_to(self.root).parts[0]
        if diary.is_inside(f"put:{folder}") or diary.is_inside(f"create:{folder}"):
            write_temporary(self, target, data[: len(data) // 2])
            diary.note(event="killed", at=f"half of {folder}")
            die()
        return write_temporary(self, target, data)

    def post_at(self: Client, post: Any) -> Any:
        name = f"{'refill' if post.committed else 'post'}:{post.kind}"
        try:
            return diary.around(name, lambda: call(self, post))
        except ApiFailure:
            diary.note(event="failed", name=name)
            raise

    def tell_at(self: Client, partition: str, *rest: Any) -> Any:
        return diary.around("post:commits", lambda: tell(self, partition, *rest))

    call, tell = Client.post, Client.post_commit
    Client.post, Client.post_commit = post_at, tell_at  # type: ignore[method-assign, assignment]
    Table.commit = commit_at  # type: ignore[method-assign]
    LocalStore.put = put_at  # type: ignore[method-assign]
    LocalStore.create_if_absent = create_at  # type: ignore[method-assign]
    LocalStore._write_temporary = write_half  # type: ignore[method-assign]


def main(runner: str) -> None:
    diary = Diary(ORDER["diary"], ORDER["point"])
    diary.note(event="started", runner=runner)
    instrument(diary)

    if ORDER["logs"]:
        import alumicatalyst.dictionary
        import alumicatalyst.sources.selection
        from alumicatalyst._core import Dictionary

        logs = pickle.loads(Path(ORDER["logs"]).read_bytes())
        alumicatalyst.sources.selection.source_of = lambda *_: LogSource(logs, diary)
        alumicatalyst.dictionary.load = lambda path: Dictionary.from_json(Path(path).read_text())

    match runner.split():
        case ["bytewax.run", *arguments]:
            sys.argv = ["bytewax.run", "flows.telemetry", *arguments]
            runpy.run_module("bytewax.run", run_name="__main__")
        case arguments:
            from alumicatalyst.cli.main import main as alumicatalyst_main

            sys.argv = ["alumicatalyst", *arguments]
            alumicatalyst_main()


if __name__ == "__main__":
    main(sys.argv[1])

"""A process that runs the flow on a log of the tests, tells what it does, and kills itself at a named point.

`python -m tests.kill.child RUNNER` with the product's own settings in the environment, and KILL_CHILD in JSON:

    logs      file of the partitions' logs (pickle: partition -> envelopes); "" for the source that the settings name
    diary     file to which each step is appended; it outlives the process
    point     where to die, as "commit:batches after 2" (see `tests/kill/points.py`); "" lives on
    quota     envelopes handed out per partition before the source goes quiet; 0 for all, and then its end
    meter     file whose size is the quota, so that it can be raised; "" for none
    pace_s    seconds between batches of a partition
    stays     whether the source goes on, silently, behind its last envelope

and, if they are to be other than usual:

    until     how many envelopes of each log there are so far, as the quota, but counted from the log's beginning
    known     how many of them were there before: those come in large batches, without a pause
    since     how many of them the source has expired
    quiet_s   how long it says nothing before it counts as quiet
    unsealed_s
              how long where not all that it was handed is sealed: it may be told not to seal
    clock     jumps of the wall clock, as [[0.0, 7200.0]]: seconds after the start, seconds by which it jumps
    disk      the change of the disk before which the ledger dies (see `tests/ledger/disk.py`); -1 for none
    lease_s, trim_s, look_s, temporary_s
              other times than the product's for `lease.EXPIRES_S`, `trim.AGE_S_MIN`, `table.LOOK_S_MAX` and
              `vacuum.TEMPORARY_AGE_S`
"""

from __future__ import annotations

import json
import os
import pickle
import random
import runpy
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.compare import batch_of
from tests.kill.points import Diary, instrument

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from tests.logs import Envelope

HEARTBEAT_S = 0.05
QUIET_BEATS = 8
USUAL: dict[str, Any] = {
    "until": 0,
    "known": 0,
    "since": 0,
    "quiet_s": 0.8,
    "unsealed_s": 8.0,
    "clock": [],
    "disk": -1,
}
TIMES = ("lease_s", "trim_s", "look_s", "temporary_s")


class LogSource:
    """The logs of the tests as a source; how they are cut into batches differs in every run."""

    def __init__(self, logs: dict[str, list[Envelope]], order: Mapping[str, Any], diary: Diary) -> None:
        self._logs, self._order, self._diary = logs, order, diary
        self._readers: list[LogReader] = []

    def partitions(self) -> list[str]:
        return sorted(self._logs)

    def first_sequence(self, partition: str) -> int | None:
        number: int = self._logs[partition][self._order["since"]].sequence_number
        return number

    def open(self, partition: str, after: int, owner_level: int) -> LogReader:
        self._diary.note(event="opened", partition=partition, after=after, claim=owner_level)
        log = self._logs[partition]
        start = next((at for at, e in enumerate(log) if e.sequence_number > after), len(log))
        self._readers.append(LogReader(self, partition, log, max(start, self._order["since"]), self._order))
        return self._readers[-1]

    def note(self, **what: Any) -> None:
        self._diary.note(**what)

    def is_quiet(self) -> bool:
        """Whether nothing more is to come from anywhere, and what was handed out has had its effect."""
        return all(reader.is_quiet(self._diary.sealed.get(reader.partition, -1)) for reader in self._readers)

    def input(self) -> dict[str, Any]:
        return {}

    def check_input(self, previous: Mapping[str, Any]) -> None:
        assert previous == {}


class LogReader:
    queued = 0

    def __init__(
        self, source: LogSource, partition: str, log: list[Envelope], start: int, order: Mapping[str, Any]
    ) -> None:
        self.partition = partition
        self._source, self._log, self._order = source, log, order
        self._start = self._at = start
        self._next_s = 0.0
        self._idle_s: float | None = None  # Since when there was nothing to hand out.
        self._beats = 0
        self._random = random.SystemRandom()

    @property
    def finished(self) -> bool:
        return self._at == len(self._log) and not self._order["stays"]

    def _end(self) -> int:
        """Up to where there is something to hand out."""
        if self._order["until"]:
            return min(int(self._order["until"]), len(self._log))
        meter = self._order["meter"]
        quota = Path(meter).stat().st_size if meter else self._order["quota"] or len(self._log)
        return min(self._start + int(quota), len(self._log))

    def take(self) -> pa.RecordBatch | None:
        now = time.monotonic()
        if now < self._next_s or self.finished:
            return None
        end = self._end()
        given_all = self._at >= end
        if given_all and self._idle_s is None:
            self._idle_s = now
        self._beats += given_all
        if given_all and self._source.is_quiet():
            self._source.note(event="quiet")
        size = min(0 if given_all else self._random.randint(0, 25), end - self._at)
        if self._at + 25 < self._order["known"]:
            size = min(self._random.randint(0, 400), self._order["known"] - self._at)
        else:
            self._next_s = now + (HEARTBEAT_S if given_all else self._order["pace_s"])
        taken = self._log[self._at : self._at + max(0, size)]
        self._at += len(taken)
        if taken:
            numbers = sorted({envelope.sequence_number for envelope in taken})
            self._source.note(event="took", partition=self.partition, numbers=numbers)
            self._idle_s = None
        return batch_of(taken)

    def is_quiet(self, sealed: int) -> bool:
        """Whether nothing was handed out for a while, and all before is sealed."""
        if self._idle_s is None:
            return False
        idle_s = time.monotonic() - self._idle_s
        everything = self._at == self._start or self._log[self._at - 1].sequence_number <= sealed
        # On a machine that is slow the flow gets as many turns before it counts as idle.
        return self._beats > QUIET_BEATS and idle_s > self._order["quiet_s" if everything else "unsealed_s"]

    def lag(self) -> tuple[int, float] | None:
        return None

    def close(self) -> None:
        pass


def set_times(times: Mapping[str, float]) -> None:
    """Let days pass in seconds."""
    from alumicatalyst.lake import table
    from alumicatalyst.maintenance import trim, vacuum
    from alumicatalyst.maintenance.lease import Lease

    for module, constant, name in ((table, "LOOK_S_MAX", "look_s"), (vacuum, "TEMPORARY_AGE_S", "temporary_s")):
        setattr(module, constant, times.get(name, getattr(module, constant)))
    for function, argument, name in ((Lease.__init__, "expires_s", "lease_s"), (trim.trim, "age_s_min", "trim_s")):
        defaults = function.__kwdefaults__
        assert defaults is not None
        defaults[argument] = times.get(name, defaults[argument])


def live(order: Mapping[str, Any], runner: str) -> None:
    """Be the child: what is ordered is put in place, then the program runs as it always does."""
    order = {**USUAL, **order}
    diary = Diary(order["diary"], order["point"])
    diary.note(event="started", runner=runner)
    instrument(diary)
    set_times({name: order[name] for name in TIMES if name in order})
    if order["clock"]:
        from tests.kill.clock import jump

        jump(order["clock"])
    if order["disk"] >= 0:
        from tests.ledger.disk import die_at

        die_at(order["disk"])
    if order["logs"]:
        import alumicatalyst.dictionary
        import alumicatalyst.sources.selection
        from alumicatalyst._core import Dictionary

        logs = pickle.loads(Path(order["logs"]).read_bytes())
        alumicatalyst.sources.selection.source_of = lambda *_: LogSource(logs, order, diary)
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
    live(json.loads(os.environ["KILL_CHILD"]), sys.argv[1])

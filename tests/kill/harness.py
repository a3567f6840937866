"""Starts and kills children, and holds the lake that they leave to what an undisturbed run would have written."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from alumicatalyst._core import Dictionary, Partition
from alumicatalyst.lake import tables
from alumicatalyst.lake.store import open_store
from tests.compare import Run, assert_as_oracle, consult, feed, rows_of
from tests.logs import Envelope, seeded_log
from tests.oracle import Oracle
from tests.plants import NARROW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from alumicatalyst.lake.store import Store
    from tests.kill.forks import Forked, Forks

ROOT = Path(__file__).parents[2]
LOOP = "run --runner loop"
BYTEWAX = "bytewax.run"
END_S_MAX = 240.0
"""What does not end within this hangs, however slow the machine is."""
PARTITIONS = ("kill/1/0", "kill/1/1")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Life:
    """What is known of one child after its end."""

    code: int
    diary: list[dict[str, Any]]
    output: str

    @property
    def committed(self) -> bool:
        return self.count("commit:") > 0

    def count(self, prefix: str) -> int:
        return sum(entry["event"] == "done" and entry["name"].startswith(prefix) for entry in self.diary)

    def opened(self) -> dict[str, int]:
        """The partitions that it read, and behind which envelope it began."""
        return {entry["partition"]: entry["after"] for entry in self.diary if entry["event"] == "opened"}

    def taken(self) -> list[tuple[str, int]]:
        """Partition and number of every envelope that it was handed."""
        took = [entry for entry in self.diary if entry["event"] == "took"]
        return [(entry["partition"], number) for entry in took for number in entry["numbers"]]


@dataclass
class Child:
    """A running child."""

    process: subprocess.Popen[bytes] | Forked
    diary: Path
    output: Path

    def entries(self) -> list[dict[str, Any]]:
        lines = self.diary.read_bytes().split(b"\n") if self.diary.exists() else []
        return [json.loads(line) for line in lines[:-1]]

    def wait_until(self, happened: Callable[[list[dict[str, Any]]], bool], within_s: float = END_S_MAX / 2) -> None:
        """Wait until the diary says so, or the child has ended."""
        until = time.monotonic() + within_s
        while time.monotonic() < until and self.process.poll() is None and not happened(self.entries()):
            time.sleep(0.03)

    def wait_for(self, prefix: str, times: int = 1) -> None:
        """Wait until it has done something so many times, has nothing more to do, or has ended."""
        self.wait_until(lambda entries: Life(0, entries, "").count(prefix) >= times or is_quiet(entries))

    def opened(self) -> dict[str, int]:
        """As `Life.opened`, so far."""
        return Life(0, self.entries(), "").opened()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)

    def end(self, within_s: float = END_S_MAX) -> Life:
        """Wait for its end; one that does not end is killed and fails the test."""
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.wait()
            text = self.output.read_text()[-4000:]
            raise AssertionError(f"a child did not end within {within_s} s: {self.entries()[-3:]}\n{text}") from None
        return Life(code, self.entries(), self.output.read_text())


@dataclass(frozen=True)
class Address:
    """Where a lake is.

    Attributes:
        uri: For the product.
        credential: For the product; only a distant store has one.
        options: For polars.
    """

    uri: str
    credential: str = "default"
    options: Mapping[str, str] = field(default_factory=dict)

    def store(self) -> Store:
        return open_store(self.uri, credential=self.credential)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """What a reader that knows nothing of this package finds in a table."""
        place = f"{self.uri.removeprefix('file:')}/{table}"
        return rows_of(pl.read_delta(place, storage_options=dict(self.options)).drop("_batch", "_row").to_arrow())


@dataclass
class Ground:
    """A lake in a folder of its own, and the logs that go into it."""

    folder: Path
    logs: dict[str, list[Envelope]]
    lives: list[Life] = field(default_factory=list)
    dictionaries: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    finite: bool = True  # The logs are the source and have an end; else the settings name one that goes on.
    address: Address = field(default_factory=lambda: Address(""))  # By default a directory in the folder.
    forks: Forks | None = None  # Children are forked from it; else each is a program of its own.

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        if not self.address.uri:
            self.address = Address(f"file:{self.lake}")
        (self.folder / "logs").write_bytes(pickle.dumps(self.logs))
        self.use(NARROW)

    def use(self, dictionary: dict[str, Any]) -> None:
        """Let the children to come have this dictionary."""
        text = json.dumps(dictionary)
        (self.folder / "dictionary.json").write_text(text)
        self.dictionaries[Dictionary.from_json(text).sha256] = dictionary

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    def start(
        self,
        runner: str,
        *,
        point: str = "",
        quota: int = 0,
        pace_s: float = 0.01,
        stays: bool = False,
        metered: bool = False,
        order: Mapping[str, Any] | None = None,
        **settings: str | float,
    ) -> Child:
        """Start a child; `settings` are the product's, as `lake__flush_interval_s=0.1`, `order` is `child.py`'s."""
        number = len(list(self.folder.glob("diary-*")))
        diary = self.folder / f"diary-{number:03d}"
        child_order = {
            "logs": str(self.folder / "logs") if self.finite else "",
            "diary": str(diary),
            "point": point,
            "quota": quota,
            "pace_s": pace_s,
            "stays": stays,
            "meter": str(self.folder / "meter") if metered else "",
            **(order or {}),
        }
        given: dict[str, Any] = {
            "dictionary": str(self.folder / "dictionary.json"),
            "lake__uri": self.address.uri,
            "lake__credential": self.address.credential,
            # Rows rather than time decide when to flush, so that a slow machine makes as many commits as a fast one.
            "lake__flush_interval_s": 0.5,
            "lake__flush_rows_max": 60,
            "lake__state_interval_s": 0.2,
            "runner__metrics_port": 0,
        }
        given |= self.settings | settings
        environment = {"ALUMICATALYST_" + name.upper(): str(value) for name, value in given.items()}
        diary.touch()
        output = self.folder / f"output-{number:03d}"
        output.touch()  # A child may be killed before it has opened it.
        if self.forks is not None:
            return Child(self.forks.start(runner, child_order, environment, output), diary, output)
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.kill.child", runner],
                cwd=ROOT,
                env=os.environ | environment | {"KILL_CHILD": json.dumps(child_order)},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return Child(process, diary, output)

    def allow(self, envelopes: int) -> None:
        """Let children that are metered hand out so many envelopes of each partition, counted from their start."""
        (self.folder / "meter").write_bytes(bytes(envelopes))

    def kill_at(self, runner: str, point: str, quota: int) -> Life:
        """Run a child into a point, or to its quota if it never gets there, and then kill it."""
        child = self.start(runner, point=point, quota=quota)
        child.wait_until(is_quiet)
        return self.bury(child)

    def kill_after(self, runner: str, commits: int, delay_s: float, quota: int) -> Life:
        """Kill a child from outside, some time after its first commits."""
        child = self.start(runner, quota=quota)
        child.wait_for("commit:", commits)
        time.sleep(delay_s)
        return self.bury(child)

    def bury(self, child: Child) -> Life:
        """Kill a child from outside."""
        child.kill()
        life = child.end()
        self.lives.append(life)
        return life

    def finish(self, runner: str) -> Life:
        """Let a child run to the end of the logs, in larger steps: nobody kills it."""
        life = self.start(runner, pace_s=0.0, lake__flush_rows_max=1_000).end()
        assert life.code == 0, life.output[-4000:]
        self.lives.append(life)
        return life

    # ------------------------------------------------------------------ what must hold

    def replayed(self) -> int:
        """Envelopes that were handed out more than once over all lives."""
        taken = Counter(each for life in self.lives for each in set(life.taken()))
        return sum(count - 1 for count in taken.values())

    def assert_whole(self) -> None:
        """The lake holds what an undisturbed run writes: once, bit for bit, and the oracle agrees (I1, I5)."""
        stored = {name: self.rows(name) for name in tables.SPECS}
        expected = {name: Counter[Any]() for name in tables.ROW_TABLES}
        for partition, log in self.logs.items():
            run = self._undisturbed(partition, log, stored["journal"])
            for name, rows in expected.items():
                rows.update(key(row | {"date": day_of(row["enqueued_time"])}) for row in run.rows(name))
            self._assert_batches(partition, run, stored["batches"])
        for name, rows in expected.items():
            found = Counter(key(row) for row in stored[name])
            missing, surplus = rows - found, found - rows
            assert not missing, (name, "missing", missing.total(), list(missing)[:3])
            assert not surplus, (name, "surplus", surplus.total(), list(surplus)[:3])

    def _undisturbed(self, partition: str, log: list[Envelope], journal: list[dict[str, Any]]) -> Run:
        """The core over the whole log and the lake's journal, envelope by envelope, held to the oracle."""
        journal = sorted((row for row in journal if row["partition"] == partition), key=lambda row: row["ordinal"])
        bodies = [json.loads(row["body"]) for row in journal]
        assert [row["ordinal"] for row in journal] == list(range(len(journal)))
        assert [row["kind"] for row in journal].count("flush") == int(self.finite)

        first = self.dictionaries[bodies[0]["sha256"]]
        core, oracle = Partition(partition, Dictionary.from_json(json.dumps(first))), Oracle(partition, first)
        run, emissions, place = Run(), [], 0
        for row, body in zip(journal[1:], bodies[1:], strict=True):
            until = place + sum(envelope.sequence_number <= row["after_sequence"] for envelope in log[place:])
            feed(core, log[place:until], run=run)
            emissions += consult(oracle, log[place:until])
            place = until
            if row["kind"] == "flush":
                run.add(core.flush(body["sequence_number"], row["ordinal"]))
                emissions.append(oracle.flush(body["sequence_number"]))
            else:
                later = self.dictionaries[body["sha256"]]
                core.change_dictionary(Dictionary.from_json(json.dumps(later)), row["ordinal"])
                oracle.change_dictionary(later)
        if not self.finite:
            feed(core, log[place:], run=run)
            emissions += consult(oracle, log[place:])
            place = len(log)
        assert place == len(log), "the flush stands at the end of the log"
        assert_as_oracle(run, emissions)
        return run

    def _assert_batches(self, partition: str, run: Run, batches: list[dict[str, Any]]) -> None:
        """Ranges follow each other without gap or overlap, and their sums are those of what they cover."""
        batches = [row for row in batches if row["partition"] == partition]
        counts = run.rows("counts")
        envelopes = {envelope.sequence_number for envelope in self.logs[partition]}
        for batch in sorted(batches, key=lambda row: row["first_sequence"]):
            covered = [row for row in counts if row["sequence_number"] <= batch["last_sequence"]]
            counts = counts[len(covered) :]
            numbers = [row["sequence_number"] for row in covered]
            assert (batch["first_sequence"], batch["last_sequence"]) == (numbers[0], numbers[-1])
            assert batch["envelopes"] == len(envelopes.intersection(numbers))
            for column in covered[0]:
                if column.startswith("rows_") or column == "body_bytes":
                    assert batch[column] == sum(row[column] for row in covered), (column, batch)
        assert counts == [], "not sealed"

    def marks(self) -> dict[str, int]:
        """The last sequence number that is sealed, per partition."""
        marks: dict[str, int] = {}
        # What is there may be the unfinished file of the first commit.
        if not any(path.endswith(".json") for path, _ in self.address.store().list("batches/_delta_log")):
            return marks
        for row in self.rows("batches"):
            marks[row["partition"]] = max(marks.get(row["partition"], -1), row["last_sequence"])
        return marks

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self.address.rows(table)

    def doctor(self) -> subprocess.CompletedProcess[str]:
        """`alumicatalyst lake doctor` on this lake."""
        return subprocess.run(
            [sys.executable, "-m", "alumicatalyst.cli.main", "lake", "doctor"],
            cwd=ROOT,
            env=os.environ
            | {"ALUMICATALYST_LAKE__URI": self.address.uri, "ALUMICATALYST_LAKE__CREDENTIAL": self.address.credential},
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )


def is_quiet(entries: list[dict[str, Any]]) -> bool:
    """Whether a child has said that nothing more is to come."""
    return any(entry["event"] == "quiet" for entry in entries)


def make_logs(seed: int, envelopes: int, partitions: Sequence[str] = PARTITIONS) -> dict[str, list[Envelope]]:
    """A log for each partition, its numbers rising as a broker's do."""
    logs = {}
    for number, partition in enumerate(partitions):
        seen: dict[int, Envelope] = {}
        for envelope in seeded_log(seed + number, "narrow", envelopes):
            seen.setdefault(envelope.sequence_number, envelope)
        logs[partition] = list(seen.values())
    return logs


def day_of(time_us: int) -> Any:
    return (EPOCH + timedelta(microseconds=time_us)).date()


def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """A row as something that compares bit for bit, whatever the order of its columns."""
    return tuple(sorted((name, value.hex() if isinstance(value, float) else value) for name, value in row.items()))


def choices(seed: int) -> random.Random:
    return random.Random(seed)

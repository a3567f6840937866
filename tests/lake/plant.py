"""A small operator for the lake's tests: its rows depend on the log and on its state, and it can be cut anywhere."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from alumicatalyst import _core
from alumicatalyst.errors import StateError
from alumicatalyst.operator import Analysed
from alumicatalyst.sinks.lake import LakeSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from alumicatalyst.lake import Lake, Resume

PARTITION = "telemetry/1/0"
START = datetime(2026, 11, 21, 23, 59, 50, tzinfo=UTC)
TABLES = ("readings", "windows", "alarms", "rejected")


@dataclass(frozen=True)
class FakeDictionary:
    version: str = "1"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps({"version": self.version})


@dataclass(frozen=True)
class FakeOutput:
    partition: str
    follows: int
    first: int | None
    last: int
    readings: pa.RecordBatch
    windows: pa.RecordBatch
    alarms: pa.RecordBatch
    rejected: pa.RecordBatch
    counts: pa.RecordBatch
    redelivered: int = 0
    decode_us: int = 1
    analyse_us: int = 2
    dictionary_version: str = "1"
    dictionary_sha256: str = FakeDictionary().sha256


def item(resume: Resume, output: Any, state: tuple[int, bytes] | None = None) -> Analysed:
    return Analysed(resume, output, state)


def table_schema(name: str) -> pa.Schema:
    return _core.schema(name)


@dataclass
class Operator:
    """Readings, windows, alarms and rejected rows of envelopes `0, step, 2 * step ...`, a second apart."""

    partition: str = PARTITION
    step: int = 1
    dictionary: FakeDictionary = FakeDictionary()
    last: int = -1
    seen: int = 0
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def load(cls, state: bytes, step: int = 1) -> Operator:
        told = json.loads(state)
        return cls(told["partition"], step, FakeDictionary(told["version"]), told["last_sequence"], told["seen"])

    def snapshot(self) -> bytes:
        told = {"partition": self.partition, "last_sequence": self.last, "seen": self.seen}
        return json.dumps(told | {"version": self.dictionary.version}).encode()

    def take(self, first: int, last: int, redelivered: int = 0) -> FakeOutput:
        """Analyse the envelopes from `first` to `last`, both of the log."""
        follows = self.last
        self.rows = {name: [] for name in (*TABLES, "counts")}
        for number in range(first, last + 1, self.step):
            self._envelope(number)
            self.last = number
        return FakeOutput(
            self.partition,
            follows,
            first if self.last > follows else None,
            self.last,
            redelivered=redelivered,
            dictionary_version=self.dictionary.version,
            dictionary_sha256=self.dictionary.sha256,
            **{name: pa.RecordBatch.from_pylist(rows, schema=table_schema(name)) for name, rows in self.rows.items()},
        )

    def nothing(self, redelivered: int = 0) -> FakeOutput:
        return self.take(0, -1, redelivered)

    def _envelope(self, number: int) -> None:
        ordinal = number // self.step
        enqueued = START + timedelta(seconds=ordinal)
        before = {name: len(self.rows[name]) for name in TABLES}
        outcomes: Counter[str] = Counter()

        def cause(item: int) -> dict[str, Any]:
            row = {"partition": self.partition, "sequence_number": number, "item": item, "enqueued_time": enqueued}
            return row | {"device": f"pot-{ordinal % 3:03d}", "metric": "cell_voltage", "event_time": enqueued}

        for item in range(ordinal % 4):
            self.seen += 1
            outcome = "late" if self.seen % 9 == 0 else "windowed"
            outcomes[outcome] += 1
            rest = {"value": self.seen / 4, "quality": 192, "outcome": outcome, "windows_missed": 0}
            self.rows["readings"].append(cause(item) | rest | {"score_state": "off"})
            if self.seen % 5 == 0:
                window = {"window_name": "5s", "window_start": enqueued, "window_end": enqueued + timedelta(seconds=5)}
                window |= {"closed_by": "watermark", "count": self.seen, "mean": self.seen / 3}
                window |= {"first_time": enqueued, "last_time": enqueued}
                self.rows["windows"].append(cause(item) | window)
        if ordinal % 7 == 3:
            outcomes["rejected"] += 1
            bad = {"reason": "bad_json", "detail": "at byte 3", "body": b"{x", "body_bytes": 2}
            self.rows["rejected"].append(cause(-1) | {"device": None, "metric": None, "event_time": None} | bad)
        if ordinal % 11 == 10:
            name = hashlib.sha256(f"{self.partition}\n{number}\n".encode()).hexdigest()[:32]
            alarm = {"alarm_id": name, "step": 0, "transition": "raised", "alarm_rule": "H"}
            alarm |= {"priority": "low", "onset_time": enqueued, "value": 5.0, "peak": 5.0, "message": "high"}
            self.rows["alarms"].append(cause(0) | alarm)
        made = {name: len(self.rows[name]) - before[name] for name in TABLES}
        self.rows["counts"].append(
            {
                "sequence_number": number,
                "enqueued_time": enqueued,
                "body_bytes": 10,
                "rows_total": sum(outcomes.values()),
                "rows_windowed": outcomes["windowed"],
                "rows_late": outcomes["late"],
                "rows_duplicate": 0,
                "rows_rejected": outcomes["rejected"],
                "rows_unscored": 0,
                "rows_windows": made["windows"],
                "rows_alarms": made["alarms"],
                "event_time_min": enqueued if made["readings"] else None,
                "event_time_max": enqueued if made["readings"] else None,
            }
        )


def state_info(state: bytes) -> dict[str, Any]:
    """Stand in for the core's: these tests keep states of their own operator."""
    try:
        told: dict[str, Any] = json.loads(state)
    except ValueError as error:
        raise StateError("couldn't read a state: it is damaged; remove it") from error
    return told


def sink_of(lake: Lake) -> LakeSink:
    return LakeSink(lake, flush_interval_s=3_600, flush_rows_max=1_000_000_000)


def operator_of(lake: Lake, resume: Resume, step: int = 1) -> Operator:
    if resume.state_sequence >= 0:
        return Operator.load(lake.state(resume.partition, resume.state_sequence), step)
    return Operator(resume.partition, step)


def run(
    lake: Lake,
    until: int,
    *,
    flush_every: int = 10,
    state_every: int = 2,
    partition: str = PARTITION,
    committed: Callable[[], None] = lambda: None,
    pause_s: float = 0,
) -> None:
    """Take a partition and go on to an envelope, as a process does; whatever is raised is its crash.

    `committed` is called once, after the first flush.
    """
    resume = lake.resume(partition, dictionary=FakeDictionary(), first_sequence=0)
    operator, sink = operator_of(lake, resume), sink_of(lake)
    for at, first in enumerate(range(resume.after + 1, until + 1, flush_every)):
        output = operator.take(first, min(first + flush_every - 1, until))
        state = (operator.last, operator.snapshot()) if at % state_every == state_every - 1 else None
        sink.write(item(resume, output, state))
        sink.flush()
        if at == 0:
            committed()
        time.sleep(pause_s)


def stored(lake: Lake) -> dict[str, list[dict[str, Any]]]:
    """Return every row of every table with a cause, in one order, without the partition column of Delta."""
    return {name: sort(scan(lake, name).drop("date", "_batch", "_row").to_dicts()) for name in TABLES}


def scan(lake: Lake, name: str) -> pl.DataFrame:
    return pl.scan_delta(f"{lake.store.root}/{name}", storage_options=lake.store.options() or None).collect()


def undisturbed(until: int, partition: str = PARTITION) -> dict[str, list[dict[str, Any]]]:
    """Return what `stored` must be after the log up to `until`."""
    output = Operator(partition).take(0, until)
    return {name: sort(pl.DataFrame(getattr(output, name)).to_dicts()) for name in TABLES}


def sort(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["partition"], row["sequence_number"], row["item"]))


def ranges(lake: Lake, partition: str = PARTITION) -> list[tuple[int, int]]:
    """Return the ranges that `batches` has sealed."""
    rows = scan(lake, "batches").filter(pl.col("partition") == partition).sort("first_sequence")
    return list(zip(rows["first_sequence"].to_list(), rows["last_sequence"].to_list(), strict=True))


def assert_exact(lake: Lake, until: int, partition: str = PARTITION) -> None:
    """Every row of an undisturbed run once (I5), ranges contiguous and disjoint, sums equal to rows (I1)."""
    assert stored(lake) == undisturbed(until, partition)
    sealed = ranges(lake, partition)
    assert sealed[0][0] == 0
    assert sealed[-1][1] == until
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(sealed))
    sums = scan(lake, "batches").select(pl.col("^rows_.*$").sum()).to_dicts()[0]
    rows = stored(lake)
    assert sums["rows_windows"] == len(rows["windows"])
    assert sums["rows_rejected"] == len(rows["rejected"])
    assert sums["rows_windowed"] + sums["rows_late"] == len(rows["readings"])

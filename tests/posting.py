"""The end of a flow for the alert sink's tests: a lake, an operator, the lake's sink and the sink under test."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from alumicatalyst import _core
from alumicatalyst.lake import Lake
from alumicatalyst.settings import Secret
from alumicatalyst.sinks import alerts
from alumicatalyst.sinks.alerts import AlertSink
from alumicatalyst.sinks.alerts_client import Client
from alumicatalyst.sinks.lake import LakeSink
from tests.lake import plant
from tests.lake.plant import PARTITION, FakeDictionary, FakeOutput, item, table_schema
from tests.recorder import KEY, Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """An empty lake, whose states will be those of this operator."""
    monkeypatch.setattr(_core, "state_info", plant.state_info)
    # What a clean end posts is to be all: how much of it there is time for, is for the test of that time.
    monkeypatch.setattr(alerts, "DRAIN_S", 60.0)
    return Lake.open(f"file:{tmp_path / 'lake'}")


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A file with the recorder's key."""
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    return file


@dataclass(frozen=True)
class Output(FakeOutput):
    """An output with latest values, as the core makes it."""

    latest: pa.RecordBatch = None


class Operator(plant.Operator):
    """The lake tests' operator, whose alarms and windows are others under another version of the dictionary."""

    def take(self, first: int, last: int, redelivered: int = 0) -> Output:
        output = super().take(first, last, redelivered)
        newest: dict[tuple[str, str], dict[str, Any]] = {}
        for row in output.readings.to_pylist():
            former = newest.get((row["device"], row["metric"]))
            if former is None or row["event_time"] > former["event_time"]:
                newest[row["device"], row["metric"]] = row
        latest = pa.RecordBatch.from_pylist(list(newest.values()), schema=table_schema("latest"))
        return Output(**{each.name: getattr(output, each.name) for each in fields(output)}, latest=latest)

    def _envelope(self, number: int) -> None:
        before = {name: len(self.rows[name]) for name in ("alarms", "windows")}
        super()._envelope(number)
        if self.dictionary.version == "1":
            return
        for row in self.rows["alarms"][before["alarms"] :]:
            # Some are the same alarms, and say something else.
            row["message"] = f"high under version {self.dictionary.version}"
            if number % 4 >= 2:
                continue
            row["alarm_id"] = hashlib.sha256(f"{row['alarm_id']} {self.dictionary.version}".encode()).hexdigest()[:32]
        if number % 2:
            counts = self.rows["counts"][-1]
            for name, count in before.items():
                counts[f"rows_{name}"] = 0
                del self.rows[name][count:]


class Process:
    """A process of the flow that holds one partition: `kill` it, or `end` it.

    Args:
        lake: The lake.
        url: The API's address.
        key: File with the key.
        version: The dictionary's; another than before is accepted.
        first_sequence: The oldest envelope that the source holds.
        ca_file: Certificate authorities of the API.
    """

    def __init__(
        self,
        lake: Lake,
        url: str,
        key: Path,
        *,
        partition: str = PARTITION,
        queue_rows_max: int = 100_000,
        version: str = "1",
        first_sequence: int = 0,
        ca_file: str = "",
        accept_state_loss: bool = False,
    ) -> None:
        self.lake = lake
        dictionary = FakeDictionary(version)
        self.resume = lake.resume(
            partition,
            dictionary=dictionary,
            first_sequence=first_sequence,
            accept_dictionary=True,
            accept_state_loss=accept_state_loss,
        )
        self.operator = Operator(partition, dictionary=dictionary)
        if self.resume.state_sequence >= 0:
            told = plant.state_info(lake.state(partition, self.resume.state_sequence))
            self.operator.last, self.operator.seen = told["last_sequence"], told["seen"]
        self.alerts = AlertSink(
            Client(url, Secret(f"file:{key}"), ca_file), lake, queue_rows_max=queue_rows_max, windows_days=36_500
        )
        self.sink = LakeSink(lake, flush_interval_s=3_600, flush_rows_max=10**9, on_committed=self.alerts.on_committed)

    def go(self, last: int, *, step: int = 3) -> None:
        """Analyse and offer up to an envelope, some at a time; nothing is committed."""
        while self.operator.last < last:
            first = self.operator.last + 1
            self.write(self.operator.take(first, min(first + step - 1, last)))

    def beat(self) -> None:
        """An output of an idle source."""
        self.write(self.operator.nothing())

    def commit(self, *, state: bool = True) -> None:
        if state:
            self.sink.write(item(self.resume, None, (self.operator.last, self.operator.snapshot())))
        self.sink.flush()

    def end(self) -> None:
        self.commit()
        self.alerts.close()

    def kill(self) -> None:
        """As a crash, as far as that can be had in one process: nothing more is committed, posted or told."""
        self.alerts.close(drain=False)

    def write(self, output: FakeOutput) -> None:
        analysed = item(self.resume, output)
        self.alerts.offer(analysed)
        self.sink.write(analysed)


def is_settled(recorder: Recorder, lake: Lake, partition: str = PARTITION) -> bool:
    """Whether the API has come as far as the lake in everything."""
    mark = lake.table("batches").refresh().mark(partition)
    return all(recorder.mark(kind, partition) >= mark for kind in ("alarms", "windows", "latest", "committed"))


def assert_same(recorder: Recorder, lake: Lake, partition: str = PARTITION) -> None:
    """What the API holds is what the lake does: transitions, windows, and the newest reading of each series."""
    stored = plant.stored(lake)
    alarms = {(row["partition"], row["alarm_id"], row["step"]): row for row in stored["alarms"]}
    assert {name: recorder.transitions[name] for name in recorder.held_transitions()} == alarms
    with recorder.lock:
        assert plant.sort(list(recorder.windows.values())) == stored["windows"]
        newest: dict[tuple[str, str], dict[str, Any]] = {}
        for row in stored["readings"]:
            former = newest.get((row["device"], row["metric"]))
            if former is None or row["event_time"] > former["event_time"]:
                newest[row["device"], row["metric"]] = row
        found = {key: (row["event_time"], row["value"]) for key, row in recorder.latest.items()}
        assert found == {key: (row["event_time"], row["value"]) for key, row in newest.items()}

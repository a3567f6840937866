"""When the sink flushes, what it counts, and what it leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import Lake, state
from alumicatalyst.sinks.lake import LakeSink
from tests.lake import plant
from tests.lake.faults import Faults

if TYPE_CHECKING:
    from alumicatalyst.lake import Resume


def take(lake: Lake) -> Resume:
    return lake.resume(plant.PARTITION, dictionary=plant.FakeDictionary(), first_sequence=0)


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"alumicatalyst_{name}", labels) or 0.0


def test_rows_are_flushed_at_the_most_that_is_buffered(lake: Lake) -> None:
    resume, operator = take(lake), plant.Operator()
    sink = LakeSink(lake, flush_interval_s=3_600, flush_rows_max=40)
    sink.write(plant.item(resume, operator.take(0, 9)))
    assert sink.marks() == {plant.PARTITION: -1}
    sink.write(plant.item(resume, operator.take(10, 30)))
    assert sink.marks() == {plant.PARTITION: 30}


def test_rows_are_flushed_at_the_most_bytes_that_are_buffered(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    resume, operator, sink = take(lake), plant.Operator(), plant.sink_of(lake)
    outputs = [operator.take(0, 9), operator.take(10, 30), operator.take(31, 33)]
    sizes = [sum(getattr(each, name).nbytes for name in (*plant.TABLES, "counts")) for each in outputs]
    monkeypatch.setattr("alumicatalyst.sinks.lake.FLUSH_BYTES_MAX", sizes[0] + sizes[1])
    for output, mark in zip(outputs, (-1, 30, 30), strict=True):
        sink.write(plant.item(resume, output))
        assert sink.marks() == {plant.PARTITION: mark}


def test_rows_wait_no_longer_than_the_interval_and_a_heartbeat(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("alumicatalyst.sinks.lake.time.monotonic", lambda: now[0])
    resume, operator = take(lake), plant.Operator()
    sink = LakeSink(lake, flush_interval_s=10, flush_rows_max=1_000_000)
    now[0] += 60
    sink.write(plant.item(resume, operator.take(0, 5)))
    now[0] += 9.9
    sink.write(plant.item(resume, operator.nothing()))
    assert sink.marks() == {plant.PARTITION: -1}
    now[0] += 0.2
    sink.write(plant.item(resume, operator.nothing()))
    assert sink.marks() == {plant.PARTITION: 5}
    version = lake.table("batches").refresh().version
    now[0] += 60
    sink.write(plant.item(resume, operator.nothing()))
    sink.close()
    assert lake.table("batches").refresh().version == version


def test_redelivered_envelopes_are_summed_over_a_flush(lake: Lake) -> None:
    resume, operator, sink = take(lake), plant.Operator(), plant.sink_of(lake)
    sink.write(plant.item(resume, operator.nothing(redelivered=2)))
    sink.write(plant.item(resume, operator.take(0, 9, redelivered=3)))
    sink.write(plant.item(resume, operator.nothing(redelivered=4)))
    sink.flush()
    sink.write(plant.item(resume, operator.take(10, 12)))
    sink.flush()
    rows = plant.scan(lake, "batches").sort("first_sequence")
    assert rows["redelivered"].to_list() == [9, 0]
    assert rows["envelopes"].to_list() == [10, 3]


def test_envelopes_without_readings_are_sealed_too(lake: Lake) -> None:
    resume, operator, sink = take(lake), plant.Operator(), plant.sink_of(lake)
    sink.write(plant.item(resume, operator.take(0, 0)))
    sink.close()
    assert plant.ranges(lake) == [(0, 0)]
    assert plant.scan(lake, "readings").height == 0
    assert lake.table("readings").refresh().mark(plant.PARTITION) == -1


def test_a_flush_that_closes_windows_is_no_envelope(lake: Lake) -> None:
    import pyarrow as pa

    resume, operator, sink = take(lake), plant.Operator(), plant.sink_of(lake)
    sink.write(plant.item(resume, operator.take(0, 9)))
    last = operator.take(10, 10)
    (row,) = last.counts.to_pylist()
    sums = {name: 0 for name in row if name.startswith("rows_")} | {"body_bytes": 0}
    counts = pa.RecordBatch.from_pylist([row | sums], schema=last.counts.schema)
    none = operator.nothing()
    output = plant.FakeOutput(
        plant.PARTITION, 9, 10, 10, none.readings, last.windows, none.alarms, none.rejected, counts
    )
    sink.write(plant.item(resume, output))
    sink.close()
    (found,) = plant.scan(lake, "batches").to_dicts()
    assert (found["envelopes"], found["last_sequence"]) == (10, 10)


def test_a_last_state_without_rows_is_kept_at_the_end(lake: Lake) -> None:
    resume, operator, sink = take(lake), plant.Operator(), plant.sink_of(lake)
    sink.write(plant.item(resume, operator.take(0, 9)))
    sink.flush()
    sink.write(plant.item(resume, None, (9, operator.snapshot())))
    sink.close()
    assert state.numbers(lake.store, plant.PARTITION) == [9]


def test_a_state_waits_until_its_rows_are_sealed(lake: Lake) -> None:
    resume, operator, sink = take(lake), plant.Operator(), plant.sink_of(lake)
    sink.write(plant.item(resume, operator.take(0, 9), (9, operator.snapshot())))
    assert state.numbers(lake.store, plant.PARTITION) == []
    sink.flush()
    assert state.numbers(lake.store, plant.PARTITION) == [9]


def test_a_state_that_cannot_be_kept_stops_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Faults(monkeypatch, lambda _, step: "failed" if step == "state" else None)
    plant.run(lake, 40)
    assert "state not kept" in caplog.text
    plant.assert_exact(lake, 40)


def test_commits_rows_bytes_and_conflicts_are_counted(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: count(f"lake_{name}_total", table="readings") for name in ("commits", "conflicts", "rows", "bytes")}
    resume = take(lake)
    rival = Lake.open(lake.store.root)
    done: list[bool] = []

    def rivals_first(_: int, step: str) -> None:
        if step == "commit readings" and not done:
            done.append(True)
            rival.resume("telemetry/1/9", dictionary=plant.FakeDictionary(), first_sequence=0)

    Faults(monkeypatch, rivals_first)
    sink = plant.sink_of(lake)
    sink.write(plant.item(resume, plant.Operator().take(0, 9)))
    sink.flush()
    gained = {name: count(f"lake_{name}_total", table="readings") - was for name, was in before.items()}
    files = lake.table("readings").contents()
    assert gained == {"commits": 3, "conflicts": 1, "rows": files.rows, "bytes": sum(files.sizes)}


def test_a_store_that_cannot_be_read_is_a_clear_error(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object) -> None:
        raise OSError("the network is unreachable\nwith many details")

    fresh = Lake.open(lake.store.root, patience_s=0)
    monkeypatch.setattr(type(lake.store), "get", down)
    for act in (
        lambda: Lake.open(lake.store.root),
        lambda: take(fresh),
        lambda: fresh.dictionary("abc"),
        lambda: fresh.state(plant.PARTITION, 3),
    ):
        with pytest.raises(LakeError, match=r"the network is unreachable; (check that the store|nothing is lost)"):
            act()

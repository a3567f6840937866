"""The core against the oracle, and against itself however its log is cut, interrupted or placed."""

from __future__ import annotations

import itertools
import json
import math
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst._core import Dictionary, Partition, schema, stored_schema
from tests.compare import TABLES, Run, assert_as_oracle, assert_latest, batch_of, consult, feed, rows_of
from tests.logs import START_US, Envelope, logs, seeded_log, write_log
from tests.oracle import Oracle
from tests.plants import PLANTS, SECOND

PARTITION = "test/1/0"
DICTIONARIES = {name: Dictionary.from_json(json.dumps(plant)) for name, plant in PLANTS.items()}
CORPUS = range(12)
plants = st.sampled_from(sorted(PLANTS))


def fresh(plant: str, partition: str = PARTITION) -> Partition:
    return Partition(partition, DICTIONARIES[plant])


@st.composite
def plants_and_logs(draw: st.DrawFn, envelopes_max: int = 30) -> tuple[str, list[Any]]:
    plant = draw(plants)
    return plant, draw(logs(PLANTS[plant], envelopes_max))


@pytest.mark.parametrize("plant", sorted(PLANTS))
def test_i1_the_core_emits_the_oracles_rows_over_the_corpus(plant):
    for seed in CORPUS:
        log = seeded_log(seed, plant, 100)
        assert_as_oracle(feed(fresh(plant), log, [17, 17, 60]), consult(Oracle(PARTITION, PLANTS[plant]), log))


@settings(max_examples=150, deadline=None)
@given(plants_and_logs())
def test_i1_the_core_emits_the_oracles_rows(given):
    plant, log = given
    assert_as_oracle(feed(fresh(plant), log), consult(Oracle(PARTITION, PLANTS[plant]), log))


# A sound object of each form, and what else its members may say.
SOUND = {
    "presses": {"d": '"press-1"', "t": str(START_US), "m": '"pressure"', "v": "4.5", "q": "192"},
    "wide": {"deviceId": '"pot-1"', "t": str(START_US // 1000), "cell_voltage": "4.5", "q": "192"},
}
ODD = ("null", "true", "5", "NaN", '""', '"x"', f'"{"x" * 300}"')


@pytest.mark.parametrize("plant", sorted(SOUND))
def test_i1_of_a_key_that_occurs_twice_both_members_are_judged(plant):
    log: list[Envelope] = []
    for key, sound in SOUND[plant].items():
        for first, second in itertools.product((sound, *ODD), repeat=2):
            members = [*(SOUND[plant] | {key: first}).items(), (key, second)]
            body = "{" + ",".join(f'"{name}":{value}' for name, value in members) + "}"
            log.append(Envelope(len(log), START_US, body.encode()))
    run = feed(fresh(plant), log)
    assert_as_oracle(run, consult(Oracle(PARTITION, PLANTS[plant]), log))
    reasons = [row["reason"] for row in run.rows("rejected")]
    assert len(reasons) == len(log)
    assert {"missing_device", "missing_time", "bad_time", "wrong_type", "repeated_key"} <= set(reasons)


@pytest.mark.parametrize("plant", sorted(PLANTS))
def test_i1_the_counts_of_every_envelope_are_those_of_its_rows(plant):
    log = seeded_log(3, plant, 300)
    run = feed(fresh(plant), log, range(0, 300, 7))
    tables = {name: run.rows(name) for name in TABLES}
    assert [count["sequence_number"] for count in tables["counts"]] == sorted({e.sequence_number for e in log})
    for count in tables["counts"]:
        of_it = {
            name: [row for row in rows if row["sequence_number"] == count["sequence_number"]]
            for name, rows in tables.items()
        }
        outcomes = [row["outcome"] for row in of_it["readings"]]
        for outcome in ("windowed", "late", "duplicate"):
            assert count[f"rows_{outcome}"] == outcomes.count(outcome)
        assert count["rows_rejected"] == len(of_it["rejected"])
        assert count["rows_unscored"] == sum(row["score_state"] != "scored" for row in of_it["readings"])
        assert count["rows_windows"] == len(of_it["windows"])
        assert count["rows_alarms"] == len(of_it["alarms"])
        assert count["rows_total"] == len(of_it["readings"]) + len(of_it["rejected"])
        items = sorted(row["item"] for row in (*of_it["readings"], *of_it["rejected"]))
        assert items in (list(range(len(items))), [-1])


@pytest.mark.parametrize("plant", sorted(PLANTS))
def test_i1_an_alarm_is_raised_then_updated_then_cleared_each_step_once(plant):
    for seed in CORPUS:
        told: dict[str, list[tuple[int, str]]] = {}
        for row in feed(fresh(plant), seeded_log(seed, plant, 100)).rows("alarms"):
            told.setdefault(row["alarm_id"], []).append((row["step"], row["transition"]))
        for steps in told.values():
            assert [step for step, _ in steps] == list(range(len(steps)))
            transitions = [transition for _, transition in steps]
            assert transitions[0] == "raised"
            assert set(transitions[1:-1]) <= {"updated"}
            assert transitions[-1] in ("raised", "updated", "cleared")


@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_i2_another_process_with_another_hash_seed_makes_the_same_bytes(hash_seed):
    program = """
import json, sys
from tests.test_exactness import corpus_digests
print(json.dumps(corpus_digests()))
"""
    child = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": hash_seed, "PATH": ""},
        cwd=Path(__file__).parents[1],
        check=True,
        capture_output=True,
        timeout=110,
    )
    assert json.loads(child.stdout) == corpus_digests()


def corpus_digests() -> list[Any]:
    """Digests of tables and state over a few logs."""
    found: list[Any] = []
    for plant in sorted(PLANTS):
        partition = fresh(plant)
        run = feed(partition, seeded_log(1, plant, 80))
        found.append([run.fingerprints(), partition.snapshot().hex()])
    return found


@pytest.mark.parametrize("plant", sorted(PLANTS))
def test_i2_what_happens_in_other_partitions_changes_nothing(plant):
    log, other = seeded_log(5, plant, 120), seeded_log(6, plant, 120)
    alone = feed(fresh(plant), log, range(0, 120, 10)).fingerprints()

    one, two, run = fresh(plant), fresh(plant, "test/1/1"), Run()
    for start in range(0, 120, 10):
        feed(two, other[start : start + 10])
        feed(one, log[start : start + 10], run=run)
    assert run.fingerprints() == alone


def test_i2_partitions_on_threads_do_not_touch_each_other():
    log = seeded_log(7, "wide", 200)
    alone = feed(fresh("wide"), log, range(0, 200, 5)).fingerprints()
    found: list[dict[str, str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(feed(fresh("wide"), log, range(0, 200, 5)).fingerprints()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 4


@settings(max_examples=60, deadline=None)
@given(plants_and_logs(40))
def test_i3_the_watermark_never_goes_back(given):
    plant, log = given
    run = feed(fresh(plant), log)
    watermarks: dict[tuple[str, str], int] = {}
    for row in run.rows("readings"):
        if row["outcome"] == "late" and row["lateness_us"] > 0:
            series, watermark = (row["device"], row["metric"]), row["event_time"] + row["lateness_us"]
            assert watermarks.get(series, watermark) <= watermark
            watermarks[series] = watermark
    emitted = [(row["device"], row["metric"], row["window_name"], row["window_start"]) for row in run.rows("windows")]
    assert len(emitted) == len(set(emitted))


@pytest.mark.parametrize("shift_days", [-20_000, -9_000, 25_200])
@pytest.mark.parametrize("plant", sorted(PLANTS))
def test_i3_the_wall_clock_decides_nothing(plant, shift_days):
    # Every window length divides 2100 s, so a shift by a multiple of it moves windows along with their readings.
    shift = shift_days * 86_400 // 2_100 * 2_100 * SECOND
    outputs = []
    for moved in (0, shift):
        log = write_log(random.Random(11), PLANTS[plant], 150, damage=0.0, shift_us=moved)
        run = feed(fresh(plant), log)
        for name in TABLES:
            assert run.rows(name)
        outputs.append([(name, unmoved(run, name, moved)) for name in TABLES])
    assert outputs[0] == outputs[1]


def unmoved(run: Run, name: str, moved: int) -> list[dict[str, Any]]:
    times = {field.name for field in run.table(name).schema if str(field.type).startswith("timestamp")}
    return [
        {
            column: value - moved if column in times and value is not None else value
            for column, value in row.items()
            if column not in ("body", "body_bytes", "detail")
        }
        for row in rows_of(run.table(name))
    ]


@settings(max_examples=100, deadline=None)
@given(plants_and_logs(), st.data())
def test_i4_however_the_log_is_cut_the_bits_are_the_same(given, data):
    plant, log = given
    whole, cut = fresh(plant), fresh(plant)
    expected = feed(whole, log)
    cuts = data.draw(st.lists(st.integers(0, len(log)), max_size=12))
    run = feed(cut, log, cuts)
    assert run.fingerprints() == expected.fingerprints()
    assert run.redelivered == expected.redelivered
    assert cut.snapshot() == whole.snapshot()
    assert_chained(run)
    assert_latest(run, consult(Oracle(PARTITION, PLANTS[plant]), log))


@pytest.mark.parametrize("plant", sorted(PLANTS))
def test_i4_envelope_by_envelope_is_the_same_as_at_once(plant):
    log = seeded_log(2, plant, 150)
    whole, single = fresh(plant), fresh(plant)
    expected, run = feed(whole, log), feed(single, log, range(1, len(log)))
    assert run.fingerprints() == expected.fingerprints()
    assert single.snapshot() == whole.snapshot()


def assert_chained(run: Run) -> None:
    """Outputs follow each other without a gap, and an empty one covers nothing."""
    last = -1
    for output in run.outputs:
        assert output.follows == last
        numbers = output.counts["sequence_number"].to_pylist()
        assert output.first == (numbers[0] if numbers else None)
        assert output.last == (numbers[-1] if numbers else last)
        last = output.last


@settings(max_examples=100, deadline=None)
@given(plants_and_logs(), st.data())
def test_i5_resume_at_any_point_gives_the_same_rows(given, data):
    plant, log = given
    undisturbed = fresh(plant)
    expected = feed(undisturbed, log, range(1, len(log)))
    stop = data.draw(st.integers(0, len(log)))
    first = fresh(plant)
    run = feed(first, log[:stop], range(1, stop))
    # A source starts a little before the state; what the state covers is redelivered.
    again = data.draw(st.integers(0, stop))
    second = Partition(PARTITION, DICTIONARIES[plant], first.snapshot())
    assert second.last_sequence == first.last_sequence
    assert second.snapshot() == first.snapshot()
    feed(second, log[again:], range(1, len(log) - again), run)
    assert run.fingerprints() == expected.fingerprints()
    assert run.redelivered == expected.redelivered + stop - again
    assert second.snapshot() == undisturbed.snapshot()


@settings(max_examples=60, deadline=None)
@given(plants_and_logs(40))
def test_i8_no_number_is_nan_or_infinite(given):
    plant, log = given
    partition = fresh(plant)
    run = feed(partition, log)
    run.add(partition.flush(10**9, 1))
    assert_finite(run)


def assert_finite(run: Run) -> None:
    for name in (*TABLES, "latest"):
        for row in run.rows(name):
            for column, value in row.items():
                assert not isinstance(value, float) or math.isfinite(value), (name, column, row)


@pytest.mark.parametrize(
    ("values", "finite"),
    [
        ([1.7e308, -1.7e308], {"min", "max", "first", "last"}),
        ([1e200, -1e200, 1e200], {"min", "max", "first", "last", "mean", "slope_per_s"}),
        ([1.7e308, 1.7e308], {"min", "max", "first", "last", "mean", "std", "slope_per_s"}),
        ([5e-324, 0.0], {"min", "max", "first", "last", "mean", "std", "slope_per_s"}),
    ],
)
def test_i8_a_statistic_that_overflows_is_null(values, finite):
    readings = [
        {"deviceId": "hall-1", "metric": "free", "value": value, "ts": f"2026-01-15T12:00:0{second}Z"}
        for second, value in enumerate(values)
    ]
    partition = fresh("narrow")
    envelope = seeded_log(0, "narrow", 1)[0]
    run = feed(partition, [type(envelope)(1, envelope.enqueued_us + 60 * SECOND, json.dumps(readings).encode())])
    run.add(partition.flush(2, 1))
    for row in run.rows("windows"):
        assert row["count"] == len(values)
        null = {name for name in ("min", "max", "first", "last", "mean", "std", "slope_per_s") if row[name] is None}
        assert null.isdisjoint(finite)
        assert null == {"mean", "std", "slope_per_s"} - finite or null < {"mean", "std", "slope_per_s"}
    assert_finite(run)


def a_batch(plant: str) -> pa.RecordBatch:
    return batch_of(seeded_log(4, plant, 50))


def test_the_tables_are_those_of_the_contract():
    output = fresh("narrow").on_batch(a_batch("narrow"))
    for name in ("readings", "windows", "alarms", "rejected", "latest"):
        table, wanted = getattr(output, name).schema, schema(name)
        assert wanted.names == table.names
        if name != "latest":
            assert stored_schema(name).names == ["date", *table.names, "_batch", "_row"]
        for column in table:
            assert plain_type(column.type) == plain_type(wanted.field(column.name).type), (name, column)
    assert output.counts.schema.equals(schema("counts"))


def plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind

"""The core's second way in: stored rows give, under the same dictionary, the rows that the bodies gave, bit for bit."""

from __future__ import annotations

import json
import random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst._core import Dictionary, Partition
from tests.compare import Run, batch_of, feed
from tests.logs import Envelope, seeded_log
from tests.plants import PLANTS
from tests.test_exactness_journal import PARTITION, Play, dictionary_of, histories, renumbered

ROWS = ("readings", "windows", "alarms", "rejected")
CAUSE = ["partition", "sequence_number", "item", "enqueued_time"]


def shuffled(table: pa.Table, rng: random.Random) -> list[pa.RecordBatch]:
    """The rows in any order and in any batches, names told once or row by row."""
    order = list(range(table.num_rows))
    rng.shuffle(order)
    mixed = table.take(pa.array(order, pa.int64()))
    if rng.random() < 0.5:
        for name in ("partition", "device", "metric"):
            at = mixed.schema.get_field_index(name)
            if at >= 0:
                mixed = mixed.set_column(at, name, mixed.column(name).combine_chunks().dictionary_encode())
    batches: list[pa.RecordBatch] = mixed.combine_chunks().to_batches(max_chunksize=rng.choice([3, 50, 10_000]))
    return batches


def passed_of(run: Run) -> list[tuple[int, int | None]]:
    """Envelopes that left no row."""
    told = {row["sequence_number"] for name in ROWS for row in run.rows(name)}
    return [
        (row["sequence_number"], row["enqueued_time"])
        for row in run.rows("counts")
        if row["sequence_number"] not in told
    ]


def again(compiled: dict[str, Any], history: list[Envelope | Any], run: Run, rng: random.Random) -> Play:
    """Play the history once more from the rows of a run instead of its envelopes."""
    tables = {name: shuffled(run.table(name), rng) for name in ROWS}
    passed = passed_of(run)
    play = Play(compiled)
    play.run = Run([play.partition.on_batch(batch_of([]))])
    numbers = [event.sequence_number for event in history if isinstance(event, Envelope)]
    last = -1

    def upto(number: int) -> None:
        nonlocal last
        if number > last:
            within = [each for each in passed if last < each[0] <= number and each[0] in numbers]
            play.run.add(
                play.partition.on_stored(
                    tables["readings"], tables["rejected"], tables["windows"] + tables["alarms"], within, last, number
                )
            )
            last = number

    seen = -1
    for event in history:
        if isinstance(event, Envelope):
            seen = max(seen, event.sequence_number)
            if rng.random() < 0.1:
                upto(seen)
            continue
        upto(seen)
        play.step(event)
        if event[0] == "flush":
            last = max(last, play.partition.last_sequence)
    upto(seen)
    return play


@settings(max_examples=80, deadline=None)
@given(histories(), st.integers(0, 10**9))
def test_i2_stored_rows_give_the_rows_of_their_envelopes_bit_for_bit(given, seed):
    compiled, history = given
    history = renumbered(history)
    play = Play(compiled)
    for event in history:
        play.step(event)
    replayed = again(compiled, history, play.run, random.Random(seed))
    ours, theirs = replayed.run.fingerprints(), play.run.fingerprints()
    for name in ROWS:
        assert replayed.run.rows(name) == play.run.rows(name), name
        assert ours[name] == theirs[name], name
    assert replayed.partition.snapshot() == play.partition.snapshot()


@pytest.mark.parametrize("plant", sorted(PLANTS))
def test_i1_what_another_dictionary_refuses_is_rejected_with_its_text(plant):
    compiled = PLANTS[plant]
    log = seeded_log(5, plant, 200)
    partition = Partition(PARTITION, dictionary_of(compiled))
    run = feed(partition, log)
    gone = run.rows("readings")[0]["device"]
    later = json.loads(json.dumps(compiled))
    later["series"] = [each for each in later["series"] if each["device"] != gone]
    used = sorted({each["metric"] for each in later["series"]})
    later["metrics"] = [later["metrics"][at] for at in used]
    for each in later["series"]:
        each["metric"] = used.index(each["metric"])
    names = {each["name"] for each in later["metrics"]}
    later["payload"]["rename"] = {old: new for old, new in later["payload"]["rename"].items() if new in names}
    later["unknown"] = None
    dictionary = Dictionary.from_json(json.dumps(later))
    tables = {name: run.table(name).to_batches() for name in ROWS}
    output = Partition(PARTITION, dictionary).on_stored(
        tables["readings"], tables["rejected"], tables["windows"] + tables["alarms"], passed_of(run), -1, 10**9
    )
    found = Run([output])
    assert sum(row["rows_total"] for row in found.rows("counts")) == sum(
        row["rows_total"] for row in run.rows("counts")
    )
    refused = {(row["sequence_number"], row["item"]): row for row in run.rows("readings") if row["device"] == gone}
    carried = {(row["sequence_number"], row["item"]): row for row in run.rows("rejected")}
    rejected = {(row["sequence_number"], row["item"]): row for row in found.rows("rejected")}
    assert refused
    assert {key: rejected[key] for key in carried} == carried
    for key, reading in refused.items():
        row = rejected[key]
        assert row["reason"] in ("unknown_device", "unknown_metric")
        assert (row["device"], row["metric"], row["event_time"]) == tuple(
            reading[name] for name in ("device", "metric", "event_time")
        )
        told = json.loads(row["body"])
        assert told == {
            "device": reading["device"],
            "metric": reading["metric"],
            "event_time_us": reading["event_time"],
            "value": reading["value"],
            "quality": reading["quality"],
        }
        assert row["body_bytes"] == len(row["body"])
        assert row["detail"].endswith(", of a stored reading")


def test_stored_rows_that_are_none_are_refused():
    run = feed(Partition(PARTITION, dictionary_of(PLANTS["narrow"])), seeded_log(5, "narrow", 60))
    readings = run.table("readings")

    def take(table: pa.Table) -> None:
        Partition(PARTITION, dictionary_of(PLANTS["narrow"])).on_stored(table.to_batches(), [], [], [], -1, 10**9)

    take(readings)
    with pytest.raises(ValueError, match="no column value"):
        take(readings.drop_columns(["value"]))
    at = readings.schema.get_field_index("value")
    with pytest.raises(ValueError, match="value holds nulls"):
        take(readings.set_column(at, "value", pa.nulls(readings.num_rows, pa.float64())))
    with pytest.raises(ValueError, match="value is Int64"):
        take(readings.set_column(at, "value", pa.array([1] * readings.num_rows)))
    with pytest.raises(ValueError, match="not finite"):
        take(readings.set_column(at, "value", pa.array([float("nan")] * readings.num_rows)))
    rejected = run.table("rejected")
    newer = rejected.set_column(
        rejected.schema.get_field_index("reason"), "reason", pa.array(["later"] * rejected.num_rows)
    )
    with pytest.raises(ValueError, match="of a newer version"):
        Partition(PARTITION, dictionary_of(PLANTS["narrow"])).on_stored([], newer.to_batches(), [], [], -1, 10**9)

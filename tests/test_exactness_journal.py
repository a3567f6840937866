"""What the journal changes, a flush or another dictionary, at any point of the log and across resumes (I4, I5)."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst._core import Dictionary, Partition
from tests.compare import Run, assert_as_oracle, consult, feed
from tests.logs import Envelope, seeded_log, write_log
from tests.oracle import Emission, Oracle
from tests.oracle_windows import Windows
from tests.plants import LIMITS, MINUTE, PLANTS, SECOND, ewma, metric

PARTITION = "test/1/0"
# A journal's row: what it does, and the dictionary if it brings one.
Event = tuple[str, Any]
MORE_WINDOWS = metric("", 300, (40, 20), "session/15s")["windows"]


def revised(dictionary: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A later version: anything about a metric may be another, series are added and taken out."""
    later = copy.deepcopy(dictionary)
    later["version"] = str(rng.randint(2, 10**6))
    unknown = [later["unknown"]] if later["unknown"] is not None else []
    for each in (*later["metrics"], *unknown):
        revise_times(each, rng)
        revise_windows(each, rng)
        if each["states"] is None:
            revise_numbers(each, rng)
        revise_alarms(each, rng)
    if rng.random() < 0.2:
        # A metric's name has one unit throughout.
        renamed = rng.choice([each["name"] for each in (*later["metrics"], *unknown) if each["states"] is None])
        unit = rng.choice(["V", "bar", "kg"])
        for each in (*later["metrics"], *unknown):
            each["unit"] = unit if each["name"] == renamed else each["unit"]
    if rng.random() < 0.4 and later["series"][0]["device"] != "aaa":
        # Series are sorted by device and metric.
        later["metrics"].append(metric("added", 20))
        added = {"device": "aaa", "asset": "example/test/aaa", "metric": len(later["metrics"]) - 1}
        later["series"].insert(0, added)
    return without_a_series(later, rng) if rng.random() < 0.25 and len(later["series"]) > 2 else later


def revise_times(each: dict[str, Any], rng: random.Random) -> None:
    if rng.random() < 0.5:
        each["out_of_orderness_us"] = rng.choice([0, 3 * SECOND, 30 * SECOND])
    if rng.random() < 0.5:
        each["idle_us"] = rng.choice([5 * SECOND, 20 * SECOND, MINUTE])
    if rng.random() < 0.3:
        each["duplicates"] = rng.choice([0, 1, 2, 8])
    if rng.random() < 0.3:
        each["clock_skew_us"] = rng.choice([0, 10 * SECOND])


def revise_windows(each: dict[str, Any], rng: random.Random) -> None:
    if rng.random() < 0.4:
        # In the first place or the last: definitions are told apart by what they are, not where they stand.
        more = [new for new in rng.sample(MORE_WINDOWS, 1) if new not in each["windows"]]
        each["windows"] = rng.choice([each["windows"] + more, more + each["windows"]])
    if rng.random() < 0.2 and each["windows"]:
        each["windows"].pop(rng.randrange(len(each["windows"])))


def revise_numbers(each: dict[str, Any], rng: random.Random) -> None:
    if rng.random() < 0.3 and each["range"] is not None:
        # Limits stay within it.
        each["range"] = [each["range"][0] - 10.0, each["range"][1] * 0.95]
    if rng.random() < 0.15:
        each["resolution"] = rng.choice([None, 0.01, 5.0])
    if rng.random() < 0.2:
        each["detector"] = rng.choice([{"kind": "none"}, ewma(60, learn=2), ewma(5, learn=3, store_above=1.0)])


def revise_alarms(each: dict[str, Any], rng: random.Random) -> None:
    if rng.random() < 0.4 and each["name"] in LIMITS:
        each["alarms"] = copy.deepcopy(rng.choice(LIMITS[each["name"]]))
    if each["detector"]["kind"] == "none":
        each["alarms"] = [rule for rule in each["alarms"] if rule["condition"]["kind"] != "score_above"]
    if rng.random() < 0.4 and each["alarms"]:
        changed = rng.choice(each["alarms"])
        changed["on_us"], changed["off_us"] = (rng.choice([0, SECOND, 8 * SECOND]) for _ in range(2))
        changed["text"] = rng.choice([None, "anything"])


def without_a_series(later: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    gone = later["series"].pop(rng.randrange(len(later["series"])))
    if all(series["metric"] != gone["metric"] for series in later["series"]):
        later["metrics"].pop(gone["metric"])
        for series in later["series"]:
            series["metric"] -= series["metric"] > gone["metric"]
        names = {metric["name"] for metric in later["metrics"]}
        rename = later["payload"]["rename"]
        later["payload"]["rename"] = {old: new for old, new in rename.items() if new in names}
    return later


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[str, Any], list[Envelope | Event]]:
    """A dictionary and a partition's log with its journal interleaved."""
    rng = draw(st.randoms(use_true_random=False))
    dictionary = PLANTS[draw(st.sampled_from(sorted(PLANTS)))]
    history: list[Envelope | Event] = list(write_log(rng, dictionary, draw(st.integers(0, 30))))
    current = dictionary
    for place in sorted(draw(st.lists(st.integers(0, len(history)), max_size=4))):
        if rng.random() < 0.5:
            history.insert(place, ("flush", None))
        else:
            current = revised(current, rng)
            history.insert(place, ("dictionary", current))
    return dictionary, history


def dictionary_of(compiled: dict[str, Any]) -> Dictionary:
    return Dictionary.from_json(json.dumps(compiled))


class Play:
    """Plays a history on the core: envelopes in batches, the journal in between."""

    def __init__(self, compiled: dict[str, Any]) -> None:
        self.dictionary = dictionary_of(compiled)
        self.partition = Partition(PARTITION, self.dictionary)
        self.ordinal = 0
        self.run = feed(self.partition, [])

    def restart(self) -> None:
        """A new partition from the state of the old one."""
        self.partition = Partition(PARTITION, self.dictionary, self.partition.snapshot())

    def step(self, event: Envelope | Event) -> None:
        if isinstance(event, Envelope):
            feed(self.partition, [event], run=self.run)
            return
        self.ordinal += 1
        kind, compiled = event
        if kind == "flush":
            self.run.add(self.partition.flush(self.partition.last_sequence + 1, self.ordinal))
        else:
            self.dictionary = dictionary_of(compiled)
            self.partition.change_dictionary(self.dictionary, self.ordinal)
            assert self.partition.dictionary_sha256 == self.dictionary.sha256
        assert self.partition.journal_ordinal == self.ordinal


def renumbered(history: list[Envelope | Event]) -> list[Envelope | Event]:
    """Makes room for the flushes: each takes the number after the last envelope's."""
    moved: list[Envelope | Event] = []
    flushes = 0
    for event in history:
        if isinstance(event, Envelope):
            moved.append(replace(event, sequence_number=event.sequence_number + 100 * flushes))
            continue
        flushes += event[0] == "flush"
        moved.append(event)
    return moved


def expected(compiled: dict[str, Any], history: list[Envelope | Event]) -> list[Emission]:
    oracle = Oracle(PARTITION, compiled)
    emissions = []
    for event in history:
        if isinstance(event, Envelope):
            emissions += consult(oracle, [event])
        elif event[0] == "flush":
            emissions.append(oracle.flush(oracle.last_sequence + 1))
        else:
            oracle.change_dictionary(event[1])
    return emissions


@settings(max_examples=120, deadline=None)
@given(histories())
def test_i1_flushes_and_new_dictionaries_take_effect_where_the_journal_has_them(given):
    compiled, history = given
    history = renumbered(history)
    play = Play(compiled)
    for event in history:
        play.step(event)
    assert_as_oracle(play.run, expected(compiled, history))


@settings(max_examples=80, deadline=None)
@given(histories(), st.data())
def test_i5_resume_across_the_journal_gives_the_same_rows(given, data):
    compiled, history = given
    history = renumbered(history)
    undisturbed, interrupted = Play(compiled), Play(compiled)
    stops = data.draw(st.sets(st.integers(0, max(0, len(history) - 1)), max_size=6))
    for place, event in enumerate(history):
        undisturbed.step(event)
        if place in stops:
            interrupted.restart()
        interrupted.step(event)
    assert interrupted.run.fingerprints() == undisturbed.run.fingerprints()
    assert interrupted.run.rows("latest") == undisturbed.run.rows("latest")
    assert interrupted.partition.snapshot() == undisturbed.partition.snapshot()


def test_a_flush_of_a_partition_that_has_seen_nothing_is_empty():
    partition = Partition(PARTITION, dictionary_of(PLANTS["narrow"]))
    output = partition.flush(5, 1)
    assert output.windows.num_rows == output.counts.num_rows == 0
    assert partition.journal_ordinal == 1


@pytest.mark.parametrize("number", [-1, 0, 7])
def test_a_flush_at_or_before_the_last_envelope_is_refused(number):
    partition = Partition(PARTITION, dictionary_of(PLANTS["narrow"]))
    feed(partition, [Envelope(7, seeded_log(0, "narrow", 1)[0].enqueued_us, b"{}")])
    with pytest.raises(ValueError, match="sequence"):
        partition.flush(number, 1)


def test_a_flush_is_one_more_row_of_counts():
    log = seeded_log(1, "narrow", 60)
    partition = Partition(PARTITION, dictionary_of(PLANTS["narrow"]))
    feed(partition, log)
    last, newest = partition.last_sequence, max(envelope.enqueued_us for envelope in log)
    output = partition.flush(last + 5, 1)
    (count,) = Run([output]).rows("counts")
    assert (output.follows, output.first, output.last) == (last, last + 5, last + 5)
    assert count["rows_windows"] == output.windows.num_rows > 0
    assert (count["sequence_number"], count["body_bytes"], count["enqueued_time"]) == (last + 5, 0, newest)


def reduced(dictionary: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A later version without one window definition, or without one series."""
    later = copy.deepcopy(dictionary)
    later["version"] = "reduced"
    with_windows = [each for each in later["metrics"] if len(each["windows"]) > 1]
    if rng.random() < 0.5:
        rng.choice(with_windows)["windows"].pop(rng.randint(0, 1))
        return later
    return without_a_series(later, rng)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PLANTS)), st.integers(0, 10**9), st.integers(0, 40), st.booleans())
def test_i1_windows_that_a_new_dictionary_no_longer_has_come_out_once(plant, seed, place, restart):
    rng = random.Random(seed)
    before = PLANTS[plant]
    after = reduced(before, rng)
    play = Play(before)
    log = write_log(rng, before, 60)
    changed_at = max((envelope.sequence_number for envelope in log[:place]), default=-1)
    history: list[Envelope | Event] = [*log[:place], ("dictionary", after), *log[place:], ("flush", None)]
    for event in history:
        play.step(event)
        if restart:
            play.restart()
    entered: Counter[tuple[str, str]] = Counter()
    for row in play.run.rows("readings"):
        if row["outcome"] == "windowed":
            in_force = Oracle(PARTITION, before if row["sequence_number"] <= changed_at else after)
            definition = in_force._definition(row["device"], row["metric"])
            assert definition is not None
            covering = [span for each in definition["windows"] for span in Windows(each).covering(row["event_time"])]
            entered[row["device"], row["metric"]] += len(covering) - row["windows_missed"]
    windows = play.run.rows("windows")
    emitted: Counter[tuple[str, str]] = Counter()
    for row in windows:
        emitted[row["device"], row["metric"]] += row["count"]
    assert emitted == +entered
    keys = Counter((row["device"], row["metric"], row["window_name"], row["window_start"]) for row in windows)
    assert not keys or max(keys.values()) == 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PLANTS)), st.integers(0, 10**9), st.integers(0, 60), st.integers(0, 30), st.booleans())
def test_i3_what_one_dictionary_takes_out_and_a_later_one_puts_back_is_not_emitted_twice(
    plant, seed, place, between, restart
):
    rng = random.Random(seed)
    before = PLANTS[plant]
    play = Play(before)
    log = write_log(rng, before, 90)
    history: list[Envelope | Event] = [*log[:place], ("dictionary", reduced(before, rng))]
    history += [*log[place : place + between], ("dictionary", before), *log[place + between :], ("flush", None)]
    for event in history:
        play.step(event)
        if restart:
            play.restart()
    windows = play.run.rows("windows")
    keys = Counter((row["device"], row["metric"], row["window_name"], row["window_start"]) for row in windows)
    assert not keys or max(keys.values()) == 1, [key for key, times in keys.items() if times > 1]

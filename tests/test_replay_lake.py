"""A replay from a lake: the same dictionary gives the same lake, another its own; what cannot be done is refused."""

from __future__ import annotations

import copy
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst._core import Dictionary, Partition
from alumicatalyst.errors import IncarnationChanged, InputError, LakeError
from alumicatalyst.lake import Lake
from alumicatalyst.lake.doctor import examine
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from alumicatalyst.sources import stored_files, stored_reader
from alumicatalyst.sources.stored import StoredSource, check_target
from tests.compare import feed
from tests.logs import Envelope, seeded_log, write_log
from tests.plants import PLANTS, SECOND
from tests.replaying import assert_same, run, stored, sums
from tests.test_exactness_journal import dictionary_of, revised

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from alumicatalyst.operator import Analysed

PARTITIONS = ("hub/1/0", "hub/1/1")


def replay(
    source: Path, into: Path, dictionary: Dictionary | None = None, *, on_item: Any = None, **given: Any
) -> StoredSource:
    """Replay a lake into another; None keeps its dictionaries."""
    accept = given.pop("accept_missing", False)
    lake, target = Lake.open(f"file:{source}", create=False), Lake.open(f"file:{into}")
    found = StoredSource(lake, dictionary, accept_missing=accept)
    check_target(found, target)
    wanted = {"flush_at_end": False, "flush_rows_max": 100, "flush_interval_s": 3600.0} | given
    anything = dictionary or dictionary_of(PLANTS["narrow"])
    run_loop(Pipeline(found, anything, target, **wanted), on_item=on_item)
    return found


def monotone(dictionary: Dictionary, log: Sequence[Envelope]) -> list[Envelope]:
    """The log without envelopes that leave no row, raise partition time, and are followed by earlier times.

    What those did to partition time in between, no lake can tell.
    """
    kept = list(log)
    while True:
        run = feed(Partition("hub/1/0", dictionary), kept)
        told = {
            row["sequence_number"] for name in ("readings", "windows", "alarms", "rejected") for row in run.rows(name)
        }
        newest, risen, bad = -(2**63), -(2**63), None
        seen = -1
        for at, envelope in enumerate(kept):
            if envelope.sequence_number <= seen:
                continue
            seen = envelope.sequence_number
            if envelope.sequence_number not in told:
                if envelope.enqueued_us > newest:
                    risen, bad = envelope.enqueued_us, at if bad is None else bad
            elif envelope.enqueued_us < risen and bad is not None:
                break
            newest = max(newest, envelope.enqueued_us)
            if envelope.sequence_number in told:
                risen, bad = -(2**63), None
        else:
            return kept
        del kept[bad]


History = tuple[list[dict[str, Any]], list[dict[str, list[Envelope]]], list[bool]]


def history(seed: int) -> History:
    """What a flow goes through in some runs: dictionaries, what each run's logs hold, and which end with a flush."""
    rng = random.Random(seed)
    plant = sorted(PLANTS)[seed % len(PLANTS)]
    dictionaries = [PLANTS[plant]]
    for _ in range(rng.randint(0, 2)):
        dictionaries.append(revised(dictionaries[-1], rng))
    logs = {each: monotone(dictionary_of(PLANTS[plant]), write_log(rng, PLANTS[plant], 45)) for each in PARTITIONS}
    runs, moved = [], dict.fromkeys(PARTITIONS, 0)
    flushes = [rng.random() < 0.6 for _ in dictionaries]
    grown: dict[str, list[Envelope]] = {each: [] for each in PARTITIONS}
    for number, flush in enumerate(flushes):
        for each, log in logs.items():
            share = log[len(log) * number // len(flushes) : len(log) * (number + 1) // len(flushes)]
            # A flush takes the number behind the last envelope.
            new = [replace(e, sequence_number=e.sequence_number + 100 * moved[each]) for e in share]
            grown[each] = grown[each] + new
            moved[each] += flush
        runs.append(dict(grown))
    return dictionaries, runs, flushes


@pytest.mark.parametrize("seed", range(4))
def test_i2_a_lake_replayed_under_its_own_dictionaries_is_the_same_bit_for_bit(tmp_path, seed):
    dictionaries, runs, flushes = history(seed)
    for dictionary, logs, flush in zip(dictionaries, runs, flushes, strict=True):
        run(tmp_path / "one", dictionary_of(dictionary), logs, flush=flush)
    replay(tmp_path / "one", tmp_path / "two")
    assert_same(tmp_path / "two", tmp_path / "one")
    counts = ("rows_total", "rows_windowed", "rows_late", "rows_duplicate", "rows_rejected", "rows_windows")
    assert sums(tmp_path / "two", *counts) == sums(tmp_path / "one", *counts)
    report = examine(Lake.open(f"file:{tmp_path / 'two'}"))
    assert report.ok, report.checks


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of two partitions that ended with a flush."""
    folder = tmp_path_factory.mktemp("lake")
    dictionary = dictionary_of(PLANTS["narrow"])
    logs = {each: monotone(dictionary, seeded_log(at, "narrow", 150)) for at, each in enumerate(PARTITIONS)}
    run(folder, dictionary, logs, flush=True, size=20)
    return folder


def narrowed(*, unit: str | None = None, codes: int = 0) -> Dictionary:
    later = copy.deepcopy(PLANTS["narrow"]) | {"version": "2"}
    for each in later["metrics"]:
        if each["name"] == "alumina_feed" and unit:
            each["unit"] = unit
        if each["states"] is not None and codes:
            each["states"] = {name: code + codes for name, code in each["states"].items()}
            each["alarms"] = []
        if each["name"] == "cell_voltage":
            each["windows"] = each["windows"][:1]
    return dictionary_of(later)


def test_i1_another_dictionary_gives_what_the_core_makes_of_the_same_readings(lake, tmp_path):
    later = narrowed()
    found = replay(lake, tmp_path, later)
    assert found.unsure == 0
    counts = ("rows_total", "rows_windowed", "rows_late", "rows_duplicate", "rows_rejected", "rows_windows")
    ours, theirs = sums(tmp_path, *counts), sums(lake, *counts)
    assert ours["rows_total"] == theirs["rows_total"]
    assert ours["rows_windows"] < theirs["rows_windows"]
    # Fewer windows are no other readings: both lakes join row by row.
    keys = ("partition", "sequence_number", "item", "value", "event_time", "enqueued_time")
    one, two = stored(tmp_path, "readings").select(keys), stored(lake, "readings").select(keys)
    assert one.equals(two)
    # Decoding the bodies anew gives the same, since nothing about decoding has changed.
    dictionary = dictionary_of(PLANTS["narrow"])
    logs = {each: monotone(dictionary, seeded_log(at, "narrow", 150)) for at, each in enumerate(PARTITIONS)}
    run(tmp_path / "anew", later, logs, flush=True)
    assert_same(tmp_path, tmp_path / "anew")
    report = examine(Lake.open(f"file:{tmp_path}"))
    assert report.ok, report.checks


@pytest.mark.parametrize("places", [(2, 5, 9), (1,)])
def test_i5_a_replay_that_was_cut_short_goes_on_and_gives_the_same_lake(lake, tmp_path, monkeypatch, places):
    monkeypatch.setattr(stored_reader, "RANGE_ROWS", 25)

    class Cut(Exception):
        pass

    for place in places:
        seen = 0

        def cut(item: Analysed, last: int = place) -> None:
            nonlocal seen
            seen += item.output is not None
            if seen > last:
                raise Cut

        with pytest.raises(Cut):
            replay(lake, tmp_path, on_item=cut, flush_rows_max=20)
    replay(lake, tmp_path, flush_rows_max=20)
    assert_same(tmp_path, lake)
    before = sums(tmp_path, "rows_total", "envelopes")
    assert replay(lake, tmp_path).rows == 0
    assert sums(tmp_path, "rows_total", "envelopes") == before


def test_i5_a_lake_that_has_grown_is_replayed_further(tmp_path):
    dictionary = dictionary_of(PLANTS["narrow"])
    log = monotone(dictionary, seeded_log(4, "narrow", 120))
    for upto, flush in ((40, True), (80, False), (120, True)):
        shifted = [
            replace(e, sequence_number=e.sequence_number + (10_000 if at >= 40 else 0)) for at, e in enumerate(log)
        ]
        run(tmp_path / "one", dictionary, {"hub/1/0": shifted[:upto]}, flush=flush)
        replay(tmp_path / "one", tmp_path / "two")
        assert_same(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize(("range_rows", "file_rows"), [(30, 10**6), (30, 40), (10**6, 0)])
def test_i2_how_the_files_are_read_changes_nothing(lake, tmp_path, monkeypatch, range_rows, file_rows):
    monkeypatch.setattr(stored_reader, "RANGE_ROWS", range_rows)
    monkeypatch.setattr(stored_reader, "FILE_ROWS_MAX", file_rows)
    monkeypatch.setattr(stored_files, "KEPT_BYTES_MAX", 1)
    monkeypatch.setattr(stored_files, "PART_ROWS", 13)
    replay(lake, tmp_path)
    assert_same(tmp_path, lake)


def test_partitions_are_replayed_alone_where_they_are_named(lake, tmp_path):
    former = Lake.open(f"file:{lake}", create=False)
    source = StoredSource(former, partitions=[PARTITIONS[1]])
    assert source.partitions() == [PARTITIONS[1]]
    run_loop(Pipeline(source, source.first_dictionary, Lake.open(f"file:{tmp_path}"), flush_at_end=False))
    assert set(stored(tmp_path, "readings").column("partition").to_pylist()) == {PARTITIONS[1]}
    with pytest.raises(InputError, match="the lake holds hub/1/0, hub/1/1; name one of its partitions"):
        StoredSource(former, partitions=["hub/1/7"])


def test_stored_values_are_not_taken_for_another_unit_or_state(lake, tmp_path):
    with pytest.raises(InputError, match="alumina_feed is stored in kg, not in t"):
        replay(lake, tmp_path, narrowed(unit="t"))
    with pytest.raises(InputError, match="status has fault stored as 9, not as 12"):
        replay(lake, tmp_path, narrowed(codes=3))


def test_i3_a_replay_goes_into_another_lake_that_is_empty_or_its_own(lake, tmp_path):
    with pytest.raises(InputError, match="into itself"):
        replay(lake, lake)
    (tmp_path / "link").symlink_to(lake)
    with pytest.raises(InputError, match="into itself"):
        replay(lake, tmp_path / "link")
    dictionary = dictionary_of(PLANTS["narrow"])
    run(tmp_path / "used", dictionary, {"other/1/0": seeded_log(3, "narrow", 10)}, flush=True)
    with pytest.raises(InputError, match="it holds other/1/0, which is not of this replay"):
        replay(lake, tmp_path / "used")
    run(tmp_path / "alike", dictionary, {each: seeded_log(3, "narrow", 10) for each in PARTITIONS}, flush=True)
    with pytest.raises(InputError, match="it holds hub/1/0, which is not of this replay"):
        replay(lake, tmp_path / "alike")
    replay(lake, tmp_path / "own")
    with pytest.raises(InputError, match="it began with --same-dictionary"):
        replay(lake, tmp_path / "own", narrowed())
    with pytest.raises(IncarnationChanged, match="was begun anew"):
        replay(tmp_path / "alike", tmp_path / "own")


def test_rows_that_expired_are_refused_until_accepted(lake, tmp_path):
    import shutil

    shutil.copytree(lake, tmp_path / "one")
    former = Lake.open(f"file:{tmp_path / 'one'}")
    table = former.table("readings")
    snapshot = table.refresh()
    path, add = min(
        table.files().items(), key=lambda each: json.loads(each[1]["stats"])["minValues"]["sequence_number"]
    )
    removed = {"remove": {"path": path, "deletionTimestamp": 0, "dataChange": True, "size": add["size"]}}
    rows = json.loads(add["stats"])["numRecords"]
    table.commit(snapshot, [removed], {}, {})
    with pytest.raises(LakeError, match=r"there are \d+ readings, and \d+ were sealed"):
        replay(tmp_path / "one", tmp_path / "two")
    table.commit(table.refresh(), [], {f"expired/windowed/{PARTITIONS[0]}": rows}, {}, "EXPIRE")
    with pytest.raises(InputError, match=f"retention has removed {rows} windowed/hub/1/0"):
        replay(tmp_path / "one", tmp_path / "three")
    replay(tmp_path / "one", tmp_path / "three", accept_missing=True)
    left = sums(lake, "rows_total")["rows_total"] - rows
    assert sums(tmp_path / "three", "rows_total") == {"rows_total": left}


def test_i2_time_that_silent_envelopes_brought_is_told_by_the_seals(tmp_path):
    dictionary = dictionary_of(PLANTS["narrow"])
    start = 1_768_478_400 * SECOND

    def reading(number: int, second: int, value: float) -> Envelope:
        time = f"2026-01-15T12:{second // 60:02d}:{second % 60:02d}Z"
        body = json.dumps({"dev": "pot-1", "ts": time, "metric": "cell_voltage", "value": value}).encode()
        return Envelope(number, start + second * SECOND, body)

    # Silent ones at the end of a seal, before the flush, and twice in a row.
    log = [reading(0, 0, 4.0), reading(1, 3, 4.1), Envelope(2, start + 25 * SECOND, b"[]")]
    log += [Envelope(3, start + 26 * SECOND, b"[]"), reading(4, 26, 4.2), Envelope(5, start + 29 * SECOND, b"[]")]
    run(tmp_path / "one", dictionary, {"hub/1/0": log}, flush=True, size=3, flush_rows_max=2)
    source = replay(tmp_path / "one", tmp_path / "two")
    assert source.unsure == 0
    assert_same(tmp_path / "two", tmp_path / "one")
    flushed = stored(tmp_path / "two", "windows").to_pylist()[-1]
    assert (flushed["closed_by"], flushed["sequence_number"]) == ("flush", 6)
    assert flushed["enqueued_time"].timestamp() == (start + 29 * SECOND) / SECOND

    # Where the broker's clock goes back behind such an envelope, that is said.
    back = [reading(0, 0, 4.0), Envelope(1, start + 20 * SECOND, b"[]"), reading(2, 5, 4.1)]
    run(tmp_path / "three", dictionary, {"hub/1/0": back}, flush=False)
    assert replay(tmp_path / "three", tmp_path / "four").unsure == 1
    assert_same(tmp_path / "four", tmp_path / "three")

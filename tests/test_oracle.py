"""The oracle itself, on cases small enough to be worked by hand, and the generated logs' coverage."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.logs import seeded_log
from tests.oracle import Emission, Oracle
from tests.oracle_decode import CHECKS, epoch_us, rfc3339_us
from tests.oracle_json import BadJsonError, parse
from tests.plants import ACCEPTING, NARROW, PLANTS, SECOND

NOON = 1_768_478_400  # 2026-01-15T12:00:00Z
CORPUS = range(20)


class Pot:
    """Sends readings of pot-1's cell voltage: windows of 10 s and 1 min, out-of-orderness 5 s, idle 30 s."""

    def __init__(self) -> None:
        self.oracle = Oracle("test/1/0", ACCEPTING)

    def sends(self, *readings: tuple[float, float], at: float) -> Emission:
        body = json.dumps([{"dev": "pot-1", "m": "cell_voltage", "t": NOON + t, "v": v} for t, v in readings])
        number = self.oracle.last_sequence + 1
        return self.oracle.envelope(body.encode(), number, int((NOON + at) * SECOND))


def spans(out: Emission) -> list[tuple[str, float, str, int]]:
    """Window, its start in seconds after noon, what closed it, readings."""
    return [
        (row["window_name"], row["window_start"] / SECOND - NOON, row["closed_by"], row["count"]) for row in out.windows
    ]


def test_a_window_closes_once_the_watermark_reaches_its_end():
    pot = Pot()
    assert spans(pot.sends((1, 4.0), (9, 5.0), (14.999999, 6.0), at=15)) == []
    out = pot.sends((15, 7.0), at=15)
    assert spans(out) == [("10s", 0, "watermark", 2)]
    assert (out.windows[0]["mean"], out.windows[0]["slope_per_s"], out.windows[0]["std"]) == (4.5, 0.125, 0.5**0.5)


def test_a_reading_is_late_when_no_window_that_covers_it_is_open():
    pot = Pot()
    pot.sends((70, 4.0), at=70)
    out = pot.sends((1, 4.0), (61, 4.0), at=70)
    assert [(r["outcome"], r["windows_missed"], r["lateness_us"]) for r in out.readings] == [
        ("late", 2, 64 * SECOND),
        ("windowed", 0, None),
    ]
    out = pot.sends((80, 4.0), (62, 4.0), at=80)
    assert [(r["outcome"], r["windows_missed"], r["lateness_us"]) for r in out.readings] == [
        ("windowed", 0, None),
        ("windowed", 1, None),
    ]


def test_the_clock_of_a_device_that_runs_ahead_does_not_move_the_watermark_past_partition_time():
    pot = Pot()
    pot.sends((60, 4.0), at=0)
    assert [r["outcome"] for r in pot.sends((0, 4.0), at=0).readings] == ["windowed"]
    assert [r["reason"] for r in pot.sends((60.000001, 4.0), at=0).rejected] == ["future_event_time"]


def test_silence_closes_what_ended_an_idle_time_ago_and_a_backlog_goes_into_the_rest():
    pot = Pot()
    pot.sends((1, 4.0), at=1)
    assert spans(pot.sends(at=30)) == []
    assert spans(pot.sends(at=31)) == []  # 30 s idle, but the window ended only 21 s ago
    out = pot.sends(at=40)
    assert spans(out) == [("10s", 0, "idle", 1)]
    assert (out.windows[0]["item"], out.windows[0]["sequence_number"]) == (-1, 3)
    out = pot.sends((2, 4.0), (12, 4.0), (39, 4.0), at=41)
    assert [(r["outcome"], r["windows_missed"]) for r in out.readings] == [
        ("windowed", 1),
        ("windowed", 0),
        ("windowed", 0),
    ]
    assert spans(out) == [("10s", 10, "watermark", 1)]


def test_a_duplicate_is_one_of_the_last_distinct_event_times():
    pot = Pot()
    out = pot.sends((1, 4.0), (1, 5.0), (2, 4.0), (3, 4.0), (4, 4.0), (1, 4.0), (5, 4.0), (1, 4.0), at=5)
    outcomes = [r["outcome"] for r in out.readings]
    assert outcomes == [
        "windowed",
        "duplicate",
        "windowed",
        "windowed",
        "windowed",
        "duplicate",
        "windowed",
        "windowed",
    ]


def test_a_flush_closes_everything_and_what_was_closed_stays_closed():
    pot = Pot()
    pot.sends((1, 4.0), at=1)
    out = pot.oracle.flush(7)
    assert spans(out) == [("10s", 0, "flush", 1), ("60s", 0, "flush", 1)]
    assert out.counts[0]["rows_windows"] == 2
    out = pot.sends((3, 4.0), at=3)
    assert [(r["outcome"], r["lateness_us"]) for r in out.readings] == [("late", 0)]


def test_the_first_failure_wins():
    oracle = Oracle("test/1/0", NARROW)
    body = b'[{"deviceId":"pot-1","ts":"no","value":true,"value":1,"metric":"none","q":1},{"deviceId":""},5]'
    out = oracle.envelope(body, 0, NOON * SECOND)
    assert [row["reason"] for row in out.rejected] == ["bad_time", "missing_device", "wrong_type"]
    assert out.rejected[1]["body"] == b'{"deviceId":""}'


def test_times_are_read_exactly():
    assert rfc3339_us("1970-01-01t00:00:01.0000019z") == 1_000_001
    assert rfc3339_us("1970-01-01 01:00:00+01:00") == 0
    assert rfc3339_us("1970-01-01T00:00:00") is None
    assert epoch_us("-0.0000001", "epoch_s") == -1
    assert epoch_us("1e-999999999", "epoch_s") == 0
    assert epoch_us("1e999999999", "epoch_s") is None
    assert epoch_us("1768478400123.4567", "epoch_ms") == 1_768_478_400_123_456


@pytest.mark.parametrize(
    "text", [b"[1,]", b"{,}", b"[1 2]", b"{'a':1}", b"01", b'"\\ud800"', b'"\x01"', b"[nan]", b"[]]"]
)
def test_what_is_not_json_is_refused(text):
    with pytest.raises(BadJsonError):
        parse(text)


def test_i1_the_generated_logs_yield_every_outcome_and_every_reason():
    seen: Counter[str] = Counter()
    for plant, dictionary in PLANTS.items():
        for seed in CORPUS:
            oracle = Oracle("test/1/0", dictionary)
            emissions = [
                oracle.envelope(e.body, e.sequence_number, e.enqueued_us, e.properties)
                for e in seeded_log(seed, plant, 100)
            ]
            emissions.append(oracle.flush(oracle.last_sequence + 1))
            for out in emissions:
                seen.update(row["outcome"] for row in out.readings)
                seen.update(row["reason"] for row in out.rejected)
                seen.update(row["closed_by"] for row in out.windows)
                seen["redelivered"] += out.redelivered
                seen["windowed in spite of missed windows"] += sum(
                    row["outcome"] == "windowed" and row["windows_missed"] > 0 for row in out.readings
                )
    expected = {*CHECKS, "windowed", "late", "duplicate", "watermark", "idle", "flush", "redelivered"}
    expected.add("windowed in spite of missed windows")
    assert {name for name in expected if seen[name] < 3} == set()
    assert set(seen) == expected

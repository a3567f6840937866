"""The oracle itself, on cases small enough to be worked by hand, and the generated logs' coverage."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.logs import seeded_log
from tests.oracle import Emission, Oracle
from tests.oracle_decode import CHECKS, epoch_us, rfc3339_us
from tests.oracle_json import BadJsonError, parse
from tests.oracle_windows import Window, Windows
from tests.plants import ACCEPTING, NARROW, PLANTS, SECOND, metric

NOON = 1_768_478_400  # 2026-01-15T12:00:00Z
CORPUS = range(20)


class Pot:
    """Sends readings of pot-1's cell voltage: windows of 10 s and 1 min, out-of-orderness 5 s, idle 30 s."""

    def __init__(self, *windows: int | tuple[int, int] | str) -> None:
        given = metric("cell_voltage", *(windows or (10, 60)), range=[0.0, 100.0])
        self.oracle = Oracle("test/1/0", ACCEPTING | {"metrics": [given, *ACCEPTING["metrics"][1:]]})

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


def test_hopping_windows_overlap_and_a_reading_enters_each_that_covers_it():
    pot = Pot((30, 10))
    (reading,) = pot.sends((12, 4.0), at=12).readings
    assert (reading["outcome"], reading["windows_missed"]) == ("windowed", 0)
    # [-10, 20), [0, 30) and [10, 40) close one after the other, the last two panes of the last one empty.
    assert spans(pot.sends((25, 5.0), at=25)) == [("30s/10s", -10, "watermark", 1)]
    out = pot.sends((46, 6.0), at=46)
    assert spans(out) == [("30s/10s", 0, "watermark", 2), ("30s/10s", 10, "watermark", 2)]
    # The watermark is at 41 s: 35 s is too late for [10, 40) and in time for [20, 50) and [30, 60).
    (reading,) = pot.sends((35, 7.0), at=46).readings
    assert (reading["outcome"], reading["windows_missed"], reading["lateness_us"]) == ("windowed", 1, None)
    (reading,) = pot.sends((19, 7.0), at=46).readings
    assert (reading["outcome"], reading["windows_missed"], reading["lateness_us"]) == ("late", 3, 22 * SECOND)
    assert spans(pot.oracle.flush(99)) == [
        ("30s/10s", 20, "flush", 3),
        ("30s/10s", 30, "flush", 2),
        ("30s/10s", 40, "flush", 1),
    ]


def test_a_hopping_window_whose_last_pane_is_empty_closes_by_silence():
    pot = Pot((30, 10))
    pot.sends((5, 4.0), at=5)
    # [-20, 10), [-10, 20) and [0, 30) end more than 30 s before 61 s.
    out = pot.sends(at=61)
    assert [
        (*span[1:3], row["window_end"] // SECOND - NOON) for span, row in zip(spans(out), out.windows, strict=True)
    ] == [
        (-20, "idle", 10),
        (-10, "idle", 20),
        (0, "idle", 30),
    ]


def test_a_session_lasts_while_readings_are_closer_than_its_gap():
    pot = Pot("session/10s")
    pot.sends((1, 4.0), (10, 5.0), (19.5, 6.0), at=20)
    assert spans(pot.sends((34.25, 6.0), at=35)) == []
    out = pot.sends((34.5, 6.0), at=35)
    (row,) = out.windows
    assert spans(out) == [("session/10s", 1, "watermark", 3)]
    assert row["window_end"] == (NOON + 29.5) * SECOND
    pot.sends((44.5, 6.0), at=45)
    assert spans(pot.oracle.flush(99)) == [("session/10s", 34.25, "flush", 2), ("session/10s", 44.5, "flush", 1)]


def test_a_reading_joins_two_open_sessions():
    pot = Pot("session/10s")
    pot.sends((1, 4.0), (2, 4.5), (17, 6.0), (9, 5.0), at=10)
    (row,) = pot.oracle.flush(99).windows
    assert (row["window_start"], row["window_end"], row["count"]) == ((NOON + 1) * SECOND, (NOON + 27) * SECOND, 4)
    assert (row["first"], row["last"], row["mean"]) == (4.0, 6.0, 4.875)


def test_readings_a_gap_apart_do_not_share_a_session():
    pot = Pot("session/10s")
    pot.sends((1, 4.0), (11, 5.0), at=11)
    assert spans(pot.oracle.flush(99)) == [("session/10s", 1, "flush", 1), ("session/10s", 11, "flush", 1)]


def test_a_session_that_closed_takes_no_more_readings_and_those_after_it_begin_another():
    pot = Pot("session/10s")
    pot.sends((1, 4.0), at=1)
    assert spans(pot.sends(at=41)) == [("session/10s", 1, "idle", 1)]
    # The session ended at 11 s: the own window of 1 s ends then, that of 1.5 s after it.
    out = pot.sends((0.5, 4.0), (1.5, 4.0), at=41)
    assert [(r["outcome"], r["windows_missed"]) for r in out.readings] == [("late", 1), ("windowed", 0)]
    assert spans(pot.oracle.flush(99)) == [("session/10s", 1.5, "flush", 1)]


def test_windows_that_end_together_come_in_the_order_of_their_definitions():
    pot = Pot((20, 10), "session/9s", 20)
    pot.sends((11, 4.0), at=11)
    assert [span[:2] for span in spans(pot.oracle.flush(99))] == [
        ("20s/10s", 0),
        ("session/9s", 11),
        ("20s", 0),
        ("20s/10s", 10),
    ]


def test_the_first_failure_wins():
    oracle = Oracle("test/1/0", NARROW)
    body = b'[{"deviceId":"pot-1","ts":"no","value":true,"value":1,"metric":"none","q":1},{"deviceId":""},5]'
    out = oracle.envelope(body, 0, NOON * SECOND)
    assert [row["reason"] for row in out.rejected] == ["bad_time", "missing_device", "wrong_type"]
    assert out.rejected[1]["body"] == b'{"deviceId":""}'


def test_of_a_key_that_occurs_twice_the_worse_member_counts():
    oracle = Oracle("test/1/0", NARROW)
    rest = '"deviceId":"pot-1","metric":"cell_voltage","value":4'
    sound = '"ts":"2026-01-15T12:00:00Z"'
    bodies = [f"{{{sound},{rest},{other}}}" for other in ('"ts":"no"', '"ts":null', '"value":true', '"deviceId":""')]
    bodies.append(f'{{"ts":"no",{rest},{sound}}}')
    out = oracle.envelope(f"[{','.join(bodies)}]".encode(), 0, NOON * SECOND)
    reasons = ["bad_time", "repeated_key", "wrong_type", "missing_device", "bad_time"]
    assert [row["reason"] for row in out.rejected] == reasons
    assert [row["event_time"] is None for row in out.rejected] == [True, False, False, False, True]
    assert [row["device"] for row in out.rejected] == ["pot-1", "pot-1", "pot-1", None, "pot-1"]


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


def test_i1_the_generated_logs_reach_everything(monkeypatch):
    seen: Counter[str] = Counter()
    add = Windows._add

    def count_joins(windows: Windows, new: Window) -> None:
        before = len(windows.open)
        add(windows, new)
        seen["two sessions joined"] += len(windows.open) < before

    monkeypatch.setattr(Windows, "_add", count_joins)
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
                seen.update(row["score_state"] for row in out.readings)
                seen.update(row["reason"] for row in out.rejected)
                seen.update(row["closed_by"] for row in out.windows)
                seen.update(f"{row['transition']} {row['kind']}" for row in out.alarms)
                seen["redelivered"] += out.redelivered
                seen.update(extremes(out))
    expected = {*CHECKS, "windowed", "late", "duplicate", "watermark", "idle", "flush", "redelivered"}
    expected |= {"scored", "learning", "out_of_order", "off", "two sessions joined", *RARE}
    kinds = ("above", "below", "rate_above", "rate_below", "score_above", "is")
    expected |= {f"{transition} {kind}" for transition in ("raised", "cleared") for kind in kinds}
    expected |= {f"updated {kind}" for kind in ("above", "below", "score_above")}
    assert {name for name in expected if seen[name] < 3} == set()
    assert set(seen) - expected <= {"updated rate_above", "updated rate_below"}


RARE = (
    "windowed in spite of missed windows",
    "a hopping window whose last pane is empty",
    "a session of many readings",
    "the greatest score there is",
    "late, yet in order",
    "a score that is not kept",
)


def extremes(out: Emission) -> Counter[str]:
    """How often something happened that the rows do not name."""
    seen: Counter[str] = Counter()
    for row in out.readings:
        seen[RARE[0]] += row["outcome"] == "windowed" and row["windows_missed"] > 0
        seen[RARE[3]] += row["exact_score"] == 1_000_000
        seen[RARE[5]] += row["score_state"] == "scored" and row["score"] is None
    for row in out.windows:
        length, _, hop = row["window_name"].partition("/")
        if length == "session":
            seen[RARE[2]] += row["count"] > 5
        elif hop:
            seen[RARE[1]] += row["last_time"] < row["window_end"] - int(hop.removesuffix("s")) * SECOND
    seen[RARE[4]] += sum(row["outcome"] == "late" for row in out.in_order)
    return seen

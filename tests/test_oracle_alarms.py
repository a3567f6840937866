"""Scores, alarms and changes of dictionary in the oracle, on tables small enough to be worked by hand."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.oracle import Emission, Oracle
from tests.oracle_alarms import duration, number
from tests.plants import SECOND, dictionary, ewma, metric, rule

NOON = 1_768_478_400  # 2026-01-15T12:00:00Z
BOUNDS = {"series": 10, "body_bytes": 5000, "readings_per_envelope": 50, "depth": 4}
PAYLOAD: dict[str, Any] = {
    "device": ["d"],
    "time": ["t"],
    "time_format": "epoch_s",
    "metric": "m",
    "value": "v",
    "quality": None,
    "rename": {},
    "ignore": [],
}


def plant(**given: Any) -> dict[str, Any]:
    """A dictionary with one series, the voltage of pot-1."""
    return dictionary("by-hand", PAYLOAD, BOUNDS, None, {"pot-1": [metric("voltage", **given)]})


class Pot:
    """Sends one reading an envelope, at the time that it tells, and notes the rows."""

    def __init__(self, **given: Any) -> None:
        self.oracle = Oracle("hub/1/0", plant(**given))

    def sends(self, *readings: tuple[float, Any]) -> list[Emission]:
        return [self.envelope((reading,), at=reading[0]) for reading in readings]

    def envelope(self, readings: tuple[tuple[float, Any], ...] = (), *, at: float) -> Emission:
        body = [{"d": "pot-1", "m": "voltage", "t": NOON + t, "v": v} for t, v in readings]
        number = self.oracle.last_sequence + 1
        return self.oracle.envelope(json.dumps(body).encode(), number, int((NOON + at) * SECOND))

    def alarms(self, *readings: tuple[float, Any]) -> list[tuple[str, int, float, float]]:
        """Transition, step, seconds after noon and peak of what these readings make happen."""
        rows = [row for out in self.sends(*readings) for row in out.alarms]
        return [(r["transition"], r["step"], r["event_time"] / SECOND - NOON, r["peak"]) for r in rows]

    def messages(self, *readings: tuple[float, Any]) -> list[str]:
        return [row["message"] for out in self.sends(*readings) for row in out.alarms]


def scores(outs: list[Emission]) -> list[tuple[str, float | None]]:
    return [(row["score_state"], row["exact_score"]) for out in outs for row in out.readings]


# Scores


def test_a_score_is_the_distance_from_the_mean_in_deviations():
    # Half life 10 s, a reading every 10 s: alpha is a half.
    #   t   x    d    score          mean after   variance after
    #   0   4         learning        4            0
    #  10   8    4    learning        6            0.5 * (0 + 0.5 * 16)  = 4
    #  20   9    3    3 / 2           7.5          0.5 * (4 + 0.5 * 9)   = 4.25
    #  40   7.5  0    0               7.5          0.25 * 4.25 = 1.0625  (20 s: alpha is 3/4)
    #  50   3.375     4.125 / 1.0625 ** 0.5
    outs = Pot(detector=ewma(10, learn=2)).sends((0, 4), (10, 8), (20, 9), (40, 7.5), (50, 3.375))
    assert scores(outs) == [
        ("learning", None),
        ("learning", None),
        ("scored", 1.5),
        ("scored", 0.0),
        ("scored", pytest.approx(4.125 / 1.0625**0.5, rel=1e-14)),
    ]
    assert [out.readings[0]["score"] for out in outs] == [None, None, 1.5, 0.0, 4.0]
    assert [out.counts[0]["rows_unscored"] for out in outs] == [1, 1, 0, 0, 0]


def test_a_deviation_below_the_resolution_counts_as_one_resolution():
    outs = Pot(detector=ewma(10, learn=2), resolution=0.5).sends((0, 4), (10, 4), (20, 5))
    assert scores(outs)[2] == ("scored", 2.0)


def test_a_score_has_an_upper_end():
    outs = Pot(detector=ewma(10, learn=2)).sends((0, 4), (10, 4), (20, 4), (30, 4.001))
    assert scores(outs)[2:] == [("scored", 0.0), ("scored", 1_000_000.0)]
    outs = Pot(detector=ewma(10, learn=2), resolution=1e-6).sends((0, 0), (10, 0), (20, 1.5))
    assert scores(outs)[2] == ("scored", 1_000_000.0)


def test_scores_below_store_above_are_not_kept_but_count_as_scored():
    (*_, out) = Pot(detector=ewma(10, learn=2, store_above=2)).sends((0, 4), (10, 8), (20, 9))
    assert (out.readings[0]["score_state"], out.readings[0]["score"]) == ("scored", None)
    assert out.counts[0]["rows_unscored"] == 0


def test_only_in_order_readings_are_learnt_from():
    # A duplicate and one out of order come between, and change nothing: the scores are those of the first example.
    outs = Pot(detector=ewma(10, learn=2)).sends((0, 4), (10, 8), (10, 99), (9, 99), (20, 9), (20, 1))
    assert scores(outs) == [
        ("learning", None),
        ("learning", None),
        ("out_of_order", None),
        ("out_of_order", None),
        ("scored", 1.5),
        ("out_of_order", None),
    ]
    assert [row["event_time"] // SECOND - NOON for out in outs for row in out.in_order] == [0, 10, 20]


def test_without_a_detector_all_is_off():
    outs = Pot().sends((0, 4), (10, 8), (10, 8), (3, 8))
    assert scores(outs) == [("off", None)] * 4
    assert sum(out.counts[0]["rows_unscored"] for out in outs) == 4


def test_a_late_reading_may_be_in_order():
    # The windows of 10 s up to 100 s are closed by silence, the watermark stays at -5 s.
    pot = Pot(windows=metric("", 10)["windows"], detector=ewma(10, learn=2))
    pot.sends((0, 4))
    pot.envelope(at=200)
    pot.envelope(((175, 4),), at=200)
    pot.envelope(at=300)
    (row,) = pot.envelope(((176, 5),), at=300).readings
    assert (row["outcome"], row["lateness_us"], row["score_state"]) == ("late", 0, "scored")


def test_the_greatest_score_of_a_window_is_of_its_readings_that_were_scored():
    pot = Pot(windows=metric("", 100)["windows"], detector=ewma(10, learn=2, store_above=3))
    pot.sends((0, 4), (10, 8), (20, 9), (40, 7.5), (39, 100))
    (row,) = pot.oracle.flush(99).windows
    assert (row["count"], row["score_max"]) == (5, 1.5)
    pot.sends((110, 7.5), (120, 8))
    pot = Pot(windows=metric("", 100)["windows"], detector=ewma(10, learn=9))
    pot.sends((0, 4), (10, 8))
    assert pot.oracle.flush(99).windows[0]["score_max"] is None


# Alarms


def test_an_alarm_raises_above_its_limit_and_clears_below_the_deadband():
    pot = Pot(alarms=[rule("H", above=5.0, deadband=1.0)])
    happened = pot.alarms((0, 5), (1, 5.5), (2, 4.5), (3, 7), (4, 4.001), (5, 4), (6, 3), (7, 5.1))
    assert happened == [("raised", 0, 1, 5.5), ("cleared", 1, 5, 7.0), ("raised", 0, 7, 5.1)]


def test_an_alarm_waits_for_its_delays():
    pot = Pot(alarms=[rule("L", below=2.0, deadband=0.5, on=3, off=4)])
    # Not below at 2 s, so the wait begins again at 3 s; clear at 8, not at 9, and from 10 on.
    happened = pot.alarms((0, 1), (2, 2), (3, 1), (5, 0.5), (6, 1.5), (8, 3), (9, 2.4), (10, 2.5), (13, 4), (14, 3))
    assert happened == [("raised", 0, 6, 0.5), ("cleared", 1, 14, 0.5)]


def test_an_alarm_says_when_it_began():
    pot = Pot(alarms=[rule("L", below=2.0, on=3)])
    (*_, out) = pot.sends((0, 3), (1, 1), (4, 1.5))
    (row,) = out.alarms
    raised = hashlib.sha256(b"hub/1/0\npot-1\nvoltage\nL\n2\n0\n").hexdigest()[:32]
    assert row | {"enqueued_time": 0, "pieces": 0} == {
        "partition": "hub/1/0",
        "sequence_number": 2,
        "item": 0,
        "enqueued_time": 0,
        "alarm_id": raised,
        "step": 0,
        "transition": "raised",
        "device": "pot-1",
        "metric": "voltage",
        "asset": "example/test/pot-1",
        "alarm_rule": "L",
        "priority": "low",
        "onset_time": (NOON + 1) * SECOND,
        "event_time": (NOON + 4) * SECOND,
        "value": 1.5,
        "threshold": 2.0,
        "peak": 1.0,
        "score": None,
        "exact_score": None,
        "message": "L: voltage 1.5 V, below 2 V",
        "pieces": 0,
        "kind": "below",
    }
    assert out.counts[0]["rows_alarms"] == 1


def test_an_alarm_is_updated_once_a_minute_if_its_peak_grew_by_a_deadband():
    pot = Pot(alarms=[rule("H", above=5.0, deadband=1.0)])
    happened = pot.alarms((0, 6), (30, 9), (59, 5), (60, 4.5), (100, 9.9), (120, 9.9), (121, 10), (181, 10.5), (182, 1))
    assert happened == [("raised", 0, 0, 6), ("updated", 1, 60, 9), ("updated", 2, 121, 10), ("cleared", 3, 182, 10.5)]


def test_clearing_wins_over_updating():
    pot = Pot(alarms=[rule("H", above=5.0)])
    assert pot.alarms((0, 6), (30, 9), (61, 5)) == [("raised", 0, 0, 6), ("cleared", 1, 61, 9)]


def test_without_a_deadband_a_peak_must_still_grow_to_be_told():
    pot = Pot(alarms=[rule("H", above=5.0)])
    assert pot.alarms((0, 6), (60, 6), (70, 6.001)) == [("raised", 0, 0, 6), ("updated", 1, 70, 6.001)]


def test_readings_out_of_order_alarm_nobody():
    pot = Pot(alarms=[rule("H", above=5.0)])
    assert pot.alarms((10, 4), (9, 9), (10, 9)) == []
    assert pot.alarms((11, 9), (10.5, 1), (11, 1)) == [("raised", 0, 11, 9)]


def test_silence_and_flush_leave_an_alarm_as_it_is():
    pot = Pot(alarms=[rule("H", above=5.0)])
    pot.sends((0, 9))
    assert pot.envelope(at=9000).alarms == []
    assert pot.oracle.flush(99).alarms == []
    assert pot.alarms((9001, 1)) == [("cleared", 1, 9001, 9)]


def test_a_rate_is_the_change_since_the_last_in_order_reading():
    pot = Pot(alarms=[rule("fast", rate_above=60.0, deadband=30.0, off=1, text="too fast")])
    # V a minute: none at first, then 60, 90, 45, 30, 0; the reading out of order does not count.
    readings = ((0, 10), (1, 11), (3, 14), (2.5, 99), (5, 15.5), (6, 16), (7, 16))
    assert pot.messages(*readings) == [
        "too fast: rate of voltage 90 V/1min, above 60 V/1min",
        "too fast: rate of voltage back at 0 V/1min, peak 90 V/1min",
    ]
    pot = Pot(alarms=[rule("falls", rate_below=-2.0, per=1, priority="high")])
    (*_, out) = pot.sends((0, 10), (2, 6), (3, 3))
    (row,) = out.alarms
    assert (row["value"], row["threshold"], row["peak"], row["priority"]) == (3, -2.0, -3.0, "high")
    assert row["message"] == "falls: rate of voltage -3 V/1s, below -2 V/1s"


def test_a_score_alarms_only_where_there_is_one():
    # The scores of the first example: 1.5 at 20 s; then the mean is 7.5 and 3 is 4.5 / 4.25 ** 0.5 = 2.18 away.
    # What is learnt from, or out of order, neither exceeds nor clears.
    pot = Pot(detector=ewma(10, learn=2, store_above=9), alarms=[rule("odd", score_above=1.0, on=10)])
    outs = pot.sends((0, 4), (10, 8), (20, 9), (15, 7.5), (30, 3))
    (row,) = [row for out in outs for row in out.alarms]
    assert (row["onset_time"] // SECOND - NOON, row["event_time"] // SECOND - NOON) == (20, 30)
    assert row["peak"] == row["exact_score"] == pytest.approx(4.5 / 4.25**0.5, rel=1e-14)
    assert row["score"] != row["peak"]
    assert row["score"] == pytest.approx(row["peak"], rel=1e-7)


def test_a_score_alarm_measures_the_score():
    pot = Pot(detector=ewma(10, learn=2, store_above=9), alarms=[rule("odd", score_above=1.0)])
    (*_, out) = pot.sends((0, 4), (10, 8), (20, 9))
    (row,) = out.alarms
    assert (row["value"], row["threshold"], row["peak"], row["score"]) == (9, 1.0, 1.5, 1.5)
    assert row["message"] == "odd: score of voltage 1.5, above 1"
    assert pot.messages((40, 7.5)) == ["odd: score of voltage back at 0, peak 1.5"]


def test_a_state_alarms_while_it_lasts():
    states = {"off": 0, "melting": 1, "fault": 9}
    pot = Pot(states=states, unit="1", alarms=[rule("fault", is_=9, on=5, off=1, text="furnace fault")])
    outs = pot.sends((0, "fault"), (4, "off"), (5, 9), (9, 9), (10, "fault"), (99, 9), (100, "off"), (101, "melting"))
    rows = [row for out in outs for row in out.alarms]
    assert [(r["transition"], r["step"], r["value"], r["peak"], r["threshold"], r["message"]) for r in rows] == [
        ("raised", 0, 9, 9, None, "furnace fault: voltage is fault"),
        ("cleared", 1, 1, 9, None, "furnace fault: voltage is melting"),
    ]
    assert rows[0]["onset_time"] == (NOON + 5) * SECOND


def test_rules_go_in_the_order_of_their_names():
    pot = Pot(alarms=[rule("H", above=5.0), rule("HH", above=8.0), rule("fast", rate_above=60.0)])
    assert pot.messages((0, 0), (1, 9)) == [
        "H: voltage 9 V, above 5 V",
        "HH: voltage 9 V, above 8 V",
        "fast: rate of voltage 540 V/1min, above 60 V/1min",
    ]


def test_what_is_in_no_unit_is_told_without_one():
    pot = Pot(unit="1", alarms=[rule("H", above=5.0, deadband=0.5)])
    assert pot.messages((0, 6), (60, 7), (61, 0)) == [
        "H: voltage 6, above 5",
        "H: voltage reached 7, above 5",
        "H: voltage back at 0, peak 7",
    ]
    pot = Pot(unit="1", alarms=[rule("fast", rate_above=5.0, per=1)])
    assert pot.messages((0, 0), (1, 6)) == ["fast: rate of voltage 6 /1s, above 5 /1s"]


def test_numbers_are_written_to_six_digits_as_short_as_they_can_be_and_without_an_exponent():
    written = [number(value) for value in (0.1, 5.0, 1e22, -1.5e-7, 100.0, -0.0, 1 / 3, 9999999.0)]
    assert written == ["0.1", "5", "1" + 22 * "0", "-0.00000015", "100", "-0", "0.333333", "10000000"]
    assert [duration(us) for us in (1, 90 * SECOND, 60 * SECOND, 7200 * SECOND, 1500)] == [
        "1us",
        "90s",
        "1min",
        "2h",
        "1500us",
    ]


# A change of dictionary


def after(before: dict[str, Any], later: dict[str, Any], *readings: tuple[float, Any]) -> list[str]:
    """What is told after a change, where 9 V at noon and before had raised what they raise."""
    pot = Pot(**before)
    pot.sends((-1, 0), (0, 9))
    pot.oracle.change_dictionary(plant(**later))
    return pot.messages(*readings)


def test_a_rule_goes_on_under_new_numbers():
    was, now = {"alarms": [rule("H", above=5.0)]}, {"alarms": [rule("H", above=8.0, off=3, text="high")]}
    assert after(was, now, (10, 7), (12, 7), (13, 6)) == ["high: voltage back at 6 V, peak 9 V"]


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ({"alarms": [rule("H", above=5.0)]}, {}),
        ({"alarms": [rule("H", above=5.0)]}, {"alarms": [rule("H", below=5.0)]}),
        ({"alarms": [rule("H", above=5.0)]}, {"alarms": [rule("H2", above=50.0)]}),
        ({"alarms": [rule("H", above=5.0)]}, {"alarms": [rule("H", above=50.0)], "unit": "kV"}),
        ({"alarms": [rule("H", rate_above=5.0, per=1)]}, {"alarms": [rule("H", rate_above=5.0, per=2)]}),
    ],
)
def test_a_rule_that_is_removed_or_changed_is_cleared_with_the_next_envelope(was, now):
    pot = Pot(**was)
    pot.sends((-1, 0), (0, 9), (-0.5, 1))
    pot.oracle.change_dictionary(plant(**now))
    out = pot.envelope(at=7)
    (row,) = out.alarms
    assert (row["sequence_number"], row["item"], row["step"]) == (3, -1, 1)
    assert (row["event_time"], row["value"], row["peak"]) == (NOON * SECOND, 9, 9)
    assert row["message"] == "H: cleared, the rule was removed or changed"
    assert out.counts[0]["rows_alarms"] == 1
    assert pot.envelope(at=8).alarms == []


def test_what_was_pending_under_a_rule_that_changed_is_forgotten():
    was, now = {"alarms": [rule("H", above=5.0, on=9)]}, {"alarms": [rule("H", below=5.0, on=9)]}
    assert after(was, now, (8, 1), (9, 1), (17, 1)) == ["H: voltage 1 V, below 5 V"]
    now = {"alarms": [rule("H", above=4.0, on=5)]}
    assert after(was, now, (5, 4.5)) == ["H: voltage 4.5 V, above 4 V"]


def test_the_detector_is_kept_where_nothing_of_it_changed():
    for change, state in (
        ({}, "scored"),
        ({"detector": ewma(11, learn=2)}, "learning"),
        ({"resolution": 0.1}, "learning"),
        ({"unit": "kV"}, "learning"),
    ):
        pot = Pot(detector=ewma(10, learn=2))
        pot.sends((0, 4), (10, 8))
        pot.oracle.change_dictionary(plant(**{"detector": ewma(10, learn=2), **change}))
        assert scores(pot.sends((20, 9))) == [(state, 1.5 if state == "scored" else None)]


def test_a_rate_reaches_over_a_change_where_there_were_rules_in_the_same_unit():
    was, now = {"alarms": [rule("H", above=50.0)]}, {"alarms": [rule("fast", rate_above=60.0)]}
    assert after(was, now, (1, 20)) == ["fast: rate of voltage 660 V/1min, above 60 V/1min"]
    assert after(was, now | {"unit": "kV"}, (1, 20)) == []
    assert after({}, now, (1, 20)) == []


def test_windows_that_a_dictionary_no_longer_has_come_out_with_the_next_envelope_and_not_again():
    pot = Pot(windows=metric("", 10, "session/30s")["windows"])
    pot.sends((1, 4), (2, 5))
    pot.oracle.change_dictionary(plant(windows=metric("", "session/30s")["windows"]))
    (row,) = pot.envelope(at=3).windows
    assert (row["window_name"], row["closed_by"], row["count"]) == ("10s", "flush", 2)
    pot.oracle.change_dictionary(plant(windows=metric("", 10, "session/30s")["windows"]))
    (out,) = pot.sends((4, 6))
    assert (out.readings[0]["outcome"], out.readings[0]["windows_missed"]) == ("windowed", 1)
    assert [(r["window_name"], r["count"]) for r in pot.oracle.flush(9).windows] == [("session/30s", 3)]


@pytest.mark.parametrize(
    ("change", "cleared"),
    [({}, []), ({"detector": ewma(10, learn=2, store_above=9)}, ["odd"]), ({"resolution": 0.5}, ["odd"])],
)
def test_an_alarm_on_scores_ends_where_the_scores_begin_anew(change, cleared):
    given = {"detector": ewma(10, learn=2), "alarms": [rule("odd", score_above=1.0)]}
    pot = Pot(**given)
    pot.sends((0, 4), (10, 8), (20, 9))
    pot.oracle.change_dictionary(plant(**{**given, **change}))
    assert [row["alarm_rule"] for row in pot.envelope(at=21).alarms] == cleared

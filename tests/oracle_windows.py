"""The windows of one series, each kept as the list of all its readings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.oracle_score import rounded
from tests.oracle_statistics import statistics

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Reading:
    """What a window remembers of a reading: `arrival` counts those of the series, `score` is exact where it has one."""

    arrival: int
    event_time: int
    value: float
    score: float | None


@dataclass
class Window:
    """An open window [start, end)."""

    start: int
    end: int
    readings: list[Reading]

    def figures(self) -> dict[str, Any]:
        """What a row says of the readings; `exact_score_max` is for those who compare."""
        arrived = sorted(self.readings, key=lambda reading: reading.arrival)
        score_max = max((reading.score for reading in arrived if reading.score is not None), default=None)
        return statistics([(reading.event_time, reading.value) for reading in arrived]) | {
            "score_max": None if score_max is None else rounded(score_max),
            "exact_score_max": score_max,
        }


class Windows:
    """The windows of one series under one definition; a definition with a gap is one of sessions.

    Attributes:
        open: Windows that have readings and were not emitted.
        closed_until: The latest end of those that were.
    """

    def __init__(self, definition: Mapping[str, Any], closed_until: float = -math.inf) -> None:
        self.definition = definition
        self.open: list[Window] = []
        self.closed_until = closed_until

    def covering(self, event_time: int) -> list[Window]:
        """Windows that a reading would enter if all were open; of a session, the reading's own."""
        gap = self.definition.get("gap_us")
        if gap is not None:
            return [Window(event_time, event_time + gap, [])]
        length, hop = self.definition["length_us"], self.definition["hop_us"]
        newest = event_time // hop * hop
        oldest = newest + hop - length
        return [Window(start, start + length, []) for start in range(oldest, newest + 1, hop)]

    def take(self, reading: Reading, watermark: float) -> tuple[int, int]:
        """Enter a reading into what still waits for it; how many windows it entered, and how many it missed."""
        entered = missed = 0
        for window in self.covering(reading.event_time):
            if window.end > max(watermark, self.closed_until):
                window.readings.append(reading)
                self._add(window)
                entered += 1
            else:
                missed += 1
        return entered, missed

    def _add(self, new: Window) -> None:
        """Unite a window of one reading with the open ones that it is the same as, or whose session it belongs to."""
        if "gap_us" in self.definition:
            same = [window for window in self.open if window.start < new.end and new.start < window.end]
        else:
            same = [window for window in self.open if window.start == new.start]
        self.open = [window for window in self.open if window not in same]
        for window in same:
            new.start = min(new.start, window.start)
            new.end = max(new.end, window.end)
            new.readings += window.readings
        self.open.append(new)

    def close(self, until: float) -> list[Window]:
        """Take out what ends by then."""
        closed = [window for window in self.open if window.end <= until]
        self.open = [window for window in self.open if window.end > until]
        self.closed_until = max([self.closed_until, *(window.end for window in closed)])
        return closed

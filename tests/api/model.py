"""The hot store said again, in lists and loops: what its alarms must be after posts, commits, refills and operators.

It shares no code with the store: everything is kept, and everything is worked out anew whenever it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.api.plant import P, digest

Row = dict[str, Any]


@dataclass
class Entry:
    """A transition that was stored, and whether it was taken back."""

    row: Row
    retracted: bool = False

    @property
    def key(self) -> tuple[str, int]:
        return self.row["alarm_id"], self.row["step"]


@dataclass
class Model:
    """One partition of the hot store."""

    mark: int = -1
    committed: int = -1
    entries: list[Entry] = field(default_factory=list)
    acknowledgements: list[tuple[str, str]] = field(default_factory=list)

    def standing(self, key: tuple[str, int] | None = None) -> list[Entry]:
        return [each for each in self.entries if not each.retracted and key in {None, each.key}]

    def post(self, follows: int, last: int, rows: list[Row]) -> str:
        if follows > self.mark:
            return "gap"
        for row in rows:
            if row["sequence_number"] > self.mark:
                self._take(row, self.committed)
        self.mark = max(self.mark, last)
        return "ok"

    def commit(self, follows: int, last: int, rows: list[Row]) -> str:
        """Confirm a range; `rows` are the lake's."""
        if last <= self.committed:
            return "ok"
        if follows != self.committed:
            return "gap"
        mine = [each.row for each in self.standing() if follows < each.row["sequence_number"] <= last]
        if digest(mine) != digest(rows):
            return "mismatch"
        self.mark, self.committed = max(self.mark, last), last
        return "ok"

    def refill(self, follows: int, last: int, rows: list[Row]) -> str:
        if last <= self.committed:
            return "ok"
        if follows != self.committed:
            return "gap"
        for each in self.standing():
            if follows < each.row["sequence_number"] <= last and each.row not in rows:
                each.retracted = True
        for row in rows:
            self._take(row, row["sequence_number"] - 1)
        self.mark, self.committed = max(self.mark, last), last
        return "ok"

    def _take(self, row: Row, confirmed: int) -> None:
        for found in self.standing((row["alarm_id"], row["step"])):
            if found.row == row or found.row["sequence_number"] <= confirmed:
                return
            found.retracted = True
        self.entries.append(Entry(row))

    def acknowledge(self, alarm_id: str, actor: str) -> str:
        shown = self.alarm(alarm_id)
        if shown is None:
            return "none"
        if shown.get("retracted") or shown["acknowledged"]:
            return "not allowed"
        self.acknowledgements.append((alarm_id, actor))
        return "ok"

    def ids(self) -> set[str]:
        return {each.row["alarm_id"] for each in self.entries}

    def alarm(self, alarm_id: str) -> dict[str, Any] | None:
        """Return what the API has to show, without seq and the time of the acknowledgement."""
        every = [each for each in self.entries if each.row["alarm_id"] == alarm_id]
        if not every:
            return None
        standing = [each.row for each in every if not each.retracted]
        # Of what was taken back, the first of each step is shown.
        rows = sorted(standing or [each.row for each in reversed(every)], key=lambda row: row["step"])
        low = [row for row in rows if row["step"] == rows[0]["step"]][-1]
        high = [row for row in rows if row["step"] == rows[-1]["step"]][-1]
        by = next((actor for alarm, actor in self.acknowledgements if alarm == alarm_id), None)
        active = high["transition"] != "cleared"
        states = {(True, False): "active_unacked", (True, True): "active_acked", (False, False): "cleared_unacked"}
        shown = {
            "alarm_id": alarm_id,
            "state": states.get((active, by is not None), "normal"),
            "active": active,
            "acknowledged": by is not None,
            "onset_time": _text(low["onset_time"]),
            "raised_time": _text(low["event_time"]),
            "cleared_time": None if active else _text(high["event_time"]),
            "partition": P,
            "provisional": any(row["sequence_number"] > self.committed for row in standing),
            "acknowledged_by": by,
        }
        named = ("priority", "device", "metric", "asset", "alarm_rule", "message")
        shown |= {name: high[name] for name in (*named, "value", "threshold", "peak", "score", "step")}
        return shown if standing else shown | {"retracted": True}


def _text(time: Any) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S.%f}Z"

"""Follows the alarms of the demo's API as any client would, and says what each change was."""

from __future__ import annotations

import http.client
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alumicatalyst.errors import AlumicatalystError
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from alumicatalyst.demo.client import Client

_log = get_logger(__name__)
_AGAIN_S = 0.5
# Alarms and changes that are held at most: a demo may run for days.
_ALARMS_MAX = 10_000
_CHANGES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Change:
    """A change of an alarm.

    Attributes:
        what: raised, updated, cleared, acknowledged or retracted.
        alarm: As the change left it.
    """

    what: str
    alarm: dict[str, Any]

    @property
    def time(self) -> str:
        """When it happened, to the second, as far as the alarm says."""
        names = {"cleared": "cleared_time", "acknowledged": "acknowledged_time"}
        return str(self.alarm[names.get(self.what, "raised_time")] or self.alarm["raised_time"])[11:19]


class Follower(threading.Thread):
    """Reads the live stream on a thread, and goes on where it was when the connection breaks."""

    def __init__(self, client: Client) -> None:
        super().__init__(name="alarms", daemon=True)
        self._client = client
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._alarms: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._changes: deque[Change] = deque(maxlen=_CHANGES_MAX)
        self._seen: int | None = None

    def run(self) -> None:
        """Follow until stopped."""
        while not self._ended.is_set():
            try:
                for event in self._client.events(self._seen):
                    if event.name in {"hello", "reset"}:
                        self._load()
                    else:
                        self._take(event.data, tell=True)
                    self._seen = event.id
            except (AlumicatalystError, OSError, http.client.HTTPException) as error:
                _log.debug("the stream of alarms broke off", reason=str(error))
            # The API starts, stops or is busy; what was missed comes with the next connection.
            self._ended.wait(_AGAIN_S)

    def close(self) -> None:
        """Do not connect again; the thread ends when the API ends the stream."""
        self._ended.set()

    def changes(self) -> list[Change]:
        """Return the changes since the last call, oldest first; of very many the last ones."""
        with self._lock:
            changes = list(self._changes)
            self._changes.clear()
        return changes

    def newest(self, count: int) -> list[dict[str, Any]]:
        """Return the alarms that were raised last, newest first."""
        with self._lock:
            alarms = list(self._alarms.values())
        return sorted(alarms, key=lambda alarm: str(alarm["raised_time"]), reverse=True)[:count]

    def active(self) -> int:
        """Return how many alarms are active."""
        with self._lock:
            return sum(alarm["active"] for alarm in self._alarms.values())

    def _load(self) -> None:
        for alarm in self._client.items("/v1/alarms"):
            self._take(alarm, tell=False)

    def _take(self, alarm: dict[str, Any], *, tell: bool) -> None:
        with self._lock:
            what = _what(self._alarms.get(alarm["alarm_id"]), alarm)
            if alarm.get("retracted"):
                self._alarms.pop(alarm["alarm_id"], None)
            else:
                self._alarms[alarm["alarm_id"]] = alarm
                self._alarms.move_to_end(alarm["alarm_id"])
                if len(self._alarms) > _ALARMS_MAX:
                    self._alarms.popitem(last=False)
            if tell and what is not None:
                self._changes.append(Change(what, alarm))


def _what(before: dict[str, Any] | None, alarm: dict[str, Any]) -> str | None:
    """Return what a change did to an alarm; None where a reader sees no difference."""
    if alarm.get("retracted"):
        return "retracted"
    if before is not None and before["step"] >= alarm["step"]:
        return "acknowledged" if alarm["acknowledged"] and not before["acknowledged"] else None
    if not alarm["active"]:
        return "cleared"
    return "updated" if before is not None and before["active"] else "raised"

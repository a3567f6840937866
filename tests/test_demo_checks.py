"""The demo's checks find what is wrong, and its follower goes on where the stream broke off."""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

import pytest

from alumicatalyst.demo import check
from alumicatalyst.demo.alarms import Follower
from alumicatalyst.demo.client import Client
from tests.hubs import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alumicatalyst.lake import Lake


class Answers:
    """An API with the alarms given, and the steps of each."""

    def __init__(self, alarms: list[dict[str, Any]], steps: dict[str, list[int]]) -> None:
        self.alarms = alarms
        self.steps = steps

    def items(self, path: str) -> Iterator[dict[str, Any]]:
        assert path == "/v1/alarms"
        return iter(self.alarms)

    def get(self, path: str) -> dict[str, Any]:
        steps = self.steps[path.split("/")[3]]
        entries = [{"side": "process", "retracted": False, "step": step} for step in steps]
        return {"items": [*entries, {"side": "operator", "retracted": False}]}


class Rows:
    """A lake whose table of alarms has the rows given."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def table(self, name: str) -> Rows:
        assert name == "alarms"
        return self

    def select(self, query: str) -> list[dict[str, Any]]:
        assert "FROM alarms" in query
        return self.rows


def alarm(alarm_id: str, step: int, **given: Any) -> dict[str, Any]:
    return {"alarm_id": alarm_id, "step": step, "provisional": False, "active": True, "acknowledged": False, **given}


LAKE = {"a": {0, 1}, "b": {0}}


@pytest.mark.parametrize(
    ("alarms", "steps", "wrong"),
    [
        ([alarm("a", 1), alarm("b", 0)], {"a": [0, 1], "b": [0]}, ""),
        ([alarm("a", 1)], {"a": [0, 1]}, "b is missing"),
        ([alarm("a", 1), alarm("b", 0), alarm("c", 0)], {"a": [0, 1], "b": [0]}, "c of the API is not in the lake"),
        ([alarm("a", 0), alarm("b", 0)], {"a": [0], "b": [0]}, "a has come to step 0, confirmed; in the lake to 1"),
        ([alarm("a", 1), alarm("b", 0, provisional=True)], {"a": [0, 1]}, "b has come to step 0, provisional"),
        ([alarm("a", 1), alarm("b", 0)], {"a": [1], "b": [0]}, r"a has the steps \[1\], in the lake \[0, 1\]"),
    ],
)
def test_a_hot_store_that_is_not_what_the_lake_is_is_found(
    alarms: list[dict[str, Any]], steps: dict[str, list[int]], wrong: str
) -> None:
    found = check.differences(cast("Client", Answers(alarms, steps)), LAKE, histories=True)
    assert len(found) == bool(wrong)
    assert re.search(wrong, "".join(found))


def lake_row(alarm_id: str, transition: str, second: int, rule: str = "HH") -> dict[str, Any]:
    at = datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)
    series = {"device": "pot-001", "metric": "cell_voltage"}
    return {"alarm_id": alarm_id, "alarm_rule": rule, "transition": transition, "event_time": at, **series}


def fault(begin: int, end: int, *alarms: str, complete: bool = True) -> dict[str, Any]:
    return {
        "kind": "fault",
        "fault": "anode_effect",
        "device": "pot-001",
        "metric": "cell_voltage",
        "from": f"2026-01-01T00:00:{begin:02}.000000Z",
        "until": f"2026-01-01T00:00:{end:02}.000000Z",
        "alarms": list(alarms),
        "complete": complete,
    }


def test_a_fault_whose_alarm_was_not_active_during_it_is_named() -> None:
    rows = [lake_row("a", "raised", 10), lake_row("a", "cleared", 20), lake_row("b", "raised", 40)]
    lake = cast("Lake", Rows(rows))
    truth = [fault(5, 12, "HH"), fault(15, 25, "HH"), fault(45, 50, "HH"), fault(5, 50), fault(5, 9, complete=False)]
    found = check.faults(lake, truth, set())
    assert found.as_dict() == {"injected": 4, "expected_alarms": 3, "raised": 3}
    found = check.faults(lake, [fault(21, 39, "HH"), fault(5, 12, "H", "odd")], {("cell_voltage", "odd")})
    assert found.as_dict() == {"injected": 2, "expected_alarms": 2, "raised": 0}
    assert len(found.missing) == 2
    assert "anode_effect of pot-001 from 2026-01-01T00:00:21" in found.missing[0]


class Breaking(BaseHTTPRequestHandler):
    """A stream that breaks off in the middle of an event, and goes on at the next connection."""

    resumed_after: str | None = None

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        if self.path.startswith("/v1/alarms"):
            old = alarm("old", 0, raised_time="2026-01-01T00:00:00Z", cleared_time=None)
            self.wfile.write(json.dumps({"items": [old], "next": None}).encode())
            return
        last = self.headers.get("Last-Event-ID")
        if last is None:
            self._event("hello", 4, {"seq": 4})
            self._event("alarm", 5, alarm("new", 0))
            self.wfile.write(b": heartbeat\n\nevent: alarm\nid: 6\nda")
            return
        Breaking.resumed_after = Breaking.resumed_after or last
        if last == "5":
            self._event("alarm", 6, alarm("new", 1, active=False))
            self._event("alarm", 7, alarm("new", 1, active=False, acknowledged=True))
            self._event("alarm", 8, alarm("old", 0, provisional=True))

    def _event(self, name: str, number: int, data: dict[str, Any]) -> None:
        shown = {"raised_time": "2026-01-01T00:00:00Z", "cleared_time": None, **data}
        self.wfile.write(f"event: {name}\nid: {number}\ndata: {json.dumps(shown)}\n\n".encode())

    def log_message(self, *_: object) -> None:
        pass


def test_the_follower_goes_on_where_the_stream_broke_off() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Breaking) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        follower = Follower(Client(f"http://127.0.0.1:{server.server_port}", "key"))
        follower.start()
        changes: list[tuple[str, str]] = []

        def told() -> bool:
            changes.extend((change.what, change.alarm["alarm_id"]) for change in follower.changes())
            return len(changes) >= 3

        eventually(told)
        follower.close()
        follower.join()
        server.shutdown()
        serving.join()
    assert changes == [("raised", "new"), ("cleared", "new"), ("acknowledged", "new")]
    assert Breaking.resumed_after == "5"
    assert follower.active() == 1
    assert {one["alarm_id"] for one in follower.newest(10)} == {"old", "new"}

"""Streams: every change once and in order, however often a client is cut off, over one process or several."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from api.store import Retention
from tests.api.serving import PARTITION, TEST_LIMITS, Serving, alarm_id, digest_of, post, transition
from tests.api.sse import Event, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import httpx

LIMITS = replace(TEST_LIMITS, heartbeat_s=0.2)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/api.sqlite"


@pytest.fixture
def serving(url: str) -> Iterator[Serving]:
    with Serving(url, limits=LIMITS) as serving:
        yield serving


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.005)


class Writer(threading.Thread):
    """Raises and clears alarms without a pause until told to stop, through one or several servers in turn."""

    def __init__(self, servings: list[Serving], *, partition: str = PARTITION, first: int = 0) -> None:
        super().__init__(daemon=True)
        self._servings = servings
        self._partition = partition
        self._at = first
        self._stopped = threading.Event()
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            with ExitStack() as stack:
                sinks = [stack.enter_context(serving.client("ingest")) for serving in self._servings]
                mark, n = -1, 0
                while not self._stopped.is_set():
                    rows = [self._row(n, mark + 1), self._row(n, mark + 2, 1, "cleared"), self._row(n + 1, mark + 3)]
                    self._post(sinks[n // 2 % len(sinks)], rows, mark, mark + 3)
                    mark, n = mark + 3, n + 2
        except BaseException as error:  # noqa: BLE001
            self.failed = error

    def _row(self, number: int, sequence: int, step: int = 0, kind: str = "raised") -> dict[str, Any]:
        return transition(self._at + number, sequence, step, kind, partition=self._partition)

    def _post(self, sink: httpx.Client, rows: list[dict[str, Any]], follows: int, last: int) -> None:
        answer = post(sink, "alarms", rows, follows, last, partition=self._partition)
        assert answer.status_code == 200, answer.text

    def stop(self) -> None:
        self._stopped.set()
        self.join(60)
        assert not self.is_alive()
        if self.failed:
            raise self.failed


def read_with_cuts(pick: Callable[[], tuple[str, str]], begin: int, cuts: int, chance: random.Random) -> list[Event]:
    """Read a stream that is cut at random places and resumed with the last id, at whichever address comes next."""
    got: list[Event] = []
    after = begin
    for _ in range(cuts):
        address, key = pick()
        with Stream(address, key, after) as stream:
            assert stream.response.status_code == 200
            for _ in range(chance.randrange(0, 12)):
                event = stream.next()
                assert event is not None
                assert event.name == "alarm"
                assert event.id is not None
                got.append(event)
                after = event.id
    return got


def check_against_store(serving: Serving, begin: int, got: list[Event]) -> None:
    """Hold what came to what the store has: the same changes in the same order, none twice, none missing."""
    assert got
    changes = serving.call(serving.store.changes(begin, 1_000_000))
    expected = [(change.seq, change.alarm) for change in changes[: len(got)]]
    assert [(event.id, event.data) for event in got] == expected
    seqs = [event.id for event in got if event.id is not None]
    assert seqs == sorted(set(seqs))


def test_a_stream_cut_fifty_times_gives_every_change_once_and_in_order(serving: Serving) -> None:
    key = serving.key("read")
    writer = Writer([serving])
    writer.start()
    try:
        got = read_with_cuts(lambda: (serving.address, key), 0, 50, random.Random(1))
    finally:
        writer.stop()
    check_against_store(serving, 0, got)


def test_two_replicas_on_one_database_make_one_stream(store_url: str) -> None:
    chance = random.Random(2)
    with Serving(store_url, limits=LIMITS) as one, Serving(store_url, limits=LIMITS) as two:
        keys = {each.address: each.key("read", name="reader") for each in (one, two)}
        writers = [Writer([one, two]), Writer([two, one], partition="telemetry/1795256130123/1", first=1_000_000)]
        for writer in writers:
            writer.start()
        try:
            got = read_with_cuts(lambda: chance.choice(list(keys.items())), 0, 50, chance)
        finally:
            for writer in writers:
                writer.stop()
        check_against_store(two, 0, got)


def test_two_streams_that_stay_open_see_the_same(serving: Serving) -> None:
    address, key = serving.address, serving.key("read")
    with Stream(address, key, 0) as one, Stream(address, key, 0) as two, serving.client("ingest") as sink:
        for n in range(100):
            assert post(sink, "alarms", [transition(n, n)], n - 1, n).status_code == 200
        first = [one.next() for _ in range(100)]
        assert [two.next() for _ in range(100)] == first
        assert [event.id for event in first if event] == list(range(1, 101))


def test_without_a_place_to_resume_from_only_what_is_new_comes(serving: Serving) -> None:
    with serving.client("ingest") as sink, serving.client("operate", name="ada") as ada:
        post(sink, "alarms", [transition(1, 1)], -1, 1)
        with Stream(serving.address, serving.key("read")) as stream:
            assert stream.response.headers["content-type"].startswith("text/event-stream")
            assert stream.response.headers["cache-control"] == "no-store"
            assert stream.response.headers["x-accel-buffering"] == "no"
            assert stream.next() == Event("hello", 1, {"seq": 1})
            ada.post(f"/v1/alarms/{alarm_id(1)}/acknowledge", json={"comment": "line\nbreak"})
            event = stream.next()
            assert event is not None
            assert (event.name, event.id, event.data["state"]) == ("alarm", 2, "active_acked")
            assert event.data["comment"] == "line\nbreak"
            count, digest = digest_of([transition(1, 1)])
            told = {"partition": PARTITION, "follows": -1, "last": 1, "transitions": count, "sha256": digest}
            assert sink.post("/v1/ingest/commits", json=told).status_code == 200
            event = stream.next()
            assert event is not None
            assert (event.id, event.data["provisional"]) == (3, False)


def test_an_id_that_is_not_retained_resets_the_client(serving: Serving) -> None:
    key = serving.key("read")
    with serving.client("ingest") as sink:
        post(sink, "alarms", [transition(n, n + 1) for n in range(5)], -1, 5)
    with Stream(serving.address, key, 99) as stream:
        assert stream.next() == Event("reset", 5, {"seq": 5})
    with Stream(serving.address, key, 3, in_query=True) as stream:
        assert [event.id for event in (stream.next(), stream.next()) if event] == [4, 5]
    later = datetime.now(UTC) + timedelta(days=30)
    serving.call(serving.store.prune(now=later, retention=Retention(changes_days=1)))
    with Stream(serving.address, key, 3) as stream:
        assert stream.next() == Event("reset", 5, {"seq": 5})
    with Stream(serving.address, key, 5) as stream, serving.client("ingest") as sink:
        post(sink, "alarms", [transition(9, 6)], 5, 6)
        event = stream.next()
        assert event is not None
        assert event.id == 6


def test_a_place_that_is_no_number_is_refused(serving: Serving) -> None:
    with serving.client("read") as reader:
        for headers in ({"Last-Event-ID": "x"}, {"Last-Event-ID": "-1"}, {"Last-Event-ID": str(2**63)}):
            answer = reader.get("/v1/stream", headers=headers)
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["at"] == "header.Last-Event-ID"
        assert reader.get("/v1/stream", params={"after": "1.5"}).status_code == 422


def test_a_silent_stream_beats_and_ends_when_its_key_is_revoked(serving: Serving) -> None:
    key = serving.key("read", name="leaver")
    with Stream(serving.address, key) as stream:
        assert stream.next() == Event("hello", 0, {"seq": 0})
        assert stream.next(comments=True) == Event("comment", None, "heartbeat")
        assert serving.call(serving.store.revoke_key("leaver"))
        assert stream.next() is None
    assert 'alumicatalyst_api_streams_dropped_total{reason="key"} 1.0' in metrics_of(serving)


def metrics_of(serving: Serving) -> str:
    with serving.client("read") as reader:
        return reader.get("/metrics").text


def test_places_are_bounded_and_come_back_when_a_client_goes(url: str) -> None:
    with Serving(url, limits=replace(LIMITS, streams_max=2)) as serving:
        key = serving.key("read")
        with Stream(serving.address, key) as one, Stream(serving.address, key) as two:
            assert one.next() is not None
            assert two.next() is not None
            assert "alumicatalyst_api_stream_clients 2.0" in metrics_of(serving)
            with Stream(serving.address, key) as third:
                assert third.response.status_code == 503
                assert int(third.response.headers["retry-after"]) >= 1
                third.response.read()
                assert third.response.json()["type"] == "urn:alumicatalyst:problem:too-many-streams"
        wait_until(lambda: "alumicatalyst_api_stream_clients 0.0" in metrics_of(serving))
        assert not serving.app.state.broadcaster._clients
        with Stream(serving.address, key) as again:
            assert again.next() is not None


def test_a_client_that_does_not_read_is_closed_and_the_others_are_not_held_up(url: str) -> None:
    with Serving(url, limits=replace(LIMITS, stream_backlog_max=50, heartbeat_s=30)) as serving:
        key = serving.key("read")
        host, port = serving.address.removeprefix("http://").split(":")
        slow = socket.socket()
        # With the smallest window, little is on its way before the server has to wait.
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        slow.connect((host, int(port)))
        head = f"Host: {host}\r\nAuthorization: Bearer {key}\r\nLast-Event-ID: 0\r\n\r\n"
        slow.sendall(f"GET /v1/stream HTTP/1.1\r\n{head}".encode())
        with slow, Stream(serving.address, key, 0) as quick, serving.client("ingest") as sink:
            wait_until(lambda: "alumicatalyst_api_stream_clients 2.0" in metrics_of(serving))
            seen, last = 0, 0
            message = "m" * 20_000
            while 'streams_dropped_total{reason="slow"} 1.0' not in metrics_of(serving):
                assert last < 5_000
                rows = [transition(last + n, last + n + 1, message=message) for n in range(10)]
                assert post(sink, "alarms", rows, last or -1, last + 10).status_code == 200
                last += 10
                while seen < last:
                    event = quick.next()
                    assert event is not None
                    seen += 1
                    assert event.id == seen
        wait_until(lambda: "alumicatalyst_api_stream_clients 0.0" in metrics_of(serving))


def test_a_server_that_stops_ends_its_streams_and_a_client_goes_on_at_the_next(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.server._GRACE_S", 90)
    with Serving(url, limits=LIMITS) as first:
        key = first.key("read")
        with first.client("ingest") as sink:
            post(sink, "alarms", [transition(1, 1)], -1, 1)
        with Stream(first.address, key, 0) as stream:
            event = stream.next()
            assert event is not None
            began = time.monotonic()
            first.stop()
            assert stream.next() is None
            assert time.monotonic() - began < 60, "it did not wait for streams to end by themselves"
    with Serving(url, limits=LIMITS) as second, Stream(second.address, key, event.id) as stream:
        with second.client("ingest") as sink:
            post(sink, "alarms", [transition(2, 2)], 1, 2)
        following = stream.next()
        assert following is not None
        assert following.id == (event.id or 0) + 1


def test_a_defect_ends_the_streams_and_a_client_goes_on_when_it_is_over(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, key = serving.store.changes, serving.key("read")
    with Stream(serving.address, key, 0) as stream, serving.client("ingest") as sink:
        post(sink, "alarms", [transition(0, 0)], -1, 0)
        first = stream.next()
        assert first is not None
        assert first.id == 1

        async def broken(after: int, limit: int) -> Any:
            raise RuntimeError("a defect")

        monkeypatch.setattr(serving.store, "changes", broken)
        post(sink, "alarms", [transition(1, 1)], 0, 1)
        wait_until(lambda: 'streams_dropped_total{reason="defect"} 1.0' in metrics_of(serving))
        monkeypatch.setattr(serving.store, "changes", real)
    with Stream(serving.address, key, 1) as again:
        second = again.next()
        assert second is not None
        assert second.id == 2

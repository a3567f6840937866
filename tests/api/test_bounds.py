"""Nothing that a client sends or leaves out takes more than its share: sizes, time, connections, and defects inside."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import httpx
import pytest

from api.store import StoreBusy, StoreError
from tests.api.serving import ARROW, PARTITION, TEST_LIMITS, Serving, alarm_id, post, stream_of, table, transition

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = replace(TEST_LIMITS, table_bytes_max=200_000, refused_body_s_max=30.0)
# For what does not come at all, or not to its end: there is nothing to wait for.
HASTY = replace(LIMITS, request_s_max=1.0, refused_body_s_max=0.2)
QUERY = {"partition": PARTITION, "follows": "-1", "last": "9"}


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with Serving(f"sqlite:///{tmp_path_factory.mktemp('bounds')}/api.sqlite", limits=LIMITS) as serving:
        yield serving


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with Serving(f"sqlite:///{tmp_path_factory.mktemp('hasty')}/api.sqlite", limits=HASTY) as serving:
        yield serving


@pytest.fixture
def sink(serving: Serving) -> Iterator[httpx.Client]:
    with serving.client("ingest") as sink:
        yield sink


def slug(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].removeprefix("urn:alumicatalyst:problem:")


def raw(serving: Serving, head: str, body: bytes = b"", seconds: float = 60) -> bytes:
    """Send bytes as they are, and return what comes until the connection is closed."""
    host, port = serving.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        return answer


def head_of(serving: Serving, path: str, *lines: str) -> str:
    key = serving.key("ingest", "operate", "read")
    return "\n".join([f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", *lines, ""])


def test_a_declared_size_beyond_the_bound_is_refused_unread(hasty: Serving, sink: httpx.Client) -> None:
    answer = sink.post("/v1/ingest/alarms", params=QUERY, content=b"x" * 200_001, headers=ARROW)
    assert slug(answer) == (413, "too-large")
    assert "200000 bytes" in answer.json()["detail"]
    # The rest never comes, and the answer does not wait for it.
    head = head_of(hasty, "/v1/ingest/commits", "Content-Type: application/json", "Content-Length: 999999999999")
    assert raw(hasty, head).startswith(b"HTTP/1.1 413")


def test_a_body_of_undeclared_size_is_counted_while_it_comes(sink: httpx.Client) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(300):
            yield b"x" * 1_000

    answer = sink.post("/v1/ingest/alarms", params=QUERY, content=parts(), headers=ARROW)
    assert slug(answer) == (413, "too-large")
    answer = sink.post("/v1/ingest/commits", content=parts(), headers={"Content-Type": "application/json"})
    assert slug(answer) == (413, "too-large")


def test_a_small_body_may_come_in_any_pieces(sink: httpx.Client) -> None:
    body = stream_of(table("alarms", []))
    answer = sink.post(
        "/v1/ingest/alarms", params=QUERY, content=(body[n : n + 7] for n in range(0, len(body), 7)), headers=ARROW
    )
    assert answer.json() == {"mark": 9, "accepted": 0}


def test_a_body_that_does_not_come_ends_in_time(hasty: Serving) -> None:
    query = "&".join(f"{name}={value}" for name, value in QUERY.items())
    for path, kind in (
        (f"/v1/ingest/alarms?{query}", ARROW["Content-Type"]),
        ("/v1/ingest/commits", "application/json"),
    ):
        answer = raw(hasty, head_of(hasty, path, f"Content-Type: {kind}", "Content-Length: 1000"), b"{")
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"urn:alumicatalyst:problem:request-timeout" in answer
        assert b"connection: close" in answer.lower()


def test_a_body_in_drops_ends_in_time_too(hasty: Serving) -> None:
    key = hasty.key("ingest")

    def drops() -> Iterator[bytes]:
        for _ in range(1_200):
            yield b" "
            time.sleep(0.05)

    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    began = time.monotonic()
    try:
        answer = httpx.post(f"{hasty.address}/v1/ingest/commits", content=drops(), headers=headers, timeout=60)
    except httpx.TransportError:
        pass
    else:
        assert slug(answer) == (408, "request-timeout")
    assert time.monotonic() - began < 50


def test_an_unauthenticated_body_is_not_read(hasty: Serving) -> None:
    head = "POST /v1/ingest/alarms HTTP/1.1\nHost: x\nContent-Length: 190000\n"
    assert raw(hasty, head, b"x" * 1_000).startswith(b"HTTP/1.1 401")


def test_a_store_that_does_not_answer_in_time_is_503(hasty: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any, **__: Any) -> None:
        await asyncio.sleep(3_600)

    monkeypatch.setattr(hasty.store, "series", never)
    with hasty.client("read") as reader:
        answer = reader.get("/v1/series")
        assert slug(answer) == (503, "timeout")
        assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("error", [StoreBusy("couldn't lock /secret/path.sqlite"), StoreError("psql://u:pw@host")])
def test_a_store_that_is_away_is_503_with_retry_after_and_no_detail(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, error: StoreError
) -> None:
    async def away(*_: Any, **__: Any) -> NoReturn:
        raise error

    with serving.client("read", "ingest") as client:
        for name in ("alarms", "ingest", "ready", "position", "key"):
            monkeypatch.setattr(serving.store, name, away)
        answers = [
            client.get("/readyz"),
            client.get("/v1/alarms"),
            client.get("/v1/stream"),
            post(client, "alarms", [], -1, 9),
        ]
        monkeypatch.undo()
        for name in ("alarms", "ingest", "position"):
            monkeypatch.setattr(serving.store, name, away)
        answers += [client.get("/v1/alarms"), client.get("/v1/stream"), post(client, "alarms", [], -1, 9)]
    for answer in answers:
        assert slug(answer) == (503, "busy")
        assert answer.headers["retry-after"] == "1"
        assert "secret" not in answer.text
        assert "pw" not in answer.text
    assert httpx.get(f"{serving.address}/livez", timeout=60).status_code == 200


def test_a_defect_is_500_without_its_detail_and_is_logged_with_the_id(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("SELECT password FROM users")

    with serving.client("read") as reader:
        monkeypatch.setattr(serving.store, "series", broken)
        answer = reader.get("/v1/series", headers={"X-Request-Id": "find-me"})
        monkeypatch.undo()
        assert slug(answer) == (500, "internal")
        assert "password" not in answer.text
        assert answer.json()["request_id"] == "find-me"
        assert 'status="500"' in reader.get("/metrics").text
    assert "request failed" in caplog.text
    assert "SELECT password" in caplog.text


def test_a_client_that_goes_in_the_middle_leaves_nothing_behind(serving: Serving, sink: httpx.Client) -> None:
    query = "&".join(f"{name}={value}" for name, value in QUERY.items())
    host, port = serving.address.removeprefix("http://").split(":")
    head = head_of(
        serving, f"/v1/ingest/windows?{query}", f"Content-Type: {ARROW['Content-Type']}", "Content-Length: 999"
    )
    for _ in range(20):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\nabc")
    for _ in range(LIMITS.tables_in_work_max + 1):
        assert post(sink, "windows", [], -1, 9).status_code == 200


def test_tables_in_work_are_bounded(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    now, most = 0, 0
    real = serving.store.ingest

    async def counted(*args: Any, **options: Any) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            await asyncio.sleep(0.01)
            return await real(*args, **options)
        finally:
            now -= 1

    monkeypatch.setattr(serving.store, "ingest", counted)
    key = serving.key("ingest")

    async def many() -> list[int]:
        headers = {**ARROW, "Authorization": f"Bearer {key}"}
        body = stream_of(table("latest", []))
        async with httpx.AsyncClient(base_url=serving.address, timeout=60, verify=False) as client:
            posts = [client.post("/v1/ingest/latest", params=QUERY, content=body, headers=headers) for _ in range(12)]
            return [answer.status_code for answer in await asyncio.gather(*posts)]

    assert set(asyncio.run(many())) <= {200, 408, 503}
    assert 1 <= most <= LIMITS.tables_in_work_max


def test_i9_whatever_is_no_http_is_turned_away(serving: Serving) -> None:
    for text in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 100, b"A" * 100_000):
        host, port = serving.address.removeprefix("http://").split(":")
        answer = b""
        with (
            socket.create_connection((host, int(port)), timeout=60) as connection,
            contextlib.suppress(ConnectionError),
        ):
            # Whoever is turned away before all was said may not get the rest off, nor its end.
            connection.sendall(text)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                answer += part
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert httpx.get(f"{serving.address}/livez", timeout=60).status_code == 200


def test_an_alarm_that_cannot_be_acknowledged_is_not_a_defect(serving: Serving) -> None:
    with serving.client("ingest", "operate") as client:
        assert post(client, "alarms", [transition(5, 10)], 9, 10).status_code in {200, 409}
        answer = client.post(f"/v1/alarms/{alarm_id(99)}/acknowledge", json={})
        assert slug(answer) == (404, "not-found")

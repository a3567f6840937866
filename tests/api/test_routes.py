"""The API as its users see it: what the sink posts is listed, filtered, paged, acknowledged, and told in problems."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alumicatalyst.settings import LedgerSettings, Settings
from api.queries import parse_time
from tests.api.serving import (
    ARROW,
    PARTITION,
    START_US,
    Serving,
    alarm_id,
    digest_of,
    newest,
    post,
    stream_of,
    table,
    time_text,
    transition,
    window,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def serving(store_url: str, tmp_path: Path) -> Iterator[Serving]:
    settings = Settings(ledger=LedgerSettings(uri=f"file:{tmp_path}/ledger"))
    with Serving(store_url, settings=settings) as serving:
        yield serving


@pytest.fixture
def plain_serving(tmp_path: Path) -> Iterator[Serving]:
    with Serving(f"sqlite:///{tmp_path}/api.sqlite") as serving:
        yield serving


@pytest.fixture
def clients(serving: Serving) -> Iterator[tuple[httpx.Client, httpx.Client, httpx.Client]]:
    with serving.everyone() as clients:
        yield clients


Clients = tuple[httpx.Client, httpx.Client, httpx.Client]


def slug(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].removeprefix("urn:alumicatalyst:problem:")


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["alarm_id"] for item in response.json()["items"]]


def all_pages(client: httpx.Client, path: str, **query: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        answer = client.get(path, params={**query, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        cursor = answer.json()["next"]
        if cursor is None:
            return items
        assert len(answer.json()["items"]) == query.get("limit", 100)


def test_an_alarm_lives_from_raised_to_normal(clients: Clients) -> None:
    sink, reader, ada = clients
    raised = transition(1, 10)
    assert post(sink, "alarms", [raised], -1, 10).json() == {"mark": 10, "accepted": 1}
    shown = reader.get(f"/v1/alarms/{alarm_id(1)}").json()
    assert shown["state"] == "active_unacked"
    assert shown["provisional"] is True
    assert shown["raised_time"] == time_text(raised["event_time"])
    assert shown["onset_time"] == time_text(raised["onset_time"])
    assert {name: shown[name] for name in ("device", "asset", "value", "peak", "threshold", "message")} == {
        name: raised[name] for name in ("device", "asset", "value", "peak", "threshold", "message")
    }

    acknowledged = ada.post(f"/v1/alarms/{alarm_id(1)}/acknowledge", json={"comment": "quenched \u00e9\n"})
    assert acknowledged.status_code == 200
    assert acknowledged.json()["state"] == "active_acked"
    assert acknowledged.json()["acknowledged_by"] == "ada"
    assert acknowledged.json()["comment"] == "quenched \u00e9\n"

    cleared = transition(1, 20, 1, "cleared", peak=40.5)
    assert post(sink, "alarms", [cleared], 10, 20).json() == {"mark": 20, "accepted": 1}
    count, digest = digest_of([raised, cleared])
    told = {"partition": PARTITION, "follows": -1, "last": 20, "transitions": count, "sha256": digest}
    assert sink.post("/v1/ingest/commits", json=told).json()["mark"] == 20
    shown = reader.get(f"/v1/alarms/{alarm_id(1)}").json()
    assert (shown["state"], shown["active"], shown["provisional"]) == ("normal", False, False)
    assert (shown["peak"], shown["cleared_time"]) == (40.5, time_text(cleared["event_time"]))

    history = reader.get(f"/v1/alarms/{alarm_id(1)}/history").json()
    assert [(each["action"], each["actor"]) for each in history["items"]] == [
        ("raised", "process"),
        ("acknowledge", "ada"),
        ("cleared", "process"),
    ]
    assert history["next"] is None


def test_an_acknowledgement_counts_once_and_says_what_is_allowed(clients: Clients) -> None:
    sink, _, ada = clients
    post(sink, "alarms", [transition(1, 1), transition(2, 1)], -1, 1)
    path = f"/v1/alarms/{alarm_id(1)}/acknowledge"
    key = {"Idempotency-Key": "0b7e9f5c"}
    first = ada.post(path, json={"comment": "seen"}, headers=key)
    assert first.status_code == 200
    assert ada.post(path, json={"comment": "seen"}, headers=key).json() == first.json()
    assert slug(ada.post(path, json={"comment": "other"}, headers=key)) == (422, "key-reused")
    assert slug(ada.post(f"/v1/alarms/{alarm_id(2)}/acknowledge", json={"comment": "seen"}, headers=key)) == (
        422,
        "key-reused",
    )
    again = ada.post(path, json={"comment": "seen"})
    assert slug(again) == (409, "not-allowed")
    assert (again.json()["state"], again.json()["allowed"]) == ("active_acked", [])
    assert slug(ada.post(f"/v1/alarms/{alarm_id(3)}/acknowledge", json={})) == (404, "not-found")
    assert ada.post(f"/v1/alarms/{alarm_id(2)}/acknowledge", json={}).json()["comment"] == ""


def test_filters_narrow_the_list_and_pages_put_it_together(clients: Clients) -> None:
    sink, reader, ada = clients
    rows = [transition(n, n + 1, alarm_rule="HH" if n % 2 else "H") for n in range(40)]
    cleared = [transition(n, 41 + n, 1, "cleared", alarm_rule="H") for n in range(0, 40, 4)]
    assert post(sink, "alarms", rows, -1, 40).json()["accepted"] == 40
    count, digest = digest_of(rows[:20])
    told = {"partition": PARTITION, "follows": -1, "last": 20, "transitions": count, "sha256": digest}
    assert sink.post("/v1/ingest/commits", json=told).status_code == 200
    assert post(sink, "alarms", cleared, 40, 100).json()["accepted"] == 10
    for n in (4, 5):
        assert ada.post(f"/v1/alarms/{alarm_id(n)}/acknowledge", json={}).status_code == 200
    newest_first = [alarm_id(n) for n in reversed(range(40))]

    def where(expected: set[int], **query: Any) -> None:
        assert ids(reader.get("/v1/alarms", params=query)) == [
            each for each in newest_first if each in {alarm_id(n) for n in expected}
        ], query

    everything = set(range(40))
    where(everything)
    where({4}, state="normal")
    where({5}, state="active_acked")
    where(set(range(0, 40, 4)) - {4}, state="cleared_unacked")
    where({4, 5}, state=["normal", "active_acked"])
    where({n for n in everything if n % 3 == 2}, priority="high")
    where({n for n in everything if n % 3}, priority=["high", "medium"])
    where({7}, device="pot-007")
    where(everything, metric="cell_voltage")
    where(set(), metric="cell")
    where(everything, asset="reduction/line-1")
    where({7}, asset="reduction/line-1/pot-007")
    where(set(), asset="reduction/line-1/pot-00")
    where({n for n in everything if n % 2}, rule="HH")
    where(set(range(10, 40)), **{"from": time_text(START_US + 11_000_000)})
    where(set(range(10)), to=time_text(START_US + 11_000_000))
    where({3}, text="VOLTAGE 11.5 v")
    where(set(), text="100%")
    where(set(range(20, 40)) | set(range(0, 40, 4)), provisional="true")
    where(set(range(20)) - set(range(0, 40, 4)), provisional="false")
    where({6}, state="active_unacked", rule="H", device="pot-006", asset="reduction")
    for limit in (1, 7, 40):
        got = all_pages(reader, "/v1/alarms", limit=limit)
        assert [each["alarm_id"] for each in got] == newest_first


def test_a_page_begins_where_the_former_one_ended_whatever_was_raised_since(clients: Clients) -> None:
    sink, reader, _ = clients
    post(sink, "alarms", [transition(n, n + 1) for n in range(10)], -1, 10)
    first = reader.get("/v1/alarms", params={"limit": 4}).json()
    post(sink, "alarms", [transition(n, n + 1) for n in range(10, 15)], 10, 15)
    rest = ids(reader.get("/v1/alarms", params={"limit": 100, "cursor": first["next"]}))
    assert [each["alarm_id"] for each in first["items"]] + rest == [alarm_id(n) for n in reversed(range(10))]
    assert slug(reader.get("/v1/series", params={"cursor": first["next"]})) == (422, "bad-cursor")
    assert slug(reader.get("/v1/alarms", params={"cursor": first["next"][:-3]})) == (422, "bad-cursor")


def test_windows_and_newest_values_are_listed(clients: Clients) -> None:
    sink, reader, _ = clients
    assert post(sink, "windows", [window(n, n + 1) for n in range(30)], -1, 30).json()["accepted"] == 30
    assert post(sink, "latest", [newest(n, n + 1) for n in range(30)], -1, 30).json()["accepted"] == 30
    got = all_pages(reader, "/v1/windows", limit=7)
    starts = [each["window_start"] for each in got]
    assert starts == [time_text(START_US + n * 10_000_000) for n in reversed(range(30))]
    assert (got[0]["mean"], got[0]["std"], got[0]["window_name"], got[0]["count"]) == (4.2, None, "10s", 10)
    part = {"from": time_text(START_US + 30_000_000), "to": time_text(START_US + 50_000_000)}
    assert len(reader.get("/v1/windows", params=part).json()["items"]) == 2
    assert reader.get("/v1/windows", params={"device": "pot-002"}).json()["items"] == []
    series = all_pages(reader, "/v1/series", limit=11)
    assert [each["device"] for each in series] == [f"pot-{n:03}" for n in range(30)]
    (one,) = reader.get("/v1/series", params={"device": "pot-003", "metric": "cell_voltage"}).json()["items"]
    assert (one["value"], one["event_time"]) == (4.2, time_text(START_US + 4_000_000))


def test_what_was_posted_before_is_ignored_and_a_gap_is_told_with_the_mark(clients: Clients) -> None:
    sink, _, _ = clients
    for kind, make in (("alarms", transition), ("windows", window), ("latest", newest)):
        rows = [make(n, n + 1) for n in range(5)]
        gap = post(sink, kind, rows, 0, 5)
        assert slug(gap) == (409, "gap")
        assert (gap.json()["mark"], gap.json()["committed"]) == (-1, -1)
        assert post(sink, kind, rows, -1, 5).json() == {"mark": 5, "accepted": 5}
        assert post(sink, kind, rows, -1, 5).json() == {"mark": 5, "accepted": 0}
        assert post(sink, kind, [], 5, 9).json() == {"mark": 9, "accepted": 0}
        gap = post(sink, kind, [make(9, 12)], 10, 12)
        assert (gap.status_code, gap.json()["mark"]) == (409, 9)


def test_the_lake_is_right_where_the_api_holds_other_transitions(clients: Clients) -> None:
    sink, reader, _ = clients
    post(sink, "alarms", [transition(1, 1), transition(2, 2)], -1, 5)
    lakes = [transition(1, 1), transition(3, 3)]
    count, digest = digest_of(lakes)
    told = {"partition": PARTITION, "follows": -1, "last": 5, "transitions": count, "sha256": digest}
    refused = sink.post("/v1/ingest/commits", json=told)
    assert slug(refused) == (409, "mismatch")
    assert refused.json()["committed"] == -1
    assert post(sink, "alarms", lakes, -1, 5, committed="true").status_code == 200
    assert sink.post("/v1/ingest/commits", json=told).json()["mark"] == 5
    assert ids(reader.get("/v1/alarms")) == [alarm_id(3), alarm_id(1)]
    gone = reader.get(f"/v1/alarms/{alarm_id(2)}").json()
    assert gone["retracted"] is True
    (entry,) = reader.get(f"/v1/alarms/{alarm_id(2)}/history").json()["items"]
    assert entry["retracted"] is True


def test_a_post_that_is_not_understood_says_what_to_send(clients: Clients) -> None:
    sink, _, _ = clients
    query: dict[str, Any] = {"partition": PARTITION, "follows": -1, "last": 5}
    body = stream_of(table("alarms", [transition(1, 1)]))
    assert slug(sink.post("/v1/ingest/alarms", params=query, content=body)) == (415, "unsupported-media-type")
    other = {"Content-Type": "application/json"}
    assert slug(sink.post("/v1/ingest/alarms", params=query, content=body, headers=other))[0] == 415
    assert slug(sink.post("/v1/ingest/windows", params=query, content=body, headers=ARROW)) == (422, "bad-table")
    assert slug(sink.post("/v1/ingest/alarms", params=query, content=b"", headers=ARROW)) == (422, "bad-table")
    assert slug(sink.post("/v1/ingest/readings", params=query, content=body, headers=ARROW)) == (422, "invalid")
    for wrong in ({"follows": 6}, {"follows": -2}, {"last": 2**63}, {"partition": ""}, {"partition": "a\nb"}):
        answer = sink.post("/v1/ingest/alarms", params={**query, **wrong}, content=body, headers=ARROW)
        assert slug(answer) == (422, "invalid"), wrong
    del query["partition"]
    answer = sink.post("/v1/ingest/alarms", params=query, content=body, headers=ARROW)
    assert answer.json()["errors"] == [{"at": "query.partition", "message": "Field required"}]


BAD_BODIES = [
    *(
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b'{"comment": 1}',
        b'{"comment": null}',
    ),
    *(b'{"comment": "\\ud800"}', b'{"note": "x"}', b'{"comment": "' + b"x" * 1_001 + b'"}', b"\xff\xfe", b"[" * 50_000),
]
BAD_QUERIES = [
    *("limit=0", "limit=1001", "limit=x", "limit=1e3", "state=gone", "priority=", "unknown=1"),
    *("from=2026-01-30", "to=1700000000", "from=2026-01-31T07:00:00", "from=2026-13-01T00:00:00Z"),
    *("from=0000-01-01T00:00:00Z", "from=9999-12-31T23:59:59-23:59", "cursor=%F0%9F%92%A9", "provisional=perhaps"),
    "text=" + "x" * 257,
]


def test_i9_a_body_that_is_no_acknowledgement_is_a_problem(plain_serving: Serving) -> None:
    path = f"/v1/alarms/{alarm_id(1)}/acknowledge"
    with plain_serving.client("operate") as ada:
        for body in BAD_BODIES:
            for content_type in ("application/json", "text/plain", "application/vnd.api+json"):
                answer = ada.post(path, content=body, headers={"Content-Type": content_type})
                assert slug(answer)[0] in {400, 422}, (body[:40], answer.text)


def test_a_query_that_breaks_a_rule_is_refused_by_its_name_and_not_repeated(plain_serving: Serving) -> None:
    with plain_serving.client("read") as reader:
        for query in BAD_QUERIES:
            answer = reader.get(f"/v1/alarms?{query}")
            assert slug(answer) == (422, "invalid"), query
            name, _, value = query.partition("=")
            assert answer.json()["errors"][0]["at"] == f"query.{name}", answer.text
            assert value not in answer.text or len(value) < 8, answer.text


def test_i9_a_text_that_a_database_cannot_hold_is_only_another_text(clients: Clients) -> None:
    sink, reader, ada = clients
    odd: dict[str, Any] = {"device": "a\0b", "message": "c\0d \u2028 \U0001f4a9"}
    assert post(sink, "alarms", [transition(1, 1, **odd)], -1, 1).status_code == 200
    assert post(sink, "windows", [window(1, 1, device="a\0b")], -1, 1).status_code == 200
    assert post(sink, "latest", [newest(1, 1, device="a\0b")], -1, 1).status_code == 200
    for path, names in (
        ("/v1/alarms", ("device", "metric", "asset", "rule", "text")),
        ("/v1/windows", ("device", "metric", "window_name")),
        ("/v1/series", ("device", "metric")),
    ):
        for name in names:
            for text in ("\0", "\n", "%", "_", "\\", "'", "\U0001f4a9", "a\0b"):
                assert reader.get(path, params={name: text}).status_code == 200, (path, name, text)
        assert reader.get(path, params={"device": "a\0b"}).json()["items"]
    answer = ada.post(f"/v1/alarms/{alarm_id(1)}/acknowledge", json={"comment": "a\0b"})
    assert answer.json()["comment"].startswith("a")


def test_the_ledgers_checkpoint_is_served_as_it_is(clients: Clients, tmp_path: Path) -> None:
    _, reader, _ = clients
    assert slug(reader.get("/v1/ledger/checkpoint")) == (404, "not-found")
    folder = tmp_path / "ledger"
    folder.mkdir()
    note = "example.com/plant\n7\nqINS1GRFhWHwdkUeqLEoP4yEMkTBBzxBkGwGQlVlVcs=\n\n\u2014 example.com/plant Az3g\n"
    (folder / "checkpoint").write_text(note)
    answer = reader.get("/v1/ledger/checkpoint")
    assert (answer.status_code, answer.text) == (200, note)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_the_metrics_say_how_far_each_partition_is(clients: Clients) -> None:
    sink, reader, _ = clients
    post(sink, "alarms", [transition(1, 1)], -1, 10)
    post(sink, "windows", [window(n, 1) for n in range(3)], -1, 7)
    count, digest = digest_of([transition(1, 1)])
    told = {"partition": PARTITION, "follows": -1, "last": 4, "transitions": count, "sha256": digest}
    assert sink.post("/v1/ingest/commits", json=told).status_code == 200
    text = reader.get("/metrics").text
    for line in (
        f'alumicatalyst_api_mark{{kind="alarms",partition="{PARTITION}"}} 10.0',
        f'alumicatalyst_api_mark{{kind="committed",partition="{PARTITION}"}} 4.0',
        f'alumicatalyst_api_provisional_sequence_numbers{{partition="{PARTITION}"}} 6.0',
        'alumicatalyst_api_ingest_rows_total{kind="windows"} 3.0',
        'alumicatalyst_api_requests_total{method="POST",route="/v1/ingest/{kind}",status="200"} 2.0',
    ):
        assert line in text, text


@given(st.datetimes(), st.integers(-1439, 1439), st.sampled_from(["T", "t", " "]))
def test_a_time_is_the_same_instant_however_it_is_written(time: Any, minutes: int, between: str) -> None:
    sign = "-" if minutes < 0 else "+"
    hours, rest = divmod(abs(minutes), 60)
    text = f"{time.isoformat(sep=between, timespec='microseconds')}{sign}{hours:02}:{rest:02}"
    try:
        got = parse_time(text)
    except ValueError:
        assert time.year in {1, 9999}
        return
    assert (got - time.replace(tzinfo=got.tzinfo)).total_seconds() == -60 * minutes  # type: ignore[attr-defined]

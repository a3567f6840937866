"""Nobody gets in without a key, and no key opens more than its scopes say: every route, in every way to be refused."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi.routing import APIRoute

from alumicatalyst import log
from api.routes import ROUTERS
from api.security.gate import OPEN_PATHS
from api.security.keys import new_key
from api.security.limits import Buckets, Limits, network
from api.store import SCOPES
from tests.api.serving import PARTITION, Serving, alarm_id, post, transition
from tests.conftest import log_restored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUTES: list[APIRoute] = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
GUARDED = [route for route in ROUTES if route.path not in OPEN_PATHS]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with Serving(f"sqlite:///{tmp_path_factory.mktemp('access')}/api.sqlite") as serving:
        yield serving


@pytest.fixture(scope="module")
def client(serving: Serving) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serving.address, timeout=30) as client:
        yield client


def scope_of(route: APIRoute) -> str:
    return str((route.openapi_extra or {})["x-scope"])


def ask(client: httpx.Client, route: APIRoute, key: str | None, **options: Any) -> httpx.Response:
    """Ask a route with nothing but a key: a request that would be refused for its content as well."""
    path = route.path.replace("{alarm_id}", alarm_id(1)).replace("{kind}", "alarms")
    (method,) = route.methods or {"none"}
    headers = {"Content-Type": "application/json"} | ({} if key is None else {"Authorization": key})
    return client.request(method, path, headers=headers, **options)


def is_problem(response: httpx.Response, status: int, slug: str) -> bool:
    told = response.json()
    return (
        response.status_code == told["status"] == status
        and response.headers["content-type"] == "application/problem+json"
        and told["type"] == f"urn:alumicatalyst:problem:{slug}"
        and bool(told["title"])
        and told["request_id"] == response.headers["x-request-id"]
        and re.fullmatch(r"couldn't .+: .+; .+", told["detail"], re.DOTALL) is not None
    )


def every_bad_key(serving: Serving) -> dict[str, str | None]:
    good = serving.key(*SCOPES, name="good")
    revoked = serving.key(*SCOPES, name="revoked")
    assert serving.call(serving.store.revoke_key("revoked"))
    expired = serving.key(*SCOPES, name="expired", expires=datetime.now(UTC) - timedelta(seconds=1))
    other_secret = good[:22] + new_key().text[22:]
    return {
        "none": None,
        "empty": "",
        "basic": "Basic YWRhOnNlY3JldA==",
        "scheme alone": "Bearer",
        "no scheme": good,
        "malformed": "Bearer alu_nonsense",
        "truncated": f"Bearer {good[:-1]}",
        "longer": f"Bearer {good}A",
        "id alone": f"Bearer {good[:21]}",
        "unknown": f"Bearer {new_key().text}",
        "other secret": f"Bearer {other_secret}",
        "injection": "Bearer alu_' OR 1=1 --",
        "expired": f"Bearer {expired}",
        "revoked": f"Bearer {revoked}",
    }


def test_the_table_of_routes_is_all_there_is(serving: Serving) -> None:
    paths = {(method.upper(), path) for path, found in serving.app.openapi()["paths"].items() for method in found}
    assert paths == {(method, route.path) for route in ROUTES for method in route.methods or ()}
    assert len(GUARDED) >= 11
    assert {scope_of(route) for route in GUARDED} == {*SCOPES, "any"}


def test_every_route_refuses_every_bad_key_with_401(serving: Serving, client: httpx.Client) -> None:
    for name, key in every_bad_key(serving).items():
        for route in GUARDED:
            response = ask(client, route, key)
            assert is_problem(response, 401, "unauthorized"), (name, route.path, response.text)
            assert response.headers["www-authenticate"].startswith('Bearer realm="alumicatalyst"')
            for word in ("expired", "revoked"):
                assert (word in response.json()["detail"]) == (name == word), (name, response.text)


def test_every_route_refuses_a_key_of_every_other_scope_with_403(serving: Serving, client: httpx.Client) -> None:
    keys = {scope: f"Bearer {serving.key(scope, name=scope)}" for scope in SCOPES}
    for route in GUARDED:
        for scope, key in keys.items():
            if scope_of(route) in {scope, "any"}:
                continue
            # What is wrong with the body is not said to somebody who may not send one.
            for content in (None, b"{", b"\xff\x00"):
                response = ask(client, route, key, content=content)
                assert is_problem(response, 403, "forbidden"), (route.path, scope, response.text)
                assert scope_of(route) in response.json()["detail"]


def test_every_route_takes_a_key_of_its_scope_and_of_all(serving: Serving, client: httpx.Client) -> None:
    for route in GUARDED:
        if route.path == "/v1/stream":
            continue
        own = [scope for scope in SCOPES if scope_of(route) in {scope, "any"}]
        for scopes in (own, SCOPES):
            response = ask(client, route, f"Bearer {serving.key(*scopes, name='own')}")
            assert response.status_code not in {401, 403, 500, 503}, (route.path, response.text)


def test_a_key_without_any_scope_opens_nothing_but_the_description(serving: Serving, client: httpx.Client) -> None:
    key = f"Bearer {serving.key(name='nothing')}"
    for route in GUARDED:
        expected = 200 if scope_of(route) == "any" else 403
        assert ask(client, route, key).status_code == expected


def test_a_path_that_does_not_exist_is_not_told_from_one_that_does_without_a_key(client: httpx.Client) -> None:
    for path in (
        "/",
        "/nope",
        "/v1/alarms/",
        "/docs",
        "/v1/%2e%2e/livez",
        "//livez",
        "/livez/",
        "/LIVEZ",
        "/v1/stream/",
    ):
        assert is_problem(client.get(path), 401, "unauthorized"), path


def test_life_and_readiness_need_no_key(client: httpx.Client) -> None:
    for path in OPEN_PATHS:
        assert client.get(path).json() == {"status": "ok"}


def test_a_key_ends_at_once_when_it_is_revoked(serving: Serving, client: httpx.Client) -> None:
    key = f"Bearer {serving.key('read', name='leaver')}"
    assert client.get("/v1/alarms", headers={"Authorization": key}).status_code == 200
    assert serving.call(serving.store.revoke_key("leaver"))
    assert client.get("/v1/alarms", headers={"Authorization": key}).status_code == 401


def test_the_scheme_is_written_in_any_case(serving: Serving, client: httpx.Client) -> None:
    key = serving.key("read")
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert client.get("/v1/alarms", headers={"Authorization": f"{scheme} {key}"}).status_code == 200


def test_only_a_digest_of_a_key_is_stored(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> None:
    key = serving.key("read", name="digest")
    (row,) = [each for each in serving.call(serving.store.keys()) if each.name == "digest"]
    assert len(row.sha256) == 32
    folder = next(path for path in tmp_path_factory.getbasetemp().iterdir() if path.name.startswith("access"))
    # What follows the id may hold underscores of its own.
    secret = key.split("_", 2)[2].encode()
    for file in folder.iterdir():
        assert secret not in file.read_bytes()


def test_every_answer_has_the_headers_that_protect_it(serving: Serving, client: httpx.Client) -> None:
    key = {"Authorization": f"Bearer {serving.key('read')}"}
    answers = [
        client.get("/livez"),
        client.get("/v1/alarms"),
        client.get("/v1/alarms", headers=key),
        client.get("/nope", headers=key),
        client.get("/metrics", headers=key),
    ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-request-id"]
        assert "server" not in answer.headers
        assert not any(name.startswith("access-control-") for name in answer.headers)


def test_a_request_keeps_the_id_it_came_with_unless_that_is_nonsense(client: httpx.Client) -> None:
    assert client.get("/livez", headers={"X-Request-Id": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    for given in ("", "a b", "a" * 65, "a\x7f", "<script>"):
        got = client.get("/livez", headers={"X-Request-Id": given}).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{32}", got)


def test_a_key_that_asks_too_often_waits_and_the_others_do_not(tmp_path: Path) -> None:
    limits = Limits(requests_per_s=0.01, requests_burst=3, failures_per_s=1e6)
    with (
        Serving(f"sqlite:///{tmp_path}/api.sqlite", limits=limits) as serving,
        serving.client("read") as one,
        serving.client("read") as other,
        serving.client("ingest") as sink,
    ):
        assert [one.get("/v1/series").status_code for _ in range(3)] == [200] * 3
        refused = one.get("/v1/series")
        assert is_problem(refused, 429, "rate-limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 100
        assert other.get("/v1/series").status_code == 200
        assert [post(sink, "alarms", [], -1, 0).status_code for _ in range(10)] == [200] * 10
        assert 'alumicatalyst_api_rate_limited_total{limit="key"} 1.0' in other.get("/metrics").text


def test_failures_are_limited_by_address_and_lock_out_nobody_whose_key_is_known(tmp_path: Path) -> None:
    limits = Limits(failures_per_s=0.01, failures_burst=3)
    with (
        Serving(f"sqlite:///{tmp_path}/api.sqlite", limits=limits) as serving,
        serving.client() as nobody,
        serving.client("read") as known,
        serving.client("read") as newcomer,
    ):
        assert known.get("/v1/series").status_code == 200
        guess = {"Authorization": f"Bearer {new_key().text}"}
        statuses = [nobody.get("/v1/series", headers=guess).status_code for _ in range(5)]
        assert statuses == [401] * 3 + [429] * 2
        assert is_problem(nobody.get("/v1/series"), 429, "rate-limited")
        assert known.get("/v1/series").status_code == 200
        # One that was never seen waits with the guesses: the store is not asked for them.
        assert newcomer.get("/v1/series").status_code == 429
        assert nobody.get("/livez").status_code == 200


def test_a_bucket_refills_and_names_are_bounded() -> None:
    now = [0.0]
    buckets = Buckets(2.0, 3, names_max=2, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 1]
    now[0] = 0.5
    assert [buckets.take("a"), buckets.take("a")] == [0, 1]
    now[0] = 1_000.0
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 1]
    assert buckets.wait("a") == 1
    assert buckets.wait("b") == 0
    for name in ("b", "c"):
        buckets.take(name)
    assert buckets.wait("a") == 0, "the oldest name is forgotten, which is as good as full"


def test_one_ipv6_host_counts_as_one_whatever_address_it_takes() -> None:
    assert network("2001:db8::1") == network("2001:db8::ffff:1") == "2001:db8::/64"
    assert network("2001:db8:0:1::1") != network("2001:db8::1")
    assert network("192.0.2.1") == "192.0.2.1"
    assert network("unix") == "unix"


@pytest.fixture
def _log_restored(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Restore the log before what captured it is closed."""
    with log_restored("api", "alumicatalyst", "flows"):
        yield


@pytest.mark.usefixtures("_log_restored")
def test_the_log_names_actors_and_never_a_key(serving: Serving, capfd: pytest.CaptureFixture[str]) -> None:
    log.configure("json")
    logging.getLogger("api").setLevel(logging.DEBUG)
    key = serving.key("ingest", name="flow-7")
    with httpx.Client(base_url=serving.address, headers={"Authorization": f"Bearer {key}"}, timeout=30) as sink:
        post(sink, "alarms", [transition(70_001, 1)], -1, 1)
        sink.get("/v1/alarms")
        sink.get("/v1/alarms", params={"text": key})
    written = capfd.readouterr().err
    assert "flow-7" in written
    assert PARTITION in written
    assert key.split("_", 2)[2] not in written


def test_a_route_that_states_no_scope_cannot_be_made() -> None:
    from fastapi import APIRouter

    from api.deps import ScopedRoute

    router = APIRouter(route_class=ScopedRoute)

    async def careless() -> None: ...

    with pytest.raises(TypeError, match="it states no scope"):
        router.get("/v1/careless")(careless)

"""Azure storage that fails, seen through a proxy that lets chosen requests fail: rows stay exact, and nothing hangs."""

from __future__ import annotations

import itertools
import re
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import Lake, adls, adls_client
from alumicatalyst.lake.adls import AdlsStore
from alumicatalyst.lake.fault import hopeless, retry_after_s
from alumicatalyst.lake.store import open_store
from tests.lake import plant
from tests.parts.azurite import Azurite, azurite
from tests.parts.faulty import APPLIED, NOT_APPLIED, Faulty, Request, nothing, once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["azurite"]

UNTIL = 20
_numbers = itertools.count()

TABLES = ("readings", "windows", "alarms", "rejected", "batches")
COMMIT = r"_delta_log/\d{20}\.json"

STEPS = {
    "make the tables": ("PUT", r"/_delta_log/0{20}\.json"),
    "claim": ("PUT", r"/_delta_log/0{19}1\.json"),
    "write the first time": (
        "PUT",
        r"/_dictionaries/|/journal/part-|/journal/_delta_log/\d{19}[1-9]|/_last_checkpoint",
    ),
    "put files": ("PUT", r"/date=[^/]*/part-"),
    # Behind the table's making and the claim.
    "commit": ("PUT", rf"/({'|'.join(TABLES)})/_delta_log/\d{{19}}[2-9]\.json"),
    "keep states": ("PUT|DELETE", r"/_state/"),
    "write checkpoints": ("PUT", r"\.checkpoint\.parquet"),
    "look": ("GET|HEAD", rf"/({'|'.join(TABLES)})/{COMMIT}|_state"),
}
"""Steps of taking a partition and of a flush, by the requests that they make."""

READS = {
    "find a checkpoint": ("GET", r"/_last_checkpoint|\.checkpoint\.parquet"),
    "read commits": ("GET", rf"/{COMMIT}"),
    "read the journal": ("GET|HEAD", r"/journal/part-|/_dictionaries/"),
    "read states": ("GET|HEAD", r"_state"),
}


@pytest.fixture(scope="module")
def proxy(azurite: Azurite) -> Iterator[Faulty]:
    with Faulty(azurite.endpoint) as faulty:
        yield faulty


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, proxy: Faulty) -> Iterator[None]:
    # Every table has some checkpoints within a few flushes.
    monkeypatch.setattr("alumicatalyst.lake.table.CHECKPOINT_INTERVAL", 3)
    yield
    proxy.rule = nothing
    proxy.met.clear()
    proxy.asked.clear()


class Place:
    """A folder of its own, reached through the proxy or directly."""

    def __init__(self, azurite: Azurite, proxy: Faulty) -> None:
        self.uri = azurite.container(f"faults-{next(_numbers)}") + "/lake"
        self._direct = azurite.storage_options
        self._through = Azurite(proxy.endpoint).storage_options

    def open(self, *, direct: bool = False) -> Lake:
        options = self._direct if direct else self._through
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(adls_client, "READ_S", adls_client.READ_S if direct else 3)
            return Lake.open(self.uri, storage_options=options, patience_s=60)

    def store(self, *, direct: bool = False, fault: str = "") -> AdlsStore:
        with pytest.MonkeyPatch.context() as patch:
            if "hang" in fault:
                # A service that says nothing is waited for in full.
                patch.setattr(adls_client, "READ_S", 1)
            store = open_store(self.uri, storage_options=self._direct if direct else self._through)
        assert isinstance(store, AdlsStore)
        return store


@pytest.fixture
def place(azurite: Azurite, proxy: Faulty) -> Place:
    return Place(azurite, proxy)


# --- one request


def outcome(act: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return act(), None
    except Exception as error:  # noqa: BLE001 whatever the SDK raises
        return None, error


@pytest.mark.parametrize("fault", [*NOT_APPLIED, *APPLIED, "slow", "403"])
def test_a_write_that_meets_a_fault_is_made_whole_or_fails_and_never_lies(
    place: Place, proxy: Faulty, fault: str
) -> None:
    store, direct = place.store(fault=fault), place.store(direct=True)
    data = bytes(range(256)) * 40
    writes: dict[str, Callable[[str, bytes], bool | None]] = {"a/put": store.put, "a/made": store.create_if_absent}
    for path, write in writes.items():
        proxy.rule = once("PUT", path, fault)
        made, error = outcome(partial(write, path, data))
        assert len(proxy.met) == 1
        proxy.met.clear()
        held = path in {each for each, _ in direct.list("a")}
        if error is not None:
            assert held == (fault in APPLIED)
            assert (hopeless(error) is not None) == (fault == "403")
            assert retry_after_s(error) == (1.0 if fault.endswith("retry-after") else None)
        else:
            # False says that it is there, as after an answer that was lost on the way.
            assert held
            assert made in (None, True) or fault == "applied reset"
            assert direct.get(path) == data
        # The same again, as the caller does.
        again = getattr(place.store(), write.__name__)
        assert again(path, data) is (None if path == "a/put" else not held)
        assert direct.get(path) == data


@pytest.mark.parametrize("fault", [*NOT_APPLIED, "slow", "cut"])
def test_a_read_that_meets_a_fault_is_whole_or_fails(place: Place, proxy: Faulty, fault: str) -> None:
    store, direct, data = place.store(fault=fault), place.store(direct=True), bytes(range(256)) * 4_000
    direct.put("a/one", data)
    for pattern, read, whole in (
        ("a/one", lambda store: store.get("a/one"), data),
        ("comp=list", lambda store: list(store.list("a")), [("a/one", len(data))]),
    ):
        proxy.rule = once("GET", pattern, fault)
        found, error = outcome(partial(read, store))
        assert found == whole if error is None else not isinstance(error, FileNotFoundError)
        assert len(proxy.met) == 1
        proxy.met.clear()
        assert read(direct) == whole


def test_the_sdk_repeats_a_read_but_never_a_conditional_write(place: Place, proxy: Faulty) -> None:
    store = place.store()
    store.put("a/one", b"1")
    proxy.rule = once("GET", "a/one", "503 retry-after", times=2)
    assert store.get("a/one") == b"1"
    proxy.asked.clear()
    proxy.rule = once("PUT", "a/two", "500", times=9)
    with pytest.raises(Exception, match="InternalServerError"):
        store.create_if_absent("a/two", b"2")
    with pytest.raises(Exception, match="InternalServerError"):
        store.put("a/two", b"2")
    assert [request.conditional for request in proxy.asked] == [True, *[False] * (1 + adls_client.RETRIES)]


def test_a_service_that_takes_a_request_and_stays_silent_ends_it(
    place: Place, proxy: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adls_client, "READ_S", 3_600)
    monkeypatch.setattr(adls, "WRITE_S", 0.5)
    store = place.store()
    proxy.rule = once("PUT", "a/one", "hang")
    with pytest.raises(TimeoutError, match="no end of a request for a/one within"):
        store.put("a/one", b"1")


def test_a_large_object_goes_in_blocks_and_is_visible_whole_or_not_at_all(
    place: Place, proxy: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adls_client, "SINGLE_PUT_BYTES_MAX", 1_000_000)
    monkeypatch.setattr(adls_client, "BLOCK_BYTES", 700_000)
    store, data = place.store(), bytes(range(256)) * 20_000
    for path, write in (("a/put", store.put), ("a/made", store.create_if_absent)):
        # The last request is the one that makes it visible.
        proxy.rule = once("PUT", f"{path}.*comp=blocklist", "429")
        with pytest.raises(Exception, match="TooManyRequests"):
            write(path, data)
        assert list(store.list("a")) == [("a/put", len(data))] * (path == "a/made")
        assert write(path, data) in (None, True)
        assert store.get(path) == data
    assert store.create_if_absent("a/made", b"other") is False
    assert store.create_if_absent("a/put", data[::-1]) is False
    assert (store.get("a/made"), store.get("a/put")) == (data, data)
    blocks = [each for each in proxy.asked if re.search(r"comp=block&", each.path)]
    assert len(blocks) >= 4 * (len(data) // 700_000)


# --- a lake


def faults_in_turn(method: str, pattern: str, faults: tuple[str, ...]) -> Callable[[Request], str | None]:
    """Let the first request for an object that matches fail, each in the next way, until all ways were had twice."""
    seen: set[str] = set()
    turn = iter(faults * 2)

    def rule(request: Request) -> str | None:
        if not re.fullmatch(method, request.method) or not re.search(pattern, request.path) or request.path in seen:
            return None
        seen.add(request.path)
        return next(turn, None)

    return rule


def live(place: Place) -> int:
    """Run to the end, starting again after a clear error; return how many lives it took."""
    for lives in range(1, 10):
        with suppress(LakeError):
            plant.run(place.open(), UNTIL, flush_every=5, state_every=1)
            return lives
    raise AssertionError("it never got to the end")


@pytest.mark.parametrize("faults", [NOT_APPLIED, APPLIED], ids=["failed", "failed but persisted"])
@pytest.mark.parametrize("step", STEPS)
def test_i5_rows_are_exact_whatever_fails_in_a_flush(
    place: Place, proxy: Faulty, step: str, faults: tuple[str, ...]
) -> None:
    at = list(STEPS).index(step) % len(faults)
    proxy.rule = faults_in_turn(*STEPS[step], faults[at:] + faults[:at])
    lives = live(place)
    assert len(proxy.met) >= 4
    # To open a lake is tried once: who starts a process sees at once what is wrong.
    assert lives == 1 or step in {"make the tables", "look"}
    plant.assert_exact(place.open(direct=True), UNTIL)


@pytest.mark.parametrize("step", READS)
def test_i5_a_partition_is_taken_from_a_store_that_fails(place: Place, proxy: Faulty, step: str) -> None:
    plant.run(place.open(direct=True), UNTIL // 2, flush_every=5, state_every=1)
    proxy.rule = faults_in_turn(*READS[step], (*NOT_APPLIED, "cut"))
    live(place)
    assert proxy.met
    plant.assert_exact(place.open(direct=True), UNTIL)

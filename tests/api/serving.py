"""A real server for tests: uvicorn on a thread, a real store behind it, and the tables that a sink would post."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
import pyarrow as pa

from alumicatalyst import _core
from alumicatalyst.settings import Settings
from alumicatalyst.transitions import FIELDS, Digest
from api.app import create_app
from api.opening import open_store
from api.security.keys import new_key
from api.security.limits import Limits
from api.server import Server, configuration, listen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from api.store import HotStore, Scope

T = TypeVar("T")
PARTITION = "telemetry/1795256130123/0"
ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}
START_US = 1_795_256_130_000_000
# Tests ask more often than anybody else.
TEST_LIMITS = Limits(requests_per_s=1e6, requests_burst=1_000_000, ingest_requests_per_s=1e6, failures_per_s=1e6)


class Serving:
    """A server in this process, on a thread and an event loop of its own."""

    def __init__(self, url: str, *, limits: Limits = TEST_LIMITS, settings: Settings | None = None) -> None:
        self._url = url
        self._limits = limits
        self._settings = settings or Settings()
        self._socket = listen("127.0.0.1", 0)
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._started = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.store: HotStore
        self.app: Any

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(100)
        if self._failed:
            raise self._failed
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.should_exit = True
            self._thread.join(100)
        assert not self._thread.is_alive()
        self._socket.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001
            self._failed = error
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.store = await open_store(self._url)
        try:
            self.app = create_app(self._settings, self.store, self._limits)
            self._server = Server(configuration(self.app), self.app)
            task = asyncio.create_task(self._server.serve([self._socket]))
            while not self._server.started and not task.done():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            self._started.set()
            await task
        finally:
            await self.store.close()

    def call(self, work: Awaitable[T]) -> T:
        """Run something on the server's event loop, as the store belongs to it."""

        async def run() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(60)

    def key(self, *scopes: Scope, name: str = "tester", expires: datetime | None = None) -> str:
        key = new_key()
        self.call(self.store.create_key(name, frozenset(scopes), expires, id=key.id, sha256=key.sha256))
        return key.text

    def client(self, *scopes: Scope, name: str = "tester") -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key(*scopes, name=name)}"} if scopes else {}
        return httpx.Client(base_url=self.address, headers=headers, timeout=30, verify=False)

    @contextlib.contextmanager
    def everyone(self) -> Any:
        """Yield clients with the scopes ingest, read and operate."""
        with self.client("ingest") as sink, self.client("read") as reader, self.client("operate", name="ada") as ada:
            yield sink, reader, ada


def alarm_id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def cause(sequence: int) -> dict[str, Any]:
    return {
        "partition": PARTITION,
        "sequence_number": sequence,
        "item": 0,
        "enqueued_time": START_US + sequence * 1_000_000,
    }


def transition(number: int, sequence: int, step: int = 0, kind: str = "raised", **changed: Any) -> dict[str, Any]:
    """Return a row of the table alarms."""
    row = {
        **cause(sequence),
        "alarm_id": alarm_id(number),
        "step": step,
        "transition": kind,
        "device": f"pot-{number % 48:03}",
        "metric": "cell_voltage",
        "asset": f"reduction/line-1/pot-{number % 48:03}",
        "alarm_rule": "HH",
        "priority": ("low", "medium", "high")[number % 3],
        "onset_time": START_US + sequence * 1_000_000 - 3_000_000,
        "event_time": START_US + sequence * 1_000_000,
        "value": 8.5 + number,
        "threshold": 8.0,
        "peak": 9.0 + number,
        "score": 4.5,
        "message": f"anode effect: cell_voltage {8.5 + number} V, above 8 V",
    }
    return {**row, **changed}


def window(number: int, sequence: int, **changed: Any) -> dict[str, Any]:
    start = START_US + number * 10_000_000
    row = {
        **cause(sequence),
        "device": "pot-001",
        "metric": "cell_voltage",
        "window_name": "10s",
        "window_start": start,
        "window_end": start + 10_000_000,
        "closed_by": "watermark",
        "count": 10,
        "mean": 4.2,
        "min": 4.1,
        "max": 4.3,
        "first": 4.1,
        "last": 4.3,
        "std": None,
        "first_time": start,
        "last_time": start + 9_000_000,
        "slope_per_s": 0.02,
        "score_max": 3.5,
    }
    return {**row, **changed}


def newest(number: int, sequence: int, **changed: Any) -> dict[str, Any]:
    row = {
        **cause(sequence),
        "device": f"pot-{number:03}",
        "metric": "cell_voltage",
        "event_time": START_US + sequence * 1_000_000,
        "value": 4.2,
        "quality": 192,
    }
    return {**row, **changed}


def table(kind: str, rows: Iterable[dict[str, Any]], *, plain: bool = False) -> pa.Table:
    """Return rows as the sink has them: the core's columns without `date`, strings as dictionaries or plain."""
    fields = list(_core.schema(kind))
    if plain:
        fields = [f.with_type(f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in fields]
    return pa.Table.from_pylist(list(rows), schema=pa.schema(fields))


def stream_of(given: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, given.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(given)
    return bytes(sink.getvalue())


def post(
    client: httpx.Client, kind: str, rows: Iterable[dict[str, Any]], follows: int, last: int, **query: str
) -> httpx.Response:
    return client.post(
        f"/v1/ingest/{kind}",
        params={"partition": PARTITION, "follows": str(follows), "last": str(last), **query},
        content=stream_of(table(kind, rows)),
        headers=ARROW,
    )


def digest_of(rows: Iterable[dict[str, Any]]) -> tuple[int, str]:
    """Return what a commit says of transitions: how many, and their digest."""
    found = Digest()
    found.add([row[name] for name in FIELDS] for row in sorted(rows, key=itemgetter("alarm_id", "step")))
    return found.number, found.hexdigest()


def time_text(microseconds: int) -> str:
    whole, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:06}Z"

"""Starts and kills the API beside a flow, and holds the hot store to the lake that the flow leaves (I5)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import TYPE_CHECKING, Any, Self

import httpx

from api.store import migrate
from tests.kill.api_child import spawn
from tests.kill.harness import BYTEWAX, EPOCH, Ground, Life
from tests.parts.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from tests.kill.harness import Child

# The logs are of a time long before the clock's, and their windows are to stay.
RETENTION_DAYS = "36500"

# What the history of an alarm says of a transition, beside its kind.
CONTENTS = ("sequence_number", "item", "event_time", "value", "threshold", "peak", "score", "priority", "message")


def is_alive(child: Child) -> bool:
    return child.process.poll() is None


@dataclass
class Api:
    """One API process after another on one port.

    Attributes:
        folder: For keys and logs.
        database_url: The hot store.
    """

    folder: Path
    database_url: str
    port: int = field(default_factory=free_port)
    process: BaseProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, point: str = "") -> None:
        """Start a process, and wait until it serves; at a point it kills itself."""
        arguments = ["serve", "--port", str(self.port), "--database-url", self.database_url]
        environment = {"ALUMICATALYST_API__RETENTION_DAYS": RETENTION_DAYS}
        self.process = spawn(point, arguments, environment, self.folder / f"api-{self.port}.log")
        until = time.monotonic() + 180
        while time.monotonic() < until and self.process.is_alive():
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                return
            time.sleep(0.02)
        raise AssertionError(self.log())

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join(30)
            self.process.close()
            self.process = None

    def has_died(self) -> bool:
        return self.process is not None and not self.process.is_alive()

    def log(self) -> str:
        return (self.folder / f"api-{self.port}.log").read_text()[-4000:]


def make_key(database_url: str, name: str, *scopes: str) -> str:
    """Make a key in the hot store."""
    from api.security.keys import new_key
    from api.store import HotStore

    key = new_key()

    async def make() -> None:
        store = await HotStore.open(database_url)
        try:
            await store.create_key(name, frozenset(scopes), None, id=key.id, sha256=key.sha256)  # type: ignore[arg-type]
        finally:
            await store.close()

    asyncio.run(make())
    return key.text


class HotGround:
    """A lake, a hot store, and the logs that go into both.

    Args:
        ground: The lake's side.
        database_url: The hot store.
    """

    def __init__(self, ground: Ground, database_url: str) -> None:
        self.ground = ground
        self.api = Api(ground.folder, database_url)
        self._children: list[Child] = []
        self._allowed = 0
        ground.allow(0)
        migrate(database_url)
        (ground.folder / "ingest").write_text(make_key(database_url, "flow", "ingest"))
        key = make_key(database_url, "reader", "read")
        self._reader = httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=30)
        ground.settings |= {
            "api__url": self.api.url,
            "api__key": f"file:{ground.folder / 'ingest'}",
            "api__retention_days": RETENTION_DAYS,
        }

    @classmethod
    @contextlib.contextmanager
    def of(cls, ground: Ground, database_url: str = "") -> Iterator[Self]:
        """Make one, on SQLite unless told otherwise, and leave no process behind."""
        made = cls(ground, database_url or f"sqlite:///{ground.folder / 'hot.sqlite'}")
        try:
            yield made
        finally:
            made._reader.close()
            made.api.kill()
            for child in made._children:
                child.kill()
                child.process.wait(30)

    def start(self, runner: str, **order: Any) -> Child:
        """Start a flow."""
        child = self.ground.start(runner, **order)
        self._children.append(child)
        return child

    def drain(self, child: Child) -> None:
        """End a flow in order."""
        child.process.send_signal(signal.SIGTERM)
        life = child.end()
        assert life.code == 0, life.output[-4000:]
        self.ground.lives.append(life)

    def bury(self, child: Child) -> Life:
        """Kill a flow."""
        return self.ground.bury(child)

    def allow(self, envelopes: int) -> None:
        """Let flows to come hand out so many envelopes of each partition."""
        self._allowed = envelopes
        self.ground.allow(envelopes)

    def allow_more(self, envelopes: int) -> None:
        """Let the flow that runs hand out more."""
        self.allow(self._allowed + envelopes)

    @staticmethod
    def count(child: Child, prefix: str) -> int:
        """How often a flow has done something."""
        return Life(0, child.entries(), "").count(prefix)

    @staticmethod
    def errors(child: Child) -> int:
        """How many posts of a flow have failed."""
        posts = ("post:", "refill:")
        return sum(entry["event"] == "failed" and entry["name"].startswith(posts) for entry in child.entries())

    # ------------------------------------------------------------------ asking

    def get(self, path: str, **query: Any) -> Any:
        while (answer := self._reader.get(f"{self.api.url}/v1/{path}", params=query)).status_code == 429:
            time.sleep(float(answer.headers["Retry-After"]))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def all(self, path: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.get(path, limit=1000, **cursor)
            items += page["items"]
            if page["next"] is None:
                return items
            cursor = {"cursor": page["next"]}

    def marks(self) -> dict[tuple[str, str], int]:
        """How far the API is, by partition and kind."""
        answer = self._reader.get(f"{self.api.url}/metrics")
        assert answer.status_code == 200, answer.text
        from prometheus_client.parser import text_string_to_metric_families

        return {
            (sample.labels["partition"], sample.labels["kind"]): int(sample.value)
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
            if sample.name == "alumicatalyst_api_mark"
        }

    def wait_for(self, holds: Callable[[], bool], within_s: float = 240.0) -> None:
        until = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < until, (self.marks(), self.ground.marks(), self.api.log())
            time.sleep(0.05)

    def is_settled(self) -> bool:
        marks, lake = self.marks(), self.ground.marks()
        kinds = ("alarms", "windows", "latest", "committed")
        return all(marks.get((partition, kind), -1) >= mark for partition, mark in lake.items() for kind in kinds)

    # ------------------------------------------------------------------ what must hold

    def settle(self, runner: str = BYTEWAX) -> None:
        """Let a process hold the partitions until the API has come as far as the lake."""
        child = self.start(runner, stays=True)
        # Every process asks how far the API has come, once it has taken a partition.
        asked = len(self.ground.marks())
        self.wait_for(lambda: not is_alive(child) or (self.count(child, "post:commits") >= asked and self.is_settled()))
        self.drain(child)

    def assert_same(self) -> None:
        """The hot store holds the lake's transitions and windows, each once; nothing is provisional, nobody a ghost."""
        stored = self.ground.rows("alarms")
        alarms = self.all("alarms")
        assert [alarm["alarm_id"] for alarm in alarms if alarm["provisional"]] == []
        wanted: dict[str, set[int]] = {}
        for row in stored:
            wanted.setdefault(row["alarm_id"], set()).add(row["step"])
        assert {alarm["alarm_id"] for alarm in alarms} == wanted.keys()
        assert len(alarms) == len(wanted)
        last = {(row["alarm_id"], row["step"]): row for row in stored}
        assert len(last) == len(stored)
        for alarm in alarms:
            steps = wanted[alarm["alarm_id"]]
            newest = last[alarm["alarm_id"], max(steps)]
            assert alarm["step"] == max(steps)
            assert alarm["active"] == (newest["transition"] != "cleared")
            assert (alarm["message"], alarm["value"], alarm["peak"]) == tuple(
                newest[name] for name in ("message", "value", "peak")
            )
            history = self.get(f"alarms/{alarm['alarm_id']}/history")["items"]
            kept = {entry["step"]: entry for entry in history if not entry["retracted"]}
            assert kept.keys() == steps, alarm
            for step, entry in kept.items():
                row = last[alarm["alarm_id"], step]
                assert all(same(entry[name], row[name]) for name in CONTENTS), (entry, row)
        self.assert_same_windows()
        self.assert_same_latest()

    def assert_same_windows(self) -> None:
        found = {window_key(each): each for each in self.all("windows")}
        lake = {window_key(each): each for each in self.ground.rows("windows")}
        assert not lake.keys() - found.keys(), "missing"
        assert not found.keys() - lake.keys(), "ghosts"
        for name, row in lake.items():
            here = found[name]
            assert all(same(here[column], value) for column, value in row.items() if column != "date"), (here, row)

    def assert_same_latest(self) -> None:
        newest: dict[tuple[str, str], tuple[int, int]] = {}
        for row in sorted(self.ground.rows("readings"), key=lambda row: (row["sequence_number"], row["item"])):
            if row["outcome"] == "duplicate":
                continue
            name, place = (row["device"], row["metric"]), (row["event_time"], row["sequence_number"])
            former = newest.get(name)
            # Of one partition only a later time is in order; of two, the later number breaks a tie.
            if former is None or place[0] > former[0]:
                newest[name] = place
        found = {(each["device"], each["metric"]): micros(each["event_time"]) for each in self.all("series")}
        assert found == {name: place[0] for name, place in newest.items()}


def window_key(row: dict[str, Any]) -> tuple[Any, ...]:
    start = row["window_start"]
    return (
        row["partition"],
        row["device"],
        row["metric"],
        row["window_name"],
        micros(start) if isinstance(start, str) else start,
    )


def same(shown: Any, stored: Any) -> bool:
    """Compare JSON with a row of the lake, bit for bit."""
    if isinstance(shown, str) and isinstance(stored, int):
        return micros(shown) == stored
    return bool(shown == stored)


def micros(text: str) -> int:
    since = datetime.fromisoformat(text) - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


class Alternating:
    """A proxy that gives each request to the next of several replicas that lives, as a load balancer does."""

    def __init__(self, replicas: list[Api]) -> None:
        self.served: list[int] = [0] * len(replicas)
        turns = count()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                at = next(turns) % len(replicas)
                names = ("Authorization", "Content-Type")
                headers = {name: self.headers[name] for name in names}
                try:
                    answer = httpx.post(replicas[at].url + self.path, content=body, headers=headers, timeout=30)
                except httpx.HTTPError:
                    self.send_error(502)
                    return
                proxy.served[at] += 1
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

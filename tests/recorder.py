"""A small stand-in for the API's ingest side: it follows the protocol, and fails in every way that a test orders."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa

from alumicatalyst.transitions import digest

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

KEY = "alu_test_secret"


class Fault:
    """What becomes of some of the next posts.

    Args:
        what: failed (500, nothing applied), lost (applied, and the connection is cut before the answer), reset (cut,
            nothing applied), hang, slow, nonsense, html, short, garbage, endless, or a status.
        times: How many posts; -1 until it is taken back.
        only: The kinds that it happens to.
        refill: Whether it happens to refills, or to the flow's own posts; None: to both.
    """

    def __init__(self, what: str, times: int = 1, only: tuple[str, ...] = (), *, refill: bool | None = None) -> None:
        self.what, self.times, self.only, self.refill = what, times, only, refill

    def meets(self, what: str, *, refill: bool) -> bool:
        return bool(self.times) and (not self.only or what in self.only) and self.refill in {None, refill}


class Recorder:
    """The server.

    Args:
        port: Its port; 0 takes a free one.
        tls: Certificate and key; without them it speaks plain HTTP.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.lock = threading.RLock()
        self.posts: list[dict[str, Any]] = []
        self.answered: list[dict[str, Any]] = []
        self.faults: list[Fault] = []
        self.keys = {KEY}
        self.released = threading.Event()
        self.bytes_max = 32 * 1024 * 1024
        self._changed = threading.Condition(self.lock)
        self.forget()
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                recorder.serve(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def forget(self) -> None:
        """Lose everything, as a database that was removed does."""
        with self.lock:
            self.marks: defaultdict[tuple[str, str], int] = defaultdict(lambda: -1)
            self.transitions: dict[tuple[str, str, int], dict[str, Any]] = {}
            self.retracted: set[tuple[str, str, int]] = set()
            self.windows: dict[tuple[Any, ...], dict[str, Any]] = {}
            self.latest: dict[tuple[str, str], dict[str, Any]] = {}

    def order(self, *faults: Fault) -> None:
        with self.lock:
            self.faults += faults

    def wait_until(self, holds: Callable[[Recorder], bool], within_s: float = 60.0) -> None:
        """Wait until something holds; it is looked at after every post."""
        with self._changed:
            until = time.monotonic() + within_s
            while not holds(self) and time.monotonic() < until:
                self._changed.wait(0.1)
            assert holds(self), {"marks": dict(self.marks), "posts": self.posts[-5:]}

    def mark(self, kind: str, partition: str) -> int:
        return self.marks[kind, partition]

    # ------------------------------------------------------------------ the protocol

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        address = urlsplit(request.path)
        what = address.path.rpartition("/")[2]
        body = request.rfile.read(int(request.headers["Content-Length"]))
        told = {name: values[0] for name, values in parse_qs(address.query).items()}
        with self._changed:
            refill = "committed" in told
            fault = next((each for each in self.faults if each.meets(what, refill=refill)), None)
            if fault is not None and fault.times > 0:
                fault.times -= 1
            entry = {
                "what": what,
                **told,
                "bytes": len(body),
                "fault": fault.what if fault else None,
                "at": time.monotonic(),
            }
            self.posts.append(entry)
        ordered = fault.what if fault else ""
        status, answer = 500, b'{"title": "broken"}'
        if ordered in {"", "lost", "slow"}:
            status, answer = self._apply(request, what, told, body, entry)
        elif ordered.isdigit():
            status = int(ordered)
        with self._changed:
            self._changed.notify_all()
        self._answer(request, ordered, status, answer)

    def _answer(self, request: BaseHTTPRequestHandler, ordered: str, status: int, answer: bytes) -> None:
        match ordered:
            case "lost" | "reset":
                request.close_connection = True
                return
            case "hang":
                self.released.wait(60)
                request.close_connection = True
                return
            case "slow":
                time.sleep(0.05)
            case "nonsense":
                status, answer = 200, b'{"mark": "far"}'
            case "html":
                status, answer = 200, b"<html>Please log in</html>"
            case "short":
                request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
                request.close_connection = True
                return
            case "garbage":
                request.wfile.write(b"\x00\xff not HTTP at all\r\n\r\n")
                request.close_connection = True
                return
            case "endless":
                status, answer = 200, b"x" * 1_000_000
            case "204":
                answer = b""  # It never has a body: one would be read as the beginning of the next answer.
        request.send_response(status)
        request.send_header("Content-Length", str(len(answer)))
        if status in {429, 503}:
            request.send_header("Retry-After", "0")
        request.end_headers()
        request.wfile.write(answer)

    def _apply(
        self, request: BaseHTTPRequestHandler, what: str, told: dict[str, Any], body: bytes, entry: dict[str, Any]
    ) -> tuple[int, bytes]:
        if request.headers["Authorization"] not in {f"Bearer {key}" for key in self.keys}:
            return problem(401, "unauthorized")
        if len(body) > self.bytes_max:
            return problem(413, "too-large")
        with self.lock:
            if what == "commits":
                told.update(json.loads(body))
                entry.update(told)
                return self._commit(told)
            rows = pa.ipc.open_stream(body).read_all().to_pylist()
            entry["rows"] = len(rows)
            return self._rows(
                what, told["partition"], int(told["follows"]), int(told["last"]), rows, "committed" in told
            )

    def _commit(self, told: dict[str, Any]) -> tuple[int, bytes]:
        partition, committed = told["partition"], self.marks["committed", told["partition"]]
        if told["last"] <= committed:
            return done(committed, 0)
        if told["follows"] != committed:
            return self._gap("alarms", partition)
        found = [
            row
            for name, row in self.transitions.items()
            if name[0] == partition
            and committed < row["sequence_number"] <= told["last"]
            and name not in self.retracted
        ]
        batches = [pa.RecordBatch.from_pylist(found)] if found else []
        if digest(batches) != (told["transitions"], told["sha256"]):
            return problem(409, "mismatch", committed=committed)
        self.marks["committed", partition] = told["last"]
        return done(told["last"], 0)

    def _rows(
        self, kind: str, partition: str, follows: int, last: int, rows: list[dict[str, Any]], committed: bool
    ) -> tuple[int, bytes]:
        mark = self.marks[kind, partition]
        if last < follows or any(not follows < row["sequence_number"] <= last for row in rows):
            return problem(422, "invalid")
        if any(row["partition"] != partition for row in rows):
            return problem(422, "invalid")
        if kind == "alarms" and committed:
            return self._refill(partition, follows, last, rows)
        if follows > mark:
            return self._gap(kind, partition)
        for row in rows:
            if row["sequence_number"] <= mark and not committed:
                continue
            if kind == "alarms":
                self.transitions.setdefault((partition, row["alarm_id"], row["step"]), row)
        if kind == "windows":
            self._windows(partition, follows, last, rows, mark, committed=committed)
        elif kind == "latest":
            self._latest(partition, follows, last, rows, mark, committed=committed)
        self.marks[kind, partition] = max(mark, last)
        return done(max(mark, last), len(rows))

    def _refill(self, partition: str, follows: int, last: int, rows: list[dict[str, Any]]) -> tuple[int, bytes]:
        committed = self.marks["committed", partition]
        if last <= committed:
            return done(self.marks["alarms", partition], 0)
        if follows != committed:
            return self._gap("alarms", partition)
        given = {(partition, row["alarm_id"], row["step"]): row for row in rows}
        for name, row in self.transitions.items():
            if name[0] == partition and follows < row["sequence_number"] <= last and name not in given:
                self.retracted.add(name)
        self.transitions.update(given)
        self.retracted -= given.keys()
        self.marks["committed", partition] = last
        self.marks["alarms", partition] = max(last, self.marks["alarms", partition])
        return done(self.marks["alarms", partition], len(rows))

    def _windows(self, partition: str, follows: int, last: int, rows: list[Any], mark: int, *, committed: bool) -> None:
        if committed:
            ghosts = [
                key
                for key, row in self.windows.items()
                if key[0] == partition and follows < row["sequence_number"] <= last
            ]
            for key in ghosts:
                del self.windows[key]
        names = ("partition", "device", "metric", "window_name", "window_start")
        for row in rows:
            if committed or row["sequence_number"] > mark:
                self.windows[tuple(row[name] for name in names)] = row

    def _latest(self, partition: str, follows: int, last: int, rows: list[Any], mark: int, *, committed: bool) -> None:
        if committed:
            for key, row in list(self.latest.items()):
                if row["partition"] == partition and follows < row["sequence_number"] <= last:
                    del self.latest[key]
        for row in rows:
            key = (row["device"], row["metric"])
            former = self.latest.get(key)
            place = (row["event_time"], row["sequence_number"])
            if (committed or row["sequence_number"] > mark) and (
                former is None or place > (former["event_time"], former["sequence_number"])
            ):
                self.latest[key] = row

    def _gap(self, kind: str, partition: str) -> tuple[int, bytes]:
        return problem(409, "gap", mark=self.marks[kind, partition], committed=self.marks["committed", partition])

    # ------------------------------------------------------------------ what it holds

    def held_transitions(self) -> set[tuple[str, str, int]]:
        with self.lock:
            return self.transitions.keys() - self.retracted


def done(mark: int, accepted: int) -> tuple[int, bytes]:
    return 200, json.dumps({"mark": mark, "accepted": accepted}).encode()


def problem(status: int, slug: str, **more: int) -> tuple[int, bytes]:
    told = {"type": f"urn:alumicatalyst:problem:{slug}", "title": slug, "status": status, **more}
    return status, json.dumps(told).encode()

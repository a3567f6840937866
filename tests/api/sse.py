"""A client of server-sent events for tests: it reads a stream, can be cut anywhere, and checks every line's form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator


class Event(NamedTuple):
    """One event as it came."""

    name: str
    id: int | None
    data: Any


def events(lines: Iterator[str]) -> Iterator[Event]:
    """Yield events, and comments under the name "comment"."""
    name, id_, data = "message", None, None
    for line in lines:
        match line.partition(": "):
            case ("", "", ""):
                if data is not None:
                    yield Event(name, id_, data)
                name, id_, data = "message", None, None
            case ("", ": ", comment):
                yield Event("comment", None, comment)
            case ("event", _, value):
                name = value
            case ("id", _, value):
                id_ = int(value)
            case ("data", _, value):
                assert data is None, "one line of data"
                data = json.loads(value)
            case ("retry", _, value):
                assert int(value) > 0
            case _:
                raise AssertionError(f"a line that is none of an event: {line!r}")


class Stream:
    """An open stream."""

    def __init__(self, address: str, key: str, after: int | None = None, *, in_query: bool = False) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        params = {}
        if after is not None and in_query:
            params["after"] = str(after)
        elif after is not None:
            headers["Last-Event-ID"] = str(after)
        # Without certificates to load: they are most of what a client costs.
        self._http = httpx.Client(timeout=30, verify=False)
        self._open = self._http.stream("GET", f"{address}/v1/stream", headers=headers, params=params)
        self.response = self._open.__enter__()
        self._events = events(self.response.iter_lines()) if self.response.status_code == 200 else iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next(self, *, comments: bool = False) -> Event | None:
        """Return the next event, or None where the stream ended."""
        try:
            for event in self._events:
                if comments or event.name != "comment":
                    return event
        except httpx.RemoteProtocolError:
            # Cut off in the middle of a chunk, as a slow client is.
            return None
        return None

    def close(self) -> None:
        self._open.__exit__(None, None, None)
        self._http.close()

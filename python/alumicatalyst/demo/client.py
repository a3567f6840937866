"""The demo's way to its own API: a few requests and the live stream, with nothing but the standard library."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alumicatalyst.errors import AlumicatalystError

if TYPE_CHECKING:
    from collections.abc import Iterator

# A proxy that the environment names has no business with this machine's own address.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_REQUEST_S = 30.0
# The stream has a heartbeat every 15 s.
_SILENCE_S = 45.0
_PAGE = 1_000
_TRIES = 10
_BUSY = (429, 503)


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event."""

    name: str
    id: int
    data: dict[str, Any]


class Client:
    """Reads an API.

    Args:
        url: Its address.
        key: A key with the scope read.
    """

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._key = key

    def ready(self) -> bool:
        """Whether it serves and its database is there."""
        try:
            with DIRECT.open(f"{self.url}/readyz", timeout=_REQUEST_S) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Return the answer to a request; one that comes too early or too often is made again.

        Raises:
            AlumicatalystError: The API does not answer, or refuses.
        """
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        for attempt in range(1, _TRIES + 1):
            try:
                with self._open(url, _REQUEST_S) as answer:
                    found: dict[str, Any] = json.load(answer)
                    return found
            except urllib.error.HTTPError as error:
                with error:
                    if error.code not in _BUSY or attempt == _TRIES:
                        raise AlumicatalystError(
                            f"couldn't read {path} from the demo's API: {error.code} {error.reason}"
                        ) from None
                    pause_s = float(error.headers.get("Retry-After") or 1.0)
                time.sleep(pause_s)
            except OSError as error:
                raise AlumicatalystError(f"couldn't read {path} from the demo's API: {error}") from None
        raise AssertionError("the last attempt returns or raises")

    def items(self, path: str, **query: object) -> Iterator[dict[str, Any]]:
        """Yield everything of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self.get(path, limit=_PAGE, **query, **({} if cursor is None else {"cursor": cursor}))
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def events(self, after: int | None) -> Iterator[Event]:
        """Yield the events of the live stream until the API ends it or falls silent.

        Raises:
            OSError: The API cannot be reached, refuses, or fell silent.
        """
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        with self._open(f"{self.url}/v1/stream", _SILENCE_S, headers) as answer:
            fields: dict[str, str] = {}
            for line in answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                    continue
                # What is no number was cut off, and comes again.
                if "data" in fields:
                    with contextlib.suppress(ValueError):
                        yield Event(fields.get("event", ""), int(fields.get("id", "")), json.loads(fields["data"]))
                fields = {}

    def _open(self, url: str, timeout_s: float, headers: dict[str, str] | None = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - an address of our own
            url, headers={"Authorization": f"Bearer {self._key}", **(headers or {})}
        )
        return DIRECT.open(request, timeout=timeout_s)

"""The alert sink's side of HTTP: one connection, kept alive, and answers that are checked before they count."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import httpx
import pyarrow as pa

from alumicatalyst import metrics
from alumicatalyst.errors import SettingsError

if TYPE_CHECKING:
    from alumicatalyst.settings import Secret

Kind = Literal["alarms", "windows", "latest"]
Reason = Literal["unreachable", "timeout", "refused", "busy", "failed", "too_large", "rejected", "nonsense"]

ANSWER_BYTES_MAX = 65_536
"""An answer is a few numbers, or a problem with a few words; whatever is longer is not the API's."""

_CONNECT_S, _READ_S, _ANSWER_S = 3.0, 10.0, 20.0
# Servers close idle connections, uvicorn after five seconds: one that is about to be closed is not used again.
_KEEP_ALIVE_S = 4.0
_RETRY_AFTER_MAX_S = 60.0
_TEXT_CHARS_MAX = 200
# How the client calls a connection that ended in the middle, which it takes for a breach of protocol too.
_ENDED = re.compile(r"disconnected|closed")
# What can stand in a header. Whatever else a file held would be shown in the client's own error.
_KEY = re.compile(r"[!-~]{1,512}")


@dataclass(frozen=True, slots=True)
class Post:
    """Rows of one kind that follow what the API has.

    Attributes:
        follows: The rows are all of the partition's in (follows, last].
        table: Without dictionaries: those of the core hold every name of the plant.
        committed: They come from the lake, so they are right where the API holds others.
    """

    kind: Kind
    partition: str
    follows: int
    last: int
    table: pa.Table
    committed: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """The API has it: through `mark`, and maybe further."""

    mark: int


@dataclass(frozen=True, slots=True)
class Gap:
    """The API lacks what comes before; nothing was taken."""

    mark: int
    committed: int | None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The API's transitions are not those of the lake, from `committed` on."""

    committed: int


class ApiFailure(Exception):
    """A post that the API has not answered, or not in its protocol; it may have been applied all the same.

    Attributes:
        reason: A closed set of words, for metrics.
        retry_after_s: When the API asked to be left alone for so long.
        of_this_post: Another post may well succeed.
    """

    def __init__(self, reason: Reason, text: str, *, retry_after_s: float = 0.0, of_this_post: bool = False) -> None:
        super().__init__(text)
        self.reason: Reason = reason
        self.retry_after_s = retry_after_s
        self.of_this_post = of_this_post


class Client:
    """Posts to one API; used by one thread at a time.

    Args:
        url: The address, as the settings have checked it.
        key: Reference to a key with the scope ingest.
        ca_file: Certificate authorities; empty: the usual ones.

    Raises:
        SettingsError: The key or the certificates cannot be read.
    """

    def __init__(self, url: str, key: Secret, ca_file: str = "") -> None:
        self.url = url
        self._key = key
        self._authorization = _authorization(key)
        try:
            # Without TLS there is nothing to verify, and the usual authorities take long to read.
            tls = url.startswith("https:")
            nothing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            verify = ssl.create_default_context(cafile=ca_file or None) if tls else nothing
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"couldn't read certificate authorities: {ca_file}: {error.strerror or error}; set api.ca_file to a "
                "PEM file, or to nothing for the usual ones"
            ) from None
        self._socket: socket.socket | None = None
        self._http = httpx.Client(
            verify=verify,
            # A proxy or a password from the environment has no part in this: the key is for the API alone.
            trust_env=False,
            timeout=httpx.Timeout(_READ_S, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_KEEP_ALIVE_S),
            headers={"Accept": "application/json, application/problem+json", "Accept-Encoding": "identity"},
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def abort(self) -> None:
        """End a post that is under way in another thread: it fails at once instead of at its time limit."""
        found = self._socket
        if found is not None:
            with contextlib.suppress(OSError, ValueError):
                found.shutdown(socket.SHUT_RDWR)

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        """Remember the socket of the connection, which the HTTP library tells of nowhere else."""
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            self._socket = info["return_value"].get_extra_info("socket")

    def post(self, post: Post) -> Taken | Gap:
        """Post rows.

        Raises:
            ApiFailure: There was no answer of the protocol.
        """
        params = {"partition": post.partition, "follows": str(post.follows), "last": str(post.last)}
        if post.committed:
            params["committed"] = "true"
        body = pa.BufferOutputStream()
        with pa.ipc.new_stream(body, post.table.schema) as writer:
            writer.write_table(post.table)
        # A refill may stand below what the API has confirmed since, and then it says only where it is.
        at_least = -1 if post.committed else post.last
        content_type = "application/vnd.apache.arrow.stream"
        answer = self._send(post.kind, params, body.getvalue().to_pybytes(), content_type, at_least=at_least)
        if isinstance(answer, Mismatch) or (isinstance(answer, Gap) and _reaches(answer, post)):
            raise ApiFailure("nonsense", f"the API takes {post.kind} after {post.follows} for a gap: {answer}")
        return answer

    def post_commit(
        self, partition: str, follows: int, last: int, transitions: int, sha256: str
    ) -> Taken | Gap | Mismatch:
        """Tell that the lake holds a partition through `last`, and which transitions.

        Raises:
            ApiFailure: There was no answer of the protocol.
        """
        told = {
            "partition": partition,
            "follows": follows,
            "last": last,
            "transitions": transitions,
            "sha256": sha256,
        }
        return self._send("commits", {}, json.dumps(told).encode(), "application/json", at_least=last)

    def _send(
        self, what: str, params: dict[str, str], body: bytes, content_type: str, *, at_least: int
    ) -> Taken | Gap | Mismatch:
        started = time.monotonic()
        headers = {"Authorization": self._authorization, "Content-Type": content_type}
        url = f"{self.url}/v1/ingest/{what}"
        try:
            with self._http.stream(
                "POST", url, params=params, content=body, headers=headers, extensions={"trace": self._trace}
            ) as response:
                status, text, head = response.status_code, _read(response, started), response.headers
        except httpx.TimeoutException as error:
            raise ApiFailure("timeout", f"no answer in time ({type(error).__name__})") from None
        except httpx.HTTPError as error:
            spoken = isinstance(error, httpx.RemoteProtocolError) and not _ENDED.search(str(error))
            raise ApiFailure("nonsense" if spoken else "unreachable", str(error) or type(error).__name__) from None
        metrics.ALERTS_POST_SECONDS.labels(what).observe(time.monotonic() - started)
        told = _json(text)
        match status:
            case 200:
                return Taken(_number(told, "mark", at_least=at_least))
            case 409:
                return _conflict(told)
            case 401 | 403:
                # The key may have been replaced where it is kept.
                self._read_key_again()
                raise ApiFailure("refused", f"the API refuses the key {self._key}: {_problem(status, told)}")
            case 429 | 503:
                raise ApiFailure("busy", _problem(status, told), retry_after_s=_retry_after(head.get("Retry-After")))
            case 413:
                raise ApiFailure("too_large", _problem(status, told), of_this_post=True)
            case _ if status >= 500:
                raise ApiFailure("failed", _problem(status, told))
            case _:
                raise ApiFailure("rejected", _problem(status, told), of_this_post=True)

    def _read_key_again(self) -> None:
        try:
            self._authorization = _authorization(self._key)
        except SettingsError as error:
            raise ApiFailure("refused", str(error)) from None


def _authorization(key: Secret) -> str:
    secret = key.reveal()
    if not _KEY.fullmatch(secret):
        raise SettingsError(
            f"couldn't use the API key {key}: it is not one word of printable ASCII (the value is not repeated here); "
            "put the key alone there, as `api keys create` printed it"
        )
    return f"Bearer {secret}"


def _read(response: httpx.Response, started: float) -> bytes:
    """Read a short answer; one that goes on and on ends the connection."""
    text = b""
    for part in response.iter_raw():
        text += part
        if len(text) > ANSWER_BYTES_MAX:
            raise ApiFailure("nonsense", f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
        if time.monotonic() - started > _ANSWER_S:
            raise ApiFailure("timeout", f"the answer did not end within {_ANSWER_S:g} s")
    return text


def _json(text: bytes) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _number(told: dict[str, Any], name: str, *, at_least: int = -1) -> int:
    number = told.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or number < at_least:
        raise ApiFailure("nonsense", f"the answer's {name} is {str(number)[:40]}, not a number from {at_least} on")
    return number


def _conflict(told: dict[str, Any]) -> Gap | Mismatch:
    match re.split(r"[:/]", str(told.get("type")))[-1]:
        case "gap":
            committed = _number(told, "committed") if "committed" in told else None
            mark = committed if committed is not None and "mark" not in told else _number(told, "mark")
            return Gap(mark, committed)
        case "mismatch":
            return Mismatch(_number(told, "committed"))
        case _:
            raise ApiFailure("nonsense", _problem(409, told), of_this_post=True)


def _reaches(gap: Gap, post: Post) -> bool:
    """Whether the API has what a post follows, so that there is no gap."""
    authoritative = post.kind == "alarms" and post.committed
    return not authoritative and gap.mark >= post.follows


def _problem(status: int, told: dict[str, Any]) -> str:
    words = ": ".join(str(told[name]) for name in ("title", "detail") if told.get(name))
    return f"HTTP {status}" + (f": {words[:_TEXT_CHARS_MAX]}" if words else "")


def _retry_after(value: str | None) -> float:
    return min(float(value), _RETRY_AFTER_MAX_S) if value is not None and re.fullmatch(r"\d{1,9}", value) else 0.0

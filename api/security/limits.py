"""Every bound of the HTTP side in one place, and the token buckets that hold the rates."""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, one key and one process may take. Units stand last in a name."""

    body_bytes_max: int = 64 * 1024
    table_bytes_max: int = 32 * _MIB
    # Far more than a batch closes at once; the sink cuts at envelopes, and the store writes them in one transaction.
    table_rows_max: int = 100_000
    table_batches_max: int = 1_000
    # Dictionaries make large texts cheap to send: bounded as they would be written out.
    table_text_bytes_max: int = 64 * _MIB
    text_bytes_max: int = 65_536
    # Tables that are read or written at one time: what bounds memory, with table_bytes_max.
    tables_in_work_max: int = 4
    # A body that is refused is still read this far, so that the sender sees the answer and not a reset.
    refused_body_bytes_max: int = _MIB
    refused_body_s_max: float = 1.0
    request_s_max: float = 30.0
    requests_per_s: float = 50.0
    requests_burst: int = 200
    # The sinks of many partitions may share one key.
    ingest_requests_per_s: float = 500.0
    ingest_requests_burst: int = 2_000
    failures_per_s: float = 0.5
    failures_burst: int = 20
    streams_max: int = 200
    # Changes that wait for one slow client before it is closed; it resumes where it was.
    stream_backlog_max: int = 2_000
    stream_page: int = 500
    heartbeat_s: float = 15.0
    poll_s: float = 0.1
    idle_poll_s: float = 1.0
    prune_s: float = 600.0


class Buckets:
    """Token buckets by name: each holds `burst` tokens, refilled at `per_s`. Of too many names the oldest goes."""

    def __init__(
        self, per_s: float, burst: int, *, names_max: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._names_max = names_max
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> int:
        """Take a token; return 0, or the whole seconds to wait where there is none."""
        tokens = self._tokens(name)
        if tokens < 1.0:
            self._put(name, tokens)
            return max(1, math.ceil((1.0 - tokens) / self._per_s))
        self._put(name, tokens - 1.0)
        return 0

    def wait(self, name: str) -> int:
        """Return the seconds that `take` would say, and take nothing."""
        tokens = self._tokens(name)
        return 0 if tokens >= 1.0 else max(1, math.ceil((1.0 - tokens) / self._per_s))

    def _tokens(self, name: str) -> float:
        tokens, at = self._buckets.get(name, (self._burst, self._clock()))
        return min(self._burst, tokens + (self._clock() - at) * self._per_s)

    def _put(self, name: str, tokens: float) -> None:
        self._buckets[name] = (tokens, self._clock())
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._names_max:
            self._buckets.popitem(last=False)


def network(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 that a single IPv6 host commonly has."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(parsed) if parsed.version == 4 else str(ipaddress.ip_network((int(parsed), 64), strict=False))

"""The API's Prometheus metrics, in a registry of their own for each app."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from api.store import Marks

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PREFIX = "alumicatalyst_api_"


class Metrics:
    """Every metric of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            f"{_PREFIX}requests_total",
            "Requests by method, route and status; 499: the client went before the answer.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            f"{_PREFIX}request_seconds",
            "Time of a request from its head to the end of its answer; streams are not in it.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.rate_limited = Counter(
            f"{_PREFIX}rate_limited_total",
            "Requests answered 429: limit is key, or address for those without a valid key.",
            ["limit"],
            registry=self.registry,
        )
        self.ingest_rows = Counter(
            f"{_PREFIX}ingest_rows_total", "Rows stored, by kind.", ["kind"], registry=self.registry
        )
        self.streams = Gauge(f"{_PREFIX}stream_clients", "Streams that are open.", registry=self.registry)
        self.stream_events = Counter(
            f"{_PREFIX}stream_events_total", "Changes sent, over all streams.", registry=self.registry
        )
        self.streams_dropped = Counter(
            f"{_PREFIX}streams_dropped_total",
            "Streams that the API ended: slow, key (expired or revoked), behind (older than what is retained), defect.",
            ["reason"],
            registry=self.registry,
        )
        self._mark = Gauge(
            f"{_PREFIX}mark",
            "Last sequence number of a partition by kind: alarms, windows, latest, and committed, what the lake holds.",
            ["partition", "kind"],
            registry=self.registry,
        )
        self._lag = Gauge(
            f"{_PREFIX}provisional_sequence_numbers",
            "Sequence numbers of a partition between what the lake is known to hold and the newest mark of any kind.",
            ["partition"],
            registry=self.registry,
        )

    def observe(self, *, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count a request."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        if seconds is not None:
            self._seconds.labels(method, route).observe(seconds)

    def text(self, marks: list[Marks]) -> bytes:
        """Return all metrics as Prometheus reads them."""
        for mark in marks:
            for kind in ("alarms", "windows", "latest", "committed"):
                self._mark.labels(mark.partition, kind).set(getattr(mark, kind))
            newest = max(mark.alarms, mark.windows, mark.latest)
            self._lag.labels(mark.partition).set(max(0, newest - mark.committed))
        return generate_latest(self.registry)


def describe() -> list[tuple[str, str]]:
    """Return the name and meaning of every metric, for the documentation."""
    families = Metrics().registry.collect()
    return sorted((f"{each.name}{'_total' if each.type == 'counter' else ''}", each.documentation) for each in families)

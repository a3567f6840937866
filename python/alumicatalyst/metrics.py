"""Every Prometheus metric of the data path, in one place; a name here is what dashboards and alerts rely on.

An object is called after its metric, without the prefix `alumicatalyst_` and the suffix `_total`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from alumicatalyst.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

# From one reading or envelope to a full batch of packed ones, in powers of four.
_SIZES = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576)
# A decode of a small batch takes tens of microseconds, a commit to a distant store seconds.
_SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)

READINGS = Counter(
    "alumicatalyst_readings_total",
    "Readings by outcome: windowed, late, duplicate or rejected.",
    ["partition", "outcome"],
)
REJECTED = Counter(
    "alumicatalyst_rejected_total", "Rejected readings and envelopes by reason.", ["partition", "reason"]
)
ENVELOPES = Counter("alumicatalyst_envelopes_total", "Envelopes analysed.", ["partition"])
REDELIVERED = Counter(
    "alumicatalyst_redelivered_total",
    "Envelopes that came again and were dropped by their sequence number.",
    ["partition"],
)
SOURCE_LAG_ENVELOPES = Gauge(
    "alumicatalyst_source_lag_envelopes",
    "Sequence numbers between the last one taken and the newest one held.",
    ["partition"],
)
SOURCE_LAG_SECONDS = Gauge(
    "alumicatalyst_source_lag_seconds",
    "Seconds between the enqueued time of the last envelope taken and the newest.",
    ["partition"],
)
SOURCE_QUEUE_BATCHES = Gauge(
    "alumicatalyst_source_queue_batches", "Batches that a reader holds and the flow has not taken.", ["partition"]
)
BATCH_ENVELOPES = Histogram("alumicatalyst_batch_envelopes", "Envelopes in one batch.", buckets=_SIZES)
BATCH_READINGS = Histogram("alumicatalyst_batch_readings", "Readings in one batch.", buckets=_SIZES)
STAGE_SECONDS = Histogram(
    "alumicatalyst_stage_seconds",
    "Time of one batch or flush in a stage: receive, decode, analyse, encode, digest, put, commit or state.",
    ["stage"],
    buckets=_SECONDS,
)
WATERMARK_DELAY_SECONDS = Gauge(
    "alumicatalyst_watermark_delay_seconds",
    "Partition time less the lowest watermark among the series that the last batch read.",
    ["partition"],
)
LAKE_COMMITS = Counter("alumicatalyst_lake_commits_total", "Commits to a table of the lake.", ["table"])
LAKE_AWAY_SECONDS = Gauge(
    "alumicatalyst_lake_away_seconds", "Seconds for which writing to the lake has been failing; 0: it works."
)
LAKE_CONFLICTS = Counter(
    "alumicatalyst_lake_conflicts_total", "Commits that found another one in between and were made again.", ["table"]
)
LAKE_ROWS = Counter("alumicatalyst_lake_rows_total", "Rows committed to a table of the lake.", ["table"])
LAKE_BYTES = Counter(
    "alumicatalyst_lake_bytes_total", "Bytes of data files committed to a table of the lake.", ["table"]
)
ALERTS_ROWS = Counter("alumicatalyst_alerts_rows_total", "Rows that the API took from the flow, by kind.", ["kind"])
ALERTS_REFILLED_ROWS = Counter(
    "alumicatalyst_alerts_refilled_rows_total", "Rows that the API took from the lake, by kind.", ["kind"]
)
ALERTS_DROPPED_ROWS = Counter(
    "alumicatalyst_alerts_dropped_rows_total",
    "Rows that the queue for the API could not hold, by kind; the API gets them from the lake.",
    ["kind"],
)
ALERTS_QUEUE_ROWS = Gauge("alumicatalyst_alerts_queue_rows", "Rows that wait for the API, by kind.", ["kind"])
ALERTS_ERRORS = Counter(
    "alumicatalyst_alerts_errors_total",
    "Posts to the API that failed, and refills, by reason: unreachable, timeout, refused, busy, failed, too_large, "
    "rejected, nonsense, lake or defect.",
    ["reason"],
)
ALERTS_LAST_SUCCESS_TIME_SECONDS = Gauge(
    "alumicatalyst_alerts_last_success_time_seconds", "When the API last took a post, in seconds since 1970."
)
ALERTS_MARK = Gauge(
    "alumicatalyst_alerts_mark",
    "Up to which sequence number the API has each kind, and what it knows to be committed.",
    ["partition", "kind"],
)
ALERTS_POST_SECONDS = Histogram(
    "alumicatalyst_alerts_post_seconds",
    "Time until the API answered a post, by kind.",
    ["kind"],
    buckets=_SECONDS,
)
IN_FLIGHT_BATCHES = Gauge(
    "alumicatalyst_in_flight_batches", "Batches on their way from the source to the sinks' buffers."
)


def serve(port: int) -> Callable[[], None]:
    """Serve the metrics at http://127.0.0.1:PORT/metrics on a daemon thread.

    Args:
        port: The TCP port; 0 serves nothing.

    Returns:
        A function that stops serving.

    Raises:
        SettingsError: The port cannot be had.
    """
    if port == 0:
        return lambda: None
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, addr="127.0.0.1")
    except OSError as error:
        raise SettingsError(
            f"couldn't serve metrics on 127.0.0.1:{port}: {error.strerror or error}; "
            "set runner.metrics_port to a free port, or to 0 to serve none"
        ) from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)

    return stop

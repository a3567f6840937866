"""The API as a sink: alarms within milliseconds, ahead of the lake's commit, on a thread that the flow never waits for.

The key that makes posting twice harmless is (partition, kind, mark): every post names the range of the log that it
covers, and the API ignores what lies at or below its mark. Of a transition it is (alarm_id, step). What the queue could
not hold, and what turns out to differ from the lake, comes from the lake itself.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from alumicatalyst import metrics
from alumicatalyst.log import get_logger
from alumicatalyst.sinks.alerts_held import KINDS, Commit, Held
from alumicatalyst.sinks.alerts_poster import Poster
from alumicatalyst.transitions import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from alumicatalyst.lake import Lake
    from alumicatalyst.operator import Analysed
    from alumicatalyst.settings import ApiSettings
    from alumicatalyst.sinks.alerts_client import Client, Kind

QUEUE_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of one kind that wait for the API; rows are bounded by a setting, but a row's texts may be long."""

DRAIN_S = 3.0
"""How long a clean stop waits until what is queued is posted."""

_DRAIN_FAILURES_MAX = 3
_ABORT_S = 1.0
_LOOK_S = 0.5
_DEFECT_PAUSE_S = 5.0
_DAY_S = 86_400.0

_log = get_logger(__name__)


class AlertSink:
    """Posts a process's partitions; its methods may be called from several threads.

    Args:
        client: The way to the API.
        lake: Where refills come from.
        queue_rows_max: Rows of one kind that wait at most; beyond it a partition's are dropped, and come from the lake.
        windows_days: For how long the API keeps windows, so that older ones need not come from the lake.

    Example:
        >>> client = Client("http://127.0.0.1:8040", Secret("env:KEY"))
        >>> sink = AlertSink(client, lake, queue_rows_max=100_000, windows_days=7)
        >>> sink.offer(item)
        >>> sink.close()
    """

    def __init__(self, client: Client, lake: Lake, *, queue_rows_max: int, windows_days: float) -> None:
        self._queue_rows_max = queue_rows_max
        self._wake = threading.Condition()
        self._held: dict[str, Held] = {}
        self._changed = False
        self._until_s: float | None = None
        self._poster = Poster(client, lake, self._held, self._wake, windows_days * _DAY_S)
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, settings: ApiSettings, lake: Lake) -> Self:
        """Make the sink that the settings describe.

        Raises:
            SettingsError: The key or the certificates cannot be read.
        """
        from alumicatalyst.sinks.alerts_client import Client

        client = Client(settings.url, settings.key, settings.ca_file)
        return cls(client, lake, queue_rows_max=settings.queue_rows_max, windows_days=settings.retention_days)

    def offer(self, item: Analysed) -> None:
        """Take an output's rows into the queue; never waits for anything but the queue's lock."""
        output, resume = item.output, item.resume
        if output is None:
            return
        now = time.monotonic()
        with self._wake:
            held = self._held.get(resume.partition)
            if self._until_s is not None or (held is not None and held.claim > resume.claim):
                return
            if held is None or held.claim < resume.claim:
                # A partition that was taken anew begins again where its state was; the API ignores what it has.
                held = self._held[resume.partition] = Held.of(resume, now)
            follows, last = max(output.follows, held.begins), max(output.last, held.begins)
            for kind, rows in zip(KINDS, (output.alarms, output.windows, output.latest), strict=True):
                held.lanes[kind].offer(follows, last, rows, now)
                if rows.num_rows:
                    self._bound(held, kind)
            self._go_on()

    def on_committed(self, partition: str, follows: int, last: int, alarms: Sequence[pa.RecordBatch]) -> None:
        """Note that `batches` has sealed a partition in (follows, last], with these transitions."""
        commit = Commit(follows, last, *digest(alarms), time.monotonic())
        with self._wake:
            held = self._held.get(partition)
            if held is not None:
                held.note(commit)
                self._go_on()

    def close(self, *, drain: bool = True) -> None:
        """Post what is queued, for a few seconds at most, and stop."""
        with self._wake:
            self._until_s = time.monotonic() + (DRAIN_S if drain else 0.0)
            self._changed = True
            self._wake.notify()
            thread, self._thread = self._thread, None
        if thread is None:
            self._poster.close()
        else:
            thread.join(DRAIN_S if drain else _ABORT_S)
            if thread.is_alive():
                # In a post that hangs, or in a part of a refill.
                self._poster.abort()
                thread.join(_ABORT_S)

    def _bound(self, held: Held, kind: Kind) -> None:
        """Drop a partition's queue of a kind where those of all together hold too much."""
        lanes = [each.lanes[kind] for each in self._held.values()]
        rows, size = sum(lane.rows for lane in lanes), sum(lane.size for lane in lanes)
        if rows <= self._queue_rows_max and size <= QUEUE_BYTES_MAX:
            return
        metrics.ALERTS_DROPPED_ROWS.labels(kind).inc(held.lanes[kind].drop())
        if not any(lane.dropped for lane in lanes):
            _log.warning(
                "queue for the api full",
                kind=kind,
                partition=held.partition,
                rows=rows,
                remedy="none needed, the API gets it from the lake when it answers; see api.queue_rows_max",
            )
        held.lanes[kind].dropped = True

    def _go_on(self) -> None:
        self._changed = True
        if self._thread is None and self._until_s is None:
            # Not a daemon: one of those that runs native code while Python ends makes the process abort.
            self._thread = threading.Thread(target=self._run, name="alerts")
            self._thread.start()
        else:
            self._wake.notify()

    def _run(self) -> None:
        try:
            wait_s = 0.0
            while not self._over(wait_s):
                self._changed = False
                wait_s = self._step()
                with self._wake:
                    if wait_s > 0 and not self._changed:
                        self._wake.wait(min(wait_s, _LOOK_S))
        finally:
            self._poster.close()

    def _step(self) -> float:
        try:
            return self._poster.step(draining=self._until_s is not None)
        except Exception as error:  # noqa: BLE001 the flow goes on whatever is wrong here
            self._poster.condition.failed("defect", repr(error), exc_info=True)
            return _DEFECT_PAUSE_S

    def _over(self, wait_s: float) -> bool:
        """Whether to stop: when asked to, and nothing is left to post, or no time, or the API does not answer."""
        if self._until_s is None:
            # A flow that failed may never close its sinks.
            return not threading.main_thread().is_alive()
        idle = wait_s > 0 and not self._changed
        failures = self._poster.condition.failures
        return time.monotonic() >= self._until_s or (idle and not failures) or failures >= _DRAIN_FAILURES_MAX

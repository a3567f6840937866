"""What both runners share: the pieces of one flow connected, what is in flight held back, and draining."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from alumicatalyst.gate import Gate
from alumicatalyst.intake import Intake
from alumicatalyst.log import get_logger
from alumicatalyst.operator import Analysed, Analysis
from alumicatalyst.sinks.lake import LakeSink
from alumicatalyst.sources import FiniteSource
from alumicatalyst.sources.share import Share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alumicatalyst._core import Dictionary
    from alumicatalyst.lake import Lake
    from alumicatalyst.maintenance.schedule import Schedule
    from alumicatalyst.settings import Settings
    from alumicatalyst.sinks.alerts import AlertSink
    from alumicatalyst.sources import Source

_log = get_logger(__name__)


class Pipeline:
    """The pieces of one flow, connected: source, analysis, sinks, and the flag that drains them.

    Args:
        source: Where envelopes come from.
        dictionary: What they mean, from now on; what lies before keeps the dictionary that the journal names.
        lake: Where rows, state and journal go.
        share: Which of the source's partitions are this process's; None: all.
        flush_at_end: Close the windows that the end of a finite source leaves open, by a `flush` in the journal.
        accept_dictionary: Journal a dictionary that differs from the one in force, instead of refusing to start.
        accept_state_loss: Go on after the mark where the log to replay from has expired.
        accept_incarnation: Take a hub that was made anew for what it is.
        alerts: Where alarms, windows and latest values are posted ahead of the lake; None: nowhere.
        maintenance: What keeps the lake tidy while the flow runs; None: nobody here.
        draining: The flag that drains it, where others look at it too.
    """

    def __init__(
        self,
        source: Source,
        dictionary: Dictionary,
        lake: Lake,
        *,
        share: Share | None = None,
        flush_at_end: bool = True,
        flush_interval_s: float = 10.0,
        flush_rows_max: int = 1_000_000,
        state_interval_s: float = 60.0,
        in_flight_batches_max: int = 8,
        accept_dictionary: bool = False,
        accept_state_loss: bool = False,
        accept_incarnation: bool = False,
        alerts: AlertSink | None = None,
        maintenance: Schedule | None = None,
        draining: threading.Event | None = None,
    ) -> None:
        self.source, self.dictionary, self.lake, self.flush_at_end = source, dictionary, lake, flush_at_end
        self.gate = Gate(in_flight_batches_max)
        self._share = share or Share()
        self.accept = {
            "accept_dictionary": accept_dictionary,
            "accept_state_loss": accept_state_loss,
            "accept_incarnation": accept_incarnation,
        }
        self._flush_interval_s = flush_interval_s
        self._flush_rows_max = flush_rows_max
        self._state_interval_s = state_interval_s
        self._alerts, self._maintenance = alerts, maintenance
        self._sinks_open = 0
        self._sinks_lock = threading.Lock()
        self._draining = draining or threading.Event()
        self._failed = threading.Event()

    @classmethod
    def from_settings(cls, settings: Settings, **accept: bool) -> Pipeline:
        """Connect what the settings name. Sources and stores are imported only where they are used."""
        from alumicatalyst.dictionary import load
        from alumicatalyst.lake import Lake
        from alumicatalyst.maintenance.schedule import Schedule
        from alumicatalyst.sources.selection import source_of

        dictionary = load(settings.dictionary)
        source = source_of(settings, dictionary)
        draining = threading.Event()
        lake = Lake.open(
            settings.lake.uri,
            credential=settings.lake.credential,
            draining=draining.is_set,
            patience_s=settings.lake.patience_s,
        )
        alerts = None
        if settings.api.url:
            from alumicatalyst.sinks.alerts import AlertSink

            alerts = AlertSink.of(settings.api, lake)
        return cls(
            source,
            dictionary,
            lake,
            share=Share.parse(settings.source.partitions),
            flush_interval_s=settings.lake.flush_interval_s,
            flush_rows_max=settings.lake.flush_rows_max,
            state_interval_s=settings.lake.state_interval_s,
            in_flight_batches_max=settings.runner.in_flight_batches_max,
            alerts=alerts,
            maintenance=Schedule.of(settings),
            draining=draining,
            **accept,
        )

    def partitions(self) -> list[str]:
        """Return the partitions that this process takes; several processes may share them, each with its own."""
        found = self.source.partitions()
        ours = self._share.of(found)
        if not ours:
            _log.warning(
                "no partition is left for this process",
                partitions=len(found),
                remedy="start no more processes than there are partitions, or correct source.partitions",
            )
        return ours

    @property
    def waits(self) -> bool:
        """Whether a process without a partition waits to be stopped: one that ended would only be started again."""
        return not isinstance(self.source, FiniteSource)

    def intake(self, partition: str) -> Intake:
        """Claim a partition and open it where its state ends."""
        return Intake(self, partition)

    def analysis(self) -> Analysis:
        """Return the analysis of one partition; its first batch says which."""
        return Analysis(self.lake, self._state_interval_s)

    def offer(self, item: Analysed) -> None:
        """Offer an item to the API, ahead of the lake; never waits."""
        if self._alerts is not None:
            self._alerts.offer(item)

    def sink(self) -> Sink:
        """Return a worker's way into the lake."""
        told = {} if self._alerts is None else {"on_committed": self._alerts.on_committed}
        lake = LakeSink(self.lake, flush_interval_s=self._flush_interval_s, flush_rows_max=self._flush_rows_max, **told)
        with self._sinks_lock:
            self._sinks_open += 1
            if self._sinks_open == 1 and self._maintenance is not None:
                self._maintenance.start()
        return Sink(self, lake)

    def sink_closed(self) -> None:
        """Note that a worker's sink is closed; behind the last one nothing more is offered or committed."""
        with self._sinks_lock:
            self._sinks_open -= 1
            last = self._sinks_open == 0
        if last and self._maintenance is not None:
            self._maintenance.close()
        if last and self._alerts is not None:
            self._alerts.close(drain=not self.failed)

    @property
    def draining(self) -> bool:
        """Whether sources shall end as if their input were finished; windows stay open."""
        return self._draining.is_set()

    def drain(self) -> None:
        """Stop reading; what was read is analysed, committed and its state written."""
        self._draining.set()

    @property
    def failed(self) -> bool:
        """Whether a step has raised: what is buffered is then left to the next start."""
        return self._failed.is_set()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Note what raises; the end of an input is no failure."""
        try:
            yield
        except StopIteration:
            raise
        except BaseException:
            self._failed.set()
            if self._maintenance is not None:
                self._maintenance.close()
            raise

    def drain_on_signals(self) -> None:
        """Drain on SIGTERM and SIGINT; a second one of the same kind ends the process at once.

        Bytewax itself dies of SIGTERM without closing anything. Signals belong to the main thread; elsewhere this does
        nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            return

        def handle(number: int, _frame: object) -> None:
            _log.info("draining", signal=signal.Signals(number).name)
            self.drain()
            signal.signal(number, signal.SIG_DFL)

        signal.signal(signal.SIGTERM, handle)
        signal.signal(signal.SIGINT, handle)


class Sink:
    """A worker's way into the lake, and the end of a batch's way."""

    def __init__(self, pipeline: Pipeline, lake: LakeSink) -> None:
        self._pipeline, self._lake = pipeline, lake

    def write(self, item: Analysed) -> None:
        """Hand an item to the lake; a commit may happen here."""
        self._lake.write(item)
        if item.ends_batch:
            self._pipeline.gate.leave()

    def close(self) -> None:
        """Commit what is buffered and write the last states, unless the flow has failed.

        After a failure there is nothing to commit that the next start would not bring again.
        """
        try:
            if not self._pipeline.failed:
                self._lake.close()
        finally:
            self._pipeline.sink_closed()

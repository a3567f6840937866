"""What `alumicatalyst replay` says: how it gets on while it runs, and what it came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from alumicatalyst.operator import Analysed

OUTCOMES = ("windowed", "late", "duplicate", "rejected")


@dataclass(slots=True)
class Tally:
    """What has been analysed so far.

    Attributes:
        unit: What the input is counted in: "rows" for envelopes, "readings" for stored ones.
        total: How many there are to do; 0 where that is known at the end only.
        sums: Outcomes, windows, alarms and envelopes.
    """

    unit: str = "rows"
    total: Callable[[], int] = lambda: 0
    sums: Counter[str] = field(default_factory=Counter)

    def add(self, item: Analysed) -> None:
        """Count an item."""
        import pyarrow.compute as pc

        output = item.output
        if output is None:
            return
        for outcome in OUTCOMES:
            self.sums[outcome] += pc.sum(output.counts.column(f"rows_{outcome}")).as_py() or 0
        self.sums["envelopes"] += output.counts.num_rows
        self.sums["redelivered"] += output.redelivered
        self.sums["windows"] += output.windows.num_rows
        self.sums["alarms"] += output.alarms.num_rows

    @property
    def readings(self) -> int:
        """Readings of every outcome."""
        return sum(self.sums[outcome] for outcome in OUTCOMES)

    def so_far(self, elapsed: float) -> str:
        """Return a line that says how it gets on, and when it will be done."""
        done = self.readings if self.unit == "readings" else self.sums["envelopes"] + self.sums["redelivered"]
        parts = ", ".join(f"{self.sums[outcome]:,} {outcome}" for outcome in OUTCOMES)
        speed = done / elapsed if elapsed > 0 else 0.0
        total = self.total()
        if not total or not speed:
            return f"{done:,} {self.unit} ({speed:,.0f}/s): {parts}"
        left = max(0, total - done) / speed
        return f"{done:,} of {total:,} {self.unit} ({speed:,.0f}/s), {_clock(left)} left: {parts}"

    def summary(self, *, finished: bool, partitions: list[str], lake: str, seconds: float) -> dict[str, Any]:
        """Return what it came to."""
        return {
            "ok": True,
            "finished": finished,
            **{outcome: self.sums[outcome] for outcome in OUTCOMES},
            "readings": self.readings,
            **{name: self.sums[name] for name in ("windows", "alarms", "envelopes", "redelivered")},
            "partitions": partitions,
            "lake": lake,
            "seconds": round(seconds, 3),
        }


def report(summary: dict[str, Any], nothing: str) -> str:
    """Return a summary for people.

    Args:
        summary: What `Tally.summary` returned, and what else there is to say.
        nothing: What to say where nothing was new.
    """
    parts = ", ".join(f"{summary[outcome]:,} {outcome}" for outcome in OUTCOMES)
    lines = [
        f"{summary['readings']:,} readings = {parts}; {summary['windows']:,} windows, in {summary['seconds']:g} s",
        f"stored in {summary['lake']} as {', '.join(summary['partitions'])}",
    ]
    if not summary["envelopes"]:
        lines[0] = nothing
    if not summary["finished"]:
        lines.append("stopped before the end; the same command continues")
    if summary["redelivered"]:
        lines.append(f"{summary['redelivered']:,} events came more than once and were taken once")
    if summary.get("unreadable"):
        lines.append(f"{summary['unreadable']:,} rows could not be taken apart; they are among the rejected")
    if summary.get("unsure"):
        lines.append(
            f"{summary['unsure']:,} envelopes without rows were enqueued later than rows behind them: where the "
            "broker's clock went back, the windows around may differ from the former lake's"
        )
    if summary.get("losses"):
        lines.append(
            f"{summary['losses']:,} losses of state that the former lake accepted are not repeated: windows that were "
            "cut short there come out whole"
        )
    if summary["rejected"]:
        question = "SELECT reason, count(*), any_value(detail) FROM rejected GROUP BY reason"
        lines.append(f'why they were rejected: alumicatalyst lake query --lake {summary["lake"]} "{question}"')
    question = "SELECT device, metric, window_start, count, mean FROM windows LIMIT 20"
    lines.append(f'next: alumicatalyst lake query --lake {summary["lake"]} "{question}"')
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

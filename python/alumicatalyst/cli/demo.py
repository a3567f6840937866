"""`alumicatalyst demo`: the whole path on this machine, with a live status and a checked sum at the end."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from alumicatalyst.demo import Demo, Status

_LINE_EVERY_S = 5.0
_TABLE_EVERY_S = 0.5


def demo(
    seconds: Annotated[float, typer.Option(min=0, help="How long to send; 0 until Ctrl-C.")] = 60.0,
    directory: Annotated[
        Path | None,
        typer.Option(help="Where hub, lake and logs are kept; demo, or demo-N for N plants, in the setting data_dir."),
    ] = None,
    dictionary: Annotated[Path, typer.Option(help="The plant to simulate.")] = Path("flows/smelter.toml"),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The stand-in's port; 0 takes a free one.")] = 0,
    plants: Annotated[int, typer.Option(min=1, help="Copies of the plant, for more load.")] = 1,
) -> None:
    """Run everything on this machine: a stand-in for Event Hubs, a simulated plant, the flow and a lake.

    A second start goes on where the first ended. The last line is JSON: the sums of the whole lake, and whether every
    reading is accounted for.

    Examples:

        alumicatalyst demo

        alumicatalyst demo --seconds 0 --plants 10

        alumicatalyst lake query "SELECT * FROM windows LIMIT 5" --lake file:var/demo/lake
    """
    from alumicatalyst.demo import Demo
    from alumicatalyst.settings import load_settings

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    place = directory or load_settings().data_dir / ("demo" if plants == 1 else f"demo-{plants}")
    with Demo(place.absolute(), dictionary, seconds or None, port, plants) as running:
        print(f"lake            {running.lake_uri}")
        print(f"metrics         http://127.0.0.1:{running.metrics_port}/metrics")
        print(f"logs            {running.directory / 'logs'}")
        print(f"connection      {running.connection_string}")
        print("Send to it with any Event Hubs client; what you send lands in the lake.", flush=True)
        running.start()
        _watch(running, stopped, seconds)
        print("stopping: the flow catches up, commits and drains", flush=True)
        running.stop()
        summary = running.summary()
    print(json.dumps(summary), flush=True)
    if not summary["ok"]:
        raise typer.Exit(1)


def _watch(running: Demo, stopped: threading.Event, seconds: float) -> None:
    """Show how it goes until the simulator is done or the user has seen enough."""
    if sys.stdout.isatty():
        from rich.live import Live

        with Live(refresh_per_second=4) as live:
            for status, elapsed in _statuses(running, stopped, _TABLE_EVERY_S):
                live.update(_table(status, elapsed, seconds))
        return
    for status, elapsed in _statuses(running, stopped, _LINE_EVERY_S):
        outcomes = " ".join(f"{name}={count}" for name, count in sorted(status.outcomes.items()))
        windows = status.committed.get("windows", 0)
        print(f"{elapsed:5.0f} s  readings={status.readings} {outcomes} windows={windows} lag={status.lag}", flush=True)


def _statuses(running: Demo, stopped: threading.Event, every_s: float) -> Iterator[tuple[Status, float]]:
    started = time.monotonic()
    while running.sending and not stopped.wait(every_s):
        running.check()
        yield running.status(), time.monotonic() - started
    running.check()


def _table(status: Status, elapsed: float, seconds: float) -> Table:
    from rich.table import Table

    of = f" of {seconds:.0f}" if seconds else ", Ctrl-C ends"
    table = Table(title=f"{elapsed:.0f}{of} s", min_width=48)
    table.add_column("this run")
    table.add_column("", justify="right")
    table.add_row("readings a second", f"{status.readings / max(elapsed, 1):,.0f}")
    for outcome in ("windowed", "late", "duplicate", "rejected"):
        table.add_row(outcome, f"{status.outcomes.get(outcome, 0):,}")
    for name, rows in sorted(status.committed.items()):
        table.add_row(f"committed to {name}", f"{rows:,}")
    table.add_row("envelopes behind the hub", f"{status.lag:,}")
    table.add_row("watermark delay", f"{status.watermark_delay_s:.1f} s")
    return table

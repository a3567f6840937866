"""`alumicatalyst demo`: the whole path on this machine, with a live status, alarms, and a checked sum at the end."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from alumicatalyst.demo import Change, Demo, Status

_STEP_S = 0.5
_LINE_EVERY_S = 5.0
_ALARMS_SHOWN = 12
_COLOURS = {"high": "bold red", "medium": "yellow", "low": "cyan"}


def demo(
    seconds: Annotated[float, typer.Option(min=0, help="How long to send; 0 until Ctrl-C.")] = 60.0,
    directory: Annotated[
        Path | None,
        typer.Option(
            help="Where hub, lake, hot store and logs are kept; demo, or demo-N for N plants, in the setting data_dir."
        ),
    ] = None,
    dictionary: Annotated[Path, typer.Option(help="The plant to simulate.")] = Path("flows/smelter.toml"),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The stand-in's port; 0 takes a free one.")] = 0,
    api_port: Annotated[int, typer.Option(min=0, max=65_535, help="The API's port; 0 takes a free one.")] = 0,
    plants: Annotated[int, typer.Option(min=1, help="Copies of the plant, for more load.")] = 1,
) -> None:
    """Run everything on this machine: a stand-in for Event Hubs, a simulated plant, flow, lake, ledger, and API.

    Things go wrong in the plant now and then, and their alarms are shown as the API's live stream brings them. A first
    start begins with 20 minutes of history, from which the detectors learn; a second start goes on where the first
    ended. The last line is JSON: the sums of the whole lake, and whether every reading is accounted for, the ledger
    verifies, the API has the lake's alarms, and every fault was found that the dictionary's rules can find.

    Examples:

        alumicatalyst demo

        alumicatalyst demo --seconds 0 --plants 10

        alumicatalyst lake query "SELECT * FROM alarms LIMIT 5" --lake file:var/demo/lake
    """
    from alumicatalyst.demo import Demo
    from alumicatalyst.settings import load_settings

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    place = directory or load_settings().data_dir / ("demo" if plants == 1 else f"demo-{plants}")
    with Demo(place.absolute(), dictionary, seconds or None, port, api_port, plants) as running:
        running.start_api()
        print(f"lake            {running.lake_uri}")
        print(f"ledger          file:{running.directory / 'ledger'}")
        print(f"api             {running.api_url}")
        if running.new_key is not None:
            print(f"api key         {running.new_key}   (reads and acknowledges; not shown again)")
        else:
            print(
                "api key         was shown at the first start; another: python -m api keys create --name me "
                f"--scopes read,operate --database-url {running.database_url}"
            )
        print(f"metrics         http://127.0.0.1:{running.metrics_port}/metrics")
        print(f"logs            {running.directory / 'logs'}")
        print(f"connection      {running.connection_string}")
        print("Send to it with any Event Hubs client; what you send lands in the lake.", flush=True)
        running.start()
        _watch(running, stopped, seconds)
        print("stopping: the flow catches up, commits and drains", flush=True)
        running.stop()
        _tell(running.alarms.changes())
        summary = running.summary()
    print(json.dumps(summary), flush=True)
    if not summary["ok"]:
        raise typer.Exit(1)


def _watch(running: Demo, stopped: threading.Event, seconds: float) -> None:
    """Show how it goes until the simulator is done or the user has seen enough."""
    if sys.stdout.isatty():
        from rich.live import Live

        with Live(refresh_per_second=4) as live:
            for elapsed in _elapsed(running, stopped):
                live.update(_screen(running, elapsed, seconds))
        running.alarms.changes()
        return
    line_due = 0.0
    for elapsed in _elapsed(running, stopped):
        _tell(running.alarms.changes())
        if elapsed >= line_due:
            line_due = elapsed + _LINE_EVERY_S
            _tell_status(running.status(), elapsed, running.alarms.active(), running.ledger_entries())


def _elapsed(running: Demo, stopped: threading.Event) -> Iterator[float]:
    started = time.monotonic()
    while running.sending and not stopped.wait(_STEP_S):
        running.check()
        yield time.monotonic() - started
    running.check()


def _tell(changes: list[Change]) -> None:
    for change in changes:
        alarm = change.alarm
        print(
            f"{change.time}  {change.what:<12} {alarm['priority']:<6}  {alarm['device']} {alarm['alarm_rule']}  "
            f"{alarm['message']}",
            flush=True,
        )


def _tell_status(status: Status, elapsed: float, active: int, signed: int) -> None:
    outcomes = " ".join(f"{name}={count}" for name, count in sorted(status.outcomes.items()))
    windows = status.committed.get("windows", 0)
    print(
        f"{elapsed:5.0f} s  readings={status.readings} {outcomes} windows={windows} active_alarms={active} "
        f"ledger_entries={signed} lag={status.lag}",
        flush=True,
    )


def _screen(running: Demo, elapsed: float, seconds: float) -> RenderableType:
    from rich.console import Group

    alarms = running.alarms
    numbers = _numbers(running.status(), elapsed, seconds, running.ledger_entries())
    return Group(numbers, _alarms(alarms.newest(_ALARMS_SHOWN), alarms.active()))


def _numbers(status: Status, elapsed: float, seconds: float, signed: int) -> RenderableType:
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
    table.add_row("entries signed in the ledger", f"{signed:,}")
    table.add_row("envelopes behind the hub", f"{status.lag:,}")
    table.add_row("watermark delay", f"{status.watermark_delay_s:.1f} s")
    return table


def _alarms(alarms: list[dict[str, Any]], active: int) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table("raised", "state", "priority", "device", "rule", title=f"alarms, {active:,} active")
    table.add_column("message", no_wrap=True, overflow="ellipsis")
    for alarm in alarms:
        style = _COLOURS.get(alarm["priority"], "") if alarm["active"] else "dim"
        cells = (str(alarm["raised_time"])[11:19], alarm["state"], alarm["priority"], alarm["device"])
        # As text: a message may hold what would be read as markup.
        table.add_row(*(Text(str(cell)) for cell in (*cells, alarm["alarm_rule"], alarm["message"])), style=style)
    return table

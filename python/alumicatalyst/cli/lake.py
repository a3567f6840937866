"""`alumicatalyst lake ...`: the commands over a lake; `lake doctor` checks that every reading is accounted for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from alumicatalyst.cli.lake_maintain import compact, expire, maintain, trim, vacuum
from alumicatalyst.cli.lake_migrate import migrate
from alumicatalyst.cli.lake_query import query
from alumicatalyst.cli.lake_shown import Config, Json, Ledger, Uri, text
from alumicatalyst.cli.lake_views import views

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alumicatalyst.lake.doctor import Report
    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.settings.schema import Settings

__all__ = ["compact", "doctor", "expire", "maintain", "migrate", "query", "trim", "vacuum", "views"]

_PARTITION = (
    "{partition}: mark {mark}, {envelopes:,} envelopes, {rows_total:,} readings = {windowed:,} windowed + {late:,} "
    "late + {duplicate:,} duplicate + {rejected:,} rejected; {windows:,} windows, {alarms:,} alarms; {unsealed:,} not "
    "sealed yet; states at {states}"
)
_COLUMNS = (
    *("table", "version", "files", "rows", "bytes", "bytes_per_row", "average"),
    *("orphans", "removed", "commits", "checkpoint"),
)
_WIDTH_MAX = 1_000


def doctor(uri: Uri = None, config: Config = None, ledger: Ledger = None, as_json: Json = False) -> None:
    """Check everything about the lake, and say what to do. Exits with 1 if anything is wrong; advice is nothing wrong.

    Sums, keys, ranges and marks of the rows; files against what commits say of them; logs and checkpoints; schemas and
    properties; journal, states and dictionaries; orphans, small files, and how far the ledger is, if there is one. It
    only reads, and a flow may be writing meanwhile.

    Examples:

        alumicatalyst lake doctor

        alumicatalyst lake doctor --lake file:var/lake --json
    """
    from alumicatalyst.lake.doctor import examine
    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.retry import Retry
    from alumicatalyst.lake.store import open_store
    from alumicatalyst.settings import load_settings

    settings = load_settings(config, lake__uri=uri, ledger__uri=ledger)
    store = open_store(settings.lake.uri, credential=settings.lake.credential, create=False)
    # Not opened as others open it: what would refuse to be opened is what is to be told.
    lake = Lake(store, Retry())
    report = examine(lake, _signed(lake, settings, told=ledger is not None))
    if as_json:
        print(json.dumps(report.as_dict(), default=text, ensure_ascii=False))
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(1)


def _signed(lake: Lake, settings: Settings, *, told: bool) -> Callable[[], Mapping[str, int]] | None:
    """Return what tells how far the ledger is; None where there is no log, and none was named."""
    from alumicatalyst.ledger.cursor import cursor
    from alumicatalyst.ledger.log import CHECKPOINT

    folder = Path(settings.ledger.uri.removeprefix("file:"))
    return (lambda: cursor(lake, folder)) if told or (folder / CHECKPOINT).is_file() else None


def _print_report(report: Report) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    table = Table(box=box.SIMPLE)
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "table" else "right", no_wrap=True)
    for row in report.tables:
        shown = row | {"checkpoint": _checkpoint_text(row)}
        table.add_row(
            *(f"{shown[name]:,}" if isinstance(shown[name], int | float) else shown[name] for name in _COLUMNS)
        )
    # Nothing of it is cut: as wide as its rows are.
    width = console.measure(table, options=console.options.update(max_width=_WIDTH_MAX)).maximum
    Console(width=width, highlight=False).print(table)
    for row in report.partitions:
        for line in _partition_lines(row):
            console.print(escape(line))
    for check in report.checks:
        if check.wrong is None:
            if check.key not in {"ledger", "ledger-behind"}:
                console.print(f"[yellow]not asked[/]  {escape(check.name)}: other damage is in the way")
        elif check.wrong:
            kind = "[yellow]advice[/]   " if check.advice else "[red]wrong[/]    "
            console.print(f"{kind}  {escape(check.name)}: not so {check.wrong:,} time{'s' * (check.wrong != 1)}")
            for example in check.examples:
                console.print(f"           {escape(example)}")
            console.print(f"           [bold]do:[/] {escape(check.remedy)}")
        else:
            console.print(f"[green]ok[/]         {escape(check.name)}")


def _checkpoint_text(row: dict[str, Any]) -> str:
    if row["checkpoint"] < 0:
        return "none"
    return f"{row['checkpoint']:,}, {row['checkpoint_age_s'] / 3_600:,.1f} h ago"


def _partition_lines(row: dict[str, Any]) -> Iterator[str]:
    """Yield what is told of a partition: sums, marks and claims by table, dictionaries, gaps of the source's own."""
    yield _PARTITION.format_map(row | {"states": text(row["states"]) or "none"})
    if row["expired"]:
        yield "    expired: " + ", ".join(f"{count:,} {what}" for what, count in sorted(row["expired"].items()))
    yield "    marks: " + ", ".join(f"{name} {mark}" for name, mark in row["marks"].items())
    yield "    claims: " + ", ".join(f"{name} {claim}" for name, claim in row["claims"].items())
    for each in row["dictionaries"]:
        yield f"    dictionary {each['sha256'][:12]} (version {each['version']}): {each['first']}-{each['last']}"
    if row["gaps"]:
        shown = ", ".join(f"{before} to {first}" for before, first in row["gaps_first"])
        yield f"    gaps of the source's own numbers, or lost and accepted: {row['gaps']:,}, such as {shown}"

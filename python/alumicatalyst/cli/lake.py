"""`alumicatalyst lake ...`: the commands over a lake; `lake doctor` checks that every reading is accounted for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from alumicatalyst.cli.lake_maintain import compact, maintain, trim, vacuum
from alumicatalyst.cli.lake_query import query
from alumicatalyst.cli.lake_shown import Json, Uri, open_lake, text

if TYPE_CHECKING:
    from alumicatalyst.lake.doctor import Report

__all__ = ["compact", "doctor", "maintain", "query", "trim", "vacuum"]

_PARTITION = (
    "{partition}: mark {mark}, {envelopes:,} envelopes, {rows_total:,} readings = {windowed:,} windowed + {late:,} "
    "late + {duplicate:,} duplicate + {rejected:,} rejected; {windows:,} windows, {alarms:,} alarms; {unsealed:,} not "
    "sealed yet; states at {states_text}"
)


def doctor(uri: Uri = None, as_json: Json = False) -> None:
    """Check the lake up to its marks: sums, keys, ranges, files, journal and states. Exits with 1 if anything is wrong.

    It only reads, and a flow may be writing meanwhile.

    Examples:

        alumicatalyst lake doctor

        alumicatalyst lake doctor --lake file:var/lake --json
    """
    from alumicatalyst.lake.doctor import examine

    report = examine(open_lake(uri))
    if as_json:
        print(json.dumps(report.as_dict(), default=text, ensure_ascii=False))
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(1)


def _print_report(report: Report) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    table = Table(*report.tables[0], box=box.SIMPLE)
    for row in report.tables:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else text(value) for value in row.values()))
    console.print(table)
    for row in report.partitions:
        console.print(escape(_PARTITION.format(**row, states_text=text(row["states"]) or "none")))
    for check in report.checks:
        if check.wrong is None:
            console.print(f"[yellow]not asked[/]  {escape(check.name)}: files are damaged")
        elif check.wrong:
            console.print(f"[red]wrong[/]      {escape(check.name)}: {check.wrong:,} times")
            for example in check.examples:
                console.print(f"           {escape(example)}")
        else:
            console.print(f"[green]ok[/]         {escape(check.name)}")

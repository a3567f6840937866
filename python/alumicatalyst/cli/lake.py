"""`alumicatalyst lake query` asks the lake in SQL, `lake doctor` checks that every reading is accounted for."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from rich.console import Console
    from rich.table import Table

    from alumicatalyst.lake.doctor import Report
    from alumicatalyst.lake.lake import Lake

_ROWS_SHOWN_MAX = 200
_COLUMNS_MAX = 1_000_000

_PARTITION = (
    "{partition}: mark {mark}, {envelopes:,} envelopes, {rows_total:,} readings = {windowed:,} windowed + {late:,} "
    "late + {duplicate:,} duplicate + {rejected:,} rejected; {windows:,} windows, {alarms:,} alarms; {unsealed:,} not "
    "sealed yet; states at {states_text}"
)

_Uri = Annotated[str | None, typer.Option("--lake", help="The lake's address; without it lake.uri of the settings.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON: one document, or one object a row.")]


def query(
    sql: Annotated[str, typer.Argument(help="One SELECT; tables go by their names.")],
    uri: _Uri = None,
    as_json: _Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
) -> None:
    """Run one reading SQL statement (DuckDB's dialect) over the lake's tables.

    Tables: readings, windows, alarms, rejected, batches, journal. Rows are visible as soon as they are committed; for a
    cut on which all tables agree stop at the last_sequence of batches. A table is printed up to 200 rows, one row under
    another where the terminal is too narrow; --csv and --json print all.

    Examples:

        alumicatalyst lake query "SELECT outcome, count(*) FROM readings GROUP BY outcome"

        alumicatalyst lake query --csv "SELECT * FROM windows WHERE device = 'pot-017'" > windows.csv
    """
    from alumicatalyst.lake.query import select

    batches = select(_open(uri), sql)
    if as_json:
        for batch in batches:
            for row in batch.to_pylist():
                print(json.dumps(row, default=_text, ensure_ascii=False))
    elif as_csv:
        _print_csv(batches)
    else:
        _print_rows(batches)


def doctor(uri: _Uri = None, as_json: _Json = False) -> None:
    """Check the lake up to its marks: sums, keys, ranges, files, journal and states. Exits with 1 if anything is wrong.

    It only reads, and a flow may be writing meanwhile.

    Examples:

        alumicatalyst lake doctor

        alumicatalyst lake doctor --lake file:var/lake --json
    """
    from alumicatalyst.lake.doctor import examine

    report = examine(_open(uri))
    if as_json:
        print(json.dumps(report.as_dict(), default=_text, ensure_ascii=False))
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(1)


def _open(uri: str | None) -> Lake:
    from alumicatalyst.lake import Lake
    from alumicatalyst.settings import load_settings

    lake = load_settings(lake__uri=uri).lake
    return Lake.open(lake.uri, credential=lake.credential, create=False)


def _print_rows(batches: Iterator[pa.RecordBatch]) -> None:
    """Print the first rows so that nothing of them is cut: as a table, or where a terminal is too narrow, one by one.

    Off a terminal the table is as wide as its rows are.
    """
    from rich.console import Console

    names: list[str] = []
    shown: list[list[str]] = []
    count = 0
    for batch in batches:
        names = batch.schema.names
        rows = batch.slice(0, max(0, _ROWS_SHOWN_MAX - count)).to_pylist()
        shown += [["" if value is None else _text(value) for value in row.values()] for row in rows]
        count += batch.num_rows
    console = Console(highlight=False)
    if names:
        table = _table(names, shown)
        width = console.measure(table, options=console.options.update(max_width=_COLUMNS_MAX)).maximum
        if width > console.width and console.is_terminal:
            _print_one_by_one(console, names, shown)
        else:
            Console(width=max(width, 1), highlight=False).print(table)
    more = f" ({_ROWS_SHOWN_MAX} shown; --csv or --json prints all)" if count > _ROWS_SHOWN_MAX else ""
    console.print(f"{count:,} row{'' if count == 1 else 's'}{more}")


def _table(names: list[str], rows: list[list[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    for name in names:
        table.add_column(Text(name), no_wrap=True, overflow="ignore")
    for row in rows:
        # As Text, since what devices send may look like markup.
        table.add_row(*(Text(value) for value in row))
    return table


def _print_one_by_one(console: Console, names: list[str], rows: list[list[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    for number, row in enumerate(rows, 1):
        console.rule(f"row {number:,}", align="left")
        pairs = Table.grid(padding=(0, 2))
        pairs.add_column(no_wrap=True)
        pairs.add_column(overflow="fold")
        for name, value in zip(names, row, strict=True):
            pairs.add_row(Text(name, "bold"), Text(value))
        console.print(pairs)


def _print_csv(batches: Iterator[pa.RecordBatch]) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    for at, batch in enumerate(batches):
        if at == 0:
            writer.writerow(batch.schema.names)
        for row in batch.to_pylist():
            writer.writerow("" if value is None else _text(value) for value in row.values())


def _print_report(report: Report) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    table = Table(*report.tables[0], box=box.SIMPLE)
    for row in report.tables:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else _text(value) for value in row.values()))
    console.print(table)
    for row in report.partitions:
        console.print(escape(_PARTITION.format(**row, states_text=_text(row["states"]) or "none")))
    for check in report.checks:
        if check.wrong is None:
            console.print(f"[yellow]not asked[/]  {escape(check.name)}: files are damaged")
        elif check.wrong:
            console.print(f"[red]wrong[/]      {escape(check.name)}: {check.wrong:,} times")
            for example in check.examples:
                console.print(f"           {escape(example)}")
        else:
            console.print(f"[green]ok[/]         {escape(check.name)}")


def _text(value: Any) -> str:
    from datetime import datetime

    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, list):
        return ", ".join(_text(each) for each in value)
    return str(value)

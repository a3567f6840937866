"""`alumicatalyst lake query`: one SELECT over the lake, printed, or written to a file that is whole or not there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from alumicatalyst.cli.lake_shown import Config, Json, Uri, open_lake, text

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa
    from rich.console import Console
    from rich.table import Table

_ROWS_SHOWN_MAX = 200
_COLUMNS_MAX = 1_000_000


def query(
    sql: Annotated[str, typer.Argument(help="One SELECT; tables go by their names.")],
    uri: Uri = None,
    config: Config = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="Write to this file; its ending tells the format. - prints.")
    ] = "-",
    as_of: Annotated[
        list[str] | None,
        typer.Option("--as-of", help="An RFC 3339 time, or TABLE@VERSION; repeat it for several tables."),
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV with a header.")] = False,
    as_parquet: Annotated[bool, typer.Option("--parquet", help="Parquet.")] = False,
    as_arrow: Annotated[bool, typer.Option("--arrow", help="An Arrow IPC stream.")] = False,
) -> None:
    """Run one reading SQL statement (DuckDB's dialect) over the lake's tables.

    Tables: readings, windows, alarms, rejected, batches, journal. Rows are visible as soon as they are committed; for a
    cut on which all tables agree stop at the last_sequence of batches. A table is printed up to 200 rows, one row under
    another where the terminal is too narrow; every other format holds all rows. A file gets its name when it is
    complete and replaces one of that name; its ending (.csv, .json, .parquet, .arrow) tells the format where no option
    does.

    --as-of TIME shows every table as of the newest commit at or before that time: what batches had sealed by then is
    there whole, and rows above may be, as they are for a reader of the present. --as-of readings@120 shows that version
    of that table and the newest of the others; a plain number is the version of the only table in the query. Versions
    that were read are named on standard error in the form that --as-of takes.

    Examples:

        alumicatalyst lake query "SELECT outcome, count(*) FROM readings GROUP BY outcome"

        alumicatalyst lake query --csv "SELECT * FROM windows WHERE device = 'pot-017'" > windows.csv

        alumicatalyst lake query -o november.parquet "SELECT * FROM windows WHERE date >= '2026-11-01'"

        alumicatalyst lake query --as-of 2026-11-21T06:00:00Z "SELECT count(*) FROM readings"
    """
    from alumicatalyst.cli import lake_export as export
    from alumicatalyst.lake import as_of as past
    from alumicatalyst.lake.query import reading

    wanted = {"json": as_json, "csv": as_csv, "parquet": as_parquet, "arrow": as_arrow}
    form = export.format_of([name for name, is_wanted in wanted.items() if is_wanted], output)
    cut = past.parse(as_of) if as_of else None
    with reading(open_lake(uri, config), sql, cut) as rows:
        if cut is not None:
            print(f"as of {' '.join(rows.versions)}", file=sys.stderr)
        if form is None:
            _print_rows(rows.schema, rows)
        elif output == export.STANDARD_OUTPUT:
            export.to_standard_output(rows, form)
        else:
            export.to_file(rows, form, output)


def _print_rows(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Print the first rows so that nothing of them is cut: as a table, or where a terminal is too narrow, one by one.

    Off a terminal the table is as wide as its rows are.
    """
    from rich.console import Console

    names: list[str] = schema.names
    shown: list[list[str]] = []
    count = 0
    for batch in batches:
        rows = batch.slice(0, max(0, _ROWS_SHOWN_MAX - count)).to_pylist()
        shown += [["" if value is None else text(value) for value in row.values()] for row in rows]
        count += batch.num_rows
    console = Console(highlight=False)
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

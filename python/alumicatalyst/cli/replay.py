"""`alumicatalyst replay`: store the readings of files, as if they had come from a hub."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alumicatalyst.cli.progress import progress

if TYPE_CHECKING:
    from alumicatalyst.operator import Analysed
    from alumicatalyst.sources.replay import ReplaySource

_OUTCOMES = ("windowed", "late", "duplicate", "rejected")
_NAME_MAX = 64


def replay(
    files: Annotated[
        list[Path], typer.Argument(help=".csv, .tsv, .ndjson or .parquet, in order; .gz but for Parquet.")
    ],
    dictionary: Annotated[
        Path | None, typer.Option("--dictionary", "-d", help="What the columns mean; the setting dictionary otherwise.")
    ] = None,
    lake: Annotated[str | None, typer.Option(help="Where to store; the setting lake.uri otherwise.")] = None,
    name: Annotated[
        str | None, typer.Option(help="The source's name in the lake; the first file's name otherwise.")
    ] = None,
    utc_offset: Annotated[
        str | None, typer.Option(help="What times without an offset are taken for: Z, or such as +02:00.")
    ] = None,
    time_column: Annotated[
        str | None, typer.Option("--time", help="The column with the event time, if the dictionary names another.")
    ] = None,
    enqueued: Annotated[
        str | None, typer.Option(help="The column that says when a row arrived; else the newest event time so far.")
    ] = None,
    partitions: Annotated[int, typer.Option(min=1, max=1024, help="Spread devices over so many partitions.")] = 1,
    separator: Annotated[str | None, typer.Option(help="Between the cells of a CSV; guessed otherwise.")] = None,
    no_flush: Annotated[
        bool, typer.Option("--no-flush", help="Leave the last windows open: more will follow.")
    ] = False,
    accept_dictionary: Annotated[
        bool, typer.Option("--accept-dictionary", help="Take a changed dictionary into force, from the mark on.")
    ] = False,
    accept_incarnation: Annotated[
        bool, typer.Option("--accept-incarnation", help="Take other files under a name that the lake knows.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Store the readings of CSV, NDJSON or Parquet files.

    Each row becomes one envelope with the file's column names; the dictionary says which of them are device, time and
    metrics. Calling it again continues where it ended: add files behind those that are stored. Ctrl-C ends in order.

    They go into the lake alone, whatever api.url says: operators have no use for alarms of the past.

    [bold]Examples[/bold]

    alumicatalyst dictionary init measurements.csv > measurements.toml

    alumicatalyst replay measurements.csv --dictionary measurements.toml --lake file:var/measurements

    alumicatalyst replay night.csv day.csv -d plant.toml --utc-offset +02:00 --separator ";"
    """
    from alumicatalyst import log
    from alumicatalyst.dictionary import load
    from alumicatalyst.lake import Lake
    from alumicatalyst.pipeline import Pipeline
    from alumicatalyst.runner import run_loop
    from alumicatalyst.settings import load_settings
    from alumicatalyst.sources.replay import ReplaySource

    settings = load_settings(lake__uri=lake, dictionary=dictionary)
    log.configure(settings.log_format, level=30)
    compiled = load(settings.dictionary)
    source = ReplaySource(
        files,
        compiled,
        name=name or _name_of(files[0]),
        utc_offset=utc_offset,
        time_column=time_column,
        enqueued_column=enqueued,
        partitions=partitions,
        separator=separator,
        batch_envelopes_max=settings.source.batch_envelopes_max,
        batch_bytes_max=settings.source.batch_bytes_max,
    )
    store = Lake.open(settings.lake.uri, credential=settings.lake.credential, patience_s=settings.lake.patience_s)
    pipeline = Pipeline(
        source,
        compiled,
        store,
        flush_at_end=not no_flush,
        flush_interval_s=settings.lake.flush_interval_s,
        flush_rows_max=settings.lake.flush_rows_max,
        state_interval_s=settings.lake.state_interval_s,
        in_flight_batches_max=settings.runner.in_flight_batches_max,
        accept_dictionary=accept_dictionary,
        accept_incarnation=accept_incarnation,
    )
    pipeline.drain_on_signals()
    sums: Counter[str] = Counter()
    began = time.monotonic()
    with progress("reading", quiet=as_json) as show:

        def count(item: Analysed) -> None:
            _add(sums, item)
            if show is not None:
                show(lambda elapsed: _so_far(sums, elapsed))

        run_loop(pipeline, on_item=count)
    summary = {
        "ok": True,
        "finished": not pipeline.draining,
        **{outcome: sums[outcome] for outcome in _OUTCOMES},
        "readings": sum(sums[outcome] for outcome in _OUTCOMES),
        "windows": sums["windows"],
        "alarms": sums["alarms"],
        "envelopes": sums["envelopes"],
        "unreadable": source.unreadable,
        "partitions": source.partitions(),
        "lake": settings.lake.uri,
        "seconds": round(time.monotonic() - began, 3),
    }
    print(json.dumps(summary) if as_json else _report(summary, source))


def _name_of(file: Path) -> str:
    """Return the name of a file as the first part of a partition's identity."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", file.name.partition(".")[0]).strip("-")[:_NAME_MAX] or "replay"


def _add(sums: Counter[str], item: Analysed) -> None:
    import pyarrow.compute as pc

    output = item.output
    if output is None:
        return
    for outcome in _OUTCOMES:
        sums[outcome] += pc.sum(output.counts.column(f"rows_{outcome}")).as_py() or 0
    sums["envelopes"] += output.counts.num_rows
    sums["windows"] += output.windows.num_rows
    sums["alarms"] += output.alarms.num_rows


def _so_far(sums: Counter[str], elapsed: float) -> str:
    parts = ", ".join(f"{sums[outcome]:,} {outcome}" for outcome in _OUTCOMES)
    return f"{sums['envelopes']:,} rows ({sums['envelopes'] / elapsed:,.0f}/s): {parts}"


def _report(summary: dict[str, Any], source: ReplaySource) -> str:
    parts = ", ".join(f"{summary[outcome]:,} {outcome}" for outcome in _OUTCOMES)
    lines = [
        f"{summary['readings']:,} readings = {parts}; {summary['windows']:,} windows, in {summary['seconds']:g} s",
        f"stored in {summary['lake']} as {', '.join(summary['partitions'])}",
    ]
    if not summary["envelopes"]:
        lines[0] = f"nothing new in {len(source.files)} file(s): all their rows are stored"
    if not summary["finished"]:
        lines.append("stopped before the end; the same command continues")
    if summary["unreadable"]:
        lines.append(f"{summary['unreadable']:,} rows could not be taken apart; they are among the rejected")
    if summary["rejected"]:
        question = "SELECT reason, count(*), any_value(detail) FROM rejected GROUP BY reason"
        lines.append(f'why they were rejected: alumicatalyst lake query --lake {summary["lake"]} "{question}"')
    question = "SELECT device, metric, window_start, count, mean FROM windows LIMIT 20"
    lines.append(f'next: alumicatalyst lake query --lake {summary["lake"]} "{question}"')
    return "\n".join(lines)

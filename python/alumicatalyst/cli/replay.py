"""`alumicatalyst replay`: store the readings of files or of another lake, as if they had come from a hub."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alumicatalyst.cli.progress import progress
from alumicatalyst.cli.replay_report import Tally, report

if TYPE_CHECKING:
    from alumicatalyst._core import Dictionary
    from alumicatalyst.lake import Lake
    from alumicatalyst.settings import Settings
    from alumicatalyst.sources import FiniteSource

_NAME_MAX = 64
_CAPTURED = ".avro"


def replay(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help=".csv, .tsv, .ndjson or .parquet, in order; .gz but for Parquet. Or Capture's .avro."),
    ] = None,
    dictionary: Annotated[
        Path | None, typer.Option("--dictionary", "-d", help="What the columns mean; the setting dictionary otherwise.")
    ] = None,
    lake: Annotated[
        str | None, typer.Option("--lake", "--into", help="Where to store; the setting lake.uri otherwise.")
    ] = None,
    from_lake: Annotated[
        str | None, typer.Option("--from-lake", help="Analyse what this lake has stored anew; a path or an address.")
    ] = None,
    same_dictionary: Annotated[
        bool, typer.Option("--same-dictionary", help="From a lake: go through its own dictionaries, in their places.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--partition", help="From a lake: only this partition; several times for more.")
    ] = None,
    accept_missing: Annotated[
        bool, typer.Option("--accept-missing", help="From a lake: replay what is left where rows have expired.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="The source's name in the lake; the first file's or the hub's otherwise.")
    ] = None,
    incarnation: Annotated[
        str | None, typer.Option(help="Captured files: the hub's creation time, as in its live lake's partitions.")
    ] = None,
    accept_gaps: Annotated[
        bool, typer.Option("--accept-gaps", help="Captured files: go on where sequence numbers are missing.")
    ] = False,
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
        bool, typer.Option("--no-flush", help="Leave the last windows open: more will follow. A lake's always are.")
    ] = False,
    accept_dictionary: Annotated[
        bool, typer.Option("--accept-dictionary", help="Take a changed dictionary into force, from the mark on.")
    ] = False,
    accept_incarnation: Annotated[
        bool, typer.Option("--accept-incarnation", help="Take other files under a name that the lake knows.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Store the readings of CSV, NDJSON or Parquet files, of Event Hubs Capture's files, or of another lake.

    Each row of a file becomes one envelope with the file's column names; the dictionary says which of them are device,
    time and metrics. Calling it again continues where it ended: add files behind those that are stored. Ctrl-C ends in
    order, and after a crash the same command goes on.

    Captured events keep the hub's partitions and sequence numbers. A lake's stored readings keep theirs, so that both
    lakes can be joined row by row; all but decoding is done anew, and under the same dictionary it gives the same rows.

    They go into the lake alone, whatever api.url says: operators have no use for alarms of the past.

    [bold]Examples[/bold]

    alumicatalyst dictionary init measurements.csv > measurements.toml

    alumicatalyst replay measurements.csv --dictionary measurements.toml --lake file:var/measurements

    alumicatalyst replay night.csv day.csv -d plant.toml --utc-offset +02:00 --separator ";"

    alumicatalyst replay capture/**/*.avro -d plant.toml --into file:var/again

    alumicatalyst replay --from-lake var/lake -d new.toml --into file:var/what-if
    """
    from alumicatalyst import log
    from alumicatalyst.dictionary import load
    from alumicatalyst.errors import InputError
    from alumicatalyst.lake import Lake
    from alumicatalyst.settings import load_settings

    given = files or []
    captured = [file.suffix.lower() == _CAPTURED for file in given]
    if any(captured) and not all(captured):
        raise InputError("couldn't replay captured files and others together; give them in two calls")
    kind = "lake" if from_lake else "capture" if any(captured) else "files"
    if kind == "lake" and given:
        raise InputError(f"couldn't replay {given[0]} and a lake together; give them in two calls")
    _refuse_options(
        kind,
        {
            ("files",): {"--time": time_column, "--enqueued": enqueued, "--utc-offset": utc_offset}
            | {"--separator": separator, "--partitions": partitions > 1},
            ("capture",): {"--incarnation": incarnation, "--accept-gaps": accept_gaps},
            ("files", "capture"): {"--name": name, "--accept-incarnation": accept_incarnation},
            ("lake",): {"--same-dictionary": same_dictionary, "--partition": only, "--accept-missing": accept_missing},
        },
    )
    settings = load_settings(lake__uri=lake, dictionary=dictionary)
    log.configure(settings.log_format, level=30)
    if from_lake:
        if same_dictionary and dictionary is not None:
            raise InputError("couldn't use --dictionary with --same-dictionary; give one of them")
        _from_lake(settings, from_lake, only or [], same_dictionary, accept_missing, accept_dictionary, as_json)
        return
    compiled = load(settings.dictionary)
    bounds = {
        "batch_envelopes_max": settings.source.batch_envelopes_max,
        "batch_bytes_max": settings.source.batch_bytes_max,
    }
    accept = {"accept_dictionary": accept_dictionary, "accept_incarnation": accept_incarnation}
    nothing = f"nothing new in {len(given)} file(s): all their rows are stored"
    if kind == "capture":
        from alumicatalyst.sources.capture import CaptureSource

        captures = CaptureSource(given, compiled, name=name, incarnation=incarnation, accept_gaps=accept_gaps, **bounds)
        tally = Tally("events", lambda: captures.rows)
        store = Lake.open(settings.lake.uri, credential=settings.lake.credential)
        summary = _run(settings, captures, compiled, store, tally, as_json, flush_at_end=not no_flush, **accept)
    else:
        from alumicatalyst.sources.replay import ReplaySource

        source = ReplaySource(
            given,
            compiled,
            name=name or (_name_of(given[0]) if given else "replay"),
            utc_offset=utc_offset,
            time_column=time_column,
            enqueued_column=enqueued,
            partitions=partitions,
            separator=separator,
            **bounds,
        )
        store = Lake.open(settings.lake.uri, credential=settings.lake.credential)
        summary = _run(settings, source, compiled, store, Tally(), as_json, flush_at_end=not no_flush, **accept)
        summary["unreadable"] = source.unreadable
    print(json.dumps(summary) if as_json else report(summary, nothing))


def _from_lake(
    settings: Settings,
    uri: str,
    partitions: list[str],
    same_dictionary: bool,
    accept_missing: bool,
    accept_dictionary: bool,
    as_json: bool,
) -> None:
    from alumicatalyst.dictionary import load
    from alumicatalyst.errors import InputError
    from alumicatalyst.lake import Lake
    from alumicatalyst.sources.stored import StoredSource, check_target

    address = uri if re.match(r"(file:|[a-z]+://)", uri) else f"file:{uri}"
    former = Lake.open(address, credential=settings.lake.credential, create=False)
    if address == settings.lake.uri:
        raise InputError(f"couldn't replay a lake into itself: {address}; give another one with --into")
    compiled = None if same_dictionary else load(settings.dictionary)
    source = StoredSource(former, compiled, partitions=partitions, accept_missing=accept_missing)
    store = Lake.open(settings.lake.uri, credential=settings.lake.credential)
    check_target(source, store)
    tally = Tally("readings", lambda: source.rows)
    summary = _run(
        settings,
        source,
        compiled or source.first_dictionary,
        store,
        tally,
        as_json,
        flush_at_end=False,
        accept_dictionary=accept_dictionary,
    )
    summary |= {"from": address, "unsure": source.unsure, "losses": source.losses}
    print(json.dumps(summary) if as_json else report(summary, f"nothing new in {address}: all its rows are replayed"))


def _run(
    settings: Settings,
    source: FiniteSource,
    dictionary: Dictionary,
    store: Lake,
    tally: Tally,
    as_json: bool,
    **given: Any,
) -> dict[str, Any]:
    """Run the flow over a source until it ends, and say what it came to."""
    from alumicatalyst.pipeline import Pipeline
    from alumicatalyst.runner import run_loop

    pipeline = Pipeline(
        source,
        dictionary,
        store,
        flush_interval_s=settings.lake.flush_interval_s,
        flush_rows_max=settings.lake.flush_rows_max,
        state_interval_s=settings.lake.state_interval_s,
        in_flight_batches_max=settings.runner.in_flight_batches_max,
        **given,
    )
    pipeline.drain_on_signals()
    began = time.monotonic()
    with progress("reading", quiet=as_json) as show:

        def count(item: Any) -> None:
            tally.add(item)
            if show is not None:
                show(tally.so_far)

        run_loop(pipeline, on_item=count)
    return tally.summary(
        finished=not pipeline.draining,
        partitions=source.partitions(),
        lake=settings.lake.uri,
        seconds=time.monotonic() - began,
    )


def _refuse_options(kind: str, options: dict[tuple[str, ...], dict[str, Any]]) -> None:
    """Refuse what has no meaning for this kind of input, rather than pass it over."""
    from alumicatalyst.errors import InputError

    words = {"files": "CSV, NDJSON and Parquet files", "capture": "captured .avro files", "lake": "--from-lake"}
    for kinds, given in options.items():
        wrong = [option for option, value in given.items() if value]
        if wrong and kind not in kinds:
            raise InputError(
                f"couldn't use {wrong[0]} here: it is for {' and '.join(words[each] for each in kinds)}; leave it out"
            )


def _name_of(file: Path) -> str:
    """Return the name of a file as the first part of a partition's identity."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", file.name.partition(".")[0]).strip("-")[:_NAME_MAX] or "replay"

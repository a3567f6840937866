"""`alumicatalyst dictionary`: draft a data dictionary, check it, and see what a change does to running state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alumicatalyst.dictionary import Diff


def init(
    file: Annotated[Path, typer.Argument(help="A CSV, NDJSON or Parquet file of readings.", metavar="FILE")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; standard output if absent.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="The column that holds the event time.")] = None,
    device: Annotated[str | None, typer.Option(help="The column that holds the device.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Draft a dictionary from a file of readings, for you to correct.

    Examples:

        alumicatalyst dictionary init pump.csv -o pump.toml

        alumicatalyst dictionary init plant.parquet --time sampled_at --device press
    """
    from alumicatalyst.draft import draft
    from alumicatalyst.errors import InputError

    text = draft(file, time=time, device=device)
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        with output.open("w" if force else "x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError as error:
        raise InputError(
            f"couldn't write the draft: {output} exists; name another, or replace it with --force"
        ) from error
    except OSError as error:
        raise InputError(f"couldn't write the draft: {output}: {error.strerror}; name another place") from error
    typer.echo(f"wrote {output}; correct it, then: alumicatalyst dictionary check {output}", err=True)


def check(
    file: Annotated[Path, typer.Argument(help="A dictionary.", metavar="FILE")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check a dictionary: every problem with its line, then what is allowed but unwise.

    Examples:

        alumicatalyst dictionary check flows/smelter.toml

        alumicatalyst dictionary check flows/smelter.toml --json
    """
    import json

    from alumicatalyst import dictionary as dictionaries
    from alumicatalyst.errors import DictionaryError

    try:
        loaded = dictionaries.load(file)
    except DictionaryError as error:
        if not as_json:
            raise
        typer.echo(json.dumps({"ok": False, "problems": error.problems, "warnings": []}, ensure_ascii=False))
        raise typer.Exit(2) from None
    warnings = dictionaries.check(loaded)
    compiled = json.loads(loaded.to_json())
    devices = {series["device"] for series in compiled["series"]}
    if as_json:
        facts: dict[str, Any] = {"name": loaded.name, "version": loaded.version, "sha256": loaded.sha256}
        facts |= {"series": len(compiled["series"]), "devices": len(devices)}
        typer.echo(json.dumps({"ok": True, "problems": [], "warnings": warnings, **facts}, ensure_ascii=False))
        return
    rows = [
        ("name", f"{loaded.name}, version {loaded.version}"),
        ("series", f"{len(compiled['series'])} of {len(devices)} devices"),
        ("SHA-256", loaded.sha256),
    ]
    _print_table([], rows)
    for warning in warnings:
        typer.echo(f"warning: {warning}")
    typer.echo("no problems" if not warnings else f"no problems, {len(warnings)} warnings")


def diff(
    old: Annotated[
        Path, typer.Argument(help="The dictionary in use; also the compiled form that the lake keeps.", metavar="OLD")
    ],
    new: Annotated[Path, typer.Argument(help="The dictionary to come.", metavar="NEW")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a change of dictionary does to running state: kept, reset, new, removed.

    Examples:

        alumicatalyst dictionary diff flows/smelter.toml next.toml

        alumicatalyst dictionary diff var/lake/_dictionaries/4a5ca631.json next.toml --json
    """
    from alumicatalyst import dictionary as dictionaries

    found = dictionaries.diff(dictionaries.load(old), dictionaries.load(new))
    if as_json:
        _print_diff_json(found)
        return
    if found.old_sha256 == found.new_sha256:
        typer.echo("no difference: both have the SHA-256 " + found.old_sha256)
        return
    for line in found.general:
        typer.echo(line)
    rows = [(state, _devices(devices), metric, "; ".join(what)) for state, metric, what, devices in found.groups()]
    if rows:
        _print_table(["state", "devices", "metric", "what"], rows)
    typer.echo(", ".join(f"{count} {state}" for state, count in found.counts().items()))


def _print_diff_json(found: Diff) -> None:
    import json
    from dataclasses import asdict

    groups = [dict(zip(("state", "metric", "what", "devices"), group, strict=True)) for group in found.groups()]
    whole: dict[str, Any] = asdict(found) | {"series": found.counts(), "changes": groups}
    typer.echo(json.dumps(whole, ensure_ascii=False))


def _devices(devices: list[str]) -> str:
    from alumicatalyst.draft.machine import patterns

    return ", ".join(patterns(devices))


def _print_table(titles: list[str], rows: Sequence[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD if titles else None, show_header=bool(titles), pad_edge=False)
    for title in titles or [""] * len(rows[0]):
        table.add_column(title, overflow="fold")
    for row in rows:
        # Names from a dictionary are text, never markup.
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)

"""How the ledger's commands show what a verification found."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alumicatalyst.ledger.evidence import Proven
    from alumicatalyst.ledger.verify_report import Findings, Report


def print_report(report: Report, *, strict: bool, as_json: bool) -> None:
    """Print a report: differences first, each with its place."""
    if as_json:
        print(json.dumps(report.as_dict(strict=strict), ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(soft_wrap=True, highlight=False)
    figures = ", ".join(f"{count:,} {name}" for name, count in report.figures.items() if count)
    signed = "no signed checkpoint" if report.size is None else f"{report.size:,} entries signed, root {report.root}"
    console.print(escape(f"{report.origin}: {signed}"))
    console.print(escape(f"looked at {figures or 'nothing'}"))
    kinds: list[tuple[str, str, Findings]] = [
        ("red", "wrong", report.wrong),
        ("yellow", "pending", report.pending),
        ("yellow", "unclaimed", report.unclaimed),
        ("yellow", "note", report.notes),
    ]
    for colour, name, found in kinds:
        for each in found.first:
            console.print(f"[{colour}]{name:<9}[/]  {escape(each.text())}")
        if found.count > len(found.first):
            console.print(f"[{colour}]{name:<9}[/]  and {found.count - len(found.first):,} more")
    console.print("[green]ok[/]" if report.is_ok(strict=strict) else "[red]not what was signed[/]")


def print_proof(found: Proven, *, as_json: bool) -> None:
    """Print what a proof proves."""
    told = _proof(found)
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(soft_wrap=True, highlight=False)
    if found.row is not None:
        console.print(f"[green]proven[/]  a row of {found.entry.table}")
        width = max(map(len, found.row))
        for name, value in told["row"].items():
            console.print(escape(f"  {name:<{width}}  {'' if value is None else value}"))
        console.print(escape(f"as row {found.number} of what was written as {told['file']}, with"))
    else:
        console.print(f"[green]proven[/]  the commit {found.entry.name}")
    for line in found.entry.data().decode().splitlines()[1:]:
        console.print(escape(f"  {line}"))
    console.print(f"as entry {found.index} of the log that was signed with this checkpoint")
    for line in found.checkpoint.text().splitlines():
        console.print(escape(f"  {line}"))
    console.print(escape(f"by {found.vkey.text()}"))


def _proof(found: Proven) -> dict[str, Any]:
    told: dict[str, Any] = {
        "ok": True,
        "table": found.entry.table,
        "version": found.entry.version,
        "index": found.index,
        "entry": found.entry.data().decode(),
        "checkpoint": found.checkpoint.text(),
        "vkey": found.vkey.text(),
    }
    if found.row is not None and found.batch is not None:
        told |= {"file": found.batch.path, "number": found.number}
        told["row"] = {name: _value(value) for name, value in found.row.items()}
    return told


def _value(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat().replace("+00:00", "Z")
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value

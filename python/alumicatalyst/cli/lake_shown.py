"""What the commands over a lake share: the options that name it, how it is opened to be read, and a value as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from alumicatalyst.lake.lake import Lake

Uri = Annotated[str | None, typer.Option("--lake", help="The lake's address; without it lake.uri of the settings.")]
Ledger = Annotated[str | None, typer.Option("--ledger", help="The log's folder; the setting ledger.uri otherwise.")]
Config = Annotated[Path | None, typer.Option("--config", help="Settings file; ./alumicatalyst.toml otherwise.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done; nothing is written.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON: one document, or one object a row or line.")]


def open_lake(uri: str | None, config: Path | None) -> Lake:
    """Open the lake of the option or the settings to read it; nothing is made."""
    from alumicatalyst.lake import Lake
    from alumicatalyst.settings import load_settings

    lake = load_settings(config, lake__uri=uri).lake
    return Lake.open(lake.uri, credential=lake.credential, create=False)


def text(value: Any) -> str:
    """Return a value as a person reads it: times in RFC 3339, bytes as the text that they mostly are."""
    from datetime import datetime

    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, list):
        return ", ".join(text(each) for each in value)
    return str(value)

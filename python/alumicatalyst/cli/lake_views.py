"""`alumicatalyst lake views`: the T-SQL by which Synapse serverless and Fabric show the lake."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from alumicatalyst.cli.lake_shown import Config, Uri


def views(
    dialect: Annotated[Literal["synapse", "fabric"], typer.Option(help="Whose T-SQL.")],
    uri: Uri = None,
    config: Config = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the scripts into this folder instead of printing them.")
    ] = None,
) -> None:
    """Print T-SQL that makes typed views of the lake's tables, and views for reports on top.

    They are made from this version's schemas; neither the lake nor any service is asked. Run the scripts in their
    order. Placeholders in <> stand for what this program does not know; there is no secret in them.

    Examples:

        alumicatalyst lake views --dialect synapse --output sql

        alumicatalyst lake views --dialect fabric --lake abfss://telemetry@plant.dfs.core.windows.net/north
    """
    from alumicatalyst.errors import InputError
    from alumicatalyst.lake.views import scripts
    from alumicatalyst.settings import load_settings

    made = scripts(dialect, load_settings(config, lake__uri=uri).lake.uri)
    if output is None:
        print("\n".join(made.values()), end="")
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            (output / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"couldn't write the scripts: {output}: {error.strerror}; name a folder that you may write to"
        ) from error
    print(f"{', '.join(made)} in {output}")

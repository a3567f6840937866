"""`alumicatalyst run`: read the source, analyse it and store the rows, until told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alumicatalyst.cli.lake_shown import Config


def run(
    runner: Annotated[str | None, typer.Option(help="bytewax or loop; the setting runner.kind otherwise.")] = None,
    workers: Annotated[int, typer.Option("-w", "--workers", min=1, help="Bytewax worker threads.")] = 1,
    config: Config = None,
    lake: Annotated[str | None, typer.Option(help="The setting lake.uri.")] = None,
    dictionary: Annotated[Path | None, typer.Option(help="The setting dictionary.")] = None,
    accept_dictionary: Annotated[
        bool, typer.Option("--accept-dictionary", help="Take a changed dictionary into force, from the mark on.")
    ] = False,
    accept_state_loss: Annotated[
        bool, typer.Option("--accept-state-loss", help="Go on where the log that a replay needs has expired.")
    ] = False,
    accept_incarnation: Annotated[
        bool, typer.Option("--accept-incarnation", help="Take a hub that was made anew for what it is.")
    ] = False,
    flow: Annotated[str, typer.Option(help="Module of the Bytewax dataflow, from the working folder.")] = (
        "flows.telemetry"
    ),
) -> None:
    """Read the source, analyse it and store the rows, until told to stop.

    SIGTERM and Ctrl-C drain: what was read is committed and the state written, within seconds. A second one ends at
    once, which loses nothing either; it only makes the next start read a little again.

    Examples:

        alumicatalyst run

        alumicatalyst run --runner loop --lake file:var/other-lake

        alumicatalyst run --accept-dictionary       # after `alumicatalyst dictionary diff`
    """
    from alumicatalyst import log, metrics
    from alumicatalyst.pipeline import Pipeline
    from alumicatalyst.settings import load_settings

    settings = load_settings(config, runner__kind=runner, lake__uri=lake, dictionary=dictionary)
    log.configure(settings.log_format)
    pipeline = Pipeline.from_settings(
        settings,
        accept_dictionary=accept_dictionary,
        accept_state_loss=accept_state_loss,
        accept_incarnation=accept_incarnation,
    )
    stop_metrics = metrics.serve(settings.runner.metrics_port)
    try:
        match settings.runner.kind:
            case "loop":
                from alumicatalyst.runner import run_loop

                pipeline.drain_on_signals()
                run_loop(pipeline)
            case "bytewax":
                run_bytewax(pipeline, flow, workers)
    finally:
        stop_metrics()


def run_bytewax(pipeline: object, flow: str, workers: int) -> None:
    """Run a dataflow module with Bytewax, and raise what stopped it as what it was."""
    import importlib
    import sys

    from bytewax.run import cli_main

    from alumicatalyst.errors import AlumicatalystError, SettingsError

    # The flow is an application of the checkout, not part of the package.
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(flow)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"couldn't find the dataflow: {flow}; start in the folder that holds it, or use --runner loop"
        ) from error
    try:
        cli_main(module.flow(pipeline), workers_per_process=workers)
    except Exception as error:
        # Bytewax wraps what a step raised in errors of its own.
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, AlumicatalystError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise

"""The dataflow: envelopes from the source's partitions, through the core, to the API and into the lake.

    devices -> Event Hubs -> input -> analyse -> alerts -> lake
                                                 |
                                                 v
                                                API

Run it from the project's root, where `alumicatalyst.toml` or the environment says where everything is:

    python -m bytewax.run flows.telemetry         # -w 2 for two workers
"""

from __future__ import annotations

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from alumicatalyst import log, metrics
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.settings import load_settings
from alumicatalyst.steps import Input, Output, analyse, offer


def flow(pipeline: Pipeline | None = None) -> Dataflow:
    """Return the dataflow; without a pipeline, the one that the settings describe."""
    if pipeline is None:
        settings = load_settings()
        log.configure(settings.log_format)
        metrics.serve(settings.runner.metrics_port)
        pipeline = Pipeline.from_settings(settings)
    # SIGTERM ends the input, not the process: what was read is committed, and the state written.
    pipeline.drain_on_signals()

    dataflow = Dataflow("telemetry")
    # One item is a batch of envelopes of one partition, never a single reading.
    batches = op.input("input", dataflow, Input(pipeline))
    # All state belongs to the partition, and is kept where the partition is read: no item ever leaves its worker.
    analysed = op.flat_map_batch("analyse", batches, analyse(pipeline))
    # Alarms within milliseconds: offered to the API on a thread of its own, in line so that it is ahead of the commit.
    offered = op.flat_map_batch("alerts", analysed, offer(pipeline))
    # The commit point: rows first, then the seal of `batches`, then the state.
    op.output("lake", offered, Output(pipeline))
    return dataflow

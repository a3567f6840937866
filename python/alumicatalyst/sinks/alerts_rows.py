"""Rows as the API takes them: the core's columns, without the dictionaries that hold every name of a plant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from alumicatalyst.lake import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alumicatalyst.sinks.alerts_client import Kind


def plain_schema(kind: Kind) -> pa.Schema:
    """Return the columns of a kind as they are posted: its strings plain. The API checks what it gets by this too."""
    return pa.schema(
        pa.field(each.name, each.type.value_type if pa.types.is_dictionary(each.type) else each.type, each.nullable)
        for each in tables.columns(kind)
    )


def plain(kind: Kind, batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """Return outputs' rows as one table in one piece; of latest values only the newest of each series."""
    table = pa.Table.from_batches(batches, schema=tables.columns(kind)).cast(plain_schema(kind)).combine_chunks()
    if kind != "latest" or len(batches) < 2:
        return table
    # Outputs are in the order of the log, and of a series the newest came last.
    numbered = table.select(["device", "metric"]).append_column("at", pa.array(np.arange(table.num_rows)))
    kept = numbered.group_by(["device", "metric"], use_threads=False).aggregate([("at", "max")])
    return table.take(kept.column("at_max"))

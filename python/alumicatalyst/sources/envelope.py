"""Builds Arrow batches of envelopes from Python columns: the form in which every source hands over what it read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA: Final = pa.schema(
    [
        pa.field("body", pa.large_binary(), nullable=False),
        pa.field("sequence_number", pa.int64(), nullable=False),
        pa.field("offset", pa.string()),
        pa.field("enqueued_time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("properties", pa.map_(pa.string(), pa.string())),
    ]
)
_TIME: Final = SCHEMA.field("enqueued_time").type
_PROPERTIES: Final = SCHEMA.field("properties").type


def envelopes(
    bodies: Sequence[bytes],
    sequence_numbers: Sequence[int],
    enqueued_us: Sequence[int],
    offsets: Sequence[str | None] | None = None,
    properties: Sequence[Mapping[str, str] | None] | None = None,
) -> pa.RecordBatch:
    """Build a batch of envelopes of one partition.

    Args:
        bodies: The payloads.
        sequence_numbers: Rising.
        enqueued_us: Microseconds since 1970 UTC.
        offsets: The source's own words for the positions; None where it has none.
        properties: Those properties of each envelope that the dictionary reads, as text.

    Returns:
        A batch of `SCHEMA`; its columns are not slices of anything larger.

    Example:
        >>> envelopes([b"{}"], [0], [1_795_256_130_000_000]).num_rows
        1
    """
    count = len(bodies)
    columns = [
        pa.array(bodies, pa.large_binary()),
        pa.array(sequence_numbers, pa.int64()),
        pa.nulls(count, pa.string()) if offsets is None else pa.array(offsets, pa.string()),
        pa.array(enqueued_us, pa.int64()).cast(_TIME),
        pa.nulls(count, _PROPERTIES) if properties is None else pa.array(properties, _PROPERTIES),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


EMPTY: Final = envelopes([], [], [])

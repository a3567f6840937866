"""Delta checkpoints: the state of a table's log as one Parquet file, in the classic form that every reader knows."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from alumicatalyst.errors import LakeError
from alumicatalyst.lake.log import LogState, now_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

REMOVED_KEPT_MS = 7 * 86_400_000
"""Removed files are told in checkpoints for so long, as Delta's readers expect: vacuum keeps files no longer, since it
would not know any more when they were removed. A table that is flushed every ten seconds has 60,000 of them then."""


@cache
def _schema() -> pa.Schema:
    import pyarrow as pa

    texts = pa.map_(pa.string(), pa.string())
    file = [("path", pa.string()), ("partitionValues", texts), ("size", pa.int64())]
    return pa.schema(
        {
            "txn": pa.struct([("appId", pa.string()), ("version", pa.int64()), ("lastUpdated", pa.int64())]),
            "add": pa.struct(
                [
                    *file,
                    ("modificationTime", pa.int64()),
                    ("dataChange", pa.bool_()),
                    ("stats", pa.string()),
                    ("tags", texts),
                ]
            ),
            "remove": pa.struct(
                [
                    *file,
                    ("deletionTimestamp", pa.int64()),
                    ("dataChange", pa.bool_()),
                    ("extendedFileMetadata", pa.bool_()),
                    ("tags", texts),
                ]
            ),
            "metaData": pa.struct(
                [
                    ("id", pa.string()),
                    ("name", pa.string()),
                    ("description", pa.string()),
                    ("format", pa.struct([("provider", pa.string()), ("options", texts)])),
                    ("schemaString", pa.string()),
                    ("partitionColumns", pa.list_(pa.string())),
                    ("configuration", texts),
                    ("createdTime", pa.int64()),
                ]
            ),
            "protocol": pa.struct([("minReaderVersion", pa.int32()), ("minWriterVersion", pa.int32())]),
        }
    )


def encode(state: LogState) -> tuple[bytes, bytes]:
    """Return a checkpoint and what `_last_checkpoint` says of it; the state forgets what was removed long ago."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # That a file has changed data is for those who follow commits; in a checkpoint it is part of the table, or not.
    kinds: dict[str, list[dict[str, Any]]] = {
        "protocol": [state.protocol],
        "metaData": [state.metadata],
        "txn": list(state.transactions.values()),
        "add": [action | {"dataChange": False} for action in state.files.values()],
    }
    rows = [{kind: _told(action)} for kind, actions in kinds.items() for action in actions]
    gone = _forget_old(state)
    others = [each for each in _schema() if each.name != "remove"]
    nothing = {each.name: pa.nulls(len(gone), each.type) for each in others}
    removed = pa.table({**nothing, "remove": gone}).select(_schema().names)
    table = pa.concat_tables([pa.Table.from_pylist(rows, schema=_schema()), removed])
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="snappy", write_statistics=False)
    data = sink.getvalue().to_pybytes()
    pointer = {
        "version": state.version,
        "size": table.num_rows,
        "sizeInBytes": len(data),
        "numOfAddFiles": len(state.files),
    }
    return data, json.dumps(pointer, separators=(",", ":")).encode()


def decode(data: bytes, version: int, path: str, state: LogState) -> None:
    """Take a checkpoint, or a part of one, into a state.

    Raises:
        LakeError: It is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_schema(pa.BufferReader(data)).names
        wanted = [name for name in _schema().names if name in columns]
        # One thread: a pool of Arrow's that still works when Python ends can abort the process.
        found = pq.read_table(pa.BufferReader(data), columns=wanted, use_threads=False)
        for name in wanted:
            if name == "remove":
                state.removed_before = found.column(name).drop_null()
            else:
                for action in plain(found.column(name).drop_null()):
                    state.take(name, action)
    except (pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise LakeError(
            f"couldn't read the checkpoint {path}: {error}; remove it if the commits before it are still there, or "
            "restore it"
        ) from error
    # Whether files vanished before it, it does not tell: whoever holds one from before puts it again.
    state.version, state.vacuumed = version, version


def plain(column: pa.ChunkedArray) -> Iterator[dict[str, Any]]:
    """Yield actions as commits say them."""
    for action in column.to_pylist(maps_as_pydicts="strict"):
        yield {name: value for name, value in action.items() if value is not None}


def _forget_old(state: LogState) -> pa.ChunkedArray:
    """Keep what was removed as one column, without what was removed long ago: there may be ten thousand files a day."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = _schema().field("remove").type
    parts = [pa.array([_told(action | {"dataChange": False}) for action in state.removed.values()], kind)]
    if state.removed_before is not None:
        # Other writers tell more of a file than we do.
        before = state.removed_before.combine_chunks()
        before = pa.StructArray.from_arrays(
            [before.field(each.name).cast(each.type) for each in kind], fields=list(kind)
        )
        again = pc.is_in(before.field("path"), value_set=pa.array([*state.files, *state.removed], pa.string()))
        parts.append(before.filter(pc.invert(again)))
    column = pa.concat_arrays(parts)
    recent = pc.greater_equal(column.field("deletionTimestamp"), now_ms() - REMOVED_KEPT_MS)
    state.removed_before, state.removed = pa.chunked_array([column.filter(recent)]), {}
    return state.removed_before


def _told(action: dict[str, Any]) -> dict[str, Any]:
    """Return an action with its maps as lists of pairs, as Arrow takes them."""
    told: dict[str, Any] = {}
    for name, value in action.items():
        if isinstance(value, dict):
            told[name] = _told(value) if name == "format" else list(value.items())
        else:
            told[name] = value
    return told

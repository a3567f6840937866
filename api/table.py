"""Reads a posted table: Arrow IPC from outside, bounded before it is decoded and checked against the core's schema.

The core's schema is the only definition of a table. Strings may come plain or as a dictionary, the column `date` (the
lake's, derived from enqueued_time) may be there or not; out comes every other column, in order, with plain strings.
"""

import math
import struct
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from alumicatalyst.sinks.alerts_rows import plain_schema
from api.problems import Problem
from api.security.limits import Limits
from api.store import Kind

MEDIA_TYPE: Final = "application/vnd.apache.arrow.stream"
_FIRST_US: Final = -62_135_596_800_000_000
_LAST_US: Final = 253_402_300_799_999_999
_WORDS: Final[dict[str, frozenset[str]]] = {
    "transition": frozenset({"raised", "updated", "cleared"}),
    "priority": frozenset({"low", "medium", "high", "critical"}),
    "closed_by": frozenset({"watermark", "idle", "flush"}),
}
_LEAST: Final[dict[str, int]] = {"item": -1, "step": 0, "count": 1}
_ALARM_ID: Final = "^[0-9a-f]{32}$"
# Where the parts stand in the metadata of a message (format/Message.fbs and format/Schema.fbs of Apache Arrow).
_HEADER_TYPE, _HEADER = 1, 2
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_LENGTH, _COMPRESSION, _DATA = 0, 3, 1


class Span(NamedTuple):
    """What a post says of its rows: all are of this partition, with sequence numbers in (follows, last]."""

    partition: str
    follows: int
    last: int


def read_table(body: bytes | bytearray, kind: Kind, span: Span, limits: Limits) -> pa.Table:
    """Return the rows of a post.

    Args:
        body: An Arrow IPC stream, uncompressed.
        kind: Whose schema it has.
        span: What its rows have to fit.
        limits: Bounds on rows, batches and text.

    Raises:
        Problem: It is something else (422).
    """
    buffer = pa.py_buffer(body)
    try:
        _check_messages(buffer, limits)
        with pa.ipc.open_stream(buffer, options=pa.ipc.IpcReadOptions(use_threads=False)) as reader:
            wanted = plain_schema(kind)
            names = _check_columns(reader.schema, wanted, kind)
            table = reader.read_all()
        table.validate(full=True)
        plain = _plain(table.select(names), wanted, limits)
        _check_values(plain, wanted, span)
    except Problem:
        raise
    # What Arrow raises for damaged bytes: its own exceptions, and those of Python that it stands in for.
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, struct.error, OverflowError) as error:
        raise _bad(f"{str(error)[:200] or type(error).__name__}", "post an Arrow IPC stream") from error
    return plain


def _bad(fault: str, remedy: str) -> Problem:
    return Problem("bad-table", f"couldn't read the table: {fault}; {remedy}")


def _too_large(fault: str) -> Problem:
    """Return what makes a sender cut its post: bytes alone do not say how many rows there are."""
    return Problem("too-large", f"couldn't take the table: {fault}; cut it between two envelopes, and post the parts")


def _check_messages(buffer: pa.Buffer, limits: Limits) -> None:
    """Look at the messages without decoding any: how many, how many rows, and nothing compressed.

    A compressed buffer states its own size, so a small body could ask for all memory.
    """
    rows = 0
    for count, message in enumerate(pa.ipc.MessageReader.open_stream(buffer), 1):
        if count > limits.table_batches_max:
            raise _too_large(f"more than {limits.table_batches_max} messages")
        length = _record_length(bytes(message.metadata))
        if length is None:
            continue
        if length < 0:
            raise _bad(f"a batch says that it has {length} rows", "post an Arrow IPC stream")
        # A dictionary's values are bounded alike: it needs no more of them than there are rows.
        rows += length if message.type == "record batch" else 0
        if max(rows, length) > limits.table_rows_max:
            raise _too_large(f"more than {limits.table_rows_max} rows")


def _record_length(metadata: bytes) -> int | None:
    """Return how many rows a message states, or None for a schema.

    Raises:
        Problem: It is compressed.
    """
    root = _follow(metadata, 0)
    kind_at = _field(metadata, root, _HEADER_TYPE)
    header_at = _field(metadata, root, _HEADER)
    kind = metadata[kind_at] if kind_at else 0
    if not header_at or kind not in {_DICTIONARY_BATCH, _RECORD_BATCH}:
        return None
    batch = _follow(metadata, header_at)
    if kind == _DICTIONARY_BATCH:
        data_at = _field(metadata, batch, _DATA)
        if not data_at:
            return None
        batch = _follow(metadata, data_at)
    if _field(metadata, batch, _COMPRESSION):
        raise _bad("it is compressed", "write it with IpcWriteOptions(compression=None)")
    length_at = _field(metadata, batch, _LENGTH)
    return int(struct.unpack_from("<q", metadata, length_at)[0]) if length_at else 0


def _follow(data: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", data, at)[0])


def _field(data: bytes, table: int, index: int) -> int:
    """Return where a field of a flatbuffers table stands, 0 if it is absent."""
    vtable = table - int(struct.unpack_from("<i", data, table)[0])
    entry = 4 + 2 * index
    if vtable < 0 or entry + 2 > struct.unpack_from("<H", data, vtable)[0]:
        return 0
    offset = int(struct.unpack_from("<H", data, vtable + entry)[0])
    return table + offset if offset else 0


def _value_type(kind: pa.DataType) -> pa.DataType:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.string() if pa.types.is_large_string(value) else value


def _check_columns(schema: pa.Schema, wanted: pa.Schema, kind: Kind) -> list[str]:
    given = [name for name in schema.names if name != "date"]
    if len(set(given)) != len(given):
        raise _bad("a column comes twice", f"send the columns of {kind}: {', '.join(wanted.names)}")
    missing = [name for name in wanted.names if name not in given]
    extra = [name for name in given if name not in wanted.names]
    if missing or extra:
        faults = [f"{', '.join(missing)} missing"] * bool(missing) + [f"{', '.join(extra)[:200]} unknown"] * bool(extra)
        raise _bad(" and ".join(faults), f"send the columns of {kind}: {', '.join(wanted.names)}")
    for field in wanted:
        got = schema.field(field.name).type
        if _value_type(got) != field.type or (pa.types.is_dictionary(got) and not pa.types.is_string(field.type)):
            raise _bad(f"{field.name} has the type {str(got)[:80]}", f"send {field.type}")
    return list(wanted.names)


def _plain(table: pa.Table, wanted: pa.Schema, limits: Limits) -> pa.Table:
    """Return the table with its dictionaries written out, once it is known how much that is."""
    text_bytes = 0
    columns = []
    for field in wanted:
        column = table.column(field.name)
        if pa.types.is_string(field.type):
            text_bytes += sum(_text_bytes(chunk, field.name, limits) for chunk in column.chunks)
            if text_bytes > limits.table_text_bytes_max:
                raise _too_large(f"more than {limits.table_text_bytes_max} bytes of text")
            column = pa.chunked_array([_written_out(chunk) for chunk in column.chunks], pa.string())
        if not field.nullable and column.null_count:
            raise _bad(f"{field.name} is null in {column.null_count} rows", "send a value in every row")
        columns.append(column)
    return pa.table(columns, schema=wanted)


def _text_bytes(chunk: pa.Array, name: str, limits: Limits) -> int:
    is_dictionary = pa.types.is_dictionary(chunk.type)
    values = chunk.dictionary if is_dictionary else chunk
    lengths = pc.binary_length(values)
    longest = pc.max(lengths).as_py() or 0
    if longest > limits.text_bytes_max:
        raise _bad(f"{name} holds a text of {longest} bytes", f"send at most {limits.text_bytes_max}")
    return int(pc.sum(lengths.take(chunk.indices) if is_dictionary else lengths).as_py() or 0)


def _written_out(chunk: pa.Array) -> pa.Array:
    return (chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk).cast(pa.string())


def _check_values(table: pa.Table, wanted: pa.Schema, span: Span) -> None:
    for field in wanted:
        column = table.column(field.name)
        if pa.types.is_floating(field.type):
            _check_all(pc.is_finite(column), field.name, "is not finite", "send null, or a number")
        elif pa.types.is_timestamp(field.type):
            _check_range(column.cast(pa.int64()), field.name, _FIRST_US, _LAST_US)
        elif field.name in _LEAST:
            _check_range(column, field.name, _LEAST[field.name], math.inf)
        elif field.name in _WORDS:
            words = sorted(_WORDS[field.name])
            _check_all(
                pc.is_in(column, value_set=pa.array(words)), field.name, "is another word", f"send {', '.join(words)}"
            )
    if "alarm_id" in wanted.names:
        ids = pc.match_substring_regex(table.column("alarm_id"), _ALARM_ID)
        _check_all(ids, "alarm_id", "is no alarm id", "send 32 digits of lower-case hexadecimal")
    _check_all(
        pc.equal(table.column("partition"), span.partition), "partition", "is another", f"send {span.partition} alone"
    )
    _check_range(table.column("sequence_number"), "sequence_number", span.follows + 1, span.last)


def _check_all(holds: pa.ChunkedArray, name: str, fault: str, remedy: str) -> None:
    # A null is allowed where the schema allows it, which is checked before.
    if not pc.all(holds, min_count=0).as_py():
        raise _bad(f"{name} {fault} in some rows", remedy)


def _check_range(column: pa.ChunkedArray, name: str, least: float, most: float) -> None:
    found: dict[str, Any] = pc.min_max(column).as_py()
    if found["min"] is not None and (found["min"] < least or found["max"] > most):
        outside = found["min"] if found["min"] < least else found["max"]
        raise _bad(f"{name} is {outside} in some row", f"send {least} to {most}")

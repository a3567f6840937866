"""Files that a simulation writes and `replay` reads: envelopes as NDJSON, plain readings as CSV or Parquet."""

from __future__ import annotations

import base64
import gzip
import json
from typing import IO, TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alumicatalyst.errors import InputError
from alumicatalyst.simulator.rows import UNCERTAIN
from alumicatalyst.simulator.text import joined, rfc3339, strings

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.simulator.engine import Released, Simulator
    from alumicatalyst.simulator.text import Block, Ints

_QUALITIES = strings([",", ",64"])
_BODIES = strings([',"body":', ',"body_base64":'])
_NEW_LINE = strings(["\n"])[0]
_ENQUEUED, _KEY = strings(['{"enqueued_time":"'])[0], strings(['","partition_key":'])[0]
# What closes a line, and what stands between its parts.
_LINE_END = pa.scalar(b"}\n", pa.large_binary()), pa.scalar(b"", pa.large_binary())
_SUFFIXES = ".ndjson, .ndjson.gz, .csv, .csv.gz or .parquet"


class Destination(Protocol):
    """Something that envelopes are sent to."""

    def send(self, released: Released) -> int:
        """Send envelopes in order; return how many of them could not be sent at all."""

    def close(self) -> None:
        """Make everything durable that was sent."""


def open_file(path: Path, simulator: Simulator) -> Destination:
    """Open a file for a simulation; its name's ending says what is written.

    Raises:
        InputError: The ending is none of those known, or the file cannot hold what is simulated.
    """
    name = path.name.lower()
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith((".ndjson", ".ndjson.gz")):
        return EnvelopeFile(path, simulator)
    if not name.endswith((".csv", ".csv.gz", ".parquet")):
        raise InputError(f"couldn't choose a format for {path}: its name ends in none of {_SUFFIXES}")
    if simulator.plan.impairments.malformed:
        raise InputError(
            f"couldn't write malformed payloads to {path}: a table has no place for them; write to .ndjson, or leave "
            "--malformed out"
        )
    if simulator.writer.wide or simulator.writer.members.device is None:
        raise InputError(
            f"couldn't write readings to {path}: a table of readings needs members for device, metric and value in the "
            "dictionary's [payload]; write to .ndjson"
        )
    return ParquetFile(path, simulator) if name.endswith(".parquet") else CsvFile(path, simulator)


def _chosen(table: tuple[Block, Ints], which: Ints) -> tuple[Block, Ints, bool]:
    """Return some texts of a table as a column."""
    block, lengths = table
    return block.take(which, axis=0), lengths[which], False


def _open(path: Path) -> IO[bytes]:
    # No name and no time of writing in the header: the same run gives the same bytes.
    return gzip.GzipFile(path, "wb", compresslevel=1, mtime=0) if path.suffix.lower() == ".gz" else path.open("wb")  # type: ignore[return-value]


class EnvelopeFile:
    """One envelope a line: {"enqueued_time", "partition_key", "properties"?, "body"}.

    A body that is not JSON stands as base64 under "body_base64".
    """

    def __init__(self, path: Path, simulator: Simulator) -> None:
        self._file = _open(path)
        fleet = simulator.fleet
        self._keys = strings([json.dumps(key) for key in fleet.partition_keys])
        name = simulator.writer.members.device_property
        texts = [""] if name is None else [f',"properties":{json.dumps({name: device})}' for device in fleet.devices]
        self._properties = None if name is None else strings(texts)

    def send(self, released: Released) -> int:
        """Write envelopes in order."""
        if not len(released):
            return 0
        bodies, raw = released.bodies, released.raw
        if raw.any():
            coded = [b'"' + base64.b64encode(body) + b'"' for body in bodies.filter(pa.array(raw)).to_pylist()]
            bodies = pc.replace_with_mask(bodies, pa.array(raw), pa.array(coded, pa.large_binary()))
        named, lengths = _BODIES
        columns = [
            (_ENQUEUED, None, False),
            (rfc3339(released.enqueued_us, microseconds=True), None, False),
            (_KEY, None, False),
            _chosen(self._keys, released.keys),
            *([] if self._properties is None else [_chosen(self._properties, released.devices)]),
            (named.take(raw.astype(np.int64), axis=0), lengths[raw.astype(np.int64)], False),
        ]
        text, ends = joined(columns)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), ends])
        heads = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(released), [None, pa.py_buffer(offsets), pa.py_buffer(text)]
        )
        lines = pc.binary_join_element_wise(heads, bodies, *_LINE_END)
        # They stand in one buffer, one after the other.
        _, places, content = lines.buffers()
        self._file.write(memoryview(content)[: int(np.frombuffer(places, np.int64, len(lines) + 1)[-1])])
        return 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class CsvFile:
    """One reading a line, under the names that the dictionary's payload mapping has for its parts."""

    def __init__(self, path: Path, simulator: Simulator) -> None:
        self._file = _open(path)
        fleet, members = simulator.fleet, simulator.writer.members
        self._writer = simulator.writer
        self._quality = members.quality
        names = [members.device, members.time, members.metric, members.value, members.quality]
        self._file.write((",".join(_csv(name) for name in names if name is not None) + "\n").encode())
        self._heads = strings([_csv(fleet.devices[device]) + "," for device in fleet.device.tolist()])
        self._middles = strings(["," + _csv(name) + "," for name in simulator.writer.names])

    def send(self, released: Released) -> int:
        """Write the readings of envelopes in order."""
        rows = released.rows
        if not len(rows):
            return 0
        values = self._writer.values(rows.series, rows.mantissas)
        columns = [
            _chosen(self._heads, rows.series),
            (*self._writer.times(released.event_times_us), True),
            _chosen(self._middles, rows.series),
            (values.block(), values.lengths, True),
        ]
        if self._quality is not None:
            columns.append(_chosen(_QUALITIES, (rows.marks & UNCERTAIN != 0).astype(np.int64)))
        text, _ = joined([*columns, (_NEW_LINE, None, False)])
        self._file.write(text.data)
        return 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _csv(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text


class ParquetFile:
    """One reading a row; states are numbers, as one column has one type."""

    def __init__(self, path: Path, simulator: Simulator) -> None:
        self._fleet, members = simulator.fleet, simulator.writer.members
        self._devices = pa.array(self._fleet.devices)
        self._metrics = pa.array(simulator.writer.names)
        text = pa.dictionary(pa.int32(), pa.string())
        columns = [
            (members.device, text),
            (members.time, pa.timestamp("us", tz="UTC")),
            (members.metric, text),
            (members.value, pa.float64()),
        ]
        if members.quality is not None:
            columns.append((members.quality, pa.int16()))
        self._schema = pa.schema(columns)
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")

    def send(self, released: Released) -> int:
        """Write the readings of envelopes in order."""
        rows, fleet = released.rows, self._fleet
        uncertain = rows.marks & UNCERTAIN != 0
        columns = [
            pa.DictionaryArray.from_arrays(pa.array(fleet.device[rows.series].astype(np.int32)), self._devices),
            pa.array(released.event_times_us).cast(pa.timestamp("us", tz="UTC")),
            pa.DictionaryArray.from_arrays(pa.array(rows.series.astype(np.int32)), self._metrics),
            pa.array(rows.mantissas / 10.0 ** fleet.decimals[rows.series]),
            pa.array(np.full(len(rows), 64, dtype=np.int16), mask=~uncertain),
        ]
        self._file.write_batch(pa.record_batch(columns[: len(self._schema)], schema=self._schema))
        return 0

    def close(self) -> None:
        """Write the footer and close the file."""
        self._file.close()

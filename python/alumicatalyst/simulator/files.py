"""Files that a simulation writes and `replay` reads: envelopes as NDJSON, plain readings as CSV or Parquet."""

from __future__ import annotations

import base64
import gzip
import json
from typing import IO, TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alumicatalyst.errors import InputError
from alumicatalyst.simulator.rows import UNCERTAIN
from alumicatalyst.simulator.text import put_left, put_right, strings
from alumicatalyst.simulator.truth import as_texts

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.simulator.engine import Released, Simulator

_QUALITIES = strings([",", ",64"])
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
        self._keys = [json.dumps(key).encode() for key in fleet.partition_keys]
        name = simulator.writer.members.device_property
        self._properties = (
            None
            if name is None
            else [b',"properties":' + json.dumps({name: device}).encode() for device in fleet.devices]
        )

    def send(self, released: Released) -> int:
        """Write envelopes in order."""
        times = as_texts(released.enqueued_us)
        bodies: list[bytes] = released.bodies.to_pylist()
        for envelope in np.flatnonzero(released.raw).tolist():
            bodies[envelope] = b'"' + base64.b64encode(bodies[envelope]) + b'"'
        names = [b',"body_base64":' if raw else b',"body":' for raw in released.raw.tolist()]
        properties = self._properties
        parts = []
        for time, key, device, name, body in zip(
            times, released.keys.tolist(), released.devices.tolist(), names, bodies, strict=True
        ):
            parts += [b'{"enqueued_time":"', time.encode(), b'","partition_key":', self._keys[key]]
            if properties is not None:
                parts.append(properties[device])
            parts += [name, body, b"}\n"]
        self._file.write(b"".join(parts))
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
        self._heads, self._head_lengths = strings(
            [_csv(fleet.devices[device]) + "," for device in fleet.device.tolist()]
        )
        self._middles, self._middle_lengths = strings(["," + _csv(name) + "," for name in simulator.writer.names])

    def send(self, released: Released) -> int:
        """Write the readings of envelopes in order."""
        rows = released.rows
        if not len(rows):
            return 0
        time, time_lengths = self._writer.times(released.event_times_us)
        values = self._writer.values(rows.series, rows.mantissas)
        quality, quality_lengths = _QUALITIES
        uncertain = (rows.marks & UNCERTAIN != 0).astype(np.int64)
        lengths = [
            self._head_lengths[rows.series],
            time_lengths,
            self._middle_lengths[rows.series],
            values.lengths,
            quality_lengths[uncertain] if self._quality is not None else np.zeros(len(rows), dtype=np.int64),
        ]
        ends = np.cumsum(np.sum(lengths, axis=0) + 1)
        out = np.empty(int(ends[-1]), dtype=np.uint8)
        out[ends - 1] = ord("\n")
        places = [ends - 1]
        for length in reversed(lengths):
            places.insert(0, places[0] - length)
        put_left(out, places[0], self._heads.take(rows.series, axis=0), lengths[0], 0)
        put_right(out, places[2], time, time_lengths, 0)
        put_left(out, places[2], self._middles.take(rows.series, axis=0), lengths[2], 0)
        values.put(out, places[4], 0)
        put_left(out, places[4], quality.take(uncertain, axis=0), lengths[4], 0)
        self._file.write(out.data)
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

"""Keeps stored rows on disk by range, while data files that are too large to be read at once are taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from alumicatalyst.lake.tables import ROW_TABLES

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Tables = dict[str, list[pa.RecordBatch]]


class Spill:
    """Rows of one partition in files by range, while large data files are taken apart."""

    def __init__(self, folder: Path, partition: str, after: int, ends: NDArray[np.int64]) -> None:
        self._folder, self._partition, self._after, self._ends = folder, partition, after, ends
        self._writers: dict[tuple[str, int], pa.ipc.RecordBatchStreamWriter] = {}

    def write(self, table: str, rows: pa.RecordBatch) -> None:
        """Put rows where their ranges are."""
        numbers = rows.column("sequence_number").to_numpy()
        chosen = (numbers > self._after) & (numbers <= self._ends[-1])
        own = own_rows(rows, self._partition)
        chosen = chosen if own is None else chosen & own
        places = np.searchsorted(self._ends, numbers)
        for place in np.unique(places[chosen]).tolist():
            self._writer(table, place, rows.schema).write_batch(
                _texts(rows.filter(pa.array(chosen & (places == place))))
            )

    def _writer(self, table: str, place: int, schema: pa.Schema) -> pa.ipc.RecordBatchStreamWriter:
        key = (table, place)
        if key not in self._writers:
            path = self._folder / f"{table}-{place}"
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writers[key] = pa.ipc.new_stream(str(path), _text_schema(schema), options=options)
        return self._writers[key]

    def close(self) -> None:
        """End all files."""
        for writer in self._writers.values():
            writer.close()

    def read(self, place: int) -> Tables:
        """Return the rows of a range."""
        found: Tables = {}
        for name in ROW_TABLES:
            path = self._folder / f"{name}-{place}"
            found[name] = []
            if path.exists():
                with pa.ipc.open_stream(path.read_bytes()) as stream:
                    found[name] = list(stream)
                path.unlink()
        return found


def own_rows(rows: pa.RecordBatch, partition: str) -> NDArray[np.bool_] | None:
    """Return which rows are of a partition, None for all of them."""
    column = rows.column("partition")
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    names = coded.dictionary.to_pylist()
    if names == [partition]:
        return None
    codes = coded.indices.to_numpy(zero_copy_only=False)
    return np.asarray(codes == (names.index(partition) if partition in names else -1))


def _text_schema(schema: pa.Schema) -> pa.Schema:
    fields = [each.with_type(each.type.value_type) if pa.types.is_dictionary(each.type) else each for each in schema]
    return pa.schema(fields)


def _texts(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Rows with texts told row by row: names would be told again in every part."""
    return rows.cast(_text_schema(rows.schema))

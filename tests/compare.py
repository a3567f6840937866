"""Drives the core and holds its tables to the oracle's rows, or to another run of its own, bit for bit."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from alumicatalyst import _core
from tests.oracle_alarms import number
from tests.oracle_score import rounded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.logs import Envelope
    from tests.oracle import Emission
    from tests.oracle_series import Row

TABLES = ("readings", "windows", "alarms", "rejected", "counts")
STATISTICS = ("mean", "std", "slope_per_s")
# Rates and scores go through divisions and powers of two, which may be rounded in other ways.
MEASURED = ("rate_above", "rate_below", "score_above")
TOLERANCE = 1e-9


def batch_of(log: Sequence[Envelope]) -> pa.RecordBatch:
    """A batch of envelopes as a source makes it."""
    wanted = _core.schema("envelopes")
    columns: dict[str, list[Any]] = {
        "body": [envelope.body for envelope in log],
        "sequence_number": [envelope.sequence_number for envelope in log],
        "offset": [str(envelope.sequence_number * 100) for envelope in log],
        "enqueued_time": [envelope.enqueued_us for envelope in log],
        "properties": [list(envelope.properties.items()) or None for envelope in log],
    }
    return pa.record_batch([pa.array(columns[each.name], each.type) for each in wanted], schema=wanted)


@dataclass
class Run:
    """What a partition has emitted so far, as plain tables."""

    outputs: list[Any] = field(default_factory=list)

    def add(self, output: Any) -> None:
        self.outputs.append(output)

    def table(self, name: str) -> pa.Table:
        return plain(getattr(output, name) for output in self.outputs)

    def rows(self, name: str) -> list[Row]:
        return rows_of(self.table(name))

    @property
    def redelivered(self) -> int:
        return sum(output.redelivered for output in self.outputs)

    def fingerprints(self) -> dict[str, str]:
        """A digest of every table's exact bits, however it was cut into batches."""
        return {name: fingerprint(self.table(name)) for name in TABLES}


def plain(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """One table without dictionary encoding, in one chunk."""
    table = pa.Table.from_batches(batches)
    columns = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in table.columns]
    return pa.table(dict(zip(table.schema.names, columns, strict=True))).combine_chunks()


def fingerprint(table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def rows_of(table: pa.Table) -> list[Row]:
    """Rows with times as microseconds."""
    columns = {
        name: (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
        for name, column in zip(table.schema.names, table.columns, strict=True)
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def feed(partition: Any, log: Sequence[Envelope], cuts: Sequence[int] = (), run: Run | None = None) -> Run:
    """Hand a log to a partition, cut into batches before the given positions; two equal cuts make an empty batch."""
    run = run or Run()
    edges = [0, *sorted(cuts), len(log)]
    for start, end in itertools.pairwise(edges):
        run.add(partition.on_batch(batch_of(log[start:end])))
    return run


def consult(oracle: Any, log: Sequence[Envelope]) -> list[Emission]:
    return [oracle.envelope(e.body, e.sequence_number, e.enqueued_us, e.properties) for e in log]


def assert_as_oracle(run: Run, emissions: Sequence[Emission]) -> None:
    """The core's rows are the oracle's: exactly, but for figures that it computes in floats."""
    for name in ("readings", "rejected", "windows", "alarms", "counts"):
        ours = run.rows(name)
        expected = [row for emission in emissions for row in getattr(emission, name)]
        for position, (row, wanted) in enumerate(zip(ours, expected, strict=False)):
            assert_same_row(row, wanted, f"{name}[{position}]")
        assert len(ours) == len(expected), name
    assert run.redelivered == sum(emission.redelivered for emission in emissions)
    assert_latest(run, emissions)


def assert_latest(run: Run, emissions: Sequence[Emission]) -> None:
    """Every batch says of each series the newest of the in-order readings that it brought."""
    in_order = {emission.counts[0]["sequence_number"]: emission.in_order for emission in emissions if emission.counts}
    rows = iter(run.rows("latest"))
    for output in run.outputs:
        newest: dict[tuple[str, str], Row] = {}
        for sequence_number in output.counts["sequence_number"].to_pylist():
            newest |= {(row["device"], row["metric"]): row for row in in_order[sequence_number]}
        ours = sorted(itertools.islice(rows, output.latest.num_rows), key=lambda row: (row["device"], row["metric"]))
        assert len(ours) == len(newest), "latest"
        for row, key in zip(ours, sorted(newest), strict=True):
            assert_same_row(row, newest[key], "latest")


def assert_same_row(row: Row, wanted: Row, what: str = "row") -> None:
    """One row against the oracle's."""
    tolerance = TOLERANCE if wanted.get("kind") in MEASURED else 0.0
    for column, value in row.items():
        if column in STATISTICS:
            same = close(column, value, wanted)
        elif column == "detail":
            same = bool(value)
        elif column in ("score", "score_max") and value != wanted[column]:
            same = close_score(column, value, wanted)
        elif column == "peak":
            same = nearly(value, wanted[column], tolerance)
        elif column == "message":
            same = says(value, wanted["pieces"])
        else:
            same = value == wanted[column] and (value is None or type(value) is type(wanted[column]))
        assert same, (what, column, row, wanted)


def nearly(value: float, wanted: float, tolerance: float = TOLERANCE) -> bool:
    return value == wanted or abs(value - wanted) <= tolerance * abs(wanted)


def close_score(column: str, value: float | None, wanted: Row) -> bool:
    """Whether a score differs from the oracle's only because the exact one lies next to where rounding decides."""
    exact = wanted[f"exact_{column}"]
    if exact is None:
        return False
    if "alarm_id" in wanted:
        # Not rounded to sixteenths, but to single precision.
        return value is not None and nearly(value, exact, 1e-6)
    kept_from = wanted.get("store_above") or 0.0
    if value is None or wanted[column] is None:
        return kept_from > 0 and nearly(exact, kept_from) and value in (None, rounded(exact))
    border = (max(value, wanted[column]) + min(value, wanted[column])) / 2
    return abs(value - wanted[column]) == 1 / 16 and nearly(exact, border)


def says(message: str, pieces: Sequence[str | float]) -> bool:
    """Whether a message has the oracle's words and numbers; one next to where rounding decides may go either way."""
    pattern = "".join(re.escape(piece) if isinstance(piece, str) else r"(-?[0-9.]+)" for piece in pieces)
    found = re.fullmatch(pattern, message)
    if found is None:
        return False
    wanted = [piece for piece in pieces if not isinstance(piece, str)]
    return all(
        text in {number(piece * factor) for factor in (1.0, 1.0 - TOLERANCE, 1.0 + TOLERANCE)}
        for text, piece in zip(found.groups(), wanted, strict=True)
    )


def close(column: str, value: float | None, wanted: Mapping[str, Any]) -> bool:
    """Within 1e-9 of the exact figure, or within what rounding costs where values cancel out or are next to nothing.

    Beyond 1e100 squares may overflow: then a figure is right, or it is null.
    """
    exact = wanted[column]
    if value is None or exact is None:
        return value is exact is None or (value is None and wanted["largest"] > 1e100)
    slack = wanted["largest"] * 1e-12 + 1e-300
    if column == "slope_per_s":
        # Times count from the window's start: readings a few microseconds apart, and far from it, cost digits.
        reach_s = (wanted["last_time"] - wanted["window_start"]) / 1_000_000
        spread_s = max(wanted["time_spread_s"], 1e-6)
        slack *= max(1.0, reach_s / spread_s * 1e-3) / spread_s
    return math.isfinite(value) and abs(value - exact) <= max(abs(exact) * 1e-9, slack)

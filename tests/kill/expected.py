"""What an undisturbed run of a partition's log makes, with a place for every row: any prefix can be compared."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alumicatalyst._core import Dictionary, Partition
from alumicatalyst.lake.tables import ROW_TABLES
from tests.compare import Run, assert_as_oracle, consult, feed
from tests.kill.harness import day_of, key
from tests.oracle import Oracle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.logs import Envelope


@dataclass
class Expected:
    """The rows that a partition's log makes, up to the flush at its end.

    Where a loss is accepted the operator begins anew, and so does this: rows up to each table's mark stay, what follows
    is of the new run.

    Attributes:
        rows: By table, what each row is and its sequence number.
        counts: A row for each envelope, and one for the flush, by sequence number.
        starts: Sequence numbers after which the log was given up and begun anew.
    """

    partition: str
    log: Sequence[Envelope]
    dictionary: Mapping[str, Any]
    rows: dict[str, dict[Any, int]] = field(default_factory=lambda: {name: {} for name in ROW_TABLES})
    counts: list[dict[str, Any]] = field(default_factory=list)
    starts: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers: dict[str, list[int]] = {}
        self._ordinals = 1
        self._take(self._run(-1, 0))

    def number(self, table: str, mark: int) -> int:
        """How many rows a table has up to a mark."""
        return bisect_right(self._numbers[table], mark)

    def lose(self, marks: Mapping[str, int], origin: int, ordinal: int) -> None:
        """Take note of an accepted loss: the operator begins empty after `origin`, tables ended at their marks."""
        for name in ROW_TABLES:
            self.rows[name] = {row: number for row, number in self.rows[name].items() if number <= marks[name]}
        self.counts = [row for row in self.counts if row["sequence_number"] <= marks["batches"]]
        self.starts.append((origin, ordinal))
        self._ordinals = ordinal + 1
        self._take(self._run(origin, ordinal))

    def assert_as_oracle(self) -> None:
        """Hold the core's last run to the oracle's."""
        origin, ordinal = self.starts[-1] if self.starts else (-1, 0)
        oracle = Oracle(self.partition, dict(self.dictionary))
        emissions = consult(oracle, self._log_after(origin))
        emissions.append(oracle.flush(self._last + 1))
        assert_as_oracle(self._run(origin, ordinal), emissions)

    def _log_after(self, origin: int) -> list[Envelope]:
        return [envelope for envelope in self.log if envelope.sequence_number > origin]

    @property
    def _last(self) -> int:
        return self.log[-1].sequence_number

    def _run(self, origin: int, ordinal: int) -> Run:
        dictionary = Dictionary.from_json(json.dumps(self.dictionary))
        core = Partition(self.partition, dictionary)
        if ordinal:
            core.change_dictionary(dictionary, ordinal)
        run = feed(core, self._log_after(origin))
        run.add(core.flush(self._last + 1, self._ordinals))
        return run

    def _take(self, run: Run) -> None:
        for name in ROW_TABLES:
            made = {key(row | {"date": day_of(row["enqueued_time"])}): row["sequence_number"] for row in run.rows(name)}
            assert not made.keys() & self.rows[name].keys(), f"{name}: a row of the new run was there before"
            self.rows[name] |= made
            self._numbers[name] = sorted(self.rows[name].values())
        self.counts += run.rows("counts")

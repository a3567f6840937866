"""Verifies batches whose rows have moved: gathered from the files that hold them now, in the order of their numbers.

Maintenance rewrites files and keeps `_batch` and `_row`, so the root over a batch's rows is what it was.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.ledger import rows
from alumicatalyst.ledger.claims import Claims
from alumicatalyst.ledger.verify_report import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from alumicatalyst.ledger.entry import Rows

ROWS_AT_ONCE_MAX: Final = 500_000
"""Rows of moved batches in memory at once, unless one batch alone has more."""


class Moved:
    """The batches of one table that are not, or not only, in the file in which they were written.

    Args:
        table: The table.
        read: Returns a live file's bytes.
        schemas: By batch, the schema text by which its rows were digested.
    """

    def __init__(
        self, table: str, read: Callable[[str], bytes], schemas: Mapping[bytes, str | None] | None = None
    ) -> None:
        self._table = table
        self._read = read
        self._schemas = schemas or {}
        self._places: dict[bytes, dict[str, int]] = defaultdict(dict)

    def look(self, files: Mapping[str, Mapping[str, Any] | None]) -> Iterator[Finding]:
        """Find out which batches live files hold rows of, and how many; and whether readers are told so of them.

        Args:
            files: Each with its add action; None where that is not known.
        """
        for file, action in files.items():
            told = Claims(self._table, action or {})
            try:
                for group in rows.read_groups(self._table, self._read(file), told.columns):
                    if action is not None:
                        told.take(group)
                    for each in group.column(rows.BATCH).value_counts().to_pylist():
                        place = self._places[each["values"] or b""]
                        place[file] = place.get(file, 0) + each["counts"]
            except rows.Unreadable as error:
                yield Finding(f"it cannot be read: {error}", table=self._table, file=file)
                continue
            if action is not None and told.wrong():
                yield Finding(told.wrong(), table=self._table, file=file)

    def count(self, batch: bytes) -> int:
        """Return how many rows of a batch there are."""
        return sum(self._places[batch].values()) if batch in self._places else 0

    def strangers(self, known: Mapping[bytes, object]) -> Iterator[tuple[str, int]]:
        """Yield files with rows that belong to no batch that was signed, and how many."""
        found: dict[str, int] = defaultdict(int)
        for batch, places in self._places.items():
            if batch not in known:
                for file, count in places.items():
                    found[file] += count
        yield from sorted(found.items())

    def check(self, batches: Sequence[tuple[int, Rows]]) -> Iterator[Finding | None]:
        """Recompute the root of each batch that has rows; yield what is wrong with it, or None.

        Args:
            batches: With the version that wrote each.
        """
        ordered = sorted(batches, key=lambda each: (sorted(self._places.get(each[1].batch, {})), each[1].batch))
        at = 0
        while at < len(ordered):
            portion = [ordered[at]]
            total = self.count(portion[0][1].batch)
            while at + len(portion) < len(ordered):
                total += self.count(ordered[at + len(portion)][1].batch)
                if total > ROWS_AT_ONCE_MAX:
                    break
                portion.append(ordered[at + len(portion)])
            at += len(portion)
            yield from self._check_portion(portion)

    def gather(self, wanted: set[bytes]) -> dict[bytes, pa.Table]:
        """Return the rows of some batches in the order of their numbers."""
        import pyarrow as pa
        import pyarrow.compute as pc

        parts: dict[bytes, list[pa.Table]] = defaultdict(list)
        for file in sorted({file for batch in wanted for file in self._places.get(batch, {})}):
            for group in rows.read_groups(self._table, self._read(file)):
                values = pa.array(sorted(wanted), pa.binary())
                kept = group.filter(pc.is_in(group.column(rows.BATCH), value_set=values))
                for batch in kept.column(rows.BATCH).unique().to_pylist():
                    parts[batch].append(kept.filter(pc.equal(kept.column(rows.BATCH), pa.scalar(batch, pa.binary()))))
        return {batch: pa.concat_tables(found).unify_dictionaries().sort_by(rows.ROW) for batch, found in parts.items()}

    def _check_portion(self, portion: Sequence[tuple[int, Rows]]) -> Iterator[Finding | None]:
        try:
            found = self.gather({each.batch for _, each in portion})
        except rows.Unreadable as error:
            yield Finding(f"moved rows cannot be read: {error}", table=self._table)
            return
        for version, each in portion:
            what, place = self._judge(found[each.batch], each)
            files = ", ".join(sorted(self._places[each.batch]))
            named = f"{what}; batch {each.batch.hex()} was written as {each.path}"
            yield Finding(named, self._table, version, files, place) if what else None

    def _judge(self, found: pa.Table, batch: Rows) -> tuple[str, tuple[int, int]]:
        """Return what is wrong with a batch's rows, "" for nothing, and between which rows."""
        numbers = Counter(found.column(rows.ROW).to_pylist())
        everything = (0, batch.rows - 1)
        missing = [number for number in range(batch.rows) if number not in numbers]
        if missing:
            return f"{len(missing)} of its {batch.rows} rows are gone", (missing[0], missing[-1])
        strange = sorted(each or 0 for each, count in numbers.items() if count > 1 or each not in range(batch.rows))
        if strange:
            return f"{found.num_rows - batch.rows} rows are double or were never written", (strange[0], strange[-1])
        try:
            root = rows.root(self._table, found, batch.batch, self._schemas.get(batch.batch))
        except ValueError as error:
            return f"its rows cannot be digested: {str(error)[:200]}", everything
        return ("" if root == batch.root else "its rows are not those that were signed"), everything

"""The journal: what changes a partition's state besides its readings, committed before it is applied."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import tables
from alumicatalyst.lake.commit import Plan, Put, Retry, append, put_files
from alumicatalyst.lake.encode import encode
from alumicatalyst.lake.table import JOURNAL_PREFIX

if TYPE_CHECKING:
    from alumicatalyst.lake.table import Snapshot, Table


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One entry of a partition's journal.

    Attributes:
        ordinal: Its place, from 0 without gaps.
        after_sequence: The sequence number after which it takes effect; -1: before the first.
        kind: dictionary, flush, command, tick or state_loss.
        body: JSON.
    """

    ordinal: int
    after_sequence: int
    kind: str
    body: str


def read(table: Table, partition: str) -> tuple[JournalRow, ...]:
    """Return a partition's journal by ordinal.

    Raises:
        LakeError: Ordinals are missing or double: the table was changed by hand.
    """
    found = table.select(
        f"SELECT ordinal, after_sequence, kind, body FROM journal WHERE partition = '{partition}' ORDER BY ordinal"  # noqa: S608 the name's characters are checked
    )
    rows = tuple(JournalRow(**row) for row in found)
    if [row.ordinal for row in rows] != list(range(len(rows))):
        raise LakeError(
            f"couldn't read the journal of {partition}: its ordinals are {[row.ordinal for row in rows][:20]}; rows "
            "are missing or double, restore the table"
        )
    return rows


def partitions(table: Table) -> list[str]:
    """Return every partition that was ever taken: each has a first row, its dictionary."""
    return [row["partition"] for row in table.select("SELECT DISTINCT partition FROM journal ORDER BY partition")]


def write(table: Table, partition: str, claim: int, row: JournalRow, retry: Retry) -> bool:
    """Commit a row; False if it was there already.

    The row's ordinal is the version of the transaction `journal/<partition>`, so that an append that failed but was
    stored is seen for what it is, and none is made twice (I5).
    """
    import pyarrow as pa

    values = {
        "partition": partition,
        "after_sequence": row.after_sequence,
        "ordinal": row.ordinal,
        "kind": row.kind,
        "time": datetime.now(UTC),
        "body": row.body,
    }
    batch = pa.RecordBatch.from_pylist([values], schema=tables.columns("journal"))
    put: Put | None = None

    def next_ordinal(snapshot: Snapshot) -> Plan | None:
        nonlocal put
        last = snapshot.ordinal(partition)
        if last >= row.ordinal:
            return None
        if last != row.ordinal - 1:
            raise LakeError(
                f"couldn't append to the journal of {partition}: its last ordinal is {last}, not {row.ordinal - 1}; "
                "the table was rolled back, restore it"
            )
        if put is None or put.may_be_gone(snapshot):
            put = put_files(table.store, table.name, encode("journal", [batch]), snapshot.version)
        return Plan({JOURNAL_PREFIX + partition: row.ordinal}, put)

    return append(table, {partition: claim}, next_ordinal, retry, f"a journal row ({row.kind})")

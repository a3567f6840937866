"""What the tables' own logs say of the rows that there must be: marks, losses that were accepted, rows that expired."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from alumicatalyst.lake.table import CLAIM_PREFIX, JOURNAL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import duckdb

    from alumicatalyst.lake.lake import Lake

EXPIRED_PREFIX: Final = "expired/"
"""Transactions `expired/<what>/<partition>` have as their version how many rows have expired so far."""

LOSSES: Final = "SELECT partition, after_sequence, body FROM journal WHERE kind = 'state_loss'"

Loss = tuple[str, int, int]
"""Partition, the mark before, and the sequence number after which it went on."""


def marks(transactions: Mapping[str, int]) -> dict[str, int]:
    """Return the mark of every partition, of all that a table's transactions tell."""
    others = (CLAIM_PREFIX, JOURNAL_PREFIX, EXPIRED_PREFIX)
    return {app: version for app, version in transactions.items() if not app.startswith(others)}


def expired(transactions: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """Return how many rows of a table have expired so far, by partition and what they count as."""
    found = {}
    for app, count in transactions.items():
        if app.startswith(EXPIRED_PREFIX):
            what, _, partition = app.removeprefix(EXPIRED_PREFIX).partition("/")
            found[partition, what] = count
    return found


def losses(lake: Lake) -> list[Loss]:
    """Return what the journal says was lost: rows in between are stored perhaps, and no seal counts them."""
    return [loss(*row.values()) for row in lake.table("journal").select(LOSSES)]


def loss(partition: str, after_sequence: int, body: str) -> Loss:
    """Return what a row of `LOSSES` says."""
    return partition, int(json.loads(body)["mark"]), after_sequence


def give(
    connection: duckdb.DuckDBPyConnection, name: str, columns: Mapping[str, str], rows: Sequence[tuple[object, ...]]
) -> None:
    """Make a small table in a database.

    Args:
        connection: The database.
        name: The table's name.
        columns: Its columns with their SQL types.
        rows: Its rows.
    """
    told = ", ".join(f"{column} {kind}" for column, kind in columns.items())
    connection.execute(f"CREATE TEMP TABLE {name} ({told})")
    if rows:
        places = ", ".join("?" for _ in columns)
        connection.executemany(f"INSERT INTO {name} VALUES ({places})", rows)  # noqa: S608 own names


def give_losses(connection: duckdb.DuckDBPyConnection, found: Sequence[Loss]) -> None:
    """Make the table `lost`."""
    give(connection, "lost", {"partition": "VARCHAR", "mark": "BIGINT", "after": "BIGINT"}, found)


IS_LOST: Final = (
    "EXISTS (FROM lost l WHERE l.partition = t.partition AND t.sequence_number > l.mark AND "
    "t.sequence_number <= l.after)"
)
"""Whether a row of a table `t` belongs to a loss that was accepted."""

"""Taking a partition: one claim, with a number that only rises, on every table of the lake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alumicatalyst.errors import ClaimLost
from alumicatalyst.lake.commit import Plan, Retry, append
from alumicatalyst.lake.table import CLAIM_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alumicatalyst.lake.table import Snapshot, Table


def take(tables: Sequence[Table], partition: str, retry: Retry) -> int:
    """Claim a partition on every table (I2): whoever held it before can commit nothing more.

    The first table decides between processes that claim at once. A number is committed there only on a snapshot whose
    claim is lower, so numbers on it rise strictly and each belongs to one process; one that meets its own number or a
    higher one on a later table has lost to a process that came after it.

    Args:
        tables: All tables, in the one order that every process uses.
        partition: The partition.
        retry: How often to try.

    Returns:
        The number of the claim.

    Raises:
        ClaimLost: Another process claimed the partition while this one did.
    """
    highest = max(table.refresh().claim(partition) for table in tables[1:])
    taken = 0

    def above(snapshot: Snapshot) -> Plan:
        # A claim that failed but was stored is passed over: an unused number harms nobody.
        nonlocal taken
        taken = max(highest, snapshot.claim(partition)) + 1
        return Plan({CLAIM_PREFIX + partition: taken})

    append(tables[0], {}, above, retry, "a claim")
    for table in tables[1:]:
        _follow(table, partition, taken, retry)
    return taken


def _follow(table: Table, partition: str, claim: int, retry: Retry) -> None:
    def same(snapshot: Snapshot) -> Plan | None:
        found = snapshot.claim(partition)
        if found > claim:
            raise ClaimLost(
                f"couldn't claim partition {partition}: another process claimed it meanwhile (claim {found}, ours "
                f"{claim}); this process stops, the other one goes on"
            )
        return None if found == claim else Plan({CLAIM_PREFIX + partition: claim})

    append(table, {}, same, retry, "a claim")

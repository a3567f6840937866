"""Taking a partition: one claim, with a number that only rises, on every table of the lake."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from alumicatalyst.errors import ClaimLost
from alumicatalyst.lake.commit import Plan, Retry, append
from alumicatalyst.lake.table import CLAIM_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alumicatalyst.lake.table import Snapshot, Table

T = TypeVar("T")


def take(tables: Sequence[Table], partition: str, retry: Retry) -> int:
    """Claim a partition on every table (I2): whoever held it before can commit nothing more.

    The first table decides between processes that claim at once. A number is committed there only on a snapshot whose
    claim is lower, so numbers on it rise strictly and each belongs to one process; one that meets its own number or a
    higher one on a later table has lost to a process that came after it.

    Args:
        tables: All tables; the first one is the same for every process.
        partition: The partition.
        retry: How often to try.

    Returns:
        The number of the claim.

    Raises:
        ClaimLost: Another process claimed the partition while this one did.
    """
    highest = max(together(lambda table: table.refresh().claim(partition), tables[1:]))
    taken = 0

    def above(snapshot: Snapshot) -> Plan:
        # A claim that failed but was stored is passed over: an unused number harms nobody.
        nonlocal taken
        taken = max(highest, snapshot.claim(partition)) + 1
        return Plan({CLAIM_PREFIX + partition: taken})

    append(tables[0], {}, above, retry, "a claim")
    together(lambda table: _follow(table, partition, taken, retry), tables[1:])
    return taken


def together(act: Callable[[Table], T], tables: Sequence[Table]) -> list[T]:
    """Do something to several tables at once: to a distant store each of them is a wait, and partitions are many."""
    with ThreadPoolExecutor(len(tables), thread_name_prefix="lake") as pool:
        return list(pool.map(act, tables))


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

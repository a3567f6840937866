"""An append that happens exactly once: put the files, commit them on the snapshot that was checked, else look again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alumicatalyst import metrics
from alumicatalyst.errors import AlumicatalystError, ClaimLost
from alumicatalyst.lake.log import now_ms
from alumicatalyst.lake.retry import Retry
from alumicatalyst.lake.tables import leaf_schema_sha256

__all__ = ["Plan", "Put", "Retry", "append", "check_claims", "put_files"]

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from alumicatalyst.lake.encode import EncodedFile
    from alumicatalyst.lake.store import Store
    from alumicatalyst.lake.table import Snapshot, Table


@dataclass(frozen=True, slots=True)
class Put:
    """Data files that are in the store and wait for their commit.

    Attributes:
        actions: That add them to the table.
        files: What commitInfo says of them.
        rows: How many they hold.
        size: How many bytes they have.
        at: The version that was known when they were put.
    """

    actions: list[dict[str, Any]]
    files: list[dict[str, Any]]
    rows: int
    size: int
    at: int

    def may_be_gone(self, snapshot: Snapshot) -> bool:
        """Whether vacuum may have taken them for left over: then the rows are put again, under names of their own."""
        return snapshot.vacuumed > self.at


@dataclass(frozen=True, slots=True)
class Plan:
    """What to commit on a snapshot.

    Attributes:
        transactions: Application id to version.
        put: The files, already in the store.
        metadata: For commitInfo, `files` aside.
        actions: Further actions, as the Delta log writes them.
        operation: What the commit calls itself.
    """

    transactions: Mapping[str, int]
    put: Put | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    actions: Sequence[Mapping[str, Any]] = ()
    operation: str = "WRITE"


def put_files(store: Store, table: str, encoded: Sequence[EncodedFile], at: int) -> Put:
    """Put encoded files under names that nobody has used; without a commit they are orphans that no reader sees.

    Args:
        store: The lake's store.
        table: The table.
        encoded: The files.
        at: The newest version of the table that is known.
    """
    started = time.perf_counter()
    actions: list[dict[str, Any]] = []
    files: list[dict[str, Any]] = []
    for each in encoded:
        name = f"part-{each.batch.hex}.parquet"
        values: dict[str, str | None] = {}
        if each.day is not None:
            name, values = f"date={each.day.isoformat()}/{name}", {"date": each.day.isoformat()}
        store.put(f"{table}/{name}", each.data)
        add = {
            "path": name,
            "partitionValues": values,
            "size": len(each.data),
            "modificationTime": now_ms(),
            "dataChange": True,
            "stats": each.statistics,
        }
        actions.append({"add": add})
        files.append(
            {
                "path": name,
                "sha256": each.sha256,
                "bytes": len(each.data),
                "rows": each.rows,
                "batch": each.batch.hex,
                "rows_root": each.rows_root,
            }
        )
    metrics.STAGE_SECONDS.labels("put").observe(time.perf_counter() - started)
    return Put(actions, files, sum(each.rows for each in encoded), sum(len(each.data) for each in encoded), at)


def append(
    table: Table, claims: Mapping[str, int], plan: Callable[[Snapshot], Plan | None], retry: Retry, what: str = "rows"
) -> bool:
    """Commit to a table what is not in it yet.

    Each attempt takes the newest snapshot, checks on it that every claim is still its holder's (I2), asks `plan` what
    is missing on it (I5), and commits on that very snapshot. A commit that failed but was stored shows on the next
    snapshot as a mark, and `plan` then finds nothing missing.

    Args:
        table: The table.
        claims: Partition to the claim that must still be the last one.
        plan: Returns what to commit on a snapshot, None for nothing; it may put files.
        retry: How long to try; commits of others in between are no failures.
        what: What is committed, for messages.

    Returns:
        Whether a commit was made; False if the table held everything already.

    Raises:
        ClaimLost: Another process has claimed one of the partitions.
        LakeError: The store failed for longer than there is patience, or in a way that no patience mends.
    """
    attempts = retry.attempts(f"commit to {table.name}")
    refused_at: int | None = None
    for _ in attempts:
        with table.lock:
            try:
                snapshot = table.refresh()
                if refused_at is not None and snapshot.version > refused_at:
                    # Somebody has committed in between, or we ourselves without hearing of it: that was no failure.
                    metrics.LAKE_CONFLICTS.labels(table.name).inc()
                    attempts.conflict()
                refused_at = None
                check_claims(table.name, snapshot, claims)
                planned = plan(snapshot)
                if planned is None:
                    attempts.worked()
                    return False
                put = planned.put
                metadata = dict(planned.metadata)
                if put is not None:
                    metadata |= {"files": put.files, "leaf_schema": leaf_schema_sha256(table.name)}
                refused_at = snapshot.version
                actions = [*(put.actions if put else []), *planned.actions]
                table.commit(snapshot, actions, planned.transactions, metadata, planned.operation)
            except AlumicatalystError:
                raise
            except Exception as error:  # noqa: BLE001 whatever it was, the log says what became of the commit
                attempts.failed(error)
                continue
        attempts.worked()
        if put is not None:
            metrics.LAKE_ROWS.labels(table.name).inc(put.rows)
            metrics.LAKE_BYTES.labels(table.name).inc(put.size)
        return True
    raise attempts.error(f"commit {what} to {table.name}")


def check_claims(table: str, snapshot: Snapshot, claims: Mapping[str, int]) -> None:
    """Raise ClaimLost unless the last claim on every partition is the one given."""
    for partition, claim in claims.items():
        found = snapshot.claim(partition)
        if found != claim:
            raise ClaimLost(
                f"couldn't commit to {table}: partition {partition} is claimed by another process (claim {found}, "
                f"ours {claim}); this process stops, the other one goes on from the same marks"
            )

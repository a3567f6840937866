"""Brings a lake of an older version up to this one: new columns, which are empty in old rows, and new tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import schemas, tables
from alumicatalyst.lake.commit import Plan, append
from alumicatalyst.lake.fault import reported
from alumicatalyst.lake.retry import Retry
from alumicatalyst.lake.table import Table, TableMissing
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from alumicatalyst.lake.schemas import Difference
    from alumicatalyst.lake.store import Store
    from alumicatalyst.lake.table import Snapshot

OPERATION: Final = "ADD COLUMNS"
"""What the commit calls itself; `columns` in its commitInfo says which."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """What one table needs, or has got.

    Attributes:
        table: The table.
        created: It was not there.
        columns: Columns that were missing, or may be empty by now, with their types.
        version: The table's version after it; None for a dry run.
    """

    table: str
    created: bool
    columns: list[str]
    version: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def migrate(store: Store, *, dry_run: bool = False, retry: Retry | None = None) -> list[Step]:
    """Give every table what this version writes; no file is rewritten, and old rows read as null where they have less.

    Everything is looked at before anything is changed. Each table's change is one commit, so a crash leaves some tables
    with it and some without, and the next call does the rest. Readers see what they saw. A flow of the older version
    may go on until it is stopped; it cannot start again.

    Args:
        store: The lake's store.
        dry_run: Only tell what would be done.
        retry: How often to try a commit.

    Returns:
        What was done, or would be: nothing for a table that has what this version writes.

    Raises:
        LakeError: There is no lake, a table cannot be migrated, or the store failed.
    """
    with reported("migrate the lake"):
        found = {name: _look(Table(store, spec)) for name, spec in tables.SPECS.items()}
        if all(each is None for each in found.values()):
            raise LakeError(
                f"couldn't migrate the lake: {store.root} holds no table; set lake.uri to where a flow has written"
            )
        wrong = [
            f"{name}: {each.text()}; {each.refusal}"
            for name, each in found.items()
            if each is not None and each.refusal
        ]
        if wrong:
            raise LakeError(f"couldn't migrate the lake: {store.root}: {'. '.join(wrong)}")
        steps = [_step(name, each) for name, each in found.items() if each is None or not each.is_none]
        if dry_run:
            return steps
        return [_take(store, each, retry or Retry()) for each in steps]


def _look(table: Table) -> Difference | None:
    try:
        table.refresh()
    except TableMissing:
        return None
    return schemas.difference(table.name, table.metadata())


def _step(name: str, found: Difference | None) -> Step:
    if found is None:
        return Step(name, created=True, columns=[])
    return Step(name, created=False, columns=[str(each) for each in (*found.missing, *(to for _, to in found.relaxed))])


def _take(store: Store, step: Step, retry: Retry) -> Step:
    table = Table(store, tables.SPECS[step.table])
    if step.created:
        table.create(tables.first_commit(table.spec))
        version = table.refresh().version
        _log.info("table created", table=table.name)
        return Step(step.table, created=True, columns=[], version=version)

    def widened(_: Snapshot) -> Plan | None:
        metadata = table.metadata()
        found = schemas.difference(table.name, metadata)
        if found.is_none:
            return None  # Ours, that had seemed to fail, or another's.
        if found.refusal:
            raise LakeError(f"couldn't migrate the table {table.name}: {found.text()}; {found.refusal}")
        metadata["schemaString"] = schemas.written(table.name)
        return Plan({}, metadata={"columns": step.columns}, actions=[{"metaData": metadata}], operation=OPERATION)

    append(table, {}, widened, retry, "new columns")
    _log.info("columns added", table=table.name, columns=step.columns)
    return Step(step.table, created=False, columns=step.columns, version=table.known().version)

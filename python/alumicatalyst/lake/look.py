"""The lake's view of a partition: marks, states and journal, read so that they fit together."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alumicatalyst.lake import claim, journal, state, tables

if TYPE_CHECKING:
    from alumicatalyst.lake.journal import JournalRow
    from alumicatalyst.lake.lake import Lake


@dataclass(frozen=True, slots=True)
class Look:
    """What the lake holds of a partition.

    Attributes:
        mark: Mark of `batches`.
        top: The highest mark of any table: after a crash between two tables of a flush some are ahead of `batches`.
        ordinal: That of the last journal row, -1 for none.
        journal: The journal by ordinal.
        states: Sequence numbers at which there is a state, newest first.
        origin: Where the partition's usable log begins: after the last loss that was accepted, else -1.
        others: Other incarnations of the same source and id, if this one has no journal yet.
    """

    mark: int
    top: int
    ordinal: int
    journal: tuple[JournalRow, ...]
    states: list[int]
    origin: int
    others: list[str]

    @property
    def blank(self) -> bool:
        """Whether nothing of the partition is stored, and nothing of it was given up."""
        return self.top < 0 and self.origin < 0

    @property
    def begins_after(self) -> int | None:
        """After which number a partition begins of which nothing is stored yet; None: where the settings say."""
        if not self.blank or not self.journal:
            return None
        number = json.loads(self.journal[0].body).get("begins_after")
        return None if number is None else int(number)

    @property
    def dictionary(self) -> str | None:
        """Digest of the last dictionary in the journal, None before the first."""
        for row in reversed(self.journal):
            if row.kind == "dictionary":
                return str(json.loads(row.body)["sha256"])
        return None


def look(lake: Lake, partition: str, former: Look | None = None) -> Look:
    """Read what the lake holds; of the former look what cannot have changed is kept."""
    # States before marks: a state is put only when the mark has passed it, and marks only rise. Read the other way
    # round, a flush of the present owner in between would look like a table that was rolled back.
    states = state.numbers(lake.store, partition)
    snapshots = claim.together(lambda table: table.refresh(), [lake.table(name) for name in tables.SPECS])
    found = dict(zip(tables.SPECS, snapshots, strict=True))
    ordinal = found["journal"].ordinal(partition)
    if former is not None and former.ordinal == ordinal:
        rows, others = former.journal, former.others
    else:
        rows = journal.read(lake.table("journal"), partition)
        others = [] if rows else _other_incarnations(lake, partition)
    losses = [row.after_sequence for row in rows if row.kind == "state_loss"]
    return Look(
        mark=found["batches"].mark(partition),
        top=max(snapshot.mark(partition) for snapshot in snapshots),
        ordinal=ordinal,
        journal=rows,
        states=states,
        origin=max(losses, default=-1),
        others=others,
    )


def _other_incarnations(lake: Lake, partition: str) -> list[str]:
    source, _, identity = partition.split("/")
    known = journal.partitions(lake.table("journal"))
    return [each for each in known if each.split("/")[0] == source and each.split("/")[2] == identity]

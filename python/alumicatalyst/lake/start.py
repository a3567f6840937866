"""From where a partition's log is read again: after its newest state, from its beginning, or behind what is lost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alumicatalyst.errors import RolledBack
from alumicatalyst.lake import state, tables
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.look import Look

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Held:
    """What the source still holds of the partition.

    Attributes:
        first_sequence: The oldest sequence number; None: nothing.
        contiguous: Whether sequence numbers have no gaps of their own.
    """

    first_sequence: int | None
    contiguous: bool

    def after(self, number: int) -> int:
        """Return the last number that need not be read, where everything up to `number` is settled or given up.

        A reader takes numbers that the source holds no more for a loss, so those are passed over here.
        """
        return number if self.first_sequence is None else max(number, self.first_sequence - 1)


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin.

    Attributes:
        after: The source is opened after this sequence number.
        state_sequence: The state to load; -1: none.
        replays: Without a state, everything that is stored is made again: the log must go on with `after` + 1.
        lost: What of the log is gone, in words; empty: nothing.
    """

    after: int
    state_sequence: int = -1
    replays: bool = False
    lost: str = ""


def find(lake: Lake, partition: str, look: Look, held: Held) -> Start:
    """Find the newest place from which the partition's log can be read again without a gap."""
    candidates = [number for number in look.states if look.origin < number <= look.mark]
    number = state.newest_intact(lake.store, partition, candidates)
    if number is not None:
        return Start(number, number, lost=_lost_after(lake, partition, look, number, held))
    if look.top <= look.origin:
        return _nothing_stored(look, held)
    recorded = _first_recorded(lake, partition, look)
    if held.first_sequence is not None and held.first_sequence <= recorded:
        # Everything is replayed from the very envelope with which it began; the marks cut what is stored.
        return Start(recorded - 1, replays=True)
    holds = "nothing" if held.first_sequence is None else f"only what starts at {held.first_sequence}"
    return Start(
        held.after(look.top),
        lost=f"there is no intact state, its log began at {recorded}, and the source holds {holds}",
    )


def _after_a_loss(look: Look, held: Held) -> Start:
    """Begin where an accepted loss ended; what has expired since then was not accepted."""
    loss = json.loads(next(row.body for row in reversed(look.journal) if row.kind == "state_loss"))
    first = loss["first_sequence"]
    settled = look.origin if first is None else max(look.origin, first - 1)
    if not held.contiguous or first is None or held.after(settled) == settled:
        return Start(held.after(look.origin))
    return Start(
        settled,
        lost=f"a loss up to {settled} was accepted, nothing is stored since, and the source's oldest row is "
        f"{held.first_sequence}: the rows in between have expired too",
    )


def _nothing_stored(look: Look, held: Held) -> Start:
    """Begin a partition of which nothing is stored, or nothing since a loss was accepted."""
    if look.origin >= 0:
        return _after_a_loss(look, held)
    begins = look.begins_after
    if begins is None:
        return Start(-1)
    # A process that was killed before its first commit had begun there: what came since is not to be left out.
    if not held.contiguous or held.after(begins) == begins:
        return Start(begins)
    return Start(
        begins,
        lost=f"it began after {begins}, nothing of it is stored yet, and the source's oldest row is "
        f"{held.first_sequence}: the rows in between have expired",
    )


def _lost_after(lake: Lake, partition: str, look: Look, number: int, held: Held) -> str:
    """Say what of the log after a state is gone, or return an empty string."""
    first = held.first_sequence
    if first is None:
        # An idle source may well have expired everything that was taken from it.
        return f"the state is at {number}, rows are stored up to {look.top}, the source holds nothing" * (
            number < look.top
        )
    if first <= number + 1:
        return ""
    expired = f"the state is at {number}, the source's oldest row is {first}: the rows in between have expired"
    if held.contiguous:
        return expired
    # With gaps of the source's own, only a number that was seen and lies in the gap proves that something is missing.
    flushes = {json.loads(row.body).get("sequence_number") for row in look.journal if row.kind == "flush"}
    where = f"partition = '{partition}' AND last_sequence > {number}"  # The name's characters are checked.
    seen = lake.table("batches").select(f"SELECT first_sequence, last_sequence FROM batches WHERE {where}")  # noqa: S608
    numbers = {value for row in seen for value in row.values()} | {look.top}
    if any(number < each < first for each in numbers - flushes):
        return expired
    _log.warning("source may have expired rows", partition=partition, state_sequence=number, first_sequence=first)
    return ""


def _first_recorded(lake: Lake, partition: str, look: Look) -> int:
    """Return the number of the first envelope whose rows are in any table, after the origin."""
    where = f"partition = '{partition}' AND first_sequence > {look.origin}"  # The name's characters are checked.
    row = lake.table("batches").select(f"SELECT min(first_sequence) AS first FROM batches WHERE {where}")[0]  # noqa: S608
    if row["first"] is not None:
        return int(row["first"])
    # The first flush was never sealed: its commits to the other tables say where it began.
    ranges = [
        each
        for name in tables.ROW_TABLES
        for info in lake.table(name).commit_infos()
        for each in info.get("ranges", {}).get(partition, [])
    ]
    firsts = [int(each["first"]) for each in ranges if int(each["last"]) > look.origin]
    if not firsts:
        raise RolledBack(
            f"couldn't resume partition {partition}: rows up to {look.top} were committed, but no commit tells where "
            "they begin; the log was cut, restore it"
        )
    return min(firsts)

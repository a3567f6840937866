"""What a process learns when it takes a partition: the claim, the mark, the journal, and where to start."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from alumicatalyst.errors import DictionaryChanged, IncarnationChanged, LakeError, LogExpired, RolledBack
from alumicatalyst.lake import claim, journal, state, tables
from alumicatalyst.lake.commit import Plan, append
from alumicatalyst.lake.journal import JournalRow
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.table import Snapshot

_PARTITION = re.compile(r"[A-Za-z0-9._-]{1,64}/[A-Za-z0-9._-]{1,64}/[A-Za-z0-9._-]{1,64}")

_log = get_logger(__name__)


class DictionaryLike(Protocol):
    """What is needed of a compiled data dictionary."""

    @property
    def sha256(self) -> str:
        """Hex digest of the canonical form."""

    @property
    def version(self) -> str:
        """The version that its author gave it."""

    def to_json(self) -> str:
        """Return the canonical form."""


@dataclass(frozen=True, slots=True)
class Resume:
    """A partition in this process's hands.

    Attributes:
        partition: Its identity.
        claim: The number of this process's claim; also the source's owner level.
        mark: Mark of `batches`; -1: nothing was ever sealed.
        state_sequence: Sequence number of the state to load; -1: none, the operator begins empty.
        journal: The whole journal by ordinal; [0] is the first dictionary.
        state_loss: The operator begins empty although rows were stored before, and the journal says so.
        after: The source is opened after this sequence number; -1: from its first row.
        fresh: Nothing of the partition is stored: the source is opened where the settings say.
    """

    partition: str
    claim: int
    mark: int
    state_sequence: int
    journal: tuple[JournalRow, ...]
    state_loss: bool
    after: int = -1
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Accept:
    """What the operator of the process has agreed to."""

    dictionary: bool = False
    state_loss: bool = False
    incarnation: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What the source still holds of the partition.

    Attributes:
        first_sequence: The oldest sequence number; None: nothing.
        contiguous: Whether sequence numbers have no gaps of their own.
    """

    first_sequence: int | None
    contiguous: bool


@dataclass(frozen=True, slots=True)
class _Look:
    """The lake's view of a partition.

    `top` is the highest mark of any table: after a crash between two tables of a flush some are ahead of `batches`.
    `origin` is where the partition's usable log begins: after the last loss that was accepted, else -1.
    """

    mark: int
    top: int
    ordinal: int
    journal: tuple[JournalRow, ...]
    states: list[int]
    origin: int
    others: list[str]


@dataclass(frozen=True, slots=True)
class _Start:
    after: int
    state_sequence: int
    lost: str = ""


def check_partition(partition: str) -> None:
    """Raise LakeError unless a partition's name can stand in paths and queries."""
    if not _PARTITION.fullmatch(partition) or any(part.strip(".") == "" for part in partition.split("/")):
        raise LakeError(
            f"couldn't take partition {partition!r}: it is not <source>/<incarnation>/<id>; each part has 1-64 of "
            "A-Z a-z 0-9 . _ - and is not made of dots alone"
        )


def resume(lake: Lake, partition: str, dictionary: DictionaryLike, accept: Accept, held: Held) -> Resume:
    """Take a partition: look, claim it, look again, and record what was accepted.

    Everything that may be refused is refused before the claim, so that a process that was started by mistake does not
    stop the one that works. After the claim nobody else writes for the partition, and the second look is what counts.
    """
    check_partition(partition)
    look = _look(lake, partition)
    _refuse(partition, look, dictionary, accept, _start(lake, partition, look, held))
    taken = claim.take([lake.table(name) for name in tables.CLAIM_ORDER], partition, lake.retry)
    look = _look(lake, partition, look)
    start = _start(lake, partition, look, held)
    _refuse(partition, look, dictionary, accept, start)
    look = _journal_dictionary(lake, partition, taken, look, dictionary)
    if start.lost:
        look = _journal_loss(lake, partition, taken, look, start, held)
        start = _Start(after=look.origin, state_sequence=-1)
    if look.mark < look.origin:
        look = _seal(lake, partition, taken, look)
    resumed = Resume(
        partition=partition,
        claim=taken,
        mark=look.mark,
        state_sequence=start.state_sequence,
        journal=look.journal,
        state_loss=look.origin >= 0 and start.state_sequence < 0,
        after=start.after,
        fresh=look.top < 0 and look.origin < 0,
    )
    _log.info(
        "partition taken",
        partition=partition,
        claim=taken,
        mark=look.mark,
        state_sequence=start.state_sequence,
        after=start.after,
    )
    return resumed


def _look(lake: Lake, partition: str, former: _Look | None = None) -> _Look:
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
    return _Look(
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


def _refuse(partition: str, look: _Look, dictionary: DictionaryLike, accept: Accept, start: _Start) -> None:
    if look.others and not accept.incarnation:
        raise IncarnationChanged(
            f"couldn't take partition {partition}: the lake holds {look.others[-1]}, an earlier incarnation of the "
            "same source; its sequence numbers start over. If the hub or topic was made anew on purpose, start once "
            "with --accept-incarnation: both are kept side by side"
        )
    if look.states and look.states[0] > look.mark:
        raise RolledBack(
            f"couldn't resume partition {partition}: there is a state at {look.states[0]}, but batches ends at "
            f"{look.mark}; a table was rolled back or removed. Restore it, or remove the states above the mark if the "
            "older table is the right one"
        )
    former = latest_dictionary(look.journal)
    if former is not None and former != dictionary.sha256 and not accept.dictionary:
        raise DictionaryChanged(
            f"couldn't resume partition {partition}: its rows were made under dictionary {former[:12]}, this one is "
            f"{dictionary.sha256[:12]} (version {dictionary.version}); see `alumicatalyst dictionary diff` for what "
            "the change does, then start once with --accept-dictionary, or use the former dictionary"
        )
    if start.lost and not accept.state_loss:
        raise LogExpired(
            f"couldn't resume partition {partition}: {start.lost}. Restore the source or the state, or start once with "
            "--accept-state-loss: the partition then begins empty after what is stored, and the journal says so"
        )


def latest_dictionary(rows: tuple[JournalRow, ...]) -> str | None:
    """Return the digest of the last dictionary that a journal names, None for an empty journal."""
    for row in reversed(rows):
        if row.kind == "dictionary":
            return str(json.loads(row.body)["sha256"])
    return None


def _start(lake: Lake, partition: str, look: _Look, held: Held) -> _Start:
    """Find the newest place from which the partition's log can be read again without a gap (contracts, 3.8)."""
    candidates = [number for number in look.states if look.origin < number <= look.mark]
    number = state.newest_intact(lake.store, partition, candidates)
    if number is not None:
        return _Start(number, number, _lost_after(lake, partition, look, number, held))
    if look.top <= look.origin:
        return _Start(look.origin, -1)
    recorded = _first_recorded(lake, partition, look)
    if held.first_sequence is not None and held.first_sequence <= recorded:
        # Everything is replayed from the very envelope with which it began; the marks cut what is stored.
        return _Start(max(recorded - 1, look.origin), -1)
    holds = "nothing" if held.first_sequence is None else f"only what starts at {held.first_sequence}"
    return _Start(look.top, -1, f"there is no intact state, its log began at {recorded}, and the source holds {holds}")


def _lost_after(lake: Lake, partition: str, look: _Look, number: int, held: Held) -> str:
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


def _first_recorded(lake: Lake, partition: str, look: _Look) -> int:
    """Return the number of the first envelope whose rows are in any table, after the origin."""
    where = f"partition = '{partition}' AND first_sequence > {look.origin}"  # The name's characters are checked.
    row = lake.table("batches").select(f"SELECT min(first_sequence) AS first FROM batches WHERE {where}")[0]  # noqa: S608
    if row["first"] is not None:
        return int(row["first"])
    # The first flush was never sealed: its commits to the other tables say where it began.
    ranges = [
        info["ranges"][partition]
        for name in tables.ROW_TABLES
        for info in lake.table(name).commit_infos()
        if partition in info.get("ranges", {})
    ]
    firsts = [int(each["first"]) for each in ranges if int(each["last"]) > look.origin]
    if not firsts:
        raise RolledBack(
            f"couldn't resume partition {partition}: rows up to {look.top} were committed, but no commit tells where "
            "they begin; the log was cut, restore it"
        )
    return min(firsts)


def _journal_dictionary(lake: Lake, partition: str, taken: int, look: _Look, dictionary: DictionaryLike) -> _Look:
    """Record the first dictionary, or a change; it takes effect after everything that any table holds.

    Not after the mark of `batches`: tables ahead of it hold rows made under the former dictionary, whose seal is still
    to come and must count them under that one (I1).
    """
    former = latest_dictionary(look.journal)
    if former == dictionary.sha256:
        return look
    lake.store.create_if_absent(dictionary_path(dictionary.sha256), dictionary.to_json().encode())
    body: dict[str, object] = {"sha256": dictionary.sha256, "version": dictionary.version}
    if look.others:
        body["replaces"] = look.others[-1]
    return _journal(lake, partition, taken, look, "dictionary", -1 if former is None else look.top, body)


def _journal_loss(lake: Lake, partition: str, taken: int, look: _Look, start: _Start, held: Held) -> _Look:
    body: dict[str, object] = {
        "mark": look.mark,
        "state_sequence": start.state_sequence,
        "first_sequence": held.first_sequence,
        "reason": start.lost,
    }
    _log.warning("state loss accepted", partition=partition, **body)
    look = _journal(lake, partition, taken, look, "state_loss", look.top, body)
    return replace(look, origin=look.top)


def _journal(
    lake: Lake, partition: str, taken: int, look: _Look, kind: str, after: int, body: dict[str, object]
) -> _Look:
    row = JournalRow(len(look.journal), after, kind, json.dumps(body, sort_keys=True))
    journal.write(lake.table("journal"), partition, taken, row, lake.retry)
    return replace(look, journal=(*look.journal, row))


def _seal(lake: Lake, partition: str, taken: int, look: _Look) -> _Look:
    """Raise the mark of `batches` to an accepted loss: rows in between stay unsealed, as the journal says."""

    def missing(snapshot: Snapshot) -> Plan | None:
        return None if snapshot.mark(partition) >= look.origin else Plan({partition: look.origin})

    append(lake.table("batches"), {partition: taken}, missing, lake.retry, "a mark")
    return replace(look, mark=look.origin)


def dictionary_path(sha256: str) -> str:
    """Return where a dictionary's canonical form is kept."""
    return f"_dictionaries/{sha256}.json"

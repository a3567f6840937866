"""What a process learns when it takes a partition: the claim, the mark, the journal, and where to start."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alumicatalyst.errors import DictionaryChanged, IncarnationChanged, LakeError, LogExpired, RolledBack
from alumicatalyst.lake import claim, tables
from alumicatalyst.lake.look import look
from alumicatalyst.lake.record import record_dictionary, record_loss, seal
from alumicatalyst.lake.start import find
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from alumicatalyst.lake.journal import JournalRow
    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.look import Look
    from alumicatalyst.lake.record import DictionaryLike
    from alumicatalyst.lake.start import Held, Start

_PARTITION = re.compile(r"[A-Za-z0-9._-]{1,64}/[A-Za-z0-9._-]{1,64}/[A-Za-z0-9._-]{1,64}")

_log = get_logger(__name__)


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
        replays: What is stored is made again from its first envelope, so the source must go on with `after` + 1.
    """

    partition: str
    claim: int
    mark: int
    state_sequence: int
    journal: tuple[JournalRow, ...]
    state_loss: bool
    after: int = -1
    fresh: bool = False
    replays: bool = False


@dataclass(frozen=True, slots=True)
class Accept:
    """What the operator of the process has agreed to."""

    dictionary: bool = False
    state_loss: bool = False
    incarnation: bool = False


def check_partition(partition: str) -> None:
    """Raise LakeError unless a partition's name can stand in paths and queries."""
    if not _PARTITION.fullmatch(partition) or any(part.strip(".") == "" for part in partition.split("/")):
        raise LakeError(
            f"couldn't take partition {partition!r}: it is not <source>/<incarnation>/<id>; each part has 1-64 of "
            "A-Z a-z 0-9 . _ - and is not made of dots alone"
        )


def resume(
    lake: Lake,
    partition: str,
    dictionary: DictionaryLike,
    accept: Accept,
    held: Held,
    begins_after: int | None,
    check: Callable[[tuple[JournalRow, ...]], None],
) -> Resume:
    """Take a partition: look, claim it, look again, and record what was accepted.

    Everything that may be refused is refused before the claim, so that a process that was started by mistake does not
    stop the one that works. After the claim nobody else writes for the partition, and the second look is what counts.
    """
    check_partition(partition)
    first = look(lake, partition)
    check(first.journal)
    _refuse(partition, first, dictionary, accept, find(lake, partition, first, held))
    taken = claim.take([lake.table(name) for name in tables.CLAIM_ORDER], partition, lake.retry)
    found = look(lake, partition, first)
    start = find(lake, partition, found, held)
    check(found.journal)
    _refuse(partition, found, dictionary, accept, start)
    recorded = record_dictionary(lake, partition, taken, found, dictionary, begins_after)
    if start.lost:
        recorded = record_loss(lake, partition, taken, recorded, start, held)
    if recorded is not found:
        # What is journaled now moves the start: the next process must find the same one.
        start = find(lake, partition, recorded, held)
    if recorded.mark < recorded.origin:
        recorded = seal(lake, partition, taken, recorded)
    resumed = Resume(
        partition=partition,
        claim=taken,
        mark=recorded.mark,
        state_sequence=start.state_sequence,
        journal=recorded.journal,
        state_loss=recorded.origin >= 0 and start.state_sequence < 0,
        after=start.after,
        fresh=recorded.blank and recorded.begins_after is None,
        replays=start.replays,
    )
    _log.info(
        "partition taken",
        partition=partition,
        claim=taken,
        mark=resumed.mark,
        state_sequence=start.state_sequence,
        after=start.after,
    )
    return resumed


def _refuse(partition: str, found: Look, dictionary: DictionaryLike, accept: Accept, start: Start) -> None:
    if found.others and not accept.incarnation:
        raise IncarnationChanged(
            f"couldn't take partition {partition}: the lake holds {found.others[-1]}, an earlier incarnation of the "
            "same source. A hub or topic was made anew: if on purpose, start once with --accept-incarnation, and both "
            "are kept side by side. Files: the first file is another one, or has changed: name the files that were "
            "replayed before, in their order, or give another --name"
        )
    if found.states and found.states[0] > found.mark:
        raise RolledBack(
            f"couldn't resume partition {partition}: there is a state at {found.states[0]}, but batches ends at "
            f"{found.mark}; a table was rolled back or removed. Restore it, or remove the states above the mark if the "
            "older table is the right one"
        )
    former = found.dictionary
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

"""Where envelopes come from: what every source and reader offers, and how a partition is named."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from alumicatalyst.errors import SourceError
from alumicatalyst.sources.envelope import envelopes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from alumicatalyst._core import Dictionary
    from alumicatalyst.lake import Lake
    from alumicatalyst.lake.journal import JournalRow
    from alumicatalyst.sources.stored_batch import StoredBatch

AS_SET: Final = -2
"""Instead of a sequence number to read behind: begin where the settings say."""

_PART: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Reader(Protocol):
    """One partition, read from a sequence number on."""

    @property
    def finished(self) -> bool:
        """The input is finite, and all of it has been taken."""

    @property
    def queued(self) -> int:
        """Batches that are ready to be taken."""

    def take(self) -> pa.RecordBatch | StoredBatch | None:
        """Return the next batch of envelopes (`sources.envelopes`), or of stored rows, without ever blocking.

        Returns:
            None when there is nothing now; an empty batch about once a second while the source is idle, which is the
            clock of what comes after it.

        Raises:
            SourceError: Reading cannot go on.
            ClaimLost: Another process has taken the partition.
        """

    def lag(self) -> tuple[int, float] | None:
        """Return how far the taken envelopes are behind the source: sequence numbers, and seconds of enqueued time."""

    def close(self) -> None:
        """Stop reading and let go of the source, within about two seconds."""


class Source(Protocol):
    """Something that holds partitions of envelopes."""

    def partitions(self) -> list[str]:
        """Return the full identities of all partitions, sorted; may talk to the source."""

    def first_sequence(self, partition: str) -> int | None:
        """Return the oldest sequence number still held, None if there never was one: tells an expired log."""

    def open(self, partition: str, after: int, owner_level: int) -> Reader:
        """Start to read behind a sequence number.

        Args:
            partition: A full identity.
            after: The first envelope has a greater sequence number; -1 begins with the first one held, `AS_SET` where
                the settings say.
            owner_level: Number of the claim: a reader with a greater one takes the partition away.
        """


@runtime_checkable
class FiniteSource(Source, Protocol):
    """A source that ends, such as files: its end is journaled, so that the last windows close."""

    def input(self) -> dict[str, Any]:
        """Return what the journal keeps of the input: whatever decides its rows and their numbers. May be empty."""

    def check_input(self, previous: Mapping[str, Any]) -> None:
        """Check that the input still begins with what was journaled.

        Raises:
            IncarnationChanged, InputError: It does not.
        """


@runtime_checkable
class JournaledSource(FiniteSource, Protocol):
    """A source that has a journal of its own, which the flow goes through in its places."""

    def dictionary(self, partition: str, rows: Sequence[JournalRow]) -> Dictionary | None:
        """Return the dictionary that the flow goes on with behind these rows of its journal; None: its own."""

    def carried(self, partition: str, rows: Sequence[JournalRow], into: Lake) -> list[JournalRow]:
        """Return the rows that the flow's journal lacks, in order; what they refer to is put into the lake.

        Raises:
            InputError: The flow's journal holds others.
        """


@runtime_checkable
class MovingStart(Source, Protocol):
    """A source whose settings may name a place that moves, such as the newest event."""

    def begins_after(self, partition: str) -> int | None:
        """Return the sequence number that this place lies behind now, None where the settings name a fixed one.

        It is journaled when a partition is taken for the first time, so that a restart begins at the same place.
        """


def partition_id(source: str, incarnation: str | int, number: str | int) -> str:
    """Name a partition: `<source>/<incarnation>/<id>`, each part of 1-64 characters of `A-Za-z0-9._-`.

    Raises:
        SourceError: A part has other characters or another length.

    Example:
        >>> partition_id("telemetry", 1795256130123, 0)
        'telemetry/1795256130123/0'
    """
    parts = (source, str(incarnation), str(number))
    for part in parts:
        if not _PART.fullmatch(part):
            raise SourceError(
                f"couldn't name a partition: {part!r}; each part has 1 to 64 letters, digits, '.', '_' or '-'"
            )
    return "/".join(parts)


def split_partition_id(partition: str) -> tuple[str, str, str]:
    """Return source, incarnation and id of a partition.

    Raises:
        SourceError: It is not the name of a partition.
    """
    parts = partition.split("/")
    if len(parts) != 3 or not all(_PART.fullmatch(part) for part in parts):
        raise SourceError(f"couldn't read a partition's name: {partition!r}; it is <source>/<incarnation>/<id>")
    return parts[0], parts[1], parts[2]


__all__ = [
    "AS_SET",
    "FiniteSource",
    "JournaledSource",
    "MovingStart",
    "Reader",
    "Source",
    "envelopes",
    "partition_id",
    "split_partition_id",
]

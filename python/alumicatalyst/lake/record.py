"""What taking a partition writes: the dictionary in force, a loss that was accepted, and the mark up to it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from alumicatalyst.lake import journal
from alumicatalyst.lake.commit import Plan, append
from alumicatalyst.lake.journal import JournalRow
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.look import Look
    from alumicatalyst.lake.start import Held, Start
    from alumicatalyst.lake.table import Snapshot

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


def dictionary_path(sha256: str) -> str:
    """Return where a dictionary's canonical form is kept."""
    return f"_dictionaries/{sha256}.json"


def record_dictionary(
    lake: Lake, partition: str, taken: int, look: Look, dictionary: DictionaryLike, begins_after: int | None
) -> Look:
    """Record the first dictionary, or a change; it takes effect after everything that any table or the journal holds.

    Not after the mark of `batches`: tables ahead of it hold rows made under the former dictionary, whose seal is still
    to come and must count them under that one (I1). And not before a flush that was journaled, whose rows are still to
    be made. The first row also keeps where the partition begins.
    """
    former = look.dictionary
    if former == dictionary.sha256:
        return look
    lake.store.create_if_absent(dictionary_path(dictionary.sha256), dictionary.to_json().encode())
    body: dict[str, object] = {"sha256": dictionary.sha256, "version": dictionary.version}
    if look.others:
        body["replaces"] = look.others[-1]
    if not look.journal and look.blank and begins_after is not None:
        body["begins_after"] = begins_after
    flushes = [json.loads(row.body)["sequence_number"] for row in look.journal if row.kind == "flush"]
    after = -1 if former is None else max(look.top, *flushes, -1)
    return _journal(lake, partition, taken, look, "dictionary", after, body)


def record_loss(lake: Lake, partition: str, taken: int, look: Look, start: Start, held: Held) -> Look:
    """Record that a loss was accepted: the partition begins empty after everything that is stored.

    Where nothing is stored, it begins with what the source still holds.
    """
    body: dict[str, object] = {
        "mark": look.mark,
        "state_sequence": start.state_sequence,
        "first_sequence": held.first_sequence,
        "reason": start.lost,
    }
    _log.warning("state loss accepted", partition=partition, **body)
    origin = held.after(look.top) if look.blank else look.top
    look = _journal(lake, partition, taken, look, "state_loss", origin, body)
    return replace(look, origin=origin)


def seal(lake: Lake, partition: str, taken: int, look: Look) -> Look:
    """Raise the mark of `batches` to an accepted loss: rows in between stay unsealed, as the journal says."""

    def missing(snapshot: Snapshot) -> Plan | None:
        return None if snapshot.mark(partition) >= look.origin else Plan({partition: look.origin})

    append(lake.table("batches"), {partition: taken}, missing, lake.retry, "a mark")
    return replace(look, mark=look.origin)


def _journal(
    lake: Lake, partition: str, taken: int, look: Look, kind: str, after: int, body: dict[str, object]
) -> Look:
    row = JournalRow(len(look.journal), after, kind, json.dumps(body, sort_keys=True))
    journal.write(lake.table("journal"), partition, taken, row, lake.retry)
    return replace(look, journal=(*look.journal, row))

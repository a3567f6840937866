"""A lake as a source: its stored readings in the order of their log, to be analysed again into another lake.

What it cannot give is what decoding alone knows: how a value was converted, and what was rejected. The former is
refused where it would matter, the latter is carried over. Identities and sequence numbers stay, so that both lakes can
be joined row by row.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst._core import Dictionary
from alumicatalyst.errors import IncarnationChanged, InputError, SourceError
from alumicatalyst.lake import journal
from alumicatalyst.lake.record import dictionary_path
from alumicatalyst.sources.stored_files import Files
from alumicatalyst.sources.stored_reader import StoredReader
from alumicatalyst.sources.stored_seals import read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alumicatalyst.lake import Lake
    from alumicatalyst.lake.journal import JournalRow
    from alumicatalyst.sources.stored_seals import Seals

_EXPIRED: Final = "expired/"


class StoredSource:
    """The partitions of a lake, each read from its first stored row on.

    Args:
        lake: The lake to read; nothing is written to it.
        dictionary: The new dictionary; None goes through the dictionaries that the lake's journal names, in their
            places.
        partitions: Identities to read; all otherwise.
        accept_missing: Read what there is where rows have expired, instead of refusing.

    Raises:
        InputError: There is no such partition, rows have expired, or a metric's values would have to be converted.
        LakeError: The lake cannot be read.
    """

    def __init__(
        self,
        lake: Lake,
        dictionary: Dictionary | None = None,
        *,
        partitions: Sequence[str] = (),
        accept_missing: bool = False,
    ) -> None:
        self._lake, self._new = lake, dictionary
        self.known = known = journal.partitions(lake.table("journal"))
        unknown = [each for each in partitions if each not in known]
        if unknown or not known:
            raise InputError(
                f"couldn't replay {', '.join(unknown) or lake.store.root}: the lake holds "
                f"{', '.join(known) or 'no partition'}; name one of its partitions"
            )
        self._partitions = sorted(partitions or known)
        self._journals = {each: journal.read(lake.table("journal"), each) for each in self._partitions}
        self._identities = _identities(lake, self._partitions)
        self._dictionaries: dict[str, Dictionary] = {}
        self.seals: dict[str, Seals] = read(lake, self._partitions, self._journals)
        self._complete = not accept_missing
        if not accept_missing:
            self._refuse_expired()
        if dictionary is not None:
            self._refuse_units(dictionary)
        self._files = Files(lake)
        self._readers: list[StoredReader] = []

    def partitions(self) -> list[str]:
        """Return the identities of the partitions, which are those of the lake."""
        return self._partitions

    def first_sequence(self, partition: str) -> int | None:
        """Return the first stored sequence number."""
        first = self.seals[partition].first
        return None if first < 0 else first

    def open(self, partition: str, after: int, owner_level: int) -> StoredReader:
        """Read a partition's rows behind a sequence number."""
        del owner_level
        reader = StoredReader(self._files, self.seals[partition], after, complete=self._complete)
        self._readers.append(reader)
        return reader

    @property
    def rows(self) -> int:
        """Readings, rejected ones among them, that the open partitions had to bring when they were opened."""
        return sum(reader.rows for reader in self._readers)

    @property
    def losses(self) -> int:
        """Losses of state that the lake accepted; a replay loses nothing there."""
        return sum(len(each.losses) for each in self.seals.values())

    @property
    def first_dictionary(self) -> Dictionary:
        """The dictionary that the lake's first partition began under."""
        return self._dictionary(json.loads(self._journals[self._partitions[0]][0].body)["sha256"])

    @property
    def unsure(self) -> int:
        """Envelopes without rows whose place in the log is not known, though it may have mattered."""
        return sum(reader.unsure for reader in self._readers)

    # ------------------------------------------------------------------ the journal

    def input(self) -> dict[str, Any]:
        """Return what the journal keeps of the input: which partitions of which lake, and how they are read."""
        return {"lake": self._identities, "options": {"same_dictionary": self._new is None}}

    def check_input(self, previous: Mapping[str, Any]) -> None:
        """Check that the lake is the one that was replayed before, and that it is replayed in the same way.

        Raises:
            InputError: It is to be replayed in another way.
            IncarnationChanged: It is another lake.
            SourceError: The journal does not name a lake.
        """
        lake, options = previous.get("lake"), previous.get("options")
        if not isinstance(lake, dict) or not isinstance(options, dict):
            raise SourceError(
                "couldn't compare the lake with the one of the last run: the journal's input names none; it was not "
                "replayed from a lake, give another --into"
            )
        changed = [each for each, identity in self._identities.items() if lake.get(each, identity) != identity]
        if changed:
            raise IncarnationChanged(
                f"couldn't continue the replay: {changed[0]} was begun anew in {self._lake.store.root} since, or this "
                "is another lake; name the same one, or give another --into"
            )
        same = bool(options.get("same_dictionary"))
        if same != (self._new is None):
            raise InputError(
                f"couldn't continue the replay: it began {'with' if same else 'without'} --same-dictionary; do so "
                "again, or give another --into"
            )

    def dictionary(self, partition: str, rows: Sequence[JournalRow]) -> Dictionary | None:
        """Return the dictionary to go on with behind what a replay's journal holds; None for the flow's own."""
        if self._new is not None:
            return None
        known = [row for row in rows if row.kind == "dictionary"] or self._journals[partition][:1]
        return self._dictionary(json.loads(known[-1].body)["sha256"])

    def carried(self, partition: str, rows: Sequence[JournalRow], into: Lake) -> list[JournalRow]:
        """Return the rows of the lake's journal that a replay's journal lacks yet; dictionaries are put into its lake.

        Raises:
            InputError: The replay's journal holds others.
        """
        same = self._new is None
        wanted = self.seals[partition].carried(dictionaries=same)
        kinds = ("flush", "dictionary") if same else ("flush",)
        held = [row for row in rows[1:] if row.kind in kinds]
        told = [(row.kind, row.after_sequence, row.body) for row in wanted]
        if [(row.kind, row.after_sequence, row.body) for row in held] != told[: len(held)]:
            raise InputError(
                f"couldn't continue the replay of {partition}: its journal has rows that {self._lake.store.root} has "
                "not; give another --into"
            )
        missing = wanted[len(held) :]
        for row in missing:
            if row.kind == "dictionary":
                sha256 = json.loads(row.body)["sha256"]
                into.store.create_if_absent(dictionary_path(sha256), self._lake.dictionary(sha256).encode())
        return missing

    def _dictionary(self, sha256: str) -> Dictionary:
        if sha256 not in self._dictionaries:
            self._dictionaries[sha256] = Dictionary.from_json(self._lake.dictionary(sha256))
        return self._dictionaries[sha256]

    # ------------------------------------------------------------------ what speaks against it

    def _refuse_expired(self) -> None:
        gone = {}
        for name in ("readings", "rejected", "windows"):
            for application, rows in self._lake.table(name).refresh().transactions.items():
                _, _, of = application.removeprefix(_EXPIRED).partition("/")
                if application.startswith(_EXPIRED) and rows and of in self._partitions:
                    gone[application.removeprefix(_EXPIRED)] = rows
        if gone:
            listed = "; ".join(f"{rows:,} {what}" for what, rows in sorted(gone.items()))
            raise InputError(
                f"couldn't replay {self._lake.store.root} from its first row: retention has removed {listed}. Give "
                "--accept-missing to replay what is left, whose windows begin in the middle"
            )

    def _refuse_units(self, new: Dictionary) -> None:
        """Stored values are in the unit, and states are the codes, of the dictionary that they came under."""
        problems = []
        metrics = _metrics(new)
        digests = {
            json.loads(row.body)["sha256"]
            for rows in self._journals.values()
            for row in rows
            if row.kind == "dictionary"
        }
        for sha256 in sorted(digests):
            former = _metrics(self._dictionary(sha256))
            for name in sorted(former.keys() & metrics.keys()):
                if former[name]["unit"] != metrics[name]["unit"]:
                    problems.append(f"{name} is stored in {former[name]['unit']}, not in {metrics[name]['unit']}")
                was, now = former[name]["states"] or {}, metrics[name]["states"] or {}
                problems += [
                    f"{name} has {state} stored as {was[state]}, not as {now[state]}"
                    for state in sorted(was.keys() & now.keys())
                    if was[state] != now[state]
                ]
        if problems:
            raise InputError(
                f"couldn't replay under dictionary {new.sha256[:12]} (version {new.version}): "
                f"{'; '.join(dict.fromkeys(problems))}. Give the metric another name, or replay the bodies: from "
                "Capture's files, or the hub"
            )


def _identities(lake: Lake, partitions: Sequence[str]) -> dict[str, str]:
    """Tell each partition's log from any other: by the first row of its journal, with the moment that it was made."""
    rows = lake.table("journal").select("SELECT partition, time, body FROM journal WHERE ordinal = 0")
    texts = {row["partition"]: f"{row['time'].isoformat()}\n{row['body']}" for row in rows}
    return {each: hashlib.sha256(texts[each].encode()).hexdigest()[:16] for each in partitions}


def identities(lake: Lake) -> dict[str, str]:
    """Return what tells each partition of a lake from any other log."""
    return _identities(lake, journal.partitions(lake.table("journal")))


def _metrics(dictionary: Dictionary) -> dict[str, dict[str, Any]]:
    """The metrics of a dictionary by name; a name has one unit throughout."""
    return {metric["name"]: metric for metric in json.loads(dictionary.to_json())["metrics"]}


def check_target(source: StoredSource, into: Lake) -> None:
    """Check that a lake is another one than the source's, and empty but for a replay of it.

    Raises:
        InputError: It is not.
    """
    found = identities(into)
    remedy = "give another --into, which is empty or was filled by this replay"
    same = sorted(each for each, identity in source.input()["lake"].items() if found.get(each) == identity)
    if same:
        raise InputError(f"couldn't replay a lake into itself: {into.store.root} holds the log of {same[0]}; {remedy}")
    foreign = sorted(found.keys() - set(source.known))
    marks = into.table("batches").refresh()
    for each in sorted(found.keys() - set(foreign)):
        replayed = any("input" in json.loads(row.body) for row in journal.read(into.table("journal"), each))
        if not replayed and marks.mark(each) >= 0:
            foreign.append(each)
    if foreign:
        raise InputError(
            f"couldn't replay into {into.store.root}: it holds {foreign[0]}, which is not of this replay; {remedy}"
        )

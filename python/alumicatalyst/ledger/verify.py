"""Verifies the log by its key, and the lake by the log; it only reads, and a flow may be writing meanwhile."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from alumicatalyst.errors import LedgerError, StateError
from alumicatalyst.lake import archive, state, tables
from alumicatalyst.lake.fault import reported
from alumicatalyst.ledger import entry
from alumicatalyst.ledger.log import CHECKPOINT
from alumicatalyst.ledger.tiles import Tiles
from alumicatalyst.ledger.verify_log import verify_log
from alumicatalyst.ledger.verify_report import Finding
from alumicatalyst.ledger.verify_table import TableCheck
from alumicatalyst.maintenance import lease

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from alumicatalyst.lake.store import Store
    from alumicatalyst.ledger.note import VerifierKey
    from alumicatalyst.ledger.verify_log import Earlier
    from alumicatalyst.ledger.verify_report import Report

DICTIONARIES: Final = "_dictionaries"
STATES: Final = "_state"
_DICTIONARY: Final = re.compile(r"_dictionaries/([0-9a-f]{64})\.json")
_LEASE: Final = re.compile(rf"{lease.FOLDER}/(?:clock|{lease.WHAT}/[0-9]{{20}})")
_STATE: Final = re.compile(r"_state/([^/]+/[^/]+/[^/]+)/([0-9]{20})")


def verify(folder: Path, vkey: VerifierKey, earlier: Sequence[Earlier], store: Store, report: Report) -> None:
    """Verify a log and the lake that it is of.

    Args:
        folder: The log.
        vkey: Its verifier key.
        earlier: Checkpoints that the log must begin with.
        store: The lake's store.
        report: Takes what is found.

    Raises:
        LakeError: The store cannot be read.
    """
    readable = verify_log(folder, vkey, earlier, report)
    if report.size is None:
        return
    log = _Entries(folder, readable, report)
    with reported("verify the lake"):
        # After the log: what was signed is there by now.
        listed: dict[str, dict[str, int]] = defaultdict(dict)
        for path, size in store.list(""):
            listed[path.partition("/")[0]][path] = size
        for name in tables.SPECS:
            check = TableCheck(store, name, listed.pop(name, {}), report)
            for index, data, found in log.of(name):
                check.take(index, data, found)
            check.finish()
        _dictionaries(store, listed.pop(DICTIONARIES, {}), log.dictionaries, report)
        _states(store, listed.pop(STATES, {}), report)
        _maintenance(listed.pop(archive.FOLDER, {}), listed.pop(lease.FOLDER, {}), report)
        for path in sorted(path for each in listed.values() for path in each):
            report.unclaimed.add(Finding("it is no part of a lake", file=path))


class _Entries:
    """A log's entries, table by table.

    Attributes:
        dictionaries: Digests of the data dictionaries that entries name, each with one that does.
    """

    def __init__(self, folder: Path, readable: int, report: Report) -> None:
        self._log = Tiles(folder, report.size or 0)
        self._readable = readable
        self._report = report
        self.dictionaries: dict[str, str] = {}
        for index, data in enumerate(self._log.entries(0, readable)):
            try:
                found = entry.parse(data)
            except LedgerError as error:
                report.wrong.add(Finding(f"entry {index}: {error}", file=CHECKPOINT))
                continue
            if found.table not in tables.SPECS:
                report.wrong.add(Finding(f"entry {index} is of a table that no lake has", found.table, found.version))
            for each in found.dictionaries:
                self.dictionaries.setdefault(each, found.name)

    def of(self, table: str) -> Iterator[tuple[int, bytes, entry.Entry]]:
        """Yield index, bytes and meaning of a table's entries."""
        begin = f"{entry.HEADER}\ntable {table}\n".encode()
        for index, data in enumerate(self._log.entries(0, self._readable)):
            if data.startswith(begin):
                try:
                    yield index, data, entry.parse(data)
                except LedgerError:
                    continue  # Named already.


def _dictionaries(store: Store, listed: dict[str, int], named: dict[str, str], report: Report) -> None:
    kept = set()
    for path in sorted(listed):
        match = _DICTIONARY.fullmatch(path)
        if match is None:
            report.unclaimed.add(Finding("it is no dictionary", file=path))
            continue
        report.figures["dictionaries"] += 1
        kept.add(match[1])
        found = hashlib.sha256(store.get(path)).hexdigest()
        if found != match[1]:
            report.wrong.add(Finding(f"its digest is {found}, not its name", file=path))
        elif match[1] not in named:
            report.unclaimed.add(Finding("no entry names it yet", file=path))
    for missing in sorted(named.keys() - kept):
        path = f"{DICTIONARIES}/{missing}.json"
        report.wrong.add(Finding(f"it is missing: {named[missing]} was made under it", file=path))


def _states(store: Store, listed: dict[str, int], report: Report) -> None:
    for path in sorted(listed):
        match = _STATE.fullmatch(path)
        if match is None:
            report.unclaimed.add(Finding("it is no state", file=path))
            continue
        report.figures["states"] += 1
        try:
            state.get(store, match[1], int(match[2]))
        except StateError as error:
            # An old one may have been removed since, when a newer one was put.
            if any(found == path for found, _ in store.list(f"{STATES}/{match[1]}")):
                report.wrong.add(Finding(str(error), file=path))


def _maintenance(archives: Iterable[str], leases: Iterable[str], report: Report) -> None:
    """Name what maintenance would not have written; commits in archives were verified with their tables."""
    for path in sorted(archives):
        piece = archive.Piece.of(path)
        if piece is None or piece.table not in tables.SPECS:
            report.unclaimed.add(Finding("it is no archive of commits", file=path))
        else:
            report.figures["archives"] += 1
    for path in sorted(leases):
        if _LEASE.fullmatch(path) is None:
            report.unclaimed.add(Finding("it is no lease", file=path))

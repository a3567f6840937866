"""The files of one version of a table as a reader needs them, and which were written before a column was added."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from alumicatalyst.lake import tables
from alumicatalyst.lake.table import Contents, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from alumicatalyst.lake.table import Table


@dataclass(frozen=True, slots=True)
class Seen(Contents):
    """The data files of one version of a table.

    Attributes:
        partial: The paths of files whose statistics do not name every column: they may lack some.
    """

    partial: frozenset[str] = frozenset()


def look(table: Table) -> Seen:
    """Return the newest version of a table."""
    with table.lock:
        return seen(table.name, table.refresh(), table.files().values())


def seen(name: str, snapshot: Snapshot, adds: Iterable[Mapping[str, Any]]) -> Seen:
    """Return what the add actions of a version say."""
    # Where rows were first written has no statistics, and the date stands in the path.
    wanted = {each for each in tables.schema(name).names if not each.startswith("_")} - {"date"}
    paths: list[str] = []
    sizes: list[int] = []
    partial: set[str] = set()
    rows = 0
    for add in adds:
        path = unquote(add["path"])
        statistics = json.loads(add.get("stats") or "{}")
        paths.append(path)
        sizes.append(int(add["size"]))
        rows += statistics.get("numRecords", 0)
        if not wanted <= statistics.get("nullCount", {}).keys():
            partial.add(path)
    return Seen(snapshot, paths, sizes, rows, frozenset(partial))

"""How a stored table's columns may differ from those that this version writes, and how its old rows were digested.

A version of this software adds columns that may be empty, and nothing else: then rows of every age can be read
together, and the digest of an old one is still that of the columns that it was written with.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.errors import LakeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMER: Final[dict[str, tuple[str, ...]]] = {}
"""By table, the schema texts of row digests (LEDGER.md, rule 23) that former versions wrote. Whoever adds a column to a
table of the core puts the text before it here, so that rows of before are still verified and proven; the golden lakes
of the tests fail until it is here."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as a Delta schema has it."""

    name: str
    kind: str
    nullable: bool

    def __str__(self) -> str:
        """Return name and type, as in messages."""
        return f"{self.name} {self.kind}" + ("" if self.nullable else " not null")


@dataclass(frozen=True, slots=True)
class Difference:
    """In what a table differs from what this version writes.

    Attributes:
        missing: Columns that the table lacks.
        unknown: Columns that this version does not know.
        changed: Columns of the same name that hold something else, as stored and as this version writes them.
        relaxed: Columns that may be empty by now and could not before, likewise.
        moved: The columns that both have are in another order.
    """

    missing: tuple[Column, ...] = ()
    unknown: tuple[Column, ...] = ()
    changed: tuple[tuple[Column, Column], ...] = ()
    relaxed: tuple[tuple[Column, Column], ...] = ()
    moved: bool = False

    @property
    def is_none(self) -> bool:
        """Whether there is none."""
        return self == Difference()

    @property
    def refusal(self) -> str:
        """Why the table cannot be migrated, with what to do instead; "" if it can."""
        if self.unknown:
            return "it was made by newer software: use that version"
        if self.changed:
            return "no reader could take both for one column: use the version that wrote it, or another lake.uri"
        if self.moved:
            return "its columns are in another order: use the version that wrote it, or another lake.uri"
        if any(not each.nullable for each in self.missing):
            return "rows that are stored have no value for it: use the version that wrote it, or another lake.uri"
        return ""

    def text(self) -> str:
        """Return the columns that differ, as stored and as this version writes them."""
        pairs = [*self.changed, *self.relaxed]
        stored = [*self.unknown, *(found for found, _ in pairs)]
        written = [*self.missing, *(wanted for _, wanted in pairs)]
        order = " in another order" if self.moved else ""
        return f"it has {_listed(stored)}{order}, this version writes {_listed(written)}"


def columns_of(schema: str) -> list[Column]:
    """Return the columns of a Delta schema, as `schemaString` has it.

    Raises:
        ValueError: It is none.
    """
    try:
        fields = json.loads(schema)["fields"]
        return [Column(str(each["name"]), _kind(each["type"]), bool(each["nullable"])) for each in fields]
    except (KeyError, TypeError) as error:
        raise ValueError(f"it is no schema: {error}") from error


def written(table: str) -> str:
    """Return the Delta schema of a table as this version writes it."""
    from deltalake import Schema

    from alumicatalyst.lake import tables

    text: str = Schema.from_arrow(tables.schema(table)).to_json()
    return text


def compare(found: Sequence[Column], wanted: Sequence[Column]) -> Difference:
    """Compare stored columns with those that this version writes."""
    stored, known = {each.name: each for each in found}, {each.name: each for each in wanted}
    both = [(stored[each.name], each) for each in wanted if each.name in stored]
    return Difference(
        missing=tuple(each for each in wanted if each.name not in stored),
        unknown=tuple(each for each in found if each.name not in known),
        changed=tuple(pair for pair in both if pair[0].kind != pair[1].kind),
        relaxed=tuple(pair for pair in both if pair[0].kind == pair[1].kind and pair[1].nullable > pair[0].nullable),
        moved=[each.name for each in found if each.name in known] != [each.name for each, _ in both],
    )


def difference(table: str, metadata: Mapping[str, Any]) -> Difference:
    """Compare the columns that a table's metadata tells with those that this version writes.

    Raises:
        LakeError: The metadata tells none.
    """
    try:
        return compare(columns_of(metadata["schemaString"]), columns_of(written(table)))
    except (ValueError, KeyError, TypeError) as error:
        raise LakeError(
            f"couldn't read the columns of the table {table}: {error}; see who changed its metadata, and restore it"
        ) from error


def check(table: str, metadata: Mapping[str, Any], root: str) -> None:
    """Raise LakeError unless a table has the columns that this version writes."""
    found = difference(table, metadata)
    if not found.is_none:
        remedy = found.refusal or (
            f"run `alumicatalyst lake migrate --lake {root}` once, which adds what is missing and changes no file"
        )
        raise LakeError(f"couldn't use the table {table} of {root}: {found.text()}; {remedy}")


def leaf_schema(table: str, sha256: bytes | None) -> str | None:
    """Return the schema text of row digests of which this is the hash, None if this version does not know it."""
    from alumicatalyst import _core

    texts = (_core.leaf_schema(table), *FORMER.get(table, ()))
    return next((text for text in texts if hashlib.sha256(text.encode()).digest() == sha256), None)


def _listed(columns: Sequence[Column]) -> str:
    return ", ".join(map(str, columns)) or "no such column"


def _kind(kind: object) -> str:
    return kind if isinstance(kind, str) else json.dumps(kind, sort_keys=True)

"""What a verification found: differences first of all, and what is named without being wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT_MAX: Final = 20
"""Findings of a kind that are kept in full; the others are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found, and where.

    Attributes:
        what: In words.
        table: The table; "" for the log and for what belongs to no table.
        version: The Delta version of the commit that speaks of it.
        file: The file, from the lake's or the log's root.
        rows: First and last row in the file or batch.
    """

    what: str
    table: str = ""
    version: int | None = None
    file: str = ""
    rows: tuple[int, int] | None = None

    def text(self) -> str:
        """Return it on one line."""
        place = [self.table and (self.table if self.version is None else f"{self.table}@{self.version}"), self.file]
        if self.rows is not None:
            place.append(f"rows {self.rows[0]}-{self.rows[1]}")
        return ": ".join([" ".join(each for each in place if each), self.what]).removeprefix(": ")


@dataclass(slots=True)
class Findings:
    """The first few of a kind, and how many there are."""

    count: int = 0
    first: list[Finding] = field(default_factory=list)

    def add(self, found: Finding) -> None:
        """Count one, and keep it if it is among the first."""
        self.count += 1
        if len(self.first) < KEPT_MAX:
            self.first.append(found)


@dataclass(slots=True)
class Report:
    """The outcome of a verification.

    Attributes:
        origin: The log's name.
        size: Entries under the signed checkpoint; None if there is no checkpoint of the key.
        root: Its root, base64.
        wrong: What contradicts the ledger.
        pending: Commits that are newer than the ledger.
        unclaimed: Files that nothing names: left by a crash, or put there.
        notes: What could not be looked at any more, such as what maintenance has removed.
        figures: How much was looked at.
        tell: Told what is being done, for progress.
    """

    origin: str = ""
    size: int | None = None
    root: str = ""
    wrong: Findings = field(default_factory=Findings)
    pending: Findings = field(default_factory=Findings)
    unclaimed: Findings = field(default_factory=Findings)
    notes: Findings = field(default_factory=Findings)
    figures: Counter[str] = field(default_factory=Counter)
    tell: Callable[[str], None] = lambda _: None

    def is_ok(self, *, strict: bool) -> bool:
        """Return whether nothing is wrong; strictly, whether nothing at all is to be named."""
        named = self.wrong.count
        if strict:
            named += self.pending.count + self.unclaimed.count + self.notes.count
        return named == 0

    def as_dict(self, *, strict: bool) -> dict[str, Any]:
        """Return it for JSON."""
        told = asdict(
            self, dict_factory=lambda pairs: {name: value for name, value in pairs if name not in {"tell", "figures"}}
        )
        return {"ok": self.is_ok(strict=strict), **told, "figures": dict(self.figures)}

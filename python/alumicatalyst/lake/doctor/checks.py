"""What the doctor asks of a lake: every question with what it means and what to do, and the answers as they come in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

EXAMPLES_MAX: Final = 5


class Question(NamedTuple):
    """One thing that must hold of a lake, or had better.

    Attributes:
        name: What must hold.
        remedy: What to do where it does not.
        advice: Nothing is wrong where it does not: the lake is exact, and only slower or larger than it need be.
    """

    name: str
    remedy: str
    advice: bool = False


_RESTORE: Final = "restore it from a copy; `alumicatalyst ledger verify` names what was changed since it was signed"
_BY_HAND: Final = (
    "the table was changed by something else than the flow: `alumicatalyst ledger verify` and the table's history say "
    "which commit did it; restore the table as of the version before"
)

QUESTIONS: Final[dict[str, Question]] = {
    # ---- the logs
    "tables": Question(
        "every table is there", "restore it; of a lake of an older version: run `alumicatalyst lake migrate`"
    ),
    "commits": Question("every commit that readers need is there and can be read", f"the commit file: {_RESTORE}"),
    "checkpoint": Question(
        "the newest checkpoint is what the commits make it",
        "readers begin with it: remove it, and _last_checkpoint, while the commits since the one before are there; the "
        "flow writes another. Else restore it",
    ),
    "pointer": Question(
        "_last_checkpoint points to a checkpoint that is there",
        "remove it: readers find the checkpoints by themselves, and the flow's next one writes it anew",
    ),
    "named-once": Question("no file is named that was removed, nor twice", _BY_HAND),
    "protocol": Question(
        "tables ask for reader 1 and writer 2 and hide no rows",
        "another tool has upgraded the table, and this version writes nothing to it: restore it as of the version "
        "before, or rewrite it without that feature",
    ),
    "properties": Question(
        "tables have the properties and partitions that the flow gave them",
        "set them back with the tool that changed them; without delta.appendOnly the journal is not protected, and "
        "with delta.enableExpiredLogCleanup commits vanish before the ledger has signed them",
    ),
    "schema": Question("tables have columns that this version can write", "use the version that wrote them"),
    "schema-old": Question(
        "tables have every column of this version", "stop the flow and run `alumicatalyst lake migrate`", advice=True
    ),
    "pointer-there": Question(
        "there is a _last_checkpoint",
        "nothing: the flow's next checkpoint writes it; until then readers list",
        advice=True,
    ),
    "log-tail": Question(
        "there is a checkpoint of the last commits",
        "readers have many commits to read: see the flow's log for `checkpoint not written`, and mend the store",
        advice=True,
    ),
    "log-length": Question("logs are short", "run `alumicatalyst lake trim`", advice=True),
    "log-old": Question(
        "commits before the last checkpoint are in the log or the archive",
        "readers need them no more, `ledger verify` does: restore them, and let no other tool clean up the log",
        advice=True,
    ),
    # ---- the files
    "files-there": Question(
        "every file that a commit names is there, whole",
        "restore the file from a copy: its rows are nowhere else once the source has expired them",
    ),
    "files-readable": Question("every file can be read", f"the file: {_RESTORE}"),
    "files-claims": Question(
        "files have the rows, columns and statistics that commits say",
        "readers pass over files by these, so they may miss rows: `alumicatalyst ledger verify` says who is right; "
        "restore the file, or the table as of the version before",
    ),
    "files-once": Question("no file is in a table twice under two names", _BY_HAND),
    "dates": Question("rows are stored under the date of their enqueued time", _BY_HAND),
    "orphans": Question("no file is stored that nothing names", "run `alumicatalyst lake vacuum`", advice=True),
    "temporaries": Question("no unfinished file is left", "run `alumicatalyst lake vacuum`", advice=True),
    "small-files": Question("files are of a good size", "run `alumicatalyst lake compact`", advice=True),
    "strays": Question(
        "there is nothing in the lake that is no part of one",
        "move it elsewhere: the lake's folders are its own",
        advice=True,
    ),
    # ---- the rows
    "accounting": Question(
        "every reading, window and alarm is stored as often as batches counts it",
        "rows are missing or double (I1): the other findings may say why; else `alumicatalyst ledger verify` names the "
        "commit",
    ),
    "sums": Question("rows total = windowed + late + duplicate + rejected", _BY_HAND),
    "disjoint": Question("ranges of batches are disjoint", _BY_HAND),
    "continuous": Question("ranges of batches follow one another without a gap", _BY_HAND),
    "reading-keys": Question("readings and rejected rows have unique keys", _BY_HAND),
    "window-keys": Question("windows have unique keys", _BY_HAND),
    "alarm-keys": Question("alarm transitions have unique keys", _BY_HAND),
    "marks": Question(
        "no row is beyond its table's mark", "the table was rolled back, or written past its marks: restore it"
    ),
    # ---- what partitions resume from
    "claims": Question(
        "no table has seen a later claim than readings", "readings was rolled back: restore it before a flow starts"
    ),
    "journals": Question("journals have every ordinal once", "restore the journal: no replay is exact without it"),
    "states-ahead": Question(
        "no state is ahead of the mark",
        "batches was rolled back: restore it, or remove the states above its mark if the older table is the right one",
    ),
    "states-intact": Question(
        "states are intact", "remove the damaged one: an older one, or the source's beginning, is used instead"
    ),
    "states-there": Question(
        "every partition has a state",
        "a restart reads the source from where the partition begins, and is refused if that has expired: let the flow "
        "drain once, which keeps a state",
        advice=True,
    ),
    "states-few": Question(
        "no more states are kept than are needed",
        "nothing: the next state removes them; of a partition that is done, delete all but the newest",
        advice=True,
    ),
    "dictionaries": Question(
        "every dictionary that rows were made under is kept",
        "restore it from version control: its canonical form has that digest (`alumicatalyst dictionary check`)",
    ),
    # ---- the ledger
    "ledger": Question(
        "the ledger's last entries are of this lake's commits",
        "`alumicatalyst ledger verify` says in what they differ; sign nothing before",
    ),
    "ledger-behind": Question(
        "the ledger has signed what is older than a few minutes", "start `alumicatalyst ledger run`", advice=True
    ),
}


@dataclass(slots=True)
class Check:
    """One question, answered.

    Attributes:
        key: The question's short name.
        name: What must hold, or had better.
        advice: Whether the lake is exact even where it does not.
        wrong: How many times it does not; None: it could not be asked, because of other damage or without a ledger.
        examples: The first few, in words.
        remedy: What to do.
    """

    key: str
    name: str
    advice: bool
    wrong: int | None = None
    examples: list[str] = field(default_factory=list)
    remedy: str = ""


class Findings:
    """The answers, question by question."""

    def __init__(self) -> None:
        self._checks = {key: Check(key, each.name, each.advice, remedy=each.remedy) for key, each in QUESTIONS.items()}

    def asked(self, *keys: str) -> None:
        """Say that questions have been looked into, with or without a finding."""
        for key in keys:
            check = self._checks[key]
            check.wrong = check.wrong or 0

    def add(self, key: str, *found: str) -> None:
        """Take in findings."""
        self.count(key, len(found), found)

    def count(self, key: str, wrong: int, examples: Iterable[str]) -> None:
        """Take in so many findings with the first few of them."""
        check = self._checks[key]
        check.wrong = (check.wrong or 0) + wrong
        check.examples = [*check.examples, *examples][:EXAMPLES_MAX]

    def wrong(self, *keys: str) -> bool:
        """Return whether one of the questions has a finding."""
        return any(self._checks[key].wrong for key in keys)

    def checks(self) -> list[Check]:
        """Return every question: what is wrong, then advice, each in the order of `QUESTIONS`."""
        return sorted(self._checks.values(), key=lambda check: check.advice)

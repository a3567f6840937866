"""The exception tree: one class for each thing that an operator can do about a failure.

Late and rejected readings are data with counters, never exceptions. Messages read "couldn't <verb> <thing>: <value>;
<remedy>".

    AlumicatalystError
    |- SettingsError         correct a setting, an environment variable or a secret's reference
    |- DictionaryError       correct the data dictionary; every problem is listed
    |- DictionaryChanged     look at `dictionary diff`, then accept the change or use the former dictionary
    |- StateError            a state is damaged or of another format: remove it, or use the software that wrote it
    |- InputError            correct the file that was handed in
    |- SourceError           the broker or the file cannot be read: mend the connection, then start again
    |  |- LogExpired         rows after the state are gone at the source: accept the loss, or restore them
    |  `- IncarnationChanged the hub or topic was made anew: accept the new one
    |- LakeError             the lake cannot be read or written: mend the store, then start again
    |  |- ClaimLost          another process took the partition: nothing to do, it goes on there
    |  |- LakeGap            a batch does not follow what is stored: start again from the state
    |  `- RolledBack         a table is older than its state: restore the table
    `- LedgerError           the ledger is damaged, forged or rolled back: sign nothing, restore it, and ask who did it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class AlumicatalystError(Exception):
    """Base of every error that this package raises on purpose."""


class SettingsError(AlumicatalystError):
    """A setting, an environment variable or a secret cannot be used."""


class DictionaryError(AlumicatalystError):
    """The data dictionary breaks its rules.

    Attributes:
        problems: One line for each problem: where it is, what it is and what is allowed.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        super().__init__(problems)
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)

    def __str__(self) -> str:
        """Return the only problem, or all of them as a list."""
        if len(self.problems) == 1:
            return self.problems[0]
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        return f"couldn't accept the data dictionary: {len(self.problems)} problems{lines}"


class DictionaryChanged(AlumicatalystError):
    """The dictionary is not the one that the running state was built with."""


class StateError(AlumicatalystError):
    """The bytes of a state are damaged, of an unknown format, or of another partition."""


class InputError(AlumicatalystError):
    """A file that the user named cannot be understood."""


class SourceError(AlumicatalystError):
    """The source of readings cannot be reached or read."""


class LogExpired(SourceError):
    """The source no longer holds the rows that follow the last state."""


class IncarnationChanged(SourceError):
    """The hub, topic or set of files is not the one whose rows are stored."""


class LakeError(AlumicatalystError):
    """The lake cannot be opened, read or committed to."""


class ClaimLost(LakeError):
    """Another process has taken the partition; this one must stop."""


class LakeGap(LakeError):
    """A batch does not follow the last one stored: rows in between would be lost."""


class RolledBack(LakeError):
    """A table of the lake is older than the state that was kept for it."""


class LedgerError(AlumicatalystError):
    """A part of the ledger is damaged, is not what was signed, or must not be signed."""

"""A lake: Delta tables, states and dictionaries under one root, and the claims and marks that make commits exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import claim, journal, state, tables
from alumicatalyst.lake.commit import check_claims
from alumicatalyst.lake.fault import reported
from alumicatalyst.lake.journal import JournalRow
from alumicatalyst.lake.record import DictionaryLike, dictionary_path
from alumicatalyst.lake.resume import Accept, Resume, resume
from alumicatalyst.lake.retry import PATIENCE_S, Retry
from alumicatalyst.lake.start import Held
from alumicatalyst.lake.store import Store, open_store
from alumicatalyst.lake.table import Table, TableMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Lake:
    """The tables of one lake; its methods may be called from several threads.

    Example:
        >>> lake = Lake.open("file:var/lake")
        >>> taken = lake.resume("telemetry/1/0", dictionary=dictionary, first_sequence=0)
        >>> taken.mark
        -1
    """

    def __init__(self, store: Store, retry: Retry) -> None:
        self.store = store
        self.retry = retry
        self._tables = {name: Table(store, spec) for name, spec in tables.SPECS.items()}

    @classmethod
    def open(
        cls,
        uri: str,
        *,
        credential: str = "default",
        storage_options: Mapping[str, str] | None = None,
        draining: Callable[[], bool] = lambda: False,
        patience_s: float = PATIENCE_S,
        create: bool = True,
    ) -> Self:
        """Open a lake and create the tables that are missing.

        Args:
            uri: `file:PATH` or `abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH`.
            credential: "default", or `env:NAME` / `file:PATH`; for `abfss` only.
            storage_options: Replaces what follows from the credential, in deltalake's names.
            draining: Whether the process is asked to stop; commits are then not tried for long.
            patience_s: For how long a store that fails is tried again, once the lake is open.
            create: False for readers: nothing is made, and a lake that is not there is an error.

        Raises:
            SettingsError: The address or the credential cannot be used.
            LakeError: The store or a table cannot be opened.
        """
        store = open_store(uri, credential=credential, storage_options=storage_options, create=create)
        lake = cls(store, Retry(patience_s, draining))
        claim.together(lambda table: _open(table, create=create), [lake.table(name) for name in tables.SPECS])
        return lake

    def table(self, name: str) -> Table:
        """Return the handle of a table."""
        return self._tables[name]

    def resume(
        self,
        partition: str,
        *,
        dictionary: DictionaryLike,
        accept_dictionary: bool = False,
        accept_state_loss: bool = False,
        accept_incarnation: bool = False,
        first_sequence: int | None = None,
        contiguous: bool = True,
        begins_after: int | None = None,
        check: Callable[[tuple[JournalRow, ...]], None] = lambda _journal: None,
    ) -> Resume:
        """Take a partition: claim it on every table, and learn where to start.

        Args:
            partition: `<source>/<incarnation>/<id>`.
            dictionary: The data dictionary that the process runs with.
            accept_dictionary: A dictionary that differs from the last one is journaled instead of refused.
            accept_state_loss: A gap in the log, or a missing state, is journaled instead of refused.
            accept_incarnation: A source that was made anew is taken instead of refused.
            first_sequence: The oldest sequence number that the source holds, None if it holds nothing.
            contiguous: Whether the source's sequence numbers have no gaps of their own (Kafka's and a replay's have).
            begins_after: Where "latest" is now, the last sequence number or -1. Kept with the first journal row, so
                that a process that is killed before its first commit does not begin at another place the next time.

            check: Looks at the journal and raises what speaks against taking the partition.

        Raises:
            DictionaryChanged, LogExpired, IncarnationChanged, RolledBack: See there; nothing was claimed.
            ClaimLost: Another process took the partition meanwhile.
            LakeError: The store failed.
        """
        accept = Accept(accept_dictionary, accept_state_loss, accept_incarnation)
        held = Held(first_sequence, contiguous)
        return self.retry.call(
            f"take partition {partition}",
            lambda: resume(self, partition, dictionary, accept, held, begins_after, check),
        )

    def state(self, partition: str, sequence_number: int) -> bytes:
        """Return a state, verified; StateError if it is missing or damaged."""
        return self.retry.call(
            f"read the state of {partition} at {sequence_number}",
            lambda: state.get(self.store, partition, sequence_number),
        )

    def check_claim(self, resume: Resume) -> None:
        """Raise ClaimLost if another process has taken a partition since."""
        table = self.table(tables.CLAIM_ORDER[0])
        snapshot = self.retry.call(f"look at {table.name}", table.refresh)
        check_claims(table.name, snapshot, {resume.partition: resume.claim})

    def put_state(self, resume: Resume, sequence_number: int, state_bytes: bytes) -> None:
        """Keep a state whose rows are committed; older ones beyond the last few are removed."""
        state.put(self.store, resume.partition, sequence_number, state_bytes)

    def dictionary(self, sha256: str) -> str:
        """Return the canonical JSON of a dictionary that the journal names."""

        def read() -> str:
            try:
                return self.store.get(dictionary_path(sha256)).decode()
            except FileNotFoundError:
                raise LakeError(
                    f"couldn't read dictionary {sha256}: {dictionary_path(sha256)} is missing; restore it, its rows "
                    "cannot be explained without it"
                ) from None

        return self.retry.call(f"read dictionary {sha256}", read)

    def append_journal(self, resume: Resume, kind: str, after_sequence: int, body: str) -> JournalRow:
        """Commit a row to the journal of a partition that this process holds; apply it only afterwards.

        A row that is already the last one is returned as it is: after a crash the same row is asked for again.

        Raises:
            ClaimLost: Another process took the partition.
            LakeError: The store failed.
        """
        table = self.table("journal")

        def write() -> JournalRow:
            rows = journal.read(table, resume.partition)
            if rows and (rows[-1].kind, rows[-1].after_sequence, rows[-1].body) == (kind, after_sequence, body):
                return rows[-1]
            row = JournalRow(len(rows), after_sequence, kind, body)
            journal.write(table, resume.partition, resume.claim, row, self.retry)
            return row

        return self.retry.call(f"append to the journal of {resume.partition}", write)


def _open(table: Table, *, create: bool) -> None:
    """Look at a table, or make it; several processes may do so at once, and one of them does."""
    with reported(f"open the table {table.name} of {table.store.root}"):
        try:
            table.refresh()
        except TableMissing:
            if not create:
                raise
            table.create(tables.first_commit(table.spec))
            table.refresh()
        tables.check_schema(table.spec, table.metadata(), table.store.root)

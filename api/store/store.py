"""The hot store as its callers see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.store.contract import Accepted, Change, Key, Marks, Page, Position, Retention

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Self

    import pyarrow as pa

    from api.store.contract import AlarmFilter, Kind, Scope, SeriesFilter, WindowFilter


class HotStore:
    """A database of alarms, windows, latest values and keys.

    Attributes:
        on_change: Called on the event loop after a commit of this process that published changes.
    """

    on_change: Callable[[], None] | None

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open a database that `migrate` has brought to the version of this code.

        Args:
            url: `sqlite:///PATH` or `postgresql://...`.

        Raises:
            StoreError: It is missing or of another version; the message says what to run.
            StoreBusy: It is out of reach.
        """
        raise NotImplementedError(url)

    async def close(self) -> None:
        """Close every connection."""

    async def ready(self) -> None:
        """Return if the database answers and has the version of this code, else raise StoreError."""

    async def ingest(
        self, kind: Kind, partition: str, follows: int, last: int, rows: pa.Table, *, committed: bool
    ) -> Accepted:
        """Store the rows of a partition with sequence numbers in (follows, last], in one transaction.

        Raises:
            Gap: `follows` is above the mark (of a refill of alarms: is not what is confirmed).
            BadRows: The table breaks its schema, or holds rows outside of the range or partition.
            StoreBusy: Nothing was stored; try again.
        """
        raise NotImplementedError

    async def commit(self, partition: str, follows: int, last: int, transitions: int, sha256: str) -> Accepted:
        """Confirm that the lake holds a partition through `last`, with as many transitions of this digest.

        Raises:
            Gap: `follows` is not what is confirmed.
            Mismatch: The store's transitions of the range are others.
            StoreBusy: Nothing was stored; try again.
        """
        raise NotImplementedError

    async def marks(self) -> list[Marks]:
        """Return the marks of every partition, by name."""
        raise NotImplementedError

    async def alarms(self, where: AlarmFilter, *, limit: int, cursor: str | None) -> Page:
        """List alarms, newest raised first.

        Raises:
            BadCursor: No page ended with this cursor.
        """
        raise NotImplementedError

    async def alarm(self, alarm_id: str) -> dict[str, Any] | None:
        """Return one alarm, with `"retracted": true` if the lake does not have it, or None."""
        raise NotImplementedError

    async def history(self, alarm_id: str) -> list[dict[str, Any]] | None:
        """Return what the process and the operators did to an alarm, in order of arrival, or None."""
        raise NotImplementedError

    async def acknowledge(
        self, alarm_id: str, *, actor: str, comment: str, idempotency_key: str | None
    ) -> dict[str, Any]:
        """Acknowledge an alarm and return it.

        Raises:
            NotFound: There is no such alarm.
            NotAllowed: It is acknowledged or retracted.
            KeyReused: The actor used the idempotency key for another alarm or comment.
            StoreBusy: Nothing was stored; try again.
        """
        raise NotImplementedError

    async def series(self, where: SeriesFilter, *, limit: int, cursor: str | None) -> Page:
        """List the latest value of each series, by device and metric."""
        raise NotImplementedError

    async def windows(self, where: WindowFilter, *, limit: int, cursor: str | None) -> Page:
        """List windows, newest start first."""
        raise NotImplementedError

    async def position(self) -> Position:
        """Return which changes are retained."""
        raise NotImplementedError

    async def changes(self, after: int, limit: int) -> list[Change]:
        """Return changes with a greater seq than `after`, ascending; whoever has seen n has seen all below n."""
        raise NotImplementedError

    async def create_key(  # noqa: A002 -- the word that keys are shown with.
        self,
        name: str,
        scopes: frozenset[Scope],
        expires: datetime | None,
        *,
        id: str,
        sha256: bytes,
        actor: str = "console",
    ) -> None:
        """Add an API key.

        Raises:
            StoreError: There is a key of this id.
        """
        raise NotImplementedError

    async def key(self, id: str) -> Key | None:  # noqa: A002
        """Return one key, also an expired or revoked one."""
        raise NotImplementedError

    async def keys(self) -> list[Key]:
        """Return every key, oldest first."""
        raise NotImplementedError

    async def revoke_key(self, name_or_id: str, *, actor: str = "console") -> bool:
        """Revoke the key of this id, or every key of this name; return whether one was revoked."""
        raise NotImplementedError

    async def prune(self, *, now: datetime, retention: Retention | None = None) -> None:
        """Remove what is older than its retention, a bounded number of rows a transaction."""
        raise NotImplementedError

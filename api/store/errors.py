"""What the hot store can refuse, each with what its caller needs for the answer.

AlumicatalystError
`- StoreError       the database is missing, of another version, or damaged: see the message
   |- StoreBusy     locked, full or out of reach: nothing was stored, try again
   |- Gap           rows in between are missing: refill from the lake
   |- Mismatch      the store's transitions are not the lake's: refill from the lake
   |- BadRows       a table breaks its schema or its bounds: correct the sender
   |- BadCursor     a cursor that this list did not give
   |- NotFound      no such alarm
   |- NotAllowed    the alarm's state does not allow the action
   `- KeyReused     an idempotency key came again with another body
"""

from __future__ import annotations

from alumicatalyst.errors import AlumicatalystError


class StoreError(AlumicatalystError):
    """The hot store cannot be used as it is."""


class StoreBusy(StoreError):
    """The database is locked, full or out of reach; nothing was stored, and trying again is right."""


class Gap(StoreError):
    """A range does not follow what is stored.

    Attributes:
        mark: Last sequence number stored of the partition and kind, -1 for none.
        committed: Last sequence number confirmed by the lake, -1 for none.
    """

    def __init__(self, mark: int, committed: int) -> None:
        super().__init__(f"couldn't store a range that follows nothing: the mark is {mark}; refill from there")
        self.mark = mark
        self.committed = committed


class Mismatch(StoreError):
    """The store's transitions of a range are not those that the lake holds.

    Attributes:
        committed: Last sequence number confirmed by the lake, -1 for none.
    """

    def __init__(self, committed: int) -> None:
        super().__init__(f"couldn't confirm a range: its transitions are not the lake's; refill from {committed}")
        self.committed = committed


class BadRows(StoreError):
    """A table breaks its schema, or holds rows that its range or partition does not cover."""


class BadCursor(StoreError):
    """A cursor that no page of this list ended with."""


class NotFound(StoreError):
    """There is no alarm of this id."""


class NotAllowed(StoreError):
    """The state of an alarm does not allow an action.

    Attributes:
        state: The alarm's state.
        allowed: What an operator may do in it.
    """

    def __init__(self, action: str, state: str, allowed: tuple[str, ...]) -> None:
        options = " or ".join(allowed) or "nothing is left to do"
        super().__init__(f"couldn't {action} an alarm in the state {state}; allowed: {options}")
        self.state = state
        self.allowed = allowed


class KeyReused(StoreError):
    """An idempotency key came again with another body."""

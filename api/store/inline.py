"""Runs the store's statements on a plain connection, one after the other, in a thread of their own.

A driver that waits for SQLite in another thread does so for every statement, fetch and close: two dozen changes of
thread for a post of one alarm, which cost far more than the statements. So a whole transaction goes to a thread once.
There nothing has to be waited for, and the same code runs to its end without a pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from types import TracebackType

    from sqlalchemy import Connection, CursorResult, Dialect

T = TypeVar("T")


def at_once(work: Awaitable[T]) -> T:
    """Run what never waits to its end, and return what it gives."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise RuntimeError("a transaction on SQLite waited for something that is not its database")


class Inline:
    """A connection with the methods of SQLAlchemy's AsyncConnection that the store uses; none of them waits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def dialect(self) -> Dialect:
        """The kind of database."""
        return self._connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> CursorResult[Any]:
        """Run a statement."""
        return self._connection.execute(statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> CursorResult[Any]:
        """Run a statement as the driver knows it."""
        return self._connection.exec_driver_sql(statement, parameters)

    async def run_sync(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function with the plain connection."""
        return function(self._connection, *arguments)

    def stream(self, statement: Any) -> _Rows:
        """Run a statement whose rows are looked at one by one, or part by part."""
        return _Rows(self._connection.execute(statement))


class _Rows:
    def __init__(self, result: CursorResult[Any]) -> None:
        self._result = result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._result.close()

    async def __aiter__(self) -> AsyncIterator[Any]:
        for row in self._result:
            yield row

    async def partitions(self, size: int) -> AsyncIterator[Sequence[Any]]:
        for part in self._result.partitions(size):
            yield part

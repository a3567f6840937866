"""A reader of a finite source that makes its batches as they are taken: nothing is queued, and nothing waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")


class DrainedReader(Generic[T]):
    """Takes batches from a generator until it ends.

    Args:
        batches: Yields them, and now and then None while a batch takes long.
    """

    def __init__(self, batches: Generator[T, None, None]) -> None:
        self._batches = batches
        self.finished = False
        self.queued = 0

    def take(self) -> T | None:
        """Return the next batch, None at the end; whatever the generator raises about damaged or missing rows."""
        if self.finished:
            return None
        try:
            return next(self._batches)
        except StopIteration:
            self.finished = True
            return None

    def lag(self) -> tuple[int, float] | None:
        """Return None: the source knows how much is left."""
        return None

    def close(self) -> None:
        """Let go of the files."""
        self._batches.close()

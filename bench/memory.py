"""A source that holds its envelopes in memory, for benchmarks of what comes behind a source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

PARTITION = "bench/1/0"


class MemorySource:
    """A finite source that holds its batches ready; each of its partitions has the same."""

    def __init__(self, batches: list[pa.RecordBatch], partitions: int = 1) -> None:
        self._batches, self._partitions = batches, partitions

    def partitions(self) -> list[str]:
        return [f"{PARTITION[:-1]}{number}" for number in range(self._partitions)]

    def first_sequence(self, _partition: str) -> int:
        return 0

    def open(self, _partition: str, after: int, _owner_level: int) -> MemoryReader:
        # What a batch brings again of envelopes before `after`, the operator drops.
        return MemoryReader([each for each in self._batches if each["sequence_number"][-1].as_py() > after])

    def input(self) -> dict[str, Any]:
        return {}

    def check_input(self, _previous: Mapping[str, Any]) -> None:
        """Nothing can have changed."""


class MemoryReader:
    """Hands out the batches in turn."""

    def __init__(self, batches: list[pa.RecordBatch]) -> None:
        self._left = batches[::-1]

    @property
    def finished(self) -> bool:
        return not self._left

    @property
    def queued(self) -> int:
        return len(self._left)

    def take(self) -> pa.RecordBatch | None:
        return self._left.pop() if self._left else None

    def lag(self) -> tuple[int, float] | None:
        return None

    def close(self) -> None:
        self._left.clear()

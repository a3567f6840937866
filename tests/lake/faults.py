"""Faults for the lake's tests: something fails before or after it takes effect, or the process dies there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alumicatalyst.lake import commit as lake_commit
from alumicatalyst.lake import state
from alumicatalyst.lake.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

TABLES = ("readings", "windows", "alarms", "rejected", "batches")
STEPS = (*(f"{verb} {table}" for table in TABLES for verb in ("put", "commit")), "state")
"""The steps of a flush in their order."""


class Killed(BaseException):
    """The process is gone: nothing of it catches this."""


class Faults:
    """Counts the steps of every flush, and lets the chosen one fail.

    Args:
        monkeypatch: Puts the faults between the steps.
        choose: Told the number of each step from 0 and its name; returns what happens there: None, "failed",
            "failed but persisted", "killed before" or "killed after".
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, choose: Callable[[int, str], str | None]) -> None:
        self.choose = choose
        self.count = 0
        self.met: list[str] = []
        commit, put_files, put_state = Table.commit, lake_commit.put_files, state.put

        def commit_step(table: Table, *given: Any) -> None:
            # Claims and the journal have faults of their own; a flush's commits name their ranges.
            if "ranges" in given[3]:
                self._step(f"commit {table.name}", lambda: commit(table, *given))
            else:
                commit(table, *given)

        def put_step(store: Any, table: str, encoded: Any, at: int) -> Any:
            return self._step(f"put {table}", lambda: put_files(store, table, encoded, at))

        def state_step(store: Any, partition: str, number: int, data: bytes) -> None:
            self._step("state", lambda: put_state(store, partition, number, data))

        monkeypatch.setattr(Table, "commit", commit_step)
        monkeypatch.setattr("alumicatalyst.sinks.lake.put_files", put_step)
        monkeypatch.setattr(state, "put", state_step)

    def _step(self, name: str, act: Callable[[], Any]) -> Any:
        fault = self.choose(self.count, name)
        self.count += 1
        if fault is not None:
            self.met.append(f"{name} {fault}")
        if fault == "failed":
            raise OSError("the connection was reset")
        if fault == "killed before":
            raise Killed
        result = act()
        if fault == "failed but persisted":
            raise OSError("the answer was lost")
        if fault == "killed after":
            raise Killed
        return result

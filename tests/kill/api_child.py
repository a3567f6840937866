"""The real API in a process of its own that kills itself at a named point.

A point is "ingest:alarms before 2": before, inside or after the n-th post of a kind, where inside is just before its
commit. An empty one lives on. Starting the API takes seconds of imports, so its processes are forked from one that has
done them; each is killed by itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

# Imported here for the process that is forked.
import alembic.command
import sqlalchemy.dialects.postgresql
import sqlalchemy.dialects.sqlite
import uvicorn.protocols.http.h11_impl  # noqa: F401

from api import server
from api.cli import main
from api.store import confirm, ingest, marks
from api.store.store import HotStore

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from pathlib import Path

__all__ = ["alembic", "server", "spawn", "sqlalchemy"]


def spawn(point: str, arguments: list[str], environment: dict[str, str], log: Path) -> BaseProcess:
    """Start `python -m api` with arguments, to die at a point."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.kill.api_child"])
    process = context.Process(target=_run, args=(point, arguments, environment, str(log)), daemon=True)
    process.start()
    return process


def _run(point: str, arguments: list[str], environment: dict[str, str], log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environment)
    if point:
        instrument(point)
    sys.argv = ["api", *arguments]
    main()


def die() -> NoReturn:
    """As if the power went."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit("unreachable")


def instrument(point: str) -> None:
    """Put the point around what the store is asked to take."""
    wanted, place, number = point.split()
    take, tell, move = HotStore.ingest, HotStore.commit, marks.move
    calls = 0
    due = False

    async def around(name: str, call: Any) -> Any:
        nonlocal calls, due
        calls += name == wanted
        due = name == wanted and calls == int(number)
        if due and place == "before":
            die()
        result = await call
        if due and place == "after":
            die()
        return result

    async def ingest_at(self: HotStore, kind: Any, *rest: Any, committed: bool = False) -> Any:
        name = f"{'refill' if committed else 'ingest'}:{kind}"
        return await around(name, take(self, kind, *rest, committed=committed))

    async def commit_at(self: HotStore, *rest: Any) -> Any:
        return await around("ingest:commits", tell(self, *rest))

    async def move_at(connection: Any, partition: str, **to: int) -> None:
        await move(connection, partition, **to)
        if due and place == "inside":
            die()

    HotStore.ingest, HotStore.commit = ingest_at, commit_at  # type: ignore[method-assign, assignment]
    for module in (ingest, confirm):
        module.move = move_at  # type: ignore[attr-defined]

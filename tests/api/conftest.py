"""Fixtures of the API's tests: a hot store on each database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from api.store import HotStore, connections, migrate
from tests.parts.postgres import Postgres, postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

__all__ = ["postgres"]


@pytest.fixture(scope="session", autouse=True)
def _patient() -> Iterator[None]:
    """Let a write wait for others' as long as a busy disk takes, not only until the API would send a client away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "WAIT_S", 60.0)
        yield


@pytest.fixture
def anyio_backend() -> str:
    """Run tests that are marked `anyio` on asyncio, as uvicorn does."""
    return "asyncio"


@pytest.fixture(scope="session")
def migrated(postgres: Postgres) -> str:
    """Return the name of a migrated database that others are copied from."""
    name = postgres.database()
    migrate(postgres.url(name))
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the address of an empty, migrated database, once of each kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'hot.sqlite'}"
        migrate(url)
        yield url
    else:
        server: Postgres = request.getfixturevalue("postgres")
        name = server.database(request.getfixturevalue("migrated"))
        yield server.url(name)
        server.drop(name)


@pytest.fixture
async def hot_store(store_url: str, anyio_backend: str) -> AsyncIterator[HotStore]:
    """Return an empty hot store, once on each database."""
    store = await HotStore.open(store_url)
    yield store
    await store.close()

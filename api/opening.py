"""Opens the hot store as a command needs it, without the application in front of it."""

import asyncio

from api.store import HotStore, migrate


async def open_store(url: str) -> HotStore:
    """Open the hot store; a SQLite database is made or brought to this version first.

    For PostgreSQL that is left to `python -m api migrate`, as several processes may use it.

    Raises:
        StoreError: It cannot be opened; the message says what to run.
    """
    if url.startswith("sqlite:"):
        await asyncio.to_thread(migrate, url)
    return await HotStore.open(url)

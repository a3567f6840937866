"""Brings a database to the version of this code."""

from __future__ import annotations


def migrate(url: str) -> None:
    """Make or upgrade the database of a hot store.

    Args:
        url: `sqlite:///PATH` or `postgresql://...`.

    Raises:
        StoreError: The database was made by newer software, or cannot be changed.
        StoreBusy: The database is locked, full or out of reach.
    """
    raise NotImplementedError(url)

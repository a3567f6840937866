"""Brings a database to the version of this code, and says whether it is there."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool

from api.store.connections import WAIT_S, sqlite_path
from api.store.database import failures, is_sqlite, shown, url_of
from api.store.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection, Engine

FOLDER = Path(__file__).resolve().parent / "migrations"
REMEDY = "run: python -m api migrate"
# Any fixed number: replicas that start together take it in turn.
ADVISORY_LOCK = 7_275_640_203


def migrate(url: str) -> None:
    """Make or upgrade the database of a hot store; one that is up to date stays as it is.

    Args:
        url: `sqlite:///PATH` or `postgresql://...`.

    Raises:
        StoreError: The database was made by newer software, or cannot be changed.
        StoreBusy: The database is locked, full or out of reach; it is as it was.
    """
    address = url_of(url)
    with failures(address):
        if is_sqlite(address):
            _make_file(sqlite_path(address))
        engine = sync_engine(address)
        try:
            _upgrade(engine, address)
        finally:
            engine.dispose()


def _upgrade(engine: Engine, address: URL) -> None:
    with engine.begin() as connection:
        if not is_sqlite(address):
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
        settings = configuration()
        settings.attributes["connection"] = connection
        try:
            command.upgrade(settings, "head")
        except CommandError as error:
            raise StoreError(
                f"couldn't upgrade {shown(address)}: {error}; it was made by newer software: use that"
            ) from error


def sync_engine(address: URL) -> Engine:
    """Return an engine without a pool for migrations, whose transactions hold the database from their start."""
    if not is_sqlite(address):
        options = f"-c lock_timeout={int(WAIT_S * 1000)}"
        return create_engine(
            address.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            connect_args={"connect_timeout": int(WAIT_S), "options": options},
        )
    engine = create_engine(address, poolclass=NullPool, connect_args={"timeout": WAIT_S})

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")

    @event.listens_for(engine, "begin")
    def _begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _make_file(path: Path) -> None:
    """Make an empty file that only its owner can read: it will hold digests of keys, and what operators wrote."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def configuration() -> Config:
    """Return Alembic's settings, without a file."""
    settings = Config()
    settings.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    return settings


@cache
def head() -> str:
    """Return the version of this code."""
    found = ScriptDirectory.from_config(configuration()).get_current_head()
    assert found is not None
    return found


def check_version(found: str | None, address: URL) -> None:
    """Refuse a database of another version.

    Raises:
        StoreError: The message says what to run.
    """
    if found is None:
        raise StoreError(f"couldn't open the hot store {shown(address)}: it was never set up; {REMEDY}")
    if found != head():
        raise StoreError(
            f"couldn't open the hot store {shown(address)}: it has version {found}, not {head()}; {REMEDY}"
        )


def version(connection: Connection) -> str | None:
    """Return the version of a database, or None for one that was never set up."""
    return MigrationContext.configure(connection).get_current_revision()

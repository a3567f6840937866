"""PostgreSQL, started from the system's own packages, as a pytest fixture."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Require

SYSTEM_USER = "postgres"
# Nothing here has to survive a power cut.
QUICK = ["fsync=off", "full_page_writes=off", "synchronous_commit=off", "shared_buffers=64MB"]


def binaries() -> Path | None:
    """Return the folder of the newest server there is, on the PATH or where Debian puts it."""
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True
    )
    return next((each for each in folders if (each / "initdb").exists() and (each / "postgres").exists()), None)


class Postgres:
    """A server of its own on a free port, that can be stopped and started again.

    Attributes:
        port: Where it listens, on 127.0.0.1; it stays the same.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._programs = programs
        # The server refuses to run as root, so it is given its own user there, and a folder that this one may enter.
        self._as: dict[str, Any] = {"cwd": folder}
        if os.geteuid() == 0:
            user = pwd.getpwnam(SYSTEM_USER)
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as |= {"user": SYSTEM_USER, "group": user.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._run("initdb", "-D", "data", "-U", "alumi", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        # Last, as it is only free until somebody else takes it.
        self.port = free_port()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://alumi@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._folder)]
        options += [part for setting in QUICK for part in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", "data", *options],
                stdout=log,
                stderr=log,
                **self._as,
            )
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if self._process.poll() is not None:
                pytest.fail(f"PostgreSQL ended with {self._process.returncode}: {self._said()}")
            ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            if subprocess.run(ready, check=False).returncode == 0:
                return
            time.sleep(0.02)
        pytest.fail(f"PostgreSQL was not ready within a minute: {self._said()}")

    def stop(self) -> None:
        """End it with every connection that it has; what was committed stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=60)
            self._process = None

    def database(self, template: str = "template1") -> str:
        """Make a database and return its name."""
        import psycopg

        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            # "wal_log" copies a small database faster, but only newer servers know it; both are quick.
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        return name

    def drop(self, database: str) -> None:
        """Remove a database, and close whatever is still connected to it."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{database}" WITH (FORCE)'.encode())

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments], check=False, capture_output=True, text=True, **self._as
        )
        if done.returncode:
            pytest.fail(f"{program} ended with {done.returncode}: {done.stderr[-2_000:]}")

    def _said(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-2_000:]


@pytest.fixture(scope="session")
def postgres(require: Require) -> Iterator[Postgres]:
    """Start a PostgreSQL server, which every test gives databases of its own."""
    with running(require) as server:
        yield server


@contextmanager
def running(require: Require) -> Iterator[Postgres]:
    """Run a server of one's own, for a test that stops it."""
    programs = binaries()
    require(programs, "there is no PostgreSQL; install the package postgresql")
    assert programs is not None
    root = os.geteuid() == 0
    require(not root or _known(SYSTEM_USER), f"PostgreSQL does not run as root, and there is no user {SYSTEM_USER}")
    # Not pytest's own folders: only their owner may enter those, and the path of a socket has to be short.
    folder = Path(tempfile.mkdtemp(prefix="alumi-pg-"))
    try:
        server = Postgres(folder, programs)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True

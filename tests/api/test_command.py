"""`python -m api`: what a person does with it, as processes of their own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from api.cli import main
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = re.compile(r"alu_[0-9a-f]{16}_[A-Za-z0-9_-]{43}")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/var/api.sqlite"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "api", *arguments]


def run(*arguments: str, status: int = 0) -> str:
    """Run a command in this process and return what it says: its output, or its error."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error), pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status, (out.getvalue(), error.getvalue())
    assert "Traceback" not in error.getvalue()
    return out.getvalue() if status == 0 else error.getvalue()


def run_serve(*arguments: str, status: int) -> str:
    """Run `serve`, which takes over signals and the log, as a process that is to end by itself."""
    done = subprocess.run(
        command("serve", *arguments), check=False, capture_output=True, text=True, timeout=100, cwd=ROOT
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


class Served:
    """A server process."""

    def __init__(self, *arguments: str) -> None:
        environment = {**os.environ, "ALUMICATALYST_LOG_FORMAT": "json"}
        self.process = subprocess.Popen(
            command("serve", *arguments), stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        self.log: list[dict[str, str]] = []
        self.address = self.wait_for("serving")["url"]

    def wait_for(self, event: str) -> dict[str, str]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(json.loads(line))
            if self.log[-1]["event"] == event:
                return self.log[-1]
        raise AssertionError(f"it ended without {event}: {self.log}")

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(sent)
        try:
            _, rest = self.process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        self.log += [json.loads(line) for line in rest.splitlines()]
        return self.process.returncode


def get(served: Served, path: str, key: str = "") -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.get(f"{served.address}{path}", headers=headers, timeout=60)


@pytest.fixture
def served(url: str) -> Iterator[Served]:
    served = Served("--port", "0", "--database-url", url)
    yield served
    if served.process.poll() is None:
        served.stop(signal.SIGKILL)


def test_a_new_user_serves_makes_a_key_and_asks(served: Served, url: str) -> None:
    """What README's section shows, in its order."""
    shown = run(
        "keys", "create", "--name", "ada", "--scopes", "read,operate", "--expires", "90d", "--database-url", url
    )
    (key,) = KEY.findall(shown)
    assert "It is not shown again" in shown
    answer = get(served, "/v1/alarms", key)
    assert answer.json() == {"items": [], "next": None}
    assert get(served, "/v1/alarms").status_code == 401
    listed = run("keys", "list", "--database-url", url)
    assert "ada" in listed
    # The secret may hold underscores of its own.
    assert key.split("_", 2)[2] not in listed
    assert run("keys", "revoke", "ada", "--database-url", url) == "revoked ada\n"
    assert get(served, "/v1/alarms", key).status_code == 401
    (row,) = [json.loads(line) for line in run("keys", "list", "--json", "--database-url", url).splitlines()]
    assert (row["name"], row["scopes"], row["state"]) == ("ada", ["operate", "read"], "revoked")
    assert served.stop() == 0
    assert served.log[-1]["event"] == "stopped"
    assert not [line for line in served.log if line["level"] not in {"info", "debug"}]


def test_ctrl_c_ends_it_with_130(served: Served) -> None:
    assert served.stop(signal.SIGINT) == 130
    # Not the last word where uvicorn was only about to start, and complains.
    assert "stopped" in [each["event"] for each in served.log], "the store was closed"


def test_a_key_is_written_to_a_file_that_only_its_owner_reads(url: str, tmp_path: Path) -> None:
    file = tmp_path / "keys" / "ingest"
    arguments = ("keys", "create", "--name", "flow", "--scopes", "ingest", "--out", str(file), "--database-url", url)
    assert not KEY.search(run(*arguments))
    assert KEY.fullmatch(file.read_text().strip())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # A key is never written over: somebody uses it.
    assert "it exists; remove it, or name another file" in run(*arguments, status=2)
    assert len(run("keys", "list", "--json", "--database-url", url).splitlines()) == 1
    assert KEY.fullmatch(
        run("keys", "create", "--name", "q", "--scopes", "read", "--quiet", "--database-url", url).strip()
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--name", "a b", "--scopes", "read"), "a name has"),
        (("--name", "ada", "--scopes", "write"), "allowed are ingest, read, operate"),
        (("--name", "ada", "--scopes", ""), "allowed are ingest, read, operate"),
        (("--name", "ada", "--scopes", "read", "--expires", "soon"), "allowed is such as 12h"),
        (("--name", "ada", "--scopes", "read", "--expires", "2027-01-01"), "allowed is such as 12h"),
        (("--name", "ada", "--scopes", "read", "--expires", "2020-01-01T00:00:00Z"), "name a time to come"),
        (("--name", "ada", "--scopes", "read", "--expires", "999999w"), "allowed is such as 12h"),
    ],
)
def test_a_key_that_cannot_be_is_refused_with_what_can(url: str, arguments: tuple[str, ...], said: str) -> None:
    told = run("keys", "create", *arguments, "--database-url", url, status=2)
    assert told.startswith("error: couldn't")
    assert said in told


def test_what_does_not_exist_cannot_be_revoked(url: str) -> None:
    assert "there is no such key" in run("keys", "revoke", "nobody", "--database-url", url, status=1)


def test_a_port_in_use_is_told_with_the_remedy(served: Served, url: str) -> None:
    port = served.address.rpartition(":")[2]
    told = run_serve("--port", port, "--database-url", url, status=2)
    assert "Address already in use" in told
    assert "set api.host" in told


def test_tls_needs_both_files_and_they_must_exist(url: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    base = ("--port", "0", "--database-url", url)
    assert "give both, or neither" in run("serve", *base, "--tls-cert", missing, status=2)
    assert "couldn't set up TLS" in run_serve(*base, "--tls-cert", missing, "--tls-key", missing, status=2)


def test_postgresql_is_not_migrated_by_serving(postgres: object) -> None:
    url = postgres.url(postgres.database())  # type: ignore[attr-defined]
    told = run_serve("--port", "0", "--database-url", url, status=4)
    assert "python -m api migrate" in told
    assert run("migrate", "--database-url", url) == "the hot store is up to date\n"
    served = Served("--port", "0", "--database-url", url)
    assert get(served, "/readyz").status_code == 200
    assert served.stop() == 0


def test_a_warning_is_given_where_others_reach_it_without_tls(url: str) -> None:
    served = Served("--port", "0", "--host", "0.0.0.0", "--database-url", url)
    (warning,) = [line for line in served.log if line["level"] == "warning"]
    assert warning["event"].startswith("KEYS TRAVEL IN PLAIN TEXT")
    assert served.stop() == 0


@pytest.mark.parametrize("arguments", [(), ("serve",), ("migrate",), ("keys",), ("keys", "create")], ids=" ".join)
def test_help_has_examples_and_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    script = f"""
import sys
from api.cli import main
try:
    main({[*arguments, "--help"]!r})
except SystemExit as ended:
    assert ended.code == 0, ended.code
print(sorted(set(sys.modules) & {{"fastapi", "sqlalchemy", "uvicorn", "pyarrow", "alembic"}}))
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    if arguments not in {(), ("keys",)}:
        assert "Examples:" in done.stdout
        assert "python -m api" in done.stdout

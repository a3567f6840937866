"""The command `alumicatalyst emulator`: what it refuses, and where it keeps its key. Kill -9 is in test_standin_log."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst.cli.emulator import _announce, _key, emulator
from alumicatalyst.errors import InputError, SettingsError
from alumicatalyst.testing.eventhubs import Emulator

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"hub": ["plant"]}, "write NAME:PARTITIONS"),
        ({"hub": ["plant:many"]}, "write NAME:PARTITIONS"),
        ({"hub": ["plant:0"]}, "couldn't make hub 'plant' with 0 partitions"),
        ({"hub": ["a/b:1"]}, "couldn't make hub"),
        ({"no_key": True, "host": "0.0.0.0"}, "without a key"),
    ],
)
def test_refuses_what_cannot_be_or_should_not(options: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        emulator(**{"port": 0, **options})


def test_names_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"couldn't listen on 127.0.0.1:{port}"):
            emulator(port=port)


def test_says_that_a_directory_is_damaged(tmp_path: Path) -> None:
    with Emulator({"telemetry": 4}, tmp_path) as running:
        running.append("telemetry", 0, [b"x"])
    [path] = (tmp_path / "telemetry" / "0").glob("*.log")
    path.write_bytes(b"not a log at all, but longer than its header of 64 bytes" * 3)
    with pytest.raises(InputError, match="header is damaged"):
        emulator(port=0, directory=tmp_path)


def test_the_key_is_kept_where_only_its_owner_reads_it(tmp_path: Path) -> None:
    key = _key(tmp_path / "hub")
    assert _key(tmp_path / "hub") == key
    assert (tmp_path / "hub" / "key").stat().st_mode & 0o077 == 0
    assert _key(None) != _key(None)
    (tmp_path / "hub" / "key").write_text("")
    assert len(_key(tmp_path / "hub")) >= 40


def test_prints_what_a_client_needs_and_warns_without_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    with Emulator({"plant": 2}) as running:
        _announce(running, {"plant": 2}, None, no_key=True)
    shown = capsys.readouterr().out
    assert f"Endpoint=sb://127.0.0.1:{running.port};" in shown
    assert "UseDevelopmentEmulator=true" in shown
    assert "WARNING: --no-key" in shown

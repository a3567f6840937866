"""`alumicatalyst emulator`: a stand-in for Azure Event Hubs on this machine, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from alumicatalyst.errors import InputError, SettingsError

if TYPE_CHECKING:
    from alumicatalyst.testing.eventhubs import Emulator

_LOOPBACK: Final = frozenset(("127.0.0.1", "::1", "localhost"))


def emulator(
    hub: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:PARTITIONS", help="A hub and its number of partitions; several may be given."),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option(help="Keep events here, even over kill -9; otherwise they go when the emulator stops."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="TCP port; 0 takes a free one.")] = 5672,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Anything but loopback is open to the network.")
    ] = "127.0.0.1",
    consumer_group: Annotated[
        list[str] | None, typer.Option(help="A consumer group besides $Default; several may be given.")
    ] = None,
    retention_mib: Annotated[
        int, typer.Option(min=1, help="Size of a partition's log above which its oldest events go, in MiB.")
    ] = 1024,
    no_key: Annotated[
        bool, typer.Option("--no-key", help="For development only: everybody may send and read, without a key.")
    ] = False,
) -> None:
    """Run a stand-in for Azure Event Hubs on this machine, until SIGTERM or Ctrl-C.

    It prints the connection string that clients need. The key in it is random; with a directory it is kept there, so
    that clients need no new one after a restart. A client that signs with another key is refused.

    Examples:

        alumicatalyst emulator --hub telemetry:4 --directory var/hub

        alumicatalyst emulator --hub telemetry:4 --hub alarms:1 --port 0

        alumicatalyst emulator --hub telemetry:4 --no-key       # for a quick try, on loopback only
    """
    import signal
    import threading

    from alumicatalyst import log

    log.configure()
    if no_key and host not in _LOOPBACK:
        raise SettingsError(
            f"couldn't listen on {host} without a key: everybody in the network could send and read; "
            "leave out --no-key or --host"
        )
    hubs = _parse_hubs(hub or ["telemetry:4"])
    server = _start(
        hubs, directory, port, host, None if no_key else _key(directory), consumer_group or [], retention_mib << 20
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        _announce(server, hubs, directory, no_key=no_key)
        stop.wait()
    finally:
        server.stop()


def _parse_hubs(texts: list[str]) -> dict[str, int]:
    hubs: dict[str, int] = {}
    for text in texts:
        name, _, count = text.rpartition(":")
        if not name or not count.isascii() or not count.isdecimal() or len(count) > 5:
            raise SettingsError(f"couldn't understand --hub {text!r}; write NAME:PARTITIONS, as in telemetry:4")
        hubs[name] = int(count)
    return hubs


def _key(directory: Path | None) -> str:
    """The shared access key: kept in the directory, else new."""
    import os
    import secrets

    key = secrets.token_urlsafe(32)
    if directory is None:
        return key
    path = directory / "key"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(key)
    except FileExistsError:
        kept = path.read_text("utf-8").strip()
        if kept:
            return kept
        path.unlink()
        return _key(directory)
    except OSError as error:
        raise SettingsError(f"couldn't write {path}: {error.strerror}; choose another --directory") from error
    return key


def _start(
    hubs: dict[str, int],
    directory: Path | None,
    port: int,
    host: str,
    key: str | None,
    groups: list[str],
    retention: int,
) -> Emulator:
    from alumicatalyst.testing.eventhubs import Emulator, LogDamaged

    server = Emulator(hubs, directory, port, host=host, key=key, groups=groups, retention_bytes=retention)
    try:
        server.start()
    except LogDamaged as error:
        raise InputError(str(error)) from error
    except ValueError as error:
        raise SettingsError(str(error)) from error
    except OSError as error:
        raise SettingsError(
            f"couldn't listen on {host}:{port}: {error.strerror or error}; choose another --port or --host"
        ) from error
    return server


def _announce(server: Emulator, hubs: dict[str, int], directory: Path | None, *, no_key: bool) -> None:
    """Say how to send to it. The connection string is printed because it is of use nowhere else."""
    first = next(iter(hubs))
    print(
        f"listening on {server.host}:{server.port}, events kept {f'in {directory}' if directory else 'until it stops'}"
    )
    for name, count in hubs.items():
        print(f"hub {name}, {count} partitions:\n  {server.connection_string(name)}")
    if no_key:
        print("WARNING: --no-key: everybody on this machine may send and read. Never use it for anything but a try.")
    how = f"""
send to it:
  from azure.eventhub import EventData, EventHubProducerClient
  with EventHubProducerClient.from_connection_string("{server.connection_string(first)}") as hub:
      hub.send_event(EventData('{{"deviceId": "pot-001", "ts": "2026-01-01T00:00:00Z"}}'))

read it:
  export EVENTHUBS_CONNECTION_STRING='{server.connection_string(first)}'
  alumicatalyst run
"""
    print(how, flush=True)

"""The program `python -m api`: serve, migrate, and make, list and revoke keys."""

# Typer reads flags as annotated booleans, and shows an example as it stands, with its blank lines.
# ruff: noqa: D412, FBT002

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn, TypeVar

import typer

from alumicatalyst.errors import AlumicatalystError, SettingsError
from alumicatalyst.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from api.store import HotStore, Scope

EXIT_CODES: Final[dict[int, str]] = {
    0: "done, or told to stop",
    1: "there is no such key",
    2: "usage or settings",
    4: "the hot store",
    70: "a defect of this program; please report its traceback",
    130: "interrupted",
}
_Result = TypeVar("_Result")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
# Where the list goes to a file or a program.
_WIDTH: Final = 240
_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}

_Config = Annotated[
    Path | None, typer.Option("--config", help="The settings file; without it alumicatalyst.toml in this folder.")
]
_Database = Annotated[
    str | None,
    typer.Option("--database-url", help="sqlite:///PATH or postgresql://...; without it api.database_url."),
]


def _typer(help_: str) -> typer.Typer:
    return typer.Typer(
        help=help_,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
    )


app = _typer("The API of alarms, newest values and closed windows, in front of the hot store.")
keys = _typer("Make, list and revoke the keys that open the API.")
app.add_typer(keys, name="keys")


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Where to listen; without it api.host, this machine only.")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one. Without it api.port.")] = None,
    database_url: _Database = None,
    tls_cert: Annotated[Path | None, typer.Option(help="A PEM file with the certificate chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="A PEM file with the certificate's private key.")] = None,
    config: _Config = None,
) -> None:
    """Serve the API until SIGTERM or Ctrl-C; requests that run are answered first, and streams are ended.

    A new or older SQLite database is brought to this version; for PostgreSQL run `python -m api migrate` first.

    Examples:

        python -m api serve

        python -m api serve --port 8041 --database-url sqlite:///var/other.sqlite

        python -m api serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem
    """
    from api.server import serve as run

    settings = load_settings(config, api__host=host, api__port=port, api__database_url=database_url)
    if (tls_cert is None) != (tls_key is None):
        raise SettingsError("couldn't set up TLS: one of --tls-cert and --tls-key is missing; give both, or neither")
    run(settings, tls=(tls_cert, tls_key) if tls_cert and tls_key else None)


@app.command()
def migrate(database_url: _Database = None, config: _Config = None) -> None:
    """Make the database, or bring it to this version. Stop every API process of an older version first.

    Examples:

        python -m api migrate

        python -m api migrate --database-url postgresql://alumi@db.example.com/alumi
    """
    from api.store import migrate as migrate_store

    migrate_store(_settings(config, database_url).api.reveal_database_url())
    typer.echo("the hot store is up to date")


@keys.command("create")
def create(
    name: Annotated[str, typer.Option(help="Who holds it: the actor of what is done with it.")],
    scopes: Annotated[str, typer.Option(help="One or more of ingest, read, operate, separated by commas.")],
    expires: Annotated[
        str | None, typer.Option(help="A span such as 12h, 90d, 4w, or a time; without it never.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the key to this new file, which only you can read.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the key and nothing else.")] = False,
    database_url: _Database = None,
    config: _Config = None,
) -> None:
    """Make a key. It is shown this once: the store keeps a digest only.

    Examples:

        python -m api keys create --name flow --scopes ingest --out var/keys/ingest

        python -m api keys create --name ada --scopes read,operate --expires 90d
    """
    from api.security.keys import new_key

    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"couldn't make a key for {name!r:.80}; a name has 1 to 64 letters, digits, or any of . _ @ -"
        )
    wanted = _scopes(scopes)
    ends = _expiry(expires)
    key = new_key()
    file = _new_file(out) if out else None
    try:
        _with_store(
            _settings(config, database_url),
            lambda store: store.create_key(name, wanted, ends, id=key.id, sha256=key.sha256),
        )
        if file and out:
            with open(file, "w", encoding="utf-8") as opened:  # noqa: PTH123 - a descriptor, made for its mode
                opened.write(key.text + "\n")
    except BaseException:
        if out:
            out.unlink(missing_ok=True)
        raise
    if quiet:
        if not out:
            typer.echo(key.text)
        return
    until = f"until {_shown(ends)}" if ends else "until it is revoked"
    typer.echo(f"key {key.id} of {name}: {', '.join(sorted(wanted))}, {until}")
    typer.echo(f"written to {out}" if out else f"{key.text}\nIt is not shown again.")


@keys.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    database_url: _Database = None,
    config: _Config = None,
) -> None:
    """List every key, also the ended ones, without its secret.

    Examples:

        python -m api keys list

        python -m api keys list --json
    """
    import json

    from rich import box
    from rich.console import Console
    from rich.table import Table

    now = datetime.now(UTC)
    columns = ("id", "name", "scopes", "state", "created", "expires", "revoked")
    rows = []
    for key in _with_store(_settings(config, database_url), lambda store: store.keys()):
        ended = key.expires is not None and key.expires <= now
        state = "revoked" if key.revoked else "expired" if ended else "valid"
        times = [_shown(time) if time else None for time in (key.created, key.expires, key.revoked)]
        rows.append(dict(zip(columns, (key.id, key.name, sorted(key.scopes), state, *times), strict=True)))
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    table = Table(*columns, box=box.SIMPLE)
    for column in table.columns:
        # An id that is cut off revokes nothing.
        column.no_wrap, column.overflow = True, "ignore"
    for row in rows:
        table.add_row(*(", ".join(each) if isinstance(each, list) else each or "" for each in row.values()))
    Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH).print(table)


@keys.command("revoke")
def revoke(
    name_or_id: Annotated[str, typer.Argument(help="A key's id, or a name, whose every key is revoked.")],
    database_url: _Database = None,
    config: _Config = None,
) -> None:
    """End a key at once; its open streams end within seconds.

    Examples:

        python -m api keys revoke ada
    """
    if not _with_store(_settings(config, database_url), lambda store: store.revoke_key(name_or_id)):
        typer.echo(
            f"error: couldn't revoke {name_or_id}: there is no such key; see python -m api keys list", file=sys.stderr
        )
        raise typer.Exit(1)
    typer.echo(f"revoked {name_or_id}")


def _settings(config: Path | None, database_url: str | None) -> Settings:
    return load_settings(config, api__database_url=database_url)


def _with_store(settings: Settings, work: "Callable[[HotStore], Awaitable[_Result]]") -> "_Result":
    import asyncio

    from api.opening import open_store

    async def run() -> _Result:
        store = await open_store(settings.api.reveal_database_url())
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def _scopes(text: str) -> "frozenset[Scope]":
    from api.store import SCOPES

    wanted = {part.strip() for part in text.split(",") if part.strip()}
    found = frozenset(scope for scope in SCOPES if scope in wanted)
    if not wanted or len(found) != len(wanted):
        raise SettingsError(f"couldn't make a key with the scopes {text!r:.80}; allowed are {', '.join(SCOPES)}")
    return found


def _expiry(text: str | None) -> datetime | None:
    if text is None:
        return None
    now = datetime.now(UTC)
    span = re.fullmatch(r"(\d{1,6})([hdw])", text)
    try:
        time = now + int(span[1]) * _UNITS[span[2]] if span else datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        time = None
    if time is None or time.tzinfo is None:
        raise SettingsError(f"couldn't read --expires {text!r:.80}; allowed is such as 12h, 90d, 2027-01-31T06:00:00Z")
    if time <= now:
        raise SettingsError(f"couldn't make a key that ended at {text:.80}; name a time to come")
    return time.astimezone(UTC)


def _new_file(path: Path) -> int:
    """Make the file before the key, so that there is no key that nobody was shown."""
    import os

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise SettingsError(f"couldn't write a key to {path}: it exists; remove it, or name another file") from None
    except OSError as error:
        raise SettingsError(f"couldn't write a key to {path}: {error.strerror}; name another file") from error


def _shown(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def exit_code(error: AlumicatalystError) -> int:
    """Return the exit code for an error."""
    return 2 if isinstance(error, SettingsError) else 4


def main(arguments: "Sequence[str] | None" = None) -> NoReturn:
    """Run the program and end the process with its exit code."""
    from alumicatalyst.log import redact

    try:
        typer.main.get_command(app).main(args=arguments, prog_name="python -m api", standalone_mode=True)
    except AlumicatalystError as error:
        typer.echo(f"error: {redact(str(error))}", err=True)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # noqa: BLE001 - the last resort, so that a defect has an exit code of its own
        import traceback

        typer.echo(redact(traceback.format_exc()), err=True)
        sys.exit(70)
    sys.exit(0)

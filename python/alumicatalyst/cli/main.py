"""The program `alumicatalyst`: the list of its commands, its exit codes, and errors on one line instead of tracebacks.

A command's module is imported when the command is called and not before, so that help appears at once and a command
that only reads a file never waits for a cloud SDK.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import typer
from typer.core import TyperGroup

from alumicatalyst import errors

if TYPE_CHECKING:
    from collections.abc import Sequence


class Entry(NamedTuple):
    """A command, or a group of them, before its module is imported."""

    module: str
    functions: tuple[str, ...]
    help: str


COMMANDS: Final[dict[str, Entry]] = {
    "demo": Entry("demo", (), "Run everything on this machine: stand-in hub, plant, flow, lake, ledger and API."),
    "run": Entry("run", (), "Read the source, analyse it and store the rows, until told to stop."),
    "replay": Entry("replay", (), "Store the readings of files, of Event Hubs Capture, or of another lake."),
    "simulate": Entry("simulate", (), "Send, or write to files, the readings of the dictionary's plant."),
    "emulator": Entry("emulator", (), "Run a stand-in for Azure Event Hubs on this machine."),
    "lake": Entry(
        "lake",
        ("query", "doctor", "compact", "vacuum", "trim", "expire", "maintain", "migrate", "views"),
        "Ask the lake, check that every reading is accounted for, and keep it tidy.",
    ),
    "ledger": Entry(
        "ledger", ("run", "verify", "prove", "log", "key"), "Sign the lake's commits, prove them, and verify them."
    ),
    "dictionary": Entry("dictionary", ("init", "check", "diff"), "Draft, check and compare data dictionaries."),
}

EXIT_CODES: Final[dict[int, str]] = {
    0: "done",
    1: "a check found something wrong",
    2: "usage, settings, dictionary or input file",
    3: "the source",
    4: "the lake",
    5: "another process took the partition, signs this log, or maintains the lake",
    6: "the state cannot be used, or the dictionary changed",
    7: "the ledger cannot be used, or it contradicts the lake, the log or what was signed before",
    70: "a defect of this program; please report its traceback",
    130: "interrupted",
}

# The first class in an error's line of descent that stands here decides.
_CODES: Final[dict[type[BaseException], int]] = {
    errors.SettingsError: 2,
    errors.DictionaryError: 2,
    errors.InputError: 2,
    errors.SourceError: 3,
    errors.LakeError: 4,
    errors.ClaimLost: 5,
    errors.StateError: 6,
    errors.DictionaryChanged: 6,
    errors.LedgerError: 7,
    errors.AlumicatalystError: 1,
}


def exit_code(error: errors.AlumicatalystError) -> int:
    """Return the exit code for an error."""
    return next(_CODES[each] for each in type(error).__mro__ if each in _CODES)


class _LazyGroup(TyperGroup):
    """Lists commands by their entry, and imports one when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else None, rest


def load(name: str) -> Any:
    """Import a command and return it as Typer runs it."""
    entry = COMMANDS[name]
    module = importlib.import_module(f"alumicatalyst.cli.{entry.module}")
    built = _typer(help=entry.help)
    for function in entry.functions or (entry.module,):
        built.command(function)(getattr(module, function))
    return typer.main.get_command(built)


def _typer(**options: Any) -> typer.Typer:
    return typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"alumicatalyst {version('alumicatalyst')}")
        raise typer.Exit


def _epilog() -> str:
    return "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."


app = _typer(
    cls=_LazyGroup,
    help="Streaming telemetry for aluminium plants: exact windows from Event Hubs to an open lake.",
    epilog=_epilog(),
)


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Take the options that stand before a command."""


def _register(name: str, entry: Entry) -> None:
    @app.command(name, help=entry.help)
    def _listed() -> None:
        """Stand in the list; the command itself is imported when it is called."""


for _name, _entry in COMMANDS.items():
    _register(_name, _entry)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and end the process with its exit code."""
    try:
        typer.main.get_command(app).main(args=arguments, prog_name="alumicatalyst", standalone_mode=True)
    except errors.AlumicatalystError as error:
        from alumicatalyst.log import redact

        print(f"error: {redact(str(error))}", file=sys.stderr)
        sys.exit(exit_code(error))
    except Exception:  # noqa: BLE001 - the last resort, so that a defect has an exit code of its own
        import traceback

        from alumicatalyst.log import redact

        print(redact(traceback.format_exc()), file=sys.stderr)
        sys.exit(70)
    sys.exit(0)


if __name__ == "__main__":
    main()

"""The program's list of commands, its exit codes, and its errors on one line."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from alumicatalyst import errors
from alumicatalyst.cli import main as program

if TYPE_CHECKING:
    from pathlib import Path


def outcome(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)
    shown = capsys.readouterr()
    code = ended.value.code
    assert isinstance(code, int)
    return code, shown.out, shown.err


def every_error(
    root: type[errors.AlumicatalystError] = errors.AlumicatalystError,
) -> list[type[errors.AlumicatalystError]]:
    # Others may be loaded beside this package's.
    own = [child for child in root.__subclasses__() if child.__module__.startswith("alumicatalyst.")]
    return [root, *(each for child in own for each in every_error(child))]


def test_help_lists_every_command_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = outcome(["--help"], capsys)
    assert code == 0
    for name in program.COMMANDS:
        assert f" {name} " in out
    for number in program.EXIT_CODES:
        assert f" {number} " in out


def test_without_arguments_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, err = outcome([], capsys)
    assert "Commands" in out + err


def test_an_unknown_command_is_a_usage_error_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = outcome(["replays"], capsys)
    assert code == 2
    assert "'replay'" in err


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = outcome(["--version"], capsys)
    assert code == 0
    assert out.split()[0] == "alumicatalyst"
    assert out.split()[1].count(".") == 2


@pytest.mark.parametrize("name", program.COMMANDS)
def test_a_command_shows_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    entry = program.COMMANDS[name]
    assert importlib.util.find_spec(f"alumicatalyst.cli.{entry.module}")
    for function in entry.functions or ("",):
        code, out, _ = outcome([*[part for part in (name, function) if part], "--help"], capsys)
        assert code == 0
        assert f"alumicatalyst {name}" in out.split("Usage:", 1)[1].split("\n", 2)[2], "its help has no example"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SettingsError, 2),
        (errors.DictionaryError, 2),
        (errors.InputError, 2),
        (errors.SourceError, 3),
        (errors.LogExpired, 3),
        (errors.IncarnationChanged, 3),
        (errors.LakeError, 4),
        (errors.LakeGap, 4),
        (errors.RolledBack, 4),
        (errors.ClaimLost, 5),
        (errors.StateError, 6),
        (errors.DictionaryChanged, 6),
    ],
)
def test_an_error_is_one_line_and_an_exit_code_without_a_traceback(
    error: type[errors.AlumicatalystError],
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_name: str) -> None:
        raise error("couldn't open hub: Endpoint=sb://x/;SharedAccessKey=c2VjcmV0; look at the key")

    monkeypatch.setattr(program, "load", fail)
    got, out, err = outcome(["run"], capsys)
    assert (got, out) == (code, "")
    assert err == "error: couldn't open hub: Endpoint=sb://x/;SharedAccessKey=***; look at the key\n"


def test_every_error_has_an_exit_code_that_help_explains() -> None:
    for error in every_error():
        assert program.exit_code(error("x")) in program.EXIT_CODES


def test_every_error_survives_the_way_between_processes() -> None:
    for error in every_error():
        again = pickle.loads(pickle.dumps(error("couldn't do it")))
        assert (type(again), str(again)) == (error, "couldn't do it")


def test_a_dictionary_error_lists_every_problem() -> None:
    error = errors.DictionaryError(["line 3: unit", "line 9: windows"])
    assert str(error) == "couldn't accept the data dictionary: 2 problems\n  - line 3: unit\n  - line 9: windows"
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_a_defect_has_an_exit_code_of_its_own_and_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_name: str) -> None:
        raise RuntimeError("SharedAccessKey=c2VjcmV0;")

    monkeypatch.setattr(program, "load", fail)
    code, _, err = outcome(["run"], capsys)
    assert code == 70
    assert err.startswith("Traceback")
    assert err.rstrip().endswith("RuntimeError: SharedAccessKey=***;")


@pytest.mark.timeout(300)
def test_the_program_is_installed_under_its_name() -> None:
    done = subprocess.run(
        [f"{sys.prefix}/bin/alumicatalyst", "--version"], check=True, capture_output=True, text=True, timeout=240
    )
    assert done.stdout.startswith("alumicatalyst ")


@pytest.mark.parametrize("function", [*program.COMMANDS["lake"].functions])
def test_every_command_over_a_lake_takes_it_from_the_settings_file_that_is_named(
    function: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "north.toml"
    config.write_text(f'[lake]\nuri = "file:{tmp_path}/north"\n')
    further = {"query": ["SELECT 1"], "views": ["--dialect=synapse"], "vacuum": ["--without-ledger"]}
    if function == "views":
        # Of an account, so that it is in what they say.
        config.write_text('[lake]\nuri = "abfss://telemetry@plant.dfs.core.windows.net/north"\n')
    code, out, err = outcome(["lake", function, f"--config={config}", *further.get(function, [])], capsys)
    assert (code == 0) == (function == "views"), err
    assert "plant.dfs.core.windows.net" in out if function == "views" else f"{tmp_path}/north" in err

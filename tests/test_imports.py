"""Imports run one way, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from alumicatalyst.cli.main import COMMANDS
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIBRARY = ROOT / "python" / "alumicatalyst"
# Each of these costs a tenth of a second or more, or belongs to a cloud that a local command never talks to.
HEAVY = ["adlfs", "azure", "bytewax", "deltalake", "duckdb", "hypothesis", "numpy", "polars", "pyarrow", "pytest"]


def python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "node_modules" not in path.parts)


def imported(path: Path) -> Iterator[str]:
    """Yield the full name of every module that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def offenders(folder: Path, forbidden: tuple[str, ...], *, but: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in python_files(folder)
        if not str(path.relative_to(ROOT)).startswith(but)
        for name in imported(path)
        if any(name == each or name.startswith(f"{each}.") for each in forbidden)
    ]


def test_the_library_imports_neither_flows_nor_api_nor_tests() -> None:
    assert offenders(LIBRARY, ("flows", "api", "tests", "bench")) == []


def test_flows_and_api_never_import_each_other() -> None:
    assert offenders(ROOT / "flows", ("api", "tests", "bench")) == []
    assert offenders(ROOT / "api", ("flows", "tests", "bench")) == []


def test_only_the_command_line_knows_the_command_line() -> None:
    assert offenders(LIBRARY, ("alumicatalyst.cli",), but=("python/alumicatalyst/cli/",)) == []


def test_what_runs_a_plant_never_imports_what_only_tests_it() -> None:
    stand_ins = ("testing/", "demo", "cli/emulator.py", "cli/demo.py")
    only = ("alumicatalyst.testing", "pytest", "hypothesis")
    assert offenders(LIBRARY, only, but=tuple(f"python/alumicatalyst/{each}" for each in stand_ins)) == []


def test_the_core_knows_neither_python_nor_files_sockets_clocks_or_threads() -> None:
    manifest = tomllib.loads((ROOT / "core_rs" / "Cargo.toml").read_text())
    assert not {"pyo3", "arrow-pyarrow", "alumicatalyst-py", "tokio", "rand"} & manifest["dependencies"].keys()
    world = re.compile(
        r"\bstd::(fs|net|env|thread|process|io::std\w+|time::(Instant|SystemTime))\b|\b(Instant|SystemTime)::now\b"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / "core_rs" / "src").rglob("*.rs"))
        for number, line in enumerate(path.read_text().split("#[cfg(test)]")[0].splitlines(), 1)
        if world.search(line) and not line.strip().startswith("//")
    ]
    assert found == []


def modules_after(script: str) -> set[str]:
    """Run a script in a process of its own and return the names of the modules that it imported."""
    report = "\nimport json, sys\nprint()\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script + report], check=False, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = f"""
from alumicatalyst.cli.main import main
try:
    main({arguments!r})
except SystemExit as ended:
    assert ended.code == 0, ended.code
"""
    assert set(HEAVY) & {name.split(".")[0] for name in modules_after(script)} == set()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("module", ["", ".settings", ".sources", ".runner", ".lake", ".operator"])
def test_a_plain_install_never_needs_azure(module: str) -> None:
    modules = modules_after(f"import alumicatalyst{module}")
    assert [name for name in modules if name.startswith(("azure", "adlfs"))] == []

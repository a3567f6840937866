"""The pages say what is: every setting, command, metric and invariant, and every file and option that they name."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from alumicatalyst import _core
from alumicatalyst.cli.main import COMMANDS, load
from alumicatalyst.lake.tables import SPECS
from alumicatalyst.ledger import leaf, merkle
from tests import readme
from tests.conftest import ROOT

PAGES = ["README.md", "ARCHITECTURE.md", "SEMANTICS.md", "LEDGER.md", "CONTRIBUTING.md", "CHANGELOG.md"]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
LEDGER = (ROOT / "LEDGER.md").read_text()
INVARIANTS = [f"I{number}" for number in range(1, 10)]


def every_test_name() -> set[str]:
    python = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if "node_modules" not in path.parts)
    rust = (path.read_text() for path in (ROOT / "core_rs").rglob("*.rs"))
    names = {name for text in python for name in re.findall(r"^ *(?:async )?def (test_\w+)", text, re.MULTILINE)}
    return names | {name for text in rust for name in re.findall(r"#\[test\]\s+(?:#\[.*\]\s+)*fn (\w+)", text)}


def commands_of_the_readme() -> list[list[str]]:
    """Return every call of the program in README's shell blocks, without its options' values."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = (line for block in blocks for line in block.replace("\\\n", " ").splitlines())
    calls = (shlex.split(line, comments=True) for line in lines)
    return [call[1:] for call in calls if call and call[0].endswith("alumicatalyst")]


def test_the_tables_of_the_readme_are_those_of_the_code() -> None:
    text = readme.README.read_text()
    assert text == readme.with_tables(text), "run: make docs"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_shown_in_use(name: str) -> None:
    shown = commands_of_the_readme()
    for function in COMMANDS[name].functions or (None,):
        wanted = [name, function] if function else [name]
        assert any(call[: len(wanted)] == wanted for call in shown), f"README.md never calls {' '.join(wanted)}"


@pytest.mark.parametrize("call", commands_of_the_readme(), ids=" ".join)
def test_every_call_in_the_readme_has_options_that_exist(call: list[str]) -> None:
    command: Any = load(call[0])
    rest = call[1:]
    if COMMANDS[call[0]].functions:
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.split("=")[0] for word in rest if word.startswith("--")} <= known | {"--help"}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_make_target_of_a_page_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / link).exists(), link
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = re.findall(r"`make ([a-z-]+)", text) + re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)
    assert set(called) <= targets


@pytest.mark.parametrize("invariant", INVARIANTS)
def test_every_invariant_names_a_test_that_holds_it(invariant: str) -> None:
    (paragraph,) = re.findall(rf"^- \*\*{invariant} .*?(?=^- \*\*I|^#)", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    named = re.findall(r"`(\w*i\d_\w+)`", paragraph)
    assert [name for name in named if f"{invariant.lower()}_" in name], f"{invariant} names no test of its own"
    assert set(named) - every_test_name() == set()


@pytest.mark.parametrize("table", SPECS)
def test_the_columns_of_every_table_in_the_ledgers_page_are_those_that_are_digested(table: str) -> None:
    (listed,) = re.findall(rf"^ *\| `{table}` \| (.*) \|$", LEDGER, re.MULTILINE)
    assert "\n".join(["dtl1/schema", *listed.split(", "), ""]) == _core.leaf_schema(table)


def test_the_example_of_a_leaf_in_the_ledgers_page_is_one() -> None:
    (example,) = re.findall(r"```\n((?: *[0-9a-f]{20,}\n)+)", LEDGER)
    data = bytes.fromhex(example)
    found = leaf.decode(_core.leaf_schema("journal"), data)
    assert found.batch == bytes(range(16))
    assert [row["after_sequence"] for row in found.rows] == [-1, 9]
    assert [row["body"] for row in found.rows] == ["{}", None]
    assert f"`{merkle.leaf_hash(data).hex()}`" in LEDGER


def test_no_lock_or_setting_names_a_package_index() -> None:
    for lock in [*(ROOT / "requirements").glob("*"), ROOT / "pyproject.toml", ROOT / "Makefile", ROOT / ".ci" / "run"]:
        assert not re.search(r"://|--(extra-)?index|--find-links|trusted-host", lock.read_text()), lock
    for lock in ROOT.glob("tests/parts/package-lock.json"):
        assert '"resolved"' not in lock.read_text(), lock


def test_every_hash_is_there() -> None:
    for lock in (ROOT / "requirements").glob("*.lock"):
        text = lock.read_text()
        pins = re.findall(r"^[\w.-]+==.*", text, re.MULTILINE)
        assert pins
        assert all(pin.rstrip().endswith("\\") for pin in pins), lock
        assert len(re.findall(r"--hash=sha256:", text)) >= len(pins)


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    assert re.search(r"^## \[Unreleased\]$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

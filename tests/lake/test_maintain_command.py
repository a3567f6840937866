"""The commands of maintenance as they are called: what they print, how they end, and who else is at it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst.cli.main import main
from alumicatalyst.maintenance.lease import Lease
from tests.lake import plant

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.lake import Lake

UNTIL = 34


class Shell:
    """Calls commands on one lake."""

    def __init__(self, lake: Lake, ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.lake, self._ledger, self._capsys = lake, ledger, capsys

    def __call__(self, command: str, *arguments: str, code: int = 0) -> str:
        if command in {"vacuum", "trim", "maintain"}:
            arguments = ("--ledger", str(self._ledger), *arguments)
        with pytest.raises(SystemExit) as ended:
            main(["lake", command, "--lake", self.lake.store.root, *arguments])
        shown = self._capsys.readouterr()
        assert ended.value.code == code, shown.out + shown.err
        return shown.out + shown.err

    def json(self, command: str, *arguments: str) -> Any:
        return json.loads(self(command, *arguments, "--json"))


@pytest.fixture
def shell(lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    plant.run(lake, UNTIL, flush_every=2)
    return Shell(lake, tmp_path / "ledger", capsys)


def test_compact_and_vacuum_say_what_they_did(shell: Shell) -> None:
    before = list(shell.lake.store.list(""))
    told = shell.json("compact", "--dry-run", "--table", "readings", "--files-min", "2")
    assert told["dry_run"] is True
    assert told["compacted"][0]["table"] == "readings"
    assert list(shell.lake.store.list("")) == before
    shown = shell("compact", "--files-min", "2")
    assert "readings: " in shown
    assert " files compacted into " in shown
    assert shell("compact", "--files-min", "2").strip() == "There was nothing to do."
    shown = shell("vacuum", "--without-ledger", "--days", "0")
    assert "files deleted" in shown
    plant.assert_exact(shell.lake, UNTIL)


def test_trim_and_maintain_do_what_is_due_and_tell_it_as_json(shell: Shell) -> None:
    assert shell.json("trim", "--without-ledger")["trimmed"][0]["commits"] == 0
    told = shell.json("maintain", "--without-ledger")
    assert told.keys() == {"dry_run", "expired", "compacted", "vacuumed", "trimmed"}
    assert [each["table"] for each in told["vacuumed"]][-1] == ""
    plant.assert_exact(shell.lake, UNTIL)


@pytest.mark.parametrize("command", ["vacuum", "trim", "maintain"])
def test_without_a_ledger_nothing_goes_unless_that_is_said(shell: Shell, command: str) -> None:
    before = {path for path, _ in shell.lake.store.list("readings")}
    shown = shell(command, code=7)
    assert "there is no log in" in shown
    assert "--without-ledger" in shown
    assert {path for path, _ in shell.lake.store.list("readings")} == before


def test_whoever_comes_second_is_told_who_is_at_it_and_exits_with_5(shell: Shell) -> None:
    with Lease(shell.lake):
        assert "has been at it since" in shell("compact", code=5)
        assert "dry run" in shell("compact", "--dry-run")


def test_unknown_tables_are_refused(shell: Shell) -> None:
    assert "tables are readings" in shell("compact", "--table", "nothing", code=2)

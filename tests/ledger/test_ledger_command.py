"""The commands of the ledger as they are called: what they print, how they end, and what they need."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from alumicatalyst.cli.main import main
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ledger.site import Site

pytestmark = pytest.mark.timeout(240)


class Shell:
    """Calls commands with the settings of a site."""

    def __init__(self, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
        self.site, self._capsys, self.out = site, capsys, ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["ledger", *arguments])
        shown = self._capsys.readouterr()
        assert ended.value.code == code, shown.out + shown.err
        self.out = shown.out
        return shown.out + shown.err

    def json(self, *arguments: str, code: int = 0) -> Any:
        self(*arguments, "--json", code=code)
        return json.loads(self.out)


def environment(site: Site) -> dict[str, str]:
    return {
        "ALUMICATALYST_LAKE__URI": f"file:{site.lake}",
        "ALUMICATALYST_LEDGER__URI": f"file:{site.log}",
        "ALUMICATALYST_LEDGER__KEY": f"file:{site.place.key}",
    }


@pytest.fixture
def shell(site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    for name, value in environment(site).items():
        monkeypatch.setenv(name, value)
    return Shell(site, capsys)


def test_verify_says_what_it_looked_at_and_names_what_differs(shell: Shell) -> None:
    assert "ok\n" in shell("verify", "--strict")
    assert shell.json("verify")["ok"] is True
    stray = shell.site.lake / "readings" / "stray.parquet"
    stray.touch()
    assert "unclaimed  readings readings/stray.parquet: no commit names it" in shell("verify")
    shell("verify", "--strict", code=7)
    stray.unlink()
    victim = max(shell.site.lake.glob("readings/date=*/*.parquet"), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[::-1])
    name = victim.relative_to(shell.site.lake).as_posix()
    text = shell("verify", code=7)
    (line,) = [line for line in text.splitlines() if line.startswith("wrong")]
    assert name in line
    assert "readings@" in line
    assert "rows 0-" in line
    told = shell.json("verify", code=7)
    assert told["ok"] is False
    assert told["wrong"]["first"][0]["file"] == name


def test_verify_holds_the_log_to_a_checkpoint_that_was_kept(shell: Shell, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    shutil.copy(shell.site.log / "checkpoint", kept)
    shell.site.delta("readings").optimize.compact()
    shell("run", "--once")
    assert "ok\n" in shell("verify", "--checkpoint", str(kept))
    (tmp_path / "forged").write_text(kept.read_text().replace("\n", "\n0", 1))
    assert "error: couldn't" in shell("verify", "--checkpoint", str(tmp_path / "forged"), code=7)
    shutil.copy(shell.site.place.kept, kept)
    shutil.rmtree(shell.site.log)
    shell.site.place.kept.unlink()
    assert "checkpoint: it is missing" in shell("verify", "--checkpoint", str(kept), code=7)


def test_a_proof_is_verified_with_nothing_but_its_file_and_the_key(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = pl.read_delta(str(shell.site.lake / "readings")).row(11, named=True)
    asked = f"readings partition={row['partition']} sequence_number={row['sequence_number']} item={row['item']}"
    file = tmp_path / "offline" / "r.tlog-proof"
    file.parent.mkdir()
    shell("prove", "--row", asked, "-o", str(file))
    shell("key")
    vkey = shell.out.strip()
    shutil.rmtree(shell.site.folder)
    for name in environment(shell.site):
        monkeypatch.delenv(name)
    monkeypatch.chdir(file.parent)
    told = shell.json("verify", file.name, "--key", vkey)
    assert told["row"]["value"] == row["value"]
    assert told["row"]["event_time"] == row["event_time"].isoformat().replace("+00:00", "Z")
    assert told["table"] == "readings"
    (file.parent / "plant.vkey").write_text(vkey + "\n")
    shown = shell("verify", file.name, "--key", "plant.vkey")
    assert "proven  a row of readings" in shown
    assert f"  device           {row['device']}\n" in shown
    file.write_bytes(file.read_bytes().replace(b"\nindex ", b"\nindex 1"))
    assert "error: couldn't accept the proof" in shell("verify", file.name, "--key", vkey, code=7)
    assert "error: couldn't read nowhere" in shell("verify", "nowhere", "--key", vkey, code=2)
    # What looks at a log or lake would not be looked at.
    for each in (["--checkpoint", "kept"], ["--strict"], ["--lake", "file:lake"], ["--ledger", "ledger"]):
        assert "it is verified by itself" in shell("verify", file.name, "--key", vkey, *each, code=2)


def test_verifying_a_proof_imports_neither_arrow_nor_the_core(signed: Site, tmp_path: Path) -> None:
    file = tmp_path / "c.tlog-proof"
    settings = os.environ | environment(signed)
    command = [sys.executable, "-m", "alumicatalyst.cli.main", "ledger"]
    subprocess.run([*command, "prove", "--commit", "batches@2", "-o", file], check=True, env=settings, cwd=ROOT)
    script = f"""
import sys
from alumicatalyst.cli.main import main
try:
    main(["ledger", "verify", {str(file)!r}, "--key", {signed.place.verifier_key().text()!r}])
except SystemExit as ended:
    assert ended.code == 0, ended.code
heavy = {{"pyarrow", "deltalake", "duckdb", "polars", "numpy", "alumicatalyst._core"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)


def test_prove_asks_for_one_thing(shell: Shell, tmp_path: Path) -> None:
    out = str(tmp_path / "p")
    assert "give either --row or --commit" in shell("prove", "-o", out, code=2)
    assert "give either --row or --commit" in shell("prove", "--row", "a", "--commit", "b", "-o", out, code=2)
    assert "more than 5 have these values" in shell("prove", "--row", "readings quality=192", "-o", out, code=2)
    assert "couldn't write" in shell("prove", "--commit", "batches@2", "-o", str(tmp_path / "no" / "p"), code=2)
    shell("prove", "--commit", "batches@2", "-o", out)
    assert "proven  the commit batches@2" in shell("verify", out)


def test_log_lists_every_entry(shell: Shell) -> None:
    shell("log", "--json")
    rows = [json.loads(line) for line in shell.out.splitlines()]
    assert [row["index"] for row in rows] == list(range(shell.site.reader().size))
    assert (
        sum(row["rows"] for row in rows if row["table"] == "readings")
        == pl.read_delta(str(shell.site.lake / "readings")).height
    )
    tail = [json.loads(line) for line in shell("log", "--json", "--table", "batches", "--tail", "2").splitlines()]
    assert tail == [row for row in rows if row["table"] == "batches"][-2:]
    text = shell("log", "--tail", "3")
    assert "3 entries" in text
    assert "operation" in text
    assert "0 entries" in shell("log", "--ledger", str(shell.site.folder / "nowhere"))
    assert "tables are readings, windows" in shell("log", "--table", "reading", code=2)


def test_key_makes_a_pair_once(tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell("key")
    assert shell.json("key")["vkey"] == shell.site.place.verifier_key().text()
    monkeypatch.setenv("ALUMICATALYST_LEDGER__KEY", f"file:{tmp_path / 'new'}")
    monkeypatch.setenv("ALUMICATALYST_LEDGER__URI", f"file:{tmp_path / 'none'}")
    shell("key")
    made = shell.out
    assert made.startswith("example.com/plant+")
    shell("key")
    assert shell.out == made
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    # Who only verifies has no private key, and is not given one.
    (tmp_path / "new").unlink()
    shell("key")
    assert shell.out == made
    assert "only" in shell("run", "--once", code=7)


def test_run_ends_with_the_code_of_what_stopped_it(shell: Shell, tmp_path: Path) -> None:
    assert "there is no such directory" in shell("run", "--once", "--lake", str(tmp_path / "none"), code=4)
    shutil.rmtree(shell.site.lake)
    shell.site.lake.mkdir()
    assert "the lake is older than the ledger" in shell("run", "--once", code=7)


def test_sigterm_looks_once_more_and_publishes(site: Site) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "alumicatalyst.cli.main", "ledger", "run"],
        cwd=ROOT,
        env=os.environ | environment(site) | {"ALUMICATALYST_LEDGER__INTERVAL_S": "3600"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "ledger opened" in process.stderr.readline()
    before = site.reader().size
    site.delta("readings").optimize.compact()
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    assert process.wait(30) == 0
    process.stderr.close()
    assert "ledger published" in rest
    assert "ledger closed" in rest
    assert site.reader().size == before + 1

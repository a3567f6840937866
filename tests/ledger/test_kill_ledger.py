"""kill -9 of the ledger's process at every write, together with the flow that it follows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst.lake import tables
from alumicatalyst.lake.store import TEMPORARY_SUFFIX
from alumicatalyst.ledger import delta, entry
from alumicatalyst.ledger.note import Checkpoint, open_note
from alumicatalyst.ledger.verify import verify
from alumicatalyst.ledger.verify_log import Earlier
from alumicatalyst.ledger.verify_report import Report
from tests.kill.harness import BYTEWAX, LOOP, ROOT, Ground, make_logs
from tests.ledger.site import Site

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LIVES = 70
"""More steps than two publications make, so that every one of them is met."""


def test_i7_kills_of_the_ledger_at_every_write_and_of_the_flow_leave_every_commit_signed_once(tmp_path: Path) -> None:
    # How much of it the flow takes while the ledger lives and dies is up to the machine: half is enough.
    ground = Ground(tmp_path, make_logs(700, 1_800))
    site = Site(tmp_path)
    site.place.signing_key()
    output = tmp_path / "follower"
    with output.open("wb") as file:
        follower = subprocess.Popen(
            [sys.executable, "-m", "tests.ledger.follower", str(tmp_path), str(ground.lake), str(LIVES)],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
    runners = [LOOP, BYTEWAX]
    kills = 0
    while follower.poll() is None:
        # Many small commits, and a flow that dies now and then too; its log is long enough to last.
        child = ground.start(runners[kills % 2], pace_s=0.02, lake__flush_rows_max=15, stays=True)
        child.wait_until(lambda entries: follower.poll() is not None or commits(entries) >= 40)
        life = ground.bury(child)
        assert life.code == -signal.SIGKILL
        kills += 1
    assert follower.returncode == 0
    ground.finish(LOOP)
    ground.assert_whole()
    site.sign()

    lives: list[dict[str, Any]] = [json.loads(line) for line in output.read_text().splitlines()]
    assert [each for each in lives if "error" in each] == []
    assert len(lives) == LIVES
    killed = [each for each in lives if each["code"] == -signal.SIGKILL]
    assert len(killed) >= 0.9 * LIVES
    assert kills >= 2

    found = [entry.parse(data) for data in site.reader().entries(0, site.reader().size)]
    counted = Counter((each.table, each.version) for each in found)
    wanted = Counter(
        (name, version)
        for name in tables.SPECS
        for path in (ground.lake / name / "_delta_log").iterdir()
        if (version := delta.version_of(path.name)) is not None
    )
    assert counted == wanted

    vkey = site.place.verifier_key()
    notes = dict.fromkeys(each["checkpoint"] for each in lives if each["checkpoint"])
    shown = [Earlier(Checkpoint.parse(open_note(note, [vkey])), "shown") for note in notes]
    sizes = [each.checkpoint.size for each in shown]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 10
    report = Report()
    verify(site.log, vkey, shown, site.store, report)
    assert report.wrong.count == 0, report.wrong.first
    assert (report.pending.count, report.notes.count) == (0, 0)
    # The flow's kills leave files that it had put and not committed, or not finished; nothing else.
    finished = [each for each in report.unclaimed.first if not each.file.endswith(TEMPORARY_SUFFIX)]
    assert all(each.what == "no commit names it" for each in finished), finished


def commits(entries: list[dict[str, Any]]) -> int:
    return sum(each["event"] == "done" and each["name"].startswith("commit:") for each in entries)

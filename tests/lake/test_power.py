"""A loss of power at any step of a local lake: it opens, holds all that was confirmed, and goes on exactly."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst.lake import Lake
from alumicatalyst.lake.table import Table
from tests.lake import plant
from tests.lake.faults import Killed
from tests.lake.power import LakePlatter, between, where, write_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Require

ROOT = Path(__file__).parents[2]
UNTIL = 20


class Story:
    """A lake whose every step on the disk is followed, and what its owner was told to be safe."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = tmp_path / "disk"
        self.root.mkdir()
        self.platter = LakePlatter(self.root)
        self.confirmed: dict[str, int] = defaultdict(lambda: -1)
        self.steps: list[tuple[str, Path]] = []
        self._lock = threading.Lock()
        self.before: Callable[[int, str, Path], None] = lambda *_: None
        self.after: Callable[[int], None] = lambda _: None
        between(monkeypatch, self._around)
        monkeypatch.setattr("alumicatalyst.lake.table.CHECKPOINT_INTERVAL", 3)
        commit, create = Table.commit, Table.create

        def commit_told(table: Table, snapshot: Any, *rest: Any) -> None:
            commit(table, snapshot, *rest)
            self.confirmed[table.name] = snapshot.version + 1

        def create_told(table: Table, first: bytes) -> bool:
            made = create(table, first)
            self.confirmed[table.name] = max(self.confirmed[table.name], 0)
            return made

        monkeypatch.setattr(Table, "commit", commit_told)
        monkeypatch.setattr(Table, "create", create_told)

    def _around(self, number: int, name: str, arguments: tuple[Any, ...], act: Callable[[], Any]) -> Any:
        # A partition is claimed on several tables at once.
        with self._lock:
            path = where(arguments)
            self.before(number, name, path)
            result = act()
            self.platter.make(name, arguments)
            self.steps.append((name, path))
            self.after(number)
        return result

    def run(self) -> None:
        plant.run(Lake.open(str(self.root / "lake"), patience_s=0), UNTIL, flush_every=10, state_every=1)


def assert_whole(image: dict[str, bytes], confirmed: dict[str, int]) -> None:
    """Every table's commits are there without a gap, up to the confirmed one at least, with the files they name."""
    versions: dict[str, list[int]] = defaultdict(list)
    for path, data in image.items():
        found = re.fullmatch(r"lake/(\w+)/_delta_log/(\d{20})\.json", path)
        if found is None:
            continue
        versions[found[1]].append(int(found[2]))
        actions = [json.loads(line) for line in data.splitlines()]
        files = {each["path"]: each for action in actions for each in action.get("commitInfo", {}).get("files", [])}
        added = [action["add"]["path"] for action in actions if "add" in action]
        assert sorted(added) == sorted(files)
        for name, file in files.items():
            assert hashlib.sha256(image[f"lake/{found[1]}/{name}"]).hexdigest() == file["sha256"]
    for table, last in confirmed.items():
        assert sorted(versions[table]) == list(range(len(versions[table])))
        assert len(versions[table]) > last, (table, last)


def test_i5_whatever_a_loss_of_power_leaves_holds_what_was_confirmed_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story, lucky = Story(tmp_path, monkeypatch), random.Random(20)
    left: list[dict[str, bytes]] = []

    def any_of(now: Any, durable: Any) -> Any:
        if isinstance(now, bytes):
            return lucky.choice([durable, now[: lucky.randint(0, len(now))]])
        return lucky.choice([now, durable])

    def cut(number: int) -> None:
        worst = story.platter.image(lambda _, durable: durable)
        between_ = story.platter.image(any_of)
        for image in (worst, between_, story.platter.image(any_of)):
            assert_whole(image, story.confirmed)
        if number % 29 == 0:
            left.append(lucky.choice([worst, between_]))

    story.after = cut
    story.run()
    assert {name for name, _ in story.steps} == {"create", "write", "sync", "link", "rename", "unlink", "make"}
    assert story.confirmed["batches"] >= 3
    monkeypatch.undo()
    monkeypatch.setattr("alumicatalyst._core.state_info", plant.state_info)
    for number, image in enumerate(left):
        lake = write_image(image, tmp_path / str(number)) / "lake"
        plant.run(Lake.open(str(lake)), UNTIL, flush_every=7)
        plant.assert_exact(Lake.open(str(lake)), UNTIL)
    assert len(left) >= 8


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.85])
def test_i5_what_a_killed_process_had_not_synced_is_synced_before_anything_is_built_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    measured = tmp_path / "measured"
    measured.mkdir()
    with monkeypatch.context() as patch:
        length = Story(measured, patch)
        length.run()
    story = Story(tmp_path, monkeypatch)
    at = int(len(length.steps) * share)

    deaths: list[int] = []

    def die(number: int, name: str, _path: Path) -> None:
        # Before a sync, which is when most is not durable.
        if number >= at and name == "sync" and not deaths:
            deaths.append(number)
            raise Killed

    story.before = die
    with pytest.raises(Killed):
        story.run()
    story.run()
    image = story.platter.image(lambda _, durable: durable)
    assert_whole(image, story.confirmed)
    lake = write_image(image, tmp_path / "left") / "lake"
    monkeypatch.undo()
    plant.assert_exact(Lake.open(str(lake)), UNTIL)


@pytest.mark.parametrize("table", ["readings", "batches"])
def test_i5_a_commit_whose_name_could_not_be_synced_is_synced_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    story = Story(tmp_path, monkeypatch)
    failed: list[Path] = []

    def fail(_number: int, name: str, path: Path) -> None:
        commits = [each for each in story.steps if each[0] == "link" and each[1].parent == path]
        if name == "sync" and path.match(f"{table}/_delta_log") and len(commits) >= 3 and len(failed) < 3:
            failed.append(path)
            raise OSError(5, "Input/output error", str(path))

    story.before = fail
    story.run()
    assert len(failed) == 3
    image = story.platter.image(lambda _, durable: durable)
    assert_whole(image, story.confirmed)
    lake = write_image(image, tmp_path / "left") / "lake"
    monkeypatch.undo()
    plant.assert_exact(Lake.open(str(lake)), UNTIL)


def whole_calls(trace: str) -> Iterator[str]:
    """Yield the calls of a trace in the order of their ends; some are told in two parts."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        thread, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>")
        elif call.startswith("<..."):
            yield begun.pop(thread, "") + call.partition("resumed>")[2]
        else:
            yield call


TRACED = """
import sys
from alumicatalyst import _core
from alumicatalyst.lake import Lake
from tests.lake import plant
_core.state_info = plant.state_info
plant.run(Lake.open(sys.argv[1]), 11, flush_every=6, state_every=1)
"""


def test_the_kernel_sees_every_file_and_folder_synced_in_its_turn(require: Require, tmp_path: Path) -> None:
    require(shutil.which("strace"), "there is no strace; install it with the system's packages")
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2,openat,close"
    ran = subprocess.run(
        ["strace", "-f", "-y", "-s", "4096", "-o", trace, "-e", calls, sys.executable, "-c", TRACED, tmp_path / "lake"],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    if "ptrace" in ran.stderr and not (tmp_path / "lake").exists():
        require(condition=False, missing=f"strace may not trace here: {ran.stderr.strip()[-200:]}")
    assert ran.returncode == 0, ran.stderr[-2_000:]
    synced: set[str] = set()
    named: list[str] = []
    waiting: dict[str, str] = {}
    for line in whole_calls(trace.read_text(errors="replace")):
        sync = re.search(r"fsync\(\d+<([^>]*)>", line)
        if sync:
            synced.add(sync[1])
            waiting.pop(sync[1], None)
            continue
        name = re.search(r"^(?:link|rename)\w*\(.*?\"([^\"]+\.tmp)\",.*?\"([^\"]+)\".* = 0$", line)
        if name:
            assert name[1] in synced, f"{name[1]} got its name before it was durable"
            # Claims are made by several threads; a flush writes one file at a time.
            if "/date=" in name[2]:
                assert not waiting, f"{waiting} were not durable before {name[2]}"
            waiting[str(Path(name[2]).parent)] = name[2]
            named.append(name[2])
    assert waiting == {}, "every name is durable at the end"
    kinds = [re.sub(r".*/lake/", "", each) for each in named]
    assert sum(each.startswith("batches/_delta_log") for each in kinds) >= 4
    # A data file before the commit that names it.
    for table in ("readings", "batches"):
        last = max(at for at, each in enumerate(kinds) if each.startswith(f"{table}/_delta_log/0"))
        assert max(at for at, each in enumerate(kinds) if each.startswith(f"{table}/date=")) < last

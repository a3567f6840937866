"""The log when the disk fails at any step, forgets at any step, or the process is killed at any step (invariant I7)."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import files
from alumicatalyst.ledger.note import Checkpoint, SigningKey, open_note
from tests.conftest import ROOT
from tests.ledger.disk import STEPS, Platter, between
from tests.ledger.ground import Ground
from tests.ledger.story import GROUPS, take_over, tell

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from alumicatalyst.ledger.note import VerifierKey

SIZES = {sum(GROUPS[:number]) for number in range(len(GROUPS) + 1)}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key and no log, in a copy of which every story begins."""
    return Ground(tmp_path_factory.mktemp("key")).folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here has to survive a real loss of power."""
    monkeypatch.setattr(files, "sync", lambda _: None)


class Readers:
    """Everyone who looks at the log's checkpoint, and keeps whatever they have ever seen."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._seen: set[str] = set()

    def look(self) -> None:
        path = self._ground.log / "checkpoint"
        if path.exists():
            self._seen.add(path.read_text())

    def seen(self) -> list[Checkpoint]:
        keys: list[VerifierKey] = [self._ground.key.verifier]
        return [Checkpoint.parse(open_note(each, keys)) for each in self._seen]


def tell_with(key: Path, folder: Path, around: Callable[[int, str, tuple[Any, ...], Callable[[], Any]], Any]) -> None:
    """Tell the story in a new folder, with something around every step."""
    shutil.copytree(key, folder)
    ground = Ground(folder)
    with pytest.MonkeyPatch.context() as patch:
        between(patch.setattr, around)
        tell(ground)


def steps_of_the_story(key: Path, folder: Path) -> list[str]:
    names: list[str] = []

    def around(_: int, name: str, __: tuple[Any, ...], act: Callable[[], Any]) -> Any:
        names.append(name)
        return act()

    tell_with(key, folder, around)
    return names


def test_the_story_meets_every_kind_of_step(key: Path, tmp_path: Path) -> None:
    assert set(steps_of_the_story(key, tmp_path / "story")) == set(STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["failed", "failed but persisted"])
def test_i7_whatever_step_fails_no_checkpoint_is_taken_back(fault: str, key: Path, tmp_path: Path) -> None:
    found = set()
    for last in range(len(steps_of_the_story(key, tmp_path / "story"))):
        readers = Readers(ground := Ground(key))
        ground.log = tmp_path / str(last) / "log"

        def around(
            number: int,
            _: str,
            __: tuple[Any, ...],
            act: Callable[[], Any],
            *,
            last: int = last,
            readers: Readers = readers,
        ) -> Any:
            result = act() if number != last or fault == "failed but persisted" else None
            readers.look()
            if number == last:
                raise OSError(5, "Input/output error")
            return result

        with pytest.raises(LedgerError, match=r"couldn't .*Input/output error"):
            tell_with(key, tmp_path / str(last), around)
        found.add(take_over(Ground(tmp_path / str(last)), readers.seen()))
        shutil.rmtree(tmp_path / str(last))
    assert found == SIZES


@pytest.mark.slow
@pytest.mark.parametrize("luck", range(2))
def test_i7_whatever_a_loss_of_power_leaves_no_checkpoint_is_taken_back(luck: int, key: Path, tmp_path: Path) -> None:
    lucky = random.Random(luck)
    found = set()
    readers = Readers(ground := Ground(key))
    ground.log = tmp_path / "story" / "log"
    platter: list[Platter] = []
    left: list[tuple[Path, list[Checkpoint]]] = []

    def around(number: int, name: str, arguments: tuple[Any, ...], act: Callable[[], Any]) -> Any:
        if not platter:
            platter.append(Platter(tmp_path / "story"))
        result = act()
        platter[0].make(name, arguments)
        readers.look()
        platter[0].after_power_cut(tmp_path / str(number), lucky)
        left.append((tmp_path / str(number), readers.seen()))
        return result

    tell_with(key, tmp_path / "story", around)
    for folder, seen in left:
        found.add(take_over(Ground(folder), seen))
    assert found == SIZES


@pytest.mark.slow
def test_i7_wherever_the_process_is_killed_no_checkpoint_is_taken_back(key: Path, tmp_path: Path) -> None:
    steps = len(steps_of_the_story(key, tmp_path / "story"))
    for number in range(steps):
        shutil.copytree(key, tmp_path / str(number))
    subprocess.run(
        [sys.executable, "-m", "tests.ledger.story", str(tmp_path), str(steps)], check=True, cwd=ROOT, timeout=100
    )
    found = set()
    for number in range(steps):
        ground = Ground(tmp_path / str(number))
        readers = Readers(ground)
        readers.look()
        found.add(take_over(ground, readers.seen()))
    assert found == SIZES


@pytest.mark.parametrize("fault", ["failed", "failed but persisted"])
def test_a_key_that_was_half_made_is_made_or_refused(fault: str, tmp_path: Path) -> None:
    steps = 0
    while True:
        path = tmp_path / str(steps) / "keys" / "ledger"
        path.parent.parent.mkdir()

        def around(number: int, _: str, __: tuple[Any, ...], act: Callable[[], Any], *, last: int = steps) -> Any:
            result = act() if number != last or fault == "failed but persisted" else None
            if number == last:
                raise OSError(28, "No space left on device")
            return result

        with pytest.MonkeyPatch.context() as patch:
            between(patch.setattr, around)
            try:
                SigningKey.create(path, "example.com/plant")
            except LedgerError as error:
                assert "No space left on device" in str(error)  # noqa: PT017 - the last round raises nothing
            else:
                break
        try:
            made = SigningKey.load(path)
        except LedgerError:
            for each in (path, path.with_name("ledger.vkey")):
                each.unlink(missing_ok=True)
            made = SigningKey.create(path, "example.com/plant")
        assert SigningKey.load(path).verifier == made.verifier
        steps += 1
    assert steps > 8

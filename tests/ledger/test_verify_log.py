"""Whatever is done to a file of the log is found and named; what a log at work leaves is not."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import verify_report
from alumicatalyst.ledger.note import SigningKey
from alumicatalyst.ledger.verify_log import read_earlier, verify_log
from alumicatalyst.ledger.verify_report import Report
from tests.ledger.ground import Ground, numbered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZE = 600
GROUPS = (100, 30, 200, 200, 70)  # Leaves partial tiles behind within the last one.


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    ground = Ground(tmp_path_factory.mktemp("grown"))
    size = 0
    for count in GROUPS:
        ground.grow(numbered(size, size + count))
        shutil.copy(ground.log / "checkpoint", ground.folder / f"checkpoint-{size + count}")
        size += count
    return ground


@pytest.fixture
def ground(grown: Ground, tmp_path: Path) -> Ground:
    shutil.copytree(grown.folder, tmp_path / "own")
    return Ground(tmp_path / "own")


def check(ground: Ground, *checkpoints: Path) -> Report:
    report = Report()
    vkey = ground.key.verifier
    verify_log(ground.log, vkey, [read_earlier(each, vkey) for each in checkpoints], report)
    return report


def named(report: Report) -> str:
    found = (report.wrong, report.unclaimed, report.notes)
    return "\n".join(each.text() for kind in found for each in kind.first)


def files(ground: Ground) -> list[str]:
    return sorted(
        path.relative_to(ground.log).as_posix()
        for path in ground.log.rglob("*")
        if path.is_file() and path.name != ".lease"
    )


def test_a_log_in_order_is_in_order_and_begins_with_every_checkpoint_before(ground: Ground) -> None:
    report = check(ground, ground.kept, *(ground.folder / f"checkpoint-{size}" for size in (100, 130, 330, 530)))
    assert report.is_ok(strict=True), named(report)
    assert (report.size, report.figures["entries"]) == (SIZE, SIZE)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257])
def test_logs_of_any_size_are_in_order(size: int, tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.grow(numbered(0, size))
    assert check(ground, ground.kept).is_ok(strict=True)


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    path.write_bytes(data)


def truncate(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def lengthen(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randint(1, 40)))


HARMS: list[Callable[[Path, random.Random], None]] = [flip, flip, flip, flip, truncate, lengthen]


def test_a_change_of_any_file_is_found_and_named(
    ground: Ground, grown: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_report, "KEPT_MAX", 1_000)
    rng = random.Random(5)
    assert {path.split("/")[1] for path in files(ground) if "/" in path} == {"0", "1", "entries"}
    for path in files(ground):
        for harm in HARMS * 3:
            harm(ground.log / path, rng)
            report = check(ground)
            assert report.wrong.count, (path, harm)
            assert path in named(report), (path, harm, named(report))
            shutil.copy(grown.log / path, ground.log / path)
    assert check(ground).is_ok(strict=True)


def test_a_file_that_is_gone_or_was_added_is_named(ground: Ground, grown: Ground) -> None:
    for path in files(ground):
        (ground.log / path).unlink()
        report = check(ground)
        # A partial file of a smaller size is not asked for by any reader of the log as it is.
        needed = ".p/" not in path or path.endswith("/88") or path == "tile/1/000.p/2"
        assert (path in named(report)) == needed, path
        shutil.copy(grown.log / path, ground.log / path)
    added = ["tile/0/003", "tile/0/002.p/100", "tile/entries/009", "tile/2/000.p/1", "tile/0/x", "x", "tile/1/000.p/9"]
    for path in [*added, "checkpoint.tmp", "tile/0/002.p/88.tmp"]:
        (ground.log / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(grown.log / "tile/0/001", ground.log / path)
        report = check(ground)
        assert report.is_ok(strict=False)
        assert not report.is_ok(strict=True)
        assert path in named(report)
        (ground.log / path).unlink()


def test_two_files_that_change_places_are_named(ground: Ground, grown: Ground) -> None:
    rng = random.Random(6)
    by_kind: dict[str, list[str]] = {}
    for path in files(ground):
        by_kind.setdefault(path.rpartition("/")[0], []).append(path)
    for paths in by_kind.values():
        for one in paths:
            other = rng.choice(paths)
            if one != other:
                shutil.copy(grown.log / one, ground.log / other)
                shutil.copy(grown.log / other, ground.log / one)
                report = check(ground)
                assert report.wrong.count
                assert one in named(report) or other in named(report)
                for path in (one, other):
                    shutil.copy(grown.log / path, ground.log / path)


def test_entries_and_tiles_changed_together_do_not_lead_to_the_signed_root(ground: Ground, tmp_path: Path) -> None:
    forged = Ground(tmp_path / "forged")
    forged.grow(numbered(0, 300) + numbered(300, SIZE, " forged"))
    shutil.rmtree(ground.log / "tile")
    shutil.copytree(forged.log / "tile", ground.log / "tile")
    report = check(ground)
    assert "checkpoint: its root is not that of the log's entries" in named(report)


def test_a_log_that_was_rolled_back_or_begun_anew_does_not_begin_with_what_was_signed(
    ground: Ground, tmp_path: Path
) -> None:
    shutil.copy(ground.folder / "checkpoint-530", ground.log / "checkpoint")
    report = check(ground, ground.kept)
    # All that the kept one covers is still there: a crash before readers were shown it looks alike.
    assert report.is_ok(strict=False)
    assert "the next `ledger run` shows all" in named(report)
    for folder in ("entries/002.p", "0/002.p"):
        for path in (ground.log / "tile" / folder).iterdir():
            if int(path.name) > 18:
                path.unlink()
    assert "the log was rolled back" in named(check(ground, ground.kept))
    shutil.rmtree(ground.log)
    ground.kept.rename(tmp_path / "earlier")
    ground.grow(numbered(0, 700, " of another life"))
    assert "the log was changed" in named(check(ground, tmp_path / "earlier"))


def test_a_checkpoint_of_another_key_or_log_is_refused(ground: Ground, tmp_path: Path) -> None:
    other = SigningKey.create(tmp_path / "other", ground.key.name)
    forged = other.sign(ground.checkpoint().text())
    (ground.log / "checkpoint").write_text(forged)
    report = check(ground)
    assert report.size is None
    assert "not signed by" in named(report)
    (tmp_path / "forged").write_text(forged)
    with pytest.raises(LedgerError, match="not signed by"):
        check(ground, tmp_path / "forged")
    with pytest.raises(LedgerError, match="there is no such file"):
        check(ground, tmp_path / "nowhere")


def test_a_log_that_is_not_there_is_wrong(ground: Ground) -> None:
    shutil.rmtree(ground.log)
    assert "checkpoint: it is missing" in named(check(ground))

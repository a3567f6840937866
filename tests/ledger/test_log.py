"""The log's writer: what it leaves on disk, who may write, and when it refuses to sign."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst.cli.main import exit_code
from alumicatalyst.errors import ClaimLost, LedgerError
from alumicatalyst.ledger import files, merkle, tiles
from alumicatalyst.ledger.log import LogReader, LogWriter
from alumicatalyst.ledger.note import SigningKey
from alumicatalyst.ledger.verify_log import verify_log
from alumicatalyst.ledger.verify_report import Report
from tests.conftest import ROOT
from tests.ledger.ground import Ground, files_of, numbered, oracle, oracle_leaf

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import sys
from tests.ledger.ground import Ground
from pathlib import Path
with Ground(Path(sys.argv[1])).writer() as writer:
    print(writer.size, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """A log of 300 entries that nobody changes; tests copy it."""
    ground = Ground(tmp_path_factory.mktemp("grown"))
    ground.grow(numbered(0, 300), group=70)
    return ground


@pytest.fixture
def ground(grown: Ground, tmp_path: Path) -> Ground:
    """A log of 300 entries of the test's own."""
    shutil.copytree(grown.folder, tmp_path / "copy")
    return Ground(tmp_path / "copy")


def test_i7_entries_stand_in_the_order_of_their_groups(ground: Ground) -> None:
    ground.hold_to(numbered(0, 300))
    ground.grow(numbered(300, 1_000), group=97)
    ground.hold_to(numbered(0, 1_000))


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 600), st.booleans(), st.booleans()), min_size=1, max_size=8))
def test_i7_however_it_is_grouped_and_opened_the_log_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool, bool]]
) -> None:
    ground = Ground(tmp_path_factory.mktemp("log"))
    published = size = 0
    checkpoints = []
    writer = ground.writer().__enter__()
    for count, publish, reopen in steps:
        writer.append(numbered(size, size + count))
        size += count
        assert writer.size == size
        if publish:
            checkpoints.append(writer.publish())
            published = size
        if reopen:
            writer.__exit__(None, None, None)
            writer = ground.writer().__enter__()
            size = published
            assert writer.size == size
    writer.__exit__(None, None, None)
    ground.hold_to(numbered(0, published))
    reader = ground.reader()
    for each in checkpoints:
        proof = merkle.consistency(each.size, reader.size, reader.range_hash)
        merkle.check_consistency(each.size, reader.size, each.root, reader.root(), proof)


def test_an_empty_log_is_signed_when_it_is_begun(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    with ground.writer() as writer:
        assert (writer.size, writer.publish().size) == (0, 0)
    ground.hold_to([])
    assert LogReader(tmp_path / "nothing").checkpoint_note() is None


def test_without_anything_new_nothing_is_written(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    with ground.writer() as writer:
        monkeypatch.setattr(files, "create", lambda *_: pytest.fail("a file was written"))
        assert writer.publish() == ground.checkpoint()


def test_readers_see_nothing_that_is_not_published(ground: Ground) -> None:
    with ground.writer() as writer:
        writer.append(numbered(300, 2_000))
        assert (ground.reader().size, ground.reader().root()) == (300, ground.checkpoint().root)
        assert list(ground.reader().entries(0, 300)) == numbered(0, 300)
    ground.hold_to(numbered(0, 300))


def test_i7_what_was_appended_and_never_published_is_overwritten(ground: Ground) -> None:
    with ground.writer() as writer:
        writer.append(numbered(300, 2_000, " that nobody signed"))
    ground.grow(numbered(300, 2_100, " of the next life"), group=600)
    ground.hold_to([*numbered(0, 300), *numbered(300, 2_100, " of the next life")])


@pytest.mark.parametrize("size", [310, 520, 1_100])
def test_i7_what_was_written_and_never_signed_is_not_left_beside_what_is(
    size: int, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, ground.writer() as writer:
        patch.setattr(SigningKey, "sign", die)
        writer.append(numbered(300, size, " that nobody signed"))
        with pytest.raises(KeyboardInterrupt):
            writer.publish()
    # As many tiles are filled, and the last one is longer: nothing of the former is overwritten or removed for it.
    ground.grow(numbered(300, size + 7, " of the next life"))
    ground.hold_to([*numbered(0, 300), *numbered(300, size + 7, " of the next life")])
    report = Report()
    verify_log(ground.log, ground.key.verifier, [], report)
    assert report.wrong.first == []


def test_partial_tiles_go_once_the_full_one_is_published(ground: Ground) -> None:
    with ground.writer() as writer:
        writer.append(numbered(300, 400))
        writer.publish()
        writer.append(numbered(400, 511))
        assert (ground.log / tiles.tile_path(0, 1, 144)).exists()
        writer.append(numbered(511, 600))
        assert (ground.log / tiles.tile_path(0, 1)).exists()
        assert (ground.log / tiles.tile_path(0, 1, 144)).exists(), "a reader of the checkpoint may still ask for it"
        writer.publish()
    there = {str(each.relative_to(ground.log)) for each in (ground.log / "tile").rglob("*") if each.is_file()}
    # The first tile of level 1 is not full, so what it was at earlier sizes stays.
    assert there - {"tile/1/000.p/1"} == set(files_of(numbered(0, 600)))


def test_i7_a_second_process_is_turned_away(ground: Ground) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(ground.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"300\n"
        with pytest.raises(ClaimLost, match=r"another process holds .*\.lease") as caught, ground.writer():
            pass
        assert exit_code(caught.value) == 5
    finally:
        holder.communicate()
    with ground.writer() as writer:
        assert writer.size == 300


def test_i7_two_copies_of_a_log_are_never_signed_with_one_key(ground: Ground, tmp_path: Path) -> None:
    copy = tmp_path / "log-copy"
    shutil.copytree(ground.log, copy)
    with (
        ground.writer() as writer,
        pytest.raises(ClaimLost, match=r"ledger\.checkpoint\.lease"),
        LogWriter(copy, ground.key, ground.kept),
    ):
        pass
    with ground.writer() as writer:
        writer.append(numbered(300, 301))
        writer.publish()
    # Later, too: the copy lacks what the key has signed since.
    with pytest.raises(LedgerError, match="rolled back or damaged"), LogWriter(copy, ground.key, ground.kept):
        pass


def refused(ground: Ground, match: str, *, key: SigningKey | None = None, accept_unkept: bool = False) -> None:
    """Assert that the log is not opened for this reason, and that the attempt has changed nothing."""
    before = {each: each.read_bytes() for each in ground.folder.rglob("*") if each.is_file()}
    with (
        pytest.raises(LedgerError, match=match) as caught,
        LogWriter(ground.log, key or ground.key, ground.kept, accept_unkept=accept_unkept),
    ):
        pass
    assert exit_code(caught.value) == 7
    after = {each: each.read_bytes() for each in ground.folder.rglob("*") if each.is_file()}
    assert after == before


def test_i7_a_folder_that_was_restored_from_an_old_copy_is_not_signed(ground: Ground, tmp_path: Path) -> None:
    for size in (300, 0):
        old = tmp_path / f"old-{size}"
        if size:
            shutil.copytree(ground.log, old)
            ground.grow(numbered(300, 1_000))
        else:
            old.mkdir()
            (old / ".lease").touch()
        shutil.rmtree(ground.log)
        old.rename(ground.log)
        refused(ground, "rolled back or damaged")
        refused(ground, "rolled back or damaged", accept_unkept=True)


def test_i7_a_history_that_was_rewritten_is_not_signed(ground: Ground) -> None:
    other = Ground(ground.folder / "other")
    for name in ("ledger", "ledger.vkey"):
        shutil.copy(ground.path.with_name(name), other.path.with_name(name))
    other.key = ground.key
    other.grow([*numbered(0, 17), b"forged", *numbered(18, 400)])
    shutil.rmtree(ground.log)
    other.log.rename(ground.log)
    refused(ground, "first 300 entries are not those that were signed")
    refused(ground, "first 300 entries are not those that were signed", accept_unkept=True)


@pytest.mark.parametrize("place", ["kept", "shown"])
def test_i7_a_checkpoint_that_is_damaged_foreign_or_of_another_key_is_not_continued(
    place: str, ground: Ground, tmp_path: Path
) -> None:
    path = ground.kept if place == "kept" else ground.log / "checkpoint"
    good = path.read_bytes()
    text = ground.checkpoint().text()
    stranger = Ground(tmp_path / "stranger")
    other_log = ground.key.sign(text.replace("example.com/plant", "example.com/other"))
    for note in (b"", good[:-1], good[1:], b"\xff\xff", stranger.key.sign(text).encode(), bytes(2 << 20)):
        path.write_bytes(note)
        refused(ground, "couldn't (trust|read)|which none of|is not UTF-8|holds a control")
    path.write_text(other_log)
    refused(ground, r"of the log 'example\.com/other'")
    path.write_bytes(good)
    ground.grow(numbered(300, 301))


def test_i7_another_key_does_not_continue_the_log(ground: Ground, tmp_path: Path) -> None:
    refused(ground, "not signed by", key=SigningKey.create(tmp_path / "new", "example.com/plant"))


def test_i7_a_log_whose_kept_checkpoint_is_gone_is_continued_only_when_told_to(ground: Ground) -> None:
    ground.kept.unlink()
    refused(ground, "--accept-unkept-log")
    with ground.writer(accept_unkept=True) as writer:
        assert writer.size == 300
    ground.hold_to(numbered(0, 300))
    ground.grow(numbered(300, 400))


def test_i7_a_log_without_any_checkpoint_is_not_begun_anew(ground: Ground) -> None:
    ground.kept.unlink()
    (ground.log / "checkpoint").unlink()
    refused(ground, "has a log's tiles, but neither its checkpoint")
    refused(ground, "has a log's tiles, but neither its checkpoint", accept_unkept=True)


@pytest.mark.parametrize("behind", ["kept", "shown", "shown is gone"])
def test_i7_of_two_signed_checkpoints_the_larger_is_continued(behind: str, ground: Ground) -> None:
    path = ground.kept if behind == "kept" else ground.log / "checkpoint"
    old = path.read_bytes()
    ground.grow(numbered(300, 400))
    path.write_bytes(old)
    if behind == "shown is gone":
        path.unlink()
    with ground.writer() as writer:
        assert writer.size == 400
    ground.hold_to(numbered(0, 400))


@pytest.mark.parametrize("path", [tiles.tile_path(0, 1, 44), tiles.tile_path(1, 0, 1), tiles.bundle_path(1, 44)])
@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_i7_a_log_whose_last_files_are_damaged_is_not_continued(path: str, damage: str, ground: Ground) -> None:
    file = ground.log / path
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    refused(ground, "couldn't (read|continue)")
    file.write_bytes(data)
    ground.grow(numbered(300, 301))


def test_i7_a_checkpoint_that_another_hand_replaces_meanwhile_is_not_signed_over(ground: Ground) -> None:
    old = (ground.log / "checkpoint").read_bytes()
    with ground.writer() as writer:
        writer.append(numbered(300, 301))
        writer.publish()
        (ground.log / "checkpoint").write_bytes(old)
        writer.append(numbered(301, 302))
        with pytest.raises(LedgerError, match="replaced by another hand"):
            writer.publish()
        with pytest.raises(LedgerError, match="failed before"):
            writer.append([b"more"])
    with ground.writer() as writer:
        assert writer.size == 301


def test_a_writer_that_is_not_open_appends_nothing(ground: Ground) -> None:
    writer = ground.writer()
    for attempt in (lambda: writer.append([b"x"]), writer.publish, lambda: writer.size):
        with pytest.raises(LedgerError, match="not open"):
            attempt()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.log.write_text("a file in its place")
    with pytest.raises(LedgerError, match="couldn't open the log"), ground.writer():
        pass


@pytest.mark.slow
def test_i6_a_long_log_is_continued_and_proven_from_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = Ground(tmp_path)
    size = 200_000
    with monkeypatch.context() as patch:
        patch.setattr(files, "sync", lambda _: None)
        ground.grow(numbered(0, size), group=50_000)
    read: list[str] = []
    real = files.read

    def counted(path: Path, limit: int) -> bytes:
        read.append(str(path.relative_to(tmp_path)))
        return real(path, limit)

    monkeypatch.setattr(files, "read", counted)
    with ground.writer() as writer:
        assert writer.size == size
    assert len([each for each in read if "tile/" in each]) < 20, "opening it reads the edge, not the log"
    read.clear()
    reader = ground.reader()
    leaves = [oracle_leaf(each) for each in numbered(0, size)]
    assert reader.root() == oracle(leaves)(0, size)
    for index in (0, 65_535, 65_536, 131_071, size - 1):
        proof = merkle.inclusion(index, size, reader.range_hash)
        assert merkle.root_from_inclusion(index, size, leaves[index], proof) == reader.root()
    assert len(read) < 30

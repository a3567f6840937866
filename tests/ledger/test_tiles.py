"""Tiles and bundles: their names, what is in them, and readers that stay at one size while the log grows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import tiles
from alumicatalyst.ledger.tiles import Tiles, bundle_path, decode_bundle, encode_entry, tile_path
from tests.ledger.ground import Ground, files_of, numbered, value_or_error

if TYPE_CHECKING:
    from pathlib import Path

# Sizes, and the files that C2SP's tlog-tiles names for them beside full tiles of level 0.
FILES = {
    0: set(),
    1: {"0/000.p/1"},
    256: {"0/000", "1/000.p/1"},
    257: {"0/000", "0/001.p/1", "1/000.p/1"},
    70_000: {"0/273.p/112", "1/000", "1/001.p/17", "2/000.p/1"},
}


@pytest.mark.parametrize(
    ("n", "path"),
    [(0, "000"), (999, "999"), (1_000, "x001/000"), (1_234_067, "x001/x234/067"), (10**9, "x001/x000/x000/000")],
)
def test_the_names_of_tiles_are_those_of_c2sp(n: int, path: str) -> None:
    assert tile_path(3, n) == f"tile/3/{path}"
    assert tile_path(0, n, 17) == f"tile/0/{path}.p/17"
    assert bundle_path(n, 255) == f"tile/entries/{path}.p/255"


@pytest.mark.parametrize("size", FILES)
def test_the_files_of_a_log_are_those_of_c2sp(size: int, tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.grow(numbered(0, size))
    there = {str(each.relative_to(ground.log)) for each in (ground.log / "tile").rglob("*") if each.is_file()}
    assert there == set(files_of(numbered(0, size)))
    hashes = {each.removeprefix("tile/") for each in there if not each.startswith("tile/entries")}
    full = {f"0/{n:03d}" for n in range(size // 256)}
    assert hashes - full == FILES[size] - full


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_a_bundle_is_read_as_it_was_written(entries: list[bytes]) -> None:
    data = b"".join(map(encode_entry, entries))
    assert decode_bundle(data, len(entries)) == entries
    for cut in range(len(data)):
        with pytest.raises(LedgerError, match="it is cut in entry"):
            decode_bundle(data[:cut], len(entries))
    with pytest.raises(LedgerError, match="1 bytes follow"):
        decode_bundle(data + b"\0", len(entries))


@given(st.binary(max_size=2_000), st.integers(0, 256))
def test_i9_any_bytes_are_a_bundle_or_an_error(data: bytes, count: int) -> None:
    entries = value_or_error(lambda: decode_bundle(data, count))
    assert entries is None or b"".join(map(encode_entry, entries)) == data


def test_i6_an_entry_has_at_most_65_535_bytes(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    largest = bytes(range(256)) * 256
    with ground.writer() as writer:
        with pytest.raises(LedgerError, match="65536 bytes"):
            writer.append([b"one", largest])
        assert writer.size == 0
        writer.append([largest[:-1], b""] * 200)
        writer.publish()
    ground.hold_to([largest[:-1], b""] * 200)


def test_a_reader_stays_at_its_size_while_the_log_grows(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.grow(numbered(0, 200))
    early = ground.reader()
    root = early.root()
    ground.grow(numbered(200, 70_000))
    assert not (ground.log / tile_path(0, 0, 200)).exists()
    again = Tiles(ground.log, 200)
    assert (early.size, early.root(), again.range_hash(0, 200)) == (200, root, root)
    assert list(early.entries(0, 200)) == numbered(0, 200)
    with pytest.raises(LedgerError, match="the log has 200"):
        early.entry(200)


def test_what_a_log_does_not_have_is_refused(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.grow(numbered(0, 300))
    reader = ground.reader()
    for index in (-1, 300, 2**62):
        with pytest.raises(LedgerError):
            reader.entry(index)
        with pytest.raises(LedgerError):
            reader.leaf_hash(index)
    for start, stop in ((5, 4), (-1, 4), (0, 301)):
        with pytest.raises(LedgerError):
            list(reader.entries(start, stop))
    for level, n in ((0, 2), (0, -1), (1, 1), (2, 0), (7, 0)):
        with pytest.raises(LedgerError, match="has none"):
            Tiles(ground.log, 300).hashes(level, n)


@pytest.mark.parametrize("path", [tile_path(0, 0), tile_path(0, 1, 44), bundle_path(0), bundle_path(1, 44)])
@pytest.mark.parametrize("damage", ["gone", "cut", "longer", "huge"])
def test_i7_files_that_are_missing_or_of_the_wrong_length_are_named(path: str, damage: str, tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.grow(numbered(0, 300))
    file = ground.log / path
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "huge":
        with file.open("r+b") as handle:
            handle.truncate(1 << 40)
    else:
        file.write_bytes(data[:-1] if damage == "cut" else data + b"\0")
    reader = ground.reader()
    with pytest.raises(LedgerError, match=r"restore|which none of the ledger's files has"):
        [reader.leaf_hash(at) for at in range(300)] + list(reader.entries(0, 300))


def test_i6_a_reader_holds_a_bounded_number_of_tiles() -> None:
    assert tiles._TILES_KEPT * tiles._TILE_BYTES <= 4 << 20

"""Verifies a log by its own bytes: the signature, every tile from the entries, every file that is there or is not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import files, merkle, note, tiles
from alumicatalyst.ledger.log import CHECKPOINT, LEASE, read_note
from alumicatalyst.ledger.text import encode_base64
from alumicatalyst.ledger.verify_report import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from alumicatalyst.ledger.note import Checkpoint, VerifierKey
    from alumicatalyst.ledger.verify_report import Report

_FILE: Final = re.compile(r"(tile/(?:[0-7]|entries)/(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_TOLD_EVERY: Final = 16
_BUNDLE_BYTES_MAX: Final = tiles.WIDTH * (2 + tiles.ENTRY_BYTES_MAX)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Earlier:
    """A checkpoint that was signed before, with which the log must begin."""

    checkpoint: Checkpoint
    file: str


def read_earlier(path: Path, vkey: VerifierKey) -> Earlier:
    """Read a checkpoint that somebody kept, before the log is looked at: a log at work only grows.

    Raises:
        LedgerError: There is none, it is not signed by the key, or is of another log.
    """
    text = read_note(path)
    if text is None:
        raise LedgerError(f"couldn't read the checkpoint {path}: there is no such file; name one that was kept")
    return Earlier(_opened(text, vkey), str(path))


def verify_log(folder: Path, vkey: VerifierKey, earlier: Sequence[Earlier], report: Report) -> int:
    """Verify a log, and return how many of its entries can be read and hashed, for what is verified with them.

    Args:
        folder: The log.
        vkey: Its verifier key.
        earlier: Checkpoints that it must begin with.
        report: Takes what is found.
    """
    report.origin = vkey.name
    # Files before the checkpoint: a writer at work only adds, and removes partial ones whose full one is there.
    listed = _listed(folder)
    checkpoint = _checkpoint(folder, vkey, report)
    if checkpoint is None:
        return 0
    report.size, report.root = checkpoint.size, encode_base64(checkpoint.root)
    shelf = _Shelf(folder, listed)
    walk = _Walk(shelf, checkpoint.size, report)
    walk.run(checkpoint, earlier)
    for path in sorted(listed - shelf.asked - {CHECKPOINT, LEASE}):
        match = _FILE.fullmatch(path)
        what = "it is no file of a log"
        if match:
            what = "it lies beyond the signed checkpoint: a crash has left it, or it was put there"
        report.unclaimed.add(Finding(what, file=path))
    return walk.readable


def _listed(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _checkpoint(folder: Path, vkey: VerifierKey, report: Report) -> Checkpoint | None:
    try:
        text = read_note(folder / CHECKPOINT)
        if text is None:
            report.wrong.add(Finding("it is missing: nothing here is signed", file=CHECKPOINT))
            return None
        return _opened(text, vkey)
    except LedgerError as error:
        report.wrong.add(Finding(str(error), file=CHECKPOINT))
        return None


def _opened(text: str, vkey: VerifierKey) -> Checkpoint:
    checkpoint = note.Checkpoint.parse(note.open_note(text, [vkey]))
    if checkpoint.origin != vkey.name:
        raise LedgerError(f"couldn't accept the checkpoint: it is of the log {checkpoint.origin!r}, not {vkey.name!r}")
    return checkpoint


class _Tree:
    """Grows a tree from leaf hashes, and compares each tile above them that it completes with the log's."""

    def __init__(self, shelf: _Shelf) -> None:
        self._shelf = shelf
        self._levels: list[list[bytes]] = [[] for _ in range(tiles.LEVELS)]
        self._done = [0] * tiles.LEVELS
        self.wrong: list[Finding] = []

    def add(self, leaf: bytes) -> None:
        """Take in the next leaf hash."""
        found = leaf
        for level, row in enumerate(self._levels):
            row.append(found)
            if len(row) < tiles.WIDTH:
                return
            self._compare(level)
            found = merkle.root(row)
            row.clear()
            self._done[level] += 1

    def finish(self) -> None:
        """Compare the partial tiles at the end."""
        for level, row in enumerate(self._levels):
            if row:
                self._compare(level)

    def root(self) -> bytes:
        """Return the root over all leaves so far."""
        found: list[bytes] = []
        for row in self._levels:
            found = [merkle.root([*row, *found])] if row or found else []
        return found[0] if found else merkle.EMPTY_ROOT

    def _compare(self, level: int) -> None:
        # Those of level 0 are compared where the entries are, so that the entry can be named.
        if level:
            row = self._levels[level]
            path = tiles.tile_path(level, self._done[level])
            found = self._shelf.read(path, len(row), tiles.WIDTH * merkle.HASH_BYTES, _hashes)
            if isinstance(found, Finding):
                self.wrong.append(found)
            elif found[: len(row)] != row:
                name = self._shelf.name(path, len(row))
                self.wrong.append(Finding("it is not what follows from the entries", file=name))
            self.wrong += self._shelf.left_over(path, len(row), [merkle.HASH_BYTES] * len(row), b"".join(row))


class _Shelf:
    """The files of a log, and which of them have been asked for."""

    def __init__(self, folder: Path, listed: set[str]) -> None:
        self._folder = folder
        self.asked: set[str] = set()
        self._partial: dict[str, list[int]] = {}
        for path in listed:
            match = _FILE.fullmatch(path)
            if match and match[2]:
                self._partial.setdefault(match[1], []).append(int(match[2]))

    def read(self, path: str, width: int, limit: int, decode: Callable[[bytes, int], T]) -> T | Finding:
        """Return a tile or bundle as it was decoded, or what is wrong with it.

        Args:
            path: Of the full one.
            width: How many hashes or entries of it are signed.
            limit: Bytes that no such file exceeds.
            decode: Told the bytes and how many hashes or entries they are; raises LedgerError.
        """
        # The full one stands for the partial one as soon as the log has grown.
        for name, count in dict.fromkeys(((self.name(path, width), width), (path, tiles.WIDTH))):
            self.asked.add(name)
            try:
                with files.reported("read it", "restore it"):
                    return decode(files.read(self._folder / name, limit), count)
            except LedgerError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    continue
                return Finding(str(error), file=name)
        return Finding("it is missing", file=self.name(path, width))

    def left_over(self, path: str, width: int, sizes: list[int], data: bytes) -> list[Finding]:
        """Compare partial ones that were published before with what has become of them."""
        found = []
        for each in sorted(self._partial.get(path, [])):
            if each < width:
                name = self.name(path, each)
                self.asked.add(name)
                length = sum(sizes[:each])
                if self.read_plain(name, length) != data[:length]:
                    found.append(Finding("it is not the beginning of what the log has now", file=name))
        return found

    def read_plain(self, name: str, length: int) -> bytes | None:
        """Return a file that must have so many bytes; None if it has not."""
        try:
            data = files.read(self._folder / name, length)
        except (OSError, LedgerError):
            return None
        return data if len(data) == length else None

    def root(self, size: int) -> bytes | None:
        """Return the root that the tiles have for another size, None if they have none."""
        try:
            return tiles.Tiles(self._folder, size).range_hash(0, size)
        except LedgerError:
            return None

    @staticmethod
    def name(path: str, width: int) -> str:
        """Return the name of a tile or bundle of a width."""
        return path if width == tiles.WIDTH else f"{tiles.partial_folder(path)}/{width}"


class _Walk:
    """One walk over a log's entries and leaf hashes."""

    def __init__(self, shelf: _Shelf, size: int, report: Report) -> None:
        self._shelf = shelf
        self._size = size
        self._report = report
        self._by_entries, self._by_tiles = _Tree(shelf), _Tree(shelf)
        self._sure: list[Finding] = []
        self._differ: list[tuple[str, str, int]] = []  # Tile, bundle, and the first entry on which they disagree.
        self.readable = size

    def run(self, checkpoint: Checkpoint, earlier: Sequence[Earlier]) -> None:
        """Compare entries, tiles, the signed root and earlier ones."""
        wanted = {each.checkpoint.size for each in earlier}
        roots = {0: merkle.EMPTY_ROOT}
        done = 0
        for n in range((self._size + tiles.WIDTH - 1) // tiles.WIDTH):
            if n % _TOLD_EVERY == 0:
                self._report.tell(f"{n * tiles.WIDTH:,} of {self._size:,} entries of the log")
            for leaf, listed in self._leaves(n, min(tiles.WIDTH, self._size - n * tiles.WIDTH)):
                self._by_entries.add(leaf)
                self._by_tiles.add(listed)
                done += 1
                if done in wanted:
                    roots[done] = self._by_entries.root()
        self._by_entries.finish()
        self._by_tiles.finish()
        self._report.figures["entries"] += done
        for each in [*self._sure, *self._judged(checkpoint)]:
            self._report.wrong.add(each)
        for known in earlier:
            self._begins_with(known, roots.get(known.checkpoint.size))

    def _leaves(self, n: int, width: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield each leaf hash by the entries and by the tile; where one of the two cannot be read, the other's."""
        tile_path, bundle_path = tiles.tile_path(0, n), tiles.bundle_path(n)
        hashes = self._shelf.read(tile_path, width, tiles.WIDTH * merkle.HASH_BYTES, _hashes)
        entries = self._shelf.read(bundle_path, width, _BUNDLE_BYTES_MAX, tiles.decode_bundle)
        if isinstance(hashes, Finding):
            self._sure.append(hashes)
        if isinstance(entries, Finding):
            self._sure.append(entries)
            self.readable = min(self.readable, n * tiles.WIDTH)
            if isinstance(hashes, Finding):
                return
            leaves = hashes = hashes[:width]
        else:
            leaves = [merkle.leaf_hash(each) for each in entries[:width]]
            hashes = leaves if isinstance(hashes, Finding) else hashes[:width]
            written = [tiles.encode_entry(each) for each in entries[:width]]
            self._sure += self._shelf.left_over(bundle_path, width, [len(each) for each in written], b"".join(written))
            self._sure += self._shelf.left_over(tile_path, width, [merkle.HASH_BYTES] * width, b"".join(hashes))
        if leaves != hashes:
            at = next(at for at, pair in enumerate(zip(leaves, hashes, strict=True)) if pair[0] != pair[1])
            names = self._shelf.name(tile_path, width), self._shelf.name(bundle_path, width)
            self._differ.append((*names, n * tiles.WIDTH + at))
        yield from zip(leaves, hashes, strict=True)

    def _judged(self, checkpoint: Checkpoint) -> list[Finding]:
        """Where entries and tiles disagree, the signed root tells which of them are right."""
        if self._by_entries.root() == checkpoint.root:
            return [
                Finding(f"its hash of entry {at} is not that of the entry, which is the one that was signed", file=tile)
                for tile, _, at in self._differ
            ] + self._by_entries.wrong
        if self._by_tiles.root() == checkpoint.root:
            return [
                Finding(f"entry {at} is not the one that was signed", file=bundle) for _, bundle, at in self._differ
            ] + self._by_tiles.wrong
        named = [
            Finding(f"it and {tile} disagree on entry {at}, and together are not what was signed", file=bundle)
            for tile, bundle, at in self._differ
        ]
        if not named and not self._sure:
            named = [
                Finding("its root is not that of the log's entries: they are not what was signed", file=CHECKPOINT)
            ]
        return named + self._by_entries.wrong

    def _begins_with(self, earlier: Earlier, root: bytes | None) -> None:
        size = earlier.checkpoint.size
        if size > self._size:
            if self._shelf.root(size) == earlier.checkpoint.root:
                what = f"it has {size} entries, the log shows {self._size} of them: the next `ledger run` shows all"
                self._report.notes.add(Finding(what, file=earlier.file))
                return
            what = f"it was signed with {size} entries, the log's checkpoint has {self._size}: the log was rolled back"
        elif root != earlier.checkpoint.root:
            what = f"the log's first {size} entries are not those that it was signed with: the log was changed"
        else:
            return
        self._report.wrong.add(Finding(what, file=earlier.file))


def _hashes(data: bytes, count: int) -> list[bytes]:
    if len(data) != count * merkle.HASH_BYTES:
        raise LedgerError(f"couldn't read it: it has {len(data)} bytes, not {count * merkle.HASH_BYTES}; restore it")
    return tiles.split_hashes(data)

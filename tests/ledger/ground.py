"""What the ledger's tests stand on: a log in a folder of its own, and the tree of RFC 6962 as it is defined."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger.log import LogReader, LogWriter
from alumicatalyst.ledger.note import Checkpoint, SigningKey, open_note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ORIGIN = "example.com/plant"


class Ground:
    """A folder with a key and a log."""

    def __init__(self, folder: Path, origin: str = ORIGIN) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.path = folder / "keys" / "ledger"
        self.kept = Path(f"{self.path}.checkpoint")
        self.key = SigningKey.load(self.path) if self.path.exists() else SigningKey.create(self.path, origin)

    @property
    def vkey(self) -> Path:
        return Path(f"{self.path}.vkey")

    def writer(self, **options: bool) -> LogWriter:
        return LogWriter(self.log, self.key, self.kept, **options)

    def grow(self, entries: Sequence[bytes], group: int = 10_000) -> None:
        """Append entries and publish them, so many at a time."""
        with self.writer() as writer:
            for at in range(0, len(entries), group):
                writer.append(entries[at : at + group])
                writer.publish()

    def reader(self) -> LogReader:
        return LogReader(self.log)

    def checkpoint(self, path: Path | None = None) -> Checkpoint:
        """Return a checkpoint that is signed by the log's key, by default the one that readers are shown."""
        note = (path or self.log / "checkpoint").read_text()
        return Checkpoint.parse(open_note(note, [self.key.verifier]))

    def hold_to(self, entries: Sequence[bytes]) -> None:
        """Assert that the log is whole: these entries, these hashes in these files, all of it signed and kept."""
        leaves = [oracle_leaf(each) for each in entries]
        expected = Checkpoint(self.key.name, len(entries), oracle(leaves)(0, len(leaves)))
        assert self.checkpoint() == self.checkpoint(self.kept) == expected
        reader = self.reader()
        assert (reader.size, reader.root()) == (expected.size, expected.root)
        assert list(reader.entries(0, reader.size)) == list(entries)
        assert [reader.leaf_hash(at) for at in range(reader.size)] == leaves
        for path, data in files_of(entries).items():
            assert (self.log / path).read_bytes() == data, path


def numbered(start: int, stop: int, life: str = "") -> list[bytes]:
    """Return distinct entries, other ones in another life of the process."""
    return [f"entry {number}{life}".encode() for number in range(start, stop)]


def oracle_leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def oracle(leaves: Sequence[bytes]) -> Callable[[int, int], bytes]:
    """Return MTH of RFC 6962, 2.1, over any range of leaf hashes."""

    @cache
    def mth(lo: int, hi: int) -> bytes:
        if lo == hi:
            return hashlib.sha256(b"").digest()
        if hi - lo == 1:
            return leaves[lo]
        k = 1
        while k * 2 < hi - lo:
            k *= 2
        return hashlib.sha256(b"\x01" + mth(lo, lo + k) + mth(lo + k, hi)).digest()

    return mth


def files_of(entries: Sequence[bytes]) -> dict[str, bytes]:
    """Return every tile and bundle that a log of these entries has to have, by C2SP's rules."""
    files: dict[str, bytes] = {}
    bundled = [len(entry).to_bytes(2, "big") + entry for entry in entries]
    _cut(files, "tile/entries", bundled)
    level, hashes = 0, [oracle_leaf(entry) for entry in entries]
    while hashes:
        _cut(files, f"tile/{level}", hashes)
        full = (hashes[at : at + 256] for at in range(0, len(hashes) - 255, 256))
        level, hashes = level + 1, [oracle(tile)(0, 256) for tile in full]
    return files


def _cut(files: dict[str, bytes], prefix: str, items: Sequence[bytes]) -> None:
    for at in range(0, len(items), 256):
        some = items[at : at + 256]
        digits = f"{at // 256:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[each : each + 3] for each in range(0, len(digits), 3)]
        name = "/".join([f"x{group}" for group in groups[:-1]] + groups[-1:])
        files[f"{prefix}/{name}" + (f".p/{len(some)}" if len(some) < 256 else "")] = b"".join(some)


def value_or_error(read: Callable[[], Any]) -> Any:
    """Return what a parser makes of its input, None where it refuses it as it has to; anything else is raised."""
    try:
        return read()
    except LedgerError as error:
        if not str(error).startswith("couldn't "):
            raise
        return None


def damaged(text: bytes) -> Iterable[bytes]:
    """Yield every text that differs in one bit."""
    for at in range(len(text)):
        for bit in range(8):
            yield text[:at] + bytes([text[at] ^ 1 << bit]) + text[at + 1 :]

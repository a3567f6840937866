"""The files of a log (C2SP tlog-tiles): their names, what is in them, and reading hashes and entries from them.

A tile holds up to 256 hashes of one level; level 0 are the leaf hashes, and each hash above is the root of one full
tile of the level below. A bundle holds the entries of one tile of level 0. A partial tile or bundle, the last of its
level, has its width in its name; once the full one exists, it may be gone.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import files
from alumicatalyst.ledger.merkle import HASH_BYTES, node_hash, root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WIDTH: Final = 256
"""Hashes in a full tile, and entries in a full bundle."""
ENTRY_BYTES_MAX: Final = 65_535
LEVELS: Final = 8
"""Levels 0 to 7 hold every tree of less than 2^63 entries."""
_TILE_BYTES: Final = WIDTH * HASH_BYTES
_BUNDLE_BYTES_MAX: Final = WIDTH * (2 + ENTRY_BYTES_MAX)
_TILES_KEPT: Final = 512  # 4 MiB, enough for every tile that a proof in a log of any size needs again.
_LENGTH: Final = struct.Struct(">H")


def tile_path(level: int, n: int, width: int = WIDTH) -> str:
    """Return the path of a tile below the log's folder, such as `tile/0/x001/234` or `tile/1/000.p/17`."""
    return _path(str(level), n, width)


def bundle_path(n: int, width: int = WIDTH) -> str:
    """Return the path of the bundle of the tile 0/n."""
    return _path("entries", n, width)


def partial_folder(path: str) -> str:
    """Return the folder in which the partial ones of a full tile or bundle lie."""
    return f"{path}.p"


def _path(level: str, n: int, width: int) -> str:
    groups = [f"{n % 1_000:03d}"]
    while n >= 1_000:
        n //= 1_000
        groups.append(f"x{n % 1_000:03d}")
    path = f"tile/{level}/{'/'.join(reversed(groups))}"
    return path if width == WIDTH else f"{partial_folder(path)}/{width}"


def width_at(size: int, level: int) -> int:
    """Return how many hashes the partial tile of a level has in a log of `size` entries; 0 for none."""
    return (size >> 8 * level) % WIDTH


def check_entry(entry: bytes) -> None:
    """Raise LedgerError if an entry is longer than a bundle can say."""
    if len(entry) > ENTRY_BYTES_MAX:
        raise LedgerError(f"couldn't use an entry of {len(entry)} bytes: a log's entry has at most {ENTRY_BYTES_MAX}")


def encode_entry(entry: bytes) -> bytes:
    """Return an entry as a bundle holds it.

    Raises:
        LedgerError: It is longer than its length can say.
    """
    check_entry(entry)
    return _LENGTH.pack(len(entry)) + entry


def decode_bundle(data: bytes, count: int, what: str = "the bundle") -> list[bytes]:
    """Return the entries of a bundle, which are exactly `count`.

    Raises:
        LedgerError: They are fewer, or bytes follow them.
    """
    entries: list[bytes] = []
    at = 0
    for number in range(count):
        length = _LENGTH.unpack_from(data, at)[0] if at + 2 <= len(data) else len(data)
        if at + 2 + length > len(data):
            raise LedgerError(f"couldn't read {what}: it is cut in entry {number} of {count}; restore it")
        entries.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    if at != len(data):
        raise LedgerError(f"couldn't read {what}: {len(data) - at} bytes follow its {count} entries; restore it")
    return entries


class Tiles:
    """Reads the tiles and bundles of a log as it was at one size, however far it has grown since.

    Attributes:
        size: Number of entries.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self.size = size
        # By number only: at one size a tile has one width.
        self._tile = lru_cache(maxsize=_TILES_KEPT)(self._read_tile)

    def hashes(self, level: int, n: int) -> bytes:
        """Return the hashes of a tile, as many as it has at this size.

        Raises:
            LedgerError: The tile is missing or of the wrong length, or a log of this size has no such tile.
        """
        return self._tile(level, n)

    def bundle(self, n: int) -> list[bytes]:
        """Return the entries of a bundle, as many as it has at this size.

        Raises:
            LedgerError: The bundle is missing or damaged, or a log of this size has no such bundle.
        """
        width = self._width(0, n)
        data, full = self._read(bundle_path(n, width), bundle_path(n), _BUNDLE_BYTES_MAX)
        return decode_bundle(data, WIDTH if full else width, f"bundle {n} of {self._folder}")[:width]

    def entries(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the entries start..stop-1, one bundle in memory at a time.

        Raises:
            LedgerError: A bundle is missing or damaged, or the log has fewer entries at this size.
        """
        if not 0 <= start <= stop <= self.size:
            raise LedgerError(f"couldn't read entries {start} to {stop}: the log has {self.size}; name those it has")
        for n in range(start // WIDTH, (stop + WIDTH - 1) // WIDTH):
            yield from self.bundle(n)[max(0, start - n * WIDTH) : stop - n * WIDTH]

    def range_hash(self, lo: int, hi: int) -> bytes:
        """Return the root over the entries lo..hi-1 of one subtree of the tree.

        Full subtrees come from the highest tile that has them, so this reads a tile for each of them at most.

        Raises:
            LedgerError: A tile is missing or damaged, or the log has fewer entries at this size.
        """
        if not 0 <= lo < hi <= self.size:
            raise LedgerError(f"couldn't hash entries {lo} to {hi}: the log has {self.size}; name those it has")
        # From left to right a range is full subtrees of falling size; each is the left sibling of all that follow.
        parts: list[bytes] = []
        while lo < hi:
            height = (hi - lo).bit_length() - 1
            level, within = divmod(height, 8)
            n, first = divmod(lo >> 8 * level, WIDTH)
            row = self.hashes(level, n)[first * HASH_BYTES : (first + (1 << within)) * HASH_BYTES]
            parts.append(root(split_hashes(row)))
            lo += 1 << height
        found = parts.pop()
        while parts:
            found = node_hash(parts.pop(), found)
        return found

    def _width(self, level: int, n: int) -> int:
        width = min(WIDTH, (self.size >> 8 * level) - n * WIDTH)
        if n < 0 or width < 1:
            raise LedgerError(f"couldn't read tile {level}/{n}: a log of {self.size} entries has none; name one it has")
        return width

    def _read_tile(self, level: int, n: int) -> bytes:
        width = self._width(level, n)
        path = tile_path(level, n, width)
        data, full = self._read(path, tile_path(level, n), _TILE_BYTES)
        wanted = (WIDTH if full else width) * HASH_BYTES
        if len(data) != wanted:
            raise LedgerError(
                f"couldn't read {self._folder / path}: it has {len(data)} bytes, not {wanted}; restore it"
            )
        return data[: width * HASH_BYTES]

    def _read(self, path: str, full_path: str, limit: int) -> tuple[bytes, bool]:
        """Return a file and whether it is the full one, which is read where the partial one has been removed."""
        with files.reported(f"read {self._folder / path}", "restore the log's files from a copy"):
            if path != full_path:
                try:
                    return files.read(self._folder / path, limit), False
                except FileNotFoundError:
                    pass
            return files.read(self._folder / full_path, limit), True


def split_hashes(row: bytes | bytearray) -> list[bytes]:
    """Return the hashes of a tile one by one."""
    return [bytes(row[at : at + HASH_BYTES]) for at in range(0, len(row), HASH_BYTES)]

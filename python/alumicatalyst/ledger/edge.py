"""The growing edge of a log: the partial tile of each level and the partial bundle, in memory until they are full.

This is all that a writer needs of a log of any size. Nothing here decides what has been signed; that is `log`'s part.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import files, tiles
from alumicatalyst.ledger.merkle import EMPTY_ROOT, HASH_BYTES, leaf_hash, root

if TYPE_CHECKING:
    from pathlib import Path


class Edge:
    """Takes entries in, writes every tile and bundle that they complete, and computes the root.

    Args:
        folder: The log's folder.
        size: How many entries of it stand; whatever lies in files beyond is going to be overwritten.

    Attributes:
        size: Number of entries with those that were added.

    Raises:
        LedgerError: The last tiles cannot be read, or the last entries are not those of the last tile.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self.size = size
        standing = tiles.Tiles(folder, size)
        self._levels = [
            bytearray(standing.hashes(level, size >> 8 * (level + 1)) if tiles.width_at(size, level) else b"")
            for level in range(tiles.LEVELS)
        ]
        self._bundle = bytearray()
        self._stale: set[int] = set()  # Levels whose partial tile has changed since it was written.
        self._changed: set[Path] = set()  # Folders to sync.
        if self._levels[0]:
            entries = standing.bundle(size // tiles.WIDTH)
            if b"".join(map(leaf_hash, entries)) != self._levels[0]:
                raise LedgerError(
                    f"couldn't continue the log {folder}: its last entries are not those of its tiles; restore its "
                    "files before anything is signed"
                )
            self._bundle += b"".join(map(tiles.encode_entry, entries))

    def add(self, entry: bytes) -> None:
        """Take one entry in, and write the tiles and the bundle that it completes."""
        self._bundle += tiles.encode_entry(entry)
        self.size += 1
        if self.size % tiles.WIDTH == 0:
            self._put(tiles.bundle_path(self.size // tiles.WIDTH - 1), self._bundle)
            self._bundle.clear()
        found, n = leaf_hash(entry), self.size
        for level in range(tiles.LEVELS):
            tile = self._levels[level]
            tile.extend(found)
            self._stale.add(level)
            n //= tiles.WIDTH
            if len(tile) < tiles.WIDTH * HASH_BYTES:
                return
            self._put(tiles.tile_path(level, n - 1), tile)
            found = root(tiles.split_hashes(tile))
            tile.clear()
            self._stale.discard(level)

    def settle(self) -> None:
        """Write the partial tiles and the partial bundle, and make everything that was written durable."""
        if self._bundle and self._stale:
            self._put(tiles.bundle_path(*divmod(self.size, tiles.WIDTH)), self._bundle)
        for level in sorted(self._stale):
            self._put(tiles.tile_path(level, *divmod(self.size >> 8 * level, tiles.WIDTH)), self._levels[level])
        files.sync_folders(self._changed)
        self._stale.clear()
        self._changed.clear()

    def root(self) -> bytes:
        """Return the root over all entries: what a level's partial tile amounts to ends the level above."""
        found: list[bytes] = []
        for tile in self._levels:
            found = [root([*tiles.split_hashes(tile), *found])] if tile or found else []
        return found[0] if found else EMPTY_ROOT

    def remove_partial(self, before: int) -> None:
        """Remove what is left of the partial tiles and bundles that have become full since `before` entries."""
        for level in range(tiles.LEVELS):
            for n in range(before >> 8 * (level + 1), self.size >> 8 * (level + 1)):
                files.remove_folder(self._folder / tiles.partial_folder(tiles.tile_path(level, n)))
                if level == 0:
                    files.remove_folder(self._folder / tiles.partial_folder(tiles.bundle_path(n)))

    def remove_unsigned(self) -> None:
        """Remove the partial tiles and bundles that a process has written and, since it was killed, not signed.

        What comes there now may be other entries, or the same in another order. Left beside them, those files would
        look like the rest of a log that was changed.
        """
        for level in range(tiles.LEVELS):
            kinds = [partial(tiles.tile_path, level)] + [tiles.bundle_path] * (level == 0)
            for path_of in kinds:
                n, width = self.size >> 8 * (level + 1), tiles.width_at(self.size, level)
                self._remove_wider(path_of(n), width)
                # What it had filled up is overwritten in its turn; what it had begun behind that is not, for long.
                while (self._folder / path_of(n)).exists():
                    n += 1
                    self._remove_wider(path_of(n), 0)

    def _remove_wider(self, path: str, width: int) -> None:
        folder = self._folder / tiles.partial_folder(path)
        if folder.is_dir():
            for each in sorted(folder.iterdir()):
                if not (each.name.isdigit() and int(each.name) <= width):
                    files.unlink(each)
                    self._changed.add(folder)

    def _put(self, path: str, data: bytearray) -> None:
        target = self._folder / path
        files.make_folder(target.parent)
        files.put(target, bytes(data))
        # All of them, not only those made just now: a process that was killed may have made one and not synced it.
        below = len(target.parents) - len(self._folder.parents)
        self._changed.update(target.parents[:below])

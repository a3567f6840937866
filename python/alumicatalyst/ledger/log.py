"""The log on disk: read by anyone, appended to and signed by one process, never shortened or changed.

The order in which things become durable is what keeps the promise of the signatures (invariant I7):

1. tiles and bundles, with the folders that name them;
2. the signed checkpoint beside the private key, the *kept* one: THE COMMIT POINT. Until here nobody has seen a
   signature, and whatever a crash leaves of step 1 is overwritten. From here on the log has grown, and a start after a
   crash goes on with step 3;
3. the same checkpoint in the log's folder, where readers find it;
4. partial tiles whose full one exists are removed.

So no signature is ever seen that a loss of power could take back, after which another might be made for the same size.
The kept checkpoint lies outside of the log's folder, so a folder that is restored from an old copy is found out.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, Self

from alumicatalyst.errors import ClaimLost, LedgerError
from alumicatalyst.ledger import files, note, tiles
from alumicatalyst.ledger.edge import Edge
from alumicatalyst.ledger.merkle import EMPTY_ROOT
from alumicatalyst.ledger.note import Checkpoint
from alumicatalyst.ledger.text import decode_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

CHECKPOINT: Final = "checkpoint"
LEASE: Final = ".lease"
_SWEPT_BACK: Final = (
    1_000 * tiles.WIDTH
)  # Entries back from the end in which a start looks for partial tiles left over.


class LogReader:
    """A log as it was when this was made: what has been appended since is not seen.

    Nothing is verified here but the form of the files. Whoever needs more opens `checkpoint_note` with the log's
    verifier key, and compares its root with `root` and the leaf hashes with the entries.

    Attributes:
        size: Number of entries, as the checkpoint says; 0 where there is none yet.

    Raises:
        LedgerError: The checkpoint cannot be read or is malformed.
    """

    def __init__(self, folder: Path) -> None:
        self._note = read_note(folder / CHECKPOINT)
        self.size = _unverified(self._note).size if self._note is not None else 0
        self._tiles = tiles.Tiles(folder, self.size)

    def checkpoint_note(self) -> str | None:
        """Return the signed checkpoint, or None if there is none yet."""
        return self._note

    def entry(self, index: int) -> bytes:
        """Return one entry.

        Raises:
            LedgerError: There is no such entry, or its bundle cannot be read.
        """
        (found,) = self._tiles.entries(index, index + 1)
        return found

    def entries(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the entries start..stop-1, one bundle in memory at a time.

        Raises:
            LedgerError: There are fewer, or a bundle cannot be read.
        """
        return self._tiles.entries(start, stop)

    def leaf_hash(self, index: int) -> bytes:
        """Return the leaf hash that the log's tile has for an entry.

        Raises:
            LedgerError: There is no such entry, or its tile cannot be read.
        """
        return self.range_hash(index, index + 1)

    def range_hash(self, lo: int, hi: int) -> bytes:
        """Return the root over the entries lo..hi-1 of one subtree, for `merkle.inclusion` and `merkle.consistency`.

        Raises:
            LedgerError: There are fewer entries, or a tile cannot be read.
        """
        return self._tiles.range_hash(lo, hi)

    def root(self) -> bytes:
        """Return the root that follows from the tiles, which may differ from what the checkpoint says.

        Raises:
            LedgerError: A tile cannot be read.
        """
        return self._tiles.range_hash(0, self.size) if self.size else EMPTY_ROOT


class LogWriter:
    """Appends to a log and signs it: one process at a time, and never two logs with one key. Not for several threads.

    After an error of `append` or `publish` it refuses to go on; one that is opened anew finds out what became durable.

    Args:
        folder: The log's folder, made if it is missing.
        key: Signs the checkpoints; its name is the log's origin.
        kept: File of the last checkpoint that was signed, beside the private key.
        accept_unkept: Whether to go on from a log whose kept checkpoint is missing, after a look at why it is. Whoever
            holds an older checkpoint can still tell whether the log has been changed; this process cannot.

    Raises:
        ClaimLost: Another process appends to this log, or signs with this key.
        LedgerError: The log cannot be read or written, or must not be signed: it is damaged, of another key, or does
            not begin with what the kept checkpoint says.
    """

    def __init__(self, folder: Path, key: note.SigningKey, kept: Path, *, accept_unkept: bool = False) -> None:
        self._folder = folder.absolute()
        self._shown = self._folder / CHECKPOINT
        self._key = key
        self._kept = kept
        self._accept_unkept = accept_unkept
        self._leases = ExitStack()
        self._edge: Edge | None = None

    def __enter__(self) -> Self:
        """Take the leases, and recover what a former process left."""
        with ExitStack() as taken, files.reported(f"open the log {self._folder}", "see to its place, and start again"):
            files.make_folder(self._folder)
            # A copy of the log in another folder has a lease of its own, but not a key of its own.
            for lease in (self._folder / LEASE, self._kept.with_name(f"{self._kept.name}{LEASE}")):
                _take_lease(lease, taken)
            self._published, self._note = self._recover()
            self._edge = Edge(self._folder, self._published.size)
            self._edge.remove_unsigned()
            self._edge.remove_partial(max(0, self._published.size - _SWEPT_BACK))
            self._leases = taken.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the leases up; what was appended and not published was never part of the log."""
        self._edge = None
        self._leases.close()

    @property
    def size(self) -> int:
        """Return the number of entries, with those that were appended and not published yet.

        Raises:
            LedgerError: The writer is not open, or failed before.
        """
        return self._standing().size

    def append(self, entries: Sequence[bytes]) -> None:
        """Append entries; they become part of the log, in this order, with the next `publish`.

        Full tiles are written at once, so that what is held in memory stays below one bundle and a tile of each level.

        Raises:
            LedgerError: An entry is longer than 65,535 bytes, and none is appended; or a tile cannot be written.
        """
        for each in entries:
            tiles.check_entry(each)
        with self._working("append to") as edge:
            for each in entries:
                edge.add(each)

    def publish(self) -> Checkpoint:
        """Make what was appended durable, sign it, and let readers see it; without anything new, nothing is written.

        Raises:
            LedgerError: A file cannot be written, or another hand has changed the checkpoint in the log's folder.
        """
        if self.size == self._published.size:
            return self._published
        with self._working("publish") as edge:
            if read_note(self._shown) != self._note:
                raise LedgerError(
                    f"couldn't publish the log {self._folder}: its checkpoint has been replaced by another hand; stop "
                    "that, restore the log's files, and start again"
                )
            edge.settle()
            before, self._published = self._published.size, Checkpoint(self._key.name, edge.size, edge.root())
            self._note = self._key.sign(self._published.text())
            # THE COMMIT POINT (I7): all that the signature covers is durable, and now so is the signature.
            _replace(self._kept, self._note)
            _replace(self._shown, self._note)
            edge.remove_partial(before)
        return self._published

    @contextmanager
    def _working(self, verb: str) -> Iterator[Edge]:
        """Lend the edge for a change; if that fails, nobody knows what became durable, and the writer is done."""
        edge, self._edge = self._standing(), None
        with files.reported(f"{verb} the log {self._folder}", "see to the disk, and start again"):
            yield edge
        self._edge = edge

    def _standing(self) -> Edge:
        if self._edge is None:
            raise LedgerError(f"couldn't use the log {self._folder}: it is not open, or failed before; open it anew")
        return self._edge

    def _recover(self) -> tuple[Checkpoint, str]:
        """Find the last checkpoint that was signed, see that the log holds what it says, and return it and its note."""
        # A process that was killed may have given these their names without making them durable.
        files.sync_folders({self._folder.parent, self._kept.parent})
        kept = self._verified(self._kept, "the kept checkpoint")
        shown = self._verified(self._shown, "the log's checkpoint")
        if kept is None and shown is None:
            return self._begin()
        if kept is None and not self._accept_unkept:
            raise LedgerError(
                f"couldn't continue the log {self._folder}: {self._kept}, the last checkpoint that was signed, is "
                "missing; restore it. Only if it is lost for good, and the log is known to be whole, start once with "
                "--accept-unkept-log"
            )
        known = [each for each in (kept, shown) if each is not None]
        last = max(known, key=lambda each: each[0].size)
        standing = tiles.Tiles(self._folder, last[0].size)
        for checkpoint, _ in known:
            self._check_beginning(standing, checkpoint)
        # A crash between the two, or a restored key, has left one behind; readers are shown only what is kept.
        for path, found in ((self._kept, kept), (self._shown, shown)):
            if found != last:
                _replace(path, last[1])
        return last

    def _begin(self) -> tuple[Checkpoint, str]:
        """Sign the empty log, so that a log without any checkpoint is known to have lost it."""
        if (self._folder / "tile").exists():
            raise LedgerError(
                f"couldn't begin a log in {self._folder}: it has a log's tiles, but neither its checkpoint nor "
                f"{self._kept}; restore them, or name another folder in ledger.uri"
            )
        checkpoint = Checkpoint(self._key.name, 0, EMPTY_ROOT)
        signed = self._key.sign(checkpoint.text())
        _replace(self._kept, signed)
        _replace(self._shown, signed)
        return checkpoint, signed

    def _verified(self, path: Path, what: str) -> tuple[Checkpoint, str] | None:
        """Return a checkpoint that this key signed, and its note; None if there is no such file."""
        text = read_note(path)
        if text is None:
            return None
        try:
            found = Checkpoint.parse(note.open_note(text, [self._key.verifier]))
        except LedgerError as error:
            raise LedgerError(
                f"couldn't trust {what} {path}: {error}; restore it, and the key that signed it, before anything is "
                "signed"
            ) from error
        if found.origin != self._key.name:
            raise LedgerError(
                f"couldn't use {what} {path}: it is of the log {found.origin!r}, not of {self._key.name!r}; each log "
                "has its own key and folder"
            )
        return found, text

    def _check_beginning(self, standing: tiles.Tiles, known: Checkpoint) -> None:
        """Raise LedgerError unless the log's tiles begin with what a checkpoint says."""
        try:
            found = standing.range_hash(0, known.size) if known.size else EMPTY_ROOT
        except LedgerError as error:
            raise LedgerError(
                f"couldn't continue the log {self._folder}: {standing.size} entries were signed, and not all are "
                f"there ({error}); it has been rolled back or damaged, so restore its files before anything is signed"
            ) from error
        if found != known.root:
            raise LedgerError(
                f"couldn't continue the log {self._folder}: its first {known.size} entries are not those that were "
                "signed; it has been changed, so restore its files before anything is signed"
            )


def read_note(path: Path) -> str | None:
    """Return the text of a signed note's file, None if there is none.

    Raises:
        LedgerError: It cannot be read, is too large or is no text.
    """
    with files.reported(f"read {path}", "restore it from a copy"):
        try:
            data = files.read(path, note.NOTE_BYTES_MAX)
        except FileNotFoundError:
            return None
    return decode_text(data, str(path))


def _unverified(text: str) -> Checkpoint:
    return Checkpoint.parse(text.rpartition("\n\n")[0] + "\n")


def _replace(path: Path, text: str) -> None:
    files.put(path, text.encode())
    files.sync_folders([path.parent])


def _take_lease(path: Path, until: ExitStack) -> None:
    """Hold a lock that ends with this process, however it ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ClaimLost(
            f"couldn't open the log: another process holds {path}; let that one go on, or stop it first"
        ) from error

"""Proof files (C2SP tlog-proof): a signed checkpoint and the hashes that lead to it from an entry, in one text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import merkle, note
from alumicatalyst.ledger.text import decode_base64, decode_number, decode_text, encode_base64
from alumicatalyst.ledger.tiles import check_entry

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER: Final = "c2sp.org/tlog-proof@v1"
PROOF_BYTES_MAX: Final = 4 << 20
"""Room for an entry, a leaf of rows and a note, each at its own bound, in base64."""
_INDEX: Final = re.compile(r"index ([0-9]+)", re.ASCII)


@dataclass(frozen=True)
class Proof:
    """What a proof file says; nothing of it is checked but its form until `verify`.

    Attributes:
        index: Place of the entry in the log, from 0.
        hashes: Sibling hashes from the leaf upward, 32 bytes each.
        note: The signed checkpoint.
        extra: Bytes that the proof carries and nobody signed, or None.
    """

    index: int
    hashes: tuple[bytes, ...]
    note: str
    extra: bytes | None

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read a proof file.

        Raises:
            LedgerError: It does not follow the format.
        """
        content = decode_text(text, "the proof", PROOF_BYTES_MAX)
        head, blank, checkpoint = content.partition("\n\n")
        lines = head.split("\n")
        if lines[0] != HEADER or not blank:
            raise LedgerError(f"couldn't read the proof: it does not begin with {HEADER}, or has no checkpoint")
        extra = None
        if lines[1:2] and lines[1].startswith("extra "):
            extra = decode_base64(lines.pop(1).removeprefix("extra "), "the proof's extra data")
        index = _INDEX.fullmatch(lines[1]) if len(lines) > 1 else None
        if index is None:
            raise LedgerError("couldn't read the proof: it has no line `index <number>` where it has to be")
        if len(lines) - 2 > merkle.PROOF_HASHES_MAX:
            raise LedgerError(f"couldn't read the proof: it has more than {merkle.PROOF_HASHES_MAX} hashes")
        hashes = tuple(decode_base64(line, "a hash of the proof") for line in lines[2:])
        if any(len(each) != merkle.HASH_BYTES for each in hashes):
            raise LedgerError(f"couldn't read the proof: one of its hashes has not {merkle.HASH_BYTES} bytes")
        return cls(decode_number(index[1], "the proof's index"), hashes, checkpoint, extra)


def write(index: int, hashes: Sequence[bytes], checkpoint_note: str, extra: bytes | None = None) -> str:
    """Return the text of a proof file.

    Args:
        index: Place of the entry in the log, from 0.
        hashes: What `merkle.inclusion` gives for it in the log of the checkpoint's size.
        checkpoint_note: The signed checkpoint.
        extra: What the proof shall carry beside; a verifier must derive its trust in it from the entry.
    """
    lines = [HEADER]
    if extra is not None:
        lines.append(f"extra {encode_base64(extra)}")
    lines.append(f"index {index}")
    lines += [encode_base64(each) for each in hashes]
    return "".join(f"{line}\n" for line in lines) + f"\n{checkpoint_note}"


def verify(proof: Proof, entry: bytes, vkey: note.VerifierKey) -> note.Checkpoint:
    """Check that an entry is in the log of the key, at the proof's index, and return the checkpoint that says so.

    Raises:
        LedgerError: The checkpoint is not signed by the key, is of another log, or the entry is not what it covers.
    """
    check_entry(entry)
    checkpoint = note.Checkpoint.parse(note.open_note(proof.note, [vkey]))
    if checkpoint.origin != vkey.name:
        raise LedgerError(f"couldn't accept the proof: it is of the log {checkpoint.origin!r}, not of {vkey.name!r}")
    found = merkle.root_from_inclusion(proof.index, checkpoint.size, merkle.leaf_hash(entry), proof.hashes)
    if found != checkpoint.root:
        raise LedgerError(
            f"couldn't accept the proof of entry {proof.index}: it does not lead to the signed root; the entry, its "
            "place or the proof has been changed"
        )
    return checkpoint

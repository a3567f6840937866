"""The Merkle tree of RFC 6962: hashes, roots, and proofs that an entry is in a tree or that a tree has only grown.

Proofs are made from a callable `range_hash(lo, hi)` that gives the root over the entries lo..hi-1, so nothing here
knows where hashes are kept. It is asked only for ranges that are subtrees of the tree.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from alumicatalyst.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256().digest()
"""The root of a tree without entries."""
SIZE_MAX: Final = 2**63 - 1
"""The greatest size of a tree: what a signed 64-bit number holds, as other implementations keep it."""
PROOF_HASHES_MAX: Final = 63
"""No tree of at most SIZE_MAX entries is higher."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry as a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node; its prefix keeps it from ever being taken for a leaf's."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes, or over the roots of full subtrees of one size.

    Pairing from left to right, with an odd one promoted, gives the same tree as RFC 6962's split at the largest power
    of two below n.
    """
    if not hashes:
        return EMPTY_ROOT
    row = list(hashes)
    while len(row) > 1:
        paired = [node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)]
        if len(row) % 2:
            paired.append(row[-1])
        row = paired
    return row[0]


def split(size: int) -> int:
    """Return the largest power of two below a size of at least 2: how many entries the left subtree has."""
    return 1 << (size - 1).bit_length() - 1


def inclusion(index: int, size: int, range_hash: Callable[[int, int], bytes]) -> list[bytes]:
    """Return the proof that an entry is in the tree of `size` entries: sibling hashes from the leaf upward.

    Raises:
        LedgerError: There is no such entry in a tree of this size.
    """
    if not 0 <= index < size <= SIZE_MAX:
        raise LedgerError(f"couldn't prove entry {index}: the log has {size}; name an entry that it has")
    proof: list[bytes] = []
    lo, hi = 0, size
    while hi - lo > 1:
        middle = lo + split(hi - lo)
        if index < middle:
            proof.append(range_hash(middle, hi))
            hi = middle
        else:
            proof.append(range_hash(lo, middle))
            lo = middle
    proof.reverse()
    return proof


def consistency(m: int, n: int, range_hash: Callable[[int, int], bytes]) -> list[bytes]:
    """Return the proof that the tree of the first m entries is the beginning of the tree of n (RFC 6962, PROOF(m, D)).

    It is empty where m is 0 or n.

    Raises:
        LedgerError: m is above n, or one of them is no size.
    """
    if not 0 <= m <= n <= SIZE_MAX:
        raise LedgerError(f"couldn't prove consistency from {m} to {n}: a log only grows; name the smaller size first")
    if m in {0, n}:
        return []
    proof: list[bytes] = []
    lo, hi = 0, n
    # Down to the smallest subtree that ends where the old tree ends.
    while m != hi:
        middle = lo + split(hi - lo)
        if m <= middle:
            proof.append(range_hash(middle, hi))
            hi = middle
        else:
            proof.append(range_hash(lo, middle))
            lo = middle
    # If that subtree is the whole old tree, the verifier has its root already.
    if lo:
        proof.append(range_hash(lo, hi))
    proof.reverse()
    return proof


def root_from_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """Return the root that follows from a leaf hash and its proof (RFC 9162, 2.1.3.2); compare it with the signed one.

    Raises:
        LedgerError: The proof does not have the form that index and size call for.
    """
    if not 0 <= index < size <= SIZE_MAX:
        raise LedgerError(f"couldn't accept the proof of entry {index}: the signed log has {size} entries")
    _check_hashes([leaf, *proof])
    at, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise LedgerError(f"couldn't accept the proof of entry {index}: it has more hashes than a log of {size}")
        if at % 2 or at == last:
            found = node_hash(sibling, found)
            # A subtree that has no right neighbour is promoted: it meets its sibling only where it is a right child.
            while at and not at % 2:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise LedgerError(f"couldn't accept the proof of entry {index}: it has fewer hashes than a log of {size}")
    return found


def check_consistency(m: int, n: int, root_m: bytes, root_n: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of m entries is the beginning of the tree of n, by their roots (RFC 9162, 2.1.4.2).

    Raises:
        LedgerError: It is not, or the proof does not show it.
    """
    refused = f"couldn't accept that the log grew from {m} to {n} entries"
    if not 0 <= m <= n <= SIZE_MAX:
        raise LedgerError(f"{refused}: a log only grows")
    _check_hashes([root_m, root_n, *proof])
    if m in {0, n}:
        if proof or root_m != (root_n if m == n else EMPTY_ROOT):
            raise LedgerError(f"{refused}: the roots differ; entries that were signed have been changed")
        return
    # Where the old tree is one full subtree, its root is the first hash, and the proof leaves it out.
    path = [root_m, *proof] if m & (m - 1) == 0 else list(proof)
    if not path:
        raise LedgerError(f"{refused}: the proof is empty")
    at, last = m - 1, n - 1
    while at % 2:
        at, last = at >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise LedgerError(f"{refused}: the proof has more hashes than a log of {n}")
        if at % 2 or at == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while at and not at % 2:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise LedgerError(f"{refused}: the proof has fewer hashes than a log of {n}")
    if (old, new) != (root_m, root_n):
        raise LedgerError(f"{refused}: the proof leads to other roots; entries that were signed have been changed")


def _check_hashes(hashes: Sequence[bytes]) -> None:
    for each in hashes:
        if len(each) != HASH_BYTES:
            raise LedgerError(
                f"couldn't use a hash of {len(each)} bytes: {each.hex()[:80]}; SHA-256 gives {HASH_BYTES}"
            )

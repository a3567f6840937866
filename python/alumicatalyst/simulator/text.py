"""Text as columns: numbers, times and fixed parts of many rows at once, put into one buffer at each row's place.

A piece of text is a row of a byte matrix and a length. Pieces go to their places a column at a time: first those that
may be longer than their place, then those that cover what stood over. So no row costs a step of Python, and no zeros
between pieces have to be taken out again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Block = NDArray[np.uint8]
    Ints = NDArray[np.int64]

_ZERO = 48
_GROUP = 4


def _table(width: int) -> Block:
    """Return the decimal digits of all numbers of a width."""
    numbers = np.arange(10**width)
    return np.stack([numbers // 10**place % 10 + _ZERO for place in range(width - 1, -1, -1)], axis=1).astype(np.uint8)


_FOUR = _table(_GROUP)
_THREE = _table(3)


def strings(texts: Sequence[str]) -> tuple[Block, Ints]:
    """Return one row for each text, as UTF-8 with zeros behind it, and the lengths."""
    encoded = [text.encode() for text in texts]
    lengths = np.array([len(text) for text in encoded], dtype=np.int64)
    block = np.zeros((len(encoded), int(lengths.max(initial=0))), dtype=np.uint8)
    for row, text in enumerate(encoded):
        block[row, : len(text)] = np.frombuffer(text, dtype=np.uint8)
    return block, lengths


def to_right(block: Block, lengths: Ints) -> Block:
    """Return rows whose text ends at the right edge, for those of `strings`."""
    width = block.shape[1]
    out = np.zeros_like(block)
    for row, length in enumerate(lengths.tolist()):
        out[row, width - length :] = block[row, :length]
    return out


def put(out: Block, at: Ints, block: Block) -> None:
    """Copy the rows of a block into a buffer, each to its place; a single row to every place."""
    width = block.shape[1]
    if not len(at) or not width:
        return
    # Every place of the buffer seen as the beginning of a piece: assigning one is a copy of its bytes.
    places = np.ndarray((len(out) - width + 1,), dtype=f"V{width}", buffer=out, strides=(1,))
    places[at] = np.ascontiguousarray(block).view(places.dtype).reshape(-1)


def put_left(out: Block, at: Ints, block: Block, lengths: Ints, spill: int) -> None:
    """Copy rows that begin at the left edge; up to `spill` bytes behind a text are overwritten too."""
    low = int(lengths.min(initial=block.shape[1]))
    longest = int(lengths.max(initial=0))
    while longest >= low:
        if longest - low <= spill:
            chosen = slice(None) if longest == int(lengths.max()) else np.flatnonzero(lengths <= longest)
            put(out, at[chosen], block[chosen, :longest])
            return
        chosen = np.flatnonzero((lengths <= longest) & (lengths >= longest - spill))
        put(out, at[chosen], block[chosen, :longest])
        longest = int(lengths.max(where=lengths < longest - spill, initial=0))


def put_right(out: Block, end: Ints, block: Block, lengths: Ints, spill: int) -> None:
    """Copy rows that end at the right edge; up to `spill` bytes before a text are overwritten too."""
    width = block.shape[1]
    low = int(lengths.min(initial=width))
    longest = int(lengths.max(initial=0))
    while longest >= low:
        if longest - low <= spill:
            chosen = slice(None) if longest == int(lengths.max()) else np.flatnonzero(lengths <= longest)
            put(out, end[chosen] - longest, block[chosen, width - longest :])
            return
        chosen = np.flatnonzero((lengths <= longest) & (lengths >= longest - spill))
        put(out, end[chosen] - longest, block[chosen, width - longest :])
        longest = int(lengths.max(where=lengths < longest - spill, initial=0))


def joined(columns: Sequence[tuple[Block, Ints | None, bool]]) -> tuple[Block, Ints]:
    """Return the texts of some columns side by side, row after row, and where each row ends.

    Args:
        columns: For each its rows, their lengths (None: all of them have the width of the block), and whether they end
            at the right edge. A block of one row stands in every row.
    """
    rows = max(len(block) for block, _, _ in columns)
    widths = [block.shape[1] if lengths is None else lengths for block, lengths, _ in columns]
    line = np.zeros(rows, dtype=np.int64)
    for width in widths:
        line += width
    ends = np.cumsum(line)
    out = np.empty(int(ends[-1]) if rows else 0, dtype=np.uint8)
    end = ends
    for (block, lengths, right), width in zip(reversed(columns), reversed(widths), strict=True):
        begin = end - width
        if lengths is None:
            put(out, begin, block)
        elif right:
            put_right(out, end, block, lengths, 0)
        else:
            put_left(out, begin, block, lengths, 0)
        end = begin
    return out, ends


def decimal(mantissas: Ints, decimals: int) -> tuple[Block, Ints]:
    """Return `mantissa / 10**decimals` with all decimals, in rows that end at the right edge; and lengths."""
    negative = mantissas < 0
    signed = bool(negative.any())
    rest = np.abs(mantissas) if signed else mantissas
    longest = max(len(str(int(rest.max(initial=0)))), decimals + 1)
    # A byte for the sign, one for the point, and whole groups of digits.
    groups = -(-longest // _GROUP)
    width = 1 + groups * _GROUP + (decimals > 0)
    lengths = np.full(len(rest), decimals + 1 + (decimals > 0), dtype=np.int64)
    for digits in range(decimals + 1, longest):
        lengths += rest >= 10**digits
    digits_of = np.empty((len(rest), groups), dtype=np.uint32)
    table = _FOUR.view(np.uint32).reshape(-1)
    for group in range(groups - 1, 0, -1):
        upper = rest // 10**_GROUP
        digits_of[:, group] = table[rest - upper * 10**_GROUP]
        rest = upper
    digits_of[:, 0] = table[rest]
    every = digits_of.view(np.uint8)
    block = np.empty((len(mantissas), width), dtype=np.uint8)
    if decimals:
        whole = every.shape[1] - decimals
        block[:, 1 : 1 + whole] = every[:, :whole]
        block[:, 1 + whole] = ord(".")
        block[:, 2 + whole :] = every[:, whole:]
    else:
        block[:, 1:] = every
    if signed:
        rows = np.flatnonzero(negative)
        lengths[rows] += 1
        block[rows, width - lengths[rows]] = ord("-")
    return block, lengths


def rfc3339(times_us: Ints, *, microseconds: bool) -> Block:
    """Return times as `2026-01-31T12:00:00.000Z`."""
    seconds = times_us // 1_000_000
    fraction = times_us - seconds * 1_000_000
    distinct, which = _distinct(seconds)
    texts = np.datetime_as_string(distinct.astype("datetime64[s]"))
    block, _ = strings([str(text) for text in texts])
    width = block.shape[1]
    row = np.empty((len(times_us), width + (8 if microseconds else 5)), dtype=np.uint8)
    row[:, :width] = block.take(which, axis=0)
    row[:, width] = ord(".")
    milliseconds = fraction // 1000
    row[:, width + 1 : width + 4] = _THREE.take(milliseconds, axis=0)
    if microseconds:
        row[:, width + 4 : width + 7] = _THREE.take(fraction - milliseconds * 1000, axis=0)
    row[:, -1] = ord("Z")
    return row


def texts_of(block: Block, lengths: Ints) -> list[str]:
    """Return rows that end at the right edge as Python strings."""
    width = block.shape[1]
    raw = block.tobytes()
    return [raw[row * width - length : row * width].decode() for row, length in enumerate(lengths.tolist(), 1)]


def _distinct(numbers: Ints) -> tuple[Ints, Ints]:
    """Return the distinct numbers and where each one stands among them; cheap where they lie close together."""
    if not len(numbers):
        return numbers, numbers
    low = int(numbers.min())
    span = int(numbers.max()) - low + 1
    if span > 2 * len(numbers) + 10_000:
        return np.unique(numbers, return_inverse=True)
    places = numbers - low
    present = np.zeros(span, dtype=bool)
    present[places] = True
    rank = np.cumsum(present) - 1
    return np.flatnonzero(present) + low, rank[places]

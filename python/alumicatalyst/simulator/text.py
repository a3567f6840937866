"""Numbers and times as columns of characters: one row of bytes per value, zero where a row is shorter.

Rows of several such blocks laid side by side, with the zeros left out, are the text of all readings in one go. This is
five times as fast as formatting one reading after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Block = NDArray[np.uint8]

_ZERO = 48


def _table(width: int) -> Block:
    """Return the decimal digits of all numbers of a width."""
    numbers = np.arange(10**width)
    return np.stack([numbers // 10**place % 10 + _ZERO for place in range(width - 1, -1, -1)], axis=1).astype(np.uint8)


_THREE = _table(3)


def strings(texts: Sequence[str]) -> Block:
    """Return one row for each text, as UTF-8."""
    encoded = [text.encode() for text in texts]
    block = np.zeros((len(encoded), max(map(len, encoded), default=0)), dtype=np.uint8)
    for row, text in enumerate(encoded):
        block[row, : len(text)] = np.frombuffer(text, dtype=np.uint8)
    return block


def decimal(mantissas: NDArray[np.int64], decimals: int) -> Block:
    """Return `mantissa / 10**decimals` with exactly that many decimals."""
    if not len(mantissas):
        return np.zeros((0, 1), dtype=np.uint8)
    magnitudes = np.abs(mantissas)
    digits = max(len(str(int(magnitudes.max()))), decimals + 1)
    digits += -digits % 3
    every = np.empty((len(mantissas), digits), dtype=np.uint8)
    rest = magnitudes
    for end in range(digits, 0, -3):
        upper = rest // 1000
        every[:, end - 3 : end] = _THREE[rest - upper * 1000]
        rest = upper
    whole = digits - decimals
    # Leading zeros go, the one before the point stays.
    significant = every[:, : whole - 1] != _ZERO
    np.logical_or.accumulate(significant, axis=1, out=significant)
    every[:, : whole - 1] *= significant
    sign = np.where(mantissas < 0, ord("-"), 0).astype(np.uint8)[:, None]
    if not decimals:
        return np.concatenate([sign, every], axis=1)
    point = np.full((len(mantissas), 1), ord("."), dtype=np.uint8)
    return np.concatenate([sign, every[:, :whole], point, every[:, whole:]], axis=1)


def rfc3339(times_us: NDArray[np.int64], *, microseconds: bool) -> Block:
    """Return times as `2026-01-31T12:00:00.000Z`."""
    seconds = times_us // 1_000_000
    fraction = times_us - seconds * 1_000_000
    distinct, which = _distinct(seconds)
    texts = np.datetime_as_string(distinct.astype("datetime64[s]"))
    block = strings([str(text) for text in texts])
    width = block.shape[1]
    row = np.empty((len(times_us), width + (8 if microseconds else 5)), dtype=np.uint8)
    row[:, :width] = block[which]
    row[:, width] = ord(".")
    milliseconds = fraction // 1000
    row[:, width + 1 : width + 4] = _THREE[milliseconds]
    if microseconds:
        row[:, width + 4 : width + 7] = _THREE[fraction - milliseconds * 1000]
    row[:, -1] = ord("Z")
    return row


def _distinct(numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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

"""Seeded noise that is a pure function of a key and a position, so that no output depends on how time is cut.

A counter goes through the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014): there is no generator whose state would have to be carried, forked or replayed on resume.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Keys = NDArray[np.uint64]
    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_QUARTERS = np.uint64(0x0000FFFF0000FFFF)
_LOWER_HALF = np.uint64(0xFFFFFFFF)
# The sum of four 16-bit uniforms has mean 2 x 65535 and standard deviation sqrt((2^32 - 1) / 3).
_SUM_MEAN = 131070.0
_SUM_STD = 37836.8


def key_of(seed: int, *names: object) -> int:
    """Return the 64-bit key of a named stream of noise."""
    text = "\n".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def keys_of(seed: int, purpose: str, names: list[str]) -> Keys:
    """Return one key for each name, in order."""
    return np.array([key_of(seed, purpose, name) for name in names], dtype=np.uint64)


def mixed(keys: Keys, positions: Ints) -> Keys:
    """Return 64 well-mixed bits for each key and position (one of the two may have length 1)."""
    bits = positions.astype(np.uint64)
    bits *= _GOLDEN
    bits = bits + keys
    shifted = bits >> np.uint64(30)
    bits ^= shifted
    bits *= _MIX_1
    np.right_shift(bits, np.uint64(27), out=shifted)
    bits ^= shifted
    bits *= _MIX_2
    np.right_shift(bits, np.uint64(31), out=shifted)
    bits ^= shifted
    return bits


def uniform(keys: Keys, positions: Ints) -> Floats:
    """Return numbers in [0, 1)."""
    bits = mixed(keys, positions)
    bits >>= np.uint64(11)
    return np.asarray(bits * 2.0**-53, dtype=np.float64)


def normal(keys: Keys, positions: Ints) -> Floats:
    """Return numbers of mean 0 and standard deviation 1, near enough to normal for noise (the tails end at 3.46)."""
    bits = mixed(keys, positions)
    # Two sums of 16-bit numbers in one word, then their sum.
    pairs = bits & _QUARTERS
    bits >>= np.uint64(16)
    bits &= _QUARTERS
    pairs += bits
    np.right_shift(pairs, np.uint64(32), out=bits)
    pairs &= _LOWER_HALF
    pairs += bits
    total = pairs.view(np.int64).astype(np.float64)
    total -= _SUM_MEAN
    total *= 1.0 / _SUM_STD
    return total


def levels(keys: Keys, rows: Ints, cells: Ints, following: int = 0) -> tuple[Floats, ...]:
    """Return a number in [0, 1) for each row's key and cell, and for so many cells after it.

    Where many rows share a cell, as with a slow curve that is sampled often, each number is made once.
    """
    if not len(cells):
        return (np.zeros(0),) * (following + 1)
    first = int(cells.min())
    width = int(cells.max()) - first + 1 + following
    if width * len(keys) > (following + 1) * len(cells):
        own = keys[rows]
        return tuple(uniform(own, cells + further) for further in range(following + 1))
    table = uniform(keys[:, None], np.arange(first, first + width)[None, :]).ravel()
    places = rows * width
    places += cells
    places -= first
    return tuple(table.take(places + further if further else places) for further in range(following + 1))


def smooth(keys: Keys, rows: Ints, times_us: Ints, period_us: int) -> Floats:
    """Return curves in [-1, 1], one for each key, that wander from one random level to the next once in a period."""
    cells = times_us // period_us
    part = (times_us - cells * period_us) * (1.0 / period_us)
    bend = 3.0 - 2.0 * part
    part *= part
    part *= bend
    here, there = levels(keys, rows, cells, 1)
    there -= here
    there *= part
    here += there
    here *= 2.0
    here -= 1.0
    return here


def wave(cycles: Floats) -> Floats:
    """Return the sine of an angle in whole turns, to 0.001: faster than the exact one, and the same everywhere."""
    part = cycles - np.floor(cycles)
    part -= 0.5
    curve = np.abs(part)
    curve -= 0.5
    curve *= part
    curve *= 16.0
    return curve * (0.775 + 0.225 * np.abs(curve))

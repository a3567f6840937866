"""Readings as columns: what is measured, when it is sent, and what happens to it on the way."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from alumicatalyst.simulator.noise import keys_of, mixed, uniform
from alumicatalyst.simulator.plan import LABORATORY_MAX_US, LABORATORY_MIN_US, SECOND_US, SLOT_US, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from alumicatalyst.simulator.plant import Fleet, Group

# What happened to a reading; a reading can have several of them.
DISORDER, BURST, COPY, COPIED, MALFORMED, UNCERTAIN = 1, 2, 4, 8, 16, 32
_UNCERTAIN_SHARE = 0.001
# An outage's backlog is sent at this many times the pace at which it was measured.
_BACKLOG_PACE = 20


@dataclass(frozen=True, slots=True)
class Rows:
    """Readings, one per row.

    Attributes:
        series: Index of the series in the fleet.
        index: Number of the measurement of its series; with `series` it identifies a reading.
        times_us: Event times.
        sent_us: When the device hands it over for sending.
        mantissas: Values as whole numbers of their last decimal, or codes of states.
        marks: What happened to it.
    """

    series: NDArray[np.int64]
    index: NDArray[np.int64]
    times_us: NDArray[np.int64]
    sent_us: NDArray[np.int64]
    mantissas: NDArray[np.int64]
    marks: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.series)

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Rows:
        """Return some of the rows, in the order given."""
        return Rows(*(getattr(self, field.name)[which] for field in fields(self)))

    @classmethod
    def concat(cls, parts: Sequence[Rows]) -> Rows:
        """Return the rows of all parts, one after the other."""
        if not parts:
            none = np.zeros(0, dtype=np.int64)
            return cls(none, none, none, none, none, none.astype(np.uint8))
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))


class Mishaps:
    """Decides what happens to each reading; every decision is a function of the seed and the reading alone."""

    def __init__(self, fleet: Fleet, plan: Plan) -> None:
        self._fleet = fleet
        self._plan = plan
        names = ("disorder", "delay", "copy", "copy delay", "malformed", "uncertain", "laboratory")
        self._purposes = dict(zip(names, keys_of(plan.seed, "purpose", list(names)), strict=True))
        self._outage_keys = fleet.key_keys ^ keys_of(plan.seed, "purpose", ["outage"])
        self._silence_keys = fleet.device_keys ^ keys_of(plan.seed, "purpose", ["silence"])

    def _uniform(self, purpose: str, rows: Rows) -> NDArray[np.float64]:
        return uniform(self._fleet.series_keys[rows.series] ^ self._purposes[purpose], rows.index)

    def silent(self, rows: Rows) -> NDArray[np.bool_]:
        """Return the rows that are never sent because their device is silent."""
        rate = self._plan.impairments.silence
        if not rate:
            return np.zeros(len(rows), dtype=bool)
        keys = self._silence_keys[self._fleet.device[rows.series]]
        begin, end = _spell(keys, rows.times_us, rate)
        return (rows.times_us >= begin) & (rows.times_us < end)

    def befall(self, rows: Rows, *, laboratory: bool) -> Rows:
        """Return the rows with sending times and marks, duplicates added."""
        impairments = self._plan.impairments
        marks, sent = rows.marks.copy(), rows.times_us.copy()
        if laboratory:
            wait = self._uniform("laboratory", rows) * (LABORATORY_MAX_US - LABORATORY_MIN_US)
            sent += LABORATORY_MIN_US + wait.astype(np.int64)
        if impairments.bursts:
            keys = self._outage_keys[self._fleet.partition_key[rows.series]]
            begin, end = _spell(keys, sent, impairments.bursts)
            held = (sent >= begin) & (sent < end)
            marks[held] |= BURST
            sent = np.where(held, end + (sent - begin) // _BACKLOG_PACE, sent)
        marks[self._uniform("uncertain", rows) < _UNCERTAIN_SHARE] |= UNCERTAIN
        if impairments.malformed:
            bad = self._uniform("malformed", rows) < impairments.malformed
            marks[bad] |= MALFORMED
        if impairments.disorder:
            late = (self._uniform("disorder", rows) < impairments.disorder) & (marks & MALFORMED == 0)
            marks[late] |= DISORDER
            sent[late] += 1 + (self._uniform("delay", rows)[late] * (impairments.disorder_max_us - 1)).astype(np.int64)
        rows = Rows(rows.series, rows.index, rows.times_us, sent, rows.mantissas, marks)
        if not impairments.duplicates:
            return rows
        twice = (self._uniform("copy", rows) < impairments.duplicates) & (marks & MALFORMED == 0)
        marks[twice] |= COPIED
        copies = rows.take(twice)
        delay = 1 + (self._uniform("copy delay", copies) * (impairments.duplicate_max_us - 1)).astype(np.int64)
        again = Rows(
            copies.series,
            copies.index,
            copies.times_us,
            copies.sent_us + delay,
            copies.mantissas,
            ((copies.marks & UNCERTAIN) | COPY).astype(np.uint8),
        )
        return Rows.concat([rows, again])

    def bits(self, rows: Rows) -> NDArray[np.uint64]:
        """Return bits that choose between variants of a malformed reading."""
        return mixed(self._fleet.series_keys[rows.series] ^ self._purposes["malformed"], rows.index + 1)


def _spell(
    keys: NDArray[np.uint64], times_us: NDArray[np.int64], rate: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return when the spell of each time's slot begins and ends (the same instant: there is none)."""
    slot = times_us // SLOT_US
    happens = uniform(keys, slot * 4) < rate
    begin = slot * SLOT_US + (uniform(keys, slot * 4 + 1) * (SLOT_US // 2 - SLOT_US // 20)).astype(np.int64)
    length = 10 * SECOND_US + (uniform(keys, slot * 4 + 2) * (SLOT_US // 2 - 10 * SECOND_US)).astype(np.int64)
    return begin, np.where(happens, begin + length, begin)


def measure(fleet: Fleet, group: Group, begin_us: int, end_us: int) -> Rows:
    """Return what the series of a group measure from `begin_us` (inclusive) to `end_us` (exclusive)."""
    phase = fleet.phase_us[group.series]
    first = -((phase - begin_us) // group.every_us)
    counts = -((phase - end_us) // group.every_us) - first
    position = np.repeat(np.arange(len(group.series)), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    index = np.arange(len(position)) - before + first[position]
    times_us, mantissas = fleet.evaluate(group, position, index)
    marks = np.zeros(len(position), dtype=np.uint8)
    return Rows(group.series[position], index, times_us, times_us, mantissas, marks)

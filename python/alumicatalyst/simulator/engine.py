"""The simulation itself: readings are measured, held up or doubled, packed into envelopes and released in order.

Whatever the steps in which time is advanced, the same plan releases the same envelopes: every value and every mishap
is a function of the seed and the reading, and what is still on its way waits in a pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from alumicatalyst.errors import InputError
from alumicatalyst.simulator.clocks import Clocks
from alumicatalyst.simulator.order import Order
from alumicatalyst.simulator.payload import Writer
from alumicatalyst.simulator.plan import MINUTE_US, SECOND_US, Plan
from alumicatalyst.simulator.plant import build_fleet, laboratory_lead_us
from alumicatalyst.simulator.rows import COPIED, COPY, MALFORMED, UNCERTAIN, Mishaps, Rows, measure
from alumicatalyst.simulator.spoil import Impaired, Spoiler

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from alumicatalyst.simulator.plant import Compiled

# Readings measured at a time; bounds memory, changes no output.
_STEP_READINGS = 100_000


@dataclass(frozen=True, slots=True)
class Released:
    """Envelopes in sending order.

    Attributes:
        first: Number of the first envelope in the run.
        bodies: The payloads.
        enqueued_us: When the broker gets them.
        keys: Index of each one's partition key in the fleet.
        devices: Index of each one's device in the fleet; with packs of a gateway, that of its first reading.
        readings: What each one counts as in the accounting: its readings, or 1 if it is rejected whole.
        row_ends: Where each one's rows end in `rows`.
        rows: The readings in them, in order; their times are the true ones.
        event_times_us: The times that the readings bear: a device's clock can be wrong.
        raw: Envelopes whose body is not plain JSON.
        impaired: What was done to readings and envelopes.
    """

    first: int
    bodies: pa.LargeBinaryArray
    enqueued_us: NDArray[np.int64]
    keys: NDArray[np.int64]
    devices: NDArray[np.int64]
    readings: NDArray[np.int64]
    row_ends: NDArray[np.int64]
    rows: Rows
    event_times_us: NDArray[np.int64]
    raw: NDArray[np.bool_]
    impaired: list[Impaired]

    def __len__(self) -> int:
        return len(self.enqueued_us)

    def head(self, envelopes: int) -> Released:
        """Return the first so many envelopes."""
        rows = int(self.row_ends[envelopes - 1]) if envelopes else 0
        return Released(
            self.first,
            self.bodies.slice(0, envelopes),
            self.enqueued_us[:envelopes],
            self.keys[:envelopes],
            self.devices[:envelopes],
            self.readings[:envelopes],
            self.row_ends[:envelopes],
            self.rows.take(slice(0, rows)),
            self.event_times_us[:rows],
            self.raw[:envelopes],
            [one for one in self.impaired if one.envelope < self.first + envelopes],
        )


class Simulator:
    """Releases the envelopes of a plan, in order, up to any time asked for.

    Args:
        compiled: The compiled dictionary.
        plan: What is simulated.
        accept: Says of a partition key and device whether they take part; None: all do.
        clocks: How many devices have a wrong clock.

    Attributes:
        clock_us: For each device how far its clock is ahead.
        silenced: Readings that were never sent because their device was silent.
    """

    def __init__(
        self,
        compiled: Compiled,
        plan: Plan,
        *,
        accept: Callable[[str, str], bool] | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self.compiled = compiled
        self.plan = plan
        self.fleet = build_fleet(compiled, plan, accept)
        self.writer = Writer(compiled, self.fleet)
        if self.writer.members.device is None and plan.pack_by == "asset":
            raise InputError(
                f"couldn't pack by asset: the dictionary reads the device from {compiled['payload']['device'][0]}, "
                "one for each envelope; pack by device, or name a member of the body under [payload] device"
            )
        self.silenced = 0
        self.clocks = clocks or Clocks()
        self.clock_us = self.clocks.offsets(self.fleet, plan)
        self._mishaps = Mishaps(self.fleet, plan)
        self._spoiler = Spoiler(compiled, plan, self.writer, self.clock_us)
        self._order = Order(self.fleet, plan)
        self._pool = Rows.concat([])
        self._now_us = plan.start_us
        self._envelopes = 0
        self._measure_before()

    @property
    def now_us(self) -> int:
        """How far the simulation is."""
        return self._now_us

    @property
    def waiting(self) -> int:
        """Readings measured but not yet sent."""
        return len(self._pool)

    @property
    def step_us(self) -> int:
        """A convenient step of time: about a hundred thousand readings, in whole packs."""
        step = int(_STEP_READINGS / max(self.fleet.per_second, 1e-9) * SECOND_US)
        grid = self.plan.pack_us or 1000
        return max(grid, min(step, 60 * MINUTE_US) // grid * grid)

    def floor(self, time_us: int) -> int:
        """Return the last instant at or before a time to which the simulation can be advanced: the end of a pack."""
        grid = self.plan.pack_us or 1000
        return self.plan.start_us + (time_us - self.plan.start_us) // grid * grid

    def advance(self, until_us: int) -> Released:
        """Release what is sent before `until_us`, an end of a pack (see `floor`)."""
        begin = self._now_us
        self._now_us = max(begin, self.floor(until_us))
        parts = [self._pool]
        if self._now_us > begin:
            parts.extend(self._befall(group, begin, self._now_us) for group in self.fleet.groups)
        rows = Rows.concat(parts)
        waits = rows.sent_us >= self._now_us
        if not waits.any():
            self._pool = Rows.concat([])
            return self._pack(rows)
        self._pool = rows.take(waits)
        return self._pack(rows.take(~waits))

    def _befall(self, group: Any, begin_us: int, end_us: int) -> Rows:
        rows = measure(self.fleet, group, begin_us, end_us)
        silent = self._mishaps.silent(rows)
        if silent.any():
            self.silenced += int(silent.sum())
            rows = rows.take(~silent)
        return self._mishaps.befall(rows, laboratory=group.laboratory)

    def _measure_before(self) -> None:
        """Take in laboratory values sampled before the start that are typed in after it."""
        lead = laboratory_lead_us(self.fleet)
        parts = []
        for group in self.fleet.groups:
            if group.laboratory:
                rows = self._befall(group, self.plan.start_us - lead, self.plan.start_us)
                parts.append(rows.take(rows.sent_us >= self.plan.start_us))
        self._pool = Rows.concat(parts)

    def _pack(self, rows: Rows) -> Released:
        """Sort readings into envelopes, and envelopes into sending order."""
        plan, fleet = self.plan, self.fleet
        order, enqueued = self._order.of(rows)
        rows, enqueued = rows.take(order), enqueued[order]
        senders = self._order.sender[rows.series]
        devices = fleet.device[rows.series]
        opens = self._objects(rows, devices)
        first = self._bodies(senders, enqueued) if plan.pack_us else opens
        opens = opens | first
        starts = np.flatnonzero(first)
        row_ends = np.append(starts[1:], len(rows))[: len(starts)].astype(np.int64)
        times_us = rows.times_us + self.clock_us[devices] if self.clocks.skew else rows.times_us
        text, ends = self.writer.write(
            rows.series,
            times_us,
            rows.mantissas,
            rows.marks & UNCERTAIN != 0,
            opens,
            first,
            array=plan.pack_us != 0,
        )
        offsets = np.concatenate([[0], ends[row_ends - 1]]).astype(np.int64) if len(rows) else np.zeros(1, np.int64)
        bodies = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(starts), [None, pa.py_buffer(offsets), pa.py_buffer(text)]
        )
        released = Released(
            first=self._envelopes,
            bodies=bodies,
            enqueued_us=enqueued[starts],
            keys=fleet.partition_key[rows.series[starts]],
            devices=devices[starts],
            readings=row_ends - starts,
            row_ends=row_ends,
            rows=rows,
            event_times_us=times_us,
            raw=np.zeros(len(starts), dtype=bool),
            impaired=[],
        )
        self._envelopes += len(starts)
        return self._spoiler.apply(released, ends)

    def _objects(self, rows: Rows, devices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mark the rows that open an object: all of them, or in the wide form another device or instant.

        What something is done to has an object of its own.
        """
        if not self.writer.wide:
            return np.ones(len(rows), dtype=bool)
        bad = rows.marks & (MALFORMED | COPY | COPIED) != 0
        return np.asarray(
            _changes(devices) | _changes(rows.times_us) | bad | np.concatenate([[False], bad[:-1]])[: len(rows)]
        )

    def _bodies(self, senders: NDArray[np.int64], enqueued: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mark the rows that open a pack: another sender or time, or the former one is full."""
        first = _changes(senders) | _changes(enqueued)
        starts = np.flatnonzero(first)
        within = np.arange(len(senders)) - np.repeat(starts, np.diff(np.append(starts, len(senders))))
        limit = min(self.plan.readings_per_envelope_max, int(self.compiled["bounds"]["readings_per_envelope"]))
        return np.asarray(first | (within % limit == 0))


def _changes(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the rows that differ from the one before; the first one does."""
    marks = np.ones(len(values), dtype=bool)
    marks[1:] = values[1:] != values[:-1]
    return marks

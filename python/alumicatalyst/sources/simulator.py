"""The simulated plant as a source inside the process: a log that is not stored anywhere, because it can be made again.

The idempotency key of an envelope is (incarnation, slot of time, place in it). Any stretch of the log comes out the
same however often it is read, so a flow resumes on it as on a broker that never expires.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from alumicatalyst.errors import InputError
from alumicatalyst.simulator.engine import Simulator
from alumicatalyst.simulator.plan import SECOND_US
from alumicatalyst.sources import partition_id
from alumicatalyst.sources.envelope import EMPTY, envelopes
from alumicatalyst.sources.replay import partition_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from alumicatalyst._core import Dictionary
    from alumicatalyst.simulator.engine import Released
    from alumicatalyst.simulator.plan import Plan

ENVELOPES_PER_SLOT: Final = 1 << 24
_MARGIN_US: Final = 200_000
_HEARTBEAT_S: Final = 1.0
# A batch is made while the flow waits for it, so it is kept short.
_STEP_SHARE: Final = 5


class SimulatorSource:
    """A plant as a source.

    Args:
        dictionary: The plant.
        plan: What is simulated; its start is where the log begins.
        name: The first part of the partitions' identity.
        partitions: How many partitions the keys are spread over, by SHA-256.
        speed: Seconds simulated in a second, counted from the opening; 0: everything up to now at once. Now is never
            passed.
        end_us: Where the log ends; None: it goes on.
        batch_envelopes_max: Envelopes in one batch at most.
        now: The clock.

    Example:
        >>> source = SimulatorSource(dictionary, Plan(start_us=1_767_225_600_000_000), speed=0)
    """

    def __init__(
        self,
        dictionary: Dictionary,
        plan: Plan,
        *,
        name: str = "telemetry",
        partitions: int = 4,
        speed: float = 1.0,
        end_us: int | None = None,
        batch_envelopes_max: int = 5_000,
        now: Callable[[], float] = time.time,
    ) -> None:
        if partitions < 1 or speed < 0:
            raise InputError(
                f"couldn't simulate {partitions} partitions at speed {speed:g}: give at least "
                "1 partition, and a speed of 0 or more"
            )
        self.compiled = json.loads(dictionary.to_json())
        self.plan = plan
        self.spread = partitions
        self.speed = speed
        self.end_us = end_us
        self.batch_envelopes_max = batch_envelopes_max
        self.now = now
        # Whatever decides a byte of the log is part of its identity.
        identity = hashlib.sha256(f"{dictionary.sha256}\n{plan!r}\n{partitions}".encode()).hexdigest()[:16]
        self._partitions = [partition_id(name, identity, number) for number in range(partitions)]

    @property
    def slot_us(self) -> int:
        """The length of a slot: that of a pack, or a second."""
        return self.plan.pack_us or SECOND_US

    def partitions(self) -> list[str]:
        """Return the identities of all partitions, sorted."""
        return sorted(self._partitions)

    def first_sequence(self, partition: str) -> int | None:
        """Return 0: the log can be made from its beginning."""
        del partition
        return 0

    def open(self, partition: str, after: int, owner_level: int) -> SimulatorReader:
        """Make a partition's envelopes behind a sequence number."""
        del owner_level
        return SimulatorReader(self, self._partitions.index(partition), after)


class SimulatorReader:
    """One partition of a simulated plant."""

    def __init__(self, source: SimulatorSource, number: int, after: int) -> None:
        self._source = source
        self._after = after
        self._ready: deque[pa.RecordBatch] = deque()
        plan, slot_us = source.plan, source.slot_us
        # What can still be on its way into the slot is measured again.
        lead = -(-plan.impairments.delay_max_us // slot_us) + 1
        first_slot = max(0, (after // ENVELOPES_PER_SLOT if after >= 0 else 0) - lead)
        self._simulator = Simulator(
            source.compiled,
            replace(plan, start_us=plan.start_us + first_slot * slot_us),
            accept=lambda key, _device: partition_of(key.encode(), source.spread) == number,
        )
        self._opened = source.now()
        self._taken = self._opened
        self._opened_us = plan.start_us + max(0, after) // ENVELOPES_PER_SLOT * slot_us
        self.finished = False

    @property
    def queued(self) -> int:
        """Batches that are ready to be taken."""
        return len(self._ready)

    def take(self) -> pa.RecordBatch | None:
        """Return the next batch; None if the clock does not allow more; an empty one about once a second."""
        if not self._ready and not self.finished:
            self._make()
        if self._ready:
            self._taken = self._source.now()
            return self._ready.popleft()
        if self.finished or self._source.now() - self._taken < _HEARTBEAT_S:
            return None
        self._taken = self._source.now()
        return EMPTY

    def lag(self) -> tuple[int, float] | None:
        """Return how far the log is made behind what the clock allows."""
        seconds = max(0, self._allowed_us() - self._simulator.now_us) / SECOND_US
        return round(seconds * self._simulator.fleet.per_second), seconds

    def close(self) -> None:
        """Stop."""
        self.finished = True
        self._ready.clear()

    def _allowed_us(self) -> int:
        source, clock = self._source, self._source.now()
        allowed = int(clock * SECOND_US) - _MARGIN_US
        if source.speed:
            allowed = min(allowed, self._opened_us + int((clock - self._opened) * source.speed * SECOND_US))
        return allowed if source.end_us is None else min(allowed, source.end_us)

    def _make(self) -> None:
        """Advance by a short step, in whole slots."""
        source, simulator = self._source, self._simulator
        slot_us, start_us = source.slot_us, source.plan.start_us
        step = max(slot_us, simulator.step_us // _STEP_SHARE // slot_us * slot_us)
        until = start_us + (min(self._allowed_us(), simulator.now_us + step) - start_us) // slot_us * slot_us
        if until > simulator.now_us:
            self._cut(simulator.advance(until))
        if source.end_us is not None and simulator.now_us + slot_us > source.end_us:
            self.finished = not self._ready

    def _cut(self, released: Released) -> None:
        source = self._source
        if not len(released):
            return
        # A pack is handed over at its end, a single reading within its second.
        handed_over = released.enqueued_us if source.plan.pack_us else released.rows.sent_us[released.row_ends - 1]
        slots = (handed_over - source.plan.start_us) // source.slot_us
        opens = np.flatnonzero(np.diff(slots, prepend=-1))
        within = np.arange(len(slots)) - np.repeat(opens, np.diff(np.append(opens, len(slots))))
        sequence = slots * ENVELOPES_PER_SLOT + within
        name = self._simulator.writer.members.device_property
        devices = self._simulator.fleet.devices
        new = np.flatnonzero(sequence > self._after)
        for begin in range(0, len(new), source.batch_envelopes_max):
            places = new[begin : begin + source.batch_envelopes_max]
            properties = None
            if name is not None:
                properties = [{name: devices[device]} for device in released.devices[places].tolist()]
            self._ready.append(
                envelopes(
                    released.bodies.take(pa.array(places)).to_pylist(),
                    sequence[places].tolist(),
                    released.enqueued_us[places].tolist(),
                    None,
                    properties,
                )
            )

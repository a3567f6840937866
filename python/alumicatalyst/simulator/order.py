"""When each reading reaches the broker, and the order in which readings stand in what is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alumicatalyst.simulator.noise import mixed
from alumicatalyst.simulator.rows import COPY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alumicatalyst.simulator.plan import Plan
    from alumicatalyst.simulator.plant import Fleet
    from alumicatalyst.simulator.rows import Rows

    Ints = NDArray[np.int64]

# The way from a device to the broker: never longer than a pack, so that packs keep their order.
_LATENCY_MAX_US = 200_000
SINGLE_LATENCY_US = 20_000
# A whole number of 64 bits, one of them the sign.
_BITS = 63


class Order:
    """Sorts readings by the time of their envelope, then sender, sending time and series.

    Attributes:
        sender: For each series who sends it: its device, or the gateway of its partition key.
    """

    def __init__(self, fleet: Fleet, plan: Plan) -> None:
        by_device = plan.pack_by == "device"
        self.sender: Ints = fleet.device if by_device else fleet.partition_key
        self._sender_keys = fleet.device_keys if by_device else fleet.key_keys
        self._plan = plan
        # The series in the order of their senders, so that one number stands for both.
        self._rank = np.empty(len(self.sender), dtype=np.int64)
        self._rank[np.argsort(self.sender, kind="stable")] = np.arange(len(self.sender))
        self._series_bits = max(1, len(self.sender)).bit_length()

    def of(self, rows: Rows) -> tuple[Ints, Ints]:
        """Return the rows' places in order of sending, and when the broker gets each row."""
        if not len(rows):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        if self._plan.pack_us:
            head, within, enqueued = self._packs(rows)
        else:
            head, within = np.zeros(1, dtype=np.int64), rows.sent_us - int(rows.sent_us.min())
            enqueued = rows.sent_us + SINGLE_LATENCY_US
        return self._sorted(rows, head, within), enqueued

    def _packs(self, rows: Rows) -> tuple[Ints, Ints, Ints]:
        """Return for each row the rank of its pack, when in it the row was sent, and when the pack arrives."""
        plan = self._plan
        since = rows.sent_us - plan.start_us
        pack = since // plan.pack_us
        within = since - pack * plan.pack_us
        low = int(pack.min())
        span = int(pack.max()) - low + 1
        cell = self.sender[rows.series] * span + (pack - low)
        cells = (int(self.sender.max()) + 1) * span
        if cells > 4 * len(rows) + 10_000:
            present, which = np.unique(cell, return_inverse=True)
        else:
            marks = np.zeros(cells, dtype=bool)
            marks[cell] = True
            present, which = np.flatnonzero(marks), (np.cumsum(marks) - 1)[cell]
        senders, number = np.divmod(present, span)
        ready = plan.start_us + (number + low + 1) * plan.pack_us
        latency = mixed(self._sender_keys[senders], ready) % np.uint64(min(_LATENCY_MAX_US, plan.pack_us))
        arrives = ready + latency.astype(np.int64)
        rank = np.empty(len(present), dtype=np.int64)
        rank[np.lexsort((senders, arrives))] = np.arange(len(present))
        return rank[which], within, arrives[which]

    def _sorted(self, rows: Rows, head: Ints, within: Ints) -> Ints:
        """Return the order by (head, within, series); readings that agree in all of it by number, copies last."""
        series = self._rank[rows.series]
        bits = int(within.max()).bit_length()
        if int(head.max()).bit_length() + bits + self._series_bits <= _BITS:
            # One number for each row: a fifth of the time that four columns take.
            key = ((head << bits | within) << self._series_bits) | series
            order = np.argsort(key)
            ordered = key[order]
            if (ordered[1:] != ordered[:-1]).all():
                return order
        return np.lexsort((rows.index, rows.marks & COPY, series, within, head))

"""Drives a simulation: how fast, how far, where to, and until when."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from alumicatalyst.simulator.plan import SECOND_US
from alumicatalyst.simulator.truth import Totals

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from alumicatalyst.simulator.engine import Simulator
    from alumicatalyst.simulator.files import Destination
    from alumicatalyst.simulator.truth import Truth

# Envelopes reach the broker up to 0.2 s after their last reading, and must not do so in the future.
_MARGIN_US = 200_000
_PAUSE_MAX_S = 0.2


@dataclass(frozen=True, slots=True)
class Pace:
    """When a simulation may go on, and when it ends.

    Attributes:
        speed: Seconds simulated in a second; 0: as fast as possible. Now is never passed.
        history_us: So much is simulated as fast as possible before the speed counts.
        end_us: No reading is measured from then on; None: until stopped.
        readings_max: Ends after the envelope that reaches this number.
    """

    speed: float = 1.0
    history_us: int = 0
    end_us: int | None = None
    readings_max: int | None = None


def run(
    simulator: Simulator,
    destination: Destination,
    pace: Pace,
    stop: threading.Event,
    *,
    truth: Truth | None = None,
    progress: Callable[[Totals, int], None] | None = None,
    now: Callable[[], float] = time.time,
) -> Totals:
    """Send what a simulator releases until the end, the number of readings, or a stop; then close the destination.

    The truth is closed as well, whatever ends the run.

    Returns:
        The sums over what was sent.
    """
    totals = Totals()
    try:
        _send_all(simulator, destination, pace, stop, totals, truth, progress, now)
    finally:
        try:
            destination.close()
        finally:
            if truth is not None:
                sums = {**totals.as_dict(), "silenced": simulator.silenced, "waiting": simulator.waiting}
                truth.close(sums, simulator.now_us)
    return totals


def _send_all(
    simulator: Simulator,
    destination: Destination,
    pace: Pace,
    stop: threading.Event,
    totals: Totals,
    truth: Truth | None,
    progress: Callable[[Totals, int], None] | None,
    now: Callable[[], float],
) -> None:
    begun, paced_us = now(), simulator.plan.start_us + pace.history_us
    end_us = None if pace.end_us is None else simulator.floor(pace.end_us)
    while not stop.is_set() and (end_us is None or simulator.now_us < end_us):
        clock = now()
        allowed = int(clock * SECOND_US) - _MARGIN_US
        if pace.speed:
            allowed = min(allowed, paced_us + int((clock - begun) * pace.speed * SECOND_US))
        if end_us is not None:
            allowed = min(allowed, end_us)
        until = simulator.floor(min(allowed, simulator.now_us + simulator.step_us))
        if until <= simulator.now_us:
            stop.wait(_PAUSE_MAX_S)
            continue
        released = simulator.advance(until)
        if pace.readings_max is not None:
            reached = totals.readings + np.cumsum(released.readings)
            released = released.head(min(len(released), int(np.searchsorted(reached, pace.readings_max)) + 1))
        totals.unsendable += destination.send(released)
        totals.add(released)
        if truth is not None:
            truth.add(released)
        if progress is not None:
            progress(totals, simulator.now_us)
        if pace.readings_max is not None and totals.readings >= pace.readings_max:
            return

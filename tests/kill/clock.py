"""A wall clock that jumps: what the lake and the ledger take for the time is hours off, forwards or backwards."""

from __future__ import annotations

import sys
import time
from datetime import datetime, tzinfo
from typing import Any

_PACKAGES = ("alumicatalyst.lake", "alumicatalyst.ledger", "alumicatalyst.sinks")


def jump(jumps: list[tuple[float, float]]) -> None:
    """Let the clock be wrong by so many seconds, from so many seconds after the start on.

    Only the wall clock: what runs by the monotonic one goes on, as on a machine whose clock is set. The flow's engine
    compares its own readings of the clock with those of its steps, so those keep the true one.
    """
    began, real, real_ns = time.monotonic(), time.time, time.time_ns

    def offset() -> float:
        passed = time.monotonic() - began
        return sum(by for after, by in jumps if passed >= after)

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.fromtimestamp(time.time(), tz)

    time.time = lambda: real() + offset()
    time.time_ns = lambda: real_ns() + int(offset() * 1e9)
    for name, module in list(sys.modules.items()):
        if name.startswith(_PACKAGES) and getattr(module, "datetime", None) is datetime:
            module.datetime = Jumping  # type: ignore[attr-defined]

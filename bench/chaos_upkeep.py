"""The lake's maintenance in the long kill run: its commands as processes beside the flow, killed like everything else.

What takes hours in a plant takes moments here: a lease expires and commits are old within seconds, so that two
processes maintain at a time and the log is trimmed under writers that sleep. How these times lie to one another stays.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

    from bench.chaos_beside import Signer
    from tests.kill.harness import Child, Ground, Life

TIMES = {"lease_s": 1.0, "trim_s": 3.0, "look_s": 0.1}
"""For `tests/kill/child.py`: when a lease expires, when a commit may be trimmed, when a writer asks whether it was."""

COMMANDS = {
    "compact": "lake compact --files-min 2",
    "vacuum": "lake vacuum --days 0",
    "trim": "lake trim --days 0",
    "maintain": "lake maintain",
}

LIFE_S_MAX = 900.0

POINTS = {
    "compact": ("put:readings", "put:batches", "optimize:readings", "optimize:windows", "log:alarms", "create:_lease"),
    "vacuum": ("vacuum-start:readings", "vacuum-end:readings", "delete:readings", "delete:batches", "log:rejected"),
    "trim": ("put:_archive", "trim:readings", "trim:batches", "trim:journal", "create:_lease"),
    "maintain": ("expire:readings", "expire:windows", "optimize:batches", "log:rejected", "put:_lease"),
}
PLACES = ("before", "after", "during", "inside")


def draw_point(rng: random.Random, kind: str) -> str:
    """Draw where maintenance of a kind is killed; "" for from outside."""
    if rng.random() < 0.3:
        return ""
    return f"{rng.choice(POINTS[kind])} {rng.choice(PLACES)} {rng.choice([1, 1, 2])}"


class Keeper:
    """Starts the commands and judges how they end."""

    def __init__(self, ground: Ground, signer: Signer, *, expires: bool) -> None:
        self._ground = ground
        self._settings: dict[str, Any] = dict(signer.settings)
        if expires:
            # The logs' rows are of days long past.
            self._settings |= {f"maintenance__{name}_days": 1 for name in ("readings", "rejected", "windows")}
        self.refused = 0

    def start(self, kind: str, point: str = "", **order: Any) -> Child:
        return self._ground.start(COMMANDS[kind], point=point, order={"logs": "", **TIMES, **order}, **self._settings)

    def end(self, child: Child) -> Life:
        """Wait for its end: it was killed, is done, or another one is at it."""
        life = child.end(LIFE_S_MAX)
        if life.code == 5:
            # Another one has the lease, or took it while this one was at work.
            self.refused += 1
            return life
        assert life.code in {0, -signal.SIGKILL}, f"maintenance ended with {life.code}: {life.output[-4_000:]}"
        return life

    def tidy(self, kinds: tuple[str, ...] = ("compact", "vacuum", "trim")) -> None:
        """Let maintenance do its work, undisturbed; a lease of the dead expires first."""
        for kind in kinds:
            until = time.monotonic() + LIFE_S_MAX
            while (life := self.end(self.start(kind, temporary_s=0))).code == 5:
                assert time.monotonic() < until, life.output[-4_000:]
                time.sleep(TIMES["lease_s"] / 2)
            assert life.code == 0, life.output[-4_000:]

"""A process that writes a partition: `python -m tests.lake.writer LAKE UNTIL PAUSE_S`."""

from __future__ import annotations

import sys

from alumicatalyst import _core
from alumicatalyst.errors import ClaimLost
from alumicatalyst.lake import Lake
from tests.lake import plant


def main() -> None:
    root, until, pause_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    _core.state_info = plant.state_info
    lake = Lake.open(root)
    try:
        plant.run(lake, until, flush_every=4, committed=lambda: say("committed"), pause_s=pause_s)
        say("done")
    except ClaimLost:
        say("claim lost")


def say(what: str) -> None:
    sys.stdout.write(what + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

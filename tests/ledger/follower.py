"""Signs a lake in one life after another, each of which ends itself by SIGKILL at another step of the disk.

`python -m tests.ledger.follower FOLDER LAKE LIVES`: life n dies before the n-th change of the disk, or in the middle of
it where that is a write; one that gets no so far ends after a while. After each a line of JSON says what became of it,
with the checkpoint that readers are shown then.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from alumicatalyst.lake.store import LocalStore
from alumicatalyst.ledger.place import Place
from alumicatalyst.ledger.process import Ledger
from tests.ledger.disk import die_at
from tests.ledger.site import ORIGIN

LIFE_S = 30.0


def live(place: Place, lake: Path, last: int) -> None:
    """Follow the lake as `alumicatalyst ledger run` does, until a step of the disk."""

    die_at(last)
    stop = threading.Event()
    timer = threading.Timer(LIFE_S, stop.set)
    timer.daemon = True
    timer.start()
    Ledger(place, lambda: LocalStore(lake), interval_s=0.005).run(stop)


def main(folder: Path, lake: Path, lives: int) -> None:
    place = Place(folder / "ledger", folder / "keys" / "ledger", ORIGIN)
    for number in range(lives):
        child = os.fork()
        if child == 0:
            try:
                live(place, lake, number)
            except BaseException as error:  # noqa: BLE001 told to the test
                sys.stdout.write(json.dumps({"error": repr(error)}) + "\n")
                sys.stdout.flush()
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        shown = place.folder / "checkpoint"
        told = {"life": number, "code": code, "checkpoint": shown.read_text() if shown.exists() else None}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

"""The story that the tests of faults tell: a log is begun and grows, something happens, another process takes over.

Run as a program, `python -m tests.ledger.story FOLDER STEPS`, it tells the story once for each number of a step in a
process of its own, which ends itself by SIGKILL before that step, or in the middle of it where the step is a write.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.ledger.disk import die_at
from tests.ledger.ground import Ground, numbered, oracle, oracle_leaf

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alumicatalyst.ledger.note import Checkpoint

FIRST_LIFE = " of the first life"
SECOND_LIFE = " of the second life"
GROUPS = (1, 254, 1, 1, 300)
"""To 1, 255, 256, 257 and 557 entries: partial tiles, a full one, one over, two at once."""
LENGTH = sum(GROUPS)


def tell(ground: Ground) -> None:
    """Begin the log and append group after group."""
    size = 0
    with ground.writer() as writer:
        for count in GROUPS:
            writer.append(numbered(size, size + count, FIRST_LIFE))
            writer.publish()
            size += count


def take_over(ground: Ground, seen: Iterable[Checkpoint]) -> int:
    """Go on from the size that is found with entries of another life, and return that size.

    Asserts that the log is whole in the end, and that every checkpoint that was ever seen is its beginning.
    """
    with ground.writer() as writer:
        found = writer.size
        entries = [*numbered(0, found, FIRST_LIFE), *numbered(found, LENGTH + 1, SECOND_LIFE)]
        for at in range(found, len(entries), 400):
            writer.append(entries[at : at + 400])
            writer.publish()
    ground.hold_to(entries)
    leaves = [oracle_leaf(each) for each in entries]
    for each in seen:
        assert each.size <= found
        assert each.root == oracle(leaves[: each.size])(0, each.size), f"what was signed at {each.size} is not there"
    return found


def _tell_until(ground: Ground, last: int) -> None:
    die_at(last)
    tell(ground)


def main(folder: Path, steps: int) -> None:
    """Tell the story so many times, each in a process that is killed at another step."""
    for last in range(steps):
        ground = Ground(folder / str(last))
        child = os.fork()
        if child == 0:
            _tell_until(ground, last)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

"""Operators' states in the lake: one object for each sequence number, the last few of a partition kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from alumicatalyst import metrics
from alumicatalyst.errors import StateError
from alumicatalyst.log import get_logger

if TYPE_CHECKING:
    from alumicatalyst.lake.store import Store

KEPT = 3
"""States kept of a partition: the newest, and two more in case it is damaged."""

_FOLDER = "_state"

_log = get_logger(__name__)


def put(store: Store, partition: str, sequence_number: int, state: bytes) -> None:
    """Keep a state whose rows are committed, and remove those that are no longer needed.

    A state is a pure function of the partition's log (I2), so one that is there already is the same one.
    """
    started = time.perf_counter()
    store.create_if_absent(_path(partition, sequence_number), state)
    for old in numbers(store, partition)[KEPT:]:
        store.delete(_path(partition, old))
    metrics.STAGE_SECONDS.labels("state").observe(time.perf_counter() - started)


def numbers(store: Store, partition: str) -> list[int]:
    """Return the sequence numbers at which there is a state, newest first."""
    names = (path.rpartition("/")[2] for path, _ in store.list(f"{_FOLDER}/{partition}"))
    return sorted((int(name) for name in names if len(name) == 20 and name.isdigit()), reverse=True)


def get(store: Store, partition: str, sequence_number: int) -> bytes:
    """Return an intact state.

    Raises:
        StateError: There is none, or it is damaged, of an unknown format, or of another partition or number.
    """
    from alumicatalyst import _core

    path = _path(partition, sequence_number)
    try:
        state = store.get(path)
    except FileNotFoundError:
        raise StateError(f"couldn't read a state: {path}; it was removed, start again from an older one") from None
    info = _core.state_info(state)
    if info["partition"] != partition or info["last_sequence"] != sequence_number:
        raise StateError(
            f"couldn't use a state: {path} is of {info['partition']} at {info['last_sequence']}; remove it, an older "
            "one is used"
        )
    return state


def newest_intact(store: Store, partition: str, candidates: list[int]) -> int | None:
    """Return the first of the candidates whose state is intact; damaged ones are named in the log and passed over."""
    for number in candidates:
        try:
            get(store, partition, number)
        except StateError as error:
            _log.warning("state passed over", partition=partition, sequence_number=number, error=str(error))
            continue
        return number
    return None


def _path(partition: str, sequence_number: int) -> str:
    return f"{_FOLDER}/{partition}/{sequence_number:020d}"

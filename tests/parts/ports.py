"""Ports for whoever must know one before it listens, or listens at the same one again."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

# Below those that the system gives to outgoing connections, which could take one that is free for a moment.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """Return a port that nobody listens on."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def free_ports(count: int) -> list[int]:
    """Return so many, all different."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)

"""One line on a terminal that says how a long command gets on."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Show = Callable[[Callable[[float], str]], None]

_EVERY_S: Final = 0.2


@contextmanager
def progress(doing: str, *, quiet: bool) -> Iterator[Show | None]:
    """Give what shows a line on standard error, made from the seconds so far; None where nobody would see it.

    Example:
        >>> with progress("reading", quiet=False) as show:
        ...     if show is not None:
        ...         show(lambda elapsed: f"{rows / elapsed:,.0f} rows/s")
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    began, shown = time.monotonic(), 0.0
    with Console(stderr=True).status(doing) as status:

        def show(text: Callable[[float], str]) -> None:
            nonlocal shown
            elapsed = time.monotonic() - began
            if elapsed - shown >= _EVERY_S:
                shown = elapsed
                status.update(text(elapsed))

        yield show

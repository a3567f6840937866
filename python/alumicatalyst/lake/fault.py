"""Turns what the storage libraries raise into the error that tells an operator what to do."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from alumicatalyst.errors import AlumicatalystError, LakeError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Raise LakeError, "couldn't <what>", for whatever is not one of this package's errors already."""
    try:
        yield
    except AlumicatalystError:
        raise
    except Exception as error:
        raise LakeError(
            f"couldn't {what}: {first_line(error)}; check that the store can be reached and start again; "
            "nothing is lost"
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its kind if it has none: some libraries append whole requests."""
    return str(error).strip().partition("\n")[0] or type(error).__name__

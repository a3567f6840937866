"""Turns what the storage libraries raise into the error that tells an operator what to do, and no secret."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alumicatalyst.errors import AlumicatalystError, LakeError
from alumicatalyst.log import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

_REFUSED = (401, 403)
_NOT_FOUND = 404

_REMEDIES = {
    errno.ENOSPC: "free space on that file system",
    errno.EDQUOT: "free space, or have the quota raised",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files (fs.file-max)",
    errno.EIO: "look at the disk and the kernel's log",
}
"""What an operator may mend while the process waits."""

_HOPELESS = {
    errno.EACCES: "let the process's user write there",
    errno.EPERM: "let the process's user write there, on a file system that has hard links",
    errno.EOPNOTSUPP: "put the lake on a file system that has hard links and can sync folders",
    errno.EROFS: "mount that file system for writing, or set lake.uri to another one",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
    errno.ENAMETOOLONG: "set lake.uri to a shorter path",
    errno.ENOTDIR: "a file stands where a directory should be: move it away",
}
"""What stays as it is however long the process waits."""

_SIGN_IN = (
    "give the process a managed identity, set AZURE_CLIENT_ID and its companions, run `az login`, or set "
    "lake.credential"
)
_LOGIN = "check lake.credential: that it has not expired, and that it may read, write, list and delete there"


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Raise LakeError, "couldn't <what>", for whatever is not one of this package's errors already."""
    try:
        yield
    except AlumicatalystError:
        raise
    except Exception as error:
        raise LakeError(
            f"couldn't {what}: {first_line(error)}; {remedy(error) or 'check that the store can be reached'} and "
            "start again; nothing is lost"
        ) from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its kind if it has none: some libraries append whole requests.

    Signed addresses stand in the texts of every storage library, so what grants access is hidden.
    """
    if isinstance(error, OSError) and error.strerror and str(error).startswith("[Errno"):
        return redact(error.strerror if error.filename is None else f"{error.strerror}: {error.filename}")
    return redact(str(error).strip().partition("\n")[0] or type(error).__name__)


def remedy(error: BaseException) -> str | None:
    """Return what mends a failure, None if nobody can tell from the error."""
    if any(isinstance(each, SignInFailed) for each in _chain(error)):
        return _SIGN_IN
    return hopeless(error) or next((_REMEDIES[number] for number in _numbers(error) if number in _REMEDIES), None)


def hopeless(error: BaseException) -> str | None:
    """Return what has to be done about a failure that no patience mends; None for any other failure."""
    for each in _chain(error):
        if getattr(each, "status_code", None) in _REFUSED:
            return _LOGIN
    return next((_HOPELESS[number] for number in _numbers(error) if number in _HOPELESS), None)


def is_missing_container(error: BaseException) -> bool:
    """Whether a store says that there is not even a container, which is more than that an object is missing."""
    return any(
        getattr(each, "status_code", None) == _NOT_FOUND and getattr(each, "error_code", None) == "ContainerNotFound"
        for each in _chain(error)
    )


class SignInFailed(Exception):
    """The identity of the process cannot be shown: the service that tells tokens failed, or there is no identity."""


class RequestFailed(Exception):
    """What a storage SDK raised, in words that grant no access.

    Attributes:
        status_code: Of the answer, None if there was none.
        response: The answer.
    """

    def __init__(self, text: str, error: BaseException) -> None:
        super().__init__(text)
        self.status_code: int | None = getattr(error, "status_code", None)
        self.response: Any = getattr(error, "response", None)


def without_secrets(error: Exception) -> Exception:
    """Return an error whose text, and that of what it was raised from, hides what grants access."""
    texts = [str(each) for each in _chain(error, contexts=True)]
    return error if all(redact(text) == text for text in texts) else RequestFailed(redact(texts[0]), error)


def retry_after_s(answer: Any) -> float | None:
    """Return for how long an answer of the service, or the error made of one, asks to be left alone."""
    for each in _chain(answer) if isinstance(answer, BaseException) else [answer]:
        headers = getattr(getattr(each, "response", each), "headers", None) or {}
        for name, unit_s in (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0)):
            try:
                # Azure gives numbers; a date, which HTTP allows too, is left to the usual pauses.
                seconds = float(headers.get(name, "")) * unit_s
            except ValueError:
                continue
            if seconds >= 0:
                return seconds
    return None


def _numbers(error: BaseException) -> list[int]:
    return [each.errno for each in _chain(error) if isinstance(each, OSError) and each.errno is not None]


def _chain(error: BaseException, *, contexts: bool = False) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, or while handling what."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (seen.__context__ if contexts else None)

"""A commit file of a Delta table as the ledger reads it: strictly, within bounds, and never outside of the table."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import quote, unquote

from alumicatalyst.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMIT_BYTES_MAX: Final = 256 * 1024 * 1024
"""A larger commit file is refused: one of a compaction of a million files is about this large."""

PATH_CHARS_MAX: Final = 2_048
INT64_MAX: Final = (1 << 63) - 1

LOG_FOLDER: Final = "_delta_log"
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_PRINTABLE: Final = "".join(chr(each) for each in range(0x21, 0x7F))


@dataclass(frozen=True, slots=True)
class Commit:
    """What one commit file says.

    Attributes:
        sha256: Digest of the file.
        size: Its length in bytes.
        info: The commitInfo, empty if there is none.
        adds: The add actions by path.
        removes: The remove actions by path.
        transactions: The txn actions by application id.
        metadata: The metaData action.
        protocol: The protocol action.
    """

    sha256: bytes
    size: int
    info: Mapping[str, Any] = field(default_factory=dict)
    adds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    removes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    transactions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    metadata: Mapping[str, Any] | None = None
    protocol: Mapping[str, Any] | None = None


def commit_path(table: str, version: int) -> str:
    """Return where a commit file is, from the lake's root."""
    return f"{table}/{LOG_FOLDER}/{version:020d}.json"


def version_of(name: str) -> int | None:
    """Return the version of a commit file by its name, None for any other file."""
    digits = name.removesuffix(".json")
    return int(digits) if len(name) == 25 and len(digits) == 20 and digits.isascii() and digits.isdigit() else None


def parse(data: bytes, name: str) -> Commit:
    """Read a commit file.

    Args:
        data: Its bytes.
        name: What to call it in messages.

    Raises:
        LedgerError: It is too large, is no JSON, or says something that no Delta writer means.
    """
    if len(data) > COMMIT_BYTES_MAX:
        _refuse(name, f"it has {len(data)} bytes, more than {COMMIT_BYTES_MAX}")
    found = _Found(name)
    # Only a line feed ends an action: a text in one may hold what Python takes for the end of a line.
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        found.place = f"line {number}"
        try:
            actions = json.loads(line, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            _refuse(name, f"{found.place} is no JSON ({type(error).__name__})")
        if not isinstance(actions, dict):
            _refuse(name, f"{found.place} is no action")
        for kind, action in actions.items():
            found.take(kind, action)
    return Commit(
        sha256=hashlib.sha256(data).digest(),
        size=len(data),
        info=found.single.get("commitInfo", {}),
        adds=found.adds,
        removes=found.removes,
        transactions=found.transactions,
        metadata=found.single.get("metaData"),
        protocol=found.single.get("protocol"),
    )


def encoded(path: str) -> str:
    """Return a path as an entry writes it: as the Delta log does, with anything that is no printable ASCII escaped."""
    return quote(path, safe=_PRINTABLE)


def stored_path(table: str, path: str) -> str:
    """Return where a data file is from the lake's root; the log percent-encodes what is relative to the table."""
    return f"{table}/{unquote(path)}"


def number_of(value: object, name: str, what: str, *, lowest: int = 0) -> int:
    """Return a whole number that fits 64 bits, or raise LedgerError."""
    if type(value) is not int or not lowest <= value <= INT64_MAX:
        _refuse(name, f"{what} is no whole number from {lowest}")
    return value


def text_of(value: object, name: str, what: str) -> str:
    """Return a text of 1 to 2,048 characters that can be encoded, or raise LedgerError."""
    if not isinstance(value, str) or not 1 <= len(value) <= PATH_CHARS_MAX or not _encodable(value):
        _refuse(name, f"{what} is no text of 1 to {PATH_CHARS_MAX} characters")
    return value


class _Found:
    """The actions of a commit file so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.place = ""
        self.adds: dict[str, Mapping[str, Any]] = {}
        self.removes: dict[str, Mapping[str, Any]] = {}
        self.transactions: dict[str, Mapping[str, Any]] = {}
        self.single: dict[str, Mapping[str, Any]] = {}

    def take(self, kind: str, action: Any) -> None:
        """Take in one action; kinds that say nothing about files, transactions or the table are passed over."""
        if kind not in {"add", "remove", "txn", "commitInfo", "metaData", "protocol"}:
            return
        if not isinstance(action, dict):
            _refuse(self.name, f"{self.place} has a {kind} that is no object")
        if kind == "add":
            number_of(action.get("size"), self.name, f"{self.place}: size")
            self._once(self.adds, self._path(action), action)
        elif kind == "remove":
            self._once(self.removes, self._path(action), action)
        elif kind == "txn":
            number_of(action.get("version"), self.name, f"{self.place}: version")
            self._once(self.transactions, text_of(action.get("appId"), self.name, f"{self.place}: appId"), action)
        else:
            if kind == "metaData":
                text_of(action.get("id"), self.name, f"{self.place}: id")
            self._once(self.single, kind, action)

    def _path(self, action: Mapping[str, Any]) -> str:
        """Return an action's path; one that leads out of the table is never followed."""
        path = text_of(action.get("path"), self.name, f"{self.place}: path")
        plain = unquote(path)
        parts = plain.split("/")
        outside = any(part in {"", ".", ".."} for part in parts) or parts[0] == LOG_FOLDER
        if outside or "\0" in plain or _SCHEME.match(path):
            _refuse(self.name, f"{self.place} names a file outside of the table: {path[:200]!r}")
        return path

    def _once(self, found: dict[str, Mapping[str, Any]], key: str, action: Mapping[str, Any]) -> None:
        if key in found:
            _refuse(self.name, f"{self.place} repeats {key[:200]!r}")
        found[key] = action


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(name: str, why: str) -> NoReturn:
    raise LedgerError(
        f"couldn't read the commit {name}: {why}; nothing is signed until it is looked at: see who wrote it, and "
        "restore the table"
    )

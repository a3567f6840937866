"""Makes the entry of a commit: a pure function of the commit file's bytes.

Where a commit names files without their digests, as maintenance by other tools does, those files' digests come in too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import quote

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import delta
from alumicatalyst.ledger.entry import ENTRY_BYTES_MAX, UNKNOWN, Add, Entry, Line, Range, Remove, Rows, folded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alumicatalyst.ledger.delta import Commit

_TEXT_SAFE: Final = "".join(chr(each) for each in range(0x20, 0x7F) if chr(each) != "%")
_TEXT_CHARS_MAX: Final = 256
_DICTIONARIES_MAX: Final = 64


def undigested(commit: Commit) -> list[tuple[str, int]]:
    """Return path and size of the files that a commit adds without naming their digests."""
    named = {each["path"] for each in _files(commit, "whose files are asked for")}
    return [(path, int(action["size"])) for path, action in commit.adds.items() if path not in named]


def build(
    table: str,
    table_id: str,
    version: int,
    commit: Commit,
    digests: Mapping[str, bytes | None],
) -> tuple[Entry, list[Line]]:
    """Make the entry of a commit.

    Args:
        table: The table.
        table_id: Its id, from the metadata of its first version, as `text_of` gives it.
        version: The commit's version.
        commit: What the commit file says.
        digests: Path to SHA-256 of each file of `undigested`; None for one that is gone.

    Returns:
        The entry, and all of its lines of files and ranges: those that a tree stands for are not in the entry.

    Raises:
        LedgerError: What the commit says about its files or ranges cannot be.
    """
    name = f"{table}@{version}"
    rows: list[Line] = []
    adds: list[Line] = []
    for each in _files(commit, name):
        path, size = delta.encoded(each["path"]), commit.adds[each["path"]]["size"]
        sha256 = _hex(each.get("sha256"), 32, name, "a file's sha256")
        if each.get("bytes") != size:
            _refuse(name, f"it gives {path[:200]} two sizes, {size} and {str(each.get('bytes'))[:40]}")
        if "rows_root" not in each:
            adds.append(Add(path, size, sha256))
            continue
        batch = _hex(each.get("batch"), 16, name, "a file's batch")
        count = delta.number_of(each.get("rows"), name, "a file's rows", lowest=1)
        rows.append(Rows(path, size, sha256, batch, count, _hex(each["rows_root"], 32, name, "a file's rows_root")))
    adds += [Add(delta.encoded(path), size, digests[path]) for path, size in undigested(commit)]
    info = commit.info
    ranges: list[Line] = [*_ranges(info.get("ranges", {}), name)]
    removes: list[Line] = [Remove(delta.encoded(path)) for path in commit.removes]
    operation, software = info.get("operation"), info.get("software")
    made = Entry(
        table=table,
        table_id=table_id,
        version=version,
        commit_sha256=commit.sha256,
        commit_bytes=commit.size,
        operation=UNKNOWN if operation is None or operation == "" else text_of(operation, name, "the operation"),
        schema=_hex(info.get("leaf_schema"), 32, name, "its leaf_schema") if rows else None,
        dictionaries=_dictionaries(info.get("dictionary", []), name),
        software=None if software is None else text_of(software, name, "the software"),
        ranges=folded("range", ranges),
        adds=folded("add", adds),
        rows=folded("rows", rows),
        removes=folded("remove", removes),
    )
    if len(made.data()) > ENTRY_BYTES_MAX:
        _refuse(name, f"its entry would have {len(made.data())} bytes, more than {ENTRY_BYTES_MAX}")
    return made, [*ranges, *adds, *rows, *removes]


def text_of(value: object, name: str, what: str) -> str:
    """Return a text as an entry writes it: one line of printable ASCII, anything else escaped."""
    plain = delta.text_of(value, name, what)
    written = quote(plain, safe=_TEXT_SAFE)
    if len(written) > _TEXT_CHARS_MAX:
        _refuse(name, f"{what} has more than {_TEXT_CHARS_MAX} characters")
    return written


def _files(commit: Commit, name: str) -> list[Mapping[str, Any]]:
    """Return the digests that a commit names for its own files."""
    files = commit.info.get("files", [])
    if not isinstance(files, list) or not all(isinstance(each, dict) for each in files):
        _refuse(name, "files in its commitInfo is no list of objects")
    paths = [delta.text_of(each.get("path"), name, "a file's path") for each in files]
    if len(set(paths)) != len(paths) or not set(paths) <= commit.adds.keys():
        _refuse(name, "files in its commitInfo names a file that it does not add, or one twice")
    return files


def _ranges(found: object, name: str) -> list[Range]:
    if not isinstance(found, dict):
        _refuse(name, "its ranges are no object")
    made = []
    for partition, ranges in found.items():
        if not isinstance(ranges, list) or not all(isinstance(each, dict) for each in ranges):
            _refuse(name, "its ranges are no lists of objects")
        written = delta.encoded(delta.text_of(partition, name, "a partition"))
        for each in ranges:
            follows, first, last = (
                delta.number_of(each.get(key), name, f"{key} of a range", lowest=-1)
                for key in ("follows", "first", "last")
            )
            made.append(Range(written, follows, first, last))
    return made


def _dictionaries(found: object, name: str) -> tuple[str, ...]:
    if not isinstance(found, list) or len(found) > _DICTIONARIES_MAX:
        _refuse(name, f"its dictionary is no list of at most {_DICTIONARIES_MAX} digests")
    return tuple(sorted({_hex(each, 32, name, "a dictionary").hex() for each in found}))


def _hex(value: object, size: int, name: str, what: str) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]*", value) or len(value) != 2 * size:
        _refuse(name, f"{what} is not {2 * size} hex digits")
    return bytes.fromhex(value)


def _refuse(name: str, why: str) -> NoReturn:
    raise LedgerError(
        f"couldn't make an entry of commit {name}: {why}; nothing is signed until it is looked at: see who wrote it, "
        "and restore the table"
    )

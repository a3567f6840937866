"""A ledger entry: the text that stands for one commit of one table, as it is written and strictly read back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import merkle
from alumicatalyst.ledger.text import decode_base64, encode_base64

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HEADER: Final = "alumicatalyst/commit"
ENTRY_BYTES_MAX: Final = 65_535
"""An entry's length stands in two bytes of its bundle."""

KIND_BYTES_MAX: Final = 12 * 1024
"""The lines of one kind that exceed this together are replaced by the root of a tree over them. There are four such
kinds, so an entry stays within its limit."""

LEAF_ROWS: Final = 64
"""Rows under one leaf of a batch's tree."""

UNKNOWN: Final = "-"
"""Stands for an operation that the commit does not name, and for the digest of a file that was gone when the ledger
looked."""


@dataclass(frozen=True, slots=True)
class Range:
    """What of a partition a commit holds: it follows one sequence number and goes from another to a last one."""

    partition: str
    follows: int
    first: int
    last: int

    def line(self) -> str:
        """Return it as an entry writes it."""
        return f"range {self.partition} {self.follows} {self.first} {self.last}"


@dataclass(frozen=True, slots=True)
class Add:
    """A file without row digests; `sha256` is None if it was gone when the ledger looked."""

    path: str
    size: int
    sha256: bytes | None

    def line(self) -> str:
        """Return it as an entry writes it."""
        return f"add {self.path} {self.size} {UNKNOWN if self.sha256 is None else encode_base64(self.sha256)}"


@dataclass(frozen=True, slots=True)
class Rows:
    """A file with row digests: `root` is over the leaves of its rows, `batch` what its rows' `_batch` says."""

    path: str
    size: int
    sha256: bytes
    batch: bytes
    rows: int
    root: bytes

    def line(self) -> str:
        """Return it as an entry writes it."""
        return (
            f"rows {self.path} {self.size} {encode_base64(self.sha256)} {self.batch.hex()} {self.rows} {LEAF_ROWS} "
            f"{encode_base64(self.root)}"
        )


@dataclass(frozen=True, slots=True)
class Remove:
    """A file that the commit takes out of the table."""

    path: str

    def line(self) -> str:
        """Return it as an entry writes it."""
        return f"remove {self.path}"


Line = Range | Add | Rows | Remove


@dataclass(frozen=True, slots=True)
class Tree:
    """Stands for lines that are too many: their number, and the RFC 6962 root over them, without line feeds."""

    kind: str
    lines: int
    root: bytes

    def line(self) -> str:
        """Return it as an entry writes it."""
        return f"{self.kind}-tree {self.lines} {encode_base64(self.root)}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, as it is written.

    Attributes:
        table: The table's name.
        table_id: The id in its Delta metadata.
        version: The Delta version.
        commit_sha256: Digest of the commit file.
        commit_bytes: Its length.
        operation: What the commit calls itself.
        schema: Digest of the schema text of the row digests; None without any.
        dictionaries: Digests of the data dictionaries in force, hex.
        software: The version that wrote the rows.
        ranges: A line for each range of a partition, or their tree.
        adds: A line for each file without row digests, or their tree.
        rows: A line for each file with row digests, or their tree.
        removes: A line for each file taken out, or their tree.
    """

    table: str
    table_id: str
    version: int
    commit_sha256: bytes
    commit_bytes: int
    operation: str = UNKNOWN
    schema: bytes | None = None
    dictionaries: tuple[str, ...] = ()
    software: str | None = None
    ranges: tuple[Range, ...] | Tree = ()
    adds: tuple[Add, ...] | Tree = ()
    rows: tuple[Rows, ...] | Tree = ()
    removes: tuple[Remove, ...] | Tree = ()

    @property
    def name(self) -> str:
        """Return the table and version, as `readings@17`."""
        return f"{self.table}@{self.version}"

    def data(self) -> bytes:
        """Return the entry's bytes."""
        lines = [
            HEADER,
            f"table {self.table}",
            f"table-id {self.table_id}",
            f"version {self.version}",
            f"commit {encode_base64(self.commit_sha256)} {self.commit_bytes}",
            f"operation {self.operation}",
        ]
        if self.schema is not None:
            lines.append(f"schema {encode_base64(self.schema)}")
        lines += [f"dictionary {each}" for each in self.dictionaries]
        if self.software is not None:
            lines.append(f"software {self.software}")
        for kind in (self.ranges, self.adds, self.rows, self.removes):
            lines += [kind.line()] if isinstance(kind, Tree) else [each.line() for each in kind]
        return "".join(f"{line}\n" for line in lines).encode()


def folded(kind: str, lines: Sequence[Line]) -> Any:
    """Return lines of one kind in their order, or the tree that stands for them where they are too many."""
    ordered = sorted(lines, key=order)
    if sum(len(each.line()) + 1 for each in ordered) > KIND_BYTES_MAX:
        return Tree(kind, len(ordered), merkle.root([merkle.leaf_hash(each.line().encode()) for each in ordered]))
    return tuple(ordered)


def order(line: Line) -> tuple[str, int, str]:
    """Return by what lines of a kind are sorted."""
    if isinstance(line, Range):
        return line.partition, line.first, line.line()
    return line.path, 0, line.line()


def parse(data: bytes) -> Entry:
    """Read an entry back.

    Raises:
        LedgerError: These are not exactly the bytes of an entry.
    """
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    found: dict[str, list[Any]] = {}
    for number, line in enumerate(text.split("\n")[:-1]):
        match = _LINE.fullmatch(line)
        kind = match.lastgroup if match else None
        if match is None or kind is None:
            _damaged(data, f"line {number + 1} is none of an entry's")
        found.setdefault(kind, []).append(_READ[kind](match[kind]))
    if not all(len(found.get(kind, [])) == 1 for kind in _ONCE):
        _damaged(data, f"it does not have each of {', '.join(_ONCE)} once")
    made = Entry(
        table=found["table"][0],
        table_id=found["id"][0],
        version=found["version"][0],
        commit_sha256=found["commit"][0][0],
        commit_bytes=found["commit"][0][1],
        operation=found["operation"][0],
        schema=found.get("schema", [None])[0],
        dictionaries=tuple(sorted(set(found.get("dictionary", [])))),
        software=found.get("software", [None])[0],
        ranges=_kind("range", found),
        adds=_kind("add", found),
        rows=_kind("rows", found),
        removes=_kind("remove", found),
    )
    # Whatever an entry says in another order, twice, or in other words than ours is no entry.
    if len(data) > ENTRY_BYTES_MAX or made.data() != data:
        _damaged(data, "it is not written as an entry is")
    return made


def parse_line(line: str) -> Line:
    """Read one line of a kind that a tree may stand for.

    Raises:
        LedgerError: It is no such line.
    """
    match = _LINE.fullmatch(line)
    if match is None or match.lastgroup not in _KINDS:
        _damaged(line.encode(), "it is no line of an entry")
    made: Line = _READ[match.lastgroup](match[match.lastgroup])
    if made.line() != line:
        _damaged(line.encode(), "it is not written as an entry is")
    return made


def _kind(kind: str, found: Mapping[str, list[Any]]) -> Any:
    trees = [tree for tree in found.get("tree", []) if tree.kind == kind]
    return trees[0] if trees else folded(kind, found.get(kind, []))


def _damaged(data: bytes, why: str) -> NoReturn:
    raise LedgerError(f"couldn't read the entry {data[:60]!r}: {why}; it was not written by this software")


_TEXT: Final = r"(?:[ -$&-~]|%[0-9A-F]{2})+"
_PATH: Final = r"[!-~]+"
_NUMBER: Final = r"(?:0|[1-9][0-9]{0,18})"
_DIGEST: Final = r"[A-Za-z0-9+/]{43}="
_LINE: Final = re.compile(
    rf"(?P<header>{HEADER})"
    rf"|table (?P<table>[a-z][a-z0-9_]{{0,63}})"
    rf"|table-id (?P<id>{_TEXT})"
    rf"|version (?P<version>{_NUMBER})"
    rf"|commit (?P<commit>{_DIGEST} {_NUMBER})"
    rf"|operation (?P<operation>{_TEXT})"
    rf"|schema (?P<schema>{_DIGEST})"
    rf"|dictionary (?P<dictionary>[0-9a-f]{{64}})"
    rf"|software (?P<software>{_TEXT})"
    rf"|range (?P<range>{_PATH}(?: (?:-1|{_NUMBER})){{3}})"
    rf"|add (?P<add>{_PATH} {_NUMBER} (?:{_DIGEST}|{UNKNOWN}))"
    rf"|rows (?P<rows>{_PATH} {_NUMBER} {_DIGEST} [0-9a-f]{{32}} {_NUMBER} {LEAF_ROWS} {_DIGEST})"
    rf"|remove (?P<remove>{_PATH})"
    rf"|(?P<tree>(?:range|add|rows|remove)-tree {_NUMBER} {_DIGEST})"
)
_ONCE: Final = ("header", "table", "id", "version", "commit", "operation")
_KINDS: Final = ("range", "add", "rows", "remove")


def _digest(text: str) -> bytes:
    return decode_base64(text, "a digest of an entry")


def _read_range(text: str) -> Range:
    partition, follows, first, last = text.split(" ")
    return Range(partition, int(follows), int(first), int(last))


def _read_add(text: str) -> Add:
    path, size, sha256 = text.split(" ")
    return Add(path, int(size), None if sha256 == UNKNOWN else _digest(sha256))


def _read_rows(text: str) -> Rows:
    path, size, sha256, batch, rows, _, root = text.split(" ")
    return Rows(path, int(size), _digest(sha256), bytes.fromhex(batch), int(rows), _digest(root))


def _read_commit(text: str) -> tuple[bytes, int]:
    sha256, size = text.split(" ")
    return _digest(sha256), int(size)


def _read_tree(text: str) -> Tree:
    kind, lines, root = text.split(" ")
    return Tree(kind.removesuffix("-tree"), int(lines), _digest(root))


_READ: Final[dict[str, Any]] = {
    "header": str,
    "table": str,
    "id": str,
    "version": int,
    "commit": _read_commit,
    "operation": str,
    "schema": _digest,
    "dictionary": str,
    "software": str,
    "range": _read_range,
    "add": _read_add,
    "rows": _read_rows,
    "remove": Remove,
    "tree": _read_tree,
}

"""What a proof file of ours carries beside the C2SP proof, and verifying all of it with nothing but the public key.

The proof's `extra` bytes are UTF-8 lines, in this order:

    alumicatalyst/proof
    entry <base64 of the entry>
    schema <base64 of the schema text>              from here on only for a row
    leaf <base64 of the leaf's bytes>
    leaf-index <number of the leaf> <leaves of the batch>
    row <number of the row within the leaf>
    path <base64>                                   one for each hash from the leaf up to the batch's root
    line <base64 of the entry's line>               from here on only if a tree stands for the entry's `rows` lines
    line-index <number of the line> <lines>
    line-path <base64>
    check <base64 of the SHA-256 of all lines before>

Nobody signs them. What they say counts because entry, schema and leaf lead to signed hashes; `check` is for the one
thing that does not, which of the leaf's rows is meant, so that no accident can make a proof show another row.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn, Self

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import entry, leaf, merkle, proof
from alumicatalyst.ledger.text import decode_base64, decode_number, encode_base64

if TYPE_CHECKING:
    from alumicatalyst.ledger.entry import Entry, Rows
    from alumicatalyst.ledger.leaf import Value
    from alumicatalyst.ledger.note import Checkpoint, VerifierKey

HEADER: Final = "alumicatalyst/proof"
_LINE: Final = re.compile(r"([a-z-]+) ([A-Za-z0-9+/=]+)(?: ([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Path:
    """The way from one of several things to the root over them."""

    index: int
    size: int
    hashes: tuple[bytes, ...]

    def root(self, data: bytes) -> bytes:
        """Return the root that follows from the bytes of the thing itself."""
        return merkle.root_from_inclusion(self.index, self.size, merkle.leaf_hash(data), self.hashes)


@dataclass(frozen=True, slots=True)
class RowEvidence:
    """What leads from a row to its entry.

    Attributes:
        schema: The schema text.
        leaf: The bytes of the row's leaf.
        path: From the leaf to the batch's root.
        row: Number of the row within the leaf.
        line: The entry's line of the batch, and its way to the tree that stands for it; None where the entry has it.
    """

    schema: str
    leaf: bytes
    path: Path
    row: int
    line: tuple[str, Path] | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """An entry, and the way to it from a row."""

    entry: bytes
    row: RowEvidence | None = None

    def data(self) -> bytes:
        """Return the bytes for a proof's `extra`."""
        lines = [HEADER, f"entry {encode_base64(self.entry)}"]
        if self.row is not None:
            at = self.row.path
            lines += [
                f"schema {encode_base64(self.row.schema.encode())}",
                f"leaf {encode_base64(self.row.leaf)}",
                f"leaf-index {at.index} {at.size}",
                f"row {self.row.row}",
                *(f"path {encode_base64(each)}" for each in at.hashes),
            ]
            if self.row.line is not None:
                line, at = self.row.line
                lines += [
                    f"line {encode_base64(line.encode())}",
                    f"line-index {at.index} {at.size}",
                    *(f"line-path {encode_base64(each)}" for each in at.hashes),
                ]
        told = "".join(f"{line}\n" for line in lines).encode()
        return told + f"check {encode_base64(hashlib.sha256(told).digest())}\n".encode()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read it back.

        Raises:
            LedgerError: These are not exactly the bytes that `data` gives.
        """
        try:
            first, *lines = data.decode("ascii").split("\n")[:-1]
        except (UnicodeDecodeError, ValueError):
            _refuse("its extra data is none of ours")
        found: dict[str, list[tuple[str, str]]] = {}
        for line in lines:
            match = _LINE.fullmatch(line)
            if match is None:
                _refuse("a line of its extra data is none of ours")
            found.setdefault(match[1], []).append((match[2], match[3] or ""))
        if first != HEADER or len(found.get("entry", [])) != 1:
            _refuse("its extra data has no entry")
        made = cls(_bytes(found, "entry"), _row(found) if "leaf" in found else None)
        if made.data() != data:
            _refuse("its extra data was changed")
        return made


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof proves.

    Attributes:
        vkey: The key that signed.
        checkpoint: What it signed.
        index: Place of the entry in the log.
        entry: The entry of the commit.
        batch: The entry's line of the file in which the row was first written; None where a commit is proven.
        number: Number of the row in that file.
        row: The row: column to value.
    """

    vkey: VerifierKey
    checkpoint: Checkpoint
    index: int
    entry: Entry
    batch: Rows | None = None
    number: int | None = None
    row: dict[str, Value] | None = None


def verify(data: bytes, vkey: VerifierKey) -> Proven:
    """Verify a proof file; no lake, log or network is asked.

    Raises:
        LedgerError: It is malformed, is not signed by the key, or does not prove what it says.
    """
    parsed = proof.Proof.parse(data)
    if parsed.extra is None:
        _refuse("it has no extra data, so it does not say what it proves")
    if proof.write(parsed.index, parsed.hashes, parsed.note, parsed.extra).encode() != data:
        _refuse("it is not written as a proof is")
    evidence = Evidence.parse(parsed.extra)
    checkpoint = proof.verify(parsed, evidence.entry, vkey)
    found = entry.parse(evidence.entry)
    if evidence.row is None:
        return Proven(vkey, checkpoint, parsed.index, found)
    return _proven_row(Proven(vkey, checkpoint, parsed.index, found), evidence.row)


def _proven_row(proven: Proven, told: RowEvidence) -> Proven:
    found = proven.entry
    if found.schema != leaf.schema_id(told.schema):
        _refuse("its schema is not the one that the entry names")
    read = leaf.decode(told.schema, told.leaf)
    batch = _batch_line(found, told, read.batch)
    at = told.path
    expected = min(leaf.ROWS_MAX, batch.rows - at.index * leaf.ROWS_MAX)
    placed = read.first == at.index * leaf.ROWS_MAX and at.size == -(-batch.rows // leaf.ROWS_MAX)
    if not placed or len(read.rows) != expected or at.root(told.leaf) != batch.root:
        _refuse("its rows do not lead to the root that the entry has of their batch")
    if told.row >= len(read.rows):
        _refuse(f"its leaf has no row {told.row}")
    return Proven(
        proven.vkey,
        proven.checkpoint,
        proven.index,
        found,
        batch=batch,
        number=read.first + told.row,
        row=read.rows[told.row],
    )


def _batch_line(found: Entry, told: RowEvidence, batch: bytes) -> Rows:
    """Return the entry's line of a batch."""
    if told.line is None:
        if isinstance(found.rows, entry.Tree):
            _refuse("its entry names a tree of lines, and it has none of them")
        lines = [each for each in found.rows if each.batch == batch]
    else:
        text, path = told.line
        tree = found.rows
        if not isinstance(tree, entry.Tree) or path.size != tree.lines or path.root(text.encode()) != tree.root:
            _refuse("its line does not lead to the root that the entry has")
        line = entry.parse_line(text)
        lines = [line] if isinstance(line, entry.Rows) and line.batch == batch else []
    if len(lines) != 1:
        _refuse("its entry does not name the batch of its rows")
    return lines[0]


def _row(found: dict[str, list[tuple[str, str]]]) -> RowEvidence:
    try:
        schema = _bytes(found, "schema").decode()
        line = _bytes(found, "line").decode() if "line" in found else None
    except UnicodeDecodeError:
        _refuse("its extra data has a text that is not UTF-8")
    number = decode_number(_one(found, "row")[0], "the proof's row")
    path = _path(found, "leaf-index", "path")
    with_line = None if line is None else (line, _path(found, "line-index", "line-path"))
    return RowEvidence(schema, _bytes(found, "leaf"), path, number, with_line)


def _path(found: dict[str, list[tuple[str, str]]], index: str, hashes: str) -> Path:
    at, size = _one(found, index)
    return Path(
        decode_number(at, "a number of the proof"),
        decode_number(size, "a number of the proof"),
        tuple(decode_base64(each, "a hash of the proof") for each, _ in found.get(hashes, [])),
    )


def _bytes(found: dict[str, list[tuple[str, str]]], name: str) -> bytes:
    return decode_base64(_one(found, name)[0], f"the proof's {name}")


def _one(found: dict[str, list[tuple[str, str]]], name: str) -> tuple[str, str]:
    each = found.get(name, [])
    if len(each) != 1:
        _refuse(f"its extra data has not one {name}")
    return each[0]


def _refuse(why: str) -> NoReturn:
    raise LedgerError(f"couldn't accept the proof: {why}; ask for another one")

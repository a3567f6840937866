"""Reads JSON for the oracle: RFC 8259 plus NaN, Infinity and -Infinity, keeping where every value stands.

Python's own `json` will not do: it recurses, it merges repeated members, and it forgets the places.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

WHITE_SPACE = re.compile(rb"[ \t\n\r]*")
STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"')
NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
NOT_FINITE = re.compile(rb"NaN|Infinity|-Infinity")
TRUTH = re.compile(rb"true|false")
NULL = re.compile(rb"null")
SCALARS = ((STRING, "string"), (NOT_FINITE, "number"), (NUMBER, "number"), (TRUTH, "bool"), (NULL, "null"))


class BadJsonError(ValueError):
    """The text is not one JSON document."""


@dataclass
class Node:
    """One value of a document and the bytes [start, end) it was read from.

    Attributes:
        kind: object, array, string, number, bool or null.
        text: What a string says (decoded), or a number's characters as written.
        members: An object's members in their order, repeated ones included.
        elements: An array's elements.
    """

    kind: str
    start: int
    end: int = -1
    text: str = ""
    members: list[tuple[str, Node]] = field(default_factory=list)
    elements: list[Node] = field(default_factory=list)


@dataclass
class Document:
    """A whole document and how deep its arrays and objects are nested (a scalar: 0)."""

    root: Node
    depth: int


def parse(text: bytes, before: int = 0) -> Document:
    """Read one document; the text is known to be UTF-8.

    Containers that are still open lie on a stack, so that no nesting is too deep to be read.

    Args:
        text: The document, and white space around it.
        before: How many bytes of its body stand before the text; places are counted from the body's start.
    """
    holder = Node("array", 0)
    stack = [holder]
    depth = 0
    name: str | None = None  # the member whose value comes next
    at = _skip(text, 0)
    while True:
        # Here a value is due.
        node, at = _value_start(text, at, before)
        _attach(stack[-1], name, node)
        if node.kind in ("object", "array"):
            stack.append(node)
            depth = max(depth, len(stack) - 1)
            at = _skip(text, at)
            if text[at : at + 1] != _closing(node):
                if node.kind == "object":
                    name, at = _member_name(text, at)
                continue
        # A value has ended, or an empty container is about to: close what closes, then go on after a comma.
        while len(stack) > 1:
            at = _skip(text, at)
            here = text[at : at + 1]
            if here == _closing(stack[-1]):
                at += 1
                stack.pop().end = before + at
            elif here == b"," and (stack[-1].members or stack[-1].elements):
                at = _skip(text, at + 1)
                if stack[-1].kind == "object":
                    name, at = _member_name(text, at)
                break
            else:
                raise BadJsonError(f"expected a comma or the end of the {stack[-1].kind} at byte {at}")
        else:
            at = _skip(text, at)
            if at != len(text):
                raise BadJsonError(f"something follows the document at byte {at}")
            return Document(holder.elements[0], depth)


def _skip(text: bytes, at: int) -> int:
    found = WHITE_SPACE.match(text, at)
    assert found is not None
    return found.end()


def _closing(node: Node) -> bytes:
    return b"}" if node.kind == "object" else b"]"


def _attach(parent: Node, name: str | None, node: Node) -> None:
    if parent.kind == "object":
        assert name is not None
        parent.members.append((name, node))
    else:
        parent.elements.append(node)


def _member_name(text: bytes, at: int) -> tuple[str, int]:
    found = STRING.match(text, at)
    if found is None:
        raise BadJsonError(f"expected a member's name at byte {at}")
    end = _skip(text, found.end())
    if text[end : end + 1] != b":":
        raise BadJsonError(f"expected a colon at byte {end}")
    return _unescape(found[0]), _skip(text, end + 1)


def _value_start(text: bytes, at: int, before: int) -> tuple[Node, int]:
    """A scalar whole, or a container just opened."""
    if text[at : at + 1] in (b"{", b"["):
        return Node("object" if text[at : at + 1] == b"{" else "array", before + at), at + 1
    for pattern, kind in SCALARS:
        found = pattern.match(text, at)
        if found is None:
            continue
        said = _unescape(found[0]) if kind == "string" else found[0].decode()
        return Node(kind, before + at, before + found.end(), said), found.end()
    raise BadJsonError(f"expected a value at byte {at}")


def _unescape(quoted: bytes) -> str:
    word: str = json.loads(quoted)
    if any("\ud800" <= character <= "\udfff" for character in word):
        raise BadJsonError("half of a surrogate pair")
    return word

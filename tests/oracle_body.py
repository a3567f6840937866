"""How the oracle reads a body: its bounds, its documents, and the items that stand in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.oracle_decode import Item, items_of_object
from tests.oracle_json import BadJsonError, Document, Node, parse

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class Part:
    """A whole body or one of its lines: the bytes [start, end) of a document; it is None where they are none."""

    start: int
    end: int
    document: Document | None

    @classmethod
    def of(cls, body: bytes, start: int, end: int) -> Part:
        try:
            return cls(start, end, parse(body[start:end], start))
        except BadJsonError:
            return cls(start, end, None)

    def failure(self, depth: int) -> str | None:
        """Why no readings are looked for in it."""
        if self.document is None:
            return "bad_json"
        if self.document.depth > depth:
            return "too_deep"
        return None if self.is_container() else "wrong_type"

    def is_container(self) -> bool:
        """Whether it is an object or an array, of any depth."""
        return self.document is not None and self.document.root.kind in ("object", "array")

    def nodes(self) -> list[Node]:
        """The object, or the array's elements."""
        assert self.document is not None
        root = self.document.root
        return [root] if root.kind == "object" else root.elements


def parts_of(body: bytes) -> list[Part]:
    """A body's documents: those of its lines if the first of several is an object or array by itself, else one.

    The body is UTF-8 and not blank; blank lines do not count.
    """
    lines: list[tuple[int, int]] = []
    start = 0
    for text in body.split(b"\n"):
        line = text.strip(b" \t\r")
        if line:
            first = start + len(text) - len(text.lstrip(b" \t\r"))
            lines.append((first, first + len(line)))
        start += len(text) + 1
    if len(lines) > 1 and Part.of(body, *lines[0]).is_container():
        return [Part.of(body, *line) for line in lines]
    return [Part.of(body, 0, len(body))]


def items_of_body(
    body: bytes, payload: Mapping[str, Any], bounds: Mapping[str, int], properties: Mapping[str, str | None]
) -> list[Item]:
    """An envelope's readings and rejected readings in their order, or the one reason to reject it whole."""
    if len(body) > bounds["body_bytes"]:
        return [Item.envelope("too_large")]
    if not body.strip(b" \t\n\r"):
        return [Item.envelope("empty_body")]
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return [Item.envelope("bad_encoding")]
    parts = parts_of(body)
    items: list[Item] = []
    for part in parts:
        reason = part.failure(bounds["depth"])
        if reason is None:
            items += items_of_part(part, payload, properties)
        elif len(parts) == 1:
            return [Item.envelope(reason)]
        else:
            items.append(Item(Node("line", part.start, part.end), failures={(reason, reason)}))
    if len(items) > bounds["readings_per_envelope"]:
        return [Item.envelope("too_many_readings")]
    return items


def items_of_part(part: Part, payload: Mapping[str, Any], properties: Mapping[str, str | None]) -> list[Item]:
    """What stands in a sound document."""
    items: list[Item] = []
    for node in part.nodes():
        if node.kind == "object":
            items += items_of_object(node, payload, properties)
        else:
            items.append(Item(node, failures={("wrong_type", "wrong_type")}))
    return items

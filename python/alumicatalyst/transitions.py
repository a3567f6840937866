"""What the transitions of a range come to: one digest, made alike of the lake's rows and of the API's.

Identities alone would not do: a process that died ahead of its commit may have posted, under another dictionary, the
same steps of the same alarms with other contents.
"""

from __future__ import annotations

import hashlib
import json
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

FIELDS: Final = (
    "alarm_id",
    "step",
    "sequence_number",
    "item",
    "transition",
    "device",
    "metric",
    "asset",
    "alarm_rule",
    "priority",
    "onset_time",
    "event_time",
    "value",
    "threshold",
    "peak",
    "score",
    "message",
)
"""What of a transition is compared, in this order; times in microseconds since 1970."""


class Digest:
    """SHA-256 over transitions in the order of alarm_id and step.

    Attributes:
        number: How many there were.
    """

    def __init__(self) -> None:
        self.number = 0
        self._hash = hashlib.sha256()

    def add(self, rows: Iterable[Iterable[Any]]) -> None:
        """Take further transitions, each the values of FIELDS."""
        lines = [json.dumps([_written(value) for value in row]) + "\n" for row in rows]
        self.number += len(lines)
        self._hash.update("".join(lines).encode())

    def hexdigest(self) -> str:
        """Return the digest of those so far."""
        return self._hash.hexdigest()


def storable(text: str) -> str:
    """Return a text that any database can hold: PostgreSQL takes no NUL, and none takes half a surrogate pair."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def digest(batches: Iterable[pa.RecordBatch]) -> tuple[int, str]:
    """Return the number and the digest of the transitions of a commit, as the core made them."""
    import pyarrow as pa

    rows: list[Mapping[str, Any]] = []
    for batch in batches:
        table = pa.Table.from_batches([batch]).select(FIELDS)
        for name in ("onset_time", "event_time"):
            table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.int64()))
        rows += table.to_pylist()
    result = Digest()
    result.add([row[name] for name in FIELDS] for row in sorted(rows, key=itemgetter("alarm_id", "step")))
    return result.number, result.hexdigest()


def _written(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    # Some databases do not tell -0.0 from 0.0.
    return value + 0.0 if isinstance(value, float) else value

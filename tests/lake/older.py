"""Stands for a version of this software whose windows have no `score_max`: what it stores, this version has to take."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from alumicatalyst import _core
from alumicatalyst.lake import tables
from alumicatalyst.ledger import leaf, merkle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TABLE = "windows"
LATER = "score_max"
LEAF_SCHEMA = _core.leaf_schema(TABLE).replace(f"{LATER} f64r\n", "")


@contextmanager
def version() -> Iterator[None]:
    """Run as the older version does."""
    stored, file_rows = tables.schema, _core.file_rows

    def schema(name: str) -> pa.Schema:
        found = stored(name)
        return found if name != TABLE else pa.schema([field for field in found if field.name != LATER])

    def lesser_rows(name: str, batches: Sequence[pa.RecordBatch], batch: bytes) -> tuple[pa.RecordBatch, bytes]:
        found, root = file_rows(name, batches, batch)
        if name != TABLE:
            return found, root
        found = found.drop_columns([LATER])
        rows: list[dict[str, Any]] = found.to_pylist()
        firsts = range(0, len(rows), leaf.ROWS_MAX)
        leaves = [leaf.encode(LEAF_SCHEMA, rows[at : at + leaf.ROWS_MAX], batch, at) for at in firsts]
        return found, merkle.root([merkle.leaf_hash(each) for each in leaves])

    def leaf_schema_sha256(name: str) -> str:
        return leaf.schema_id(LEAF_SCHEMA if name == TABLE else _core.leaf_schema(name)).hex()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "schema", schema)
        patch.setattr(_core, "file_rows", lesser_rows)
        patch.setattr("alumicatalyst.lake.commit.leaf_schema_sha256", leaf_schema_sha256)
        yield

"""Makes proof files: that a commit is in the log, and that a row is in a commit, wherever its file has gone since."""

from __future__ import annotations

import hashlib
import shlex
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.errors import InputError, LedgerError
from alumicatalyst.lake import schemas, seen, tables
from alumicatalyst.lake.fault import reported
from alumicatalyst.ledger import delta, entry, entry_build, evidence, merkle, proof, rows
from alumicatalyst.ledger.commits import Commits
from alumicatalyst.ledger.entry import LEAF_ROWS, Rows, Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from alumicatalyst.lake import Lake
    from alumicatalyst.ledger.entry import Entry
    from alumicatalyst.ledger.log import LogReader
    from alumicatalyst.ledger.note import VerifierKey

SHOWN_MAX: Final = 5
"""Rows that are listed where several match."""


def prove_commit(log: LogReader, vkey: VerifierKey, named: str) -> bytes:
    """Return a proof that a commit is in the log.

    Args:
        log: The log.
        vkey: Its verifier key.
        named: The commit, as `readings@17`.

    Raises:
        InputError: That is no commit's name, or the ledger has no such commit.
        LedgerError: The log cannot be read, or is not signed by the key.
    """
    table, at, version = named.partition("@")
    if table not in tables.SPECS or not at or not (version.isascii() and version.isdigit()):
        raise InputError(f"couldn't prove {named!r}: it is no commit; name table and version, as in readings@17")
    begin = f"{entry.HEADER}\ntable {table}\n".encode()
    for index, data in enumerate(log.entries(0, log.size)):
        if data.startswith(begin) and entry.parse(data).version == int(version):
            return _written(log, vkey, index, evidence.Evidence(data))
    raise InputError(
        f"couldn't prove {named}: the ledger has no entry of it; see `alumicatalyst ledger log`, and whether "
        "`ledger run` is at work"
    )


def prove_row(lake: Lake, log: LogReader, vkey: VerifierKey, asked: str) -> bytes:
    """Return a proof of one row.

    Args:
        lake: The lake.
        log: The log.
        vkey: Its verifier key.
        asked: Table and column values that only this row has, as in
            `readings device=pot-001 metric=cell_voltage event_time=2026-11-21T10:00:00Z`.

    Raises:
        InputError: The question cannot be understood, or not exactly one row answers it.
        LedgerError: The row is newer than the ledger, or the stored rows are not those that were signed.
        LakeError: The lake cannot be read.
    """
    from alumicatalyst.lake.query import connect

    table, wanted = _asked(asked)
    with reported("read the lake"):
        contents = {table: seen.look(lake.table(table))}
        with connect(lake, contents) as connection:
            batch, number = _find(connection, table, wanted)
            found = _batch_rows(connection, table, batch)
    index, data, line, others = _entry_of(lake, log, table, batch)
    leaf_bytes, path, schema = _leaf(table, found, line, number, entry.parse(data).schema)
    place = None if others is None else (line.line(), _path_to(line, others))
    told = evidence.RowEvidence(schema, leaf_bytes, path, number % LEAF_ROWS, place)
    return _written(log, vkey, index, evidence.Evidence(data, told))


def _written(log: LogReader, vkey: VerifierKey, index: int, told: evidence.Evidence) -> bytes:
    note = log.checkpoint_note()
    if note is None:
        raise LedgerError("couldn't prove anything: the ledger has no checkpoint yet; start `alumicatalyst ledger run`")
    hashes = merkle.inclusion(index, log.size, log.range_hash)
    made = proof.write(index, hashes, note, told.data()).encode()
    evidence.verify(made, vkey)
    return made


def _asked(asked: str) -> tuple[str, dict[str, str]]:
    try:
        table, *conditions = shlex.split(asked)
    except ValueError:
        table, conditions = "", []
    pairs = [each.partition("=") for each in conditions]
    columns = tables.schema(table).names if table in tables.SPECS else []
    if not pairs or any(not equals or column not in columns for column, equals, _ in pairs):
        known = f"; its columns are {', '.join(columns)}" if columns else f"; tables are {', '.join(tables.SPECS)}"
        raise InputError(
            f"couldn't understand the row {asked!r}: name a table and values, as in readings device=pot-001 "
            f"metric=cell_voltage event_time=2026-11-21T10:00:00Z{known}"
        )
    wanted = {column: value for column, _, value in pairs}
    if len(wanted) != len(pairs):
        raise InputError(f"couldn't understand the row {asked!r}: it names a column twice; name each once")
    return table, wanted


def _find(connection: DuckDBPyConnection, table: str, wanted: dict[str, str]) -> tuple[bytes, int]:
    """Return batch and number of the one row that answers."""
    import duckdb

    types = {field.name: _sql_type(field.type) for field in tables.schema(table)}
    where = " AND ".join(f'"{column}" = CAST(? AS {types[column]})' for column in wanted)
    shown = [name for name in tables.schema(table).names if not name.startswith("_")][:10]
    columns = ", ".join(f'"{name}"' for name in (*shown, rows.BATCH, rows.ROW))
    try:
        found = connection.sql(
            f'SELECT {columns} FROM "{table}" WHERE {where} ORDER BY ALL LIMIT {SHOWN_MAX + 1}',  # noqa: S608 own names
            params=list(wanted.values()),
        )
        # By Arrow: DuckDB's own rows need another package for times with a zone.
        answers: list[dict[str, Any]] = found.to_arrow_table().to_pylist()
    except duckdb.ConversionException as error:
        raise InputError(f"couldn't understand a value: {str(error).partition(chr(10))[0]}; correct it") from None
    if len(answers) == 1:
        batch, number = answers[0][rows.BATCH], answers[0][rows.ROW]
        if batch is None or number is None:
            raise LedgerError("couldn't prove the row: it does not say where it was first written; verify the lake")
        return bytes(batch), int(number)
    if not answers:
        raise InputError(
            "couldn't prove a row: none has these values; times are in UTC, see `alumicatalyst lake query`"
        )
    listed = "".join(
        "\n  " + " ".join(f"{name}={_told(each[name])}" for name in shown if each[name] is not None)
        for each in answers[:SHOWN_MAX]
    )
    count = f"more than {SHOWN_MAX}" if len(answers) > SHOWN_MAX else str(len(answers))
    raise InputError(f"couldn't prove one row: {count} have these values; name more columns to tell them apart{listed}")


def _batch_rows(connection: DuckDBPyConnection, table: str, batch: bytes) -> pa.Table:
    """Return all rows of a batch in their order, from whichever files hold them."""
    columns = ", ".join(f'"{name}"' for name in (*rows.names(table), rows.BATCH, rows.ROW))
    query = f'SELECT {columns} FROM "{table}" WHERE {rows.BATCH} = ? ORDER BY {rows.ROW}'  # noqa: S608 own names
    return rows.normal(table, connection.sql(query, params=[batch]).to_arrow_table())


def _entry_of(lake: Lake, log: LogReader, table: str, batch: bytes) -> tuple[int, bytes, Rows, list[Rows] | None]:
    """Return index and bytes of the entry of a batch, its line, and all lines if a tree stands for them."""
    begin, named = f"{entry.HEADER}\ntable {table}\n".encode(), batch.hex().encode()
    trees: list[tuple[int, bytes, Entry]] = []
    for index, data in enumerate(log.entries(0, log.size)):
        if not data.startswith(begin):
            continue
        if b"\nrows-tree " in data:
            trees.append((index, data, entry.parse(data)))
        elif named in data:
            found = entry.parse(data).rows
            for each in found if not isinstance(found, Tree) else ():
                if each.batch == batch:
                    return index, data, each, None
    lost = []
    for index, data, found_entry in trees:
        lines = _lines_of(lake, found_entry)
        lost += [] if lines else [found_entry.name]
        for each in lines:
            if each.batch == batch:
                return index, data, each, lines
    if lost:
        raise LedgerError(
            "couldn't prove the row: no entry names its batch, and of some only the commit file could tell, which is "
            f"gone or changed: {', '.join(lost[:SHOWN_MAX])}; restore it"
        )
    raise LedgerError(
        "couldn't prove the row: the ledger has no entry of it yet; it is newer than the ledger, wait for `ledger run` "
        "or start it"
    )


def _lines_of(lake: Lake, found: Entry) -> list[Rows]:
    """Return the lines that an entry's tree stands for, made again from its commit; none if that is gone or changed."""
    data = Commits(lake.store, found.table).get(found.version)
    if data is None:
        return []
    if hashlib.sha256(data).digest() != found.commit_sha256:
        return []
    commit = delta.parse(data, found.name)
    digests = dict.fromkeys(commit.adds)
    _, lines = entry_build.build(found.table, found.table_id, found.version, commit, digests)
    return sorted((each for each in lines if isinstance(each, Rows)), key=entry.order)


def _path_to(line: Rows, lines: list[Rows]) -> evidence.Path:
    return _path_in([merkle.leaf_hash(each.line().encode()) for each in lines], lines.index(line))


def _path_in(hashes: Sequence[bytes], at: int) -> evidence.Path:
    """Return the way from a leaf to the root over all leaves' hashes."""
    path = merkle.inclusion(at, len(hashes), lambda lo, hi: merkle.root(hashes[lo:hi]))
    return evidence.Path(at, len(hashes), tuple(path))


def _leaf(
    table: str, found: pa.Table, line: Rows, number: int, schema_sha256: bytes | None
) -> tuple[bytes, evidence.Path, str]:
    """Return a row's leaf, its way to the batch's root, and the schema text."""
    schema = schemas.leaf_schema(table, schema_sha256)
    if schema is None:
        raise LedgerError(
            "couldn't prove the row: it was digested by a schema that this version does not know; use the version that "
            "wrote it, or a newer one"
        )
    try:
        hashes = rows.hashes(table, found, line.batch, schema)
        if found.num_rows != line.rows or merkle.root(hashes) != line.root:
            raise ValueError(f"the {found.num_rows} stored rows of its batch are not the {line.rows} that were signed")
        at = number // LEAF_ROWS
        data = rows.row_leaf(table, found.slice(at * LEAF_ROWS, LEAF_ROWS), line.batch, at * LEAF_ROWS, schema)
    except ValueError as error:
        raise LedgerError(
            f"couldn't prove the row: {error}; `alumicatalyst ledger verify` says what is wrong"
        ) from error
    return data, _path_in(hashes, at), schema


def _sql_type(kind: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    known = {
        pa.timestamp("us", "UTC"): "TIMESTAMPTZ",
        pa.float64(): "DOUBLE",
        pa.float32(): "FLOAT",
        pa.bool_(): "BOOLEAN",
        pa.binary(): "BLOB",
        pa.date32(): "DATE",
    }
    return known.get(kind, "BIGINT" if pa.types.is_integer(kind) else "VARCHAR")


def _told(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)

"""Proofs of rows and commits: made from wherever rows are, verified with a public key alone, and not malleable."""

from __future__ import annotations

import random
import shutil
from datetime import UTC
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from deltalake import write_deltalake

from alumicatalyst import _core
from alumicatalyst.errors import InputError, LedgerError
from alumicatalyst.lake import Lake, tables
from alumicatalyst.ledger import entry as entries
from alumicatalyst.ledger import evidence, leaf, proof, prove, rows
from alumicatalyst.ledger.log import LogWriter
from alumicatalyst.ledger.note import SigningKey
from alumicatalyst.ledger.text import encode_base64

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ledger.site import Site

pytestmark = pytest.mark.timeout(240)


def question(table: str, row: dict[str, Any]) -> str:
    keys = {
        "readings": ("partition", "sequence_number", "item"),
        "windows": ("partition", "device", "metric", "window_name", "window_start"),
        "alarms": ("alarm_id", "step"),
        "rejected": ("partition", "sequence_number", "item", "detail", "event_time"),
        "batches": ("partition", "last_sequence"),
        "journal": ("partition", "ordinal"),
    }
    return " ".join([table, *(f"{name}={told(row[name])!r}" for name in keys[table] if row[name] is not None)])


def told(value: Any) -> str:
    return value.astimezone(UTC).isoformat() if hasattr(value, "astimezone") else str(value)


def proven(site: Site, asked: str) -> bytes:
    return prove.prove_row(
        Lake.open(f"file:{site.lake}", create=False), site.reader(), site.place.verifier_key(), asked
    )


def shown(value: Any) -> Any:
    return 0.0 if value == 0 and isinstance(value, float) else value


@pytest.mark.parametrize("table", tables.SPECS)
def test_any_row_of_any_table_is_proven_and_read_from_its_leaf(table: str, signed: Site) -> None:
    stored = pl.read_delta(str(signed.lake / table))
    row = stored.row(stored.height // 2, named=True)
    found = evidence.verify(proven(signed, question(table, row)), signed.place.verifier_key())
    assert found.entry.table == table
    assert found.number == row["_row"]
    assert found.batch is not None
    assert found.batch.batch == row["_batch"]
    assert found.row == {name: shown(row[name]) for name in rows.names(table)}


def test_a_row_is_proven_after_its_file_is_gone(site: Site) -> None:
    stored = pl.read_delta(str(site.lake / "readings"))
    asked = [question("readings", stored.row(at, named=True)) for at in range(0, stored.height, 97)]
    before = [evidence.verify(proven(site, each), site.place.verifier_key()) for each in asked]
    for _ in range(2):
        handle = site.delta("readings")
        handle.optimize.z_order(["value"])
        handle.vacuum(0, enforce_retention_duration=False, dry_run=False)
        after = [evidence.verify(proven(site, each), site.place.verifier_key()) for each in asked]
        assert [each.row for each in after] == [each.row for each in before]
        assert [each.entry for each in after] == [each.entry for each in before]
        site.sign()


def test_a_commit_is_proven(signed: Site) -> None:
    vkey = signed.place.verifier_key()
    found = evidence.verify(prove.prove_commit(signed.reader(), vkey, "batches@3"), vkey)
    assert (found.entry.name, found.row) == ("batches@3", None)
    assert found.checkpoint.size == signed.reader().size
    for named in ("batches", "batches@x", "nothing@1", "batches@-1", "batches@999999"):
        with pytest.raises(InputError, match="couldn't prove"):
            prove.prove_commit(signed.reader(), vkey, named)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("readings device=nobody", "none has these values"),
        ("readings quality=192", r"more than 5 have these values; name more columns.*(\n  date=.*){5}$"),
        ("readings nothing=1", "its columns are date, partition"),
        ("nothing device=1", "tables are readings, windows"),
        ("readings", "name a table and values"),
        ("readings device='", "name a table and values"),
        ("readings value=high", "couldn't understand a value"),
        ("readings device=pot-1 device=pot-2", "names a column twice"),
    ],
)
def test_a_question_that_no_one_row_answers_is_refused(asked: str, answer: str, signed: Site) -> None:
    with pytest.raises(InputError, match=answer):
        proven(signed, asked)


def test_a_row_that_is_newer_than_the_ledger_or_was_changed_is_not_proven(site: Site, tmp_path: Path) -> None:
    stored = pl.read_delta(str(site.lake / "readings"))
    # Some values are so large that one more is the same number.
    row = stored.filter(pl.col("value") + 1 != pl.col("value")).row(0, named=True)
    # The same lake without its last entries.
    other = type(site)(tmp_path / "other")
    other.folder.mkdir()
    (other.folder / "lake").symlink_to(site.lake)
    batches = pl.read_delta(str(site.lake / "batches"))
    empty = other.place
    SigningKey.create(empty.key, empty.origin)
    with LogWriter(empty.folder, empty.signing_key(), empty.kept):
        pass
    with pytest.raises(LedgerError, match="it is newer than the ledger"):
        proven(other, question("batches", batches.row(0, named=True)))
    here = (pl.col("_batch") == row["_batch"]) & (pl.col("_row") == row["_row"])
    changed = stored.with_columns(value=pl.when(here).then(pl.col("value") + 1).otherwise("value"))
    write_deltalake(site.delta("readings"), changed.to_arrow(), mode="overwrite")
    with pytest.raises(LedgerError, match=r"are not the \d+ that were signed"):
        proven(site, question("readings", row))


def test_lines_that_a_tree_stands_for_are_proven_through_the_tree(
    signed: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "KIND_BYTES_MAX", 100)
    site = type(signed)(tmp_path / "trees")
    shutil.copytree(signed.lake, site.lake)
    site.sign()
    report = site.verify()
    assert report.is_ok(strict=True), report.wrong.first
    # A row of long before: a table whose newest commit is gone is as it was before that one.
    stored = pl.read_delta(str(site.lake / "readings")).sort("sequence_number", "item")
    found = evidence.verify(proven(site, question("readings", stored.row(5, named=True))), site.place.verifier_key())
    assert isinstance(found.entry.rows, entries.Tree)
    assert found.row is not None
    site.delta("readings").create_checkpoint()
    (site.lake / "readings" / "_delta_log" / f"{found.entry.version:020d}.json").rename(tmp_path / "gone")
    with pytest.raises(LedgerError, match=f"of some only the commit file could tell.*{found.entry.name}"):
        proven(site, question("readings", stored.row(5, named=True)))


# ---------------------------------------------------------------------- what can be done to a proof


@pytest.fixture(scope="module")
def one(signed: Site) -> bytes:
    stored = pl.read_delta(str(signed.lake / "readings"))
    return proven(signed, question("readings", stored.row(7, named=True)))


def test_i9_a_change_of_any_byte_of_a_proof_is_refused_or_changes_nothing_that_is_shown(
    one: bytes, signed: Site
) -> None:
    vkey = signed.place.verifier_key()
    right = evidence.verify(one, vkey)
    rng = random.Random(3)
    changes = [(at, one[at] ^ 1 << rng.randrange(8)) for at in range(0, len(one), 3)]
    changes += [(rng.randrange(len(one)), rng.randrange(256)) for _ in range(300)]
    for at, byte in changes:
        made = bytearray(one)
        made[at] = byte
        try:
            found = evidence.verify(bytes(made), vkey)
        except LedgerError:
            continue
        assert found == right, at
    for cut in range(0, len(one), 41):
        for torn in (one[:cut], one[:cut] + one[cut + 5 :], one[:cut] + b"A" + one[cut:]):
            with pytest.raises(LedgerError):
                evidence.verify(torn, vkey)


def parts(one: bytes) -> tuple[proof.Proof, evidence.Evidence]:
    parsed = proof.Proof.parse(one)
    assert parsed.extra is not None
    return parsed, evidence.Evidence.parse(parsed.extra)


def written(parsed: proof.Proof, told: evidence.Evidence) -> bytes:
    return proof.write(parsed.index, parsed.hashes, parsed.note, told.data()).encode()


def test_a_forged_row_is_refused_however_it_is_brought_in(one: bytes, signed: Site) -> None:
    vkey = signed.place.verifier_key()
    parsed, told = parts(one)
    assert told.row is not None
    way = told.row
    read = leaf.decode(way.schema, way.leaf)
    forged_rows = [row | {"value": 99.5} for row in read.rows]
    forged_leaf = leaf.encode(way.schema, forged_rows, read.batch, read.first)
    fewer = leaf.encode(way.schema, read.rows[:-1], read.batch, read.first)
    renamed = way.schema.replace("value f64", "wert f64")
    renamed_leaf = leaf.encode(renamed, [row | {"wert": 1.0} for row in read.rows], read.batch, read.first)
    elsewhere = leaf.encode(way.schema, read.rows, bytes(16), read.first)
    later = leaf.encode(way.schema, read.rows, read.batch, read.first + 64)
    other_size = evidence.Path(way.path.index, way.path.size + 1, way.path.hashes)
    for each in (
        evidence.RowEvidence(way.schema, forged_leaf, way.path, way.row),
        evidence.RowEvidence(way.schema, fewer, way.path, 0),
        evidence.RowEvidence(renamed, renamed_leaf, way.path, way.row),
        evidence.RowEvidence(way.schema, elsewhere, way.path, way.row),
        evidence.RowEvidence(way.schema, later, way.path, way.row),
        evidence.RowEvidence(way.schema, way.leaf, other_size, way.row),
        evidence.RowEvidence(way.schema, way.leaf, way.path, len(read.rows)),
        evidence.RowEvidence(way.schema, way.leaf, way.path, way.row, ("add x 1 -", evidence.Path(0, 1, ()))),
    ):
        with pytest.raises(LedgerError, match="couldn't"):
            evidence.verify(written(parsed, evidence.Evidence(told.entry, each)), vkey)
    # Another row of the leaf is another proof, and a true one.
    number = (way.row + 1) % len(read.rows)
    other = evidence.RowEvidence(way.schema, way.leaf, way.path, number)
    assert evidence.verify(written(parsed, evidence.Evidence(told.entry, other)), vkey).row == read.rows[number]


def test_a_proof_of_another_entry_key_or_without_extra_is_refused(one: bytes, signed: Site, tmp_path: Path) -> None:
    vkey = signed.place.verifier_key()
    parsed, told = parts(one)
    another = signed.reader().entry((parsed.index + 1) % signed.reader().size)
    with pytest.raises(LedgerError, match="couldn't accept the proof"):
        evidence.verify(written(parsed, evidence.Evidence(another, told.row)), vkey)
    with pytest.raises(LedgerError, match="does not say what it proves"):
        evidence.verify(proof.write(parsed.index, parsed.hashes, parsed.note).encode(), vkey)
    stranger = SigningKey.create(tmp_path / "stranger", vkey.name)
    with pytest.raises(LedgerError, match="not signed by"):
        evidence.verify(one, stranger.verifier)


@pytest.mark.parametrize(
    "extra",
    [
        b"",
        b"\xff",
        b"alumicatalyst/proof\n",
        b"alumicatalyst/proof\nentry !\n",
        b"alumicatalyst/proof\nentry AA==\nentry AA==\n",
        b"alumicatalyst/proof\nentry AA==\nleaf AA==\n",
        b"alumicatalyst/proof\nentry AA==\nleaf AA==\nschema /w==\nrow 1\n",
        b"alumicatalyst/proof\nentry AA==\nleaf AA==\nschema AA==\nrow 1\nleaf-index 1\n",
        b"alumicatalyst/proof\nentry AA==\ncheck AA==\n",
    ],
)
def test_i9_bytes_that_are_no_evidence_are_refused(extra: bytes) -> None:
    with pytest.raises(LedgerError, match="couldn't"):
        evidence.Evidence.parse(extra)


def test_the_core_and_plain_python_write_the_same_leaves(signed: Site) -> None:
    for table in tables.SPECS:
        schema = _core.leaf_schema(table)
        for data in signed.reader().entries(0, signed.reader().size):
            found = entries.parse(data)
            if found.table != table or isinstance(found.rows, entries.Tree):
                continue
            for line in found.rows:
                stored = rows.read(table, (signed.lake / table / line.path).read_bytes())
                batch = rows.whole(stored.select(rows.names(table)))
                for first in range(0, stored.num_rows, 64):
                    part = batch.slice(first, 64)
                    made = leaf.encode(schema, part.to_pylist(), line.batch, first)
                    assert made == _core.row_leaf(table, part, line.batch, first), encode_base64(made)

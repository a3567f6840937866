"""Proof files: C2SP's format to the letter, one known answer, and no change that is let through."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import merkle, proof
from alumicatalyst.ledger.note import SigningKey
from alumicatalyst.ledger.proof import Proof
from tests.ledger.ground import Ground, damaged, numbered, value_or_error

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 257
KNOWN_ROOT = "5c1fdfe835358022f2392de478dbe053fc130cfe1d3a082879a90cf6bf14bf7e"
KNOWN_HASH = "2mWW2VNp9f7zIquOTg2jsLUCNqqcijsdJG90Ecni4y4="


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    made = Ground(tmp_path_factory.mktemp("proofs"))
    made.grow(numbered(0, SIZE))
    return made


def prove(ground: Ground, index: int, extra: bytes | None = None) -> str:
    reader = ground.reader()
    note = reader.checkpoint_note()
    assert note is not None
    return proof.write(index, merkle.inclusion(index, reader.size, reader.range_hash), note, extra)


def test_the_known_answer(ground: Ground) -> None:
    text = prove(ground, 256)
    assert text.startswith(f"c2sp.org/tlog-proof@v1\nindex 256\n{KNOWN_HASH}\n\nexample.com/plant\n257\n")
    assert proof.verify(Proof.parse(text), b"entry 256", ground.key.verifier).root.hex() == KNOWN_ROOT


@pytest.mark.parametrize("extra", [None, b"", b"any bytes \x00\xff"])
def test_i7_every_entry_is_proven_by_its_file(ground: Ground, extra: bytes | None) -> None:
    for index, entry in enumerate(numbered(0, SIZE)):
        read = Proof.parse(prove(ground, index, extra).encode())
        assert (read.index, read.extra) == (index, extra)
        assert proof.write(read.index, read.hashes, read.note, read.extra) == prove(ground, index, extra)
        assert proof.verify(read, entry, ground.key.verifier).size == SIZE


def test_i7_every_change_of_a_bit_of_a_proof_is_refused(ground: Ground) -> None:
    for index in (0, 100, 256):
        for other in damaged(prove(ground, index).encode()):
            with pytest.raises(LedgerError):
                proof.verify(Proof.parse(other), b"entry %d" % index, ground.key.verifier)


def test_i7_another_entry_place_log_or_key_is_refused(ground: Ground, tmp_path: Path) -> None:
    read = Proof.parse(prove(ground, 7))
    for other in (b"entry 8", b"entry 7 ", b"", b"entry 7" + bytes(65_536)):
        with pytest.raises(LedgerError):
            proof.verify(read, other, ground.key.verifier)
    stranger = SigningKey.create(tmp_path / "key", "example.com/plant")
    with pytest.raises(LedgerError, match="not signed by"):
        proof.verify(read, b"entry 7", stranger.verifier)
    # A checkpoint that the right key signed, for a log of another name.
    checkpoint = ground.checkpoint().text().replace("example.com/plant", "example.com/other", 1)
    renamed = Proof(7, read.hashes, ground.key.sign(checkpoint), None)
    with pytest.raises(LedgerError, match=r"of the log 'example\.com/other'"):
        proof.verify(renamed, b"entry 7", ground.key.verifier)


def test_i7_a_proof_is_of_the_size_that_is_signed(ground: Ground, tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.grow(numbered(0, 3))
    before = Proof.parse(prove(ground, 0))
    ground.grow(numbered(3, 4))
    note = ground.reader().checkpoint_note()
    assert note is not None
    with pytest.raises(LedgerError, match="does not lead to the signed root"):
        proof.verify(Proof(0, before.hashes, note, None), b"entry 0", ground.key.verifier)


@pytest.mark.parametrize(
    ("find", "replace"),
    [
        (r"@v1", "@v2"),
        (r"\A", "\n"),
        (r"index 7\n", ""),
        (r"index 7\n", "index 7 \n"),
        (r"index 7", "index 07"),
        (r"index 7", "index -7"),
        (r"index 7", "index 9223372036854775808"),
        (r"index 7", "index \uff17"),
        (r"index 7", "extra\nindex 7"),
        (r"index 7", "extra AA\nindex 7"),
        (r"index 7", "extra AA==\nextra AA==\nindex 7"),
        (r"index 7", "extra AB==\nindex 7"),
        (r"(index 7)\n", r"\1\nAAAA\n"),
        (r"(index 7)\n", r"\1\n\n"),
        (r"(index 7)\n", r"\1\r\n"),
        (r"(index 7)\n", r"\1\n" + f"{KNOWN_HASH}\n" * 60),
        (r"(index 7)\n", r"\1\n" + f"{KNOWN_HASH}\n"),
        (r"\n\n[^\x00]*", "\n"),
        (r"\n\n[^\x00]*", "\n\n"),
    ],
)
def test_what_is_no_proof_is_refused(ground: Ground, find: str, replace: str) -> None:
    text = re.sub(find, replace, prove(ground, 7), count=1)
    assert text != prove(ground, 7)
    with pytest.raises(LedgerError):
        proof.verify(Proof.parse(text), b"entry 7", ground.key.verifier)


def test_i6_a_proof_of_more_than_four_mebibytes_is_refused(ground: Ground) -> None:
    with pytest.raises(LedgerError, match="more than 4194304"):
        Proof.parse(prove(ground, 7, bytes(3 << 20)))
    assert Proof.parse(prove(ground, 7, bytes(3_000_000))).extra == bytes(3_000_000)


@given(st.binary() | st.text())
def test_i9_any_bytes_are_a_proof_or_an_error(data: bytes | str) -> None:
    text = data if isinstance(data, str) else data.decode("latin-1")
    for each in (data, f"{proof.HEADER}\n{text}\n\n{text}", f"{proof.HEADER}\nindex 1\n{text}\n\n{text}"):
        value_or_error(lambda: Proof.parse(each))  # noqa: B023 - called at once

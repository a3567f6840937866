"""The tree, and its proofs, against RFC 6962's own definition and its known answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import merkle
from tests.ledger.ground import damaged, oracle, oracle_leaf, value_or_error

INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
GROWN_6_TO_8 = [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]
LEAVES = [oracle_leaf(b"%d" % number) for number in range(300)]
RANGE_HASH = oracle(LEAVES)


def known() -> list[bytes]:
    return [merkle.leaf_hash(bytes.fromhex(each)) for each in INPUTS]


def test_the_known_answers_of_rfc_6962() -> None:
    leaves = known()
    assert [merkle.root(leaves[:size]).hex() for size in range(1, 9)] == ROOTS
    assert merkle.root([]) == merkle.EMPTY_ROOT == RANGE_HASH(0, 0)
    assert [each.hex() for each in merkle.consistency(6, 8, oracle(leaves))] == GROWN_6_TO_8


def test_the_root_is_the_recursive_definitions_at_every_size() -> None:
    for size in range(len(LEAVES) + 1):
        assert merkle.root(LEAVES[:size]) == RANGE_HASH(0, size)


def test_i7_every_entry_of_every_size_is_proven() -> None:
    for size in range(1, len(LEAVES) + 1):
        for index in range(size):
            proof = merkle.inclusion(index, size, RANGE_HASH)
            assert merkle.root_from_inclusion(index, size, LEAVES[index], proof) == RANGE_HASH(0, size)


def test_i7_every_growth_between_two_sizes_is_proven() -> None:
    for n in range(len(LEAVES) + 1):
        for m in range(n + 1):
            proof = merkle.consistency(m, n, RANGE_HASH)
            merkle.check_consistency(m, n, RANGE_HASH(0, m), RANGE_HASH(0, n), proof)


@given(st.data())
def test_i7_a_proof_of_another_entry_place_or_bit_leads_elsewhere(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, len(LEAVES)), "size")
    index = data.draw(st.integers(0, size - 1), "index")
    proof = merkle.inclusion(index, size, RANGE_HASH)

    def leads_to(place: int, leaf: bytes, hashes: list[bytes]) -> bytes | None:
        try:
            return merkle.root_from_inclusion(place, size, leaf, hashes)
        except LedgerError:
            return None

    for place in range(size):
        if place != index:
            assert leads_to(place, LEAVES[index], proof) != RANGE_HASH(0, size)
            assert leads_to(index, LEAVES[place], proof) != RANGE_HASH(0, size)
    at = data.draw(st.integers(0, len(proof) - 1), "hash")
    for other in damaged(proof[at]):
        assert leads_to(index, LEAVES[index], [*proof[:at], other, *proof[at + 1 :]]) != RANGE_HASH(0, size)
    for other_length in ([*proof[:at], *proof[at + 1 :]], [*proof[:at], proof[at], *proof[at:]], [*proof, b"\0" * 32]):
        assert leads_to(index, LEAVES[index], other_length) != RANGE_HASH(0, size)


@given(st.data())
def test_i7_a_growth_with_another_size_root_or_bit_is_refused(data: st.DataObject) -> None:
    n = data.draw(st.integers(2, len(LEAVES)), "new size")
    m = data.draw(st.integers(1, n - 1), "old size")
    proof = merkle.consistency(m, n, RANGE_HASH)
    at = data.draw(st.integers(0, len(proof) - 1), "hash")
    old, new = RANGE_HASH(0, m), RANGE_HASH(0, n)

    def refused(m: int, n: int, old: bytes, new: bytes, proof: list[bytes]) -> None:
        with pytest.raises(LedgerError, match="couldn't accept that the log grew"):
            merkle.check_consistency(m, n, old, new, proof)

    for size in range(n + 1):
        if size != m:
            refused(size, n, old, new, proof)
            refused(m, n, RANGE_HASH(0, size), new, proof)
    for other in damaged(proof[at]):
        refused(m, n, old, new, [*proof[:at], other, *proof[at + 1 :]])
    for other in damaged(old):
        refused(m, n, other, new, proof)
    for other in damaged(new):
        refused(m, n, old, other, proof)
    refused(m, n, old, new, [*proof[:at], *proof[at + 1 :]])
    refused(m, n, old, new, [*proof, proof[at]])


def test_i7_the_same_size_with_another_root_is_no_growth() -> None:
    merkle.check_consistency(5, 5, LEAVES[0], LEAVES[0], [])
    for old, new, proof in ((LEAVES[0], LEAVES[1], []), (LEAVES[0], LEAVES[0], [LEAVES[0]])):
        with pytest.raises(LedgerError):
            merkle.check_consistency(5, 5, old, new, proof)
    with pytest.raises(LedgerError):
        merkle.check_consistency(0, 5, LEAVES[0], LEAVES[1], [])


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0), (0, 2**63), (2**63, 2**63)])
def test_places_outside_of_a_log_are_refused(index: int, size: int) -> None:
    with pytest.raises(LedgerError):
        merkle.inclusion(index, size, RANGE_HASH)
    with pytest.raises(LedgerError):
        merkle.root_from_inclusion(index, size, LEAVES[0], [])


@pytest.mark.parametrize(("m", "n"), [(-1, 5), (6, 5), (1, 2**63)])
def test_sizes_that_no_log_has_are_refused(m: int, n: int) -> None:
    with pytest.raises(LedgerError):
        merkle.consistency(m, n, RANGE_HASH)
    with pytest.raises(LedgerError):
        merkle.check_consistency(m, n, LEAVES[0], LEAVES[1], [])


@given(st.integers(), st.integers(), st.binary(max_size=40), st.lists(st.binary(max_size=40), max_size=70))
def test_i9_any_proof_ends_in_a_root_or_an_error(index: int, size: int, leaf: bytes, proof: list[bytes]) -> None:
    for check in (
        lambda: merkle.root_from_inclusion(index, size, leaf, proof),
        lambda: merkle.check_consistency(index, size, leaf, leaf, proof),
    ):
        value_or_error(check)


def test_the_largest_tree_has_a_proof_of_63_hashes() -> None:
    proof = merkle.inclusion(0, merkle.SIZE_MAX, lambda lo, hi: LEAVES[(hi - lo).bit_length()])
    assert len(proof) == merkle.PROOF_HASHES_MAX
    assert len(merkle.root_from_inclusion(0, merkle.SIZE_MAX, LEAVES[0], proof)) == 32

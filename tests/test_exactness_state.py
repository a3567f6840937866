"""States from outside: whatever the bytes, a clear error and never a crash (I5, I9)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst._core import Dictionary, Partition, state_info
from alumicatalyst.errors import StateError
from tests.compare import feed
from tests.logs import seeded_log
from tests.plants import PLANTS

PARTITION = "test/1/0"
NARROW = Dictionary.from_json(json.dumps(PLANTS["narrow"]))
WIDE = Dictionary.from_json(json.dumps(PLANTS["wide"]))


def state() -> bytes:
    partition = Partition(PARTITION, NARROW)
    feed(partition, seeded_log(1, "narrow", 40))
    return partition.snapshot()


STATE = state()


def assert_refused(damaged: bytes) -> None:
    with pytest.raises(StateError):
        Partition(PARTITION, NARROW, damaged)
    with pytest.raises(StateError):
        state_info(damaged)


def test_i5_a_state_says_what_it_is():
    partition = Partition(PARTITION, NARROW, STATE)
    info = state_info(STATE)
    assert info["partition"] == PARTITION == partition.id
    assert info["last_sequence"] == partition.last_sequence
    assert info["journal_ordinal"] == partition.journal_ordinal == -1
    assert info["dictionary_sha256"] == NARROW.sha256
    assert info["format"]


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(STATE) * 8 - 1))
def test_i9_a_flipped_bit_is_found(bit):
    damaged = bytearray(STATE)
    damaged[bit // 8] ^= 1 << bit % 8
    assert_refused(bytes(damaged))


def test_i9_a_cut_state_is_refused_wherever_it_is_cut():
    for length in [*range(min(len(STATE), 300)), *range(300, len(STATE), 97), len(STATE) - 1]:
        assert_refused(STATE[:length])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_i9_arbitrary_bytes_are_no_state(noise, behind):
    assert_refused(STATE + noise + b"x" if behind else noise)


def test_the_state_of_another_partition_is_refused():
    with pytest.raises(StateError, match="test/1/0"):
        Partition("test/1/1", NARROW, STATE)


def test_a_state_under_another_dictionary_is_refused():
    with pytest.raises(StateError):
        Partition(PARTITION, WIDE, STATE)

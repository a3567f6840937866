"""An entry is a function of a commit file's bytes, reads back as itself only, and always fits a bundle."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import delta, entry, entry_build, merkle
from alumicatalyst.ledger.entry import Add, Entry, Tree
from alumicatalyst.ledger.text import encode_base64

DIGEST = hashlib.sha256(b"file").hexdigest()
ROOT = hashlib.sha256(b"root").hexdigest()
SCHEMA = hashlib.sha256(b"schema").digest()


def lines_of(*actions: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in actions)


def add(path: str, size: int = 10) -> dict[str, Any]:
    return {"add": {"path": path, "size": size, "partitionValues": {}, "modificationTime": 1, "dataChange": True}}


def named(path: str, size: int = 10, **more: Any) -> dict[str, Any]:
    return {"path": path, "sha256": DIGEST, "bytes": size, "rows": 3, "batch": "0f" * 16, "rows_root": ROOT} | more


def made(*actions: dict[str, Any], digests: dict[str, bytes | None] | None = None) -> Entry:
    commit = delta.parse(lines_of(*actions), "readings@3")
    return entry_build.build("readings", "the-id", 3, commit, digests or {})[0]


def info(**fields: Any) -> dict[str, Any]:
    return {"commitInfo": {"operation": "WRITE", "leaf_schema": SCHEMA.hex(), **fields}}


def test_an_entry_says_what_the_commit_says_in_one_order() -> None:
    found = made(
        add("z.parquet"),
        add("a%20b.parquet", 11),
        {"remove": {"path": "old-2.parquet"}},
        {"remove": {"path": "old-1.parquet"}},
        info(
            files=[named("z.parquet")],
            ranges={
                "t/1/b": [{"follows": -1, "first": 0, "last": 9}],
                "t/1/a": [{"follows": 4, "first": 7, "last": 8}],
            },
            dictionary=["ff" * 32, "00" * 32],
            software="0.1.0",
        ),
        digests={"a%20b.parquet": None},
    )
    assert found.data().decode().splitlines()[5:] == [
        "operation WRITE",
        "schema " + encode_base64(SCHEMA),
        "dictionary " + "00" * 32,
        "dictionary " + "ff" * 32,
        "software 0.1.0",
        "range t/1/a 4 7 8",
        "range t/1/b -1 0 9",
        "add a%20b.parquet 11 -",
        f"rows z.parquet 10 {encode_base64(bytes.fromhex(DIGEST))} {'0f' * 16} 3 64 "
        + encode_base64(bytes.fromhex(ROOT)),
        "remove old-1.parquet",
        "remove old-2.parquet",
    ]
    assert entry.parse(found.data()) == found


def test_lines_that_are_too_many_become_the_root_of_their_tree() -> None:
    removes = [{"remove": {"path": f"part-{number:04d}.parquet"}} for number in range(1_000)]
    found = made(info(), *removes)
    leaves = [merkle.leaf_hash(f"remove part-{number:04d}.parquet".encode()) for number in range(1_000)]
    assert found.removes == Tree("remove", 1_000, merkle.root(leaves))
    assert entry.parse(found.data()) == found
    few = made(info(), *removes[:400]).removes
    assert not isinstance(few, Tree)
    assert len(few) == 400


def test_a_commit_without_anything_is_an_entry() -> None:
    found = made()
    assert (found.operation, found.software, found.schema) == ("-", None, None)
    assert entry.parse(found.data()) == found


def test_a_text_that_would_break_a_line_is_escaped() -> None:
    found = made(info(operation="a\nremove x%\x00é"), add("b\nadd c.parquet"), digests={"b\nadd c.parquet": None})
    assert found.operation == "a%0Aremove x%25%00%C3%A9"
    assert found.adds == (Add("b%0Aadd%20c.parquet", 10, None),)
    assert entry.parse(found.data()) == found


@pytest.mark.parametrize(
    "actions",
    [
        [add("../x.parquet"), info()],
        [add("a/../../x"), info()],
        [add("%2e%2e/x"), info()],
        [add("/etc/passwd"), info()],
        [add("file:///etc/passwd"), info()],
        [add("abfss://c@a.dfs.core.windows.net/x"), info()],
        [add("_delta_log/0.json"), info()],
        [add("a%00b"), info()],
        [add(""), info()],
        [add("x" * 3_000), info()],
        [add("\ud800"), info()],
        [add("a", -1), info()],
        [add("a", 1 << 63), info()],
        [{"add": {"path": "a", "size": True}}],
        [{"add": []}],
        [add("a"), add("a")],
        [info(), info()],
        [{"txn": {"appId": 5, "version": 1}}],
        [{"metaData": {"id": 5}}],
        [add("a"), info(files=[named("b")])],
        [add("a"), info(files=[named("a"), named("a")])],
        [add("a"), info(files=[named("a", 11)])],
        [add("a"), info(files=[named("a", sha256="x")])],
        [add("a"), info(files=[named("a", sha256=DIGEST.upper())])],
        [add("a"), info(files=[named("a", rows=0)])],
        [add("a"), info(files=[named("a", batch="0f")])],
        [add("a"), info(files={})],
        [info(ranges=[])],
        [info(ranges={"p": {}})],
        [info(ranges={"p": [{"follows": -2, "first": 0, "last": 0}]})],
        [info(dictionary="x")],
        [info(dictionary=["x"])],
        [info(operation={})],
        [info(operation="é" * 100)],
        [info(software="")],
    ],
)
def test_i9_what_no_writer_means_is_refused(actions: list[dict[str, Any]]) -> None:
    with pytest.raises(LedgerError, match="couldn't"):
        made(*actions, digests=dict.fromkeys(("a", "b")))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"{",
        b"[]",
        b"1",
        b'{"add":{"path":"a","path":"b","size":1}}',
        b"[" * 100_000,
        b'{"add":{"size":NaN}}',
        b'{"txn":{"appId":"a","version":' + b"9" * 5_000 + b"}}",
        b'{"commitInfo":{}}{"commitInfo":{}}',
    ],
)
def test_i9_bytes_that_are_no_commit_are_refused(data: bytes) -> None:
    with pytest.raises(LedgerError, match="couldn't read the commit readings@0"):
        delta.parse(data, "readings@0")


@given(st.binary(max_size=400))
def test_i9_arbitrary_bytes_are_an_entry_or_refused(data: bytes) -> None:
    try:
        commit = delta.parse(data, "readings@0")
        found, _ = entry_build.build("readings", "id", 0, commit, dict.fromkeys(commit.adds))
    except LedgerError:
        return
    assert entry.parse(found.data()) == found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["a.parquet", "date=2026-11-21/b.parquet", "c d", "é", "..", "x"]) | st.text(max_size=20)
FIELDS = {
    "path": NAMES,
    "size": st.integers(-1, 20),
    "bytes": st.integers(-1, 20),
    "sha256": st.sampled_from([DIGEST, "", "zz"]),
    "rows": st.integers(-1, 5),
    "batch": st.sampled_from(["0f" * 16, "0F" * 16]),
    "rows_root": st.sampled_from([ROOT, ROOT[:-1]]),
}


def some(names: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: FIELDS[name] | JSON for name in names.split()})


INFO = st.fixed_dictionaries(
    {},
    optional={
        "operation": st.text(max_size=30) | JSON,
        "software": st.text(max_size=30) | JSON,
        "dictionary": st.lists(st.sampled_from(["00" * 32, "ff" * 32, ""]), max_size=3) | JSON,
        "files": st.lists(some("path bytes sha256 rows batch rows_root") | JSON, max_size=3),
        "ranges": st.dictionaries(
            st.text(max_size=9),
            st.lists(
                st.fixed_dictionaries({name: st.integers(-2, 1 << 64) for name in ("follows", "first", "last")}) | JSON,
                max_size=2,
            )
            | JSON,
            max_size=2,
        ),
    },
)
ACTION = st.one_of(
    st.fixed_dictionaries({"add": some("path size")}),
    st.fixed_dictionaries({"remove": some("path size")}),
    st.fixed_dictionaries({"commitInfo": INFO}),
    st.fixed_dictionaries({"metaData": JSON}),
    st.dictionaries(st.sampled_from(["add", "remove", "txn", "commitInfo", "cdc", ""]), JSON, max_size=2),
)


@given(st.lists(ACTION, max_size=5))
def test_i9_arbitrary_actions_are_an_entry_or_refused(actions: list[dict[str, Any]]) -> None:
    try:
        commit = delta.parse(lines_of(*actions), "readings@0")
        found, _ = entry_build.build("readings", "id", 0, commit, dict.fromkeys(commit.adds))
    except LedgerError:
        return
    data = found.data()
    assert len(data) <= entry.ENTRY_BYTES_MAX
    assert entry.parse(data) == found


@given(st.integers(0, 10_000), st.integers(0, 120), st.integers(1, 200))
def test_an_entry_never_exceeds_what_a_bundle_holds(seed: int, files: int, length: int) -> None:
    rng = random.Random(seed)
    paths = sorted({f"{rng.randrange(10**9)}é" * (length // 10 + 1) for _ in range(files)})
    found = made(
        info(
            files=[named(path) for path in paths[::2]],
            ranges={path: [{"follows": -1, "first": 0, "last": 9}] * 20 for path in paths},
            dictionary=[hashlib.sha256(bytes([each])).hexdigest() for each in range(64)],
            operation="x" * 256,
            software="y" * 256,
        ),
        *(add(path) for path in paths),
        *({"remove": {"path": path}} for path in paths),
        digests=dict.fromkeys(paths),
    )
    assert len(found.data()) <= entry.ENTRY_BYTES_MAX
    assert entry.parse(found.data()) == found


@given(st.data())
def test_i9_a_changed_byte_makes_another_entry_or_none(data: st.DataObject) -> None:
    found = made(
        add("a", 10),
        add("b", 10),
        {"remove": {"path": "c"}},
        info(files=[named("a")], ranges={"p": [{"follows": -1, "first": 0, "last": 9}]}, software="1"),
        digests={"b": bytes(32)},
    )
    changed = bytearray(found.data())
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] = data.draw(st.integers(0, 255))
    try:
        again = entry.parse(bytes(changed))
    except LedgerError:
        return
    assert (again == found) == (changed == found.data())
    assert again.data() == changed


@given(st.binary(max_size=300))
def test_i9_arbitrary_bytes_are_no_entry(data: bytes) -> None:
    for each in (data, b"alumicatalyst/commit\n" + data):
        with pytest.raises(LedgerError):
            entry.parse(each)

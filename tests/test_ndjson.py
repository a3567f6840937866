"""Bodies with a document on each line (NDJSON): the core against the oracle, and the oracle on cases worked by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alumicatalyst._core import Dictionary, Partition
from tests.compare import Run, assert_as_oracle, consult, feed
from tests.logs import START_US, Envelope, write_log
from tests.oracle import Oracle
from tests.oracle_body import parts_of
from tests.plants import PLANTS
from tests.test_bad_input import DICTIONARIES, PARTITION, ROOMY

plants = st.sampled_from(sorted(PLANTS))
ENDS = ["\n", "\n", "\r\n", " \t\n\n", "\n\r\n \n"]
READING = b'{"deviceId":"pot-1","ts":"2026-01-15T12:00:00Z","metric":"volts","value":4.2}'


def check(plant: str, log: list[Envelope]) -> Run:
    """Hand a log to the core; its rows must be the oracle's."""
    run = feed(Partition(PARTITION, DICTIONARIES[plant]), log)
    assert_as_oracle(run, consult(Oracle(PARTITION, ROOMY[plant]), log))
    return run


def items(run: Run) -> list[tuple[int, str]]:
    """Each item's number and what became of it: `reading`, or the reason of its rejection."""
    taken = [(row["item"], "reading") for row in run.rows("readings")]
    return sorted(taken + [(row["item"], row["reason"]) for row in run.rows("rejected")])


@st.composite
def bodies_of_lines(draw: st.DrawFn) -> tuple[str, list[Envelope]]:
    """A plant's log whose envelopes have been joined, a few at a time, each on its line; some bytes may be changed."""
    plant = draw(plants)
    log = write_log(draw(st.randoms(use_true_random=False)), ROOMY[plant], draw(st.integers(1, 20)), damage=0.1)
    joined = []
    while log:
        part = [log.pop(0) for _ in range(min(len(log), draw(st.integers(1, 6))))]
        lines = [e.body if draw(st.integers(0, 9)) == 0 else e.body.replace(b"\n", b" ") for e in part]
        ends = [draw(st.sampled_from(ENDS)).encode() for _ in lines[1:]] + [
            draw(st.sampled_from([b"", b"\n", b"\r\n"]))
        ]
        body = bytearray(b"".join(line + end for line, end in zip(lines, ends, strict=True)))
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
            place = draw(st.integers(0, len(body)))
            body[place : place + draw(st.integers(0, 1))] = draw(
                st.sampled_from([b"", b"\n", b"}", b"[", b"\xc3", b" "])
            )
        properties = {name: value for envelope in part for name, value in envelope.properties.items()}
        joined.append(Envelope(part[-1].sequence_number, part[-1].enqueued_us, bytes(body), properties))
    return plant, joined


@settings(max_examples=150, deadline=None)
@given(bodies_of_lines())
def test_i1_lines_are_read_as_the_oracle_reads_them(given):
    check(*given)


ATOMS = [b"{}", b"[]", READING, b"[" + READING + b",5]", b"5", b'"a"', b"x", b"[", b"]", b"{", b"[[[[1]]]]"]
ATOMS += [b" ", b"\t", b"\r", b"\n", b"\n", b"\n", b"\n", b",", b"\x0c", b"\xe2\x82", b"\xac", b"\xef\xbb\xbf"]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["narrow", "wide"]), st.lists(st.lists(st.sampled_from(ATOMS), max_size=12), max_size=4))
def test_i9_any_row_of_documents_breaks_and_blanks_is_read_as_the_oracle_reads_it(plant, bodies):
    check(plant, [Envelope(number, START_US, b"".join(body)) for number, body in enumerate(bodies)])


@pytest.mark.parametrize("most", [1, 4, 5, 6, 7])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_bounds_are_those_of_the_whole_body_and_of_each_line(most, depth):
    dictionary = PLANTS["narrow"] | {
        "bounds": {"series": 100, "body_bytes": 6000, "readings_per_envelope": most, "depth": depth}
    }
    lines = [READING, b"[" + READING + b"," + READING + b"]", b"[[1]]", b"x", b"{"]
    bodies = [b"\n".join(lines[at:] + lines[:at]) for at in range(5)]
    log = [Envelope(number, START_US, body) for number, body in enumerate(bodies)]
    run = feed(Partition(PARTITION, Dictionary.from_json(json.dumps(dictionary))), log)
    assert_as_oracle(run, consult(Oracle(PARTITION, dictionary), log))


def test_a_bad_line_is_one_rejected_item_with_the_bytes_of_its_line():
    body = READING + b"\r\n\n \t{'a':1} \r\n[" + READING.replace(b"4.2", b"true") + b"]\n[[1\n" + READING
    run = check("narrow", [Envelope(0, START_US, body)])
    assert items(run) == [(0, "reading"), (1, "bad_json"), (2, "wrong_type"), (3, "bad_json"), (4, "reading")]
    kept = {row["item"]: (row["body"], row["body_bytes"]) for row in run.rows("rejected")}
    assert kept[1] == (b"{'a':1}", 7)
    assert kept[3] == (b"[[1", 3)
    [place] = [row["detail"] for row in run.rows("rejected") if row["item"] == 1]
    assert str(body.index(b"'a'")) in place


def test_a_long_bad_line_is_cut_like_a_reading_and_counted_whole():
    line = b"[" + b"1," * 3000
    run = check("narrow", [Envelope(0, START_US, READING + b"\n" + line + b"\n")])
    [row] = run.rows("rejected")
    assert (row["item"], row["body"], row["body_bytes"]) == (1, line[:1024], len(line))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"{}\n{}", [b"{}", b"{}"]),
        (b"\r\n {} \r\n\n\t[1]\t\n\n", [b"{}", b"[1]"]),
        (b"[]\nx\n[", [b"[]", None, None]),
        (b"{}\n{} {}\n5", [b"{}", None, b"5"]),
        (b"{}", [b"{}"]),
        (b"\n{}\n \n", [b"{}"]),
        (b"{\n}", [b"{\n}"]),
        (b"[\n1\n]", [b"[\n1\n]"]),
        (b"{\n}\n{}", [None]),
        (b"{} {}\n{}", [None]),
        (b"5\n{}", [None]),
        (b"{\n{}", [None]),
        (b"\xef\xbb\xbf{}\n{}", [None]),
    ],
)
def test_the_oracle_tells_lines_from_one_document(body: bytes, found: list[bytes | None]) -> None:
    parts = parts_of(body)
    spans = [None if p.document is None else body[p.document.root.start : p.document.root.end] for p in parts]
    assert spans == found


def test_lines_give_the_rows_that_their_documents_give_in_an_array():
    objects: list[dict[str, Any]] = [
        {"deviceId": f"pot-{n % 2 + 1}", "ts": f"2026-01-15T12:00:{n:02}Z", "metric": "volts", "value": n}
        for n in range(9)
    ]
    texts = [json.dumps(each) for each in objects]
    lines = check("narrow", [Envelope(0, START_US, "\n".join(texts).encode())])
    array = check("narrow", [Envelope(0, START_US, f"[{','.join(texts)}]".encode())])
    for name in ("readings", "windows", "rejected", "alarms"):
        assert lines.table(name).equals(array.table(name)), name

"""Instruction counts: what is committed, and what a change of it leads to."""

from __future__ import annotations

import re
import shutil

import pytest

from bench import counts
from bench.results import ROOT, output

RUSTC = output("rustc", "--version")


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """Return what sets the counts that callgrind would find, and the file they are compared with."""
    found = dict(counts.read(counts.COMMITTED).kernels)
    committed = tmp_path / "instructions.toml"
    committed.write_text(counts.text_of(RUSTC, found, {}))
    monkeypatch.setattr(counts, "COMMITTED", committed)
    monkeypatch.setattr(counts, "missing", lambda: "")
    monkeypatch.setattr(counts, "build", lambda: tmp_path / "counts")
    monkeypatch.setattr(counts, "count", lambda _program, kernel: found[kernel])
    return found


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["bench.counts", *arguments])
    counts.main()


def test_every_kernel_is_committed_and_the_program_has_it():
    committed = counts.read(counts.COMMITTED)
    program = (ROOT / "core_rs/examples/counts/main.rs").read_text()
    assert set(committed.kernels) == set(counts.KERNELS) == set(re.findall(r'"([a-z-]+)" => ', program))
    assert counts.text_of(committed.rustc, committed.kernels, committed.tolerances) == counts.COMMITTED.read_text()


def test_a_check_passes_where_counts_are_within_the_tolerance(counted, monkeypatch, capsys):
    counted["score"] *= 1.019
    counted["operator"] *= 0.9
    run(monkeypatch, "--check")
    assert "shrunk: commit it" in capsys.readouterr().out


def test_a_check_fails_where_a_kernel_needs_more_and_says_what_to_do(counted, monkeypatch):
    counted["score"] *= 1.03
    with pytest.raises(SystemExit, match=r"instructions grew: score\. Find where with: callgrind_annotate .*--write"):
        run(monkeypatch, "--check")


def test_a_kernel_may_state_a_tolerance_of_its_own(counted, monkeypatch):
    known = counts.read(counts.COMMITTED).kernels
    counts.COMMITTED.write_text(counts.text_of(RUSTC, known, {"score": 0.05}))
    counted["score"] *= 1.03
    run(monkeypatch, "--check")
    run(monkeypatch, "--write")
    written = counts.read(counts.COMMITTED)
    assert written.tolerances == {"score": 0.05}
    assert written.kernels["score"] == pytest.approx(counted["score"], abs=0.1)


def test_one_count_that_seems_to_have_grown_is_counted_again(counted, monkeypatch):
    first = {"score": counted["score"] * 1.5}
    monkeypatch.setattr(counts, "count", lambda _program, kernel: first.pop(kernel, counted[kernel]))
    run(monkeypatch, "--check")
    assert not first


def test_a_kernel_that_is_not_committed_fails_the_check(counted, monkeypatch):
    known = {name: value for name, value in counted.items() if name != "score"}
    counts.COMMITTED.write_text(counts.text_of(RUSTC, known, {}))
    with pytest.raises(SystemExit, match="score"):
        run(monkeypatch, "--check")


def test_another_compiler_or_a_missing_valgrind_is_told_and_compares_nothing(counted, monkeypatch, capsys):
    counted["score"] *= 2
    counts.COMMITTED.write_text(counts.text_of("rustc 1.0.0", counted, {}))
    run(monkeypatch, "--check")
    assert "SKIPPED" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "valgrind" else "/usr/bin/cargo")
    run(monkeypatch, "--check")
    assert "SKIPPED: instruction counts: valgrind is missing; install it" in capsys.readouterr().err

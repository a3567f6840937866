"""Instructions per reading of the core's kernels, by callgrind: what can be compared from run to run on a busy machine.

    python -m bench.counts              # count, and print beside what is committed
    python -m bench.counts --check      # fail where a kernel needs more than is committed
    python -m bench.counts --write      # commit to what was found: bench/instructions.toml

A count says nothing of cache misses or of how many instructions run at once, so it finds what became more work, and no
speed. callgrind's processor has AVX2, but neither AVX-512 nor SHA-NI: SHA-256 is counted in its portable form, which
takes many times the instructions of the real one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.results import ROOT, output

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMITTED = ROOT / "bench" / "instructions.toml"
TOLERANCE = 0.02
KERNELS = {
    "decode-objects": "decode JSON, an object an envelope",
    "decode-arrays": "decode JSON, arrays of 100",
    "decode-lines": "decode JSON, lines of 100",
    "decode-wide": "decode JSON, eight metrics an object, per value",
    "windows-tumbling": "windows of 10 s, all statistics",
    "windows-hopping": "windows of 60 s every 10 s, all statistics",
    "score": "EWMA score",
    "alarms-quiet": "two alarm rules, nothing happens",
    "alarms-flood": "two alarm rules, half of the readings exceed one",
    "operator": "all of a partition: arrays of 100, 10 s and 60 s / 10 s windows, scores, alarms",
    "row-digests": "leaves and root over a data file of readings, without SHA instructions",
}
# The program's hash seeds differ from process to process, which moves a count of decoding by up to 1.5 %: one that
# seems to have grown is counted again, and the median is what counts.
_RECOUNTS = 4


@dataclass(frozen=True, slots=True)
class Committed:
    """What is committed: instructions per reading, and the compiler that they belong to."""

    rustc: str
    kernels: Mapping[str, float]
    tolerances: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a count stands to what is committed."""

    kernel: str
    found: float
    committed: float | None
    tolerance: float

    @property
    def change(self) -> float | None:
        """As a share of what is committed."""
        return None if self.committed is None else self.found / self.committed - 1

    @property
    def grown(self) -> bool:
        """Whether it is more than is tolerated, or not committed at all."""
        return self.change is None or self.change > self.tolerance

    def __str__(self) -> str:
        if self.change is None:
            told = "not committed"
        else:
            told = f"{self.change:+7.2%} of {self.committed:.1f}" + (
                "  GROWN" if self.grown else "  shrunk: commit it" if self.change < -self.tolerance else ""
            )
        return f"{self.kernel:<18} {self.found:>9.1f}  {told:<32} {KERNELS.get(self.kernel, '')}"


def main() -> None:
    """Count, and print, check or write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 where a kernel needs more than is committed")
    parser.add_argument("--write", action="store_true", help=f"write what was found to {COMMITTED.name}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found to FILE, for bench.report")
    arguments = parser.parse_args()
    if lacking := missing():
        print(f"=== SKIPPED: instruction counts: {lacking}", file=sys.stderr)
        return
    rustc = output("rustc", "--version")
    committed = read(COMMITTED)
    if arguments.check and committed.rustc != rustc:
        print(
            f"=== SKIPPED: instruction counts: {COMMITTED.name} was counted with {committed.rustc}, this is {rustc}; "
            "count anew with: python -m bench.counts --write",
            file=sys.stderr,
        )
        return
    program = build()
    verdicts = [judge(program, kernel, committed, recount=arguments.write) for kernel in KERNELS]
    print(f"instructions per reading, callgrind, {rustc}")
    print(*verdicts, sep="\n")
    found = {each.kernel: round(each.found, 1) for each in verdicts}
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({"rustc": rustc, "valgrind": output("valgrind", "--version")} | found))
    if arguments.write:
        COMMITTED.write_text(text_of(rustc, found, committed.tolerances))
    elif arguments.check and (grown := [each.kernel for each in verdicts if each.grown]):
        sys.exit(
            f"instructions grew: {', '.join(grown)}. Find where with: callgrind_annotate "
            f"{profile_of(program, grown[0])}; if the work is worth it: python -m bench.counts --write, and say why in "
            "the commit"
        )


def missing() -> str:
    """Return what is missing here and how to get it; nothing if all is there."""
    if not shutil.which("valgrind"):
        return "valgrind is missing; install it with the system's packages (valgrind)"
    return "" if shutil.which("cargo") else "cargo is missing; install the Rust toolchain with rustup"


def build() -> Path:
    """Build the program that holds the kernels, and return it."""
    profile = ["--config", "bench/counts_profile.toml", "--profile", "counts"]
    command = ["cargo", "build", *profile, "--locked", "-p", "alumicatalyst-core", "--example", "counts"]
    done = subprocess.run(
        [*command, "--message-format=json-render-diagnostics"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    found = (json.loads(line) for line in done.stdout.splitlines())
    return next(Path(each["executable"]) for each in found if each.get("executable"))


def judge(program: Path, kernel: str, committed: Committed, *, recount: bool) -> Verdict:
    """Count a kernel, and again if it is to be committed or seems to need more than is."""
    known, tolerance = committed.kernels.get(kernel), committed.tolerances.get(kernel, TOLERANCE)
    counts = [count(program, kernel)]
    if recount or known is None or counts[0] > known * (1 + tolerance):
        counts += [count(program, kernel) for _ in range(_RECOUNTS)]
    return Verdict(kernel, statistics.median(counts), known, tolerance)


def count(program: Path, kernel: str) -> float:
    """Return the instructions that a reading costs in a kernel."""
    done = subprocess.run(
        [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={profile_of(program, kernel)}",
            "--toggle-collect=counts::counted*",
            program,
            kernel,
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"LC_ALL": "C"},
    )
    collected = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or collected is None or int(collected[1]) == 0:
        raise RuntimeError(f"couldn't count {kernel}: {done.stderr[-2_000:]}")
    return int(collected[1]) / int(done.stdout)


def profile_of(program: Path, kernel: str) -> Path:
    """Return where a kernel's profile is kept, for callgrind_annotate."""
    return program.parent / f"callgrind.{kernel}"


def read(path: Path) -> Committed:
    """Return what is committed; nothing where there is no file."""
    if not path.exists():
        return Committed("nothing", {}, {})
    found = tomllib.loads(path.read_text())
    kernels = found["kernel"]
    return Committed(
        found["rustc"],
        {name: each["instructions"] for name, each in kernels.items()},
        {name: each["tolerance"] for name, each in kernels.items() if "tolerance" in each},
    )


def text_of(rustc: str, found: Mapping[str, float], tolerances: Mapping[str, float]) -> str:
    """Return the text of the file that is committed."""
    lines = [
        "# Instructions per reading by callgrind, written by: python -m bench.counts --write",
        f"# `make test` fails where a kernel needs {TOLERANCE:.0%} more; a kernel may state a `tolerance` of its own.",
        f'rustc = "{rustc}"',
    ]
    for kernel, instructions in found.items():
        lines += ["", f"[kernel.{kernel}]", f"instructions = {instructions}"]
        if kernel in tolerances:
            lines.append(f"tolerance = {tolerances[kernel]}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

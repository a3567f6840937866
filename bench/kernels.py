"""Parts of the core in processes without Python: programs of core_rs/examples that work when they are told to."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path

from bench.results import ROOT


@cache
def build(example: str) -> Path:
    """Build an example with the profile of a release, and return it."""
    cargo = shutil.which("cargo")
    assert cargo, "couldn't build a kernel: cargo is missing; install the Rust toolchain with rustup"
    command = [cargo, "build", "--locked", "--release", "-p", "alumicatalyst-core", "--example", example]
    messages = subprocess.run([*command, "--message-format=json"], cwd=ROOT, check=True, capture_output=True, text=True)
    found = (json.loads(line) for line in messages.stdout.splitlines())
    return next(Path(each["executable"]) for each in found if each.get("executable"))


class Kernel:
    """A running program; it holds its input, and each line that it gets makes it work through all of it.

    Args:
        example: Its name.
        arguments: Paths of its input.
    """

    def __init__(self, example: str, *arguments: Path | str) -> None:
        self._process = subprocess.Popen(
            [build(example), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        # The processor time of another process: clock_getcpuclockid(3) makes its clock like this.
        self._clock = ~self._process.pid << 3 | 2

    def clock(self) -> float:
        """Return the processor time that it has used."""
        return time.clock_gettime(self._clock)

    def run(self, line: str = "run") -> list[str]:
        """Let it work, and return what it says of the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().split()

    def close(self) -> None:
        """End it."""
        self._process.communicate()

"""The demo's parts: processes with a log each, which end with the demo whatever becomes of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from alumicatalyst.errors import AlumicatalystError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Runs a command so that it ends with the demo, even if that is killed. Without prctl, which is Linux's, the parts
# end when the demo stops them in order.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    # A parent that died before this line sends nothing.
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
_STOP_S = 30.0
_GRACE_S = 5.0
_COMMAND_S = 180.0
_LINES = 15


class Parts:
    """Processes that belong together.

    Args:
        logs: Where the log of each is kept.

    Attributes:
        environment: What each gets beside this process' own environment.
    """

    def __init__(self, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.environment: dict[str, str] = {}
        self._logs = logs
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a part: a Python program and its arguments."""
        with self._log(name).open("ab") as log:
            self._children[name] = subprocess.Popen(  # noqa: S603 - our own commands
                [sys.executable, "-c", _DIE_WITH_PARENT, str(os.getpid()), sys.executable, *command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **self.environment},
                # Ctrl-C is the demo's to handle.
                start_new_session=True,
            )

    def run(self, command: Sequence[str]) -> str:
        """Run a Python program to its end and return what it printed.

        Raises:
            AlumicatalystError: It failed.
        """
        shown = " ".join(command[:4])
        try:
            done = subprocess.run(  # noqa: S603 - our own commands
                [sys.executable, *command],
                capture_output=True,
                check=False,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=_COMMAND_S,
            )
        except subprocess.TimeoutExpired:
            raise AlumicatalystError(f"couldn't run {shown}: it took longer than {_COMMAND_S:g} s") from None
        if done.returncode:
            raise AlumicatalystError(f"couldn't run {shown}: it ended with {done.returncode}:\n{_end_of(done.stderr)}")
        return done.stdout.strip()

    def runs(self, name: str) -> bool:
        """Whether a part still runs."""
        return self._children[name].poll() is None

    def check(self) -> None:
        """Raise if a part has failed.

        Raises:
            AlumicatalystError: With the end of that part's log.
        """
        for name, child in self._children.items():
            if child.poll():
                raise AlumicatalystError(
                    f"couldn't go on with the demo: its {name} ended with {child.returncode}; "
                    f"see {self._log(name)}:\n{_end_of(self._log(name).read_text(errors='replace'))}"
                )

    def stop(self, name: str) -> None:
        """End a part in order.

        Raises:
            AlumicatalystError: It does not end, or not well.
        """
        child = self._children[name]
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            raise AlumicatalystError(
                f"couldn't stop the demo's {name} within {_STOP_S:g} s; see {self._log(name)}"
            ) from None
        self.check()

    def close(self) -> None:
        """End whatever still runs, in order if it does so soon."""
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_GRACE_S)
            child.kill()
            child.wait()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


def _end_of(text: str) -> str:
    return "\n".join(text.splitlines()[-_LINES:])

"""Children forked from one process that has done the imports: a start costs milliseconds instead of most of a second.

`python -m tests.kill.forks` reads one order a line, `{"runner", "order", "environment", "output"}`, forks a child for
it and answers with its process id; of every child that ends it says how. What it runs is `tests.kill.child.live`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any, NoReturn

from tests.kill import child

ROOT = Path(__file__).parents[2]

# What the flow, the ledger and the commands of the lake import by and by. Nothing here may start threads that a child
# needs: they do not survive a fork.
PRELOADED = (
    "adlfs",
    "alumicatalyst.cli.lake",
    "alumicatalyst.cli.lake_maintain",
    "alumicatalyst.cli.ledger",
    "alumicatalyst.cli.run",
    "alumicatalyst.lake",
    "alumicatalyst.lake.adls",
    "alumicatalyst.lake.doctor",
    "alumicatalyst.maintenance.maintain",
    "alumicatalyst.ledger.cursor",
    "alumicatalyst.ledger.process",
    "alumicatalyst.metrics",
    "alumicatalyst.pipeline",
    "alumicatalyst.runner",
    "alumicatalyst.settings",
    "alumicatalyst.sinks.alerts",
    "azure.storage.blob.aio",
    "flows.telemetry",
    "pyarrow.parquet",
)


class Forks:
    """The process that forks, seen from outside."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.kill.forks"],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("ALUMICATALYST_")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C is for whoever started it all, who then ends this.
            start_new_session=True,
        )
        self._changed = threading.Condition()
        self._started: list[int] = []
        self._ended: dict[int, int] = {}
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def start(self, runner: str, order: dict[str, Any], environment: dict[str, str], output: Path) -> Forked:
        """Start a child."""
        line = json.dumps(
            {"runner": runner, "order": order, "environment": environment, "output": str(output)}, separators=(",", ":")
        )
        with self._changed:
            assert self._process.stdin is not None
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            assert self._changed.wait_for(lambda: self._started or self._process.poll() is not None, 60)
            return Forked(self, self._started.pop())

    def ended(self, pid: int, within_s: float | None) -> int | None:
        """Return how a child has ended, None while it lives."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._ended or self._process.poll() is not None, within_s)
            return self._ended.get(pid)

    def close(self) -> None:
        """End it, and every child that still lives."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._reader.join(30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            with self._changed:
                if "code" in told:
                    self._ended[told["pid"]] = told["code"]
                else:
                    self._started.append(told["pid"])
                self._changed.notify_all()


class Forked:
    """A child, as `subprocess.Popen` shows one."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self._forks = forks
        self.pid = pid

    def poll(self) -> int | None:
        return self._forks.ended(self.pid, 0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._forks.ended(self.pid, timeout)
        if code is None:
            raise subprocess.TimeoutExpired("a forked child", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    # A handler that does nothing, so that the end of a child wakes the loop.
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    answers = os.dup(1)
    os.dup2(2, 1)
    living: set[int] = set()
    rest = b""
    while True:
        readable, _, _ = select.select([0, wake], [], [])
        if wake in readable:
            os.read(wake, 4096)
        if 0 in readable:
            data = os.read(0, 1 << 20)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                pid = fork(json.loads(line), (wake, woken, answers))
                living.add(pid)
                tell(answers, pid=pid)
        reap(living, answers)
    for pid in living:
        os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 20
    while living and time.monotonic() < until:
        reap(living, answers)
        time.sleep(0.01)


def fork(told: dict[str, Any], close: tuple[int, ...]) -> int:
    with warnings.catch_warnings():
        # Libraries' allocators have threads of their own, which a child does without.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if not pid:
        run(told, close)
    return pid


def run(told: dict[str, Any], close: tuple[int, ...]) -> NoReturn:
    """Be the child."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for each in close:
        os.close(each)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(told["output"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.environ.update(told["environment"])
    code = 70
    try:
        child.live(told["order"], told["runner"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 the end of a process
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        # What libraries have registered for the end of the process that forked is none of the child's business.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def reap(living: set[int], answers: int) -> None:
    with contextlib.suppress(ChildProcessError):
        while living:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            living.discard(pid)
            tell(answers, pid=pid, code=os.waitstatus_to_exitcode(status))


def tell(answers: int, **what: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(answers, (json.dumps(what) + "\n").encode())


if __name__ == "__main__":
    main()

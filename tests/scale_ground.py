"""Several processes on one lake: their logs, their shares, what they counted, and clusters of Bytewax."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.kill.forks import Forks
from tests.kill.harness import BYTEWAX, END_S_MAX, Child, Ground, Life, is_quiet, make_logs
from tests.parts.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.logs import Envelope

Counts = dict[str, Counter[str]]
COMMITS, CONFLICTS = "alumicatalyst_lake_commits_total", "alumicatalyst_lake_conflicts_total"


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    """Where children come from; at the end nobody is left, whatever has failed."""
    running = Forks()
    yield running
    running.close()


def logs_of(seed: int, partitions: int, envelopes: int) -> dict[str, list[Envelope]]:
    """So many logs; their partitions are called scale/1/0, scale/1/1 and so on."""
    return make_logs(seed, envelopes, [f"scale/1/{number}" for number in range(partitions)])


def wait_until(happened: Callable[[], object], children: Sequence[Child], what: str) -> None:
    """Wait until something has happened; fail when a child ends before, or after a generous while."""
    until = time.monotonic() + END_S_MAX
    while not happened():
        if time.monotonic() > until or any(child.process.poll() is not None for child in children):
            said = [child.output.read_text()[-1500:] for child in children]
            for child in children:
                child.kill()
                child.process.wait()
            raise AssertionError(f"waited in vain for {what}: {said}")
        time.sleep(0.05)


def wait_for_commits(children: Sequence[Child], times: int) -> None:
    """Wait until each child has sealed so many flushes, or has nothing more to read."""

    def have_committed() -> bool:
        lives = [Life(0, child.entries(), "") for child in children]
        return all(life.count("commit:batches") >= times or is_quiet(life.diary) for life in lives)

    wait_until(have_committed, children, "commits")


def wait_for_all_rows(ground: Ground, children: Sequence[Child]) -> None:
    """Wait until everything in the logs is sealed."""
    last = {partition: log[-1].sequence_number for partition, log in ground.logs.items()}
    wait_until(lambda: ground.marks() == last, children, "marks")


def drain(ground: Ground, children: Sequence[Child]) -> list[Life]:
    """Ask all children to stop, as an orchestrator does, and expect them to end well."""
    for child in children:
        child.process.send_signal(signal.SIGTERM)
    lives = [child.end() for child in children]
    for life in lives:
        assert life.code == 0, life.output[-4000:]
    ground.lives += lives
    return lives


def share(ordinal: int, replicas: int) -> dict[str, Any]:
    """The setting of one of several equal processes."""
    return {"source__partitions": f"{ordinal}/{replicas}"}


def counted(port: int) -> Counts:
    """What a child's own metrics say of its commits and conflicts, by table."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: Counts = {COMMITS: Counter(), CONFLICTS: Counter()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in found:
                found[sample.name][sample.labels["table"]] += int(sample.value)
    return found


def analysed(life: Life) -> set[str]:
    """The partitions whose state a process held, by its log (in JSON)."""
    entries = [json.loads(line) for line in life.output.splitlines() if line.startswith("{")]
    return {entry["partition"] for entry in entries if entry["event"] == "partition started"}


class Cluster:
    """Two processes of one Bytewax cluster, both with all partitions: Bytewax deals them."""

    def __init__(self, ground: Ground, workers: int, **settings: Any) -> None:
        ports = free_ports(2)
        addresses = ";".join(f"127.0.0.1:{port}" for port in ports)
        self.ground = ground
        self.children = [
            ground.start(f"{BYTEWAX} -i {number} -a {addresses} -w {workers}", **settings) for number in range(2)
        ]

    def end(self) -> list[Life]:
        """Wait for the end of the input."""
        lives = [child.end() for child in self.children]
        for life in lives:
            assert life.code == 0, life.output[-4000:]
        self.ground.lives += lives
        return lives

    def kill(self, number: int) -> None:
        """Kill one of the processes; the other cannot go on alone, and ends by itself."""
        self.children[number].kill()
        lives = [child.end() for child in self.children]
        assert lives[number].code == -signal.SIGKILL
        assert lives[1 - number].code != 0
        self.ground.lives += lives

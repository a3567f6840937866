"""Where a round of the long kill run plays: the lake, what runs around it, and what must hold of it (I1, I5, I7)."""

from __future__ import annotations

import random
import resource
import signal
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bench.chaos_beside import Signer
from bench.chaos_plan import AZURITE, RUNNERS, Plan, Step
from bench.chaos_upkeep import TIMES, Keeper
from tests.kill.expected import Expected
from tests.kill.forks import Forks
from tests.kill.harness import LOOP, Address, Child, Ground, Life, key, make_logs
from tests.kill.hot_store import HotGround
from tests.kill.watch import Watch
from tests.parts import azurite
from tests.plants import NARROW

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from pathlib import Path

QUIET_S = 0.45
END_S_MAX = 900.0
"""What does not end within this hangs, however slow the machine is."""
SETTINGS = {"lake__flush_interval_s": 0.2, "lake__state_interval_s": 0.1}


@dataclass
class Kill:
    """One kill of a process that writes to the lake.

    Attributes:
        kind: The step's.
        runner: Of the flow that was killed, or maintenance.
        at: The point that it reached; "" for a kill from outside.
        commits: How many it had made in this life.
        replays: Envelopes that it was handed and an earlier life too.
    """

    kind: str
    runner: str
    at: str
    commits: int
    replays: int


@dataclass
class Result:
    """What became of a round; `chaos_report` says what each number is."""

    seed: int
    store: str
    hot: bool
    upkeep: bool
    kills: list[Kill] = field(default_factory=list)
    beside: dict[str, int] = field(default_factory=lambda: {"ledger": 0, "api": 0})
    fenced: int = 0
    refused: int = 0
    losses: int = 0
    replays: int = 0
    cut: int = 0
    conflicts: int = 0
    commits: int = 0
    rows: int = 0
    tidiers_refused: int = 0
    looks: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    violation: str = ""
    folder: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Stage:
    """Sets everything up, starts flows, buries them, and looks at what they leave.

    Args:
        plan: The round's.
        folder: For everything that is written.
        stack: Ends what is started here.
        on_kill: Told how many kills there were.
    """

    def __init__(self, plan: Plan, result: Result, folder: Path, stack: ExitStack, on_kill: Callable[[int], None]):
        self.plan, self.result, self._on_kill = plan, result, on_kill
        self.rng = random.Random(plan.seed)
        self.there = 0  # Envelopes of each log that were there before.
        self._taken: set[tuple[str, int]] = set()
        self._children: list[Child] = []
        logs = make_logs(plan.log_seed, plan.envelopes, [f"kill/1/{number}" for number in range(plan.partitions)])
        address = Address("")
        if plan.store == AZURITE:
            # A fresh one for every round: it does not close all of its files.
            service = stack.enter_context(azurite.running())
            secret = folder / "connection"
            secret.write_text(service.connection_string)
            address = Address(service.container("chaos") + "/lake", f"file:{secret}", service.storage_options)
        forks = Forks()
        stack.callback(forks.close)
        self.ground = Ground(folder, logs, settings=dict(SETTINGS), address=address, forks=forks)
        stack.callback(self._kill_all)
        self.store = self.ground.address.store()
        self.expected = {name: Expected(name, log, NARROW) for name, log in logs.items()}
        self.watch = Watch(self.store, self.expected)
        self.watch.tidied = plan.upkeep
        # A look at a distant store costs a request for each table.
        self.signer = Signer(self.ground, self.rng, interval_s=0.4 if plan.store == AZURITE else 0.1)
        stack.callback(self.signer.kill)
        self.keeper = Keeper(self.ground, self.signer, expires=plan.expires)
        self._hot = stack.enter_context(HotGround.of(self.ground)) if plan.hot else None

    # ------------------------------------------------------------------ what is started, and ends

    def start(self, step: Step, until: int, runner: str = "", **order: Any) -> Child:
        """Start a step's flow, or another one beside it."""
        name = runner or step.runner
        end = step.kind == "end"
        given = {"until": until, "known": self.there, "quiet_s": QUIET_S, "clock": step.clock, **TIMES, **order}
        child = self.ground.start(
            RUNNERS.get(name, name),
            point="" if runner or step.kind == "api" else step.point,
            pace_s=0.005,
            stays=not end,
            order=given | ({"until": 0} if end else {}),
            lake__flush_rows_max=step.flush_rows,
        )
        self._children.append(child)
        return child

    def wait_for_point(self, child: Child) -> None:
        """Wait until it has died, has paused, or has nothing more to do."""
        child.wait_until(lambda entries: any(entry["event"] in {"quiet", "paused"} for entry in entries), 300)

    def wait_for_commits(self, child: Child, step: Step) -> None:
        """Wait until it has made as many as the step wants, or has nothing more to do."""

        def enough(entries: list[dict[str, Any]]) -> bool:
            return Life(0, entries, "").count("commit:") >= step.commits or entries[-1:] == [{"event": "quiet"}]

        child.wait_until(enough, 300)
        time.sleep(step.delay_s)

    def bury(self, kind: str, runner: str, child: Child) -> Life:
        """Kill a flow that may have killed itself, and count what it did."""
        child.kill()
        life = child.end()
        assert life.code == -signal.SIGKILL, f"a flow ended by itself: {kind}: {life.code}: {life.output[-4_000:]}"
        self.count(kind, runner, life)
        return life

    def count(self, kind: str, runner: str, life: Life) -> None:
        """Count what a process did."""
        result, taken = self.result, set(life.taken())
        again = len(taken & self._taken)
        self._taken |= taken
        result.replays += again
        result.commits += life.count("commit:")
        for entry in life.diary:
            if entry["event"] == "cut":
                result.cut += sum(entry["rows"].values())
            elif entry["event"] == "failed":
                result.conflicts += entry["name"].startswith(("commit:", "claim:"))
        if life.code == -signal.SIGKILL:
            at = next((entry["at"] for entry in life.diary if entry["event"] == "killed"), "")
            result.kills.append(Kill(kind, runner, at, life.count("commit:"), again))
            self._on_kill(len(result.kills))

    def beat(self, api_point: str = "") -> None:
        """See to it that ledger and API are alive; the API to be killed at a point."""
        self.signer.beat()
        if self._hot is None:
            return
        api = self._hot.api
        if api.process is not None and (api_point or api.has_died()):
            api.kill()
            self.result.beside["api"] += 1
        if api.process is None:
            api.start(api_point)

    def delete_states(self, newest: int = 0) -> None:
        """Remove the newest states of every partition, or all."""
        for name in self.ground.logs:
            states = sorted(path for path, _ in self.store.list(f"_state/{name}"))
            for path in states[-newest:] if newest else states:
                self.store.delete(path)

    def stored(self) -> tuple[int, int]:
        """Of which envelopes of every log rows are stored that the flow could be asked for again."""
        spans = []
        for name, log in self.ground.logs.items():
            origin = max((start for start, _ in self.expected[name].starts), default=-1)
            mark = self.watch.marks(name)["batches"]
            spans.append([sum(each.sequence_number <= number for each in log) for number in (origin, mark)])
        return max(begins for begins, _ in spans), min(ends for _, ends in spans)

    def _kill_all(self) -> None:
        for child in self._children:
            child.kill()

    # ------------------------------------------------------------------ what must hold

    def look(self) -> None:
        """Check everything that is new in the lake."""
        self.watch.look()
        self.result.looks += 1

    def finish(self) -> None:
        """Read the log to its end, undisturbed, and compare everything."""
        last = max(map(len, self.ground.logs.values()))
        life = self.ground.start(LOOP, pace_s=0.0, order={"known": last}, lake__flush_rows_max=1_000).end(END_S_MAX)
        assert life.code == 0, f"the last flow ended with {life.code}: {life.output[-4_000:]}"
        self.count("last", "loop", life)
        self.look()
        # What is not signed vacuum leaves, and what it does is signed afterwards.
        for kind in ("compact", "vacuum") if self.plan.upkeep else ():
            self.signer.sign()
            self.keeper.tidy((kind,))
            self.look()
        self.signer.sign()
        versions = {name: seen.version for name, seen in self.watch.tables.items()}
        self.signer.assert_whole(versions, tidied=self.plan.upkeep or self.plan.expires)
        self._assert_whole()
        if self._hot is not None:
            self.beat()
            self._hot.settle(LOOP)
            self._hot.assert_same()
        doctor = self.ground.start("lake doctor", order={"logs": ""}).end(END_S_MAX)
        assert doctor.code == 0, f"lake doctor: {doctor.output[-4_000:]}"
        self.result.beside["ledger"] = self.signer.kills
        self.result.rows = self.watch.rows()
        self.result.tidiers_refused = self.keeper.refused

    def _assert_whole(self) -> None:
        if not self.result.losses and not self.plan.expires:
            self.ground.assert_whole()
            return
        # The journal of such a lake makes no undisturbed run, or not all of it is there any more.
        for name, seen in self.watch.tables.items():
            found = Counter(key(row) for row in self.ground.rows(name))
            assert found == seen.live(), f"{name}: another reader finds {found.total()} rows, not {seen.live().total()}"
        for expected in self.expected.values():
            expected.assert_as_oracle()


def cpu_s() -> float:
    """Processor time of this process and of all that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)

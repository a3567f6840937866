"""One round of the long kill run: a lake, all that is done to it, and what must hold after every kill (I1, I5)."""

from __future__ import annotations

import random
import signal
import time
import traceback
from collections import Counter
from contextlib import ExitStack
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
    from pathlib import Path

QUIET_S = 0.45
SETTINGS = {
    "lake__flush_interval_s": 0.2,
    "lake__state_interval_s": 0.1,
}


@dataclass
class Kill:
    """One kill of a process that writes to the lake.

    Attributes:
        kind: The step's.
        runner: Of the flow that was killed.
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
    """What became of a round."""

    seed: int
    store: str
    hot: bool
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
    violation: str = ""
    folder: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Round:
    """Plays a plan in a folder of its own.

    Args:
        plan: What is to happen.
        folder: For everything that is written; whoever calls removes it.
        on_kill: Told how many kills there were, for progress.
    """

    def __init__(self, plan: Plan, folder: Path, on_kill: Callable[[int], None] = lambda _: None) -> None:
        self.plan = plan
        self._on_kill = on_kill
        self.result = Result(plan.seed, plan.store, plan.hot, folder=str(folder))
        self._folder = folder
        self._rng = random.Random(plan.seed)
        self._there = 0  # Envelopes of each log that were there before.
        self._taken: set[tuple[str, int]] = set()
        self._children: list[Child] = []

    def run(self) -> Result:
        """Play it; what does not hold stands in the result."""
        started = time.monotonic()
        try:
            with ExitStack() as stack:
                self._set_up(stack)
                for step in self.plan.steps:
                    self._play(step)
                self._end()
        except Exception:  # noqa: BLE001 whatever it is, the round has not come out as it should
            self.result.violation = traceback.format_exc()
        self.result.seconds = round(time.monotonic() - started, 2)
        return self.result

    def _set_up(self, stack: ExitStack) -> None:
        plan = self.plan
        names = [f"kill/1/{number}" for number in range(plan.partitions)]
        logs = make_logs(plan.log_seed, plan.envelopes, names)
        address = Address("")
        if plan.store == AZURITE:
            # A fresh one for every round: it does not close all of its files.
            service = stack.enter_context(azurite.running())
            secret = self._folder / "connection"
            secret.write_text(service.connection_string)
            address = Address(service.container("chaos") + "/lake", f"file:{secret}", service.storage_options)
        forks = Forks()
        stack.callback(forks.close)
        self.ground = Ground(self._folder, logs, settings=dict(SETTINGS), address=address, forks=forks)
        stack.callback(self._kill_all)
        self._store = self.ground.address.store()
        self._expected = {name: Expected(name, log, NARROW) for name, log in logs.items()}
        self._watch = Watch(self._store, self._expected)
        self._watch.tidied = plan.upkeep
        self._signer = Signer(self.ground, self._rng)
        stack.callback(self._signer.kill)
        self._keeper = Keeper(self.ground, self._signer, expires=plan.expires)
        self._hot = stack.enter_context(HotGround.of(self.ground)) if plan.hot else None

    # ------------------------------------------------------------------ steps

    def _play(self, step: Step) -> None:
        until = self._there + step.grow
        self._signer.beat()
        self._beat_api(step.point if step.kind == "api" else "")
        match step.kind:
            case "newest states":
                self._delete_states(newest=1 + int(step.choice * 2))
            case "all states":
                self._delete_states()
            case "expired":
                self._expire(step)
        match step.kind:
            case "zombie":
                self._zombies(step, until)
            case "writers":
                self._writers(step, until)
            case "compact" | "vacuum" | "trim" | "maintain":
                self._maintain(step, until)
            case "asleep":
                self._asleep(step, until)
            case _:
                child = self._start(step, until)
                if step.point and step.kind != "api":
                    self._wait_for_point(child)
                elif step.kind == "start":
                    time.sleep(step.delay_s)
                else:
                    self._wait_for_commits(child, step)
                self._bury(step.kind, step.runner, child)
        self._there = until
        self._look()

    def _start(self, step: Step, until: int, runner: str = "", **order: Any) -> Child:
        name = runner or step.runner
        given = {"until": until, "known": self._there, "quiet_s": QUIET_S, "clock": step.clock, **TIMES, **order}
        end = step.kind == "end"
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

    def _wait_for_point(self, child: Child) -> None:
        """Wait until it has died, has paused, or has nothing more to do."""
        child.wait_until(lambda entries: any(entry["event"] in {"quiet", "paused"} for entry in entries), 60)

    def _wait_for_commits(self, child: Child, step: Step) -> None:
        def enough(entries: list[dict[str, Any]]) -> bool:
            return Life(0, entries, "").count("commit:") >= step.commits or entries[-1:] == [{"event": "quiet"}]

        child.wait_until(enough, 60)
        time.sleep(step.delay_s)

    def _bury(self, kind: str, runner: str, child: Child) -> Life:
        """Kill a flow that may have killed itself, and count what it did."""
        child.kill()
        life = child.end()
        assert life.code == -signal.SIGKILL, f"a flow ended by itself: {kind}: {life.code}: {life.output[-4_000:]}"
        self._count(kind, runner, life)
        return life

    def _count(self, kind: str, runner: str, life: Life) -> None:
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

    def _beat_api(self, point: str) -> None:
        """See to it that the API is alive, to be killed at a point or from outside when the next one is to be."""
        if self._hot is None:
            return
        api = self._hot.api
        if api.process is not None and (point or api.has_died()):
            api.kill()
            self.result.beside["api"] += 1
        if api.process is None:
            api.start(point)

    def _delete_states(self, newest: int = 0) -> None:
        """Remove the newest states of every partition, or all."""
        for name in self.ground.logs:
            states = sorted(path for path, _ in self._store.list(f"_state/{name}"))
            for path in states[-newest:] if newest else states:
                self._store.delete(path)

    def _expire(self, step: Step) -> None:
        """Take away all states and the beginning of the log: the flow refuses, and is told to go on, or is given it."""
        begins, ends = self._stored()
        if ends - begins < 2:
            return
        self._delete_states()
        since = begins + 1 + int(step.choice * (ends - begins - 1))
        refused = self._start(step, self._there, LOOP, since=since)
        life = refused.end(60)
        self._count("refused", "loop", life)
        assert life.code == 3, f"a log that has expired is not refused: {life.code}: {life.output[-4_000:]}"
        assert "--accept-state-loss" in life.output, life.output[-4_000:]
        self.result.refused += 1
        self._look()
        if step.choice < 0.5:
            accepted = self._start(step, self._there + step.grow, LOOP + " --accept-state-loss", since=since)
            self._wait_for_commits(accepted, step)
            self._bury("loss accepted", "loop", accepted)
            self._look()
            self.result.losses += 1

    def _stored(self) -> tuple[int, int]:
        """Of which envelopes of every log rows are stored that the flow could be asked for again."""
        spans = []
        for name, log in self.ground.logs.items():
            origin = max((start for start, _ in self._expected[name].starts), default=-1)
            mark = self._watch.marks(name)["batches"]
            spans.append([sum(each.sequence_number <= number for each in log) for number in (origin, mark)])
        return max(begins for begins, _ in spans), min(ends for _, ends in spans)

    def _zombies(self, step: Step, until: int) -> None:
        """Pause a writer in the middle, let others take its partitions, and wake it."""
        paused = self._start(step, until)
        self._wait_for_point(paused)
        alive = [(step.runner, paused)]
        for runner in step.others:
            heir = self._start(step, until, runner)
            self._wait_for_commits(heir, step)
            alive.append((runner, heir))
        paused.process.send_signal(signal.SIGCONT)
        # It finds out at its next write; one that has nothing more to write never does.
        paused.wait_until(lambda entries: entries[-1:] == [{"event": "quiet"}], 30)
        self._end_writers(step, alive)

    def _writers(self, step: Step, until: int) -> None:
        """Start some at the same time; each takes the partitions from the one before, in whatever order."""
        alive = []
        for runner in (step.runner, *step.others):
            alive.append((runner, self._start(step, until, runner)))
            time.sleep(step.delay_s)
        self._wait_for_commits(alive[-1][1], step)
        self._end_writers(step, alive)

    def _end_writers(self, step: Step, alive: list[tuple[str, Child]]) -> None:
        self._rng.shuffle(alive)
        for runner, child in alive:
            child.kill()
            life = child.end()
            if life.code != -signal.SIGKILL:
                lost = "claimed by another process" in life.output or "another process claimed" in life.output
                assert lost, f"a writer ended by itself: {life.code}: {life.output[-4_000:]}"
                self.result.fenced += 1
            self._count(step.kind, runner, life)

    def _maintain(self, step: Step, until: int) -> None:
        """Maintain the lake beside the flow, once or twice at the same time, and kill everyone."""
        flow = self._start(step, until)
        self._wait_for_commits(flow, step)
        keepers = [self._keeper.start(step.kind, point) for point in step.keepers]
        self._children += keepers
        for point, keeper in zip(step.keepers, keepers, strict=True):
            if point:
                keeper.wait_until(lambda _: False, 30)
            else:
                keeper.wait_until(lambda entries: bool(Life(0, entries, "").count("create:_lease")), 30)
                time.sleep(step.delay_s * 3)
            keeper.kill()
            self._count(step.kind, "maintenance", self._keeper.end(keeper))
        self._bury(step.kind, step.runner, flow)

    def _asleep(self, step: Step, until: int) -> None:
        """Let the flow sleep with a file that it has put and not committed, tidy up, and wake it."""
        flow = self._start(step, until)
        self._wait_for_point(flow)
        self._keeper.tidy()
        flow.process.send_signal(signal.SIGCONT)
        self._wait_for_commits(flow, step)
        self._bury(step.kind, step.runner, flow)

    def _kill_all(self) -> None:
        for child in self._children:
            child.kill()

    # ------------------------------------------------------------------ what must hold

    def _look(self) -> None:
        self._watch.look()
        self.result.looks += 1

    def _end(self) -> None:
        """Read the log to its end, undisturbed, and compare everything."""
        last = max(map(len, self.ground.logs.values()))
        life = self.ground.start(LOOP, pace_s=0.0, order={"known": last}, lake__flush_rows_max=1_000).end()
        assert life.code == 0, f"the last flow ended with {life.code}: {life.output[-4_000:]}"
        self._count("last", "loop", life)
        self.ground.lives.append(life)
        self._look()
        if self.plan.upkeep:
            # What is not signed stays, and what vacuum does is signed afterwards.
            for kind in ("compact", "vacuum"):
                self._signer.sign()
                self._keeper.tidy((kind,))
                self._look()
        self._signer.sign()
        versions = {name: seen.version for name, seen in self._watch.tables.items()}
        self._signer.assert_whole(versions, tidied=self.plan.upkeep)
        self.result.beside["ledger"] = self._signer.kills
        self._assert_whole()
        if self._hot is not None:
            self._beat_api("")
            self._hot.settle(LOOP)
            self._hot.assert_same()
        doctor = self.ground.start("lake doctor", order={"logs": ""}).end()
        assert doctor.code == 0, f"lake doctor: {doctor.output[-4_000:]}"
        self.result.rows = self._watch.rows()
        self.result.tidiers_refused = self._keeper.refused

    def _assert_whole(self) -> None:
        if not self.result.losses and not self.plan.expires:
            self.ground.assert_whole()
            return
        # The journal of such a lake makes no undisturbed run, or not all of it is there any more.
        for name, seen in self._watch.tables.items():
            found = Counter(key(row) for row in self.ground.rows(name))
            assert found == seen.live(), f"{name}: another reader finds {found.total()} rows, not {seen.live().total()}"
        for expected in self._expected.values():
            expected.assert_as_oracle()

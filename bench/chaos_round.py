"""One round of the long kill run: what each kind of step does to a lake and to those who write to it."""

from __future__ import annotations

import signal
import time
import traceback
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.chaos_stage import END_S_MAX, Result, Stage, cpu_s
from tests.kill.harness import LOOP, Life

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.chaos_plan import Plan, Step
    from tests.kill.harness import Child

ACCEPTED_SHARE = 0.5
"""How often an expired log is accepted; else it comes back."""


def play(plan: Plan, folder: Path, on_kill: Callable[[int], None] = lambda _: None) -> Result:
    """Play a round; what does not hold stands in the result.

    Args:
        plan: What is to happen.
        folder: For everything that is written; whoever calls removes it.
        on_kill: Told how many kills there were, for progress.
    """
    result = Result(plan.seed, plan.store, plan.hot, plan.upkeep, folder=str(folder))
    started, used_s = time.monotonic(), cpu_s()
    try:
        with ExitStack() as stack:
            stage = Stage(plan, result, folder, stack, on_kill)
            for step in plan.steps:
                Player(stage, step).play()
            stage.finish()
    except Exception:  # noqa: BLE001 whatever it is, the round has not come out as it should
        result.violation = traceback.format_exc()
    result.seconds = round(time.monotonic() - started, 2)
    result.cpu_s = round(cpu_s() - used_s, 2)
    return result


class Player:
    """Plays one step, and looks at the lake."""

    def __init__(self, stage: Stage, step: Step) -> None:
        self._stage, self._step = stage, step
        self._until = stage.there + step.grow

    def play(self) -> None:
        """Do what the step's kind says, then look."""
        stage, step = self._stage, self._step
        stage.beat(step.point if step.kind == "api" else "")
        match step.kind:
            case "newest states":
                stage.delete_states(newest=1 + int(step.choice * 2))
            case "all states":
                stage.delete_states()
            case "expired":
                self._expire()
        match step.kind:
            case "zombie":
                self._zombies()
            case "writers":
                self._writers()
            case "compact" | "vacuum" | "trim" | "maintain":
                self._maintain()
            case "asleep":
                self._asleep()
            case _:
                self._flow()
        stage.there = self._until
        stage.look()

    def _flow(self) -> None:
        stage, step = self._stage, self._step
        child = stage.start(step, self._until)
        if step.point and step.kind != "api":
            stage.wait_for_point(child)
        elif step.kind == "start":
            time.sleep(step.delay_s)
        else:
            stage.wait_for_commits(child, step)
        stage.bury(step.kind, step.runner, child)

    def _expire(self) -> None:
        """Take away all states and the beginning of the log: the flow refuses, and is told to go on, or is given it."""
        stage, step = self._stage, self._step
        begins, ends = stage.stored()
        if ends - begins < 2:
            return
        stage.delete_states()
        since = begins + 1 + int(step.choice * (ends - begins - 1))
        life = stage.start(step, stage.there, LOOP, since=since).end(END_S_MAX)
        stage.count("refused", "loop", life)
        assert life.code == 3, f"a log that has expired is not refused: {life.code}: {life.output[-4_000:]}"
        assert "--accept-state-loss" in life.output, life.output[-4_000:]
        stage.result.refused += 1
        stage.look()
        if step.choice < ACCEPTED_SHARE:
            accepted = stage.start(step, self._until, LOOP + " --accept-state-loss", since=since)
            stage.wait_for_commits(accepted, step)
            stage.bury("loss accepted", "loop", accepted)
            stage.look()
            stage.result.losses += 1

    def _zombies(self) -> None:
        """Pause a writer in the middle, let others take its partitions, and wake it."""
        stage, step = self._stage, self._step
        paused = stage.start(step, self._until)
        stage.wait_for_point(paused)
        alive = [(step.runner, paused)]
        for runner in step.others:
            heir = stage.start(step, self._until, runner)
            stage.wait_for_commits(heir, step)
            alive.append((runner, heir))
        paused.process.send_signal(signal.SIGCONT)
        # It finds out at its next write; one that has nothing more to write never does.
        paused.wait_until(lambda entries: entries[-1:] == [{"event": "quiet"}], 60)
        self._end_writers(alive)

    def _writers(self) -> None:
        """Start some at the same time; each takes the partitions from the one before, in whatever order."""
        stage, step = self._stage, self._step
        alive = []
        for runner in (step.runner, *step.others):
            alive.append((runner, stage.start(step, self._until, runner)))
            time.sleep(step.delay_s)
        stage.wait_for_commits(alive[-1][1], step)
        self._end_writers(alive)

    def _end_writers(self, alive: list[tuple[str, Child]]) -> None:
        stage = self._stage
        stage.rng.shuffle(alive)
        for runner, child in alive:
            child.kill()
            life = child.end()
            if life.code != -signal.SIGKILL:
                lost = "claimed by another process" in life.output or "another process claimed" in life.output
                assert lost, f"a writer ended by itself: {life.code}: {life.output[-4_000:]}"
                stage.result.fenced += 1
            stage.count(self._step.kind, runner, life)

    def _maintain(self) -> None:
        """Maintain the lake beside the flow, once or twice at the same time, and kill everyone."""
        stage, step = self._stage, self._step
        flow = stage.start(step, self._until)
        stage.wait_for_commits(flow, step)
        keepers = [stage.keeper.start(step.kind, point) for point in step.keepers]
        for point, keeper in zip(step.keepers, keepers, strict=True):
            if point:
                keeper.wait_until(lambda _: False, 60)
            else:
                keeper.wait_until(lambda entries: bool(Life(0, entries, "").count("create:_lease")), 30)
                time.sleep(step.delay_s * 3)
            keeper.kill()
            stage.count(step.kind, "maintenance", stage.keeper.end(keeper))
        stage.bury(step.kind, step.runner, flow)

    def _asleep(self) -> None:
        """Let the flow sleep with a file that it has put and not committed, tidy up, and wake it."""
        stage, step = self._stage, self._step
        flow = stage.start(step, self._until)
        stage.wait_for_point(flow)
        stage.keeper.tidy()
        flow.process.send_signal(signal.SIGCONT)
        stage.wait_for_commits(flow, step)
        stage.bury(step.kind, step.runner, flow)

"""The long kill run: a thousand kills -9 of the flow and of what runs beside it, on both stores, each with a check.

    make chaos KILLS=1000                             # or python -m bench.chaos --kills 1000 [--resume]
    python -m bench.chaos --seed 17 --store azurite   # one round again

It goes in rounds (`bench/chaos_round.py`), each a process of its own and a function of its seed as far as scheduling
allows; what became of each is a line of var/chaos/results.jsonl, and `--resume` goes on behind the last. The folder of
a round in which something did not hold is kept, and the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.chaos_plan import AZURITE, LOCAL, STORES
from bench.chaos_report import table

FOLDER = Path("var/chaos")
ROUND_KILLS = 30
# A round takes minutes; one that takes so long hangs.
ROUND_S_MAX = 3_600.0
VIOLATIONS_MAX = 5
_POLL_S = 0.2
_TELL_S = 20.0


@dataclass
class Slot:
    """A round that is under way."""

    process: subprocess.Popen[bytes]
    seed: int
    store: str
    folder: Path
    started_s: float = field(default_factory=time.monotonic)

    def kills(self) -> int:
        try:
            return int((self.folder / "kills").read_text() or 0)
        except (FileNotFoundError, ValueError):
            return 0

    def result(self) -> dict[str, Any]:
        """What the round has written, or that it has not."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "result.json").read_text())
        except FileNotFoundError:
            output = (self.folder / "output").read_text()[-2_000:]
            found = {"seed": self.seed, "store": self.store, "kills": []}
            found["violation"] = f"the round ended with {self.process.returncode}: {output}"
        return found | {"folder": str(self.folder)}


class Campaign:
    """Rounds until there were enough kills.

    Args:
        arguments: Those of the command line.
        done: Rounds of an earlier run that this one goes on with.
        first: Seed of the first round.
    """

    def __init__(self, arguments: argparse.Namespace, done: list[dict[str, Any]], first: int) -> None:
        self._arguments = arguments
        self._done = done
        self._stores = [arguments.store] if arguments.store else [LOCAL, AZURITE]
        self._first = first
        self._next = 0
        self._slots: list[Slot] = []
        self._began = time.monotonic()
        self._before = sum(len(each["kills"]) for each in done)
        self._told_s = 0.0

    def run(self) -> list[dict[str, Any]]:
        """Run rounds side by side, and return all, the earlier ones included."""
        try:
            while self._slots or self._wants_more():
                while len(self._slots) < self._arguments.jobs and self._wants_more():
                    self._start()
                self._collect()
                self._tell()
                time.sleep(_POLL_S)
        finally:
            for slot in self._slots:
                # Its own processes end with it: those that it forked see that it is gone.
                slot.process.terminate()
                slot.process.wait(60)
        return self._done

    def _wants_more(self) -> bool:
        if sum(bool(each["violation"]) for each in self._done) >= VIOLATIONS_MAX:
            return False
        under_way = len(self._slots) * self._arguments.round_kills
        return bool(sum(len(each["kills"]) for each in self._done) + under_way < self._arguments.kills)

    def _start(self) -> None:
        known = {(each["seed"], each["store"]) for each in self._done}
        while True:
            seed, store = self._first + self._next, self._stores[self._next % len(self._stores)]
            self._next += 1
            if (seed, store) not in known:
                break
        folder = (FOLDER / f"{store}-{seed}").absolute()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        command = [sys.executable, "-m", "bench.chaos", "--round", str(folder), "--seed", str(seed), "--store", store]
        command += ["--round-kills", str(self._arguments.round_kills)]
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        self._slots.append(Slot(process, seed, store, folder))

    def _collect(self) -> None:
        for slot in list(self._slots):
            if slot.process.poll() is None:
                if time.monotonic() - slot.started_s < ROUND_S_MAX:
                    continue
                slot.process.terminate()
                slot.process.wait(60)
            self._slots.remove(slot)
            result = slot.result()
            self._done.append(result)
            write(result)
            if not result["violation"]:
                shutil.rmtree(slot.folder)
                continue
            print(f"\nVIOLATION in round {slot.seed} on {slot.store}; kept: {slot.folder}\n{result['violation']}")
            print(
                f"again: python -m bench.chaos --seed {slot.seed} --store {slot.store} --round-kills "
                f"{self._arguments.round_kills}\n",
                flush=True,
            )

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told_s < _TELL_S:
            return
        self._told_s = now
        done = sum(len(each["kills"]) for each in self._done) + sum(slot.kills() for slot in self._slots)
        here, passed = done - self._before, now - self._began
        left = max(0, self._arguments.kills - done) * passed / here if here else 0
        wrong = sum(bool(each["violation"]) for each in self._done)
        rounds = f"{len(self._done)} rounds, {wrong} violations"
        print(
            f"{done} of {self._arguments.kills} kills, {rounds}; {passed / 60:.0f} min, {left / 60:.0f} to go",
            flush=True,
        )


def write(line: dict[str, Any]) -> None:
    with (FOLDER / "results.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def earlier() -> tuple[list[dict[str, Any]], int | None]:
    """Return the rounds of the last run and the seed with which it began."""
    path = FOLDER / "results.jsonl"
    rounds: list[dict[str, Any]] = []
    first = None
    for line in path.read_text().splitlines() if path.exists() else []:
        found = json.loads(line)
        if "first" in found:
            rounds, first = [], found["first"]
        else:
            rounds.append(found)
    return rounds, first


def play(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Play one round in this process."""
    from bench.chaos_plan import draw
    from bench.chaos_round import play as play_round

    plan = draw(arguments.seed, arguments.store, arguments.round_kills)
    kills = folder / "kills"

    def note(count: int) -> None:
        kills.write_text(str(count))

    result = play_round(plan, folder, note).as_dict()
    (folder / "result.json").write_text(json.dumps(result))
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1_000, help="how many kills in all")
    parser.add_argument("--jobs", type=int, default=2, help="rounds side by side")
    parser.add_argument("--resume", action="store_true", help="go on with the last run")
    parser.add_argument("--seed", type=int, help="play the one round of this seed")
    parser.add_argument("--store", choices=STORES, help="only on this store")
    parser.add_argument("--round-kills", type=int, default=ROUND_KILLS, help="kills in a round, about")
    parser.add_argument("--round", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    # Asked to end, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if arguments.round:
        return 1 if play(arguments, arguments.round)["violation"] else 0
    if arguments.seed is not None:
        arguments.store = arguments.store or LOCAL
        folder = (FOLDER / f"{arguments.store}-{arguments.seed}").absolute()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        rounds = [play(arguments, folder)]
    else:
        done, first = earlier() if arguments.resume else ([], None)
        if first is None:
            first = int(time.time())
            write({"first": first, "kills": arguments.kills, "round_kills": arguments.round_kills})
        rounds = Campaign(arguments, done, first).run()
    print(table(rounds))
    return 1 if any(each["violation"] for each in rounds) else 0


if __name__ == "__main__":
    sys.exit(main())

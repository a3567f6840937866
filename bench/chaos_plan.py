"""What happens in one round of the long kill run: a function of its seed.

A round is one lake that lives until its log is read to the end. Each of its steps starts the flow, mostly once, lets it
read some more of the log, and ends in a kill; which kill, where and when is drawn here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.chaos_upkeep import draw_point
from tests.kill.harness import BYTEWAX, LOOP

if TYPE_CHECKING:
    from collections.abc import Sequence

LOCAL, AZURITE = "local", "azurite"
STORES = (LOCAL, AZURITE)

# By name, as the tables show them.
RUNNERS = {
    "loop": LOOP,
    "bytewax": "run --runner bytewax",
    "bytewax.run": BYTEWAX,
    "bytewax -w 2": BYTEWAX + " -w 2",
}

TABLES = ("readings", "windows", "alarms", "rejected", "batches")

# What each step is, and how often it is drawn.
WEIGHTS = {
    "point": 40,
    "random": 22,
    "start": 6,
    "newest states": 8,
    "all states": 4,
    "expired": 2,
    "zombie": 8,
    "writers": 5,
    "clock": 5,
}
# In a round with the hot store.
WEIGHTS_HOT = {"post": 8, "api": 6}
# In a round with maintenance, and in one in which rows expire: the hot store keeps them longer.
WEIGHTS_UPKEEP = {"compact": 9, "vacuum": 7, "asleep": 5, "trim": 7}
WEIGHTS_EXPIRY = {"maintain": 8}

_EACH: tuple[str, ...] = ("before", "after", "during")
_WITHIN = (*_EACH, "inside")


def _points() -> dict[str, tuple[str, ...]]:
    points = {f"put:{table}": _WITHIN for table in TABLES}
    points |= {f"commit:{table}": _EACH for table in TABLES}
    points |= {f"log:{table}": _WITHIN for table in TABLES}
    points |= {f"checkpoint:{table}": _WITHIN for table in TABLES}
    points |= {f"last_checkpoint:{table}": _WITHIN for table in ("readings", "batches")}
    points |= {f"claim:{table}": _EACH for table in (*TABLES, "journal")}
    return points | {"create:_state": _WITHIN, "delete:_state": _EACH}


POINTS = _points()
# How often a name is met in a life: nearly once a flush, once in several flushes, or a few times at its start.
_NUMBERS = {"checkpoint": (1, 1), "last_checkpoint": (1, 1), "claim": (1, 2), "create": (1, 2), "delete": (1, 2)}
_OFTEN = (1, 4)

BIRTH_POINTS = [
    *(f"log:{table} {place} 1" for table in ("readings", "windows", "journal") for place in _EACH),
    *(f"create:_dictionaries {place} 1" for place in _WITHIN),
    *(f"{name}:journal {place} 1" for name in ("put", "commit") for place in _EACH),
    *(f"claim:{table} {place} 1" for table in TABLES for place in _EACH),
]
# The flush that ends the input: one row of the journal for each partition, and what it brings.
END_POINTS = [
    *(f"{name}:journal {place} {number}" for name in ("put", "commit", "log") for place in _EACH for number in (1, 2)),
    *(f"commit:{table} {place} 1" for table in ("windows", "batches") for place in _EACH),
    "create:_state before 1",
]
POST_POINTS = [
    f"post:{kind} {place} {number}"
    for kind in ("alarms", "windows", "latest", "commits")
    for place in _EACH
    for number in (1, 2, 3)
]
API_POINTS = [
    "ingest:alarms before 2",
    "ingest:alarms inside 1",
    "ingest:windows after 2",
    "ingest:latest inside 2",
    "ingest:commits before 1",
    "ingest:commits inside 1",
    "ingest:commits after 2",
]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a round.

    Attributes:
        kind: One of `WEIGHTS`, or birth, end.
        runner: Of the flow, a name of `RUNNERS`; further flows have their own.
        others: Runners of the flows that are started while this one lives.
        grow: Envelopes that come to each log meanwhile.
        point: Where the flow is to be killed or paused; where the API is, if that is what the step is about.
        commits: After how many commits it is killed from outside.
        delay_s: How long after them.
        flush_rows: The setting `lake.flush_rows_max`.
        clock: Jumps of the wall clock.
        keepers: Where each process of maintenance is to be killed.
        choice: What else has to be drawn, in [0, 1).
    """

    kind: str
    runner: str
    grow: int
    others: tuple[str, ...] = ()
    point: str = ""
    commits: int = 0
    delay_s: float = 0.0
    flush_rows: int = 30
    clock: list[tuple[float, float]] = field(default_factory=list)
    keepers: tuple[str, ...] = ()
    choice: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A round.

    Attributes:
        seed: What all of this follows from, with the store and the number of steps.
        store: One of `STORES`.
        partitions: How many.
        hot: Whether the API's hot store runs beside it.
        upkeep: Whether the lake is maintained meanwhile.
        expires: Whether rows expire then.
        steps: In their order.
        log_seed: Of the logs.
        envelopes: Of each log, more or less: enough for all steps.
    """

    seed: int
    store: str
    partitions: int
    hot: bool
    upkeep: bool
    expires: bool
    steps: Sequence[Step]
    log_seed: int
    envelopes: int


def draw(seed: int, store: str, kills: int, kinds: Sequence[str] = ()) -> Plan:
    """Draw a round with about so many kills; `kinds` are its steps, if they are not to be drawn."""
    rng = random.Random(f"{seed}/{store}")
    hot = rng.random() < 0.3 or any(kind in WEIGHTS_HOT for kind in kinds)
    upkeep = rng.random() < 0.5 or any(kind in WEIGHTS_UPKEEP for kind in kinds)
    expires = "maintain" in kinds or (upkeep and not hot and rng.random() < 0.5)
    weights = WEIGHTS | (WEIGHTS_HOT if hot else {}) | (WEIGHTS_UPKEEP if upkeep else {})
    weights |= WEIGHTS_EXPIRY if expires else {}
    drawn = list(kinds) or ["birth", *rng.choices(list(weights), list(weights.values()), k=max(0, kills - 3)), "end"]
    steps = [_step(rng, kind) for kind in drawn]
    # What is left for the end, and for a source that has gaps.
    envelopes = int((sum(step.grow for step in steps) + 60) * 1.1)
    log_seed = rng.randrange(1 << 30)
    return Plan(seed, store, rng.choice([2, 2, 3]), hot, upkeep, expires, steps, log_seed, envelopes)


def _step(rng: random.Random, kind: str) -> Step:
    runner = rng.choice(list(RUNNERS))
    given: dict[str, Any] = {
        "grow": rng.randint(30, 80),
        "commits": rng.randint(1, 16),
        "delay_s": rng.uniform(0, 0.12),
        "flush_rows": rng.choice([12, 30, 60]),
        "choice": rng.random(),
    }
    point = ""
    match kind:
        case "point":
            point = _point(rng, POINTS)
        case "birth":
            point = rng.choice(BIRTH_POINTS)
        case "end":
            point = rng.choice(END_POINTS)
        case "post":
            point = rng.choice(POST_POINTS)
        case "api":
            point = rng.choice(API_POINTS)
        case "start":
            given["delay_s"] = rng.uniform(0, 0.35)
        case "zombie":
            name = rng.choice(["put", "commit", "log"])
            point = f"{name}:{rng.choice(TABLES)} pause {rng.randint(1, 3)}"
            if rng.random() < 0.25:
                point = f"{rng.choice(['create:_state', 'claim:readings', 'claim:batches'])} pause 1"
        case "asleep":
            point = f"{rng.choice(['commit', 'log'])}:{rng.choice(TABLES)} pause {rng.randint(1, 2)}"
        case "compact" | "vacuum" | "trim" | "maintain":
            given["keepers"] = tuple(draw_point(rng, kind) for _ in range(rng.choice([1, 1, 2])))
        case "clock":
            far = rng.choice([-1, 1]) * rng.choice([3_600, 26 * 3_600, 40 * 86_400])
            given["clock"] = rng.choice([[(0.0, far)], [(0.3, far)], [(0.0, far), (0.4, -2 * far)]])
    others = tuple(rng.choice(list(RUNNERS)) for _ in range(rng.randint(1, 2)))
    return Step(kind, runner, others=others if kind in {"zombie", "writers"} else (), point=point, **given)


def _point(rng: random.Random, points: dict[str, tuple[str, ...]]) -> str:
    name = rng.choice(list(points))
    low, high = _NUMBERS.get(name.partition(":")[0], _OFTEN)
    return f"{name} {rng.choice(points[name])} {rng.randint(low, high)}"

"""Source logs for the tests: a plant's day with everything that can go wrong, from a seed or from hypothesis.

One writer makes both kinds. It asks a `random.Random` for every choice; hypothesis supplies one that it can shrink.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tests.damage import AGAIN, BODIES, DAMAGES, RAW
from tests.plants import HOUR, PLANTS, SECOND
from tests.values import Values

if TYPE_CHECKING:
    from collections.abc import Mapping

START_US = 1_768_478_400 * SECOND  # 2026-01-15T12:00:00Z
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Envelope:
    """One envelope as a source delivers it."""

    sequence_number: int
    enqueued_us: int
    body: bytes
    properties: dict[str, str | None] = field(default_factory=dict)


@st.composite
def logs(draw: st.DrawFn, dictionary: Mapping[str, Any], envelopes_max: int = 30) -> list[Envelope]:
    """Logs of one partition under a dictionary."""
    rng = draw(st.randoms(use_true_random=False))
    return write_log(rng, dictionary, draw(st.integers(0, envelopes_max)))


def seeded_log(seed: int, plant: str, envelopes: int) -> list[Envelope]:
    """The same log for the same seed, whatever the process."""
    return write_log(random.Random(seed), PLANTS[plant], envelopes)


def write_log(
    rng: random.Random, dictionary: Mapping[str, Any], envelopes: int, *, damage: float = 0.15, shift_us: int = 0
) -> list[Envelope]:
    """A log of so many envelopes; `damage` is the share of damaged objects and bodies, `shift_us` moves all times."""
    return Writer(rng, dictionary, damage, shift_us).write(envelopes)


class Writer:
    """Writes one log, choice by choice."""

    def __init__(self, rng: random.Random, dictionary: Mapping[str, Any], damage: float, shift_us: int) -> None:
        self.rng: random.Random = rng
        self.damage = damage
        self.payload = dictionary["payload"]
        self.bounds: Mapping[str, int] = dictionary["bounds"]
        metrics = dictionary["metrics"]
        self.series = [(series["device"], metrics[series["metric"]]) for series in dictionary["series"]]
        if dictionary["unknown"] is not None:
            names = ("pressure", "flow", "level", "current")
            self.series += [("new-1", {**dictionary["unknown"], "name": name}) for name in names]
        self.wide = self.payload["metric"] is None
        self.now = START_US + shift_us
        self.backlog_until = self.now
        self.sequence = -1
        self.sent: list[tuple[str, Mapping[str, Any], int]] = []
        self.values = Values(rng)

    def write(self, envelopes: int) -> list[Envelope]:
        log: list[Envelope] = []
        for _ in range(envelopes):
            redelivered = bool(log) and self.rng.random() < 0.05
            if redelivered:
                log.append(self.rng.choice(log[-4:]))
                continue
            log.append(self._envelope())
        return log

    # ------------------------------------------------------------------ envelopes

    def _envelope(self) -> Envelope:
        self.sequence += self.rng.choice([1, 1, 1, 2, 17])
        self._advance()
        enqueued = self.now - (self.rng.randint(0, 40) * SECOND if self.rng.random() < 0.1 else 0)
        properties: dict[str, str | None] = {}
        if self.rng.random() < self.damage:
            body = self.rng.choice(BODIES)(self)
        else:
            objects = [self.object(properties) for _ in range(self.rng.choice([1, 1, 2, 3, 5]))]
            body = self.dump(objects[0] if len(objects) == 1 and self.rng.random() < 0.7 else objects)
        return Envelope(self.sequence, enqueued, body, properties)

    def _advance(self) -> None:
        """Mostly seconds; now and then a silence, after which a backlog may arrive."""
        if self.rng.random() < 0.08:
            before = self.now
            self.now += self.rng.randint(10, 100) * SECOND
            self.backlog_until = before if self.rng.random() < 0.6 else self.now
        else:
            self.now += self.rng.choice([0, SECOND // 2, SECOND, 2 * SECOND, 5 * SECOND])

    def dump(self, document: Any) -> bytes:
        """JSON with members in any order, spaces and escapes here and there; what is raw stays raw."""
        style = self.rng.choice([(",", ":"), (", ", ": "), (" ,\n", "\t:\r ")])
        text = json.dumps(document, ensure_ascii=self.rng.random() < 0.5, separators=style)
        text = re.sub(f'"{RAW}([^"]*)"', r"\1", text).replace(AGAIN, "")
        if self.rng.random() < 0.05:
            text = text.replace('e"', '\\u0065"')
        return (self.rng.choice(["", "", " ", "\n"]) + text).encode()

    # ------------------------------------------------------------------ one object

    def object(self, properties: dict[str, str | None]) -> Any:
        device, metric = self.rng.choice(self.series)
        event = self._event_time(metric)
        if self.sent and self.rng.random() < 0.1:
            device, metric, event = self.rng.choice(self.sent[-10:])
        self.sent.append((device, metric, event))
        time_field = self.payload["time"][0]
        made: dict[str, Any] = {}
        self._put_device(made, device, properties)
        made[time_field] = self._time(event)
        if self.wide:
            metrics = [m for d, m in self.series if d == device]
            for each in self.rng.sample(metrics, self.rng.randint(1, len(metrics))):
                made[self._renamed(each["name"])] = self.values.next(device, each)
        else:
            made[self.payload["metric"]] = self._renamed(metric["name"])
            made[self.payload["value"]] = self.values.next(device, metric)
        if self.payload["quality"] and self.rng.random() < 0.3:
            made[self.payload["quality"]] = self.rng.choice([64, 192, 193, 32767, None])
        for extra in ("seq", "firmware"):
            if self.rng.random() < 0.2 and (not self.wide or extra in self.payload["ignore"]):
                made[extra] = self.rng.choice([1, 'x"\\\u00e9\u2028', None, [1, {"a": "b"}], 1.5e300, True])
        if self.rng.random() < self.damage:
            return self.rng.choice(DAMAGES)(self, made, metric)
        members = list(made.items())
        if self.rng.random() < 0.3:
            self.rng.shuffle(members)
        return dict(members)

    def _put_device(self, made: dict[str, Any], device: str, properties: dict[str, str | None]) -> None:
        fields = [name for name in self.payload["device"] if not name.startswith("@")]
        names = [name[1:] for name in self.payload["device"] if name.startswith("@")]
        # One property serves all the objects of an envelope.
        if names and (self.rng.random() < 0.1 or properties.get(names[0])):
            properties.setdefault(names[0], self.rng.choice([device, device, None, "", "stranger"]))
            if self.rng.random() < 0.5:
                return
        made[self.rng.choice(fields)] = device

    def _event_time(self, metric: Mapping[str, Any]) -> int:
        kind = self.rng.random()
        if kind < 0.55:
            back = self.rng.randint(0, 8_000) * 1000
        elif kind < 0.75:
            # On the grid of the windows, so that times are equal and fall on edges.
            return (self.now // (5 * SECOND) - self.rng.randint(0, 2)) * 5 * SECOND
        elif kind < 0.85:
            back = self.rng.randint(10, 150) * SECOND + self.rng.randint(0, 1)
        elif kind < 0.92:
            # Out of a backlog: time goes on from where the silence began.
            self.backlog_until = min(self.now, self.backlog_until + SECOND)
            return self.backlog_until
        elif kind < 0.96:
            # Ahead of partition time, up to the last moment that is allowed.
            return self.now + self.rng.choice([1, SECOND, int(metric["clock_skew_us"])])
        else:
            edges = [metric["clock_skew_us"] + 1, HOUR, -metric["max_age_us"], -metric["max_age_us"] - 1]
            return self.now + int(self.rng.choice(edges))
        return self.now - back

    def _time(self, event_us: int) -> Any:
        form = self.payload["time_format"]
        if form == "rfc3339":
            ahead = self.rng.choice([0, 0, 0, 60, -330])
            local = EPOCH + timedelta(microseconds=event_us, minutes=ahead)
            fraction = f".{event_us % SECOND:06d}".rstrip("0") if event_us % SECOND else ""
            if fraction and self.rng.random() < 0.2:
                fraction = f".{event_us % SECOND:06d}{self.rng.randint(0, 999):03d}"
            zone = self.rng.choice(["Z", "z", "+00:00"]) if ahead == 0 else {60: "+01:00", -330: "-05:30"}[ahead]
            return local.strftime(f"%Y-%m-%d{self.rng.choice('TTt ')}%H:%M:%S") + fraction + zone
        unit = {"epoch_s": SECOND, "epoch_ms": 1000, "epoch_us": 1}[form]
        whole, rest = divmod(event_us, unit)
        digits = len(str(unit)) - 1
        return RAW + f"{whole}.{rest:0{digits}d}" if rest and digits else whole

    def _renamed(self, name: str) -> str:
        sent_as = [old for old, new in self.payload["rename"].items() if new == name]
        return str(self.rng.choice([name, *sent_as]))

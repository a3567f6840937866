"""What a demo must end with: every reading accounted for, the hot store equal to the lake, every fault found."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from alumicatalyst.demo.client import Client
    from alumicatalyst.lake import Lake

Transitions = dict[str, set[int]]
# The API answers 50 requests a second; the newest alarms are compared step by step, all others by their newest step.
_HISTORIES_MAX = 1_000
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")


def transitions(lake: Lake) -> Transitions:
    """Return the steps of every alarm in the lake."""
    found: Transitions = defaultdict(set)
    for row in lake.table("alarms").select("SELECT alarm_id, step FROM alarms"):
        found[row["alarm_id"]].add(row["step"])
    return found


def differences(client: Client, lake: Transitions, *, histories: bool) -> list[str]:
    """Return in words where the hot store is not what the lake is, alarm by alarm; nothing: they agree.

    Args:
        client: The API.
        lake: The lake's transitions.
        histories: Compare every step, not only the newest.
    """
    alarms = {alarm["alarm_id"]: alarm for alarm in client.items("/v1/alarms")}
    wrong = [f"alarm {alarm_id} is missing from the API" for alarm_id in sorted(lake.keys() - alarms.keys())]
    for place, (alarm_id, alarm) in enumerate(alarms.items()):
        steps = lake.get(alarm_id, set())
        if not steps:
            wrong.append(f"alarm {alarm_id} of the API is not in the lake")
        elif alarm["step"] != max(steps) or alarm["provisional"]:
            state = "provisional" if alarm["provisional"] else "confirmed"
            wrong.append(f"alarm {alarm_id} has come to step {alarm['step']}, {state}; in the lake to {max(steps)}")
        elif histories and place < _HISTORIES_MAX:
            history = client.get(f"/v1/alarms/{alarm_id}/history")["items"]
            has = sorted(each["step"] for each in history if each["side"] == "process" and not each["retracted"])
            if has != sorted(steps):
                wrong.append(f"alarm {alarm_id} has the steps {has}, in the lake {sorted(steps)}")
    return wrong


@dataclass(frozen=True, slots=True)
class Faults:
    """How the faults of a run were found.

    Attributes:
        injected: Faults that neither the beginning nor the end of the run cut.
        expected_alarms: Alarms that the dictionary's rules must raise for them.
        raised: How many of these the lake has.
        missing: The others, in words.
    """

    injected: int
    expected_alarms: int
    raised: int
    missing: list[str]

    def as_dict(self) -> dict[str, int]:
        """Return the numbers."""
        return {"injected": self.injected, "expected_alarms": self.expected_alarms, "raised": self.raised}


def faults(lake: Lake, truth: Iterable[dict[str, Any]], ignored: set[tuple[str, str]]) -> Faults:
    """Compare the truth of a run with the lake: an alarm of each expected rule was active during the fault.

    Args:
        lake: The lake.
        truth: The lines of a truth file.
        ignored: Metrics and rules that are not compared.
    """
    spans = _spans(lake)
    injected, expected, missing = 0, 0, []
    for line in truth:
        if line["kind"] != "fault" or not line["complete"]:
            continue
        injected += 1
        begin, end = _us(line["from"]), _us(line["until"])
        for rule in line["alarms"]:
            if (line["metric"], rule) in ignored:
                continue
            expected += 1
            key = line["device"], line["metric"], rule
            if not any(raised <= end and (cleared is None or cleared >= begin) for raised, cleared in spans[key]):
                missing.append(f"{line['fault']} of {line['device']} from {line['from']}: no alarm {rule}")
    return Faults(injected, expected, expected - len(missing), missing)


def _spans(lake: Lake) -> dict[tuple[str, str, str], list[tuple[int, int | None]]]:
    """Return from when to when the alarms of each series and rule were active."""
    raised: dict[str, tuple[tuple[str, str, str], int]] = {}
    cleared: dict[str, int] = {}
    query = "SELECT alarm_id, device, metric, alarm_rule, transition, event_time FROM alarms"
    for row in lake.table("alarms").select(query):
        at = (row["event_time"] - _EPOCH) // timedelta(microseconds=1)
        if row["transition"] == "raised":
            raised[row["alarm_id"]] = (row["device"], row["metric"], row["alarm_rule"]), at
        elif row["transition"] == "cleared":
            cleared[row["alarm_id"]] = at
    spans = defaultdict(list)
    for alarm_id, (key, at) in raised.items():
        spans[key].append((at, cleared.get(alarm_id)))
    return spans


def score_rules(compiled: dict[str, Any]) -> set[tuple[str, str]]:
    """Return metric and name of every rule about scores."""
    return {
        (metric["name"], alarm["rule"])
        for metric in compiled["metrics"]
        for alarm in metric["alarms"]
        if alarm["condition"]["kind"] == "score_above"
    }


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a truth file that tell of faults."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.startswith('{"kind":"fault"')]


def _us(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)

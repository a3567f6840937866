"""What the page shows: some devices of each kind of machine, all that they measured, and what was wrong with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from alumicatalyst.simulator.engine import Simulator
from alumicatalyst.simulator.expected import Expected
from alumicatalyst.simulator.plant import build_fleet
from alumicatalyst.simulator.rows import COPY, MALFORMED, Rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from alumicatalyst.simulator.clocks import Clocks
    from alumicatalyst.simulator.expected import Found
    from alumicatalyst.simulator.plan import Plan
    from alumicatalyst.simulator.plant import Compiled

DEVICES_MAX: Final = 3
# Where names begin in more ways than this, they are serial numbers that say nothing of the machine.
_STEMS_MAX: Final = 12


@dataclass(frozen=True, slots=True)
class Trace:
    """What one series measured, in the order of time.

    Attributes:
        device: Its device.
        metric: The compiled metric.
        times_us: When it was measured.
        sent_us: When it was sent, or typed in.
        values: In the canonical unit; codes of states.
    """

    device: str
    metric: Mapping[str, Any]
    times_us: NDArray[np.int64]
    sent_us: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was wrong in the plant, and the alarm rules that must find it.

    Attributes:
        device: Whose.
        metric: Which of its metrics.
        kind: What was wrong.
        begin_us: Since when.
        onset_us: Of an anode effect when it broke out; else the begin.
        end_us: Until when.
        alarms: The rules.
    """

    device: str
    metric: str
    kind: str
    begin_us: int
    onset_us: int
    end_us: int
    alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """Machines of one kind: they measure the same.

    Attributes:
        name: What their devices' names have in common.
        count: How many there are.
        devices: Those that are shown.
        metrics: What each of them measures.
    """

    name: str
    count: int
    devices: tuple[str, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A stretch of time of some devices.

    Attributes:
        kinds: The machines.
        traces: By device and metric.
        marks: What was wrong with those devices, in the order of time.
        begin_us: From when.
        end_us: To when.
    """

    kinds: tuple[Kind, ...]
    traces: Mapping[tuple[str, str], Trace]
    marks: tuple[Mark, ...]
    begin_us: int
    end_us: int

    def of(self, kind: Kind, metric: str) -> list[Trace]:
        """Return what the shown devices of a kind measured."""
        return [self.traces[device, metric] for device in kind.devices]

    def marks_of(self, trace: Trace) -> list[Mark]:
        """Return what was wrong with a series."""
        return [one for one in self.marks if (one.device, one.metric) == (trace.device, trace.metric["name"])]


def take_record(compiled: Compiled, plan: Plan, clocks: Clocks, seconds: float) -> Record:
    """Simulate some devices of each kind; what is wrong now and then is rather seen on them than on the others."""
    end_us = plan.start_us + round(seconds * 1_000_000)
    kinds = _choose(compiled, plan, end_us)
    shown = {device for kind in kinds for device in kind.devices}
    simulator = Simulator(compiled, plan, accept=lambda _, device: device in shown, clocks=clocks)
    fleet = simulator.fleet
    expected = None if fleet.faults is None else Expected(fleet, fleet.faults, plan.start_us)
    parts, found = [], []
    end_us = simulator.floor(end_us)
    while simulator.now_us < end_us:
        released = simulator.advance(min(end_us, simulator.now_us + simulator.step_us))
        parts.append(released.rows.take(released.rows.marks & (COPY | MALFORMED) == 0))
        if expected is not None:
            found += expected.add(released)
    if expected is not None:
        found += expected.close(simulator.now_us)
    rows = Rows.concat(parts)
    rows = rows.take(np.lexsort((rows.times_us, rows.series)))
    ends = np.searchsorted(rows.series, np.arange(len(fleet.metric) + 1))
    traces = {}
    for series, (first, last) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)):
        device, metric = fleet.devices[int(fleet.device[series])], fleet.metrics[int(fleet.metric[series])]
        mantissas = rows.mantissas[first:last]
        values = mantissas.astype(np.float64) if metric["states"] else fleet.canonical(series, mantissas)
        times_us, sent_us = rows.times_us[first:last], rows.sent_us[first:last]
        traces[device, str(metric["name"])] = Trace(device, metric, times_us, sent_us, values)
    marks = [_mark(fleet, one) for one in found]
    marks.sort(key=lambda one: (one.begin_us, one.device, one.metric))
    return Record(kinds, traces, tuple(marks), plan.start_us, end_us)


def _mark(fleet: Any, found: Found) -> Mark:
    fault = found.fault
    device, metric = fleet.devices[int(fleet.device[fault.series])], fleet.metrics[int(fleet.metric[fault.series])]
    return Mark(device, metric["name"], fault.kind, fault.begin_us, fault.onset_us, fault.end_us, found.alarms)


def _choose(compiled: Compiled, plan: Plan, end_us: int) -> tuple[Kind, ...]:
    """Sort the devices into kinds, and choose some of each: those first that have what others have not."""
    fleet = build_fleet(compiled, plan)
    metrics: dict[int, list[int]] = {}
    for device, metric in zip(fleet.device.tolist(), fleet.metric.tolist(), strict=True):
        metrics.setdefault(device, []).append(metric)
    # Another alarm limit makes no other machine; another unit, range or name does.
    looks = [json.dumps([one[key] for key in ("name", "unit", "range", "states", "every_us")]) for one in fleet.metrics]
    stems = [name.rstrip("0123456789") for name in fleet.devices]
    if len(set(stems)) > _STEMS_MAX:
        stems = [""] * len(stems)
    kinds: dict[tuple[str, ...], list[int]] = {}
    for device, of_device in metrics.items():
        kinds.setdefault((stems[device], *sorted(looks[metric] for metric in of_device)), []).append(device)
    faults: dict[int, list[str]] = {}
    if fleet.faults is not None:
        # Without a single reading it tells all faults there are.
        for found in Expected(fleet, fleet.faults, plan.start_us).close(end_us):
            if found.fault.begin_us >= plan.start_us and found.fault.end_us <= end_us:
                faults.setdefault(int(fleet.device[found.fault.series]), []).append(found.fault.kind)

    def interest(device: int) -> tuple[int, int]:
        kinds_of = faults.get(device, [])
        return (-("anode_effect" in kinds_of) - len(set(kinds_of)), device)

    chosen = []
    for devices in kinds.values():
        shown = sorted(sorted(devices, key=interest)[:DEVICES_MAX])
        names = [fleet.devices[device] for device in devices]
        chosen.append(
            Kind(
                name=_common(names),
                count=len(devices),
                devices=tuple(fleet.devices[device] for device in shown),
                metrics=tuple(sorted(str(fleet.metrics[metric]["name"]) for metric in metrics[devices[0]])),
            )
        )
    return tuple(sorted(chosen, key=lambda kind: kind.devices))


def _common(names: Sequence[str]) -> str:
    """Return what some names begin with, without a number cut in two."""
    first, last = min(names), max(names)
    if first == last:
        return first
    length = next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return first[:length].rstrip("0123456789").rstrip("-_ .") or "machines"

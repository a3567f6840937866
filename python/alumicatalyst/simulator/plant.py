"""The devices to simulate: the compiled dictionary's series, copied and speeded up as planned, with their signals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from alumicatalyst.errors import InputError
from alumicatalyst.simulator.faults import Fault, Faults
from alumicatalyst.simulator.noise import keys_of
from alumicatalyst.simulator.plan import LABORATORY_MAX_US, MINUTE_US, SECOND_US, Plan, ProcessFaults
from alumicatalyst.simulator.signals import Points, Signal, signal_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Compiled = Mapping[str, Any]
# Used where the dictionary does not say how often a metric is measured.
_STATUS_EVERY_US = 30 * SECOND_US
_VALUE_EVERY_US = 10 * SECOND_US
# Metrics measured this seldom are taken to come from a laboratory.
_LABORATORY_EVERY_US = 60 * MINUTE_US
_DECIMALS_MAX = 9
_MANTISSA_MAX = 1e15


@dataclass(frozen=True, slots=True)
class Group:
    """Series that share a metric definition and a signal, evaluated together."""

    signal: Signal
    series: NDArray[np.int64]
    every_us: int
    decimals: int
    step: int
    metric: Mapping[str, Any]
    laboratory: bool


@dataclass(frozen=True, slots=True)
class Fleet:
    """All series of the simulated plants, as columns.

    Attributes:
        devices: Names; `device` refers to them.
        partition_keys: What senders key by; `partition_key` refers to them.
        metrics: The dictionary's metric definitions; `metric` refers to them.
        device: For each series its device, and so on.
        phase_us: When in its interval a series is measured.
        decimals: Digits after the point of a value as sent.
        groups: The same series by signal.
        faults: What goes wrong in the plant; None: nothing does.
        microseconds: Event times need more than milliseconds.
        per_second: Readings a second over all series.
    """

    devices: list[str]
    assets: list[str]
    partition_keys: list[str]
    metrics: list[Mapping[str, Any]]
    device: NDArray[np.int64]
    partition_key: NDArray[np.int64]
    metric: NDArray[np.int64]
    phase_us: NDArray[np.int64]
    decimals: NDArray[np.int64]
    series_keys: NDArray[np.uint64]
    device_keys: NDArray[np.uint64]
    plant_keys: NDArray[np.uint64]
    key_keys: NDArray[np.uint64]
    groups: list[Group]
    faults: Faults | None
    microseconds: bool
    per_second: float

    def evaluate(
        self, group: Group, position: NDArray[np.int64], index: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], ...]:
        """Return event times and values (as whole numbers of the last decimal) of measurements of a group's series."""
        chosen = group.series
        times_us = index * group.every_us + self.phase_us[chosen][position]
        values = self._undisturbed(group, position, index, times_us)
        if self.faults is not None:

            def at(fault: Fault, other: int) -> float:
                place, one = np.flatnonzero(chosen == fault.series), np.array([other])
                time_us = one * group.every_us + self.phase_us[fault.series]
                return float(self._undisturbed(group, place, one, time_us)[0])

            values = self.faults.disturb(group, chosen[position], index, times_us, values, at)
        if group.metric["states"] is not None:
            return times_us, values.astype(np.int64)
        if group.metric["range"] is not None:
            # Never at the very edge, where rounding could carry a good reading out of its range.
            low, high = group.metric["range"]
            margin = (high - low) * 1e-3
            values = np.clip(values, low + margin, high - margin)
        sent = _as_sent(values, group.metric["conversion"]) * (10.0**group.decimals / group.step)
        return times_us, np.rint(sent).astype(np.int64) * group.step

    def canonical(self, series: int, mantissas: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return a series' values in the canonical unit, as a reader of what was sent has them."""
        conversion = self.metrics[int(self.metric[series])]["conversion"]
        sent = mantissas / 10.0 ** int(self.decimals[series])
        return np.asarray((sent - conversion["subtract"]) * conversion["multiply"] / conversion["divide"])

    def _undisturbed(
        self, group: Group, position: NDArray[np.int64], index: NDArray[np.int64], times_us: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return what a group's series measure while nothing is wrong in the plant."""
        chosen = group.series
        points = Points(
            device_keys=self.device_keys[self.device[chosen]],
            series_keys=self.series_keys[chosen],
            plant_keys=self.plant_keys[chosen],
            row=position,
            times_us=times_us,
            index=index,
            metric=group.metric,
        )
        return group.signal(points)


def _as_sent(values: Any, conversion: Mapping[str, float]) -> Any:
    """Return canonical values in the unit that devices send: the inverse of the dictionary's conversion."""
    return values * (conversion["divide"] / conversion["multiply"]) + conversion["subtract"]


def sent_range(metric: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the valid range in the unit that devices send."""
    if metric["range"] is None:
        return None
    ends = sorted(float(_as_sent(end, metric["conversion"])) for end in metric["range"])
    return ends[0], ends[1]


def _digits(metric: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many decimals a device sends, and the step of the last one."""
    if metric["states"] is not None:
        return 0, 1
    scale = abs(metric["conversion"]["divide"] / metric["conversion"]["multiply"])
    if metric["resolution"]:
        resolution = metric["resolution"] * scale
        for decimals in range(_DECIMALS_MAX + 1):
            step = resolution * 10.0**decimals
            if step >= 0.999 and abs(step - round(step)) < 1e-6 * step:
                return decimals, round(step)
        return min(_DECIMALS_MAX, max(0, math.ceil(-math.log10(resolution)))), 1
    ends = sent_range(metric) or (0.0, 100.0)
    return min(_DECIMALS_MAX, max(0, math.ceil(-math.log10((ends[1] - ends[0]) / 4000.0)))), 1


def joining_assets(assets: set[str]) -> dict[str, str]:
    """Return for each asset the one that joins its devices: itself if others lie below it, else its parent."""
    parents = {asset.rpartition("/")[0] for asset in assets}
    return {asset: asset if asset in parents else asset.rpartition("/")[0] or asset for asset in assets}


def plant_prefix(plant: int) -> str:
    """Return what the names of a plant's devices begin with: nothing for the dictionary's own."""
    return "" if plant == 0 else f"p{plant + 1}-"


def of_plant(asset: str, compiled: Compiled, plant: int) -> str:
    """Return the path of an asset in another plant: the same, one level further below the site."""
    if plant == 0:
        return asset
    site = str(compiled["site"])
    return f"{site}/plant-{plant + 1}{asset.removeprefix(site)}" if asset.startswith(f"{site}/") else asset


def scaled(compiled: Compiled, plants: int) -> dict[str, Any]:
    """Return the compiled dictionary of several plants, for whoever reads what they send."""
    series = [
        {
            **one,
            "device": plant_prefix(plant) + one["device"],
            "asset": of_plant(one["asset"], compiled, plant),
        }
        for plant in range(plants)
        for one in compiled["series"]
    ]
    metrics = compiled["metrics"]
    series.sort(key=lambda one: (one["device"], metrics[one["metric"]]["name"]))
    bounds = {**compiled["bounds"], "series": max(compiled["bounds"]["series"], len(series))}
    return {**compiled, "bounds": bounds, "series": series}


def build_fleet(compiled: Compiled, plan: Plan, accept: Callable[[str, str], bool] | None = None) -> Fleet:
    """Lay out the series of the dictionary for a plan; `accept(partition_key, device)` may leave some out."""
    names: dict[int, set[str]] = {}
    metrics = compiled["metrics"]
    for series in compiled["series"]:
        names.setdefault(series["device"], set()).add(metrics[series["metric"]]["name"])
    joined = joining_assets({series["asset"] for series in compiled["series"]})
    devices: dict[str, int] = {}
    assets: list[str] = []
    keys: dict[str, int] = {}
    columns: list[tuple[int, int, int, int]] = []
    for plant in range(plan.plants):
        head = plant_prefix(plant)
        for series in compiled["series"]:
            device = head + series["device"]
            key = device if plan.key == "device" else of_plant(joined[series["asset"]], compiled, plant)
            if accept is not None and not accept(key, device):
                continue
            if device not in devices:
                devices[device] = len(devices)
                assets.append(of_plant(series["asset"], compiled, plant))
            columns.append((devices[device], keys.setdefault(key, len(keys)), series["metric"], plant))
    if not columns and accept is None:
        raise InputError("couldn't simulate the plant: its dictionary names no devices; list them under [machine]")
    table = np.array(columns, dtype=np.int64).reshape(-1, 4)
    device_keys = keys_of(plan.seed, "device", list(devices))
    every = np.array([_every_us(metrics[m], plan.rate_multiplier) for m in table[:, 2]], dtype=np.int64)
    phase = (device_keys[table[:, 0]] % every.astype(np.uint64)).astype(np.int64)
    phase = np.where(every % 1000 == 0, phase - phase % 1000, phase)
    plant_keys = keys_of(plan.seed, "plant", [str(plant) for plant in range(plan.plants)])
    series_names = [
        f"{d}/{metrics[m]['name']}"
        for d, m in zip(np.array(list(devices), object)[table[:, 0]], table[:, 2], strict=True)
    ]
    series_keys = keys_of(plan.seed, "series", series_names)
    fault_keys = series_keys ^ keys_of(plan.seed, "purpose", ["fault"])
    groups = _groups(table, list(devices), plan, compiled, names)
    decimals = np.zeros(len(table), np.int64)
    for group in groups:
        decimals[group.series] = group.decimals
    return Fleet(
        devices=list(devices),
        assets=assets,
        partition_keys=list(keys),
        metrics=list(metrics),
        device=table[:, 0],
        partition_key=table[:, 1],
        metric=table[:, 2],
        phase_us=phase,
        decimals=decimals,
        series_keys=series_keys,
        device_keys=device_keys,
        plant_keys=plant_keys[table[:, 3]],
        key_keys=keys_of(plan.seed, "key", list(keys)),
        groups=groups,
        faults=None if plan.faults == ProcessFaults() else Faults(plan.faults, fault_keys, phase),
        microseconds=bool((every % 1000 != 0).any()),
        per_second=float((SECOND_US / every).sum()),
    )


def _every_us(metric: Mapping[str, Any], multiplier: float) -> int:
    every = metric["every_us"] or (_VALUE_EVERY_US if metric["states"] is None else _STATUS_EVERY_US)
    faster = every / multiplier
    # Whole milliseconds where possible: devices do not send more.
    return max(1, round(faster / 1000) * 1000 if faster >= 1000 else round(faster))


def _groups(table: Any, devices: list[str], plan: Plan, compiled: Compiled, names: Any) -> list[Group]:
    """Sort the series into groups that can be evaluated in one go."""
    metrics = compiled["metrics"]
    plain = {device: frozenset(of_device) for device, of_device in names.items()}
    chosen: dict[tuple[int, Signal], list[int]] = {}
    for position, (device, _, metric, plant) in enumerate(table.tolist()):
        name = devices[device].removeprefix(plant_prefix(plant))
        chosen.setdefault((metric, signal_for(metrics[metric], plain[name])), []).append(position)
    groups = []
    for (metric, signal), members in chosen.items():
        definition = metrics[metric]
        decimals, step = _digits(definition)
        ends = sent_range(definition)
        if ends is not None and max(abs(end) for end in ends) * 10.0**decimals > _MANTISSA_MAX:
            raise InputError(
                f"couldn't simulate {definition['name']}: its range has too many digits at its resolution; "
                "widen the resolution"
            )
        every_us = _every_us(definition, plan.rate_multiplier)
        groups.append(
            Group(
                signal=signal,
                series=np.array(members, dtype=np.int64),
                every_us=every_us,
                decimals=decimals,
                step=step,
                metric=definition,
                laboratory=(definition["every_us"] or 0) >= _LABORATORY_EVERY_US,
            )
        )
    return groups


def laboratory_lead_us(fleet: Fleet) -> int:
    """Return how long before the start a value may have been sampled that is typed in after it."""
    return LABORATORY_MAX_US if any(group.laboratory for group in fleet.groups) else 0

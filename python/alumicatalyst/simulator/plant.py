"""The devices to simulate: the compiled dictionary's series, copied and speeded up as planned, with their signals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from alumicatalyst.errors import InputError
from alumicatalyst.simulator.faults import Faults
from alumicatalyst.simulator.noise import keys_of
from alumicatalyst.simulator.plan import LABORATORY_MAX_US, MINUTE_US, SECOND_US, Plan, ProcessFaults
from alumicatalyst.simulator.points import Points, Signal
from alumicatalyst.simulator.pot import cell_voltage
from alumicatalyst.simulator.sent import digits, ends
from alumicatalyst.simulator.signals import signal_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Compiled = Mapping[str, Any]
# Used where the dictionary does not say how often a metric is measured.
_STATUS_EVERY_US = 30 * SECOND_US
_VALUE_EVERY_US = 10 * SECOND_US
# Metrics measured this seldom are taken to come from a laboratory.
_LABORATORY_EVERY_US = 60 * MINUTE_US


@dataclass(frozen=True, slots=True)
class Group:
    """Series that share a metric definition and a signal, evaluated together.

    Attributes:
        series: Their places in the fleet, rising.
        every_us: The time between two measurements.
        decimals: Digits after the point of a value as sent, and the step of the last one.
        ends: The least and the greatest value that may be sent, in whole numbers of the last decimal.
        laboratory: Values are typed in long after the sample was taken.
    """

    signal: Signal
    series: NDArray[np.int64]
    every_us: int
    decimals: int
    step: int
    ends: tuple[int, int] | None
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
        times_us = index * group.every_us
        times_us += self.phase_us[group.series][position]
        values = self._process(group, position, index, times_us)
        if self.faults is not None:

            def undisturbed(places: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
                at_us = others * group.every_us + self.phase_us[group.series][places]
                return self._process(group, places, others, at_us)

            values = self.faults.disturb(group, position, index, times_us, values, undisturbed)
        if group.metric["states"] is not None:
            return times_us, values.astype(np.int64)
        values *= group.metric["conversion"]["divide"] / group.metric["conversion"]["multiply"]
        values += group.metric["conversion"]["subtract"]
        values *= 10.0**group.decimals / group.step
        np.rint(values, out=values)
        if group.ends is not None:
            np.clip(values, group.ends[0] / group.step, group.ends[1] / group.step, out=values)
        mantissas = values.astype(np.int64)
        mantissas *= group.step
        return times_us, mantissas

    def canonical(self, series: int, mantissas: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return a series' values in the canonical unit, as a reader of what was sent has them."""
        conversion = self.metrics[int(self.metric[series])]["conversion"]
        sent = mantissas / 10.0 ** int(self.decimals[series])
        return np.asarray((sent - conversion["subtract"]) * conversion["multiply"] / conversion["divide"])

    def _process(
        self, group: Group, position: NDArray[np.int64], index: NDArray[np.int64], times_us: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return what a group's series would measure if no sensor ever failed."""
        chosen = group.series
        points = Points(
            device_keys=self.device_keys[self.device[chosen]],
            series_keys=self.series_keys[chosen],
            plant_keys=self.plant_keys[chosen],
            row=position,
            times_us=times_us,
            index=index,
            every_us=group.every_us,
            metric=group.metric,
        )
        values = group.signal(points)
        return values if self.faults is None else self.faults.befall(group, position, index, times_us, values)


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
    of_device: dict[str, list[Any]] = {}
    metrics = compiled["metrics"]
    for series in compiled["series"]:
        of_device.setdefault(series["device"], []).append(metrics[series["metric"]])
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
    groups = _groups(table, list(devices), plan, compiled, of_device)
    decimals = np.zeros(len(table), np.int64)
    for group in groups:
        decimals[group.series] = group.decimals
    cell_of = {int(table[one, 0]): one for g in groups if g.signal is cell_voltage for one in g.series.tolist()}
    cells = np.array([cell_of.get(device, -1) for device in table[:, 0].tolist()], dtype=np.int64)
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
        faults=None if plan.faults == ProcessFaults() else Faults(plan.faults, fault_keys, phase, cells),
        microseconds=bool((every % 1000 != 0).any()),
        per_second=float((SECOND_US / every).sum()),
    )


def _every_us(metric: Mapping[str, Any], multiplier: float) -> int:
    every = metric["every_us"] or (_VALUE_EVERY_US if metric["states"] is None else _STATUS_EVERY_US)
    faster = every / multiplier
    # Whole milliseconds where possible: devices do not send more.
    return max(1, round(faster / 1000) * 1000 if faster >= 1000 else round(faster))


def _groups(
    table: Any, devices: list[str], plan: Plan, compiled: Compiled, of_device: Mapping[str, list[Any]]
) -> list[Group]:
    """Sort the series into groups that can be evaluated in one go."""
    metrics = compiled["metrics"]
    chosen: dict[tuple[int, Signal], list[int]] = {}
    for position, (device, _, metric, plant) in enumerate(table.tolist()):
        name = devices[device].removeprefix(plant_prefix(plant))
        signal = signal_for(metrics[metric], name, of_device[name])
        chosen.setdefault((metric, signal), []).append(position)
    groups = []
    for (metric, signal), members in chosen.items():
        definition = metrics[metric]
        decimals, step = digits(definition)
        groups.append(
            Group(
                signal=signal,
                series=np.array(members, dtype=np.int64),
                every_us=_every_us(definition, plan.rate_multiplier),
                decimals=decimals,
                step=step,
                ends=ends(definition, decimals, step),
                metric=definition,
                laboratory=(definition["every_us"] or 0) >= _LABORATORY_EVERY_US,
            )
        )
    return groups


def laboratory_lead_us(fleet: Fleet) -> int:
    """Return how long before the start a value may have been sampled that is typed in after it."""
    return LABORATORY_MAX_US if any(group.laboratory for group in fleet.groups) else 0

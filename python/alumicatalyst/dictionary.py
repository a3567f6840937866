"""Data dictionaries as files: load one, warn of what is unwise, and say what a change does to running state."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from alumicatalyst._core import Dictionary
from alumicatalyst.errors import DictionaryError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNITS: Final = (
    ("w", 604_800_000_000),
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
)
_DEVICES_NAMED: Final = 3


def load(path: str | Path) -> Dictionary:
    """Read and compile a dictionary.

    Args:
        path: A TOML file, or, ending in `.json`, the compiled form as the lake keeps it.

    Raises:
        InputError: The file cannot be read.
        DictionaryError: It breaks the rules; every problem is listed, each with the file's name.

    Example:
        >>> load("flows/smelter.toml").name
        'example-smelter'
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(
            f"couldn't read the data dictionary: {path}: {error.strerror}; name a file that exists"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"couldn't read the data dictionary: {path}: byte {error.start} is not UTF-8; save it as UTF-8"
        ) from error
    try:
        return Dictionary.from_json(text) if path.suffix == ".json" else Dictionary.from_toml(text)
    except DictionaryError as error:
        raise DictionaryError([f"{path}: {problem}" for problem in error.problems]) from None


def duration(microseconds: int) -> str:
    """Write a duration as a dictionary does, in the largest unit that divides it.

    Example:
        >>> duration(90_000_000), duration(86_400_000_000)
        ('90s', '1d')
    """
    if microseconds == 0:
        return "0s"
    return next(
        (f"{microseconds // scale}{unit}" for unit, scale in _UNITS if microseconds % scale == 0), f"{microseconds}us"
    )


def draft(path: str | Path, *, time: str | None = None, device: str | None = None) -> str:
    """Draft a dictionary from a file of readings; see `alumicatalyst.draft.draft`."""
    from alumicatalyst.draft import draft as from_file

    return from_file(path, time=time, device=device)


def check(dictionary: Dictionary) -> list[str]:
    """Return warnings: what the dictionary may say, but hardly means.

    Example:
        >>> check(load("flows/smelter.toml"))[0]
        'furnace-1 and 7 more: ...'
    """
    compiled = json.loads(dictionary.to_json())
    warnings = list(_zone(compiled["time_zone"]))
    devices: dict[int, list[str]] = {}
    for series in compiled["series"]:
        devices.setdefault(series["metric"], []).append(series["device"])
    for index, metric in enumerate(compiled["metrics"]):
        warnings += [f"{_named(devices[index])} {metric['name']}: {warning}" for warning in _unwise(metric)]
    return warnings


def _zone(name: str) -> Iterator[str]:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo("Etc/UTC")
    except (OSError, ValueError, KeyError):
        return  # This machine has no time zone database to ask.
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        yield f"time_zone {name!r} is not in this machine's time zone database"


def _unwise(metric: dict[str, Any]) -> Iterator[str]:
    """Yield what is unwise about one metric; all of it depends on how often it is measured."""
    every, disorder = metric["every_us"], metric["out_of_orderness_us"]
    if every is None:
        return
    spanned = -(-disorder // every)
    if metric["duplicates"] < spanned:
        yield (
            f"duplicates = {metric['duplicates']} does not span out_of_orderness = {duration(disorder)}: a reading "
            f"sent twice may count twice; {spanned} would"
        )
    for window in metric["windows"]:
        if window.get("gap_us", every + 1) <= every:
            yield f"windows {window['name']}: a gap of at most every = {duration(every)} leaves each reading alone"
        elif "gap_us" not in window and window["length_us"] < every:
            yield f"windows {window['name']} are shorter than every = {duration(every)}: each holds one reading at most"
    silence = max(metric["idle_us"], disorder)
    if silence < every:
        yield (
            f"idle = {duration(metric['idle_us'])} is shorter than every = {duration(every)}: windows close between "
            "readings that are merely on time"
        )


def _named(devices: list[str]) -> str:
    rest = len(devices) - 1
    return devices[0] if not rest else f"{devices[0]} and {rest} more"


@dataclass(frozen=True, slots=True)
class Change:
    """What a change of dictionary does to one series.

    Attributes:
        device: The device.
        metric: The metric's name.
        state: `kept`: all of it goes on; `reset`: `what` starts over, the rest goes on; `new`; `removed`.
        what: What is different, a phrase each; empty where nothing is.
    """

    device: str
    metric: str
    state: Literal["kept", "reset", "new", "removed"]
    what: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diff:
    """What a change of dictionary does to running state.

    Attributes:
        old_sha256: Digest of the dictionary in use.
        new_sha256: Digest of the one to come.
        general: Differences that belong to no series, such as the payload's mapping.
        series: Every series of either, sorted by device and metric.
    """

    old_sha256: str
    new_sha256: str
    general: tuple[str, ...]
    series: tuple[Change, ...]

    def counts(self) -> dict[str, int]:
        """Return how many series are kept, reset, new and removed."""
        states = [change.state for change in self.series]
        return {state: states.count(state) for state in ("kept", "reset", "new", "removed")}

    def groups(self) -> list[tuple[str, str, tuple[str, ...], list[str]]]:
        """Return series that change alike as (state, metric, what, devices), unchanged ones left out."""
        found: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
        for change in self.series:
            if change.state != "kept" or change.what:
                found.setdefault((change.state, change.metric, change.what), []).append(change.device)
        return [(*key, devices) for key, devices in found.items()]


def diff(old: Dictionary, new: Dictionary) -> Diff:
    """Say what going on under another dictionary does to running state.

    Watermarks and remembered event times of a series are kept as long as a dictionary has the series, and so are the
    windows whose definition stays; windows that are no longer defined are closed and stored. A changed detector learns
    again. An alarm goes on as long as its rule looks at the same measure, whatever its limit; else it clears.

    Example:
        >>> smelter = load("flows/smelter.toml")
        >>> diff(smelter, smelter).counts()
        {'kept': 167, 'reset': 0, 'new': 0, 'removed': 0}
    """
    before, after = json.loads(old.to_json()), json.loads(new.to_json())
    listed = [
        {(each["device"], side["metrics"][each["metric"]]["name"]): each for each in side["series"]}
        for side in (before, after)
    ]
    changes = []
    for key in sorted(listed[0].keys() | listed[1].keys()):
        sides = [_definition(side, series.get(key)) for side, series in zip((before, after), listed, strict=True)]
        changes.append(Change(*key, *_compare(*sides)))
    general = [
        f"{key}: {_short(before[key])} -> {_short(after[key])}"
        for key in ("name", "site", "time_zone", "bounds")
        if before[key] != after[key]
    ]
    general += [
        f"payload.{key}: {_short(before['payload'][key])} -> {_short(after['payload'][key])}"
        for key in before["payload"]
        if before["payload"][key] != after["payload"][key]
    ]
    if (before["unknown"] is None) != (after["unknown"] is None):
        general.append("payload.unknown: " + ("accept -> reject" if after["unknown"] is None else "reject -> accept"))
    if old.sha256 != new.sha256 and old.version == new.version:
        general.append(f"version: still {new.version!r}; a new one would tell the rows apart")
    elif old.version != new.version:
        general.append(f"version: {old.version!r} -> {new.version!r}")
    return Diff(old.sha256, new.sha256, tuple(general), tuple(changes))


def _definition(compiled: dict[str, Any], series: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what a series means under a dictionary, its asset included; None where it is not accepted."""
    if series is not None:
        return {**compiled["metrics"][series["metric"]], "asset": series["asset"]}
    unlisted = compiled["unknown"]
    return None if unlisted is None else {**unlisted, "asset": None}


def _compare(
    before: dict[str, Any] | None, after: dict[str, Any] | None
) -> tuple[Literal["kept", "reset", "new", "removed"], tuple[str, ...]]:
    if before is None:
        return "new", ()
    if after is None:
        return "removed", ("its open windows are closed and stored",)
    lost, changed = [], []
    names = [{window["name"] for window in side["windows"]} for side in (before, after)]
    same_unit = before["unit"] == after["unit"]
    if not same_unit:
        lost.append(
            f"unit {before['unit']} -> {after['unit']}: windows end, readings are late until the next, alarms clear"
        )
    else:
        lost += [f"windows {name} close and end" for name in sorted(names[0] - names[1])]
        changed += [f"windows {name} begin" for name in sorted(names[1] - names[0])]
    same_detector = same_unit and all(before[key] == after[key] for key in ("detector", "resolution"))
    if not same_detector and before["detector"]["kind"] != "none":
        lost.append("the detector learns again" if after["detector"]["kind"] != "none" else "the detector is off")
    elif before["detector"] != after["detector"]:
        changed.append("the detector begins to learn")
    rules = [{alarm["rule"]: alarm for alarm in side["alarms"]} for side in (before, after)]
    lost += [f"alarm {rule} is removed and clears" for rule in sorted(rules[0].keys() - rules[1].keys())]
    changed += [f"alarm {rule} is new" for rule in sorted(rules[1].keys() - rules[0].keys())]
    for rule in sorted(rules[0].keys() & rules[1].keys()):
        was, now = rules[0][rule], rules[1][rule]
        if was != now:
            goes_on = _measure(was["condition"]) == _measure(now["condition"])
            goes_on &= same_detector or was["condition"]["kind"] != "score_above"
            (changed if goes_on else lost).append(
                f"alarm {rule}: {_differences(was, now)}{'' if goes_on else ', and it clears'}"
            )
    rest = {key for key in before if key not in {"name", "unit", "windows", "detector", "alarms"}}
    changed += [
        f"{_key(key)}: {_value(key, before[key])} -> {_value(key, after[key])}"
        for key in sorted(rest)
        if before[key] != after[key]
    ]
    return ("reset" if lost else "kept"), tuple(lost + changed)


def _measure(condition: dict[str, Any]) -> dict[str, Any]:
    """Return what a rule looks at, without the limit."""
    return {key: value for key, value in condition.items() if key != "limit"}


def _differences(before: dict[str, Any], after: dict[str, Any]) -> str:
    flat = [
        {**side, **{f"condition.{key}": value for key, value in side["condition"].items()}} for side in (before, after)
    ]
    keys = sorted((flat[0].keys() | flat[1].keys()) - {"condition"})
    different = [key for key in keys if flat[0].get(key) != flat[1].get(key)]
    return ", ".join(
        f"{_key(key.removeprefix('condition.'))} {_value(key, flat[0].get(key))} -> {_value(key, flat[1].get(key))}"
        for key in different
    )


def _key(key: str) -> str:
    return key.removesuffix("_us")


def _value(key: str, value: Any) -> str:
    return duration(value) if key.endswith("_us") and isinstance(value, int) else _short(value)


def _short(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)

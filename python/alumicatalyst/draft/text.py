"""The text of a draft: TOML with a comment wherever an engineer knows better."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from alumicatalyst.dictionary import duration
from alumicatalyst.draft.machine import Machine, Metric, patterns, slug

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from alumicatalyst.draft.table import Table

_SECOND: Final = 1_000_000
_DAY: Final = 86_400 * _SECOND
# Lengths that people choose; beyond the last, whole days.
_LADDER: Final = tuple(
    seconds * _SECOND for seconds in (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200)
)
_DUPLICATES_MAX: Final = 1_024
_DURATION_MAX: Final = 3_650 * _DAY
_RESERVED: Final = {"device", "asset"}


def lines(path: Path, table: Table, machines: list[Machine]) -> Iterator[str]:
    """Yield the lines of the draft."""
    rows = f"{'its first ' if table.cut else ''}{table.data.num_rows} rows"
    yield f"# Drafted from {_text(path.name)}: {rows}. Correct what only you can know:"
    yield "# the site, the units, the ranges and the alarms. Then: alumicatalyst dictionary check FILE"
    yield f"name      = {_text(slug(path.stem) or 'plant')}"
    yield 'version   = "1"'
    yield _noted('site      = "my-company/my-site"', "enterprise/site, the head of every asset path")
    yield _noted('time_zone = "UTC"', "for seasons and shifts; stored times are UTC")
    yield ""
    yield from _payload(table, machines)
    yield ""
    yield from _time(table, machines)
    for machine in machines:
        yield ""
        yield from _machine(machine)


def _payload(table: Table, machines: list[Machine]) -> Iterator[str]:
    yield _noted("[payload]", "where a reading's parts stand in a row")
    if table.device is not None:
        yield f"device  = {_text(table.device)}"
    else:
        yield _noted('device  = "@file"', "the file's name without its ending, as a replay passes it")
    field = f"time    = {{field={_text(table.time)}, format={_text(table.time_format)}}}"
    yield field if table.zoned else _noted(field, "without an offset: replay needs --utc-offset")
    if table.metric is not None and table.value is not None:
        yield f"metric  = {_text(table.metric)}"
        yield f"value   = {_text(table.value)}"
    if table.quality is not None:
        yield _noted(f"quality = {_text(table.quality)}", "OPC quality; absent means 192, good")
    used = {metric.name for machine in machines for metric in machine.metrics}
    renamed = [f"{_key(name)}={_text(_title(name))}" for name in sorted(used & _RESERVED)]
    if renamed:
        yield f"rename  = {{{', '.join(renamed)}}}"
    ignored = [_text(name) for name in table.others() if name not in used]
    if ignored and table.metric is None:
        yield _noted(f"ignore  = [{', '.join(ignored)}]", "labels and text; take out what is a measurement")
    yield _noted('unknown = "reject"', 'devices and metrics not named below; or "accept"')


def _time(table: Table, machines: list[Machine]) -> Iterator[str]:
    every = sorted(metric.every_us for machine in machines for metric in machine.metrics if metric.every_us) or [
        _SECOND
    ]
    within, over_all = table.disorder_us()
    disorder = _step(max(within, 5 * _SECOND))
    spanned = min(_DUPLICATES_MAX, max(8, -(-disorder // every[0])))
    yield _noted("[time]", "a metric may state its own")
    yield _noted(f'out_of_orderness = "{duration(disorder)}"', "watermark = newest event time - this")
    yield _noted(
        f'idle       = "{duration(_step(max(120 * _SECOND, 3 * every[-1])))}"', "a silent series closes its windows"
    )
    yield _noted('clock_skew = "1min"', "further ahead of partition time: future_event_time")
    yield _noted(
        f'max_age    = "{duration(_step(max(30 * _DAY, 2 * over_all)))}"', "further behind it: past_event_time"
    )
    yield _noted(f"duplicates = {spanned}", "event times remembered per series")
    yield ""
    yield _noted("[default]", "a metric may state its own")
    yield _noted(f'windows  = ["{duration(_step(10 * every[len(every) // 2]))}"]', "tumbling; hopping as length/hop")
    yield _noted('detector = "none"', 'or "ewma"')


def _machine(machine: Machine) -> Iterator[str]:
    table = f"machine.{_key(machine.name)}"
    devices = [_text(pattern) for pattern in patterns(machine.devices)]
    yield f"[{table}]"
    yield f"device = {devices[0] if len(devices) == 1 else '[' + ', '.join(devices) + ']'}"
    yield _noted('asset  = "area/{device}"', "its place below the site")
    measured = [metric for metric in machine.metrics if not metric.states]
    for metric in machine.metrics:
        yield f"[{table}.{_key(_title(metric.name))}]"
        yield from _metric(metric, example=metric in measured[:1])


def _metric(metric: Metric, *, example: bool) -> Iterator[str]:
    if metric.states:
        yield f"states = {{{', '.join(f'{_key(state)}={code}' for code, state in enumerate(metric.states))}}}"
        return
    yield _noted('unit  = "1"', 'as stored; with sent_in = "..." where it arrives in another')
    bounds = metric.range()
    if bounds is not None and metric.highest is not None:
        seen = f"outside: out_of_range; seen: {metric.lowest:.6g} to {metric.highest:.6g}"
        yield _noted(f"range = [{_figure(bounds[0])}, {_figure(bounds[1])}]", seen)
    if metric.every_us:
        yield _noted(f'every = "{duration(min(metric.every_us, _DURATION_MAX))}"', "expected interval")
    if example and bounds is not None:
        yield f'# alarm.H = {{above={metric.highest:.6g}, on="60s", off="60s", priority="medium"}}'


def _noted(line: str, note: str) -> str:
    return f"{line:<31} # {note}"


def _title(name: str) -> str:
    """Return a metric's name in the dictionary: `device` and `asset` describe the machine there."""
    return f"{name}_value" if name in _RESERVED else name


def _step(microseconds: int) -> int:
    whole_days = -(-microseconds // _DAY) * _DAY
    return min(next((step for step in _LADDER if step >= microseconds), whole_days), _DURATION_MAX)


def _figure(number: float) -> str:
    return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)

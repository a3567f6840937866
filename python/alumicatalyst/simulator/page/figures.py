"""Which figures the page has: what is worth seeing of machines that are known, and else a panel for each metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from alumicatalyst.simulator.page.draw import INK, LINES, as_svg, figure, style, thinned
from alumicatalyst.simulator.page.panels import Clock, curve, marks, note, states, title, within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alumicatalyst.simulator.page.record import Kind, Mark, Record, Trace

_MINUTE_US: Final = 60_000_000
_HOUR_US: Final = 60 * _MINUTE_US
_DAY_US: Final = 24 * _HOUR_US
# What is measured less often comes from a laboratory, and is typed in later.
_LABORATORY_US: Final = _HOUR_US
_FIRST: Final = ("line_current", "cell_voltage")


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of the page.

    Attributes:
        kind: The kind of machine that it belongs to.
        heading: What it shows.
        caption: What is to be seen in it.
        svg: The figure.
        panels: What its panels show.
    """

    kind: Kind
    heading: str
    caption: str
    svg: str
    panels: tuple[str, ...]


def draw(record: Record, time_zone: str) -> list[Picture]:
    """Return all figures of a record, kind by kind."""
    clock = Clock(record, time_zone)
    with style():
        return [one for kind in sorted(record.kinds, key=_rank) for one in _of(record, clock, kind)]


def _rank(kind: Kind) -> tuple[int, str]:
    return min((_FIRST.index(one) for one in kind.metrics if one in _FIRST), default=len(_FIRST)), kind.name


def _of(record: Record, clock: Clock, kind: Kind) -> Iterator[Picture]:
    metrics = {name: record.of(kind, name) for name in kind.metrics}
    often = {name: traces for name, traces in metrics.items() if not _from_laboratory(traces[0])}
    if "cell_voltage" in metrics:
        yield _voltages(record, clock, kind, metrics["cell_voltage"])
        if "alumina_feed" in metrics:
            yield _feeding(record, clock, kind)
            yield from _anode_effect(record, clock, kind)
    elif often:
        yield _day(record, clock, kind, list(often.values()))
    if {"pressure", "status"} <= set(kind.metrics) and "running" in metrics["status"][0].metric["states"]:
        yield _cycles(record, clock, kind)
    for name, traces in metrics.items():
        if _from_laboratory(traces[0]):
            yield _laboratory(record, clock, kind, name)


def _from_laboratory(trace: Trace) -> bool:
    return (trace.metric["every_us"] or 0) >= _LABORATORY_US


def _picture(kind: Kind, heading: str, caption: str, made: object, panels: list[str]) -> Picture:
    label = f"{kind.name}: {heading}"
    return Picture(kind, heading, caption, as_svg(made, label), tuple(panels))  # type: ignore[arg-type]


def _day(record: Record, clock: Clock, kind: Kind, metrics: list[list[Trace]]) -> Picture:
    """One panel per metric, over all the time there is; states last, as strips."""
    metrics = sorted(metrics, key=lambda traces: traces[0].metric["states"] is not None)
    heights = [0.45 + 0.3 * len(traces) if traces[0].metric["states"] else 1.9 for traces in metrics]
    made, axes = figure(len(metrics), heights)
    for panel, traces in zip(axes, metrics, strict=True):
        (states if traces[0].metric["states"] else curve)(panel, clock, record, traces, clock.whole)
    _legend(axes[0], metrics[0])
    clock.axis(axes[-1], clock.whole)
    caption = (
        "Lines go through the least and the greatest value of each of 800 steps; where these would fill the panel, the "
        "band has them and the line is the middle."
    )
    if "humidity" in kind.metrics and "temperature" in kind.metrics and not any(t[0].metric["states"] for t in metrics):
        caption += " The air is warmest and driest in the afternoon."
    return _picture(kind, "all that is measured", caption, made, [title(traces[0].metric) for traces in metrics])


def _legend(axes: object, traces: list[Trace]) -> None:
    if traces[0].metric["states"] is None:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=len(traces), handlelength=1.2)  # type: ignore[attr-defined]


def _voltages(record: Record, clock: Clock, kind: Kind, traces: list[Trace]) -> Picture:
    """One panel per cell: their lines would cover each other."""
    made, axes = figure(len(traces), [1.7] * len(traces))
    for number, (panel, trace) in enumerate(zip(axes, traces, strict=True)):
        curve(panel, clock, record, [trace], clock.whole, colour=number)
        panel.set_title(f"{title(trace.metric)}: {trace.device}")
    clock.axis(axes[-1], clock.whole)
    caption = (
        "Each cell breathes with its feeding, once in an hour or so; metal is tapped once a day, anodes are changed, "
        "and an anode effect leaves the axis (▲ says how far it goes)."
    )
    return _picture(kind, "cell voltage", caption, made, [f"cell voltage {trace.device}" for trace in traces])


def _feeding(record: Record, clock: Clock, kind: Kind) -> Picture:
    """Some hours of the cell with which least was wrong."""
    device = min(kind.devices, key=lambda one: sum(mark.device == one for mark in record.marks))
    volts, shots = record.traces[device, "cell_voltage"], record.traces[device, "alumina_feed"]
    span = _quiet(record, device, 5 * _HOUR_US)
    made, axes = figure(2, [2.0, 1.5])
    times_us, values = within(volts, span)
    x, y = thinned(clock.days(times_us), values, 1.0)
    axes[0].plot(x, y, color=LINES[0], alpha=0.4, linewidth=0.7)
    smooth_us, smooth = _medians(times_us, values, _MINUTE_US)
    axes[0].plot(clock.days(smooth_us), smooth, color=LINES[0], linewidth=1.6)
    axes[0].set_title(f"{title(volts.metric)}: {device}; the median of each minute")
    marks(axes[0], clock, record, [volts], span)
    times_us, values = within(shots, span)
    axes[1].vlines(clock.days(times_us), 0, values, color=LINES[2], linewidth=1.2)
    axes[1].set_ylim(bottom=0)
    axes[1].set_title(f"{title(shots.metric)}, since the measurement before")
    clock.axis(axes[1], span)
    caption = "Underfed, the bath gets leaner and the voltage rises; overfed, both go back."
    return _picture(kind, "feed cycle", caption, made, ["cell voltage", "alumina feed"])


def _quiet(record: Record, device: str, length_us: int) -> tuple[int, int]:
    """Return the stretch of time in which least was wrong with a device."""
    length_us = min(length_us, record.end_us - record.begin_us)
    begins = range(record.begin_us, record.end_us - length_us + 1, max(1, length_us // 5))

    def wrong(begin: int) -> int:
        of = (one for one in record.marks if one.device == device)
        return sum(max(0, min(one.end_us, begin + length_us) - max(one.begin_us, begin)) for one in of)

    begin = min(begins, key=wrong)
    return begin, begin + length_us


def _medians(times_us: np.ndarray, values: np.ndarray, step_us: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the median of each step."""
    steps = times_us // step_us
    opens = np.flatnonzero(np.diff(steps, prepend=-1))
    medians = np.array([np.median(piece) for piece in np.split(values, opens[1:])]) if len(opens) else values
    return steps[opens] * step_us + step_us // 2, medians


def _anode_effect(record: Record, clock: Clock, kind: Kind) -> Iterator[Picture]:
    """The build-up of an anode effect, and the effect itself."""
    found = [one for one in record.marks if one.kind == "anode_effect" and one.device in kind.devices and one.alarms]
    whole = [one for one in found if one.begin_us >= record.begin_us and one.end_us <= record.end_us]
    if whole:
        yield _zoomed(record, clock, kind, max(whole, key=lambda one: len(one.alarms)))


def _zoomed(record: Record, clock: Clock, kind: Kind, effect: Mark) -> Picture:
    volts, shots = (record.traces[effect.device, name] for name in ("cell_voltage", "alumina_feed"))
    made, axes = figure(3, [2.2, 1.1, 2.2], share_x=False)
    span = max(record.begin_us, effect.begin_us - 10 * _MINUTE_US), min(record.end_us, effect.end_us + 5 * _MINUTE_US)
    times_us, values = within(volts, span)
    x, y = thinned(clock.days(times_us), values, 1.0)
    before = values[times_us < effect.onset_us]
    axes[0].plot(x, y, color=LINES[0], linewidth=0.8)
    if len(before):
        axes[0].set_ylim(float(before.min()) - 0.1, float(np.quantile(before, 0.999)) + 0.35)
    axes[0].set_title(f"{title(volts.metric)}: {effect.device}, the build-up")
    note(axes[0], clock, effect.begin_us, "alumina begins to run out", right=False)
    note(axes[0], clock, effect.onset_us, f"anode effect at {clock.text(effect.onset_us)}", right=True)
    times_us, values = within(shots, span)
    axes[1].vlines(clock.days(times_us), 0, values, color=LINES[2], linewidth=1.6)
    axes[1].set_ylim(bottom=0)
    axes[1].set_title(title(shots.metric))
    clock.axis(axes[1], span)
    for panel in axes[:2]:
        panel.set_xlim(*clock.days(span))
    axes[0].sharex(axes[1])
    axes[0].tick_params(labelbottom=False)
    close = effect.onset_us - _MINUTE_US, min(record.end_us, effect.onset_us + 6 * _MINUTE_US)
    curve(axes[2], clock, record, [volts], close, near=True)
    axes[2].set_title(f"{title(volts.metric)}: {effect.device}, the effect")
    clock.axis(axes[2], close)
    caption = (
        f"The rules that must find it: {', '.join(effect.alarms)}. The voltage rises faster and faster while alumina "
        "runs out, jumps as gas covers the anodes, and falls when the cell is quenched."
    )
    panels = ["cell voltage, the build-up", "alumina feed", "cell voltage, the effect"]
    return _picture(kind, "an anode effect", caption, made, panels)


def _cycles(record: Record, clock: Clock, kind: Kind) -> Picture:
    """A quarter of an hour of one machine at work."""
    device = kind.devices[0]
    names = [name for name in kind.metrics if record.traces[device, name].metric["states"] is None]
    span = _at_work(record, device, 15 * _MINUTE_US)
    made, axes = figure(len(names), [1.4] * len(names))
    for number, (panel, name) in enumerate(zip(axes, names, strict=True)):
        trace = record.traces[device, name]
        curve(panel, clock, record, [trace], span, near=True, colour=number % len(LINES))
        panel.set_title(f"{title(trace.metric)}: {device}")
    clock.axis(axes[-1], span)
    return _picture(kind, "a quarter of an hour at work", "Every reading is shown.", made, names)


def _at_work(record: Record, device: str, length_us: int) -> tuple[int, int]:
    """Return a stretch of time in which a machine runs and least is wrong with it."""
    status = record.traces[device, "status"]
    running = status.values == status.metric["states"]["running"]
    length_us = min(length_us, record.end_us - record.begin_us)
    begins = range(record.begin_us, record.end_us - length_us + 1, max(1, length_us // 3))

    def unfit(begin: int) -> float:
        first, last = np.searchsorted(status.times_us, (begin, begin + length_us))
        wrong = any(m.device == device and m.begin_us < begin + length_us and m.end_us > begin for m in record.marks)
        return wrong - float(running[first:last].mean() if last > first else 0.0)

    begin = min(begins, key=unfit)
    return begin, begin + length_us


def _laboratory(record: Record, clock: Clock, kind: Kind, name: str) -> Picture:
    """When a sample was taken, and when its value was typed in."""
    made, axes = figure(1, [2.2])
    for number, trace in enumerate(record.of(kind, name)):
        sampled, typed = clock.days(trace.times_us), clock.days(trace.sent_us)
        axes[0].hlines(trace.values, sampled, typed, color=LINES[number], linewidth=1.0)
        axes[0].plot(sampled, trace.values, "o", color=LINES[number], label=trace.device, markersize=5)
        axes[0].plot(typed, trace.values, "o", color=LINES[number], markersize=5, markerfacecolor="none")
    axes[0].plot([], [], "o", color=INK, label="sampled", markersize=5)
    axes[0].plot([], [], "o", color=INK, label="typed in", markersize=5, markerfacecolor="none")
    traces = record.of(kind, name)
    axes[0].set_title(title(traces[0].metric))
    axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=len(traces) + 2, handlelength=1.0)
    clock.axis(axes[0], clock.whole)
    caption = "A value counts for the time at which its sample was taken, and arrives when somebody typed it in."
    return _picture(kind, f"{title(traces[0].metric).split(',')[0].lower()} from the laboratory", caption, made, [name])

"""The parts of a figure: a panel of one metric over time, its limits, its faults, and the states of machines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import numpy as np

from alumicatalyst.simulator.page.draw import BANDS, FAULT, INK, LIMIT, LINES, banded, thinned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from alumicatalyst.simulator.page.record import Mark, Record, Trace

    Span = tuple[int, int]

_DAY_US: Final = 86_400_000_000
# A fault shorter than this part of what is shown is drawn as wide.
_LEAST_PART: Final = 0.002
# Two names of faults nearer than this part would lie upon each other.
_APART: Final = 0.045
_NAMES: Final = {"anode_effect": "anode effect"}
# Values beyond these shares are shown by an arrow where they would flatten all others.
_SHARES: Final = (0.01, 0.99)


class Clock:
    """Turns times into places on an axis: days since 1970 in the plant's time zone, as it was at the begin."""

    def __init__(self, record: Record, time_zone: str) -> None:
        moment = datetime.fromtimestamp(record.begin_us / 1e6, UTC).astimezone(ZoneInfo(time_zone))
        offset = moment.utcoffset()
        self._offset_us = 0 if offset is None else round(offset.total_seconds() * 1e6)
        self.zone = time_zone if moment.tzname() == time_zone else f"{moment.tzname()} ({time_zone})"
        self.whole: Span = (record.begin_us, record.end_us)

    def days(self, times_us: Any) -> Any:
        """Return times as matplotlib's dates."""
        return (np.asarray(times_us) + self._offset_us) / _DAY_US

    def text(self, time_us: int) -> str:
        """Return the time of day."""
        return datetime.fromtimestamp((time_us + self._offset_us) / 1e6, UTC).strftime("%H:%M:%S")

    def axis(self, axes: Axes, span: Span) -> None:
        """Give the lowest panel of a figure its time axis."""
        import matplotlib.dates

        dates: Any = matplotlib.dates
        short = span[1] - span[0] < _DAY_US / 12
        axes.set_xlim(*self.days(span))
        axes.xaxis.set_major_locator(dates.AutoDateLocator(minticks=6, maxticks=13))
        axes.xaxis.set_major_formatter(
            dates.DateFormatter("%H:%M:%S" if short and span[1] - span[0] < 6e8 else "%H:%M")
        )
        axes.set_xlabel(f"time of day, {self.zone}")


def within(trace: Trace, span: Span) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the times and values of a series in a stretch of time."""
    first, last = np.searchsorted(trace.times_us, span)
    return trace.times_us[first:last], trace.values[first:last]


def title(metric: Any) -> str:
    """Return the name of a metric with its unit."""
    unit = "" if metric["unit"] in {None, "", "1"} else f", {metric['unit']}"
    return str(metric["name"]).replace("_", " ").capitalize() + unit


def curve(
    axes: Axes,
    clock: Clock,
    record: Record,
    traces: Sequence[Trace],
    span: Span,
    *,
    near: bool = False,
    colour: int = 0,
) -> None:
    """Draw one metric of some devices, with the limits that lie in sight and, unless seen from near, what was wrong."""
    every_us = max(int(np.median(np.diff(one.times_us))) if len(one.times_us) > 1 else 1 for one in traces)
    for number, trace in enumerate(traces):
        times_us, values = within(trace, span)
        if not len(times_us):
            continue
        look: dict[str, Any] = {"color": LINES[number + colour], "label": trace.device}
        steps = banded(clock.days(times_us), values)
        if steps is not None:
            x, low, middle, high = steps
            axes.fill_between(x, low, high, color=LINES[number + colour], alpha=0.22, linewidth=0)
            axes.plot(x, middle, **look)
        else:
            x, y = thinned(clock.days(times_us), values, 4 * every_us / _DAY_US)
            axes.plot(x, y, marker="o" if len(times_us) < 60 else None, markersize=3.5, **look)
    axes.set_title(title(traces[0].metric))
    seen = np.concatenate([within(one, span)[1] for one in traces])
    if len(seen) and not near:
        _clip(axes, clock, traces, span, seen, colour)
        marks(axes, clock, record, traces, span)
    _limits(axes, traces[0])


def _clip(
    axes: Axes, clock: Clock, traces: Sequence[Trace], span: Span, seen: NDArray[np.float64], colour: int
) -> None:
    """Keep what is usual in sight; say how far what leaves the axes goes."""
    low, high = np.quantile(seen, _SHARES)
    usual = max(float(high - low), 1e-9)
    ends = float(seen.min()), float(seen.max())
    bottom = float(low - 0.25 * usual) if low - ends[0] > 1.5 * usual else None
    top = float(high + 0.45 * usual) if ends[1] - high > 1.5 * usual else None
    # A limit that is not far off stays in sight.
    limits = [one["condition"]["limit"] for one in traces[0].metric["alarms"] if "limit" in one["condition"]]
    if top is not None:
        top = max([top, *(limit + 0.3 * usual for limit in limits if high < limit < high + 6 * usual)])
    if bottom is not None:
        bottom = min([bottom, *(limit - 0.3 * usual for limit in limits if low - 6 * usual < limit < low)])
    if top is not None or bottom is not None:
        axes.set_ylim(
            ends[0] - 0.2 * usual if bottom is None else bottom, ends[1] + 0.2 * usual if top is None else top
        )
    for number, trace in enumerate(traces):
        times_us, values = within(trace, span)
        for limit, mark, place in ((top, "▲", 0.74), (bottom, "▼", 0.04)):
            if limit is None or not len(values):
                continue
            out = np.flatnonzero(values > limit if limit == top else values < limit)
            # What lies within a fiftieth of the axis is one excursion.
            pieces = np.split(out, np.flatnonzero(np.diff(times_us[out]) > (span[1] - span[0]) / 20) + 1)
            for piece in (piece for piece in pieces if len(piece)):
                worst = piece[np.argmax(np.abs(values[piece] - limit))]
                right = times_us[worst] - span[0] > (1 - 1.5 * _APART) * (span[1] - span[0])
                axes.text(
                    clock.days(times_us[worst]),
                    place,
                    f"{values[worst]:.3g} {mark}" if right else f"{mark} {values[worst]:.3g}",
                    ha="right" if right else "left",
                    color=LINES[number + colour],
                    fontsize=8,
                    transform=axes.get_xaxis_transform(),
                    clip_on=True,
                )


def _limits(axes: Axes, trace: Trace) -> None:
    low, high = axes.get_ylim()
    for alarm in trace.metric["alarms"]:
        condition = alarm["condition"]
        if condition["kind"] in {"above", "below"} and low < condition["limit"] < high:
            axes.axhline(condition["limit"], color=LIMIT, linestyle="--", linewidth=0.8)
            axes.annotate(
                f"{alarm['rule']} {condition['limit']:g}",
                (1.0, condition["limit"]),
                xycoords=("axes fraction", "data"),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=LIMIT,
                annotation_clip=False,
            )


def marks(axes: Axes, clock: Clock, record: Record, traces: Sequence[Trace], span: Span) -> None:
    """Draw what was wrong with some series as bands, each with its name where there is room."""
    found: list[tuple[Mark, int]] = [
        (one, number) for number, trace in enumerate(traces) for one in record.marks_of(trace)
    ]
    last = -1.0
    length = span[1] - span[0]
    for mark, _ in sorted(found, key=lambda each: each[0].begin_us):
        if mark.end_us <= span[0] or mark.begin_us >= span[1]:
            continue
        begin = max(mark.begin_us, span[0])
        end = max(min(mark.end_us, span[1]), begin + int(_LEAST_PART * length))
        axes.axvspan(*clock.days((begin, end)), color=FAULT, alpha=0.16, linewidth=0)
        part = (begin - span[0]) / length
        if part - last > _APART:
            last = part
            name = _NAMES.get(mark.kind, mark.kind)
            right = part > 1 - _APART
            axes.annotate(
                name,
                (clock.days(end if right else begin), 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 1),
                textcoords="offset points",
                ha="right" if right else "left",
                fontsize=7.5,
                color=FAULT,
                annotation_clip=False,
            )


def states(axes: Axes, clock: Clock, record: Record, traces: Sequence[Trace], span: Span) -> None:
    """Draw the states of some machines as strips."""
    names = {code: name for name, code in traces[0].metric["states"].items()}
    colours = {
        code: FAULT if name == "fault" else BANDS[place % len(BANDS)]
        for place, (code, name) in enumerate(sorted(names.items()))
    }
    drawn = set()
    for number, trace in enumerate(traces):
        times_us, values = within(trace, span)
        if not len(times_us):
            continue
        codes = values.astype(np.int64)
        opens = np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))
        ends = np.append(times_us[opens[1:]], span[1])
        for code in sorted(set(codes[opens].tolist())):
            of = codes[opens] == code
            begins = clock.days(times_us[opens][of])
            strips = list(zip(begins.tolist(), (clock.days(ends[of]) - begins).tolist(), strict=True))
            label = None if code in drawn else names[code]
            drawn.add(code)
            axes.broken_barh(strips, (len(traces) - number - 0.9, 0.8), color=colours[code], label=label, linewidth=0)
    axes.set_yticks([len(traces) - number - 0.5 for number in range(len(traces))], [one.device for one in traces])
    axes.set_ylim(0, len(traces))
    axes.grid(visible=False)
    axes.set_title(title(traces[0].metric))
    marks(axes, clock, record, traces, span)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=1.0)


def note(axes: Axes, clock: Clock, time_us: int, text: str, *, height: float = 0.92, right: bool = False) -> None:
    """Draw a line at a time, with a word beside it."""
    axes.axvline(clock.days(time_us), color=INK, linewidth=0.8, linestyle=":")
    axes.text(
        clock.days(time_us),
        height,
        f"{text} " if right else f" {text}",
        ha="right" if right else "left",
        fontsize=8.5,
        color=INK,
        transform=axes.get_xaxis_transform(),
    )

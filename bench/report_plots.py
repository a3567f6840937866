"""The plots of the report, as SVG that takes its colours from the page: bars, ranges, latencies, memory over time."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.results import best_of_ours, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.results import Figure

# Colours stand for what they mean, and become the page's, which has them for light and for dark.
INK, OURS, PEER, GOAL, FAINT = "#010203", "#0b57d0", "#8a8f98", "#c2410c", "#d9dce1"
VARIABLES = {INK: "--ink", OURS: "--ours", PEER: "--peer", GOAL: "--goal", FAINT: "--line"}
LINES = (OURS, GOAL, PEER)
WIDTH_IN = 8.6
_LOGARITHMIC_FROM = 15


def bars(groups: Sequence[list[Figure]], title: str) -> str:
    """Draw a bar for each figure, the figures of one load together; lengths compare within a load."""
    rows = sum(len(group) for group in groups)
    figure, panels = _figure(0.24 * rows + 0.52 * len(groups), len(groups), [len(group) + 1.0 for group in groups])
    for axes, group in zip(panels, groups, strict=True):
        ours = best_of_ours(group)
        for at, each in enumerate(group):
            axes.barh(at, each.median, color=PEER if each.is_peer else OURS, height=0.68)
            axes.plot([each.lowest, each.highest], [at, at], color=INK, linewidth=0.9)
            compared = ""
            if ours is not None and each.is_peer and each.median:
                compared = f",  ours is {number(ratio(ours, each))} x"
            axes.annotate(
                f"{number(each.median)}{compared}",
                (max(each.median, each.highest), at),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=INK,
            )
        goal = next((each.goal for each in group if each.goal is not None), None)
        if goal is not None:
            axes.axvline(goal, color=GOAL, linewidth=1.1, linestyle=(0, (3, 2)))
        axes.set_xlim(0, max([each.highest for each in group] + [goal or 0]) * 1.28)
        axes.set_yticks(range(len(group)), [each.who.removeprefix("peer: ") for each in group])
        axes.set_ylim(len(group) - 0.4, -0.6)
        axes.set_title(f"{group[0].load}  ({group[0].unit})", loc="left", fontsize=8.5, color=INK)
        axes.xaxis.set_visible(False)
        axes.spines[:].set_visible(False)
        axes.spines["left"].set_visible(True)
    return _svg(figure, title)


def ranges(figures: Sequence[Figure], title: str) -> str:
    """Draw a line from the lowest to the highest and a dot at the median for each; logarithmic if sizes differ much."""
    figure, (axes,) = _figure(0.24 * len(figures) + 0.75, 1, [1])
    for at, each in enumerate(figures):
        axes.plot([each.lowest, each.highest], [at, at], color=OURS, linewidth=2.2, solid_capstyle="round")
        axes.plot([each.median], [at], color=OURS, marker="o", markersize=5)
        spread = "" if each.lowest == each.highest else f"  ({number(each.lowest)} - {number(each.highest)})"
        axes.annotate(
            f"{number(each.median)}{spread}",
            (each.highest, at),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )
        if each.goal is not None:
            axes.plot([each.goal, each.goal], [at - 0.4, at + 0.4], color=GOAL, linewidth=1.4)
    low, high = min(each.lowest for each in figures), max(each.highest for each in figures)
    if high > _LOGARITHMIC_FROM * low:
        _logarithmic(axes)
        axes.set_xlim(low / 1.5, high * 4)
    else:
        axes.set_xlim(0, high * 1.35)
    axes.set_yticks(range(len(figures)), [each.load for each in figures])
    axes.set_ylim(len(figures) - 0.4, -0.6)
    axes.set_xlabel(figures[0].unit)
    return _svg(figure, title)


def latencies(runs: Sequence[dict[str, Any]], goal_ms: float, title: str) -> str:
    """Draw how many of a hundred transitions were visible within how many milliseconds, a line for each rate."""
    figure, (axes,) = _figure(2.9, 1, [1])
    for run, color in zip(runs, LINES, strict=False):
        late = np.maximum(np.array(run["late_ms"]), 0.1)
        share = np.arange(1, len(late) + 1) / len(late) * 100
        axes.step(late, share, where="post", color=color, linewidth=1.6)
        axes.text(
            0.99,
            0.06 + 0.09 * runs.index(run),
            f"{run['rate']:,} readings/s: p99 {run['p99_ms']:.0f} ms",
            transform=axes.transAxes,
            ha="right",
            fontsize=8,
            color=color,
        )
    _logarithmic(axes)
    axes.axvline(goal_ms, ymax=100 / 108, color=INK, linewidth=1, linestyle=(0, (3, 2)))
    axes.annotate(f"goal at p99: {goal_ms:.0f} ms", (goal_ms, 101), ha="center", va="bottom", fontsize=8, color=INK)
    axes.set_ylim(0, 108)
    axes.set_xlabel("milliseconds from the broker's clock to the live stream")
    axes.set_ylabel("% of the transitions")
    axes.grid(color=FAINT, linewidth=0.6)
    return _svg(figure, title)


def memory(samples: Sequence[dict[str, float]], names: dict[str, str], title: str) -> str:
    """Draw memory over time, a line for each name; the second half, which is judged, is shaded."""
    figure, (axes,) = _figure(2.9, 1, [1])
    end = samples[-1]["seconds"] / 60
    axes.axvspan(end / 2, end, color=FAINT, alpha=0.45, linewidth=0)
    for (name, told), color in zip(names.items(), LINES, strict=False):
        points = [(each["seconds"] / 60, each[name] / 2**20) for each in samples if name in each]
        axes.plot(*zip(*points, strict=True), color=color, linewidth=1.5)
        axes.annotate(
            told, points[len(points) // 3], xytext=(0, 6), textcoords="offset points", fontsize=8, color=color
        )
    axes.set_ylim(bottom=0)
    axes.margins(y=0.15)
    axes.set_xlabel("minutes")
    axes.set_ylabel("MiB")
    axes.grid(color=FAINT, linewidth=0.6)
    return _svg(figure, title)


def number(value: float) -> str:
    """Return a number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def _logarithmic(axes: Any) -> None:
    """Make the horizontal scale logarithmic, with plain numbers at the powers of ten."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _figure(height_in: float, panels: int, heights: Sequence[float]) -> tuple[Any, list[Any]]:
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    mpl.rcParams.update({"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 8.5})
    canvas = Canvas(figsize=(WIDTH_IN, max(height_in, 0.9)), layout="constrained")
    found = canvas.subplots(panels, 1, squeeze=False, height_ratios=list(heights))
    for axes in found[:, 0]:
        axes.patch.set_visible(False)
        axes.tick_params(which="both", colors=INK, labelcolor=INK, length=0)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
        for spine in axes.spines.values():
            spine.set_color(FAINT)
        axes.spines[["top", "right"]].set_visible(False)
    canvas.patch.set_visible(False)
    return canvas, list(found[:, 0])


def _svg(canvas: Any, title: str) -> str:
    """Return the drawing for a page: no header, no fixed size or colours, and no names that two drawings share."""
    import matplotlib as mpl

    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": title}):
        canvas.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[a-zA-Z.]+_\d+"', "", text)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*" ([^>]*?)width="[^"]*"', r"<svg \1\2", text, count=1)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    return text

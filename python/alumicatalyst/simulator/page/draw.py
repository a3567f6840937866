"""How the page draws: figures without a screen, as SVG that takes its colours from the page, in light and in dark."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from alumicatalyst.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# Colours as drawn, and what the page calls them: it knows whether it is light or dark, a figure does not.
INK, FAINT, FAULT, LIMIT = "#010101", "#020202", "#030303", "#040404"
LINES: Final = ("#050505", "#060606", "#070707")
BANDS: Final = ("#080808", "#090909", "#0a0a0a", "#0b0b0b", "#0c0c0c", "#0d0d0d")
_NAMES: Final = {
    INK: "ink",
    FAINT: "faint",
    FAULT: "fault",
    LIMIT: "limit",
    **{colour: f"line-{number}" for number, colour in enumerate(LINES)},
    **{colour: f"band-{number}" for number, colour in enumerate(BANDS)},
}
WIDTH_IN: Final = 10.0
# Points of a line: two for each step that can be told apart.
_COLUMNS: Final = 800
_STYLE: Final = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 13.0,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.0,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "figure.constrained_layout.use": True,
    "date.converter": "concise",
}


def matplotlib() -> Any:
    """Return matplotlib.

    Raises:
        SettingsError: It is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise SettingsError(
            "couldn't draw the page: matplotlib is not installed; pip install 'alumicatalyst[plot]'"
        ) from error
    return mpl


def style() -> Any:
    """Return a context in which figures look as the page wants them."""
    return matplotlib().rc_context(_STYLE)


def figure(rows: int, heights: list[float] | None = None, *, share_x: bool = True) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels, one below the other, with heights in inches."""
    from matplotlib.figure import Figure as NewFigure

    heights = heights or [2.2] * rows
    made = NewFigure(figsize=(WIDTH_IN, sum(heights) + 0.5))
    axes = made.subplots(rows, 1, sharex=share_x, squeeze=False, gridspec_kw={"height_ratios": heights})
    return made, [axes[row, 0] for row in range(rows)]


def as_svg(made: Figure, label: str) -> str:
    """Return a figure as an element of a page: colours by name, coordinates to a hundredth, nothing from outside."""
    text = io.StringIO()
    # Names of parts must differ between the figures of a page, and be the same in each run.
    with matplotlib().rc_context({"svg.hashsalt": label}):
        made.savefig(
            text, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    for colour, name in _NAMES.items():
        svg = svg.replace(colour, f"var(--{name})")
    # Within tags only: text holds the numbers of the axes.
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), svg)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    head = f'<svg role="img" aria-label="{label}"'
    return re.sub(r'^<svg width="[^"]*" height="[^"]*"', head, svg)


def thinned(times: NDArray[np.float64], values: NDArray[np.float64], gap: float) -> tuple[Any, Any]:
    """Return a line through the least and greatest value of each step, broken where nothing was measured for long.

    Args:
        times: In any unit, ascending.
        values: One for each.
        gap: A longer time between two values is a break.
    """
    if len(times) > 2 * _COLUMNS:
        edges = _edges(times)
        low, high = _places(values, edges)
        kept = np.unique(np.concatenate([low, high, [0, len(times) - 1]]))
        gap = max(gap, 2.5 * float(times[-1] - times[0]) / _COLUMNS)
        times, values = times[kept], values[kept]
    breaks = np.flatnonzero(np.diff(times) > gap) + 1
    return np.insert(times, breaks, times[breaks - 1]), np.insert(values, breaks, np.nan)


def banded(times: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[Any, Any, Any, Any] | None:
    """Return time, least, middle and greatest value of each step; None where a line shows as much.

    It does unless the values go up and down within each step by much of what they span: their lines would be a block.
    """
    if len(times) <= 2 * _COLUMNS:
        return None
    edges = _edges(times)
    low, high = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
    ends = np.quantile(values, (0.01, 0.99))
    if np.median(high - low) < 0.25 * (ends[1] - ends[0]):
        return None
    middle = np.array([np.median(piece) for piece in np.split(values, edges[1:])])
    return times[edges], low, middle, high


def _edges(times: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return where each step begins."""
    return np.unique(np.searchsorted(times, np.linspace(times[0], times[-1], _COLUMNS + 1)[:-1]))


def _places(values: NDArray[np.float64], edges: NDArray[np.int64]) -> tuple[Any, Any]:
    """Return where the least and the greatest value of each piece stand."""
    ends = np.append(edges[1:], len(values))
    pairs = [
        (first + values[first:end].argmin(), first + values[first:end].argmax()) for first, end in _spans(edges, ends)
    ]
    return np.array([low for low, _ in pairs]), np.array([high for _, high in pairs])


def _spans(edges: NDArray[np.int64], ends: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    yield from zip(edges.tolist(), ends.tolist(), strict=True)

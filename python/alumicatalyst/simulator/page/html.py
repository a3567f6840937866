"""The page itself: one file without anything from outside, readable in light and in dark."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from alumicatalyst.simulator.page.draw import matplotlib
from alumicatalyst.simulator.page.figures import draw
from alumicatalyst.simulator.page.record import take_record
from alumicatalyst.simulator.truth import as_text

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.simulator.clocks import Clocks
    from alumicatalyst.simulator.page.figures import Picture
    from alumicatalyst.simulator.page.record import Mark, Record
    from alumicatalyst.simulator.plan import Plan
    from alumicatalyst.simulator.plant import Compiled

_MARKS_MAX: Final = 100
_CSS: Final = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1d2329; --faint: #c3c9d0; --fault: #c0362c; --limit: #8a6d00;
  --line-0: #0068b3; --line-1: #c2570c; --line-2: #00805e; --band-0: #aeb8c2; --band-1: #5aa4d6; --band-2: #e0a94a;
  --band-3: #67b58b; --band-4: #b493cf; --band-5: #8a929b; }
@media (prefers-color-scheme: dark) { :root { --page: #14181d; --ink: #e4e8ec; --faint: #49525c; --fault: #ff7b6e;
  --limit: #d9b44a; --line-0: #63b3f0; --line-1: #f0954e; --line-2: #45c79c; --band-0: #55606b; --band-1: #3f84b5;
  --band-2: #b5802a; --band-3: #3f8f68; --band-4: #8765a6; --band-5: #767f88; } }
body { background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; max-width: 66rem;
  margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .2rem; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .2rem; } p { margin: .3rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; } dt { opacity: .75; } dd { margin: 0; }
code { font: .875em ui-monospace, monospace; overflow-wrap: anywhere; }
figure { margin: .4rem 0 1.4rem; } figcaption { font-size: .92rem; opacity: .85; }
svg { width: 100%; height: auto; } svg text { font-family: system-ui, sans-serif !important; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; }
th, td { text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--faint); white-space: nowrap; }
"""


@dataclass(frozen=True, slots=True)
class About:
    """What the page says of itself.

    Attributes:
        sha256: Of the dictionary.
        command: How to make the page again.
        seconds: How much is simulated.
        options: What was chosen beyond it, in words.
    """

    sha256: str
    command: str
    seconds: float
    options: str


def write_page(path: Path, compiled: Compiled, plan: Plan, clocks: Clocks, about: About) -> list[Picture]:
    """Simulate, draw and write the page.

    Args:
        path: The file.
        compiled: The compiled dictionary.
        plan: What is simulated.
        clocks: How many devices have a wrong clock.
        about: What the page says of itself.

    Returns:
        Its figures.

    Raises:
        SettingsError: matplotlib is not installed.
    """
    matplotlib()
    record = take_record(compiled, plan, clocks, about.seconds)
    pictures = draw(record, compiled["time_zone"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_page(compiled, plan, about, record, pictures), encoding="utf-8")
    return pictures


def _page(compiled: Compiled, plan: Plan, about: About, record: Record, pictures: list[Picture]) -> str:
    heading = f"{compiled['name']}: {_length(about.seconds)} of a simulated plant"
    facts = {
        "dictionary": f"{compiled['name']}, version {compiled['version']} (SHA-256 {about.sha256})",
        "from": _second(record.begin_us),
        "to": _second(record.end_us),
        "seed": str(plan.seed),
        "what goes wrong": about.options,
        "shown": f"{sum(len(kind.devices) for kind in record.kinds)} of "
        f"{sum(kind.count for kind in record.kinds)} devices, some of each kind, rather those with faults",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{html.escape(str(value))}</dd>" for name, value in facts.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(heading)}</title><style>{_CSS}</style></head>\n<body><main>"
        f"<h1>{html.escape(heading)}</h1>\n<dl>{rows}<dt>made by</dt><dd><code>{html.escape(about.command)}</code></dd>"
        f"</dl>\n{_figures(pictures)}{_marks(record)}</main></body></html>\n"
    )


def _figures(pictures: list[Picture]) -> str:
    parts, last = [], None
    for one in pictures:
        if one.kind != last:
            last = one.kind
            shown = ", ".join(one.kind.devices)
            of = f" of {one.kind.count} devices" if one.kind.count > len(one.kind.devices) else ""
            parts.append(f"<h2>{html.escape(one.kind.name)}</h2>\n<p>Shown: {html.escape(shown)}{of}.</p>\n")
        parts.append(
            f"<h3>{html.escape(one.heading[:1].upper() + one.heading[1:])}</h3>\n<figure>{one.svg}\n"
            f"<figcaption>{html.escape(one.caption)}</figcaption></figure>\n"
        )
    return "".join(parts)


def _marks(record: Record) -> str:
    if not record.marks:
        return "<h2>Faults</h2>\n<p>Nothing was wrong with the devices shown.</p>\n"
    shown = record.marks[:_MARKS_MAX]
    rest = len(record.marks) - len(shown)
    more = f"<p>And {rest} more.</p>\n" if rest else ""
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in _cells(one))}</tr>\n" for one in shown)
    return (
        "<h2>Faults</h2>\n<p>The truth of what was wrong with the devices shown, and the alarms that the dictionary's "
        'rules must raise for it.</p>\n<div class="wide"><table><thead><tr><th>from</th><th>until</th>'
        f"<th>device</th><th>metric</th><th>fault</th><th>alarms</th></tr></thead><tbody>\n{rows}</tbody></table></div>\n{more}"
    )


def _cells(mark: Mark) -> tuple[str, ...]:
    alarms = ", ".join(mark.alarms) or "none"
    return (
        _second(mark.begin_us),
        _second(mark.end_us)[11:],
        mark.device,
        mark.metric,
        mark.kind.replace("_", " "),
        alarms,
    )


def _second(time_us: int) -> str:
    """Return a time in UTC, to the second."""
    return re.sub(r"\.\d+Z$", "Z", str(as_text(time_us))).replace("T", " ")


def _length(seconds: float) -> str:
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            many = seconds / size
            return f"a {unit}" if many == 1 else f"{many:g} {unit}s"
    return f"{seconds:g} seconds"

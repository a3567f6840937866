"""The words and tables of the report: what was measured, what was met and missed, and where others are better."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from bench.report_plots import number
from bench.results import best_of_ours, groups, ratio
from bench.tiers import TIERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.results import Figure

LAYERS = {
    "decode": "JSON bodies to columns, in a process without Python.",
    "windows": "Columns of numbers to windows with all ten statistics.",
    "score": "Columns of readings to a score each.",
    "operator": "Envelopes to readings, scores, windows, alarms and counts, from Python.",
    "flow": "Envelopes in memory to committed Delta tables on a local directory.",
    "lake": "Analysed rows to committed Delta tables, beside plain writers of the same rows.",
    "ledger": "Digests of rows, and the log that signs every commit.",
    "scale": "The same by one, two and four processes on one lake, each with its share of the partitions.",
    "recovery": "From kill -9 and a new process to its first commit.",
    "api": "The hot store behind the alarm API, by the wall clock.",
    "simulate": "Readings of the simulated plant, made in memory.",
}

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #57606a; --line: #d9dce1; --shade: #f5f6f8;
  --ours: #0b57d0; --peer: #8a8f98; --goal: #c2410c; --good: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e4e7eb; --soft: #9aa3ad; --line: #333a42;
  --shade: #1c2026; --ours: #6ea8fe; --peer: #7d858f; --goal: #ff8f5a; --good: #56d364; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 62rem; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.6rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; } p { margin: .4rem 0; max-width: 46rem; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .86rem; margin: .6rem 0; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .28rem .6rem .28rem 0; text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; } tr.ours td { font-weight: 600; } tr.load td { color: var(--soft); padding-top: .9rem; }
.met { color: var(--good); } .missed { color: var(--goal); } .alert { border-left: 4px solid var(--goal);
  background: var(--shade); padding: .6rem .9rem; margin: 1rem 0; } .alert p { max-width: none; }
nav a { margin-right: .9rem; white-space: nowrap; } a { color: var(--ours); } code { font-size: .88em; }
figure { margin: .8rem 0; } figure svg { width: 100%; height: auto; } svg text { font-family: system-ui, sans-serif; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--soft); }
.key span { margin-right: 1.2rem; } .key i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; }
@media print { body { max-width: none; } }
"""


def page(title: str, sections: Sequence[tuple[str, str, str]], head: str) -> str:
    """Return the page: sections are (name, heading, content); nothing is loaded from anywhere."""
    links = " ".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in sections)
    parts = "".join(f'<h2 id="{name}">{escape(heading)}</h2>{content}' for name, heading, content in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{head}<nav>{links}</nav>{parts}</body></html>\n"
    )


def table(headings: Sequence[str], rows: Iterable[str]) -> str:
    """Return a table of rows made already; headings that begin with # are of numbers."""
    cells = "".join(
        f'<th class="n">{escape(each[1:])}</th>' if each.startswith("#") else f"<th>{escape(each)}</th>"
        for each in headings
    )
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def row(cells: Sequence[str], kind: str = "", numbers: Iterable[int] = ()) -> str:
    """Return a row; the cells are HTML."""
    of_numbers = set(numbers)
    found = "".join(f"<td{' class=n' if at in of_numbers else ''}>{each}</td>" for at, each in enumerate(cells))
    return f'<tr class="{kind}">{found}</tr>' if kind else f"<tr>{found}</tr>"


def verdict(figure: Figure) -> str:
    """Return a goal and whether it was met."""
    if figure.goal is None:
        return ""
    word = "met" if figure.met else "missed"
    return f'{number(figure.goal)} <span class="{word}">{word}</span>'


def figures_table(figures: list[Figure]) -> str:
    """Return the figures of a layer, those of a load together; what stands alone is ours."""
    rows = []
    for group in groups(figures):
        ours, alone = best_of_ours(group), len(group) == 1
        load = f"{escape(group[0].load)}, {escape(group[0].unit)}"
        if not alone:
            rows.append(f'<tr class="load"><td colspan="8">{load}</td></tr>')
        for each in group:
            compared = f"{number(ratio(ours, each))} x" if ours is not None and each.is_peer else ""
            cells = [
                load if alone else escape(each.who),
                number(each.median),
                "" if each.lowest == each.highest else f"{number(each.lowest)} - {number(each.highest)}",
                "" if each.wall is None else number(each.wall),
                compared,
                verdict(each),
                f"{each.rounds} of {each.readings:,}",
                escape(each.tier),
            ]
            rows.append(row(cells, "" if each.is_peer else "ours", numbers=(1, 2, 3, 4, 5, 6)))
    headings = ["who", "#median", "#range", "#wall clock", "#ours is", "#goal", "#rounds", "tier"]
    notes = sorted({(each.who, each.note) for each in figures if each.note})
    told = "".join(f"<li>{escape(who.removeprefix('peer: '))}: {escape(note)}</li>" for who, note in notes)
    differs = f"<details><summary>What differs</summary><ul>{told}</ul></details>" if told else ""
    return table(headings, rows) + differs


def losses(figures: list[Figure]) -> str:
    """Return what was missed and where a peer is better, from the figures alone."""
    missed = [each for each in figures if each.met is False]
    better = []
    for group in groups(figures):
        ours = best_of_ours(group)
        better += [(ratio(ours, each), ours, each) for each in group if ours and each.is_peer and ratio(ours, each) < 1]
    rows = [
        row([escape(each.layer), escape(each.load), escape(each.who), number(each.median), number(each.goal or 0),
             escape(each.unit)], numbers=(3, 4))
        for each in missed
    ]  # fmt: skip
    html = "<h3>Goals that were missed</h3>"
    html += table(["layer", "load", "who", "#found", "#goal", "unit"], rows) if rows else "<p>None.</p>"
    rows = [
        row([escape(peer.layer), escape(peer.load), escape(peer.who.removeprefix("peer: ")), number(peer.median),
             number(ours.median), f"{share:.2f} x", escape(peer.unit), escape(peer.note)], numbers=(3, 4, 5))
        for share, ours, peer in sorted(better, key=lambda each: each[0])
    ]  # fmt: skip
    html += "<h3>Where a peer is better</h3>"
    headings = ["layer", "load", "peer", "#theirs", "#ours", "#ours is", "unit", "what differs"]
    return html + (table(headings, rows) if rows else "<p>Nowhere.</p>")


def tiers_table(figures: list[Figure], latency: dict[str, Any] | None) -> str:
    """Return each tier with its definition, our figures, and the best peer's beside them."""
    rows = []
    for name, definition in TIERS.items():
        rows.append(f'<tr class="load"><td><b>{name}</b></td><td colspan="4">{escape(definition)}</td></tr>')
        for group in groups([each for each in figures if each.tier == name]):
            ours, peers = best_of_ours(group), [each for each in group if each.is_peer]
            if ours is None:
                continue
            best = max(peers, key=lambda each: each.median, default=None)
            beside = f"{escape(best.who.removeprefix('peer: '))} {number(best.median)}" if best else ""
            rows.append(
                row(
                    ["", escape(ours.load), f"{number(ours.median)} {escape(ours.unit)}", verdict(ours), beside],
                    numbers=(2, 3, 4),
                )
            )
        if name == "L" and latency is not None:
            rows += [latency_row(run, latency["goal_ms"]) for run in latency["runs"]]
    return table(["tier", "what exactly", "#ours", "#goal", "#best peer"], rows)


def latency_row(run: dict[str, Any], goal_ms: float) -> str:
    """Return the row of a rate."""
    word = "met" if run["p99_ms"] <= goal_ms else "missed"
    told = f"p50 {run['p50_ms']:.0f}, p90 {run['p90_ms']:.0f}, p99 {run['p99_ms']:.0f} ms"
    goal = f'{goal_ms:.0f} <span class="{word}">{word}</span>'
    return row(["", f"{run['rate']:,} readings a second", told, goal, ""], numbers=(2, 3, 4))


def facts_table(facts: dict[str, Any]) -> str:
    """Return names and values."""
    return table(["", ""], (row([escape(str(name)), escape(str(value))]) for name, value in facts.items()))

"""One page of everything that was measured: tables, plots, the machine, and where we lose.

    python -m bench.report                                  # runs the suite and the counts first
    python -m bench.report --results var/bench/results.json # of a former run, or of several

Instruction counts, latency (`make latency`) and soak (`make soak`) are shown from what their last runs left in
var/bench. The page is one file and loads nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from html import escape
from pathlib import Path
from typing import Any

from bench import report_plots as plots
from bench.counts import COMMITTED, KERNELS, read
from bench.report_text import LAYERS, facts_table, figures_table, losses, page, row, table, tiers_table
from bench.results import FOLDER, ROOT, Figure, groups, load_figures
from bench.soak import JUDGED

RESULTS = FOLDER / "results.json"
COUNTS = FOLDER / "counts.json"
LATENCY = FOLDER / "latency.json"
SOAK = FOLDER / "soak.json"


def main() -> None:
    """Run what is to be run, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--results", type=Path, action="append", metavar="FILE", help="of a former run; may be repeated"
    )
    parser.add_argument("--out", type=Path, default=FOLDER / "report.html", metavar="FILE")
    arguments = parser.parse_args()
    if not arguments.results:
        suite = [sys.executable, "-m", "pytest", "-W", "error", "bench", "--results", str(RESULTS)]
        code = subprocess.run(suite, cwd=ROOT, check=False).returncode
        # A benchmark that fails leaves its figure out, and the page says so; one without figures says nothing.
        if not RESULTS.exists():
            sys.exit(f"couldn't write the report: the suite ended with {code} and left no figures; see above")
        subprocess.run([sys.executable, "-m", "bench.counts", "--json", str(COUNTS)], cwd=ROOT, check=True)
    found = [json.loads(path.read_text()) for path in arguments.results or [RESULTS]]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(report(found, *(last(path) for path in (COUNTS, LATENCY, SOAK))))
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1024:.0f} KiB")


def last(path: Path) -> dict[str, Any] | None:
    """Return what the last run of something left; None if there was none."""
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return found


def report(
    runs: list[dict[str, Any]],
    counts: dict[str, Any] | None,
    latency: dict[str, Any] | None,
    soak: dict[str, Any] | None,
) -> str:
    """Return the page of one or more runs of the suite, and of what else there is."""
    figures = [figure for run in runs for figure in load_figures(run)]
    sections = [
        ("lose", "Where we lose", losses(figures)),
        ("tiers", "Tiers", f"<p>{TIERS_NOTE}</p>" + tiers_table(figures, latency)),
    ]
    layers = list(dict.fromkeys(figure.layer for figure in figures))
    sections += [
        (
            layer,
            layer.upper() if layer == "api" else layer.capitalize(),
            layer_section(layer, [each for each in figures if each.layer == layer]),
        )
        for layer in sorted(layers, key=lambda each: list(LAYERS).index(each) if each in LAYERS else len(LAYERS))
    ]
    sections.append(("counts", "Instructions", counts_section(counts)))
    if latency is not None:
        sections.append(("latency", "Latency", latency_section(latency)))
    if soak is not None:
        sections.append(("soak", "Soak", soak_section(soak)))
    sections.append(("machine", "Machine and versions", "".join(about(run) for run in runs)))
    return page("AlumiCatalyst: benchmarks", sections, head(runs, figures))


TIERS_NOTE = (
    "Claims that are often mixed up when engines are compared. A figure of one tier never stands beside another's; "
    "peers ran here, in the same run."
)


def head(runs: list[dict[str, Any]], figures: list[Figure]) -> str:
    """Return what has to be known before the first number."""
    machine = runs[0]["machine"]
    goals = [each.met for each in figures if each.met is not None]
    told = (
        f"<p>{escape(machine['cpu'])}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux "
        f"{escape(machine['kernel'])}{', a virtual machine' if machine['virtual'] else ''}; {escape(machine['date'])}; "
        f"load before {machine['load_before']:.1f}, after {machine['load_after']:.1f}. "
        f"{sum(goals)} of {len(goals)} goals met.</p>"
        '<p class="soft">Rates are millions of readings per second of processor time, all threads and system calls '
        "together: the median of the rounds, and their range. Each answer was checked before it was timed. Peers ran "
        "beside ours on the same work; &ldquo;ours is 2 x&rdquo; means twice as good.</p>"
        '<p class="key"><span><i style="background:var(--ours)"></i>AlumiCatalyst</span><span><i '
        'style="background:var(--peer)"></i>peers</span><span><i style="background:var(--goal)"></i>goal</span></p>'
    )
    warnings = []
    if any(run["scale"] != 1 for run in runs):
        warnings.append(
            "A short run (BENCH_SCALE): it shows that everything works, and its figures are not for quoting."
        )
    if any(run["versions"]["extension"] != "release" for run in runs):
        warnings.append("The extension was not built for release: ours is slower than it would be.")
    if max(machine["load_before"], machine["load_after"]) > machine["cores"] + 0.5:
        warnings.append("Other work ran meanwhile, which costs up to a third and more by the wall clock.")
    return told + (f'<div class="alert">{"".join(f"<p>{each}</p>" for each in warnings)}</div>' if warnings else "")


def layer_section(layer: str, figures: list[Figure]) -> str:
    """Return a layer's plots and tables."""
    html = f'<p class="soft">{escape(LAYERS.get(layer, ""))}</p>'
    compared = [group for group in groups(figures) if len(group) > 1]
    alone: dict[str, list[Figure]] = {}
    for group in groups(figures):
        if len(group) == 1:
            alone.setdefault(group[0].unit, []).append(group[0])
    if compared:
        html += f"<figure>{plots.bars(compared, f'{layer}: ours and peers')}</figure>"
    for unit, each in alone.items():
        if len(each) > 1:
            html += f"<figure>{plots.ranges(each, f'{layer}, {unit}')}</figure>"
    return html + figures_table(figures)


def counts_section(counts: dict[str, Any] | None) -> str:
    """Return what the kernels cost in instructions, beside what is committed."""
    committed = read(COMMITTED)
    found = counts or {}
    rows = []
    for kernel, told in KERNELS.items():
        now, known = found.get(kernel), committed.kernels.get(kernel)
        change = f"{now / known - 1:+.1%}" if now and known else ""
        cells = [
            escape(kernel),
            escape(told),
            "" if now is None else f"{now:,.1f}",
            f"{known:,.1f}" if known else "",
            change,
        ]
        rows.append(row(cells, numbers=(2, 3, 4)))
    by = found.get("rustc", committed.rustc)
    return (
        f'<p class="soft">Instructions a reading by callgrind, {escape(by)}: repeatable to 1 or 2 % on a busy machine, '
        "which no time is. Counted without the processor's SHA instructions.</p>"
        + table(["kernel", "work", "#found", "#committed", "#change"], rows)
    )


def latency_section(latency: dict[str, Any]) -> str:
    """Return how late transitions are visible."""
    kept_up = "".join(
        f"<li>{run['rate']:,} readings/s: {escape(run['kept_up'])}; {escape(run['stages'])}</li>"
        for run in latency["runs"]
    )
    return (
        f'<p class="soft">{escape(latency["command"])}, {escape(latency["machine"]["date"])}, load before '
        f"{latency['machine']['load_before']:.1f}.</p>"
        f"<figure>{plots.latencies(latency['runs'], latency['goal_ms'], 'latency of transitions')}</figure>"
        f"<ul>{kept_up}</ul>"
    )


def soak_section(soak: dict[str, Any]) -> str:
    """Return whether memory stayed flat."""
    names = {name: told for name, told in JUDGED.items() if any(name in each for each in soak["samples"])}
    told = "".join(f"<li>{escape(each)}</li>" for each in soak["verdict"])
    word = '<span class="met">flat</span>' if soak["flat"] else '<span class="missed">not flat</span>'
    return (
        f'<p class="soft">{escape(soak["command"])}, {escape(soak["machine"]["date"])}: {soak["readings"]:,} readings '
        f"in {soak['seconds']:.0f} s, {soak['ledger_entries']} entries in the ledger. The second half is judged.</p>"
        f"<p>Memory was {word}.</p><figure>{plots.memory(soak['samples'], names, 'memory during the soak')}</figure>"
        f"<ul>{told}</ul>"
    )


def about(run: dict[str, Any]) -> str:
    """Return what a run's figures belong to."""
    return f"<p><code>{escape(run['command'])}</code></p>" + facts_table(run["machine"] | run["versions"])


if __name__ == "__main__":
    main()

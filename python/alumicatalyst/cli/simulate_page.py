"""`alumicatalyst simulate --plot`: a page that shows what would be sent."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.simulator import Clocks, Plan

_DAY_S: Final = 86_400.0
# A little of everything, where the user asked for nothing: some of it is seen on the devices that are shown.
_FAULTS: Final = {"anode_effects": 0.02, "stuck": 0.01, "drifts": 0.01, "spikes": 0.02}
_SECOND_US: Final = 1_000_000


def make_page(
    path: Path,
    dictionary: Path,
    sha256: str,
    compiled: dict[str, Any],
    plan: Plan,
    clocks: Clocks,
    seconds: float | None,
    *,
    as_json: bool,
) -> str:
    """Write the page; return what the command prints.

    Raises:
        InputError: Fewer seconds than can be shown.
        SettingsError: matplotlib is not installed.
    """
    from alumicatalyst.simulator import ProcessFaults
    from alumicatalyst.simulator.page import About, write_page

    began = time.monotonic()
    seconds = _DAY_S if seconds is None else seconds
    if seconds < 60.0:
        raise InputError(f"couldn't plot {seconds:g} s: there is hardly a reading in it; give at least --seconds 60")
    if plan.faults == ProcessFaults():
        cells = any(metric["name"] == "cell_voltage" for metric in compiled["metrics"])
        rates = {name: rate for name, rate in _FAULTS.items() if cells or name != "anode_effects"}
        plan = replace(plan, faults=ProcessFaults(**rates))
    about = About(sha256, _command(path, dictionary, plan, clocks, seconds), seconds, _wrong(plan, clocks))
    pictures = write_page(path, compiled, plan, clocks, about)
    size = path.stat().st_size
    panels = sum(len(picture.panels) for picture in pictures)
    if as_json:
        elapsed = round(time.monotonic() - began, 3)
        summary = {"ok": True, "figures": len(pictures), "panels": panels, "bytes": size, "seconds": elapsed}
        return json.dumps({**summary, "seed": plan.seed, "page": str(path)})
    return f"{len(pictures)} figures with {panels} panels, {size:,} bytes, in {path}; open it in a browser"


def _command(path: Path, dictionary: Path, plan: Plan, clocks: Clocks, seconds: float) -> str:
    """Return the command that makes the same page again."""
    from alumicatalyst.simulator import Clocks as NewClocks
    from alumicatalyst.simulator import Plan as NewPlan
    from alumicatalyst.simulator.truth import as_text

    usual = _given(NewPlan(0), NewClocks())
    given = {name: value for name, value in _given(plan, clocks).items() if value != usual[name]}
    fixed = {"dictionary": dictionary, "plot": path, "start": as_text(plan.start_us), "seconds": f"{seconds:g}"}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in {**fixed, "seed": plan.seed, **given}.items()]
    return shlex.join(["alumicatalyst", "simulate", *words])


def _given(plan: Plan, clocks: Clocks) -> dict[str, Any]:
    """Return the command's options of a plan."""
    from alumicatalyst.cli.simulate_report import options_of

    found = {}
    for name, value in options_of(plan, clocks).items():
        if name.endswith("_us"):
            found[name.removesuffix("_us")] = f"{value / _SECOND_US:g}"
        else:
            found[name] = ",".join(value) if isinstance(value, list) else value
    return found


def _wrong(plan: Plan, clocks: Clocks) -> str:
    """Return in words how often something goes wrong."""
    way = plan.impairments
    shares = {
        "disorder": way.disorder,
        "duplicates": way.duplicates,
        "bursts": way.bursts,
        "malformed": way.malformed,
        "silence": way.silence,
        "clock skew": clocks.skew,
    }
    rates = {name.replace("_", " "): getattr(plan.faults, name) for name in _FAULTS}
    parts = [f"{name} {share:g}" for name, share in shares.items() if share]
    parts += [f"{name} {rate:g} an hour" for name, rate in rates.items() if rate]
    return ", ".join(parts)

"""What `alumicatalyst simulate` says of a run: its options, how far it is, and what it has done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.simulator import Clocks, Plan
    from alumicatalyst.simulator.truth import Totals


def options_of(plan: Plan, clocks: Clocks) -> dict[str, Any]:
    """Return what decides the bytes beside seed, start and dictionary, as the truth states it."""
    impairments = plan.impairments
    return {
        "pack_us": plan.pack_us,
        "pack_by": plan.pack_by,
        "key": plan.key,
        "plants": plan.plants,
        "rate_multiplier": plan.rate_multiplier,
        "disorder": impairments.disorder,
        "disorder_max_us": impairments.disorder_max_us,
        "duplicates": impairments.duplicates,
        "duplicate_max_us": impairments.duplicate_max_us,
        "bursts": impairments.bursts,
        "malformed": impairments.malformed,
        "reasons": list(impairments.reasons),
        "silence": impairments.silence,
        "clock_skew": clocks.skew,
        "clock_skew_max_us": clocks.skew_max_us,
        "anode_effects": plan.faults.anode_effects,
        "stuck": plan.faults.stuck,
        "drifts": plan.faults.drifts,
        "spikes": plan.faults.spikes,
    }


def so_far(totals: Totals, now_us: int, elapsed: float) -> str:
    """Return in a line how far a run is."""
    from alumicatalyst.simulator.truth import as_text

    rate = totals.readings / elapsed
    return f"{totals.readings:,} readings in {totals.envelopes:,} envelopes, {rate:,.0f}/s, up to {as_text(now_us)}"


def report(summary: dict[str, Any], to: Path | None, truth: Path | None) -> str:
    """Return for people what a run has done."""
    sent = f"{summary['readings']:,} readings in {summary['envelopes']:,} envelopes, {summary['body_bytes']:,} bytes"
    lines = [f"sent {sent}, event times {summary['event_time_min']} to {summary['event_time_max']}"]
    if summary["done"]:
        lines.append("done to them: " + ", ".join(f"{name} {count:,}" for name, count in summary["done"].items()))
    if summary["rejected"]:
        lines.append("to be rejected: " + ", ".join(f"{name} {count:,}" for name, count in summary["rejected"].items()))
    if summary.get("faults"):
        faults = ", ".join(f"{name} {count:,}" for name, count in summary["faults"].items())
        lines.append(f"wrong in the plant: {faults}; alarms to be raised: {summary['alarms']:,}")
    if summary["silenced"] or summary["waiting"]:
        lines.append(f"never sent: {summary['silenced']:,} silenced, {summary['waiting']:,} still on their way")
    if to is not None:
        lines.append(f"written to {to}; next: alumicatalyst replay {to}")
    if truth is not None:
        lines.append(f"truth in {truth}")
    return "\n".join(lines)

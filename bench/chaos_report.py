"""The tables at the end of the long kill run: kills by kind, runner and point, and what they made happen."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from bench.chaos_plan import STORES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SUMS = {
    "replays": "envelopes that were handed out again",
    "cut": "rows that came again and were cut at a mark",
    "commits": "commits of rows",
    "conflicts": "commits refused or failed, and tried again",
    "fenced": "writers that found out that another has their partition",
    "refused": "starts refused because the log had expired",
    "losses": "losses accepted",
    "tidiers_refused": "maintenance that found another one at it",
    "looks": "checks of the whole lake",
    "rows": "rows in the lakes at the end",
}


def table(rounds: Sequence[dict[str, Any]]) -> str:
    """Return everything as text."""
    kills = [(each["store"], kill) for each in rounds for kill in each["kills"]]
    text = [
        _counts("kills by kind", kills, lambda kill: kill["kind"]),
        _counts("kills by runner", kills, lambda kill: kill["runner"]),
        _counts("kills by where", kills, lambda kill: kill["at"].partition(":")[0] or "from outside"),
    ]
    text.append(_line("", *STORES, "all"))
    text.extend(_sums(what, [(each["store"], each.get(name, 0)) for each in rounds]) for name, what in _SUMS.items())
    for name in ("ledger", "api"):
        beside = [(each["store"], each.get("beside", {}).get(name, 0)) for each in rounds]
        text.append(_sums(f"kills of the {name} beside", beside))
    text.append(_sums("processor seconds", [(each["store"], each.get("cpu_s", 0)) for each in rounds]))
    text.append(_sums("minutes of rounds", [(each["store"], each.get("seconds", 0) / 60) for each in rounds]))
    after, again = sum(kill["commits"] > 0 for _, kill in kills), sum(kill["replays"] > 0 for _, kill in kills)
    wrong = [f"{each['store']} {each['seed']}" for each in rounds if each["violation"]]
    text.append(
        f"\n{len(kills)} kills in {len(rounds)} rounds, {after} after a commit of that life, {again} of a life that "
        f"read again what an earlier one had read; violations: {', '.join(wrong) or 'none'}"
    )
    return "\n".join(text)


def _counts(title: str, kills: Sequence[tuple[str, dict[str, Any]]], of: Callable[[dict[str, Any]], str]) -> str:
    found = Counter((of(kill), store) for store, kill in kills)
    lines = [_line(title, *STORES, "all", "after a commit")]
    for name in sorted({name for name, _ in found}):
        by_store = [found[name, store] for store in STORES]
        after = sum(kill["commits"] > 0 for _, kill in kills if of(kill) == name)
        lines.append(_line(f"  {name}", *by_store, sum(by_store), after))
    return "\n".join([*lines, ""])


def _sums(what: str, found: Sequence[tuple[str, float]]) -> str:
    sums = [sum(value for on, value in found if on == store) for store in STORES]
    return _line(f"  {what}", *(f"{each:,.0f}" for each in (*sums, sum(sums))))


def _line(name: str, *columns: object) -> str:
    return f"{name:<60}" + "".join(f"{column!s:>16}" for column in columns)

"""The tiers: claims that are often mixed up when engines are compared, each with what exactly is measured for it."""

from __future__ import annotations

TIERS = {
    "K": (
        "kernel: columns of numbers in memory to windows of 10 s, and of 60 s every 10 s, with all ten statistics, "
        "10,000 series, one thread; a hundredth of the readings out of order, 5 s of lateness, a watermark per series"
    ),
    "K-OOO": "the same with a tenth of the readings out of order, by up to 4 s, so that none is late",
    "P": (
        "parse: JSON of 128 bytes a reading, in memory, to windows of 10 s: decoded, checked against a dictionary, "
        "ordered and freed of duplicates, from Python, one thread"
    ),
    "E": (
        "end to end: JSON envelopes in memory to committed Delta tables on a local directory, with scores, hopping "
        "windows and alarm rules, from the claim to the last commit and the state; no broker and no network"
    ),
    "L": (
        "latency: open load at a constant rate, from the broker's clock to an alarm on the API's live stream, all "
        "parts processes of their own on this machine; a transition counts from when its reading was stored, however "
        "busy the flow was, so nothing is omitted"
    ),
    "R": (
        "recovery: kill -9 of the flow in the middle of a run; from the start of the next process (interpreter and "
        "imports included) to its first commit, and every reading counted once in the end"
    ),
}
"""By name, what a figure of the tier says. A figure of one tier never stands beside another's."""

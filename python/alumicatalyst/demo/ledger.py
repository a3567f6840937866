"""The demo's ledger: where it is, how far it has come, and whether it verifies."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from alumicatalyst.ledger.place import Place

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.lake import Lake

ORIGIN = "example.com/demo"


def place(directory: Path) -> Place:
    """Return the files of the ledger of a demo in a directory."""
    return Place(directory / "ledger", directory / "keys" / "ledger", ORIGIN)


def environment(directory: Path) -> dict[str, str]:
    """Return the settings of the ledger."""
    at = place(directory)
    return {
        "ALUMICATALYST_LEDGER__URI": f"file:{at.folder}",
        "ALUMICATALYST_LEDGER__ORIGIN": at.origin,
        "ALUMICATALYST_LEDGER__KEY": f"file:{at.key}",
        "ALUMICATALYST_LEDGER__INTERVAL_S": "1",
    }


def size(directory: Path) -> int:
    """Return how many entries the newest checkpoint is over, 0 before the first; nothing is verified."""
    with contextlib.suppress(FileNotFoundError):
        return int((place(directory).folder / "checkpoint").read_text(encoding="utf-8").split("\n")[1])
    return 0


def differences(directory: Path, lake: Lake) -> list[str]:
    """Verify log and lake as `alumicatalyst ledger verify` does, and return in words what is wrong or not signed."""
    from alumicatalyst.ledger.verify import verify
    from alumicatalyst.ledger.verify_log import read_earlier
    from alumicatalyst.ledger.verify_report import Report

    at = place(directory)
    key, report = at.verifier_key(), Report()
    verify(at.folder, key, [read_earlier(at.kept, key)], lake.store, report)
    return [finding.text() for finding in (*report.wrong.first, *report.pending.first)]

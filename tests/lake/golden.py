"""Makes a golden lake: everything that this version keeps, in a small folder that later versions have to read.

    python -m tests.lake.golden tests/vectors/lake-0.1

Vectors are only ever added to: a lake that is there stays as it is, and a version that writes something else adds its
own beside it. The rows are always the same; names of files, ids and times are those of the day on which it was made.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from alumicatalyst.cli import main as program
from alumicatalyst.lake import Lake, tables
from alumicatalyst.lake.query import select
from alumicatalyst.ledger.cursor import cursor
from alumicatalyst.ledger.prove import prove_commit, prove_row
from alumicatalyst.maintenance import expire
from alumicatalyst.maintenance.compact import compact
from alumicatalyst.maintenance.lease import Lease
from alumicatalyst.maintenance.trim import trim
from alumicatalyst.maintenance.vacuum import vacuum
from tests.ledger.site import Site

if TYPE_CHECKING:
    from collections.abc import Sequence

FILES = 5
"""The last one is not in the lake: whoever reads it resumes by it."""

ROWS = 48
LIMIT = 100.0

DICTIONARY = """
name = "golden-rig"
version = "1"
site = "example/rig"
time_zone = "UTC"
[payload]
device = "unit"
time = {field = "ts", format = "rfc3339"}
[time]
out_of_orderness = "2s"
[default]
windows = ["10s"]
detector = "ewma"
[detector.ewma]
half_life = "1min"
learn = 20
store_above = 0
[machine.pump]
device = "pump-{1..3}"
asset = "rig/{device}"
[machine.pump.pressure]
unit = "bar"
range = [0, 100]
resolution = 0.5
alarm.H = {above = 90, deadband = 5, on = "2s", off = "4s", priority = "high"}
"""

SUMS = {
    "readings": "SELECT outcome, count(*) AS n, sum(value) AS value FROM readings GROUP BY ALL ORDER BY ALL",
    "scores": "SELECT count(score) AS n, round(sum(score), 4) AS score FROM readings",
    "windows": "SELECT window_name, count(*) AS n, sum(count)::BIGINT AS of FROM windows GROUP BY ALL ORDER BY ALL",
    "alarms": "SELECT device, transition, step, peak FROM alarms ORDER BY ALL",
    "rejected": "SELECT reason, count(*) AS n FROM rejected GROUP BY ALL ORDER BY ALL",
    "batches": "SELECT sum(rows_total)::BIGINT AS rows, sum(rows_rejected)::BIGINT AS rejected FROM batches",
    "journal": "SELECT ordinal, kind FROM journal ORDER BY ALL",
}


def write_source(folder: Path) -> None:
    """Write the dictionary and the files: in order, late, double, out of range, broken, and an alarm in each file."""
    folder.mkdir(parents=True)
    (folder / "rig.toml").write_text(DICTIONARY)
    for number in range(FILES):
        start = datetime(2026, 1, 1 + number // 3, 6 + number, tzinfo=UTC)
        lines = ["ts,unit,pressure"]
        for row in range(ROWS):
            late = 120 if row % 41 == 40 else 0
            moment = start + timedelta(seconds=row // 3 - late)
            value = 95.5 if 24 <= row < 45 and row % 3 == 0 else 40 + (row * 7 + number) % 23 / 2
            lines.append(f"{moment:%Y-%m-%dT%H:%M:%SZ},pump-{row % 3 + 1},{130 if row % 37 == 36 else value}")
            lines += lines[-1:] if row % 29 == 28 else []
        (folder / f"{number + 1}.csv").write_text("\n".join([*lines, "broken", ""]))


def values(source: Path, files: int) -> list[float]:
    """Return the values that have to be stored as readings, by the files alone."""
    found = []
    for number in range(files):
        rows = csv.reader((source / f"{number + 1}.csv").read_text().splitlines()[1:])
        found += [float(row[2]) for row in rows if len(row) == 3 and float(row[2]) <= LIMIT]
    return found


def replay(source: Path, lake: Path, files: int) -> None:
    """Let the flow store the first so many files, or go on to them."""
    named = [str(source / f"{number + 1}.csv") for number in range(files)]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        arguments = ["replay", *named, "--dictionary", str(source / "rig.toml"), "--lake", f"file:{lake}", "--no-flush"]
        command(*arguments, "--json")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def command(*arguments: str) -> None:
    """Run a command of the program to its good end."""
    try:
        program.main(arguments)
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(f"{arguments} ended with {ended.code}") from None


def sums(lake: Lake) -> dict[str, list[dict[str, Any]]]:
    """Return what the lake holds, in figures."""
    return {name: [row for batch in select(lake, sql) for row in batch.to_pylist()] for name, sql in SUMS.items()}


def make(folder: Path) -> None:
    """Make a golden lake: flow, ledger, compaction, expiry, vacuum and trimming, and the flow again."""
    write_source(folder / "source")
    site = Site(folder)
    for files in range(1, FILES):
        replay(folder / "source", site.lake, files)
        if files in {2, 3}:
            _look_after(site)
    site.sign()
    lake = Lake.open(str(site.lake))
    with Lease(lake) as lease:
        trim(lake, lease, tables.SPECS, signed=cursor(lake, site.log), days=0, age_s_min=0, known_s=0)
    expected = sums(lake) | {"ledger": site.reader().size, "proofs": _prove(site, lake)}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    # The key that signed it is nobody's: only what verifies is kept.
    for path in site.place.key.parent.iterdir():
        if path.suffix != ".vkey":
            path.unlink()
    # Nor does it matter which machine it was made on.
    shutil.rmtree(site.lake / "_lease")
    for path in (*folder.rglob(".lease"), *site.log.rglob("*.p/*")):
        # Of tiles that are not full yet only the newest are needed.
        if path.name != str(site.reader().size % 256):
            path.unlink()


def _look_after(site: Site) -> None:
    """Compact, let a day expire, and vacuum what the ledger has signed."""
    lake = Lake.open(str(site.lake))
    with Lease(lake) as lease:
        compact(lake, lease, tables.SPECS, files_min=2)
        expire.expire(lake, days={"rejected": 1}, lease=lease, today=date(2026, 1, 3))
        site.sign()
        vacuum(lake, lease, tables.SPECS, signed=cursor(lake, site.log), days=0)
        site.sign()


def _prove(site: Site, lake: Lake) -> dict[str, Any]:
    """Keep proofs of a row of before the compaction, of one of after it, and of a commit."""
    proofs = site.folder / "proofs"
    proofs.mkdir()
    stored = pl.read_delta(str(site.lake / "readings")).sort("sequence_number", "item")
    told = {}
    for name, row in (("first", stored.row(0, named=True)), ("last", stored.row(-1, named=True))):
        question = f"readings sequence_number={row['sequence_number']} item={row['item']}"
        (proofs / f"{name}.tlog-proof").write_bytes(prove_row(lake, site.reader(), site.place.verifier_key(), question))
        told[name] = {"question": question, "device": row["device"], "value": row["value"]}
    commit = prove_commit(site.reader(), site.place.verifier_key(), "readings@3")
    (proofs / "commit.tlog-proof").write_bytes(commit)
    return told


def main(arguments: Sequence[str]) -> None:
    """Make a golden lake at a place that is not there yet."""
    folder = Path(arguments[0]).absolute()
    if folder.exists():
        raise SystemExit(f"{folder} is there: vectors are only ever added to")
    with tempfile.TemporaryDirectory() as made:
        # Settings of wherever this is called are none of the lake's.
        os.chdir(made)
        make(Path(made, "golden"))
        shutil.copytree(Path(made, "golden"), folder)


if __name__ == "__main__":
    main(sys.argv[1:])

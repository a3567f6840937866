"""The demo from outside: it ends well, a second start goes on, and anyone's SDK script can send to it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What the README shows: the plain SDK, and nothing of this package.
SENDER = textwrap.dedent("""
    import sys
    from datetime import UTC, datetime
    import json
    from azure.eventhub import EventData, EventHubProducerClient

    with EventHubProducerClient.from_connection_string(sys.argv[1]) as producer:
        batch = producer.create_batch(partition_key="reduction/line-1")
        reading = {"deviceId": "pot-001", "metric": "bath_temperature", "value": 961.5}
        batch.add(EventData(json.dumps({**reading, "ts": datetime.now(UTC).isoformat()})))
        producer.send_batch(batch)
""")


def run_demo(directory: Path, seconds: int, *, send: bool) -> dict[str, int]:
    """Run the demo as a user does; return its last line."""
    options = [f"--seconds={seconds}", f"--directory={directory}"]
    command = [sys.executable, "-m", "alumicatalyst.cli.main", "demo", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        lines = []
        for line in demo.stdout:
            lines.append(line.strip())
            found = re.match(r"connection +(\S+)", line)
            if send and found:
                subprocess.run([sys.executable, "-c", SENDER, found[1]], check=True, timeout=60)
    assert demo.returncode == 0, lines
    summary: dict[str, int] = json.loads(lines[-1])
    return summary


@pytest.mark.timeout(180)
def test_the_demo_ends_well_takes_a_strangers_reading_and_resumes(tmp_path):
    import polars as pl

    first = run_demo(tmp_path, 8, send=True)
    assert first["ok"]
    assert first["rows_total"] == first["windowed"] + first["late"] + first["duplicate"] + first["rejected"]
    assert first["rows_total"] == first["lake_rows"] > 100
    sent = pl.scan_delta(str(tmp_path / "lake" / "readings")).filter(
        (pl.col("device") == "pot-001") & (pl.col("metric") == "bath_temperature") & (pl.col("value") == 961.5)
    )
    assert sent.collect().height == 1

    second = run_demo(tmp_path, 8, send=False)
    assert second["ok"]
    assert second["rows_total"] > first["rows_total"]
    journal = pl.scan_delta(str(tmp_path / "lake" / "journal")).collect()
    assert journal.group_by("partition").len()["len"].to_list() == [1] * 4, "the second start took the same partitions"

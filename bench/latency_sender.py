"""The sender of the latency benchmark: envelopes at their times, whoever keeps up or not; its sums end it as JSON."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from typing import Any

from azure.eventhub import EventData, EventHubProducerClient

from bench.latency import DEVICES, PARTITIONS

NORMAL, HIGH = "4.3", "31.5"
_TICK_S = 0.02
_HIGH_S = 1.0


def main() -> None:
    """Send for as long as told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--per-envelope", type=int, required=True)
    parser.add_argument("--alarms", type=float, required=True)
    arguments = parser.parse_args()
    client: Any = EventHubProducerClient.from_connection_string(os.environ["EVENTHUBS_CONNECTION_STRING"])
    with client:
        print(json.dumps(send(client, **vars(arguments))))


def send(client: Any, rate: int, seconds: float, per_envelope: int, alarms: float) -> dict[str, float]:
    """Send envelope after envelope, each at its time; each tick's go as one batch a partition."""
    heads = [f'{{"d":"pot-{number:04}","m":"cell_voltage","t":' for number in range(1, DEVICES + 1)]
    # A group is a gateway: its devices travel together, always to the same partition.
    groups = itertools.cycle(enumerate([heads[at : at + per_envelope] for at in range(0, DEVICES, per_envelope)]))
    high: dict[str, float] = {}
    pause = max(1, round(rate / alarms))
    due, behind, transitions, readings = pause, 0.0, 0, 0
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) < seconds:
        batches: dict[str, Any] = {}
        while readings + per_envelope <= elapsed * rate:
            gateway, group = next(groups)
            readings += len(group)
            if readings >= due:
                # A gateway clears what it raised a second ago or more, else raises another: so that no two steps of an
                # alarm travel together, which the stream would tell of once.
                ripe = [head for head in group if elapsed - high.get(head, elapsed) >= _HIGH_S]
                if ripe:
                    del high[ripe[0]]
                else:
                    start_at = transitions % len(group)
                    high[next(head for head in group[start_at:] + group if head not in high)] = elapsed
                transitions, due = transitions + 1, due + pause
            now_us = time.time_ns() // 1000
            body = ",".join(f'{head}{now_us},"v":{HIGH if head in high else NORMAL}}}' for head in group)
            add(client, batches, str(gateway % PARTITIONS), EventData(f"[{body}]"))
        for batch in batches.values():
            client.send_batch(batch)
        behind = max(behind, time.monotonic() - start - elapsed)
        time.sleep(max(0.0, _TICK_S - (time.monotonic() - start - elapsed)))
    return {
        "readings": readings,
        "seconds": time.monotonic() - start,
        "transitions": transitions,
        "behind_ms": behind * 1e3,
    }


def add(client: Any, batches: dict[str, Any], partition: str, event: EventData) -> None:
    """Add an envelope to its partition's batch, and send one that is full."""
    batch = batches.get(partition)
    if batch is None:
        batch = batches[partition] = client.create_batch(partition_id=partition)
    try:
        batch.add(event)
    except ValueError:
        client.send_batch(batch)
        batches[partition] = client.create_batch(partition_id=partition)
        batches[partition].add(event)


if __name__ == "__main__":
    main()

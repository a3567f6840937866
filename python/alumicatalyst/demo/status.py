"""How far the demo's flow is, from the metrics that it serves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Self

from alumicatalyst.demo.client import DIRECT


@dataclass
class Status:
    """How far the flow is, from its own metrics.

    Attributes:
        outcomes: Readings of this run by outcome.
        committed: Rows committed in this run, by table.
        lag: Sequence numbers that the flow is behind the hub.
        watermark_delay_s: The largest distance of a watermark from its partition's time.
    """

    outcomes: dict[str, int] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=dict)
    lag: int = 0
    watermark_delay_s: float = 0.0

    @property
    def readings(self) -> int:
        """All readings of this run."""
        return sum(self.outcomes.values())

    @classmethod
    def read(cls, port: int) -> Self:
        """Read the metrics that a flow serves on this machine; nothing yet while it starts."""
        from prometheus_client.parser import text_string_to_metric_families

        status = cls()
        try:
            with DIRECT.open(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
                text = answer.read().decode()
        except OSError:
            return status
        for sample in (sample for family in text_string_to_metric_families(text) for sample in family.samples):
            match sample.name.removeprefix("alumicatalyst_"):
                case "readings_total":
                    outcome = sample.labels["outcome"]
                    status.outcomes[outcome] = status.outcomes.get(outcome, 0) + int(sample.value)
                case "lake_rows_total":
                    status.committed[sample.labels["table"]] = int(sample.value)
                case "source_lag_envelopes":
                    # A source that has not heard from its broker yet does not know.
                    status.lag += 0 if math.isnan(sample.value) else int(sample.value)
                case "watermark_delay_seconds":
                    status.watermark_delay_s = max(status.watermark_delay_s, sample.value)
        return status

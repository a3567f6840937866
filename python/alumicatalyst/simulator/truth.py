"""The truth file: what was sent, what was done to it, and what must come of it, as one JSON object a line."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from alumicatalyst.simulator.text import decimal, joined, rfc3339, strings

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from alumicatalyst.simulator.engine import Released, Simulator
    from alumicatalyst.simulator.expected import Expected, Found
    from alumicatalyst.simulator.spoil import Impaired


# What stands between the parts of an envelope's line.
_NUMBER, _TIME, _KEY, _READINGS, _END = (
    strings([text])[0]
    for text in (
        '{"kind":"envelope","envelope":',
        ',"enqueued_time":"',
        '","partition_key":',
        ',"readings":',
        "}\n",
    )
)


@dataclass(slots=True)
class Totals:
    """Sums over a run.

    Attributes:
        envelopes: Envelopes sent.
        readings: What they count as in the accounting: readings, and one for each envelope that is rejected whole.
        body_bytes: Bytes of their bodies.
        done: How often each thing was done to a reading or an envelope.
        rejected: Expected rejections by reason.
        duplicates: Readings that must come out as duplicates.
        undecided: Impaired readings whose outcome depends on what else arrives.
        unsendable: Envelopes that were left out because the broker takes none so large.
        event_time_min_us: The earliest event time measured and sent; None before the first.
        event_time_max_us: The latest one.
    """

    envelopes: int = 0
    readings: int = 0
    body_bytes: int = 0
    done: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    undecided: int = 0
    unsendable: int = 0
    event_time_min_us: int | None = None
    event_time_max_us: int | None = None

    def add(self, released: Released) -> None:
        """Count what was released."""
        self.envelopes += len(released)
        self.readings += int(released.readings.sum())
        self.body_bytes += int(pc.sum(pc.binary_length(released.bodies)).as_py() or 0)
        if len(released.rows):
            low, high = int(released.event_times_us.min()), int(released.event_times_us.max())
            self.event_time_min_us = min(low, self.event_time_min_us if self.event_time_min_us is not None else low)
            self.event_time_max_us = max(high, self.event_time_max_us if self.event_time_max_us is not None else high)
        for one in released.impaired:
            self.done.update(one.done.split("+"))
            # An envelope rejected whole is one rejection, however many readings it would have brought.
            if one.outcome == "rejected" and (one.item >= 0 or not one.metric):
                self.rejected[str(one.reason)] += 1
            self.duplicates += one.outcome == "duplicate"
            self.undecided += one.outcome is None

    def as_dict(self) -> dict[str, Any]:
        """Return the sums as they are written and printed."""
        return {
            "envelopes": self.envelopes,
            "readings": self.readings,
            "body_bytes": self.body_bytes,
            "done": dict(sorted(self.done.items())),
            "rejected": dict(sorted(self.rejected.items())),
            "duplicates": self.duplicates,
            "undecided": self.undecided,
            "unsendable": self.unsendable,
            "event_time_min": as_text(self.event_time_min_us),
            "event_time_max": as_text(self.event_time_max_us),
        }


class Truth:
    """Writes the truth beside a run. Complete once closed: its last line has the kind `totals`.

    Args:
        path: The file.
        simulator: What is simulated.
        header: What the first line says of the run.
        expected: Follows the faults of the plant; None: it has none.

    Attributes:
        faults: Faults of the plant so far by kind, those that were cut not counted.
        alarms: Alarms that they must raise.
    """

    def __init__(
        self, path: Path, simulator: Simulator, header: dict[str, Any], expected: Expected | None = None
    ) -> None:
        self.faults: Counter[str] = Counter()
        self.alarms = 0
        self._fleet = fleet = simulator.fleet
        self._clock_us = simulator.clock_us
        self._expected = expected
        self._keys = strings([json.dumps(key) for key in fleet.partition_keys])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        self._line({"kind": "run", **header})
        for device in np.flatnonzero(self._clock_us).tolist():
            ahead_us = int(self._clock_us[device])
            self._line({"kind": "clock", "device": fleet.devices[device], "ahead_us": ahead_us})

    def add(self, released: Released) -> None:
        """Write one line for each envelope and one for each thing that was done."""
        if len(released):
            keys, key_lengths = self._keys
            text, _ = joined(
                [
                    (_NUMBER, None, False),
                    (*decimal(np.arange(released.first, released.first + len(released)), 0), True),
                    (_TIME, None, False),
                    (rfc3339(released.enqueued_us, microseconds=True), None, False),
                    (_KEY, None, False),
                    (keys.take(released.keys, axis=0), key_lengths[released.keys], False),
                    (_READINGS, None, False),
                    (*decimal(released.readings, 0), True),
                    (_END, None, False),
                ]
            )
            self._file.write(text.data)
        self._file.write("".join(_impaired_line(one) for one in released.impaired).encode())
        if self._expected is not None:
            self._found(self._expected.add(released))

    def close(self, totals: dict[str, Any], now_us: int) -> None:
        """Write the faults that last beyond `now_us`, where the run ended, then the sums, and close the file."""
        if self._expected is not None:
            self._found(self._expected.close(now_us))
        self._line({"kind": "totals", **totals, "faults": dict(sorted(self.faults.items())), "alarms": self.alarms})
        self._file.close()

    def _found(self, found: list[Found]) -> None:
        for one in found:
            device = int(self._fleet.device[one.fault.series])
            # In the time of the device, as are its readings and the alarms that they raise.
            ahead_us = int(self._clock_us[device])
            if one.complete:
                self.faults[one.fault.kind] += 1
                self.alarms += len(one.alarms)
            self._line(
                {
                    "kind": "fault",
                    "fault": one.fault.kind,
                    "device": self._fleet.devices[device],
                    "metric": self._fleet.metrics[int(self._fleet.metric[one.fault.series])]["name"],
                    "from": as_text(one.fault.begin_us + ahead_us),
                    # An anode effect builds up for a long time before it breaks out.
                    "onset": as_text(one.fault.onset_us + ahead_us),
                    "until": as_text(one.fault.end_us + ahead_us),
                    "alarms": list(one.alarms),
                    "complete": one.complete,
                }
            )

    def _line(self, content: dict[str, Any]) -> None:
        self._file.write(json.dumps(content, separators=(",", ":")).encode() + b"\n")


def _impaired_line(one: Impaired) -> str:
    content = {
        "kind": "impaired",
        "envelope": one.envelope,
        "item": one.item,
        "device": one.device,
        "metric": one.metric,
        "event_time": as_text(one.event_time_us),
        "done": one.done,
        "outcome": one.outcome,
        "reason": one.reason,
        "delay_us": one.delay_us,
    }
    return json.dumps(content, separators=(",", ":")) + "\n"


def as_texts(times_us: NDArray[np.int64]) -> list[str]:
    """Return times in RFC 3339, to the microsecond."""
    block = rfc3339(times_us, microseconds=True)
    width = block.shape[1]
    text = block.tobytes().decode()
    return [text[at : at + width] for at in range(0, len(text), width)]


def as_text(time_us: int | None) -> str | None:
    """Return one time in RFC 3339, to the microsecond."""
    return None if time_us is None else as_texts(np.array([time_us], dtype=np.int64))[0]

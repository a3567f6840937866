"""Readings as the JSON bodies that the dictionary's payload mapping describes, written a whole batch at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from alumicatalyst.errors import InputError
from alumicatalyst.simulator.text import decimal, put, put_left, put_right, rfc3339, strings, to_right

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from alumicatalyst.simulator.plant import Compiled, Fleet
    from alumicatalyst.simulator.text import Block

# Every fourth device has older firmware: it names metrics as they were once called and adds members that are ignored.
_OLD_FIRMWARE_EVERY = 4
_UNCERTAIN = 64
# The shortest text before a value: a comma, an empty name in quotes, a colon.
_MIDDLE_LEAST = 4


@lru_cache(maxsize=4096)
def quoted(text: str) -> str:
    """Return a JSON string."""
    return json.dumps(text, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Members:
    """The names that a sender gives to the parts of a reading."""

    device: str | None
    device_property: str | None
    time: str
    time_format: str
    metric: str | None
    value: str | None
    quality: str | None
    ignored: str | None

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Members:
        """Read a compiled payload mapping; of several candidates the first that stands in the body."""
        device = next((name for name in payload["device"] if not name.startswith("@")), None)
        time = next((name for name in payload["time"] if not name.startswith("@")), None)
        if time is None:
            raise InputError(
                f"couldn't write event times: the dictionary reads them from {', '.join(payload['time'])} only, which "
                "the broker sets; name a member of the body as well under [payload] time"
            )
        return cls(
            device=device,
            device_property=None if device else payload["device"][0].removeprefix("@"),
            time=time,
            time_format=payload["time_format"],
            metric=payload["metric"],
            value=payload["value"],
            quality=payload["quality"],
            ignored=next(iter(payload["ignore"]), None),
        )


class Writer:
    """Writes readings of a fleet; the fixed parts of each series' text are prepared once."""

    def __init__(self, compiled: Compiled, fleet: Fleet) -> None:
        self.members = Members.of(compiled["payload"])
        self.fleet = fleet
        former = {new: old for old, new in compiled["payload"]["rename"].items()}
        old_firmware = fleet.device_keys % np.uint64(_OLD_FIRMWARE_EVERY) == 0
        heads, names = [], []
        for device, metric in zip(fleet.device.tolist(), fleet.metric.tolist(), strict=True):
            name = fleet.metrics[metric]["name"]
            heads.append(self._head(fleet.devices[device], old=bool(old_firmware[device])))
            names.append(former.get(name, name) if old_firmware[device] else name)
        self.names = names
        self._heads, self._head_lengths = strings(heads)
        middles, self._middle_lengths = strings([self._middle(name) for name in names])
        self._middles = to_right(middles, self._middle_lengths)
        self._text_time = self.members.time_format == "rfc3339"
        quality = "" if self.members.quality is None else f",{quoted(self.members.quality)}:{_UNCERTAIN}"
        self._quality, _ = strings([quality])
        self._states = {index: _States.of(one["states"]) for index, one in enumerate(fleet.metrics) if one["states"]}
        styles = np.where(np.isin(fleet.metric, list(self._states)), -1 - fleet.metric, fleet.decimals)
        self._kinds, self._kind = np.unique(styles, return_inverse=True)
        self._kind = self._kind.astype(np.min_scalar_type(len(self._kinds)))

    @property
    def wide(self) -> bool:
        """Whether one object carries all metrics of a device at an instant."""
        return self.members.metric is None

    def _head(self, device: str, *, old: bool) -> str:
        """Return the text of an object up to its time."""
        parts = []
        if self.members.device is not None:
            parts.append(f"{quoted(self.members.device)}:{quoted(device)}")
        if old and self.members.ignored is not None:
            parts.append(f"{quoted(self.members.ignored)}:1")
        parts.append(f"{quoted(self.members.time)}:")
        return "{" + ",".join(parts) + ('"' if self.members.time_format == "rfc3339" else "")

    def _middle(self, metric: str) -> str:
        """Return the text between an object's time and a value."""
        if self.members.metric is None or self.members.value is None:
            return f",{quoted(metric)}:"
        return f",{quoted(self.members.metric)}:{quoted(metric)},{quoted(self.members.value)}:"

    def times(self, times_us: NDArray[np.int64]) -> tuple[Block, NDArray[np.int64]]:
        """Return event times in the format of the mapping, without quotes: rows that end at the right edge, lengths."""
        micro = self.fleet.microseconds
        match self.members.time_format:
            case "rfc3339":
                block = rfc3339(times_us, microseconds=micro)
                return block, np.full(len(block), block.shape[1], dtype=np.int64)
            case "epoch_us":
                return decimal(times_us, 0)
            case "epoch_ms":
                return decimal(times_us, 3) if micro else decimal(times_us // 1000, 0)
            case _:
                return decimal(times_us, 6) if micro else decimal(times_us // 1000, 3)

    def values(self, series: NDArray[np.int64], mantissas: NDArray[np.int64]) -> Values:
        """Return values as JSON numbers with the decimals of their series, states as JSON strings."""
        kind = self._kind[series]
        lengths = np.empty(len(series), dtype=np.int64)
        parts = []
        for number, style in enumerate(self._kinds.tolist()):
            chosen = np.flatnonzero(kind == number)
            if not len(chosen):
                continue
            of = mantissas[chosen]
            block, lengths[chosen] = decimal(of, style) if style >= 0 else self._states[-1 - style].texts(of)
            parts.append((chosen, block))
        return Values(parts, lengths)

    def write(
        self,
        series: NDArray[np.int64],
        times_us: NDArray[np.int64],
        mantissas: NDArray[np.int64],
        uncertain: NDArray[np.bool_],
        first_of_object: NDArray[np.bool_],
        first_of_body: NDArray[np.bool_],
        *,
        array: bool,
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the text of all rows after each other, and where each row's text ends.

        Args:
            series: Row by row the series.
            times_us: Event times.
            mantissas: Values as whole numbers of their last decimal, or codes of states.
            uncertain: Rows with a quality of 64 (where the mapping has a quality).
            first_of_object: Rows that open an object; in a narrow mapping all of them.
            first_of_body: Rows that open a body.
            array: Bodies are arrays of objects, not single objects.
        """
        if not len(series):
            return np.zeros(0, dtype=np.uint8), np.zeros(0, dtype=np.int64)
        opening = np.flatnonzero(first_of_object) if self.wide else slice(None)
        values = self.values(series, mantissas)
        time, time_lengths = self.times(times_us[opening])
        middle_lengths = self._middle_lengths[series]
        # What stands before the text of a metric: in a wide object only its first row has any.
        head_lengths = self._head_lengths[series[opening]]
        before = np.zeros(len(series), dtype=np.int64)
        before[opening] = head_lengths + time_lengths + (array + self._text_time)
        doubtful = np.flatnonzero(uncertain) if not self.wide else np.zeros(0, dtype=np.int64)
        last_of_object = np.flatnonzero(_before(first_of_object)) if self.wide else slice(None)
        last_of_body = np.flatnonzero(_before(first_of_body)) if array else np.zeros(0, dtype=np.int64)
        lengths = before + middle_lengths + values.lengths
        lengths[doubtful] += self._quality.shape[1]
        lengths[last_of_object] += 1
        lengths[last_of_body] += 1
        ends = np.cumsum(lengths)
        starts = ends - lengths
        out = np.empty(int(ends[-1]), dtype=np.uint8)
        # From the back to the front: what spills over is written after.
        value_starts = starts + before + middle_lengths
        value_ends = value_starts + values.lengths
        values.put(out, value_ends, _MIDDLE_LEAST)
        put(out, value_ends[doubtful], self._quality.repeat(len(doubtful), axis=0))
        spill = 0 if self.wide or not self._text_time else time.shape[1]
        put_right(out, value_starts, self._middles.take(series, axis=0), middle_lengths, spill)
        begins = starts[opening]
        heads = self._heads.take(series[opening], axis=0)
        put_left(out, begins + array, heads, head_lengths, time.shape[1] if self._text_time else 0)
        time_ends = begins + before[opening]
        if self._text_time:
            time_ends -= 1
            out[time_ends] = ord('"')
        put_right(out, time_ends, time, time_lengths, 0)
        if array:
            out[begins] = np.where(first_of_body[opening], np.uint8(ord("[")), np.uint8(ord(",")))
        closing = ends.copy()
        closing[last_of_body] -= 1
        out[closing[last_of_object] - 1] = ord("}")
        out[ends[last_of_body] - 1] = ord("]")
        return out, ends


@dataclass(frozen=True, slots=True)
class Values:
    """The values of rows as text.

    Attributes:
        parts: Some of the rows, and their texts, which end at the right edge; all parts together hold every row.
        lengths: Of each row's text.
    """

    parts: list[tuple[NDArray[np.int64], Block]]
    lengths: NDArray[np.int64]

    def put(self, out: Block, ends: NDArray[np.int64], spill: int) -> None:
        """Copy the texts to where they end; up to `spill` bytes before each are overwritten too."""
        for chosen, block in self.parts:
            put_right(out, ends[chosen], block, self.lengths[chosen], spill)

    def block(self) -> Block:
        """Return the texts as one block, in which they end at the right edge."""
        width = max((block.shape[1] for _, block in self.parts), default=0)
        out = np.zeros((len(self.lengths), width), dtype=np.uint8)
        for chosen, block in self.parts:
            out[chosen, width - block.shape[1] :] = block
        return out


@dataclass(frozen=True, slots=True)
class _States:
    """The names of a metric's states, by code."""

    codes: NDArray[np.int64]
    block: Block
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, states: Mapping[str, int]) -> _States:
        names = sorted(states, key=lambda name: states[name])
        block, lengths = strings([quoted(name) for name in names])
        return cls(np.array([states[name] for name in names], dtype=np.int64), to_right(block, lengths), lengths)

    def texts(self, codes: NDArray[np.int64]) -> tuple[Block, NDArray[np.int64]]:
        places = np.searchsorted(self.codes, codes)
        return self.block.take(places, axis=0), self.lengths[places]


def _before(first: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the rows that stand before a row marked first, and the last row."""
    last = np.ones_like(first)
    last[:-1] = first[1:]
    return last


def members_text(members: Sequence[tuple[str, str]]) -> str:
    """Return an object of already written values; a name may occur twice."""
    return "{" + ",".join(f"{quoted(name)}:{text}" for name, text in members) + "}"

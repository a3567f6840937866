"""Readings as the JSON bodies that the dictionary's payload mapping describes, written a whole batch at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from alumicatalyst.errors import InputError
from alumicatalyst.simulator.text import decimal, rfc3339, strings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from alumicatalyst.simulator.plant import Compiled, Fleet
    from alumicatalyst.simulator.text import Block

# Every fourth device has older firmware: it names metrics as they were once called and adds members that are ignored.
_OLD_FIRMWARE_EVERY = 4
_UNCERTAIN = 64


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
        self._heads = strings(heads)
        self._middles = strings([self._middle(name) for name in names])
        self._text_time = self.members.time_format == "rfc3339"
        quality = "" if self.members.quality is None else f",{quoted(self.members.quality)}:{_UNCERTAIN}"
        self._qualities = strings(["", quality])
        self._states = {
            index: {code: quoted(state) for state, code in metric["states"].items()}
            for index, metric in enumerate(fleet.metrics)
            if metric["states"] is not None
        }
        self._styles = np.where(np.isin(fleet.metric, list(self._states)), -1 - fleet.metric, fleet.decimals)

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

    def times(self, times_us: NDArray[np.int64]) -> Block:
        """Return event times in the format of the mapping, without quotes."""
        micro = self.fleet.microseconds
        match self.members.time_format:
            case "rfc3339":
                return rfc3339(times_us, microseconds=micro)
            case "epoch_us":
                return decimal(times_us, 0)
            case "epoch_ms":
                return decimal(times_us, 3) if micro else decimal(times_us // 1000, 0)
            case _:
                return decimal(times_us, 6) if micro else decimal(times_us // 1000, 3)

    def values(self, series: NDArray[np.int64], mantissas: NDArray[np.int64]) -> Block:
        """Return values as JSON numbers with the decimals of their series, states as JSON strings."""
        styles = self._styles[series]
        blocks: list[tuple[NDArray[np.int64], Block]] = []
        for style in np.unique(styles).tolist():
            chosen = np.flatnonzero(styles == style)
            if style >= 0:
                blocks.append((chosen, decimal(mantissas[chosen], style)))
            else:
                texts = self._states[-1 - style]
                codes = sorted(texts)
                table = strings([texts[code] for code in codes])
                blocks.append((chosen, table[np.searchsorted(np.array(codes), mantissas[chosen])]))
        out = np.zeros((len(series), max((block.shape[1] for _, block in blocks), default=0)), dtype=np.uint8)
        for chosen, block in blocks:
            out[chosen, : block.shape[1]] = block
        return out

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
        rows = len(series)
        head = self._heads[series]
        if self.wide:
            time = self.times(times_us)
            head[~first_of_object] = 0
            time[~first_of_object] = 0
            quote = np.where(first_of_object, ord('"') if self._text_time else 0, 0)
        else:
            time = self.times(times_us)
            quote = np.full(rows, ord('"') if self._text_time else 0)
        last_of_object = _before(first_of_object)
        last_of_body = _before(first_of_body)
        opening = np.where(first_of_body, ord("[") if array else 0, np.where(first_of_object, ord(","), 0))
        parts = [
            opening.astype(np.uint8)[:, None],
            head,
            time,
            quote.astype(np.uint8)[:, None],
            self._middles[series],
            self.values(series, mantissas),
        ]
        if uncertain.any() and not self.wide:
            parts.append(self._qualities[uncertain.astype(np.int64)])
        parts.append(np.where(last_of_object, ord("}"), 0).astype(np.uint8)[:, None])
        if array:
            parts.append(np.where(last_of_body, ord("]"), 0).astype(np.uint8)[:, None])
        block = np.concatenate(parts, axis=1)
        present = block != 0
        return block[present], np.cumsum(np.count_nonzero(present, axis=1))


def _before(first: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the rows that stand before a row marked first, and the last row."""
    last = np.ones_like(first)
    last[:-1] = first[1:]
    return last


def texts_of(block: Block) -> list[str]:
    """Return the rows of a block as Python strings."""
    lengths = np.count_nonzero(block, axis=1).tolist()
    raw = block[block != 0].tobytes().decode()
    if len(raw) != sum(lengths):
        return [bytes(row[row != 0]).decode() for row in block]
    out, at = [], 0
    for length in lengths:
        out.append(raw[at : at + length])
        at += length
    return out


def members_text(members: Sequence[tuple[str, str]]) -> str:
    """Return an object of already written values; a name may occur twice."""
    return "{" + ",".join(f"{quoted(name)}:{text}" for name, text in members) + "}"

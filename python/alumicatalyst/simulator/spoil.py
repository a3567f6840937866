"""Makes the malformed envelopes and readings of a release, and notes what was done to each and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from alumicatalyst.simulator.malform import Good, body_reasons, reading_reasons, spoil_body, spoil_reading
from alumicatalyst.simulator.noise import keys_of, mixed, uniform
from alumicatalyst.simulator.plan import SECOND_US
from alumicatalyst.simulator.rows import BURST, COPIED, COPY, DISORDER, MALFORMED
from alumicatalyst.simulator.text import texts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alumicatalyst.simulator.engine import Released
    from alumicatalyst.simulator.payload import Writer
    from alumicatalyst.simulator.plan import Plan
    from alumicatalyst.simulator.plant import Compiled

_DONE = ((DISORDER, "disorder"), (BURST, "burst"), (COPY, "duplicate"), (MALFORMED, "malformed"))
_LISTED = DISORDER | BURST | COPY | MALFORMED


@dataclass(frozen=True, slots=True)
class Impaired:
    """One thing that was done to a reading, or to a whole envelope (`item` -1), and what must come of it.

    Attributes:
        envelope: Number of the envelope in the run, from 0.
        item: Position in the envelope, -1 where that is rejected whole.
        device: The device.
        metric: The metric, empty for a whole envelope.
        event_time_us: The event time, before anything was done to it.
        done: disorder, burst, duplicate, malformed, or several with a plus sign.
        outcome: windowed, duplicate or rejected, where that is decidable; else None.
        reason: The reason of rejection.
        delay_us: How long after its event time the reading was sent.
    """

    envelope: int
    item: int
    device: str
    metric: str
    event_time_us: int
    done: str
    outcome: str | None
    reason: str | None
    delay_us: int


class Spoiler:
    """Carries what tells a duplicate's fate: how many readings of its series arrived since the first copy."""

    def __init__(self, compiled: Compiled, plan: Plan, writer: Writer, clock_us: NDArray[np.int64]) -> None:
        self._compiled = compiled
        self._clock_us = clock_us
        self._plan = plan
        self._writer = writer
        self._fleet = writer.fleet
        wanted = plan.impairments.reasons
        self._body_reasons = body_reasons(compiled, wanted)
        self._reading_reasons = [reading_reasons(compiled, metric, wanted) for metric in self._fleet.metrics]
        self._body_key, self._row_key = keys_of(plan.seed, "purpose", ["body", "row"])
        self._arrived = np.zeros(len(self._fleet.series_keys), dtype=np.int64)
        # Where the first copy of a reading stands in its series; None: it is rejected, so the second's fate is open.
        self._copied: dict[tuple[int, int], int | None] = {}

    def apply(self, released: Released, ends: NDArray[np.int64]) -> Released:
        """Return the release with its malformed parts and the list of what was done; `ends`: of rows in the text."""
        rows = released.rows
        arrival = self._arrivals(rows.series) if self._plan.impairments.duplicates else np.zeros(0, np.int64)
        whole = self._whole(released)
        listed = np.flatnonzero(rows.marks & (_LISTED | COPIED))
        if not len(listed) and not whole:
            return released
        starts = released.row_ends - np.diff(released.row_ends, prepend=0)
        envelopes = np.searchsorted(released.row_ends, listed, side="right")
        reasons = self._bad_readings(released, listed)
        impaired: list[Impaired] = []
        rejected: set[int] = set(whole)
        for envelope, reason in whole.items():
            first = int(starts[envelope])
            impaired.append(
                Impaired(
                    envelope=released.first + envelope,
                    item=-1,
                    device=self._fleet.devices[int(released.devices[envelope])],
                    metric="",
                    event_time_us=int(released.event_times_us[first]),
                    done="malformed",
                    outcome="rejected",
                    reason=reason,
                    delay_us=0,
                )
            )
        for row, envelope in zip(listed.tolist(), envelopes.tolist(), strict=True):
            if row in reasons or envelope in rejected:
                fate: tuple[str | None, str | None] = ("rejected", whole.get(envelope) or reasons[row])
                if fate[1] == "too_many_series":
                    fate = (None, fate[1])
            else:
                fate = (None, None)
            item = int(row - starts[envelope])
            one = self._judge(released, row, envelope, item, fate, arrival, whole=envelope in rejected)
            if one is not None:
                impaired.append(one)
        impaired.sort(key=lambda one: (one.envelope, one.item))
        return self._rewrite(released, starts, ends, whole, reasons, impaired)

    def _arrivals(self, series: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each row how many of its series came before it in the whole run."""
        order = np.argsort(series, kind="stable")
        ordered = series[order]
        opens = np.ones(len(series), dtype=bool)
        opens[1:] = ordered[1:] != ordered[:-1]
        begins = np.flatnonzero(opens)
        lengths = np.diff(np.append(begins, len(series)))
        arrival = np.empty(len(series), dtype=np.int64)
        arrival[order] = np.arange(len(series)) - np.repeat(begins, lengths) + self._arrived[ordered]
        np.add.at(self._arrived, ordered[begins], lengths)
        return arrival

    def _whole(self, released: Released) -> dict[int, str]:
        """Choose the envelopes that are malformed as a whole, by their first reading."""
        rate = self._plan.impairments.malformed
        if not rate or not self._body_reasons or not len(released):
            return {}
        starts = released.row_ends - np.diff(released.row_ends, prepend=0)
        keys = self._fleet.series_keys[released.rows.series[starts]] ^ self._body_key
        # The sending time tells the copies of a reading apart.
        places = released.rows.sent_us[starts]
        chosen = np.flatnonzero(uniform(keys, places) < rate)
        bits = mixed(keys[chosen], places[chosen] + 1) >> np.uint64(8)
        return {
            envelope: self._body_reasons[bit % len(self._body_reasons)]
            for envelope, bit in zip(chosen.tolist(), bits.tolist(), strict=True)
        }

    def _bits(self, released: Released, row: int) -> int:
        rows = released.rows
        keys = self._fleet.series_keys[rows.series[row : row + 1]] ^ self._row_key
        return int(mixed(keys, rows.index[row : row + 1])[0])

    def _bad_readings(self, released: Released, listed: NDArray[np.int64]) -> dict[int, str]:
        """Choose why each malformed reading is rejected; where its metric can give no wanted reason it stays good."""
        chosen = {}
        for row in listed[released.rows.marks[listed] & MALFORMED != 0].tolist():
            possible = self._reading_reasons[int(self._fleet.metric[released.rows.series[row]])]
            if possible:
                chosen[row] = possible[(self._bits(released, row) >> 16) % len(possible)]
        return chosen

    def _judge(
        self,
        released: Released,
        row: int,
        envelope: int,
        item: int,
        fate: tuple[str | None, str | None],
        arrival: NDArray[np.int64],
        *,
        whole: bool,
    ) -> Impaired | None:
        """Describe one row; None where nothing was done to it: a first copy, or a reading that cannot be malformed."""
        rows = released.rows
        marks = int(rows.marks[row])
        series, index = int(rows.series[row]), int(rows.index[row])
        outcome, reason = fate
        delay_us = int(rows.sent_us[row] - rows.times_us[row])
        if marks & COPIED:
            self._copied[series, index] = None if reason is not None else int(arrival[row])
        since = None
        if marks & COPY:
            before = self._copied.pop((series, index), None)
            since = None if before is None else int(arrival[row]) - before - 1
        if reason is None:
            marks &= ~MALFORMED
            metric = self._fleet.metrics[int(self._fleet.metric[series])]
            if marks & COPY:
                # The window of remembered event times may reach further, as rejected readings do not fill it.
                outcome = "duplicate" if since is not None and since < metric["duplicates"] else None
            elif marks & (DISORDER | BURST) == DISORDER:
                behind_us = max(0, -int(self._clock_us[int(self._fleet.device[series])]))
                margin = delay_us + behind_us + 2 * self._plan.pack_us + SECOND_US
                in_time = delay_us <= metric["out_of_orderness_us"] and margin < metric["idle_us"]
                outcome = "windowed" if in_time else None
            if not marks & (DISORDER | BURST | COPY):
                return None
        elif not marks & _LISTED:
            return None
        return Impaired(
            envelope=released.first + envelope,
            item=-1 if whole else item,
            device=self._fleet.devices[int(self._fleet.device[series])],
            metric=str(self._fleet.metrics[int(self._fleet.metric[series])]["name"]),
            event_time_us=int(released.event_times_us[row]),
            done="+".join(name for mark, name in _DONE if marks & mark),
            outcome=outcome,
            reason=reason,
            delay_us=delay_us,
        )

    def _rewrite(
        self,
        released: Released,
        starts: NDArray[np.int64],
        ends: NDArray[np.int64],
        whole: dict[int, str],
        reasons: dict[int, str],
        impaired: list[Impaired],
    ) -> Released:
        """Put the malformed text in its place."""
        if not whole and not reasons:
            return replace(released, impaired=impaired)
        bodies: list[bytes] = released.bodies.to_pylist()
        readings, raw = released.readings.copy(), released.raw.copy()
        listed = np.fromiter(reasons, dtype=np.int64, count=len(reasons))
        held_by = np.searchsorted(released.row_ends, listed, side="right").tolist()
        by_envelope: dict[int, list[int]] = {}
        for row, envelope in zip(reasons, held_by, strict=True):
            by_envelope.setdefault(envelope, []).append(row)
        texts = self._texts(released, listed)
        for envelope, bad in by_envelope.items():
            origin = int(ends[starts[envelope] - 1]) if starts[envelope] else 0
            bodies[envelope] = self._replace_rows(released, bodies[envelope], bad, ends, origin, reasons, texts)
            raw[envelope] = any(reasons[row] == "not_finite" for row in bad)
        for envelope, reason in whole.items():
            first = int(starts[envelope])
            bodies[envelope] = spoil_body(reason, bodies[envelope], self._compiled, self._bits(released, first) >> 8)
            readings[envelope], raw[envelope] = 1, True
        return replace(
            released, bodies=pa.array(bodies, pa.large_binary()), readings=readings, raw=raw, impaired=impaired
        )

    def _texts(self, released: Released, listed: NDArray[np.int64]) -> dict[int, tuple[str, str]]:
        """Return time and value of some rows as they are written."""
        rows, writer = released.rows, self._writer
        times = texts_of(*writer.times(released.event_times_us[listed]))
        of = writer.values(rows.series[listed], rows.mantissas[listed])
        values = texts_of(of.block(), of.lengths)
        return dict(zip(listed.tolist(), zip(times, values, strict=True), strict=True))

    def _replace_rows(
        self,
        released: Released,
        body: bytes,
        bad: list[int],
        ends: NDArray[np.int64],
        origin: int,
        reasons: dict[int, str],
        texts: dict[int, tuple[str, str]],
    ) -> bytes:
        rows, writer = released.rows, self._writer
        parts, done = [], 0
        for row in bad:
            begin, end = (int(ends[row - 1]) if row else 0) - origin, int(ends[row]) - origin
            if self._plan.pack_us:
                # The comma or bracket before the object, and the bracket after the last one, stay.
                begin += 1
                end -= 1 if end == len(body) else 0
            series = int(rows.series[row])
            time, value = texts[row]
            good = Good(
                device=self._fleet.devices[int(self._fleet.device[series])],
                metric=writer.names[series],
                time=f'"{time}"' if writer.members.time_format == "rfc3339" else time,
                value=value,
                definition=self._fleet.metrics[int(self._fleet.metric[series])],
                bits=self._bits(released, row),
            )
            spoiled = spoil_reading(reasons[row], good, writer.members, int(released.event_times_us[row]))
            parts += [body[done:begin], spoiled.encode()]
            done = end
        return b"".join([*parts, body[done:]])

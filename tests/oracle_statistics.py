"""The statistics of a window, computed exactly."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any


def statistics(readings: list[tuple[int, float]]) -> dict[str, Any]:
    """The statistics of a window's readings (event time, value), given in the order of arrival.

    Mean, deviation and slope are computed in fractions and rounded once at the end. Where an exact figure does not fit
    a float it is null. `largest` says how far the values reach, for those who compare with arithmetic that rounds.
    """
    times = [time for time, _ in readings]
    values = [value for _, value in readings]
    exact = [Fraction(value) for value in values]
    seconds = [Fraction(time - times[0], 1_000_000) for time in times]
    count = len(readings)
    mean = sum(exact, Fraction(0)) / count
    middle = sum(seconds, Fraction(0)) / count
    squares = sum(((value - mean) ** 2 for value in exact), Fraction(0))
    spread = sum(((second - middle) ** 2 for second in seconds), Fraction(0))
    product = sum(((s - middle) * (v - mean) for s, v in zip(seconds, exact, strict=True)), Fraction(0))
    by_time = sorted(readings, key=lambda reading: reading[0])  # stable: equal times stay in the order of arrival
    return {
        "count": count,
        "mean": _float(mean),
        "std": _square_root(squares / (count - 1)) if count > 1 else None,
        "min": min(values),
        "max": max(values),
        "first": next(value for _, value in by_time),
        "last": by_time[-1][1],
        "first_time": by_time[0][0],
        "last_time": by_time[-1][0],
        "slope_per_s": _float(product / spread) if spread else None,
        "score_max": None,
        "largest": max(abs(value) for value in values),
        "time_spread_s": math.sqrt(spread / count),
    }


def _float(exact: Fraction) -> float | None:
    try:
        return float(exact)
    except OverflowError:
        return None


def _square_root(exact: Fraction) -> float | None:
    # A variance may leave the floats where its root does not.
    root = Decimal(exact.numerator) / Decimal(exact.denominator)
    return float(root.sqrt()) if math.isfinite(float(root.sqrt())) else None

"""How values are sent: in the devices' unit, with so many decimals, within the valid range."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from alumicatalyst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

_DECIMALS_MAX = 9
_MANTISSA_MAX = 1e15
_AS_IT_IS = {"divide": 1.0, "multiply": 1.0, "subtract": 0.0}


def _as_sent(values: Any, conversion: Mapping[str, float]) -> Any:
    """Return canonical values in the unit that devices send: the inverse of the dictionary's conversion."""
    return values * (conversion["divide"] / conversion["multiply"]) + conversion["subtract"]


def sent_range(metric: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the valid range in the unit that devices send."""
    if metric["range"] is None:
        return None
    low, high = sorted(float(_as_sent(end, metric["conversion"])) for end in metric["range"])
    return low, high


def digits(metric: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many decimals a device sends, and the step of the last one."""
    if metric["states"] is not None:
        return 0, 1
    scale = abs(metric["conversion"]["divide"] / metric["conversion"]["multiply"])
    if metric["resolution"]:
        resolution = metric["resolution"] * scale
        for decimals in range(_DECIMALS_MAX + 1):
            step = resolution * 10.0**decimals
            if step >= 0.999 and abs(step - round(step)) < 1e-6 * step:
                return decimals, round(step)
        return min(_DECIMALS_MAX, max(0, math.ceil(-math.log10(resolution)))), 1
    low, high = sent_range(metric) or (0.0, 100.0)
    return min(_DECIMALS_MAX, max(0, math.ceil(-math.log10((high - low) / 4000.0)))), 1


def ends(metric: Mapping[str, Any], decimals: int, step: int) -> tuple[int, int] | None:
    """Return the least and the greatest value to send, in whole numbers of the last decimal."""
    sent = sent_range(metric)
    if sent is None:
        return None
    if max(abs(end) for end in sent) * 10.0**decimals > _MANTISSA_MAX:
        raise InputError(
            f"couldn't simulate {metric['name']}: its range has too many digits at its resolution; widen the resolution"
        )
    scale = 10.0**decimals / step
    low, high = round(sent[0] * scale), round(sent[1] * scale)
    if metric["conversion"] == _AS_IT_IS:
        # The very ends, where they have no more decimals than are sent.
        low += low * step / 10.0**decimals < sent[0]
        high -= high * step / 10.0**decimals > sent[1]
    else:
        # Never at the edge of what is converted, where rounding could carry a good reading out of its range.
        low, high = low + 1, high - 1
    return low * step, high * step

"""Small compiled dictionaries for the tests: between them, every kind of metric, mapping and bound."""

from __future__ import annotations

from typing import Any

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

AS_SENT = {"subtract": 0.0, "multiply": 1.0, "divide": 1.0}
FROM_FAHRENHEIT = {"subtract": 32.0, "multiply": 5.0, "divide": 9.0}


def metric(name: str, *windows_s: int | tuple[int, int], **given: Any) -> dict[str, Any]:
    """A metric with windows of so many seconds, (length, hop) for a hopping one; the rest as given or usual."""
    windows = []
    for window in windows_s:
        length, hop = window if isinstance(window, tuple) else (window, window)
        windows.append(
            {
                "name": f"{length}s" if hop == length else f"{length}s/{hop}s",
                "length_us": length * SECOND,
                "hop_us": hop * SECOND,
            }
        )
    return {
        "name": name,
        "unit": "V",
        "conversion": AS_SENT,
        "range": None,
        "resolution": None,
        "every_us": None,
        "states": None,
        "windows": windows,
        "out_of_orderness_us": 5 * SECOND,
        "idle_us": 30 * SECOND,
        "clock_skew_us": MINUTE,
        "max_age_us": DAY,
        "duplicates": 4,
        "detector": {"kind": "none"},
        "alarms": [],
    } | given


def dictionary(
    name: str,
    payload: dict[str, Any],
    bounds: dict[str, int],
    unknown: dict[str, Any] | None,
    series: dict[str, list[Any]],
) -> dict[str, Any]:
    """A compiled dictionary; `series` gives each device's metrics."""
    metrics: list[dict[str, Any]] = []
    for definitions in series.values():
        metrics += [definition for definition in definitions if definition not in metrics]
    listed = [
        {"device": device, "asset": f"example/test/{device}", "metric": metrics.index(definition)}
        for device, definitions in sorted(series.items())
        for definition in sorted(definitions, key=lambda definition: str(definition["name"]))
    ]
    return {
        "name": name,
        "version": "1",
        "site": "example/test",
        "time_zone": "Europe/Oslo",
        "payload": payload,
        "bounds": bounds,
        "unknown": unknown,
        "metrics": metrics,
        "series": listed,
    }


VOLTAGE = metric("cell_voltage", 10, 60, range=[0.0, 100.0], resolution=0.001)
# Its own conversion, no tolerance for disorder, and no memory of duplicates.
FURNACE = metric(
    "furnace_temperature",
    10,
    7,
    unit="°C",
    conversion=FROM_FAHRENHEIT,
    range=[0.0, 1300.0],
    out_of_orderness_us=0,
    idle_us=10 * SECOND,
    duplicates=0,
)
# Waits longer for disorder than for silence.
STATUS = metric(
    "status",
    15,
    unit="1",
    states={"off": 0, "melting": 1, "holding": 2, "fault": 9},
    out_of_orderness_us=20 * SECOND,
    idle_us=10 * SECOND,
    duplicates=8,
)
# No windows at all.
FEED = metric("alumina_feed", unit="kg", out_of_orderness_us=10 * SECOND, clock_skew_us=5 * SECOND, duplicates=1)
# Any float is in range; one definition hops and is not evaluated.
FREE = metric("free", 7, (20, 10), 60, out_of_orderness_us=2 * SECOND, max_age_us=HOUR)
GAIN = metric("gain", 10, conversion={"subtract": 0.0, "multiply": 1000.0, "divide": 1.0})

NARROW = dictionary(
    "narrow",
    {
        "device": ["@iothub-connection-device-id", "deviceId", "dev"],
        "time": ["ts", "@iothub-enqueuedtime"],
        "time_format": "rfc3339",
        "metric": "metric",
        "value": "value",
        "quality": "q",
        "rename": {"volts": "cell_voltage"},
        "ignore": ["seq", "firmware"],
    },
    {"series": 100, "body_bytes": 6000, "readings_per_envelope": 12, "depth": 5},
    None,
    {
        "pot-1": [VOLTAGE, FEED],
        "pot-2": [VOLTAGE],
        "furnace-1": [FURNACE, STATUS],
        "hall-1": [FREE, GAIN],
    },
)

WIDE = dictionary(
    "wide",
    {
        "device": ["deviceId", "@device"],
        "time": ["t"],
        "time_format": "epoch_ms",
        "metric": None,
        "value": None,
        "quality": "q",
        "rename": {"volts": "cell_voltage", "temp": "furnace_temperature"},
        "ignore": ["seq", "firmware"],
    },
    {"series": 100, "body_bytes": 5000, "readings_per_envelope": 15, "depth": 4},
    None,
    {
        "pot-1": [VOLTAGE, FEED, STATUS],
        "pot-2": [VOLTAGE, FEED],
        "furnace-1": [FURNACE, STATUS],
        "hall-1": [FREE, GAIN],
    },
)

ACCEPTING = dictionary(
    "accepting",
    {
        "device": ["dev"],
        "time": ["t"],
        "time_format": "epoch_s",
        "metric": "m",
        "value": "v",
        "quality": None,
        "rename": {},
        "ignore": [],
    },
    {"series": 6, "body_bytes": 4000, "readings_per_envelope": 8, "depth": 3},
    metric("unknown", 10, 25, range=[-1e6, 1e6], idle_us=15 * SECOND),
    {"pot-1": [VOLTAGE, FEED], "furnace-1": [STATUS]},
)

PLANTS = {"narrow": NARROW, "wide": WIDE, "accepting": ACCEPTING}

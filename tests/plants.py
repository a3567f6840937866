"""Small compiled dictionaries for the tests: between them, every kind of metric, mapping and bound."""

from __future__ import annotations

from typing import Any

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

AS_SENT = {"subtract": 0.0, "multiply": 1.0, "divide": 1.0}
FROM_FAHRENHEIT = {"subtract": 32.0, "multiply": 5.0, "divide": 9.0}


def window(written: int | tuple[int, int] | str) -> dict[str, Any]:
    """A window of so many seconds; (length, hop) for a hopping one, `session/9s` for sessions."""
    if isinstance(written, str):
        gap = int(written.removeprefix("session/").removesuffix("s"))
        return {"name": written, "length_us": 0, "hop_us": 0, "gap_us": gap * SECOND}
    length, hop = written if isinstance(written, tuple) else (written, written)
    name = f"{length}s" if hop == length else f"{length}s/{hop}s"
    return {"name": name, "length_us": length * SECOND, "hop_us": hop * SECOND}


def ewma(half_life_s: int, learn: int, store_above: float = 0.0) -> dict[str, Any]:
    return {"kind": "ewma", "half_life_us": half_life_s * SECOND, "learn": learn, "store_above": store_above}


def rule(
    name: str,
    deadband: float = 0.0,
    on: int = 0,
    off: int = 0,
    priority: str = "low",
    text: str | None = None,
    per: int = 60,
    **condition: float,
) -> dict[str, Any]:
    """An alarm rule with one condition, `above=4.7` or `is_=9`; delays and what a rate is over in seconds."""
    ((name_of_kind, value),) = condition.items()
    kind = name_of_kind.rstrip("_")
    compiled: dict[str, Any] = {"kind": kind, "code" if kind == "is" else "limit": value}
    if kind.startswith("rate"):
        compiled["per_us"] = per * SECOND
    return {
        "rule": name,
        "condition": compiled,
        "deadband": deadband,
        "on_us": on * SECOND,
        "off_us": off * SECOND,
        "priority": priority,
        "text": text,
    }


def metric(name: str, *windows: int | tuple[int, int] | str, **given: Any) -> dict[str, Any]:
    """A metric with windows as `window` takes them; the rest as given or usual."""
    return {
        "name": name,
        "unit": "V",
        "conversion": AS_SENT,
        "range": None,
        "resolution": None,
        "every_us": None,
        "states": None,
        "windows": [window(each) for each in windows],
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


# The rules of a metric; further lists are what a later dictionary may have of them.
LIMITS: dict[str, list[list[dict[str, Any]]]] = {
    "cell_voltage": [
        [
            rule("H", above=60.0, deadband=10.0, on=3, off=4),
            rule("HH", above=80.0, priority="high", text="anode effect"),
            rule("L", below=20.0, deadband=5.0, off=2, priority="medium"),
            rule("fast", rate_above=300.0, on=1),
            rule("odd", score_above=3.0, deadband=1.0, off=3),
        ],
        [rule("H", above=55.0, deadband=5.0, off=2), rule("L", above=30.0), rule("odd", score_above=2.0, deadband=0.5)],
        [rule("H", below=60.0), rule("HH", above=80.5, deadband=1.0, off=6), rule("fast", rate_above=6.0, per=1)],
        [],
    ],
    "furnace_temperature": [
        [
            rule("H", above=780.0, deadband=80.0, off=5, priority="medium"),
            rule("fall", rate_below=-90.0, deadband=30.0, per=90, text="cools fast"),
            rule("odd", score_above=2.0),
        ],
        [rule("H", above=700.0, deadband=10.0, on=2), rule("fall", rate_below=-200.0, deadband=30.0, per=90)],
    ],
    "status": [
        [rule("fault", is_=9, on=5, priority="critical"), rule("melts", is_=1, off=3, text="do not open")],
        [rule("fault", is_=2), rule("melts", is_=1, on=4)],
    ],
    "alumina_feed": [
        [rule("low", below=100.0, deadband=50.0), rule("odd", score_above=1.0, deadband=1.0)],
        [rule("low", below=50.0)],
    ],
    "free": [
        [
            rule("a", rate_above=1000.0, per=1),
            rule("b", above=400.0, deadband=700.0, off=10, text="free rises"),
            rule("b2", below=-400.0, deadband=600.0),
            rule("c", score_above=1.0, on=2),
        ],
        [rule("c", score_above=1.5, on=2)],
    ],
    "pressure": [
        [
            rule("H", above=200.0, deadband=50.0),
            rule("H up", rate_above=10.0, deadband=5.0, per=1, off=2, priority="high"),
            rule("odd", score_above=4.0, deadband=2.0, on=2, off=2),
        ],
        [rule("H", above=250.0, deadband=20.0, on=1, off=1), rule("H up", rate_below=-10.0, per=1)],
    ],
}


def limits(metric_name: str) -> list[dict[str, Any]]:
    return LIMITS[metric_name][0]


VOLTAGE = metric(
    "cell_voltage",
    10,
    60,
    range=[0.0, 100.0],
    resolution=0.001,
    detector=ewma(60, learn=3),
    alarms=limits("cell_voltage"),
)
# An override: other limits for one device.
RELINED = VOLTAGE | {"alarms": [rule("H", above=70.0, deadband=10.0, on=3, off=4), *limits("cell_voltage")[1:]]}
# Its own conversion, no tolerance for disorder, and no memory of duplicates.
FURNACE = metric(
    "furnace_temperature",
    10,
    7,
    "session/5s",
    unit="°C",
    conversion=FROM_FAHRENHEIT,
    range=[0.0, 1300.0],
    out_of_orderness_us=0,
    idle_us=10 * SECOND,
    duplicates=0,
    detector=ewma(1, learn=2, store_above=3),
    alarms=limits("furnace_temperature"),
)
# Waits longer for disorder than for silence.
STATUS = metric(
    "status",
    15,
    (30, 10),
    unit="1",
    states={"off": 0, "melting": 1, "holding": 2, "fault": 9},
    out_of_orderness_us=20 * SECOND,
    idle_us=10 * SECOND,
    duplicates=8,
    alarms=limits("status"),
)
# No windows at all.
FEED = metric(
    "alumina_feed",
    unit="kg",
    range=[-50.0, 400.0],
    out_of_orderness_us=10 * SECOND,
    clock_skew_us=5 * SECOND,
    duplicates=1,
    detector=ewma(600, learn=5, store_above=1.5),
    alarms=limits("alumina_feed"),
)
# Any float is in range, and a share without a unit.
FREE = metric(
    "free",
    7,
    (20, 10),
    "session/9s",
    60,
    unit="1",
    out_of_orderness_us=2 * SECOND,
    max_age_us=HOUR,
    detector=ewma(10, learn=2),
    alarms=limits("free"),
)
GAIN = metric("gain", (20, 5), conversion={"subtract": 0.0, "multiply": 1000.0, "divide": 1.0})
# Windows of every kind, several of each.
PRESSURE = metric(
    "pressure",
    (20, 5),
    "session/8s",
    10,
    (60, 10),
    "session/20s",
    unit="bar",
    range=[0.0, 400.0],
    resolution=2.0,
    detector=ewma(30, learn=4, store_above=0.5),
    alarms=limits("pressure"),
)

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
        "pot-2": [RELINED],
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
        "pot-2": [RELINED, FEED],
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
    metric(
        "unknown",
        10,
        25,
        "session/6s",
        range=[-1e6, 1e6],
        idle_us=15 * SECOND,
        detector=ewma(20, learn=2, store_above=3),
        alarms=[rule("H", above=1e5, deadband=1e4, off=1), rule("odd", score_above=1.5, text="unlike before")],
    ),
    {"pot-1": [VOLTAGE, FEED], "furnace-1": [STATUS]},
)

# Two devices that speak often, so that delays pass and alarms last.
PRESSES = dictionary(
    "presses",
    {
        "device": ["d"],
        "time": ["t"],
        "time_format": "epoch_us",
        "metric": "m",
        "value": "v",
        "quality": "q",
        "rename": {},
        "ignore": ["seq"],
    },
    {"series": 10, "body_bytes": 5000, "readings_per_envelope": 10, "depth": 4},
    None,
    {"press-1": [PRESSURE], "press-2": [PRESSURE | {"resolution": None, "detector": ewma(5, learn=3)}, STATUS]},
)

PLANTS = {"narrow": NARROW, "wide": WIDE, "accepting": ACCEPTING, "presses": PRESSES}

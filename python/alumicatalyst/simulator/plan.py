"""What is to be simulated: the seed, the start, the packing, and how often something goes wrong in it or on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from alumicatalyst.errors import InputError

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
# Outages and silences fall into slots of this length and never leave theirs, which bounds how long a reading can wait.
SLOT_US = 10 * MINUTE_US
# The sensor of a series fails at most once in a slot of this length, which holds the whole of it.
FAULT_SLOT_US = 20 * MINUTE_US
FAULTS_PER_HOUR_MAX = 60 * MINUTE_US // FAULT_SLOT_US
# Laboratory values (measured once an hour or less often) are typed in this long after the sample was taken.
LABORATORY_MIN_US = 10 * MINUTE_US
LABORATORY_MAX_US = 40 * MINUTE_US

BODY_REASONS = ("too_large", "empty_body", "bad_encoding", "bad_json", "too_deep", "too_many_readings")
READING_REASONS = (
    "missing_device",
    "missing_time",
    "bad_time",
    "missing_value",
    "wrong_type",
    "repeated_key",
    "not_finite",
    "unknown_device",
    "unknown_metric",
    "unknown_status",
    "bad_quality",
    "out_of_range",
    "future_event_time",
    "past_event_time",
    "too_many_series",
)
REASONS = BODY_REASONS + READING_REASONS


@dataclass(frozen=True, slots=True)
class Impairments:
    """How often each thing goes wrong; every rate is a share between 0 and 1.

    Attributes:
        disorder: Share of readings that are sent later than those measured after them.
        disorder_max_us: The longest such delay.
        duplicates: Share of readings that are sent twice.
        duplicate_max_us: The longest time between the two.
        bursts: Share of gateways (one per partition key) that lose their line in each 10 minutes, for up to 5, and then
            send the backlog at 20 times the usual pace.
        malformed: Share of readings, and again of envelopes, that are made such that they have to be rejected.
        reasons: The reasons of rejection to produce; empty means all that the dictionary can give.
        silence: Share of devices that send nothing at all for up to 5 minutes in each 10.
    """

    disorder: float = 0.0
    disorder_max_us: int = 30 * SECOND_US
    duplicates: float = 0.0
    duplicate_max_us: int = 10 * SECOND_US
    bursts: float = 0.0
    malformed: float = 0.0
    reasons: tuple[str, ...] = ()
    silence: float = 0.0

    def __post_init__(self) -> None:
        """Check that rates are shares, that delays have an end and that reasons exist."""
        for name in ("disorder", "duplicates", "bursts", "malformed", "silence"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(
                    f"couldn't use the rate of {name}: {getattr(self, name)}; give a share between 0 and 1"
                )
        for name in ("disorder_max_us", "duplicate_max_us"):
            if not 0 < getattr(self, name) <= SLOT_US:
                raise InputError(
                    f"couldn't use {name.removesuffix('_us')}: {getattr(self, name) / SECOND_US:g} s; "
                    f"give more than 0 and at most {SLOT_US // SECOND_US} s"
                )
        unknown = sorted(set(self.reasons) - set(REASONS))
        if unknown:
            raise InputError(
                f"couldn't produce rejections for {', '.join(unknown)}: no such reason; "
                f"give some of {', '.join(REASONS)}"
            )

    @property
    def delay_max_us(self) -> int:
        """The longest time between a reading's event time and its sending, over all that can hold it up."""
        return LABORATORY_MAX_US + SLOT_US + self.disorder_max_us + self.duplicate_max_us


@dataclass(frozen=True, slots=True)
class ProcessFaults:
    """How often something goes wrong in the plant itself, in events per hour.

    Attributes:
        anode_effects: For each cell: its voltage rises for 20 to 40 minutes, then jumps to 10 to 80 V for 1 to 3. A
            modern smelter has 0.0008 to 0.004 an hour, an old one 0.04; where more than 1, they build up in less time.
        stuck: For each series: the value freezes, or stays at an end of its scale, or at a state that has an alarm.
        drifts: For each series that is no state: the value creeps away, past the nearest limit if it has one.
        spikes: For each series that is no state: 2 to 8 readings are far off.
    """

    anode_effects: float = 0.0
    stuck: float = 0.0
    drifts: float = 0.0
    spikes: float = 0.0

    def __post_init__(self) -> None:
        """Check that the rates leave room: a sensor has one fault at a time, a cell one anode effect."""
        rates = {name: getattr(self, name) for name in ("anode_effects", "stuck", "drifts", "spikes")}
        for name, rate in rates.items():
            if not 0.0 <= rate <= FAULTS_PER_HOUR_MAX:
                raise InputError(
                    f"couldn't use the rate of {name}: {rate}; give 0 to {FAULTS_PER_HOUR_MAX} events an hour"
                )
        of_sensors = self.stuck + self.drifts + self.spikes
        if of_sensors > FAULTS_PER_HOUR_MAX:
            raise InputError(
                f"couldn't fit {of_sensors:g} faults of a sensor into an hour; give rates of {FAULTS_PER_HOUR_MAX} or "
                "less together"
            )


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides every byte of a simulation; how it is paced and where it goes is not part of it.

    Attributes:
        start_us: The first event time, in microseconds since 1970 (UTC).
        seed: Two plans that differ only in it give other values, delays and faults.
        pack_us: Readings of one device (or gateway) within this time travel in one envelope, as an array; 0 sends every
            reading alone.
        pack_by: "device": every device sends for itself; "asset": one gateway per partition key packs all its devices.
        key: The partition key: "asset", the asset whose devices are analysed together, or "device".
        plants: Copies of the dictionary's plant; the first has the dictionary's names, the others a prefix "p2-".
        rate_multiplier: How many times as often as the dictionary says the devices measure.
        readings_per_envelope_max: A larger pack, such as the backlog of an outage, is sent in several envelopes.
        impairments: What goes wrong on the way to the broker.
        faults: What goes wrong in the plant.
    """

    start_us: int
    seed: int = 1
    pack_us: int = 5 * SECOND_US
    pack_by: Literal["device", "asset"] = "device"
    key: Literal["asset", "device"] = "asset"
    plants: int = 1
    rate_multiplier: float = 1.0
    readings_per_envelope_max: int = 500
    impairments: Impairments = field(default_factory=Impairments)
    faults: ProcessFaults = field(default_factory=ProcessFaults)

    def __post_init__(self) -> None:
        """Check the bounds that later arithmetic relies on."""
        if self.start_us < 0 or self.start_us % 1000:
            raise InputError(f"couldn't start at {self.start_us} us: give a time after 1970, in whole milliseconds")
        if self.pack_us != 0 and not 1000 <= self.pack_us <= SLOT_US:
            raise InputError(
                f"couldn't pack {self.pack_us / SECOND_US:g} s into an envelope: give 0, or 0.001 to 600 s"
            )
        if self.pack_by == "asset" and self.key == "device":
            raise InputError(
                "couldn't pack by asset with the device as the key: one envelope has one key; "
                "use --key asset or --pack-by device"
            )
        if not 1 <= self.plants <= 10_000:
            raise InputError(f"couldn't simulate {self.plants} plants: give 1 to 10000")
        if not 0.0 < self.rate_multiplier <= 1e6:
            raise InputError(
                f"couldn't multiply the rate by {self.rate_multiplier:g}: give more than 0 and at most 1e6"
            )
        if self.readings_per_envelope_max < 1:
            raise InputError("couldn't send envelopes without readings: give at least 1 reading per envelope")

"""`alumicatalyst simulate`: send, or write to a file, what the devices of the dictionary's plant measure."""

from __future__ import annotations

import json
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alumicatalyst.cli.progress import progress
from alumicatalyst.errors import InputError, SettingsError

if TYPE_CHECKING:
    from alumicatalyst.simulator import Plan, Simulator
    from alumicatalyst.simulator.files import Destination
    from alumicatalyst.simulator.truth import Totals

_SECOND_US = 1_000_000
_BEFORE_NOW_S = 86_400
_FAULTS = "What goes wrong on the way"
_LOAD = "Load and packing"


class PackBy(StrEnum):
    """Who packs readings into envelopes."""

    DEVICE = "device"
    ASSET = "asset"


def simulate(
    dictionary: Annotated[Path, typer.Option("--dictionary", "-d", help="The data dictionary.")] = Path(
        "flows/smelter.toml"
    ),
    to: Annotated[
        Path | None,
        typer.Option(help="Write to a file: .ndjson (envelopes), .csv or .parquet (readings); .gz for the first two."),
    ] = None,
    connection_string: Annotated[
        str, typer.Option(help="Send to an Event Hub: where its connection string is, env:NAME or file:PATH.")
    ] = "",
    hub: Annotated[str, typer.Option(help="The hub's name, if the connection string has no EntityPath.")] = "",
    truth: Annotated[
        Path | None, typer.Option(help="Where to write what was sent and what must come of it (NDJSON).")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed and start give the same bytes.")] = 1,
    start: Annotated[
        str, typer.Option(help="First event time (RFC 3339). Else now, or as far before now as is to be simulated.")
    ] = "",
    seconds: Annotated[float | None, typer.Option(min=0, help="How long to simulate; else until stopped.")] = None,
    readings: Annotated[int | None, typer.Option(min=1, help="End after so many readings.")] = None,
    speed: Annotated[
        float | None,
        typer.Option(min=0, help="1 is real time, 0 as fast as possible (what a file gets). Now is never passed."),
    ] = None,
    pack: Annotated[
        float,
        typer.Option(min=0, help="Seconds of readings in one envelope; 0: one each.", rich_help_panel=_LOAD),
    ] = 5.0,
    pack_by: Annotated[
        PackBy, typer.Option(help="Each device sends for itself, or a gateway per asset.", rich_help_panel=_LOAD)
    ] = PackBy.DEVICE,
    key: Annotated[
        PackBy,
        typer.Option(help="Partition key: the asset that joins devices, or the device.", rich_help_panel=_LOAD),
    ] = PackBy.ASSET,
    plants: Annotated[
        int,
        typer.Option(min=1, help="Copies of the plant; the others' devices are p2-..., p3-...", rich_help_panel=_LOAD),
    ] = 1,
    dictionary_out: Annotated[
        Path | None,
        typer.Option(
            help="Write the dictionary of all plants (.json), for the flow that reads them.", rich_help_panel=_LOAD
        ),
    ] = None,
    rate_multiplier: Annotated[
        float, typer.Option(help="Measure so many times as often.", rich_help_panel=_LOAD)
    ] = 1.0,
    disorder: Annotated[float, typer.Option(help="Share of readings sent late.", rich_help_panel=_FAULTS)] = 0.0,
    disorder_max: Annotated[float, typer.Option(help="By so many seconds at most.", rich_help_panel=_FAULTS)] = 30.0,
    duplicates: Annotated[float, typer.Option(help="Share of readings sent twice.", rich_help_panel=_FAULTS)] = 0.0,
    duplicate_max: Annotated[float, typer.Option(help="Within so many seconds.", rich_help_panel=_FAULTS)] = 10.0,
    bursts: Annotated[
        float,
        typer.Option(help="Share of gateways that lose their line in each 10 minutes.", rich_help_panel=_FAULTS),
    ] = 0.0,
    malformed: Annotated[
        float,
        typer.Option(help="Share of readings, and of envelopes, that have to be rejected.", rich_help_panel=_FAULTS),
    ] = 0.0,
    reasons: Annotated[
        str,
        typer.Option(
            help="For these reasons only (bad_json,out_of_range); else for all that a broker lets through.",
            rich_help_panel=_FAULTS,
        ),
    ] = "",
    silence: Annotated[
        float, typer.Option(help="Share of devices silent for a while in each 10 minutes.", rich_help_panel=_FAULTS)
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the sums as JSON.")] = False,
) -> None:
    """Send, or write to files, the readings of the dictionary's plant.

    Values, times, delays and faults depend on the seed and the start alone: not on speed, destination or machine.
    Ctrl-C or SIGTERM ends the run in order, with the truth file complete.

    [bold]Examples[/bold]

    alumicatalyst simulate --to var/plant.ndjson --seconds 600

    alumicatalyst simulate --connection-string env:EVENTHUBS_CONNECTION_STRING --truth var/truth.ndjson --malformed 0.01

    alumicatalyst simulate --to var/day.parquet --seconds 86400 --start 2026-01-01T00:00:00Z
    """
    from alumicatalyst.dictionary import load
    from alumicatalyst.simulator import Impairments, Plan, Simulator
    from alumicatalyst.simulator.run import Pace, run
    from alumicatalyst.simulator.truth import Truth

    if (to is None) == (not connection_string):
        raise SettingsError("couldn't choose where to send: give either --to FILE or --connection-string env:NAME")
    compiled_dictionary = load(dictionary)
    compiled = json.loads(compiled_dictionary.to_json())
    pace_speed = speed if speed is not None else (1.0 if to is None else 0.0)
    impairments = Impairments(
        disorder=disorder,
        disorder_max_us=round(disorder_max * _SECOND_US),
        duplicates=duplicates,
        duplicate_max_us=round(duplicate_max * _SECOND_US),
        bursts=bursts,
        malformed=malformed,
        reasons=tuple(part.strip() for part in reasons.split(",") if part.strip()),
        silence=silence,
    )
    plan = Plan(
        start_us=_start_us(start, pace_speed, seconds, readings, compiled, plants * rate_multiplier),
        seed=seed,
        pack_us=round(pack * _SECOND_US),
        pack_by=pack_by.value,
        key=key.value,
        plants=plants,
        rate_multiplier=rate_multiplier,
        impairments=impairments,
    )
    simulator = Simulator(compiled, plan)
    if dictionary_out is not None:
        _write_dictionary(dictionary_out, compiled, plants)
    stop = threading.Event()
    _stop_on_signals(stop)
    destination = _open(to, connection_string, hub, simulator, stop)
    header = {"seed": seed, "start": _text(plan.start_us), "dictionary": compiled_dictionary.sha256, **_options(plan)}
    record = None if truth is None else Truth(truth, simulator.fleet, header)
    pace = Pace(
        speed=pace_speed,
        end_us=None if seconds is None else plan.start_us + round(seconds * _SECOND_US),
        readings_max=readings,
    )
    began = time.monotonic()
    with progress("simulating", quiet=as_json) as show:

        def tell(totals: Totals, now_us: int) -> None:
            if show is not None:
                show(lambda elapsed: _so_far(totals, now_us, elapsed))

        totals = run(simulator, destination, pace, stop, truth=record, progress=tell)
    summary = {
        "ok": True,
        **totals.as_dict(),
        "silenced": simulator.silenced,
        "waiting": simulator.waiting,
        "seed": seed,
        "start": _text(plan.start_us),
        "seconds": round(time.monotonic() - began, 3),
    }
    print(json.dumps(summary) if as_json else _report(summary, to, truth))


def _open(to: Path | None, reference: str, hub: str, simulator: Simulator, stop: threading.Event) -> Destination:
    if to is not None:
        from alumicatalyst.simulator.files import open_file

        return open_file(to, simulator)
    from alumicatalyst.settings import Secret
    from alumicatalyst.simulator.hub import HubSink

    try:
        secret = Secret(reference)
    except ValueError as error:
        raise SettingsError(f"couldn't use --connection-string: {error}") from None
    return HubSink(secret.reveal(), hub, simulator, stop)


def _write_dictionary(path: Path, compiled: dict[str, Any], plants: int) -> None:
    from alumicatalyst._core import Dictionary
    from alumicatalyst.simulator.plant import scaled

    if path.suffix != ".json":
        raise InputError(f"couldn't write the dictionary to {path}: the compiled form ends in .json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(Dictionary.from_json(json.dumps(scaled(compiled, plants))).to_json(), encoding="utf-8")


def _start_us(
    start: str, speed: float, seconds: float | None, readings: int | None, compiled: dict[str, Any], scale: float
) -> int:
    """Return the first event time: as given, now for real time, else so early that all that is wanted is past."""
    now = datetime.now(UTC).replace(microsecond=0)
    if start:
        try:
            given = datetime.fromisoformat(start)
        except ValueError:
            given = None
        if given is None or given.tzinfo is None:
            raise InputError(f"couldn't read --start: {start!r}; write a time with its offset, as 2026-01-31T06:00:00Z")
        return round((given - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
    if speed == 1.0:
        back = 0.0
    elif seconds is not None:
        back = seconds + 1.0
    elif readings is not None:
        metrics = compiled["metrics"]
        rate = sum(_SECOND_US / (metrics[s["metric"]]["every_us"] or 30 * _SECOND_US) for s in compiled["series"])
        # Some more than needed: packs end late, and a fault can take readings away.
        back = 1.2 * readings / (rate * scale) + 60.0
    else:
        back = _BEFORE_NOW_S
    return int((now.timestamp() - back) // 1) * _SECOND_US


def _options(plan: Plan) -> dict[str, Any]:
    impairments = plan.impairments
    return {
        "pack_us": plan.pack_us,
        "pack_by": plan.pack_by,
        "key": plan.key,
        "plants": plan.plants,
        "rate_multiplier": plan.rate_multiplier,
        "disorder": impairments.disorder,
        "disorder_max_us": impairments.disorder_max_us,
        "duplicates": impairments.duplicates,
        "duplicate_max_us": impairments.duplicate_max_us,
        "bursts": impairments.bursts,
        "malformed": impairments.malformed,
        "reasons": list(impairments.reasons),
        "silence": impairments.silence,
    }


def _stop_on_signals(stop: threading.Event) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())


def _so_far(totals: Totals, now_us: int, elapsed: float) -> str:
    rate = totals.readings / elapsed
    return f"{totals.readings:,} readings in {totals.envelopes:,} envelopes, {rate:,.0f}/s, up to {_text(now_us)}"


def _text(time_us: int) -> str:
    from alumicatalyst.simulator.truth import as_text

    return str(as_text(time_us))


def _report(summary: dict[str, Any], to: Path | None, truth: Path | None) -> str:
    sent = f"{summary['readings']:,} readings in {summary['envelopes']:,} envelopes, {summary['body_bytes']:,} bytes"
    lines = [f"sent {sent}, event times {summary['event_time_min']} to {summary['event_time_max']}"]
    if summary["done"]:
        lines.append("done to them: " + ", ".join(f"{name} {count:,}" for name, count in summary["done"].items()))
    if summary["rejected"]:
        lines.append("to be rejected: " + ", ".join(f"{name} {count:,}" for name, count in summary["rejected"].items()))
    if summary["silenced"] or summary["waiting"]:
        lines.append(f"never sent: {summary['silenced']:,} silenced, {summary['waiting']:,} still on their way")
    if to is not None:
        lines.append(f"written to {to}; next: alumicatalyst replay {to}")
    if truth is not None:
        lines.append(f"truth in {truth}")
    return "\n".join(lines)

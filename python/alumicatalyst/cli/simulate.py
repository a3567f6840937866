"""`alumicatalyst simulate`: send, or write to a file, what the devices of the dictionary's plant measure."""

from __future__ import annotations

import json
import signal
import threading
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alumicatalyst.cli.progress import progress
from alumicatalyst.errors import InputError, SettingsError

if TYPE_CHECKING:
    from alumicatalyst.simulator import Simulator
    from alumicatalyst.simulator.files import Destination
    from alumicatalyst.simulator.truth import Totals

_SECOND_US = 1_000_000
_WAY = "What goes wrong on the way"
_PLANT = "What goes wrong in the plant, in events per hour"
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
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Send nothing, but show a day (or --seconds) on an HTML page; with some faults if none given."
        ),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Where to write what was sent and what must come of it (NDJSON).")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed and start give the same bytes.")] = 1,
    start: Annotated[
        str, typer.Option(help="First event time (RFC 3339). Else now, or as far before now as is to be simulated.")
    ] = "",
    seconds: Annotated[
        float | None, typer.Option(min=0, help="How long to simulate, the history not counted; else until stopped.")
    ] = None,
    history: Annotated[
        str, typer.Option(help="Begin so long ago (30min) and send that at once; then go on at the speed given.")
    ] = "",
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
    disorder: Annotated[float, typer.Option(help="Share of readings sent late.", rich_help_panel=_WAY)] = 0.0,
    disorder_max: Annotated[float, typer.Option(help="By so many seconds at most.", rich_help_panel=_WAY)] = 30.0,
    duplicates: Annotated[float, typer.Option(help="Share of readings sent twice.", rich_help_panel=_WAY)] = 0.0,
    duplicate_max: Annotated[float, typer.Option(help="Within so many seconds.", rich_help_panel=_WAY)] = 10.0,
    bursts: Annotated[
        float,
        typer.Option(help="Share of gateways that lose their line in each 10 minutes.", rich_help_panel=_WAY),
    ] = 0.0,
    malformed: Annotated[
        float,
        typer.Option(help="Share of readings, and of envelopes, that have to be rejected.", rich_help_panel=_WAY),
    ] = 0.0,
    reasons: Annotated[
        str,
        typer.Option(
            help="For these reasons only (bad_json,out_of_range); else for all that a broker lets through.",
            rich_help_panel=_WAY,
        ),
    ] = "",
    silence: Annotated[
        float, typer.Option(help="Share of devices silent for a while in each 10 minutes.", rich_help_panel=_WAY)
    ] = 0.0,
    clock_skew: Annotated[
        float, typer.Option(help="Share of devices whose clock is wrong.", rich_help_panel=_WAY)
    ] = 0.0,
    clock_skew_max: Annotated[
        float, typer.Option(help="By so many seconds at most, ahead or behind.", rich_help_panel=_WAY)
    ] = 30.0,
    anode_effects: Annotated[
        float,
        typer.Option(
            help="For each cell: its voltage rises, then jumps above 8 V. A modern smelter has 0.0008 to 0.004.",
            rich_help_panel=_PLANT,
        ),
    ] = 0.0,
    stuck: Annotated[
        float,
        typer.Option(help="For each series: it freezes, or stays at an end of its scale.", rich_help_panel=_PLANT),
    ] = 0.0,
    drifts: Annotated[
        float,
        typer.Option(
            help="For each series but states: it creeps away, past the nearest limit.", rich_help_panel=_PLANT
        ),
    ] = 0.0,
    spikes: Annotated[
        float, typer.Option(help="For each series but states: a few readings far off.", rich_help_panel=_PLANT)
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the sums as JSON.")] = False,
) -> None:
    """Send, or write to files, the readings of the dictionary's plant.

    Values, times, delays and faults depend on the seed and the start alone: not on speed, destination or machine.
    Ctrl-C or SIGTERM ends the run in order, with the truth file complete.

    Nothing goes wrong unless a rate says so. For every fault of the plant the truth names the alarm rules of the
    dictionary that must find it: none for a value that freezes within its limits, or a spike shorter than a delay.

    [bold]Examples[/bold]

    alumicatalyst simulate --to var/plant.ndjson --seconds 600

    alumicatalyst simulate --connection-string env:EVENTHUBS_CONNECTION_STRING --truth var/truth.ndjson --malformed 0.01

    alumicatalyst simulate --to var/day.parquet --seconds 86400 --start 2026-01-01T00:00:00Z

    alumicatalyst simulate --dictionary flows/contoso.toml --to var/lost.ndjson --seconds 3600 --bursts 0.3
    --disorder 0.02 --duplicates 0.01 --clock-skew 0.2 --spikes 1

    alumicatalyst simulate --plot var/plant.html --anode-effects 0.05
    """
    from alumicatalyst.cli.simulate_report import options_of, report, so_far
    from alumicatalyst.dictionary import load
    from alumicatalyst.simulator import Clocks, Impairments, Plan, ProcessFaults, Simulator
    from alumicatalyst.simulator.begin import history_us, midnight_us, start_us
    from alumicatalyst.simulator.expected import Expected
    from alumicatalyst.simulator.run import Pace, run
    from alumicatalyst.simulator.truth import Truth, as_text

    if plot is None and (to is None) == (not connection_string):
        raise SettingsError("couldn't choose where to send: give either --to FILE or --connection-string env:NAME")
    if plot is not None and (to is not None or connection_string or truth is not None or readings or history):
        raise SettingsError(
            "couldn't send and plot at once: with --plot leave --to, --connection-string, --truth, --readings and "
            "--history out"
        )
    compiled_dictionary = load(dictionary)
    compiled = json.loads(compiled_dictionary.to_json())
    pace_speed = speed if speed is not None else (1.0 if to is None else 0.0)
    past_us = history_us(history, pace_speed, start)
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
    faults = ProcessFaults(anode_effects=anode_effects, stuck=stuck, drifts=drifts, spikes=spikes)
    clocks = Clocks(clock_skew, round(clock_skew_max * _SECOND_US))
    if plot is not None and not start:
        begin_us = midnight_us(compiled, seconds)
    else:
        begin_us = start_us(start, pace_speed, seconds, readings, compiled, plants * rate_multiplier) - past_us
    plan = Plan(
        start_us=begin_us,
        seed=seed,
        pack_us=round(pack * _SECOND_US),
        pack_by=pack_by.value,
        key=key.value,
        plants=plants,
        rate_multiplier=rate_multiplier,
        impairments=impairments,
        faults=faults,
    )
    if plot is not None:
        from alumicatalyst.cli.simulate_page import make_page

        print(make_page(plot, dictionary, compiled_dictionary.sha256, compiled, plan, clocks, seconds, as_json=as_json))
        return
    simulator = Simulator(compiled, plan, clocks=clocks)
    if dictionary_out is not None:
        _write_dictionary(dictionary_out, compiled, plants)
    stop = threading.Event()
    _stop_on_signals(stop)
    destination = _open(to, connection_string, hub, simulator, stop)
    header = {
        "seed": seed,
        "start": as_text(plan.start_us),
        "dictionary": compiled_dictionary.sha256,
        **options_of(plan, clocks),
    }
    expected = None
    if simulator.fleet.faults is not None:
        expected = Expected(simulator.fleet, simulator.fleet.faults, plan.start_us)
    record = None if truth is None else Truth(truth, simulator, header, expected)
    pace = Pace(
        speed=pace_speed,
        history_us=past_us,
        end_us=None if seconds is None else plan.start_us + past_us + round(seconds * _SECOND_US),
        readings_max=readings,
    )
    began = time.monotonic()
    with progress("simulating", quiet=as_json) as show:

        def tell(totals: Totals, now_us: int) -> None:
            if show is not None:
                show(lambda elapsed: so_far(totals, now_us, elapsed))

        totals = run(simulator, destination, pace, stop, truth=record, progress=tell)
    summary = {
        "ok": True,
        **totals.as_dict(),
        "silenced": simulator.silenced,
        "waiting": simulator.waiting,
        **({} if record is None else {"faults": dict(sorted(record.faults.items())), "alarms": record.alarms}),
        "seed": seed,
        "start": as_text(plan.start_us),
        "seconds": round(time.monotonic() - began, 3),
    }
    print(json.dumps(summary) if as_json else report(summary, to, truth))


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


def _stop_on_signals(stop: threading.Event) -> None:
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())

"""The demo's parts: a stand-in hub in this process, the simulator and the flow as the commands anyone would run."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from alumicatalyst._core import Dictionary
from alumicatalyst.errors import AlumicatalystError, SettingsError
from alumicatalyst.testing.eventhubs import Emulator

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

HUB = "telemetry"
PARTITIONS = 4
# What happens on a plant's network now and then: the demo shows that every such reading is accounted for.
_FAULTS = {"disorder": 0.02, "duplicates": 0.005, "malformed": 0.003, "bursts": 0.05}
# Runs a command so that it ends with the demo, even if that is killed. Without prctl, which is Linux's, the parts
# end when the demo stops them in order.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
os.execv(sys.argv[1], sys.argv[1:])
"""
_CATCH_UP_S = 30.0
_STOP_S = 30.0


@dataclass
class Status:
    """How far the flow is, from its own metrics.

    Attributes:
        outcomes: Readings of this run by outcome.
        committed: Rows committed in this run, by table.
        lag: Sequence numbers that the flow is behind the hub.
        watermark_delay_s: The largest distance of a watermark from its partition's time.
    """

    outcomes: dict[str, int] = field(default_factory=dict)
    committed: dict[str, int] = field(default_factory=dict)
    lag: int = 0
    watermark_delay_s: float = 0.0

    @property
    def readings(self) -> int:
        """All readings of this run."""
        return sum(self.outcomes.values())


class Demo:
    """Everything on this machine, in one folder; a second start goes on where the first ended.

    Args:
        directory: Where the hub's log, the lake and the logs of the parts are.
        dictionary: The plant.
        seconds: How long the simulator sends; None until stopped.
        port: The stand-in's port; 0 takes a free one.
        plants: Copies of the plant.

    Raises:
        SettingsError: The port is taken, or another demo runs in the folder.
    """

    def __init__(self, directory: Path, dictionary: Path, seconds: float | None, port: int, plants: int) -> None:
        from alumicatalyst.dictionary import load
        from alumicatalyst.simulator.plant import scaled

        self.directory = directory
        self.lake_uri = f"file:{directory / 'lake'}"
        self.metrics_port = _free_port()
        self._dictionary = dictionary.resolve()
        self._seconds = seconds
        self._plants = plants
        (directory / "logs").mkdir(parents=True, exist_ok=True)
        # The simulator makes copies of the plant by itself; the flow's dictionary has to list their devices.
        self._meaning = directory / "dictionary.json"
        compiled = scaled(json.loads(load(dictionary).to_json()), plants)
        self._meaning.write_text(Dictionary.from_json(json.dumps(compiled)).to_json(), encoding="utf-8")
        self._hub = Emulator({HUB: PARTITIONS}, directory / "hub", port, key=_key(directory / "hub.key"))
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self._hub.start()
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"couldn't start the stand-in hub: {error}; choose another --port or --directory"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children.values():
            child.kill()
            child.wait()
        self._hub.stop()

    @property
    def connection_string(self) -> str:
        """What any Event Hubs client connects with."""
        return self._hub.connection_string(HUB)

    def start(self) -> None:
        """Start the flow, then what it reads."""
        self._spawn("flow", [sys.executable, "-m", "bytewax.run", "flows.telemetry"])
        faults = [f"--{name}={rate}" for name, rate in _FAULTS.items()]
        length = [] if self._seconds is None else [f"--seconds={self._seconds}"]
        # A run of its own each time: with the same seed a second start would send the first one's values again.
        seed = secrets.randbelow(2**31)
        command = [
            "simulate",
            "--connection-string=env:EVENTHUBS_CONNECTION_STRING",
            f"--dictionary={self._dictionary}",
        ]
        self._spawn(
            "simulator",
            [
                *(sys.executable, "-m", "alumicatalyst.cli.main", *command, f"--seed={seed}"),
                *(
                    f"--plants={self._plants}",
                    f"--truth={self.directory / f'truth-{int(time.time())}.ndjson'}",
                    *length,
                    *faults,
                ),
            ],
        )

    def _spawn(self, name: str, command: list[str]) -> None:
        environment = {
            **os.environ,
            "EVENTHUBS_CONNECTION_STRING": self.connection_string,
            "ALUMICATALYST_DICTIONARY": str(self._meaning),
            # Every setting that could lead elsewhere: the folder's own settings are another system's.
            "ALUMICATALYST_SOURCE__KIND": "eventhubs",
            "ALUMICATALYST_SOURCE__CONNECTION_STRING": "env:EVENTHUBS_CONNECTION_STRING",
            "ALUMICATALYST_SOURCE__HUB": "",
            "ALUMICATALYST_SOURCE__CONSUMER_GROUP": "$Default",
            "ALUMICATALYST_SOURCE__PARTITIONS": "all",
            "ALUMICATALYST_SOURCE__START": "earliest",
            "ALUMICATALYST_SOURCE__CA_FILE": "",
            "ALUMICATALYST_SOURCE__NAME": HUB,
            "ALUMICATALYST_LAKE__URI": self.lake_uri,
            "ALUMICATALYST_LAKE__CREDENTIAL": "default",
            "ALUMICATALYST_LAKE__FLUSH_INTERVAL_S": "2",
            "ALUMICATALYST_LAKE__STATE_INTERVAL_S": "10",
            "ALUMICATALYST_RUNNER__METRICS_PORT": str(self.metrics_port),
        }
        with self._log(name).open("ab") as log:
            self._children[name] = subprocess.Popen(  # noqa: S603 - our own commands
                [sys.executable, "-c", _DIE_WITH_PARENT, *command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                # Ctrl-C is the demo's to handle.
                start_new_session=True,
            )

    def _log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"

    def check(self) -> None:
        """Raise if a part has failed.

        Raises:
            AlumicatalystError: With the end of that part's log.
        """
        for name, child in self._children.items():
            if child.poll():
                lines = self._log(name).read_text(errors="replace").splitlines()[-15:]
                raise AlumicatalystError(
                    f"couldn't go on with the demo: its {name} ended with {child.returncode}; "
                    f"see {self._log(name)}:\n" + "\n".join(lines)
                )

    @property
    def sending(self) -> bool:
        """Whether the simulator still runs."""
        return self._children["simulator"].poll() is None

    def status(self) -> Status:
        """Read the flow's metrics; nothing yet while it starts."""
        from prometheus_client.parser import text_string_to_metric_families

        status = Status()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=2) as answer:
                text = answer.read().decode()
        except OSError:
            return status
        for sample in (sample for family in text_string_to_metric_families(text) for sample in family.samples):
            match sample.name.removeprefix("alumicatalyst_"):
                case "readings_total":
                    outcome = sample.labels["outcome"]
                    status.outcomes[outcome] = status.outcomes.get(outcome, 0) + int(sample.value)
                case "lake_rows_total":
                    status.committed[sample.labels["table"]] = int(sample.value)
                case "source_lag_envelopes":
                    status.lag += int(sample.value)
                case "watermark_delay_seconds":
                    status.watermark_delay_s = max(status.watermark_delay_s, sample.value)
        return status

    def stop(self) -> None:
        """Stop the simulator, let the flow catch up, drain it."""
        self._terminate("simulator")
        until = time.monotonic() + _CATCH_UP_S
        while time.monotonic() < until and self._behind() > 0:
            self.check()
            time.sleep(0.5)
        self._terminate("flow")

    def _terminate(self, name: str) -> None:
        child = self._children[name]
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            raise AlumicatalystError(
                f"couldn't stop the demo's {name} within {_STOP_S:g} s; see {self._log(name)}"
            ) from None
        self.check()

    def _behind(self) -> int:
        return sum(self.lag().values())

    def lag(self) -> dict[str, int]:
        """Return for each partition how many envelopes of the hub are not sealed in the lake."""
        from azure.eventhub import EventHubConsumerClient

        from alumicatalyst.lake import Lake

        batches = Lake.open(self.lake_uri).table("batches").refresh()
        client: Any = EventHubConsumerClient.from_connection_string(self.connection_string, "$Default")
        lag = {}
        with client:
            created_ms = round(client.get_eventhub_properties()["created_at"].timestamp() * 1000)
            for number in client.get_partition_ids():
                newest = client.get_partition_properties(number)["last_enqueued_sequence_number"]
                lag[number] = newest - batches.mark(f"{HUB}/{created_ms}/{number}")
        return lag

    def summary(self) -> dict[str, int | bool]:
        """Return the sums of the whole lake, checked by the same query as `alumicatalyst lake doctor`."""
        from alumicatalyst.lake import Lake
        from alumicatalyst.lake.doctor import examine

        lake = Lake.open(self.lake_uri)
        sums = lake.table("batches").select(
            "SELECT coalesce(sum(rows_total), 0) AS rows_total, coalesce(sum(rows_windowed), 0) AS windowed, "
            "coalesce(sum(rows_late), 0) AS late, coalesce(sum(rows_duplicate), 0) AS duplicate, "
            "coalesce(sum(rows_rejected), 0) AS rejected, coalesce(sum(rows_windows), 0) AS windows, "
            "coalesce(sum(rows_alarms), 0) AS alarms FROM batches"
        )[0]
        files = [file for file in (self.directory / "lake").rglob("*.parquet") if "_delta_log" not in file.parts]
        lag = self._behind()
        report = examine(lake)
        rows = sum(table["rows"] for table in report.tables if table["table"] in {"readings", "rejected"})
        return {
            "ok": report.ok and lag == 0 and rows == int(sums["rows_total"]) and rows > 0,
            **{name: int(value) for name, value in sums.items()},
            "lake_rows": int(rows),
            "lake_bytes": sum(file.stat().st_size for file in files),
            "ledger_entries": 0,
            "lag": lag,
        }


def _key(file: Path) -> str:
    """Return the stand-in's key, made at the first start: a connection string that was printed stays valid."""
    with contextlib.suppress(FileNotFoundError):
        return file.read_text(encoding="ascii")
    key = secrets.token_urlsafe(32)
    file.touch(mode=0o600)
    file.write_text(key, encoding="ascii")
    return key


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port

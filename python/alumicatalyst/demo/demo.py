"""The demo: a stand-in hub in this process, and API, flow, ledger and simulator as the commands anyone would run."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Self

from alumicatalyst._core import Dictionary
from alumicatalyst.demo import check, ledger
from alumicatalyst.demo.alarms import Follower
from alumicatalyst.demo.client import Client
from alumicatalyst.demo.parts import Parts
from alumicatalyst.demo.status import Status
from alumicatalyst.errors import AlumicatalystError, SettingsError
from alumicatalyst.log import get_logger
from alumicatalyst.testing.eventhubs import Emulator

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from alumicatalyst.lake import Lake

HUB = "telemetry"
PARTITIONS = 4
# What happens on a plant's network now and then: the demo shows that every such reading is accounted for.
_WAY: Final = {"disorder": 0.02, "duplicates": 0.005, "malformed": 0.003, "bursts": 0.05}
# And in the plant itself, far more often than in a real one, so that a minute of it has alarms.
_PLANT: Final = {"anode-effects": 0.5, "stuck": 0.1, "drifts": 0.1, "spikes": 0.1}
# Detectors learn from 300 readings, and slow alarms take minutes: a first start begins this long ago, or, as sending it
# takes time, less long ago with more plants.
_HISTORY_S: Final = 20 * 60
_HISTORY_LEAST_S: Final = 8 * 60
_START_S: Final = 180.0
_CATCH_UP_S: Final = 60.0
_WAIT_S: Final = 0.5
_log = get_logger(__name__)


class Demo:
    """Everything on this machine, in one folder; a second start goes on where the first ended.

    Args:
        directory: Where the hub's log, the lake, the hot store, the keys and the logs of the parts are.
        dictionary: The plant.
        seconds: How long the simulator sends beyond the history; None until stopped.
        port: The stand-in's port; 0 takes a free one.
        api_port: The API's port; 0 takes a free one.
        plants: Copies of the plant.

    Attributes:
        api_url: Where the API serves.
        new_key: A key to read and acknowledge alarms with, at the first start only: nothing can show it again.

    Raises:
        SettingsError: The port is taken, or another demo runs in the folder.
    """

    def __init__(
        self, directory: Path, dictionary: Path, seconds: float | None, port: int, api_port: int, plants: int
    ) -> None:
        from alumicatalyst.dictionary import load
        from alumicatalyst.simulator.plant import scaled

        self.directory = directory
        self.lake_uri = f"file:{directory / 'lake'}"
        self.metrics_port = _free_port()
        self.api_url = f"http://127.0.0.1:{api_port or _free_port()}"
        self.database_url = f"sqlite:///{directory / 'api.sqlite'}"
        self.new_key: str | None = None
        self._dictionary = dictionary.resolve()
        self._seconds = seconds
        self._plants = plants
        directory.mkdir(parents=True, exist_ok=True)
        # The simulator makes copies of the plant by itself; the flow's dictionary has to list their devices.
        self._compiled = scaled(json.loads(load(dictionary).to_json()), plants)
        meaning = Dictionary.from_json(json.dumps(self._compiled)).to_json()
        (directory / "dictionary.json").write_text(meaning, encoding="utf-8")
        self._truth = directory / f"truth-{int(time.time())}.ndjson"
        self._hub = Emulator({HUB: PARTITIONS}, directory / "hub", port, key=_kept(directory / "hub.key"))
        self._parts = Parts(directory / "logs")
        self._client: Client | None = None
        self._follower: Follower | None = None
        self._goes_on = False

    def __enter__(self) -> Self:
        try:
            self._hub.start()
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"couldn't start the stand-in hub: {error}; choose another --port or --directory"
            ) from error
        self._parts.environment.update(self._environment())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._follower is not None:
            self._follower.close()
        self._parts.close()
        self._hub.stop()

    @property
    def connection_string(self) -> str:
        """What any Event Hubs client connects with."""
        return self._hub.connection_string(HUB)

    @property
    def alarms(self) -> Follower:
        """What the API's live stream tells."""
        if self._follower is None:
            raise RuntimeError("the API was not started")
        return self._follower

    def start_api(self) -> None:
        """Make the keys at the first start, start the API, and follow it once it serves.

        Raises:
            AlumicatalystError: It does not come up.
        """
        own, flow = self.directory / "keys" / "demo", self.directory / "keys" / "ingest"
        if not (self.directory / "api.sqlite").exists():
            # Keys of a database that is gone open nothing.
            own.unlink(missing_ok=True)
            flow.unlink(missing_ok=True)
        if not flow.exists():
            self._make_key("flow", "ingest", f"--out={flow}")
        host, port = self.api_url.removeprefix("http://").split(":")
        self._parts.start("api", ["-m", "api", "serve", f"--host={host}", f"--port={port}"])
        if not own.exists():
            # While the API starts.
            with ThreadPoolExecutor() as pool:
                made = pool.submit(self._make_key, "operator", "read,operate", "--quiet")
                self._make_key("demo", "read", f"--out={own}")
                self.new_key = made.result()
        self._client = Client(self.api_url, own.read_text(encoding="ascii").strip())
        until = time.monotonic() + _START_S
        while not self._client.ready():
            self._parts.check()
            if time.monotonic() > until:
                raise AlumicatalystError(f"couldn't start the API within {_START_S:g} s; see {self.directory / 'logs'}")
            time.sleep(_WAIT_S)
        self._follower = Follower(self._client)
        self._follower.start()

    def start(self) -> None:
        """Start the flow, then what it reads."""
        newest_us = self._newest_us()
        self._goes_on = newest_us is not None
        # The ledger reads a lake, so there has to be one.
        self._lake()
        self._parts.start("flow", ["-m", "bytewax.run", "flows.telemetry"])
        self._parts.start("ledger", ["-m", "alumicatalyst.cli.main", "ledger", "run"])
        history_s = max(_HISTORY_LEAST_S, _HISTORY_S // self._plants)
        if newest_us is not None:
            # What is behind the readings that the lake has would all be late.
            history_s = max(0, min(history_s, int(time.time() - newest_us / 1e6) - 1))
        options = {
            "connection-string": "env:EVENTHUBS_CONNECTION_STRING",
            "dictionary": self._dictionary,
            # The plant stays the same: a later start goes on with its values and faults.
            "seed": int(_kept(self.directory / "plant.seed", str(secrets.randbelow(2**31)))),
            "plants": self._plants,
            "truth": self._truth,
            **({"history": f"{history_s}s"} if history_s else {}),
            **({} if self._seconds is None else {"seconds": self._seconds}),
            **_WAY,
            **_PLANT,
        }
        command = ["-m", "alumicatalyst.cli.main", "simulate"]
        self._parts.start("simulator", [*command, *(f"--{name}={value}" for name, value in options.items())])

    def check(self) -> None:
        """Raise if a part has failed."""
        self._parts.check()

    @property
    def sending(self) -> bool:
        """Whether the simulator still runs."""
        return self._parts.runs("simulator")

    def status(self) -> Status:
        """Read the flow's metrics; nothing yet while it starts."""
        return Status.read(self.metrics_port)

    def ledger_entries(self) -> int:
        """Return how many of the lake's commits are signed."""
        return ledger.size(self.directory)

    def stop(self) -> None:
        """Stop the simulator, let the flow and then the API catch up, drain the flow, sign what it committed last."""
        self._parts.stop("simulator")
        until = time.monotonic() + _CATCH_UP_S
        while time.monotonic() < until and (self._behind() > 0 or self._differences(histories=False)):
            self._parts.check()
            time.sleep(_WAIT_S)
        self._parts.stop("flow")
        self._parts.stop("ledger")

    def summary(self) -> dict[str, Any]:
        """Return the sums of the whole lake, and whether lake, ledger, hot store and faults are what they must be.

        Lake and ledger are checked as by `alumicatalyst lake doctor` and `ledger verify`. What is wrong is logged.
        """
        from alumicatalyst.lake.doctor import examine

        lake = self._lake()
        sums = lake.table("batches").select(
            "SELECT coalesce(sum(rows_total), 0) AS rows_total, coalesce(sum(rows_windowed), 0) AS windowed, "
            "coalesce(sum(rows_late), 0) AS late, coalesce(sum(rows_duplicate), 0) AS duplicate, "
            "coalesce(sum(rows_rejected), 0) AS rejected, coalesce(sum(rows_windows), 0) AS windows FROM batches"
        )[0]
        files = [file for file in (self.directory / "lake").rglob("*.parquet") if "_delta_log" not in file.parts]
        lag = self._behind()
        report = examine(lake)
        rows = sum(table["rows"] for table in report.tables if table["table"] in {"readings", "rejected"})
        transitions = check.transitions(lake)
        differences = self._differences(histories=True) + ledger.differences(self.directory, lake)
        # Detectors go on with what they learned in earlier runs, which this run's truth knows nothing of.
        ignored = check.score_rules(self._compiled) if self._goes_on else set()
        faults = check.faults(lake, check.lines_of(self._truth), ignored)
        for wrong in (*differences, *faults.missing):
            _log.error("not as it must be", what=wrong)
        complete = report.ok and lag == 0 and rows == int(sums["rows_total"]) and rows > 0
        return {
            "ok": complete and not differences and not faults.missing,
            **{name: int(value) for name, value in sums.items()},
            "alarms": sum(0 in steps for steps in transitions.values()),
            "transitions": sum(len(steps) for steps in transitions.values()),
            "faults": faults.as_dict(),
            "lake_rows": int(rows),
            "lake_bytes": sum(file.stat().st_size for file in files),
            "ledger_entries": self.ledger_entries(),
            "lag": lag,
        }

    def _environment(self) -> dict[str, str]:
        # Every setting that could lead elsewhere: the folder's own settings are another system's.
        return {
            "EVENTHUBS_CONNECTION_STRING": self.connection_string,
            "ALUMICATALYST_DICTIONARY": str(self.directory / "dictionary.json"),
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
            "ALUMICATALYST_API__URL": self.api_url,
            "ALUMICATALYST_API__KEY": f"file:{self.directory / 'keys' / 'ingest'}",
            "ALUMICATALYST_API__CA_FILE": "",
            "ALUMICATALYST_API__DATABASE_URL": self.database_url,
            **ledger.environment(self.directory),
        }

    def _make_key(self, name: str, scopes: str, *options: str) -> str:
        return self._parts.run(["-m", "api", "keys", "create", f"--name={name}", f"--scopes={scopes}", *options])

    def _lake(self) -> Lake:
        from alumicatalyst.lake import Lake

        return Lake.open(self.lake_uri)

    def _newest_us(self) -> int | None:
        """Return the newest event time in the lake; None where there is none yet."""
        if not (self.directory / "lake" / "batches").is_dir():
            return None
        newest = self._lake().table("batches").select("SELECT max(event_time_max) AS newest FROM batches")[0]["newest"]
        return None if newest is None else round(newest.timestamp() * 1e6)

    def _differences(self, *, histories: bool) -> list[str]:
        if self._client is None:
            return []
        return check.differences(self._client, check.transitions(self._lake()), histories=histories)

    def _behind(self) -> int:
        return sum(self.lag().values())

    def lag(self) -> dict[str, int]:
        """Return for each partition how many envelopes of the hub are not sealed in the lake."""
        from azure.eventhub import EventHubConsumerClient

        batches = self._lake().table("batches").refresh()
        client: Any = EventHubConsumerClient.from_connection_string(self.connection_string, "$Default")
        lag = {}
        with client:
            created_ms = round(client.get_eventhub_properties()["created_at"].timestamp() * 1000)
            for number in client.get_partition_ids():
                newest = client.get_partition_properties(number)["last_enqueued_sequence_number"]
                lag[number] = newest - batches.mark(f"{HUB}/{created_ms}/{number}")
        return lag


def _kept(file: Path, new: str = "") -> str:
    """Return what a file of the demo holds, made at the first start: a random text, or the one given.

    So a connection string that was printed stays valid.
    """
    with contextlib.suppress(FileNotFoundError):
        return file.read_text(encoding="ascii")
    text = new or secrets.token_urlsafe(32)
    file.touch(mode=0o600)
    file.write_text(text, encoding="ascii")
    return text


def _free_port() -> int:
    """Return a port for a part that starts later: none that the system might give to a connection until then."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port

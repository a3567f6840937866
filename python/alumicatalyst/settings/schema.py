"""Every setting: its name, its type, its default, and what happens when it is wrong."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from alumicatalyst.settings.api import ApiSettings
from alumicatalyst.settings.ledger import LedgerSettings
from alumicatalyst.settings.maintenance import MaintenanceSettings
from alumicatalyst.settings.secret import Secret
from alumicatalyst.settings.section import Count, Section

ENVIRONMENT_PREFIX = "ALUMICATALYST_"


def _one_or_many(value: object) -> object:
    """Let an environment variable or a flag name several files: "a.csv,b.csv"."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _default_or_secret(value: str) -> str:
    return value if value == "default" else Secret(value)


_Names = Annotated[list[str], NoDecode, BeforeValidator(_one_or_many)]
_NAME = r"^[A-Za-z0-9._-]{1,64}$"


class SourceSettings(Section):
    """Where readings come from."""

    kind: Literal["eventhubs", "replay", "simulator"] = Field(
        default="eventhubs",
        description="What is read: eventhubs (an IoT Hub's built-in endpoint is one too), replay (files) or simulator. "
        "With the wrong kind the other settings of this section do not fit, and the process stops at start with the "
        "first one it misses.",
    )
    name: str = Field(
        default="telemetry",
        pattern=_NAME,
        description="The first part of every partition's identity, so of every row, mark and state in the lake. A "
        "new name makes new partitions: everything the source still holds is read again and stored beside what is "
        "there. Keep it when only the transport changes.",
    )
    connection_string: Secret = Field(
        default=Secret("env:EVENTHUBS_CONNECTION_STRING"),
        description="Reference to the connection string of the Event Hubs namespace or hub: env:NAME or file:PATH. A "
        "missing one or a wrong key ends in exit code 2 or 3 before anything is read; a string itself is refused, as "
        "settings are shown and kept.",
    )
    hub: str = Field(
        default="",
        description="The Event Hub's name, where the connection string has no EntityPath. If both name one they must "
        "agree, or the process stops at start; a hub that does not exist ends in exit code 3.",
    )
    consumer_group: str = Field(
        default="$Default",
        min_length=1,
        description="The consumer group to read as. One that another system also reads with an owner level makes the "
        "two take the partitions from each other, visible as claims lost; give this system a group of its own.",
    )
    transport: Literal["sdk"] = Field(
        default="sdk",
        description="How the hub is read: with Azure's own Python SDK. It changes speed only; rows and identities "
        "are the same, so a change resumes where the other stopped.",
    )
    partitions: str = Field(
        default="all",
        description="Which of the source's partitions this process reads: all, a list of ids (0,2), or "
        "ordinal/replicas (0/4) for one of several equal processes. A partition that no process names is not read "
        "and expires at the source; one that two processes name is taken from the first (exit code 5).",
    )
    start: str = Field(
        default="earliest",
        description="Where a partition without any state begins: earliest, latest, or an RFC 3339 time. It has no "
        "effect once rows are stored. With latest, or a time too late, what came before is never read; with earliest "
        "on a full hub, days are read first.",
    )
    ca_file: str = Field(
        default="",
        description="A PEM file of certificate authorities for a broker with a private certificate; empty: the usual "
        "public ones. A wrong file ends in a TLS error and exit code 3; verification is never switched off.",
    )
    batch_envelopes_max: Count = Field(
        default=5_000,
        description="Envelopes in one batch at most. Too few cost a Python round per handful of readings; too many "
        "make latency and memory grow. It never changes results.",
    )
    batch_bytes_max: Annotated[int, Field(ge=1_024)] = Field(
        default=8_388_608,
        description="Bytes of bodies in one batch at most (one larger envelope is a batch of its own). With the "
        "queue and the in-flight limit it bounds memory: too large and a backlog can exhaust it, too small and "
        "throughput falls.",
    )
    queue_batches_max: Count = Field(
        default=4,
        description="Batches that a partition's reader holds ready. More only cost memory, partitions x batches x "
        "bytes; with 1 the reader waits for the flow and the flow for the reader.",
    )
    paths: _Names = Field(
        default_factory=list,
        description="The files that a replay reads, in order; several are separated by commas on the command line. "
        "The set may only grow: a file that is missing, shorter or changed since the last run stops the replay with "
        "its name.",
    )

    @field_validator("partitions")
    @classmethod
    def _check_partitions(cls, value: str) -> str:
        share = re.fullmatch(r"(\d{1,6})/(\d{1,6})", value)
        if share:
            if int(share[1]) >= int(share[2]):
                raise ValueError(
                    f"{value!r}: the ordinal counts from 0 and is below the number of replicas, as in 0/2 and 1/2"
                )
        elif not re.fullmatch(r"[A-Za-z0-9._-]+(,[A-Za-z0-9._-]+)*", value):
            raise ValueError(
                f'{value!r} is not allowed; allowed are "all", a list of ids such as "0,2", and "ordinal/replicas"'
            )
        return value

    @field_validator("start")
    @classmethod
    def _check_start(cls, value: str) -> str:
        if value in {"earliest", "latest"}:
            return value
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            time = None
        if time is None or time.tzinfo is None:
            raise ValueError(
                f'{value!r} is not allowed; allowed are "earliest", "latest" and a time such as "2026-01-31T06:00:00Z"'
            )
        return value


class LakeSettings(Section):
    """Where rows are stored."""

    uri: str = Field(
        default="file:var/lake",
        description="The folder of the Delta tables: file:PATH, or "
        "abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH. Marks and states live there too: an empty place makes "
        "the process begin anew from source.start, and a store that cannot be reached ends in exit code 4.",
    )
    credential: Annotated[str, AfterValidator(_default_or_secret)] = Field(
        default="default",
        description="Who writes to an abfss lake: default asks azure-identity (managed identity, environment, az "
        "login); env:NAME or file:PATH refer to an account key or a SAS token. A wrong one ends in exit code 4 at "
        "start. A local lake ignores it.",
    )
    flush_interval_s: Annotated[float, Field(gt=0, le=3_600, allow_inf_nan=False)] = Field(
        default=10.0,
        description="Seconds after which buffered rows are committed. Shorter makes rows visible sooner and many "
        "small files, which slow every reader; longer makes more to read again after a crash.",
    )
    flush_rows_max: Count = Field(
        default=1_000_000,
        description="Rows in the buffer at which they are committed before the interval is over. Too many cost "
        "memory (about 100 bytes a row), too few make many small files.",
    )
    state_interval_s: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = Field(
        default=60.0,
        description="Seconds between kept states of a partition. Longer means more of the log is read again after a "
        "crash, and the source must still hold it; shorter writes more. It never changes results.",
    )
    patience_s: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = Field(
        default=600.0,
        description="Seconds for which a commit is tried again while the store cannot be reached. Meanwhile the source "
        "stops and waits; nothing is lost. Afterwards the process ends with exit code 4, for whoever supervises it to "
        "start it again: too short makes every hiccup a restart, too long hides an outage from the supervisor.",
    )


class RunnerSettings(Section):
    """What drives the flow."""

    kind: Literal["bytewax", "loop"] = Field(
        default="bytewax",
        description="The engine: Bytewax, or a plain loop in one thread. Both give the same rows and either "
        "continues what the other began; an unknown one is refused at start.",
    )
    in_flight_batches_max: Count = Field(
        default=8,
        description="Batches on their way from the source to the sinks' buffers, over all partitions. Too many cost "
        "memory when the lake is slow; with fewer than there are partitions, partitions wait for one another.",
    )
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=9_140,
        description="The port of http://127.0.0.1:PORT/metrics for Prometheus; 0 serves none. A port in use stops "
        "the process at start, so two processes on one machine need two ports.",
    )


class Settings(BaseSettings):
    """All settings, checked and frozen."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=True,
    )

    dictionary: Path = Field(
        default=Path("flows/smelter.toml"),
        description="The data dictionary. A file that is missing or breaks the rules ends in exit code 2 with every "
        "problem listed; another dictionary than the running state's is refused with exit code 6 until it is "
        "accepted.",
    )
    data_dir: Path = Field(
        default=Path("var"),
        description="The folder of the demo's hub, lake and logs, unless --directory names another. An "
        "unwritable one stops the command that needs it; removing it removes them, and lake.uri where that lies in it.",
    )
    log_format: Literal["console", "json"] = Field(
        default="console",
        description="The log on standard error: console for people, json for a log collector. The wrong one is only "
        "hard to read.",
    )
    source: SourceSettings = SourceSettings()
    lake: LakeSettings = LakeSettings()
    api: ApiSettings = ApiSettings()
    ledger: LedgerSettings = LedgerSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    runner: RunnerSettings = RunnerSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take nothing but what is handed in.

        `load_settings` reads the environment and the file itself, so that an error can name the one that is wrong.
        """
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

"""The settings of the lake's maintenance: when it runs, how large files become, and how long what is kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from alumicatalyst.settings.section import Section

_Days = Annotated[int, Field(ge=0, le=36_500)]


class MaintenanceSettings(Section):
    """Compaction, vacuum, trimming and expiry, by command or beside the flow."""

    interval_s: Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False)] = Field(
        default=0.0,
        description="Seconds between two rounds of maintenance that the flow's process runs beside its work; 0: none, "
        "run `lake maintain` from elsewhere. Of several processes one does it. Without any, small files slow every "
        "reader down, and each checkpoint of a table names them all.",
    )
    target_mb: Annotated[int, Field(ge=1, le=512)] = Field(
        default=256,
        description="The size that small files are compacted to. Smaller ones make readers open more files; larger "
        "ones need as much memory and time for one rewrite.",
    )
    vacuum_days: Annotated[float, Field(ge=0, le=7, allow_inf_nan=False)] = Field(
        default=7.0,
        description="Days after which files that are no longer part of a table are deleted. Reading as of an older "
        "version ends there; with fewer than a few hours a long query may find its files gone.",
    )
    log_days: Annotated[float, Field(ge=0, le=36_500, allow_inf_nan=False)] = Field(
        default=30.0,
        description="Days after which commits move from a table's log into the archive beside it. Readers cannot go "
        "back further; the ledger's verification still reads them.",
    )
    readings_days: _Days = Field(
        default=0,
        description="Days that readings are kept; 0: for ever. Older ones are gone for good once vacuum has run; how "
        "many there were stays recorded.",
    )
    rejected_days: _Days = Field(
        default=0,
        description="Days that rejected rows are kept; 0: for ever. Without them a wrong dictionary cannot be "
        "corrected afterwards.",
    )
    windows_days: _Days = Field(
        default=0,
        description="Days that windows are kept; 0: for ever. They are small beside readings, and what long histories "
        "are made of.",
    )
    without_ledger: bool = Field(
        default=False,
        description="Whether the flow's maintenance may delete files and move commits though no ledger is kept at "
        "ledger.uri. Set it only where none is wanted: what a later one has not signed by then, it cannot prove.",
    )

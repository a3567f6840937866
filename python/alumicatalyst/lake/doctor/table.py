"""What a table's log makes of it, judged: protocol, properties and columns, and whether a checkpoint says the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import log, schemas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alumicatalyst.lake.log import LogState
    from alumicatalyst.lake.tables import TableSpec

_DEFAULTS: Final = {
    "delta.enableExpiredLogCleanup": "true",
    "delta.appendOnly": "false",
    "delta.enableDeletionVectors": "false",
    "delta.columnMapping.mode": "none",
}
"""What a table is that does not say it."""


def judge(spec: TableSpec, state: LogState) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a table as its log has it: the question's key, and what."""
    name = spec.name
    reader, writer = state.protocol.get("minReaderVersion", 1), state.protocol.get("minWriterVersion", 1)
    if reader > log.READER_VERSION_MAX or writer > log.WRITER_VERSION_MAX:
        yield "protocol", f"{name} asks for reader {reader} and writer {writer}"
    hidden = sum(each.get("deletionVector") is not None for each in state.files.values())
    if hidden:
        yield "protocol", f"{name}: {hidden:,} files have rows hidden by deletion vectors"
    configuration = _DEFAULTS | (state.metadata.get("configuration") or {})
    wanted = _DEFAULTS | {
        "delta.enableExpiredLogCleanup": "false",
        "delta.appendOnly": "true" if spec.append_only else "false",
    }
    for key, value in wanted.items():
        if configuration[key] != value:
            yield "properties", f"{name}: {key} is {configuration[key]}, not {value}"
    partitions = state.metadata.get("partitionColumns")
    if partitions != spec.partition_by:
        yield "properties", f"{name}: it is partitioned by {partitions}, not by {spec.partition_by}"
    try:
        difference = schemas.difference(name, state.metadata)
    except LakeError as error:
        yield "schema", str(error)
        return
    if difference.refusal:
        yield "schema", f"{name}: {difference.text()}; {difference.refusal}"
    elif not difference.is_none:
        yield "schema-old", f"{name}: {difference.text()}"


def differences(told: LogState, made: LogState) -> Iterator[str]:
    """Yield in what a checkpoint differs from what the commits up to it make."""
    for path in sorted(made.files.keys() | told.files.keys()):
        if path not in told.files:
            yield f"it lacks {path}"
        elif path not in made.files:
            yield f"it has {path}, which no commit has in the table"
        elif _plain_add(made.files[path]) != _plain_add(told.files[path]):
            yield f"it says something else of {path}"
    for kind in ("transactions", "metadata", "protocol"):
        if _plain(getattr(made, kind)) != _plain(getattr(told, kind)):
            yield f"its {kind} are not those of the commits"


def _plain(value: Any) -> Any:
    """Return an action as commits and checkpoints both have it: without what is null or empty."""
    if isinstance(value, dict):
        plain = {name: _plain(each) for name, each in value.items()}
        return {name: each for name, each in plain.items() if each is not None} or None
    return None if value in ([], "") else value


def _plain_add(action: dict[str, Any]) -> Any:
    statistics = json.loads(action.get("stats") or "null")
    parsed = {"stats_parsed": None, "partitionValues_parsed": None}
    return _plain({**action, "dataChange": None, "stats": statistics, **parsed})

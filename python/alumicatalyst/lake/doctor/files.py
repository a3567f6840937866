"""The doctor's look at files: what logs name against what the store holds, what a file says against its commit."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from alumicatalyst.lake import archive, log, tables
from alumicatalyst.lake.fault import first_line
from alumicatalyst.lake.store import TEMPORARY_SUFFIX
from alumicatalyst.maintenance import compact, lease

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from alumicatalyst.lake.doctor.checks import Findings
    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.lake.log import LogState
    from alumicatalyst.lake.store import Store

AGE_S_MIN: Final = 3_600
"""Younger files that nothing names may be those of a flush that is under way."""

TARGET_BYTES: Final = 256_000_000
"""The size of files that compaction makes if nobody says another one."""

_THREADS: Final = 8
_MILLISECOND: Final = timedelta(milliseconds=1)
_TOP: Final = re.compile(rf"_dictionaries/[0-9a-f]{{64}}\.json|_state/.+|{archive.FOLDER}/.+|{lease.FOLDER}/.+")

_ASKED: Final = ("files-there", "orphans", "temporaries", "small-files", "strays")
DEEP: Final = ("files-readable", "files-claims", "files-once")
"""What is asked of the files themselves, once they are all there."""


def look(lake: Lake, logs: Mapping[str, LogState], findings: Findings) -> list[dict[str, Any]]:
    """Compare the logs' files with the store's; return what each table has in files.

    Args:
        lake: The lake.
        logs: Each table as its log has it.
        findings: Takes what is found.
    """
    findings.asked(*_ASKED)
    now_s, shown = time.time(), []
    listed: dict[str, dict[str, tuple[int, float]]] = {name: {} for name in tables.SPECS}
    for path, size, modified_s in lake.store.modified(""):
        top, _, inner = path.partition("/")
        if path.endswith(TEMPORARY_SUFFIX):
            if now_s - modified_s > AGE_S_MIN:
                findings.add("temporaries", f"{path}: {size:,} bytes, {_age(now_s - modified_s)} old")
        elif top in listed:
            if not inner.startswith(f"{log.FOLDER}/"):
                listed[top][inner] = size, modified_s
        elif not _TOP.fullmatch(path):
            findings.add("strays", path)
    for name, each in logs.items():
        shown.append(_table(name, each, listed[name], now_s, findings))
    return shown


def _table(
    name: str, told: LogState, stored: dict[str, tuple[int, float]], now_s: float, findings: Findings
) -> dict[str, Any]:
    live = {unquote(path): action for path, action in told.files.items()}
    for path, action in live.items():
        if path not in stored:
            findings.add("files-there", f"{name}/{path} is missing")
        elif stored[path][0] != action["size"]:
            what = f"has {stored[path][0]:,} bytes, the log says {action['size']:,}"
            findings.add("files-there", f"{name}/{path} {what}")
    removed = {unquote(path) for path in told.removed}
    if told.removed_before is not None:
        removed |= {unquote(each["path"]) for each in told.removed_before.to_pylist() if each}
    others = {path: each for path, each in stored.items() if path not in live and path not in removed}
    old = {path: size for path, (size, modified_s) in others.items() if now_s - modified_s > AGE_S_MIN}
    if old:
        oldest = _age(now_s - min(others[path][1] for path in old))
        what = f"{len(old):,} files, {sum(old.values()):,} bytes, the oldest {oldest} old, such as {min(old)}"
        findings.count("orphans", len(old), [f"{name}: {what}"])
    today = datetime.now(UTC).date().isoformat()
    files = list(told.files.values())
    small = [
        each
        for job in compact.jobs(name, files, target_bytes=TARGET_BYTES, files_min=compact.FILES_MIN, today=today)
        for each in job.files
    ]
    if small:
        average = sum(int(each["size"]) for each in small) // len(small)
        findings.count("small-files", len(small), [f"{name}: {len(small):,} files of {average:,} bytes on average"])
    size = sum(int(each["size"]) for each in files)
    rows = sum(json.loads(each.get("stats") or "{}").get("numRecords", 0) for each in files)
    return {
        "table": name,
        "version": told.version,
        "files": len(files),
        "rows": rows,
        "bytes": size,
        "average": size // len(files) if files else 0,
        "bytes_per_row": round(size / rows, 2) if rows else 0.0,
        "orphans": len(others),
        "removed": len(removed & stored.keys()),
    }


# ---------------------------------------------------------------------- what files say of themselves


def compare(lake: Lake, logs: Mapping[str, LogState], findings: Findings) -> None:
    """Hold every file's own account of its rows against its commit's, and look for files that are in a table twice."""
    findings.asked(*DEEP)
    for name, told in logs.items():
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="doctor") as pool:
            found = pool.map(lambda action, name=name: _judge(lake.store, name, action), told.files.values())
            for key, what in (each for each in found if each is not None):
                findings.add(key, what)
        for what in _twice(lake.store, name, told.files.values()):
            findings.add("files-once", what)


def damaged(lake: Lake, logs: Mapping[str, LogState], findings: Findings) -> None:
    """Read every file to its end, to name those that a query has failed on."""
    import pyarrow.parquet as pq

    for name, told in logs.items():
        for action in told.files.values():
            path = f"{name}/{unquote(action['path'])}"
            try:
                with _open(lake.store, path) as file:
                    found = pq.ParquetFile(file)
                    for number in range(found.num_row_groups):
                        found.read_row_group(number, use_threads=False)
            except Exception as error:  # noqa: BLE001 whatever a library says of a damaged file
                findings.add("files-readable", f"{path}: {first_line(error)[:200]}")


def _judge(store: Store, table: str, action: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what is wrong with a file, by its footer: the question's key, and what."""
    import pyarrow.parquet as pq

    path = f"{table}/{unquote(action['path'])}"
    try:
        with _open(store, path) as file:
            metadata = pq.ParquetFile(file).metadata
    except Exception as error:  # noqa: BLE001 whatever a library says of a damaged file
        return "files-readable", f"{path}: {first_line(error)[:200]}"
    differing = list(_differing(table, metadata, action))
    return ("files-claims", f"{path}: {', '.join(differing)}") if differing else None


def _differing(table: str, metadata: Any, action: Mapping[str, Any]) -> Iterable[str]:
    """Yield in what a file is not what its commit, or its table, says."""
    try:
        told = json.loads(action.get("stats") or "{}")
        least, most, nulls = (dict(told.get(each) or {}) for each in ("minValues", "maxValues", "nullCount"))
    except (ValueError, TypeError, AttributeError):
        yield "its commit's statistics cannot be read"
        return
    wanted = {field.name: field.nullable for field in tables.schema(table) if field.name != "date"}
    names = {metadata.schema.column(at).path for at in range(metadata.num_columns)}
    lacking = sorted(name for name, nullable in wanted.items() if name not in names and not nullable)
    strange = sorted(names - wanted.keys())
    yield from (f"it lacks the column {name}" for name in lacking)
    yield from (f"it has a column {name}" for name in strange)
    rows = told.get("numRecords", metadata.num_rows)
    if rows != metadata.num_rows:
        yield f"it has {metadata.num_rows:,} rows, its commit says {rows:,}"
    found_nulls: dict[str, int] = {}
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for at in range(row_group.num_columns):
            chunk = row_group.column(at)
            name, found = chunk.path_in_schema, chunk.statistics
            if found is None:
                nulls.pop(name, None)
                continue
            if found.has_null_count:
                found_nulls[name] = found_nulls.get(name, 0) + found.null_count
            if found.has_min_max and not (
                _bounds(least.get(name), found.min, least=True) and _bounds(most.get(name), found.max, least=False)
            ):
                yield f"its {name} are out of the bounds that its commit says"
    for name, count in nulls.items():
        # Of a column that a file lacks all values are null.
        if found_nulls.get(name, metadata.num_rows) != count:
            yield f"its commit says another number of nulls of {name}"


def _bounds(told: Any, value: Any, *, least: bool) -> bool:
    """Return whether a value keeps a bound as JSON tells it, if it is told."""
    if told is None or isinstance(value, bytes):
        return True
    try:
        if isinstance(value, datetime):
            bound = datetime.fromisoformat(told)
            bound = bound.replace(tzinfo=bound.tzinfo or UTC)
            # Other writers cut times off at the millisecond.
            return bound <= value if least else value < bound + _MILLISECOND
        if isinstance(value, float) and math.isclose(told, value, rel_tol=1e-6):
            return True  # A float32 is told in as few digits as tell it from its neighbours.
        return bool(told <= value if least else value <= told)
    except (TypeError, ValueError, OverflowError):
        return False


def _twice(store: Store, table: str, actions: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """Yield files of the same bytes; only those that their commits say the same of are read."""
    alike: dict[tuple[int, str], list[str]] = {}
    for action in actions:
        alike.setdefault((int(action["size"]), str(action.get("stats"))), []).append(unquote(action["path"]))
    for paths in alike.values():
        if len(paths) > 1:
            seen: dict[str, str] = {}
            for path in sorted(paths):
                first = seen.setdefault(hashlib.sha256(store.get(f"{table}/{path}")).hexdigest(), path)
                if first != path:
                    yield f"{table}/{path} is {table}/{first}"


def _open(store: Store, path: str) -> Any:
    filesystem: Any = store.filesystem()
    whole = f"{store.root}/{path}"
    return open(whole, "rb") if filesystem is None else filesystem.open(whole, "rb")  # noqa: PTH123 as its sibling


def _age(seconds: float) -> str:
    return f"{seconds / 3_600:,.0f} h" if seconds < 172_800 else f"{seconds / 86_400:,.0f} days"

"""What the columns of a file are for: the time, the device, metrics, a status, or nothing of use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from alumicatalyst.draft import file
from alumicatalyst.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_TIME_NAMES: Final = ("timestamp", "datetime", "event_time", "eventtime", "time", "ts", "date_time", "date", "utc")
_DEVICE_NAMES: Final = (
    *("device", "device_id", "deviceid", "machine", "machine_id", "machineid", "equipment", "equipment_id"),
    *("asset", "asset_id", "unit_id", "station", "source"),
)
_METRIC_NAMES: Final = (
    *("metric", "metric_name", "metricname", "tag", "tag_name", "tagname", "sensor", "signal"),
    *("variable", "parameter", "measurement"),
)
_VALUE_NAMES: Final = ("value", "val", "reading", "measured_value")
_QUALITY_NAMES: Final = ("quality", "q", "opc_quality", "quality_code")
_RFC3339: Final = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}([.]\d{1,9})?([Zz]|[+-]\d{2}:\d{2})?$"
_OFFSET: Final = r"([Zz]|[+-]\d{2}:\d{2})$"
# 1990 to 2100 in seconds, which tells seconds from milliseconds and microseconds.
_EPOCH: Final = (631_152_000, 4_102_444_800)
_EPOCH_US: Final = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
_NAME_BYTES_MAX: Final = 240
_WORDS_MAX: Final = 1_000
_DEVICES_SAMPLED: Final = 50

# Columns beside those of the file; a file's own cannot be called so, or it would be unusable anyway.
TIME: Final = "\x00time"
DEVICE: Final = "\x00device"


@dataclass(slots=True)
class Table:
    """A file's rows, each column known by its use.

    Attributes:
        data: The rows, with the time in microseconds and the device in columns of their own.
        cut: Whether the file goes on after them.
        columns: The file's own columns.
        time: Column of the event time.
        time_format: As a dictionary names it.
        zoned: Whether the times carry an offset.
        device: Column of the device; None where the whole file is one device.
        metric: Column of the metric's name in a long file; None in a wide one.
        value: Column of the value in a long file.
        quality: Column of OPC quality codes.
        numbers: Columns of numbers that have no other use.
        texts: Columns of a few words, with the words.
    """

    data: Any
    cut: bool
    columns: list[str]
    time: str
    time_format: str
    zoned: bool
    device: str | None = None
    metric: str | None = None
    value: str | None = None
    quality: str | None = None
    numbers: list[str] = field(default_factory=list)
    texts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def others(self) -> list[str]:
        """Return the columns without a role, in the order of the file."""
        roles = {self.time, self.device, self.metric, self.value, self.quality}
        return [name for name in self.columns if name not in roles]

    def metrics_by_device(self) -> dict[str, tuple[str, ...]]:
        """Return every device with the columns, or in a long file the metrics, that it has values of."""
        import pyarrow.compute as pc

        found: dict[str, list[str]] = {name: [] for name in self.data[DEVICE].unique().to_pylist() if name}
        if self.metric is not None:
            pairs = self.data.select([DEVICE, self.metric]).group_by([DEVICE, self.metric]).aggregate([]).to_pylist()
            for pair in sorted(
                (pair for pair in pairs if pair[DEVICE] and pair[self.metric]), key=lambda pair: str(pair[self.metric])
            ):
                found[pair[DEVICE]].append(pair[self.metric])
        else:
            for name in self.columns:
                if name in self.texts or name in self.numbers:
                    for device in self.data[DEVICE].filter(pc.is_valid(self.data[name])).unique().to_pylist():
                        if device:
                            found[device].append(name)
        return {device: tuple(names) for device, names in found.items() if names}

    def rows_of(self, devices: list[str]) -> Any:
        """Return the rows of some devices."""
        import pyarrow as pa
        import pyarrow.compute as pc

        return self.data.filter(pc.is_in(self.data[DEVICE], pa.array(devices, pa.string())))

    def values_of(self, metric: str, rows: Any) -> Any:
        """Return, of some rows, those that have a value of a metric, with columns TIME, DEVICE and `value`."""
        import pyarrow.compute as pc

        if self.metric is not None:
            rows = rows.filter(pc.equal(rows[self.metric], metric))
        values = rows.select([TIME, DEVICE, self.value or metric]).rename_columns([TIME, DEVICE, "value"])
        return values.filter(pc.is_valid(values["value"]))

    def disorder_us(self) -> tuple[int, int]:
        """Return how far times fall behind the newest so far: within a device, and over the whole file."""
        import pyarrow.compute as pc

        whole = _behind(self.data[TIME])
        if self.device is None:
            return whole, whole
        devices = self.data[DEVICE].unique().to_pylist()[:_DEVICES_SAMPLED]
        return max(_behind(self.data[TIME].filter(pc.equal(self.data[DEVICE], device))) for device in devices), whole


def _behind(times: Any) -> int:
    import pyarrow.compute as pc

    times = times.drop_null()
    return int(pc.max(pc.subtract(pc.cumulative_max(times), times)).as_py()) if len(times) else 0


def read(path: Path, *, time: str | None = None, device: str | None = None) -> Table:
    """Read a file and find out what its columns are for.

    Args:
        path: A CSV (comma, semicolon or tab), NDJSON or Parquet file, as its ending says.
        time: The time column, where it is known.
        device: The device column, where it is known.

    Raises:
        InputError: The file cannot be read, or no column holds times.
    """
    data, cut = file.read(path)
    names = data.column_names
    for role, name in (("time", time), ("device", device)):
        if name is not None and name not in names:
            raise InputError(f"couldn't find the {role} column: {name}; {path} has {_listed(names)}")
    table = _with_time(path, data, time, cut=cut)
    _give_roles(path, table, device)
    return table


def _with_time(path: Path, data: Any, wanted: str | None, *, cut: bool) -> Table:
    """Find the times: the column that was named, else one named like it, else any that reads like times."""
    folded = {name.strip().casefold(): name for name in reversed(data.column_names)}
    likely = [folded[name] for name in _TIME_NAMES if name in folded]
    candidates = [wanted] if wanted is not None else list(dict.fromkeys([*likely, *data.column_names]))
    for name in candidates:
        found = _times(data[name], numbers=name == wanted or name in likely)
        if found:
            times, time_format, zoned = found
            return Table(data.append_column(TIME, times), cut, data.column_names, name, time_format, zoned)
    raise InputError(
        f"couldn't find the times: {path}: {_listed(candidates)}; name the column that holds times such as "
        "2026-01-31T06:00:00Z, or seconds, milliseconds or microseconds since 1970"
    )


def _times(column: Any, *, numbers: bool) -> tuple[Any, str, bool] | None:
    """Return a column in microseconds, its format and whether it has offsets, or None where it holds no times."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_timestamp(column.type):
        zone = column.type.tz
        return column.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64()), "rfc3339", zone is not None
    if types.is_floating(column.type) and numbers:
        median = pc.quantile(column, q=0.5, interpolation="lower")[0].as_py()
        for time_format, scale in _EPOCH_US.items():
            if median is not None and _EPOCH[0] <= median * scale / 1_000_000 < _EPOCH[1]:
                near = pc.if_else(pc.less(pc.abs(column), 9e18 / scale), column, None)
                return pc.multiply(near, float(scale)).cast(pa.int64(), safe=False), time_format, True
    if not types.is_string(column.type):
        return None
    shaped = pc.match_substring_regex(column, _RFC3339)
    if pc.mean(shaped.cast(pa.float64())).as_py() < 0.9:
        return None
    # Nothing finer than microseconds is kept, and what has no offset in a file that has them is no time.
    texts = pc.utf8_upper(pc.replace_substring_regex(pc.if_else(shaped, column, None), r"([.]\d{1,6})\d*", r"\1"))
    zoned = bool(re.search(_OFFSET, texts.drop_null()[0].as_py()))
    texts = pc.if_else(pc.equal(pc.match_substring_regex(texts, _OFFSET), zoned), texts, None)
    try:
        return texts.cast(pa.timestamp("us", "UTC" if zoned else None)).cast(pa.int64()), "rfc3339", zoned
    except pa.ArrowInvalid:
        return None  # The shape of a time, but no such day or hour.


def _give_roles(path: Path, table: Table, wanted: str | None) -> None:
    """Give every column but that of the times its use."""
    import pyarrow as pa
    from pyarrow import types

    data = table.data
    free = [name for name in table.columns if name != table.time]
    texts = [name for name in free if types.is_string(data[name].type)]
    numbers = [name for name in free if types.is_floating(data[name].type)]
    if wanted is not None and wanted not in texts:
        raise InputError(
            f"couldn't use the device column: {wanted} of {path}; name one of text, as a device is a string in JSON"
        )
    table.device = wanted if wanted is not None else _named(texts, _DEVICE_NAMES)
    metric, value = (
        _named((name for name in texts if name != table.device), _METRIC_NAMES),
        _named(numbers, _VALUE_NAMES),
    )
    if metric is not None and value is not None:
        table.metric, table.value = metric, value
    quality = _named(numbers, _QUALITY_NAMES)
    if quality is not None and _is_quality(data[quality]):
        table.quality = quality
    usable = [name for name in table.others() if name and name.isprintable() and len(name.encode()) <= _NAME_BYTES_MAX]
    table.numbers = [name for name in usable if name in numbers]
    for name in usable:
        if name in texts and len(words := data[name].unique().drop_null()) <= _WORDS_MAX:
            table.texts[name] = tuple(sorted(words.to_pylist()))
    device = data[table.device] if table.device is not None else pa.repeat(path.stem, data.num_rows)
    table.data = data.append_column(DEVICE, device)


def _named(columns: Iterable[str], names: tuple[str, ...]) -> str | None:
    folded = {column.strip().casefold(): column for column in columns}
    return next((folded[name] for name in names if name in folded), None)


def _is_quality(column: Any) -> bool:
    import pyarrow.compute as pc

    found = pc.min_max(column)
    whole = pc.all(pc.equal(pc.floor(column), column)).as_py()
    return bool(whole) and found["min"].as_py() >= 64 and found["max"].as_py() <= 32_767


def _listed(names: list[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")

"""Data dictionaries as files: loaded, checked, compared; drafted from files of readings; and the commands for it."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet
import pytest

from alumicatalyst import dictionary as dictionaries
from alumicatalyst._core import Dictionary, Partition
from alumicatalyst.cli import main as program
from alumicatalyst.draft.machine import patterns
from alumicatalyst.errors import DictionaryError, InputError
from alumicatalyst.sources import envelopes
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SMELTER = ROOT / "flows" / "smelter.toml"
BY_THE_SECOND = "2026-01-31 06:00:{:02d}"


def changed(*pairs: tuple[str, str]) -> Dictionary:
    text = SMELTER.read_text("utf-8")
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return Dictionary.from_toml(text)


def written(path: Path, rows: Sequence[Sequence[object]], delimiter: str = ",") -> Path:
    path.write_text("".join(delimiter.join(map(str, row)) + "\n" for row in rows), "utf-8")
    return path


def drafted(path: Path, **columns: str) -> tuple[str, dict[str, dict[str, object]]]:
    """Return a draft, and its metrics by name."""
    text = dictionaries.draft(path, **columns)
    compiled = json.loads(Dictionary.from_toml(text).to_json())
    return text, {metric["name"]: metric for metric in compiled["metrics"]}


def command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        program.main(["dictionary", *arguments])
    shown = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, shown.out, shown.err


# Loading


def test_the_example_plant_loads_and_is_known_by_the_digest_of_its_canonical_text() -> None:
    smelter = dictionaries.load(SMELTER)
    assert (smelter.name, smelter.version, smelter.properties) == (
        "example-smelter",
        "1",
        ["iothub-connection-device-id"],
    )
    text = smelter.to_json()
    assert smelter.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert Dictionary.from_json(text).sha256 == smelter.sha256


def test_the_compiled_form_loads_from_a_json_file(tmp_path: Path) -> None:
    smelter = dictionaries.load(SMELTER)
    stored = tmp_path / f"{smelter.sha256}.json"
    stored.write_text(smelter.to_json(), "utf-8")
    assert dictionaries.load(stored).sha256 == smelter.sha256


def test_a_byte_order_mark_is_not_part_of_a_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "marked.toml"
    path.write_text(SMELTER.read_text("utf-8"), "utf-8-sig")
    assert dictionaries.load(path).sha256 == dictionaries.load(SMELTER).sha256


def test_every_problem_names_the_file_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(SMELTER.read_text("utf-8").replace('"kA"', '"KA"').replace('"8h"', '"8 hours"'), "utf-8")
    with pytest.raises(DictionaryError) as raised:
        dictionaries.load(path)
    first, second = raised.value.problems
    assert first.startswith(
        f'{path}: line 41: machine.rectifier.line_current.unit = "KA": not a unit; did you mean "kA"?'
    )
    assert 'machine.pot.bath_temperature.every = "8 hours": not a duration; allowed:' in second


def test_a_file_that_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"couldn't read the data dictionary: .*absent\.toml: No such file"):
        dictionaries.load(tmp_path / "absent.toml")
    with pytest.raises(InputError, match="Is a directory"):
        dictionaries.load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe5"')
    with pytest.raises(InputError, match="byte 8 is not UTF-8"):
        dictionaries.load(tmp_path / "latin.toml")


# Checking


def test_what_is_unwise_is_said_once_for_all_devices_that_share_it() -> None:
    assert dictionaries.check(dictionaries.load(SMELTER)) == [
        "hall-1 humidity: windows 10s are shorter than every = 30s: each holds one reading at most",
        "hall-1 temperature: windows 10s are shorter than every = 30s: each holds one reading at most",
        "pot-001 and 47 more alumina_feed: windows 10s are shorter than every = 90s: each holds one reading at most",
    ]


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        ("duplicates = 8", "duplicates = 4", "furnace-1"),
        ("duplicates = 8", "duplicates = 4", "duplicates = 4 does not span out_of_orderness = 5s"),
        (
            'out_of_orderness = "24h"',
            'out_of_orderness = "5min"',
            "pot-001 and 47 more bath_temperature: idle = 2min is shorter",
        ),
        ('"Europe/Oslo"', '"Europe/Olso"', "time_zone 'Europe/Olso' is not in this machine's time zone database"),
    ],
)
def test_a_dictionary_that_is_allowed_but_unwise_gives_a_warning(old: str, new: str, warning: str) -> None:
    usual = dictionaries.check(dictionaries.load(SMELTER))
    added = [found for found in dictionaries.check(changed((old, new))) if found not in usual]
    if warning == "furnace-1":
        assert not any(warning in found for found in added), "a reading every 5 s needs one event time for 5 s"
    else:
        assert any(warning in found for found in added)


# Comparing


def test_the_same_dictionary_keeps_everything() -> None:
    smelter = dictionaries.load(SMELTER)
    found = dictionaries.diff(smelter, smelter)
    assert found.counts() == {"kept": 167, "reset": 0, "new": 0, "removed": 0}
    assert (found.general, found.groups()) == ((), [])


@pytest.mark.parametrize(
    ("old", "new", "state", "metric", "what", "devices"),
    [
        ("{above=4.7,", "{above=4.75,", "kept", "cell_voltage", "alarm H: limit 4.7 -> 4.75", 47),
        ('every    = "8h"', 'every    = "6h"', "kept", "bath_temperature", "every: 8h -> 6h", 48),
        ('windows  = ["1d"]', 'windows  = ["12h"]', "reset", "bath_temperature", "windows 1d close and end", 48),
        ('windows  = ["1d"]', 'windows  = ["1d", "7d"]', "kept", "bath_temperature", "windows 7d begin", 48),
        (
            'unit  = "kg"',
            'unit  = "g"',
            "reset",
            "alumina_feed",
            "unit kg -> g: windows end, readings are late until the next, alarms clear",
            48,
        ),
        ('half_life = "10min"', 'half_life = "20min"', "reset", "humidity", "the detector learns again", 1),
        ("alarm.fault = ", "# ", "reset", "status", "alarm fault is removed and clears", 4),
        (
            '{rate_above=15, per="1min"',
            '{rate_above=20, per="2min"',
            "reset",
            "temperature",
            "alarm fast: limit 15.0 -> 20.0, per 1min -> 2min, and it clears",
            4,
        ),
        ("furnace-{1..4}", "furnace-{1..3}", "removed", "status", "its open windows are closed and stored", 1),
        ("press-{1..3}", "press-{1..4}", "new", "vibration", None, 1),
    ],
)
def test_a_change_says_what_it_does_to_running_state(
    old: str, new: str, state: str, metric: str, what: str | None, devices: int
) -> None:
    found = dictionaries.diff(dictionaries.load(SMELTER), changed((old, new), ('version   = "1"', 'version   = "2"')))
    groups = {(group[0], group[1]): group for group in found.groups()}
    _, _, phrases, names = groups[state, metric]
    assert len(names) == devices
    assert phrases == (() if what is None else phrases)
    assert what is None or what in phrases
    assert found.general == ("version: '1' -> '2'",)


def test_a_change_of_the_mapping_belongs_to_no_series() -> None:
    found = dictionaries.diff(
        dictionaries.load(SMELTER), changed(('field="ts"', 'field="t"'), ('"reject"  ', '"accept"  '))
    )
    assert found.general == (
        'payload.time: ["ts"] -> ["t"]',
        "payload.unknown: reject -> accept",
        "version: still '1'; a new one would tell the rows apart",
    )
    assert found.counts()["kept"] == 167


# Drafting


def test_a_wide_file_is_drafted_with_every_number_a_metric(tmp_path: Path) -> None:
    rows = [["when", "Volume Flow", "mode", "note", "anomaly"]]
    rows += [[BY_THE_SECOND.format(n), f"{n}.5", ("run", "stop")[n % 2], f"note {n}", "0"] for n in range(40)]
    text, metrics = drafted(written(tmp_path / "pump.csv", rows, ";"))
    assert set(metrics) == {"Volume Flow", "mode"}
    assert (metrics["Volume Flow"]["every_us"], metrics["Volume Flow"]["range"]) == (1_000_000, [0.0, 120.0])
    assert metrics["mode"]["states"] == {"run": 0, "stop": 1}
    assert 'ignore  = ["note", "anomaly"]' in text
    assert '[machine.pump."Volume Flow"]' in text
    assert "--utc-offset" in text
    assert Dictionary.from_toml(text).properties == ["file"]


def test_a_long_file_is_drafted_by_device_and_metric(tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [["ts", "device", "metric", "value", "quality"]]
    for n in range(30):
        time = f"2026-01-31T06:00:{n:02d}Z"
        rows += [[time, f"press-{1 + n % 3}", "pressure", 200 + n, 192], [time, "hall", "temperature", 20 - n, 192]]
    text, metrics = drafted(written(tmp_path / "plant.csv", rows))
    assert set(metrics) == {"pressure", "temperature"}
    assert 'device = "press-{1..3}"' in text
    assert 'metric  = "metric"' in text
    assert 'quality = "quality"' in text
    assert "--utc-offset" not in text
    assert metrics["pressure"]["every_us"] == 3_000_000
    assert metrics["temperature"]["range"] == [-70.0, 80.0]


@pytest.mark.parametrize(("scale", "time_format"), [(1, "epoch_s"), (1_000, "epoch_ms"), (1_000_000, "epoch_us")])
def test_times_since_1970_are_told_by_their_size(tmp_path: Path, scale: int, time_format: str) -> None:
    path = tmp_path / "pump.ndjson"
    path.write_text(
        "".join(json.dumps({"ts": (1_795_256_130 + 60 * n) * scale, "p": n}) + "\n" for n in range(9)), "utf-8"
    )
    text, metrics = drafted(path)
    assert f'format="{time_format}"' in text
    assert metrics["p"]["every_us"] == 60_000_000
    assert 'windows  = ["10min"]' in text


def test_a_parquet_file_is_drafted_from_its_timestamps(tmp_path: Path) -> None:
    start = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
    times = [start + dt.timedelta(hours=n) for n in range(20)]
    columns = {
        "sampled": times,
        "machineId": ["a-1", "a-2"] * 10,
        "t": [float(n) for n in range(20)],
        "ok": [True] * 20,
    }
    pa.parquet.write_table(pa.table(columns), tmp_path / "lab.parquet")
    text, metrics = drafted(tmp_path / "lab.parquet")
    assert set(metrics) == {"t"}
    assert 'field="sampled"' in text
    assert 'device = "a-{1..2}"' in text
    assert 'ignore  = ["ok"]' in text
    assert metrics["t"]["every_us"] == 7_200_000_000
    assert metrics["t"]["idle_us"] == 21_600_000_000


def test_columns_are_taken_as_told(tmp_path: Path) -> None:
    rows = [["written", "measured", "line", "v"]]
    rows += [[BY_THE_SECOND.format(n), f"2026-01-30 06:00:{n:02d}", "line-1", str(n)] for n in range(9)]
    path = written(tmp_path / "x.tsv", rows, "\t")
    assert 'field="written"' in drafted(path)[0]
    assert 'field="measured"' in drafted(path, time="measured", device="line")[0]
    assert 'device  = "line"' in drafted(path, time="measured", device="line")[0]


def test_names_that_a_dictionary_uses_itself_are_renamed(tmp_path: Path) -> None:
    rows: list[Sequence[object]] = [["time", "asset", 'say "a"'], *([BY_THE_SECOND.format(n), n, n] for n in range(9))]
    with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    text, metrics = drafted(tmp_path / "x.csv")
    assert set(metrics) == {"asset_value", 'say "a"'}
    assert 'rename  = {asset="asset_value"}' in text


def test_times_out_of_order_widen_what_a_draft_allows(tmp_path: Path) -> None:
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    times = [(start + dt.timedelta(days=day)).isoformat() for day in (0, 100, 50, 101)]
    rows: list[Sequence[object]] = [["time", "v"], *([time, 1] for time in times)]
    _, metrics = drafted(written(tmp_path / "x.csv", rows))
    assert metrics["v"]["out_of_orderness_us"] == 50 * 86_400_000_000
    assert metrics["v"]["max_age_us"] == 100 * 86_400_000_000


@pytest.mark.parametrize(
    ("seconds", "every"), [(299.7, "5min"), (1.0, "1s"), (0.0251, "25ms"), (90.01, "90s"), (86_399.0, "1d")]
)
def test_an_interval_that_wanders_is_rounded(tmp_path: Path, seconds: float, every: str) -> None:
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    times = [(start + dt.timedelta(seconds=n * seconds)).isoformat(timespec="microseconds") for n in range(9)]
    assert (
        f'every = "{every}"' in drafted(written(tmp_path / "x.csv", [["time", "v"], *([time, 1] for time in times)]))[0]
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.xlsx", "", "its ending is none of .csv"),
        ("x.csv", "", "it has no rows"),
        ("x.csv", "time,v\n", "it has no rows"),
        ("x.csv", "time,time\n1,2\n", "two columns are called 'time'"),
        ("x.csv", "a,b\n1,2\n", "couldn't find the times: .*: a, b; name the column"),
        ("x.csv", "time\n2026-01-31 06:00:00\n", "no column beside time holds numbers"),
        ("x.csv", "time,v\n2026-02-31 06:00:00,1\n", "couldn't find the times"),
        ("x.csv", "time,v\n2026-01-31 06:00:00,1,2\n", "Expected 2 columns, got 3"),
        ("x.ndjson", "{", "couldn't read the file"),
        ("x.ndjson", '{"time": "2026-01-31T06:00:00Z", "v": {"deep": 1}}\n', "no column beside time"),
        ("x.parquet", "PAR1", "couldn't read the file"),
        ("a{b.csv", "time,v\n2026-01-31 06:00:00,1\n", "rename what a dictionary cannot name"),
    ],
)
def test_a_file_without_readings_is_an_input_error(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(InputError, match=message):
        dictionaries.draft(tmp_path / name)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", [["time", "v"], [BY_THE_SECOND.format(0), 1]])
    with pytest.raises(InputError, match=r"couldn't find the device column: line; .* has time, v"):
        dictionaries.draft(path, device="line")
    with pytest.raises(InputError, match="couldn't use the device column: v"):
        dictionaries.draft(path, device="v")
    with pytest.raises(InputError, match="couldn't find the times"):
        dictionaries.draft(path, time="v")


def test_neighbours_become_one_pattern() -> None:
    assert patterns(["pot-009", "pot-010", "pot-012"]) == ["pot-012", "pot-{009..010}"]
    assert patterns(["a9", "a10", "b", "7"]) == ["7", "a10", "a9", "b"]


def test_the_recorded_runs_are_drafted_so_that_none_of_their_readings_is_rejected(data: Path) -> None:
    files = sorted(data.glob("skab/data/**/*.csv")) + sorted(data.glob("nab/data/**/*.csv"))
    assert len(files) >= 40
    for path in files:
        dictionary = Dictionary.from_toml(dictionaries.draft(path))
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter=";" if "skab" in path.parts else ","))
        time = next(iter(rows[0]))
        bodies: list[bytes] = []
        enqueued: list[int] = []
        for row in rows:
            moment = dt.datetime.fromisoformat(row[time] + "+00:00")
            numbers = {name: float(value) for name, value in row.items() if name != time}
            bodies.append(json.dumps({time: row[time].replace(" ", "T") + "Z", **numbers}).encode())
            enqueued.append(max(int(moment.timestamp()) * 1_000_000, *enqueued[-1:], 0))
        batch = envelopes(bodies, range(len(rows)), enqueued, properties=[{"file": path.stem}] * len(rows))
        output = Partition("draft/1/0", dictionary).on_batch(batch)
        assert output.rejected.num_rows == 0, f"{path}: {output.rejected.slice(0, 3).to_pylist()}"
        assert output.readings.num_rows >= len(rows)
        assert output.windows.num_rows > 0


# The commands


def test_check_prints_what_a_dictionary_holds(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(["check", str(SMELTER)], capsys)
    assert code == 0
    assert "167 of 57 devices" in out
    assert out.endswith("no problems, 3 warnings\n")
    code, out, _ = command(["check", str(SMELTER), "--json"], capsys)
    found = json.loads(out)
    assert (code, found["ok"], found["series"], len(found["warnings"])) == (0, True, 167, 3)


def test_check_lists_every_problem_and_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('nmae = "x"', "utf-8")
    code, out, err = command(["check", str(path)], capsys)
    assert (code, out) == (2, "")
    assert 'did you mean "name"?' in err
    code, out, _ = command(["check", str(path), "--json"], capsys)
    assert code == 2
    assert json.loads(out)["ok"] is False
    code, _, err = command(["check", str(tmp_path / "absent.toml")], capsys)
    assert (code, err.startswith("error: couldn't read the data dictionary")) == (2, True)


def test_diff_counts_and_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "next.toml"
    path.write_text(SMELTER.read_text("utf-8").replace("furnace-{1..4}", "furnace-{1..3}"), "utf-8")
    code, out, _ = command(["diff", str(SMELTER), str(path)], capsys)
    assert code == 0
    assert "furnace-4" in out
    assert out.endswith("165 kept, 0 reset, 0 new, 2 removed\n")
    code, out, _ = command(["diff", str(SMELTER), str(path), "--json"], capsys)
    assert json.loads(out)["series"] == {"kept": 165, "reset": 0, "new": 0, "removed": 2}
    code, out, _ = command(["diff", str(SMELTER), str(SMELTER)], capsys)
    assert (code, out.startswith("no difference")) == (0, True)


def test_init_writes_a_draft_that_passes_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readings = written(tmp_path / "pump.csv", [["time", "v"], *([BY_THE_SECOND.format(n), n] for n in range(9))])
    target = tmp_path / "pump.toml"
    code, out, _ = command(["init", str(readings)], capsys)
    assert (code, out) == (0, dictionaries.draft(readings))
    code, out, err = command(["init", str(readings), "-o", str(target)], capsys)
    assert (code, out) == (0, "")
    assert "dictionary check" in err
    assert command(["check", str(target)], capsys)[0] == 0
    code, _, err = command(["init", str(readings), "-o", str(target)], capsys)
    assert (code, "--force" in err) == (2, True)
    assert command(["init", str(readings), "-o", str(target), "--force"], capsys)[0] == 0

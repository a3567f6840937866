"""The command `replay`: rows reach the lake, a second call continues, and files that changed are refused."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest
from deltalake import DeltaTable

from alumicatalyst._core import Dictionary
from alumicatalyst.cli import main as program
from alumicatalyst.lake import Lake
from alumicatalyst.pipeline import Pipeline
from alumicatalyst.runner import run_loop
from alumicatalyst.sources.replay import ROWS_PER_FILE, ReplaySource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from alumicatalyst.operator import Analysed

DICTIONARY = """
name = "rig"
version = "1"
site = "example/rig"
time_zone = "UTC"
[payload]
device = "unit"
time = {field = "ts", format = "rfc3339"}
[time]
out_of_orderness = "1s"
[default]
windows = ["10s"]
[machine.pump]
device = "pump-{1..3}"
asset = "rig/{device}"
pressure = {unit = "bar", range = [0, 100]}
"""


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rig.toml").write_text(DICTIONARY)
    for name, hour in (("a.csv", 1), ("b.csv", 2)):
        rows = [f"2026-01-01T{hour:02d}:00:{i % 60:02d}Z,pump-{i % 3 + 1},{i}" for i in range(120)]
        (tmp_path / name).write_text("ts,unit,pressure\n" + "\n".join([*rows, "broken"]) + "\n")
    return tmp_path


def replay(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    options = ["--dictionary", str(folder / "rig.toml"), "--lake", f"file:{folder / 'lake'}"]
    with pytest.raises(SystemExit) as ended:
        program.main(["replay", *(str(folder / a) if a.endswith(".csv") else a for a in arguments), *options])
    shown = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, shown.out, shown.err


def test_a_second_call_continues_and_may_add_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = replay(folder, capsys, "a.csv", "--json")
    first = json.loads(out)
    assert code == 0
    # The second half comes a minute late; pressures above 100 are out of range, and the last row has too few columns.
    assert (first["windowed"], first["late"], first["rejected"]) == (60, 41, 20)
    assert first["unreadable"] == 1
    assert first["windows"] == 18
    code, out, _ = replay(folder, capsys, "a.csv")
    assert code == 0
    assert out.startswith("nothing new")
    code, out, _ = replay(folder, capsys, "a.csv", "b.csv", "--json")
    assert code == 0
    assert json.loads(out)["readings"] == first["readings"]
    assert json.loads(out)["partitions"] == first["partitions"]


def test_the_summary_says_what_to_type_next(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = replay(folder, capsys, "a.csv", "--partitions=2")
    assert code == 0
    assert "121 readings = 60 windowed, 41 late, 0 duplicate, 20 rejected; 18 windows" in out
    assert f"alumicatalyst lake query --lake file:{folder / 'lake'}" in out


def test_windows_stay_open_without_a_flush(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = replay(folder, capsys, "a.csv", "--no-flush", "--json")
    assert 0 < json.loads(out)["windows"] < 18


def test_a_file_that_changed_is_refused_with_its_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(folder, capsys, "a.csv", "b.csv")[0] == 0
    (folder / "b.csv").write_text("ts,unit,pressure\n2026-01-01T05:00:00Z,pump-1,1\n")
    code, _, err = replay(folder, capsys, "a.csv", "b.csv")
    assert code == 3
    assert "file 2 was b.csv" in err
    code, _, err = replay(folder, capsys, "a.csv")
    assert code == 3
    assert "is missing" in err


def stored(folder: Path) -> list[tuple[object, ...]]:
    """The readings and windows of the lake, in order."""
    return [
        tuple(row.values())
        for table in ("readings", "windows", "rejected")
        for row in sorted(DeltaTable(folder / "lake" / table).to_pyarrow_table().to_pylist(), key=str)
    ]


def insert_on_top(path: Path) -> None:
    path.write_text(path.read_text().replace("\n", "\n2026-01-01T01:59:59Z,pump-1,7\n", 1))


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ((), ("--partitions=4",), "--partitions was 1 and is 4"),
        (("--partitions=2",), (), "--partitions was 2 and is 1"),
        ((), ("--utc-offset=+02:00",), "--utc-offset was not given and is +02:00"),
        (("--enqueued=ts",), (), "--enqueued was ts and is not given"),
        ((), ("--separator=;",), "--separator was not given and is ;"),
    ],
)
@pytest.mark.parametrize("flush", [(), ("--no-flush",)])
def test_i3_the_same_files_with_other_options_are_refused_and_store_nothing(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    first: tuple[str, ...],
    then: tuple[str, ...],
    message: str,
    flush: tuple[str, ...],
) -> None:
    assert replay(folder, capsys, "a.csv", *first, *flush)[0] == 0
    before = stored(folder)
    code, _, err = replay(folder, capsys, "a.csv", *then)
    assert code == 2
    assert message in err
    assert stored(folder) == before
    assert replay(folder, capsys, "a.csv", *first)[0] == 0


def test_i3_a_later_file_that_changed_without_a_flush_is_refused_with_its_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(folder, capsys, "a.csv", "b.csv", "--no-flush")[0] == 0
    before = stored(folder)
    insert_on_top(folder / "b.csv")
    code, _, err = replay(folder, capsys, "a.csv", "b.csv")
    assert code == 3
    assert "file 2 was b.csv" in err
    assert "has changed" in err
    assert stored(folder) == before


@pytest.mark.parametrize("added", [False, True])
def test_i3_a_later_file_that_changed_after_a_run_was_cut_short_is_refused_with_its_name(
    folder: Path, capsys: pytest.CaptureFixture[str], *, added: bool
) -> None:
    if added:
        assert replay(folder, capsys, "a.csv", "--name=plant", "--no-flush")[0] == 0
    dictionary = Dictionary.from_toml(DICTIONARY)
    source = ReplaySource([folder / "a.csv", folder / "b.csv"], dictionary, name="plant", batch_envelopes_max=50)
    lake = Lake.open(f"file:{folder / 'lake'}")
    pipeline = Pipeline(source, dictionary, lake, flush_interval_s=0.0, flush_rows_max=1)

    class Cut(Exception):
        pass

    def cut(item: Analysed) -> None:
        assert item.output is not None
        if item.output.last > ROWS_PER_FILE:
            raise Cut

    with pytest.raises(Cut):
        run_loop(pipeline, on_item=cut)
    before = stored(folder)
    assert len(before) > 121
    insert_on_top(folder / "b.csv")
    code, _, err = replay(folder, capsys, "a.csv", "b.csv", "--name=plant")
    assert code == 3
    assert "file 2 was b.csv" in err
    assert stored(folder) == before


def test_another_first_file_under_the_same_name_is_refused_until_accepted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(folder, capsys, "a.csv", "--name=plant")[0] == 0
    code, _, err = replay(folder, capsys, "b.csv", "--name=plant")
    assert code == 3
    assert "plant" in err
    assert replay(folder, capsys, "b.csv", "--name=plant", "--accept-incarnation")[0] == 0
    assert replay(folder, capsys, "b.csv")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code"), [(["none.csv"], 2), (["a.csv", "--utc-offset=Oslo"], 2), (["a.csv", "--time=when"], 2)]
)
def test_what_cannot_be_read_ends_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    got, _, err = replay(folder, capsys, *arguments)
    assert got == code
    assert err.startswith("error: couldn't")
    assert len(err.splitlines()) == 1

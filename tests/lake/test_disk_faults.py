"""A full, read-only or forbidden disk: a clear error, an intact table, and a lake that goes on once it is mended."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import Lake
from alumicatalyst.lake.doctor import examine
from tests.lake import plant
from tests.lake.power import between, where

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
UNTIL = 30
BEFORE = 11

REMEDIES = {
    errno.ENOSPC: "free space on that file system",
    errno.EDQUOT: "have the quota raised",
    errno.EROFS: "mount that file system for writing",
    errno.EACCES: "let the process's user write there",
    errno.EMFILE: "raise the limit of open files",
    errno.EIO: "look at the disk",
}
LASTING = (errno.EROFS, errno.EACCES)
STEPS = {
    "the folder of a day": ("make", "date="),
    "a file": ("create", "readings/date="),
    "the bytes of a file": ("write", "windows/date="),
    "the sync of a file": ("sync", "alarms/date="),
    "the name of a file": ("rename", "rejected/date="),
    "the bytes of a commit": ("write", "readings/_delta_log/"),
    "the name of a commit": ("link", "readings/_delta_log/"),
    "the name of a seal": ("link", "batches/_delta_log/"),
    "the sync of a folder": ("sync", "batches/_delta_log"),
}


def fail_at(monkeypatch: pytest.MonkeyPatch, step: str, number: int, goes_on: Callable[[], bool]) -> list[Path]:
    """Let every such step fail for as long as it goes on."""
    name, part = STEPS[step]
    met: list[Path] = []

    def around(_: int, called: str, arguments: tuple[Any, ...], act: Callable[[], Any]) -> Any:
        path = where(arguments)
        # A new day begins only with the flush behind the first ones; all else is met by the first flush.
        if called == name and part in f"{path}/" and goes_on():
            met.append(path)
            raise OSError(number, os.strerror(number), *([] if called in {"write", "sync"} else [str(path)]))
        return act()

    between(monkeypatch, around)
    return met


def assert_intact(lake: Path) -> None:
    """Every reader finds rows of the log and nothing else, none twice, and no half file has a whole file's name."""
    there = Lake.open(str(lake), create=False)
    expected = plant.undisturbed(UNTIL)
    for name, rows in plant.stored(there).items():
        assert all(row in expected[name] for row in rows)
        assert len(rows) == len({(row["sequence_number"], row["item"], str(row)) for row in rows})
    for path in lake.rglob("*.parquet"):
        assert path.read_bytes()[-4:] == b"PAR1", path
    for path in lake.rglob("_delta_log/*.json"):
        assert path.read_bytes().endswith(b"}\n"), path


# Every step in two of the ways that a disk can fail, and every way at three steps.
CASES = [
    (step, number)
    for at, step in enumerate(STEPS)
    for other, number in enumerate(REMEDIES)
    if other in {at % len(REMEDIES), (at + 3) % len(REMEDIES)}
]


@pytest.mark.parametrize(("step", "number"), CASES, ids=[f"{step}-{errno.errorcode[number]}" for step, number in CASES])
def test_i5_a_disk_that_fails_ends_in_a_clear_error_and_goes_on_once_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    place = tmp_path / "lake"
    plant.run(Lake.open(str(place)), 2, flush_every=3, state_every=1)
    lake = Lake.open(str(place), patience_s=0)
    resume = lake.resume(plant.PARTITION, dictionary=plant.FakeDictionary(), first_sequence=0)
    sink = plant.sink_of(lake)
    sink.write(plant.item(resume, plant.operator_of(lake, resume).take(resume.after + 1, UNTIL)))
    with monkeypatch.context() as broken:
        met = fail_at(broken, step, number, lambda: True)
        with pytest.raises(LakeError) as caught:
            sink.flush()
    said = str(caught.value)
    assert os.strerror(number) in said
    assert str(place) in said
    assert REMEDIES[number] in said
    assert "nothing is lost" in said
    # A folder that is forbidden or read-only stays so; all else may be mended while one waits.
    assert len(met) == 1 if number in LASTING else len(met) >= 4
    assert_intact(place)
    # The same sink, and another process if this one has ended.
    if number in LASTING:
        plant.run(Lake.open(str(place)), UNTIL)
    else:
        sink.flush()
    plant.assert_exact(Lake.open(str(place)), UNTIL)
    assert examine(Lake.open(str(place))).ok


@pytest.mark.parametrize("step", ["a file", "the bytes of a commit", "the sync of a folder"])
def test_i5_a_disk_that_is_mended_while_the_lake_waits_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    left, lake = iter(range(7)), Lake.open(str(tmp_path / "lake"), patience_s=60)
    with monkeypatch.context() as broken:
        met = fail_at(broken, step, errno.ENOSPC, lambda: next(left, None) is not None)
        plant.run(lake, UNTIL, flush_every=10)
    assert len(met) == 7
    plant.assert_exact(Lake.open(str(tmp_path / "lake")), UNTIL)


def test_what_a_crash_left_unfinished_is_never_taken_for_data(tmp_path: Path) -> None:
    place = tmp_path / "lake"
    plant.run(Lake.open(str(place)), BEFORE)
    for folder in (next((place / "readings").glob("date=*")), place / "readings" / "_delta_log", place / "_state"):
        for name in ("00000000000000000099.json.0123.tmp", "part-1.parquet.0123.tmp", "00000000000000000010.0123.tmp"):
            (folder / name).write_bytes(b"half")
    plant.run(Lake.open(str(place)), UNTIL)
    plant.assert_exact(Lake.open(str(place)), UNTIL)


def test_a_folder_that_may_not_be_looked_into_is_an_error_and_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.open(str(tmp_path / "lake"), patience_s=0)
    plant.run(lake, BEFORE, state_every=1)
    real = os.scandir

    def forbidden(path: Any) -> Any:
        if "_state" in os.fspath(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(LakeError, match=r"couldn't take partition .*Permission denied.*_state.*let the process's user"):
        lake.resume(plant.PARTITION, dictionary=plant.FakeDictionary(), first_sequence=0)


# --- the operating system itself


STORY = f"""
import contextlib, json, os, resource, sys
from pathlib import Path
from alumicatalyst import _core
from alumicatalyst.errors import AlumicatalystError
from alumicatalyst.lake import Lake
from tests.lake import plant
_core.state_info = plant.state_info
condition, place = sys.argv[1], Path(sys.argv[2])
for each in (place.with_name("warm"), place):  # What is imported late is there by then.
    plant.run(Lake.open(str(each)), {BEFORE}, state_every=1)
plant.assert_exact(Lake.open(str(place)), {BEFORE})

@contextlib.contextmanager
def limit(which, value):
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (soft, hard))

@contextlib.contextmanager
def unprivileged():
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)

@contextlib.contextmanager
def full():
    ballast = place.parent / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        ballast.unlink()

def condition_of():
    if condition == "small files":
        return limit(resource.RLIMIT_FSIZE, 2_000)
    if condition == "few handles":
        return limit(resource.RLIMIT_NOFILE, 3)  # Whatever is open stays so, and nothing more can be opened.
    if condition == "another user":
        return unprivileged()
    return full()

lake = Lake.open(str(place), patience_s=0)
resume = lake.resume(plant.PARTITION, dictionary=plant.FakeDictionary(), first_sequence=0)
operator, sink = plant.operator_of(lake, resume), plant.sink_of(lake)
sink.write(plant.item(resume, operator.take(resume.after + 1, {UNTIL})))
said = "nothing"
with condition_of():
    try:
        sink.flush()
    except AlumicatalystError as error:
        said = str(error)
plant.run(Lake.open(str(place)), {UNTIL})
plant.assert_exact(Lake.open(str(place)), {UNTIL})
print(json.dumps(said))
"""


def tell(condition: str, place: Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", STORY, condition, place],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3_000:]
    said: str = json.loads(ran.stdout)
    assert str(place) in said, said
    return said


def test_i5_a_file_larger_than_the_limit_is_told(tmp_path: Path) -> None:
    said = tell("small files", tmp_path / "lake")
    assert "File too large" in said
    assert "raise the limit of a file's size (ulimit -f)" in said


def test_i5_too_many_open_files_are_told(tmp_path: Path) -> None:
    said = tell("few handles", tmp_path / "lake")
    assert "Too many open files" in said
    assert "raise the limit of open files (ulimit -n)" in said


def test_i5_a_folder_of_another_user_is_told() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may become another user; the layer above shows the same error")
    # Not pytest's own folders: only their owner may enter those, and nobody else's are to be opened.
    with tempfile.TemporaryDirectory(prefix="alumicatalyst-") as folder:
        Path(folder).chmod(0o755)
        said = tell("another user", Path(folder) / "lake")
    assert "Permission denied" in said
    assert "let the process's user write there" in said


def test_i5_a_full_file_system_is_told(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", tmp_path], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(
            f"may not mount a small file system ({mounted.stderr.strip()}); the layer above shows the same error"
        )
    try:
        said = tell("full", tmp_path / "lake")
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert "No space left on device" in said
    assert "free space on that file system" in said

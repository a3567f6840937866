"""Which partitions a process takes: all, some by id, or its share; and what becomes of one that has none."""

from __future__ import annotations

import signal
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from alumicatalyst.errors import SettingsError, SourceError
from alumicatalyst.settings import load_settings
from alumicatalyst.sources.share import Share
from alumicatalyst.testing.eventhubs import Emulator
from tests.kill.harness import BYTEWAX, LOOP, Ground
from tests.scale_ground import logs_of

if TYPE_CHECKING:
    from pathlib import Path

TWELVE = [f"plant/1/{number}" for number in range(12)]


def ids(chosen: str, partitions: list[str]) -> list[str]:
    return [each.split("/")[2] for each in Share.parse(chosen).of(partitions)]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [("0,10,2", ["0", "2", "10"]), ("1/5", ["1", "6", "11"]), ("0/1", [str(n) for n in range(12)]), ("12/13", [])],
)
def test_a_process_takes_the_share_that_the_settings_say(chosen: str, expected: list[str]) -> None:
    assert ids(chosen, TWELVE) == expected


@pytest.mark.parametrize("replicas", [1, 2, 3, 5, 12, 20])
def test_i2_equal_processes_take_every_partition_once(replicas: int) -> None:
    shares = [ids(f"{ordinal}/{replicas}", TWELVE) for ordinal in range(replicas)]
    assert sorted(chain.from_iterable(shares), key=int) == [str(n) for n in range(12)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_partition_stays_with_its_process_when_the_source_gets_more_of_them() -> None:
    more = TWELVE + [f"plant/1/{number}" for number in range(12, 20)]
    for ordinal in range(3):
        assert set(ids(f"{ordinal}/3", TWELVE)) <= set(ids(f"{ordinal}/3", more))


def test_ids_that_are_no_numbers_are_counted() -> None:
    named = ["plant/1/north", "plant/1/east", "plant/1/west"]
    assert (ids("0/2", named), ids("1/2", named)) == (["north", "east"], ["west"])


def test_partitions_of_several_sources_whose_ids_are_alike_are_all_taken() -> None:
    alike = TWELVE + [each.replace("plant", "hall") for each in TWELVE]
    assert Share().of(alike) == alike
    shares = [Share.parse(f"{ordinal}/3").of(alike) for ordinal in range(3)]
    assert sorted(chain.from_iterable(shares)) == sorted(alike)
    assert {each.split("/")[0] for each in shares[1]} == {"plant", "hall"}


def test_a_partition_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match="couldn't find partitions of the source: 12, x; it has 0, 1, "):
        ids("12,3,x", TWELVE)


@pytest.mark.parametrize("chosen", ["5/5", "6/5", "0/0", "1/", "/2", "", "-1/2", "a/b"])
def test_a_share_that_is_none_is_refused_before_anything_starts(chosen: str) -> None:
    with pytest.raises(SettingsError, match=r"source\.partitions"):
        Share.parse(chosen)
    with pytest.raises(SettingsError, match=r"source\.partitions"):
        load_settings(source__partitions=chosen)


@pytest.mark.parametrize("runner", [LOOP, "run --runner bytewax", BYTEWAX + " -w 2"])
def test_a_process_without_a_partition_says_so_and_waits_to_be_stopped(
    runner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground = Ground(tmp_path, {}, settings={"source__kind": "eventhubs", "log_format": "json"}, finite=False)
    with Emulator({"telemetry": 2}) as emulator:
        monkeypatch.setenv("EVENTHUBS_CONNECTION_STRING", emulator.connection_string("telemetry"))
        child = ground.start(runner, source__partitions="2/3")
        child.wait_until(lambda _: "no partition is left for this process" in child.output.read_text())
        assert child.process.poll() is None
        child.process.send_signal(signal.SIGTERM)
        life = child.end()
    assert life.code == 0, life.output[-3000:]
    assert life.count("claim:") == 0
    assert '"drain' in life.output


@pytest.mark.parametrize("runner", [LOOP, "run --runner bytewax -w 2"])
def test_a_process_without_a_partition_ends_where_the_input_has_an_end(runner: str, tmp_path: Path) -> None:
    ground = Ground(tmp_path, logs_of(840, 1, 20))
    life = ground.start(runner, source__partitions="1/2").end()
    assert life.code == 0, life.output[-3000:]
    assert "no partition is left for this process" in life.output
    assert life.count("claim:") == 0
    ground.finish(runner)
    ground.assert_whole()

"""What could grow has a limit, and reaching it is counted under its own name (I6)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alumicatalyst._core import Dictionary, Output, Partition
from alumicatalyst.errors import DictionaryError
from alumicatalyst.sources import envelopes

PLANT = """
name = "bounds"
version = "1"
site = "example/test"
time_zone = "UTC"
[payload]
device = ["device"]
time = {field = "ts", format = "epoch_s"}
metric = "metric"
value = "value"
unknown = "accept"
[time]
duplicates = 4
[default]
windows = ["10s"]
detector = "none"
[bounds]
series = 5
body_bytes = 10_000
readings_per_envelope = 20
depth = 4
[machine.pot]
device = "pot-1"
asset = "line-1/pot-1"
cell_voltage = {unit = "V", every = "1s"}
"""
NOW_S = 1_790_000_000


def reading(device: str, **more: Any) -> dict[str, Any]:
    return {"device": device, "ts": NOW_S, "metric": "cell_voltage", "value": 4.2, **more}


def feed(*bodies: object, partition: Partition | None = None) -> Output:
    partition = partition or Partition("test/1/0", Dictionary.from_toml(PLANT))
    texts = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
    first = partition.last_sequence + 1
    return partition.on_batch(
        envelopes(texts, list(range(first, first + len(texts))), [NOW_S * 1_000_000] * len(texts))
    )


def reasons(output: Output) -> list[str]:
    return [str(reason) for reason in output.rejected.column("reason").to_pylist()]


def test_i6_series_stop_at_their_bound_and_the_rest_are_counted() -> None:
    partition = Partition("test/1/0", Dictionary.from_toml(PLANT))
    output = feed([reading(f"device-{number}") for number in range(8)], partition=partition)
    assert output.readings.num_rows == 5
    assert reasons(output) == ["too_many_series"] * 3
    assert output.counts.column("rows_rejected").to_pylist() == [3]
    again = feed([reading("device-0", ts=NOW_S + 1), reading("device-9")], partition=partition)
    assert again.readings.num_rows == 1, "a series that is known goes on"
    assert reasons(again) == ["too_many_series"]


def test_i6_the_bound_on_series_holds_over_a_restart() -> None:
    partition = Partition("test/1/0", Dictionary.from_toml(PLANT))
    feed([reading(f"device-{number}") for number in range(5)], partition=partition)
    resumed = Partition("test/1/0", Dictionary.from_toml(PLANT), partition.snapshot())
    assert reasons(feed(reading("device-9"), partition=resumed)) == ["too_many_series"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (reading("pot-1", note="x" * 10_000), "too_large"),
        ([reading("pot-1")] * 21, "too_many_readings"),
        (reading("pot-1", note=[[[[0]]]]), "too_deep"),
    ],
)
def test_i6_a_body_is_rejected_at_its_bounds_and_kept_short(body: object, reason: str) -> None:
    output = feed(body)
    assert reasons(output) == [reason]
    assert output.rejected.column("item").to_pylist() == [-1]
    length = len(json.dumps(body).encode())
    assert output.rejected.column("body_bytes").to_pylist() == [length]
    assert len(output.rejected.column("body").to_pylist()[0]) == min(length, 4096)


def test_i6_one_below_its_bounds_is_no_rejection() -> None:
    output = feed([reading("pot-1", ts=NOW_S - number) for number in range(20)], reading("pot-1", note=[[[0]]]))
    assert reasons(output) == []


def test_i6_a_dictionary_cannot_ask_for_more_than_the_core_allows() -> None:
    with pytest.raises(DictionaryError, match=r"(?s)series.*allowed"):
        Dictionary.from_toml(PLANT.replace("series = 5", "series = 1_000_000_000_000"))

"""The log is one event a line, bounded, on standard error, and shows no key."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst import log
from tests.conftest import log_restored

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with log_restored("alumicatalyst", "flows"):
        yield


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    shown = capsys.readouterr()
    assert shown.out == ""
    return [json.loads(line) for line in shown.err.splitlines()]


def test_an_event_is_one_json_object_with_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json")
    log.get_logger("alumicatalyst.test").info("lake committed", table="readings", rows=10, seconds=0.5, last=None)
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "lake committed",
        "level": "info",
        "logger": "alumicatalyst.test",
        "table": "readings",
        "rows": 10,
        "seconds": 0.5,
        "last": None,
    }


def test_the_console_form_is_one_readable_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("console")
    log.get_logger("alumicatalyst.test").warning("claim lost", partition="a/b/0")
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "claim lost" in shown
    assert "partition=a/b/0" in shown


def test_configuring_again_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("console")
    log.configure("json")
    log.get_logger("alumicatalyst.test").info("once")
    assert len(lines(capsys)) == 1


def test_other_libraries_are_heard_from_warnings_on(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json")
    logging.getLogger("somebody.elses").info("attached")
    logging.getLogger("somebody.elses").warning("link lost to %s", "hub")
    assert [line["event"] for line in lines(capsys)] == ["link lost to hub"]


@pytest.mark.parametrize(
    "text",
    [
        "Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey=c2VjcmV0;EntityPath=hub",
        "AccountName=a;AccountKey=c2VjcmV0;",
        "https://a.example/c?sv=2024&sig=c2VjcmV0&se=1",
        "Authorization: Bearer c2VjcmV0",
    ],
)
def test_keys_are_hidden_wherever_they_stand(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json")
    logger = log.get_logger("alumicatalyst.test")
    logger.info(text, note=text, nested={"a": [text]}, body=text.encode())
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("could not connect")
    logging.getLogger("azure").error("failed: %s", text)
    assert "c2VjcmV0" not in capsys.readouterr().err


def test_values_under_a_secret_name_are_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json")
    log.get_logger("alumicatalyst.test").info(
        "opened", connection_string="a", account_key="b", sas_token="c", password="d"
    )
    (line,) = lines(capsys)
    assert {line[key] for key in ("connection_string", "account_key", "sas_token", "password")} == {"***"}


def test_long_values_and_many_keys_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json")
    many = {f"k{number}": number for number in range(1_000)}
    log.get_logger("alumicatalyst.test").info("x" * 1_000_000, body=b"\xff" * 10_000_000, **many)
    (line,) = lines(capsys)
    assert len(line["event"]) < 2 * log.VALUE_CHARS_MAX
    assert line["keys_dropped"] > 900
    assert len(json.dumps(line)) < 20_000


def test_a_traceback_keeps_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    def deep(levels: int) -> None:
        if levels == 0:
            raise ValueError("the reason")
        deep(levels - 1)
        deep(levels - 2)

    log.configure("json")
    try:
        deep(200)
    except ValueError:
        log.get_logger("alumicatalyst.test").exception("failed")
    (line,) = lines(capsys)
    assert line["exception"].endswith("ValueError: the reason")
    assert len(line["exception"]) < 10_000

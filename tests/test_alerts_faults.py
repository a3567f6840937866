"""The alert sink against an API that fails: a table of steps and faults, and a flow that waits for none of it."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import REGISTRY

from alumicatalyst.errors import SettingsError
from alumicatalyst.settings import Secret
from alumicatalyst.sinks import alerts_client, alerts_poster
from alumicatalyst.sinks.alerts_client import Client
from tests.hubs import certificates
from tests.lake.plant import PARTITION
from tests.parts.ports import held_port
from tests.posting import Process, assert_same, is_settled, key, lake, recorder
from tests.recorder import KEY, Fault, Recorder

__all__ = ["key", "lake", "recorder"]

KINDS = ("alarms", "windows", "latest")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts_poster, "LANE_PAUSE_S", 0.05)
    monkeypatch.setattr(alerts_poster, "REGAP_S", 0.05)
    monkeypatch.setattr(alerts_client, "_READ_S", 1.0)


def errors(reason: str) -> float:
    return REGISTRY.get_sample_value("alumicatalyst_alerts_errors_total", {"reason": reason}) or 0.0


STEPS = [*KINDS, "commits", *(f"{kind} from the lake" for kind in KINDS)]


@pytest.mark.parametrize("fault", ["failed", "lost"], ids=["failed", "failed but persisted"])
@pytest.mark.parametrize("step", STEPS)
def test_i5_a_step_that_fails_is_made_again_and_applied_once(step, fault, lake, recorder, key):
    kind = step.split()[0]
    process = Process(lake, recorder.url, key)
    process.go(30)
    process.commit()
    recorder.wait_until(lambda it: is_settled(it, lake))
    ordered = Fault(fault, 2, (kind,), refill=None if kind == "commits" else step != kind)
    recorder.order(ordered)
    if step != kind:
        recorder.forget()
    process.go(90)
    process.commit()
    recorder.wait_until(lambda it: ordered.times == 0 and is_settled(it, lake))
    process.end()
    assert_same(recorder, lake)


FAULTS = {
    "failed": "failed",
    "503": "busy",
    "429": "busy",
    "401": "refused",
    "403": "refused",
    "404": "rejected",
    "422": "rejected",
    "302": "rejected",
    "204": "rejected",
    "409": "nonsense",
    "lost": "unreachable",
    "reset": "unreachable",
    "hang": "timeout",
    "short": "unreachable",
    "garbage": "nonsense",
    "nonsense": "nonsense",
    "html": "nonsense",
    "endless": "nonsense",
}


@pytest.mark.parametrize(("fault", "reason"), FAULTS.items())
def test_the_flow_goes_on_whatever_the_api_answers_and_the_api_catches_up(fault, reason, lake, recorder, key, caplog):
    before = errors(reason)
    ordered = Fault(fault, -1)
    recorder.order(ordered)
    process = Process(lake, recorder.url, key)
    for last in (30, 60, 90):
        process.go(last)
        process.commit()
    assert lake.table("batches").refresh().mark(PARTITION) == 90
    recorder.wait_until(lambda _: errors(reason) - before >= 3)
    ordered.times = 0
    recorder.released.set()
    recorder.wait_until(lambda it: is_settled(it, lake))
    process.end()
    assert_same(recorder, lake)
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len([record for record in warnings if "not served" in record.getMessage()]) <= 5, "one for each condition"
    assert KEY not in caplog.text


def test_i9_a_mark_that_contradicts_the_post_is_no_answer(lake, recorder, key):
    before = errors("nonsense")
    process = Process(lake, recorder.url, key)
    process.go(20)
    recorder.wait_until(lambda it: all(it.mark(kind, PARTITION) == 20 for kind in KINDS))
    # As if two databases answered by turns: one says that it has everything, and takes it for a gap all the same.
    gap = recorder._gap
    recorder._gap = lambda kind, partition: (409, b'{"type": "urn:x:gap", "mark": 1000, "committed": -1}')
    recorder.marks["windows", PARTITION] = 3
    process.go(40)
    recorder.wait_until(lambda _: errors("nonsense") > before)
    recorder._gap = gap
    process.commit()
    recorder.wait_until(lambda it: is_settled(it, lake))
    process.end()


def test_an_api_that_is_not_there_yet_gets_everything_when_it_comes(lake, key):
    before = errors("unreachable")
    with held_port() as port:
        process = Process(lake, f"http://127.0.0.1:{port}", key)
        for last in (30, 60):
            process.go(last)
            process.commit()
        while errors("unreachable") == before:
            process.beat()
        with Recorder(port) as recorder:
            recorder.wait_until(lambda it: is_settled(it, lake))
            process.end()
            assert_same(recorder, lake)


def test_a_hanging_api_holds_up_neither_the_flow_nor_its_end(lake, recorder, key, monkeypatch):
    monkeypatch.setattr(alerts_client, "_READ_S", 60.0)
    monkeypatch.setattr("alumicatalyst.sinks.alerts.DRAIN_S", 0.2)
    recorder.order(Fault("hang", -1))
    process = Process(lake, recorder.url, key)
    process.go(5)
    recorder.wait_until(lambda it: len(it.posts) == 1)
    for last in range(50, 500, 50):
        process.go(last)
        process.commit()
    thread = process.alerts._thread
    process.end()
    assert len(recorder.posts) <= 2, "the first one hangs to the end"
    assert thread is not None
    # Long before the post would have ended by itself.
    thread.join(30)
    assert not thread.is_alive()


def test_a_key_that_was_replaced_is_read_again(lake, recorder, key):
    before = errors("refused")
    recorder.keys = {"alu_other_key"}
    process = Process(lake, recorder.url, key)
    process.go(30)
    recorder.wait_until(lambda _: errors("refused") > before)
    key.unlink()
    now = errors("refused")
    recorder.wait_until(lambda _: errors("refused") > now)
    key.write_text("alu_other_key")
    process.commit()
    recorder.wait_until(lambda it: is_settled(it, lake))
    process.end()
    assert_same(recorder, lake)


@pytest.mark.parametrize("content", ["", "alu_one\nalu_two", "alu_\x00", "alu_ü", "x" * 600])
def test_a_key_that_cannot_stand_in_a_header_is_refused_at_start_and_not_shown(content, key):
    key.write_text(content)
    with pytest.raises(SettingsError) as caught:
        Client("http://127.0.0.1:1", Secret(f"file:{key}"))
    assert "alu_" not in str(caught.value)
    assert "xxx" not in str(caught.value)


def test_posts_that_are_too_large_become_smaller(lake, recorder, key):
    recorder.bytes_max = 6_000
    recorder.order(down := Fault("503", -1))
    process = Process(lake, recorder.url, key)
    process.go(300)
    down.times = 0
    recorder.wait_until(lambda it: all(it.mark(kind, PARTITION) == 300 for kind in KINDS))
    recorder.forget()
    process.commit()
    process.go(303)
    process.commit()
    recorder.wait_until(lambda it: is_settled(it, lake))
    process.end()
    assert_same(recorder, lake)


def test_what_is_too_large_for_any_post_is_left_out_and_counted(lake, recorder, key):
    labels = {"kind": "windows"}
    before = REGISTRY.get_sample_value("alumicatalyst_alerts_dropped_rows_total", labels) or 0.0
    process = Process(lake, recorder.url, key)
    process.go(2)
    recorder.wait_until(lambda it: it.mark("windows", PARTITION) == 2)
    # Less than the schema alone: no row of windows fits, an empty table does.
    empty = min(post["bytes"] for post in recorder.posts if post["what"] == "windows")
    recorder.bytes_max = empty + 100
    process.go(30)
    recorder.wait_until(lambda it: it.mark("windows", PARTITION) == 30)
    assert (REGISTRY.get_sample_value("alumicatalyst_alerts_dropped_rows_total", labels) or 0.0) > before
    assert recorder.windows == {}
    recorder.bytes_max = 10**6
    process.go(60)
    process.commit()
    recorder.wait_until(lambda it: is_settled(it, lake))
    assert recorder.windows
    process.end()


def test_a_lake_that_cannot_be_read_is_tried_again(lake, recorder, key, tmp_path):
    before = errors("lake")
    process = Process(lake, recorder.url, key)
    process.go(90)
    process.commit()
    recorder.wait_until(lambda it: is_settled(it, lake))
    files = list((tmp_path / "lake" / "windows").glob("date=*/*.parquet"))
    for file in files:
        file.rename(file.with_suffix(".away"))
    recorder.forget()
    process.go(95)
    recorder.wait_until(lambda _: errors("lake") > before)
    for file in files:
        file.with_suffix(".away").rename(file)
    process.commit()
    recorder.wait_until(lambda it: is_settled(it, lake))
    process.end()
    assert_same(recorder, lake)


def test_a_defect_of_the_sink_stops_nothing(lake, recorder, key, monkeypatch, caplog):
    monkeypatch.setattr("alumicatalyst.sinks.alerts._DEFECT_PAUSE_S", 0.01)
    process = Process(lake, recorder.url, key)
    choose, left = process.alerts._poster._choose, [3]

    def broken(*arguments: object, **named: object) -> object:
        if left[0]:
            left[0] -= 1
            raise ZeroDivisionError("a defect")
        return choose(*arguments, **named)  # type: ignore[arg-type]

    process.alerts._poster._choose = broken  # type: ignore[method-assign, assignment]
    process.go(60)
    # A clean end does not wait for what fails three times in a row.
    recorder.wait_until(lambda it: it.mark("alarms", PARTITION) == 60)
    process.end()
    recorder.wait_until(lambda it: is_settled(it, lake))
    assert_same(recorder, lake)
    assert "ZeroDivisionError" in caplog.text


def test_an_api_with_a_private_certificate_is_verified(lake, key, tmp_path):
    tls, ca_file = certificates(tmp_path)
    before = errors("unreachable")
    with Recorder(tls=tls) as recorder:
        stranger = Process(lake, recorder.url, key)
        stranger.go(10)
        while errors("unreachable") == before:
            stranger.beat()
        stranger.kill()
        assert recorder.posts == []
        process = Process(lake, recorder.url, key, ca_file=ca_file)
        process.go(30)
        process.end()
        assert is_settled(recorder, lake)


def test_certificates_that_cannot_be_read_are_refused_at_start(key, tmp_path):
    for file in (tmp_path / "absent.pem", key):
        with pytest.raises(SettingsError, match=r"couldn't read certificate authorities: .*api\.ca_file"):
            Client("https://127.0.0.1:1", Secret(f"file:{key}"), str(file))

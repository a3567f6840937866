"""How long a lake that fails is tried again: by the clock, whatever others commit, and not where no patience helps."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from prometheus_client import REGISTRY

from alumicatalyst.errors import ClaimLost, LakeError
from alumicatalyst.lake import away, retry
from alumicatalyst.lake.retry import ATTEMPTS_MIN, ATTEMPTS_WHILE_DRAINING_MAX, Retry

RESET = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")


class Clock:
    """A monotonic clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


class Answered(Exception):
    """An error with an answer of the service, as the SDK raises it."""

    def __init__(self, status_code: int, **headers: str) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code
        self.response: Any = type("Response", (), {"headers": {k.replace("_", "-"): v for k, v in headers.items()}})()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(retry, "time", made)
    monkeypatch.setattr(away, "time", made)
    return made


@pytest.fixture(autouse=True)
def _no_other_lake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(away, "_known", type(away._known)())


def failing(error: Exception, times: int = 1_000_000) -> Any:
    """Something that fails so many times, and then returns how often it was asked."""
    asked = 0

    def act() -> int:
        nonlocal asked
        asked += 1
        if asked <= times:
            raise error
        return asked

    return act


def test_a_failure_is_put_up_with_by_the_clock_and_not_by_number(clock: Clock) -> None:
    began = clock.now
    with pytest.raises(LakeError, match=r"couldn't read it for \d+ s: Connection reset by peer; nothing is lost: mend"):
        Retry(600).call("read it", failing(RESET))
    assert 600 <= clock.now - began < 606
    assert Retry(600).call("read it", failing(RESET, times=90)) == 91
    assert max(clock.slept) <= 0.05, "whoever drains is heard at once"


def test_short_patience_makes_some_attempts_anyway(clock: Clock) -> None:
    act = failing(RESET, ATTEMPTS_MIN)
    with pytest.raises(LakeError, match="couldn't read it: Connection reset"):
        Retry(0).call("read it", act)
    assert act() == ATTEMPTS_MIN + 1


def test_commits_of_others_do_not_wear_patience_out(clock: Clock) -> None:
    attempts = Retry(10).attempts("commit")
    for number in attempts:
        if number == 2_000:
            break
        attempts.failed(RESET)
        attempts.conflict()
    assert clock.now > 200
    assert Retry(10).away.seconds() == 0


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/lake"), "let the process's user write there"),
        (OSError(errno.EROFS, "Read-only file system", "/lake"), "mount that file system for writing"),
        (Answered(403), "check lake.credential"),
        (Answered(401), "check lake.credential"),
    ],
)
def test_what_no_patience_mends_ends_at_once(clock: Clock, error: Exception, remedy: str) -> None:
    act = failing(error, 1)
    with pytest.raises(LakeError, match=remedy) as caught:
        Retry(600).call("commit", act)
    assert caught.value.__cause__ is error
    assert act() == 2
    assert clock.slept == []


def test_a_full_disk_is_waited_for_and_named(clock: Clock) -> None:
    with pytest.raises(LakeError, match="No space left on device: /lake; nothing is lost: free space"):
        Retry(60).call("commit", failing(OSError(errno.ENOSPC, "No space left on device", "/lake")))
    assert sum(clock.slept) >= 60


def test_our_own_errors_are_not_tried_again(clock: Clock) -> None:
    act = failing(ClaimLost("couldn't"), 1)
    with pytest.raises(ClaimLost):
        Retry(600).call("commit", act)
    assert act() == 2


@pytest.mark.parametrize(("headers", "seconds"), [({"retry_after": "7"}, 7), ({"x_ms_retry_after_ms": "2500"}, 2.5)])
def test_a_store_that_asks_to_be_left_alone_is(clock: Clock, headers: dict[str, str], seconds: float) -> None:
    Retry(600).call("commit", failing(Answered(429, **headers), 1))
    assert sum(clock.slept) == pytest.approx(seconds)
    clock.slept.clear()
    Retry(600).call("commit", failing(Answered(503, retry_after="86400"), 1))
    assert sum(clock.slept) == pytest.approx(retry.RETRY_AFTER_MAX_S)


def test_a_draining_process_makes_a_few_attempts_without_pauses(clock: Clock) -> None:
    act = failing(RESET, ATTEMPTS_WHILE_DRAINING_MAX)
    with pytest.raises(LakeError):
        Retry(600, lambda: True).call("commit", act)
    assert act() == ATTEMPTS_WHILE_DRAINING_MAX + 1
    assert clock.slept == []


def test_that_the_lake_is_away_is_told_once_and_that_it_is_back_too(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[float | None] = []

    def act() -> None:
        seen.append(REGISTRY.get_sample_value("alumicatalyst_lake_away_seconds"))
        if clock.now < 160:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused sig=abc")

    Retry(600).call("commit to readings", act)
    told: list[Any] = [record.msg for record in caplog.records if record.name == "alumicatalyst.lake.away"]
    assert [each["event"] for each in told] == ["lake away", "lake back"]
    assert told[0]["what"] == "commit to readings"
    assert "abc" not in str(told)
    assert told[1]["seconds"] >= 50
    assert seen[0] == 0
    assert seen[-1] is not None
    assert seen[-1] >= 50
    assert REGISTRY.get_sample_value("alumicatalyst_lake_away_seconds") == 0


def test_a_failure_that_is_over_soon_is_not_worth_a_word(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    Retry(600).call("commit", failing(RESET, 3))
    assert caplog.records == []

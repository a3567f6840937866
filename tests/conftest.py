"""What every test shares: the recorded data, hypothesis's profiles, and the rule that CI never skips in silence."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
IN_CI = bool(os.environ.get("CI"))

# Time limits are pytest's: one of an example, or of drawing some, only finds out what else runs on a shared machine.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.register_profile("long", settings.get_profile("dev"), max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))


@contextmanager
def log_restored(*names: str) -> Iterator[None]:
    """Leave the root logger's handlers, its level and those of these loggers as they were."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in (None, *names)}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


class Require(Protocol):
    def __call__(self, condition: object, missing: str) -> None: ...


@pytest.fixture(scope="session")
def require() -> Require:
    """Return `require(condition, missing)`, which skips a test that lacks something, and fails it in CI."""

    def check(condition: object, missing: str) -> None:
        if not condition:
            if IN_CI:
                pytest.fail(f"CI must not skip this test: {missing}")
            pytest.skip(missing)

    return check


@pytest.fixture(scope="session")
def data(require: Require) -> Path:
    """Return the folder of the recorded runs (skab, nab)."""
    folder = Path(os.environ.get("ALUMICATALYST_DATA", ROOT.parent / "shared" / "data"))
    require(folder.is_dir(), f"there are no recorded runs in {folder}; set ALUMICATALYST_DATA to their folder")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """Keep a developer's own settings out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in list(os.environ):
            if variable.startswith("ALUMICATALYST_") and not variable.startswith(
                ("ALUMICATALYST_DATA", "ALUMICATALYST_TEST_")
            ):
                patch.delenv(variable)
        yield

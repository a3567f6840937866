"""Fixtures of the lake's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from alumicatalyst import _core
from alumicatalyst.lake import Lake
from tests.lake import plant

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _states_of_the_plant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "state_info", plant.state_info)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(f"file:{tmp_path / 'lake'}")

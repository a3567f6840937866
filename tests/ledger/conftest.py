"""Fixtures of the ledger's tests: one site, made by the flow itself, and copies of it for those who change things."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.ledger import site as sites

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ledger.site import Site


@pytest.fixture(scope="session")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Return a site that nobody may change."""
    return sites.make(tmp_path_factory.mktemp("site"))


@pytest.fixture
def site(signed: Site, tmp_path: Path) -> Site:
    """Return a site of one's own."""
    return signed.copy(tmp_path / "own")

"""Maintenance on the blob service of a storage account: killed at each write of a compaction, and all of it once."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from alumicatalyst.errors import ClaimLost
from alumicatalyst.lake import Lake, archive
from alumicatalyst.lake.store import open_store
from alumicatalyst.maintenance.lease import Lease
from alumicatalyst.maintenance.trim import trim
from tests.lake import plant, upkeep
from tests.lake.upkeep import Hooked, NoLease
from tests.parts.azurite import Azurite, azurite

if TYPE_CHECKING:
    from alumicatalyst.lake.store import Store

__all__ = ["azurite"]

UNTIL = 34


@pytest.mark.slow
def test_i5_maintenance_through_abfss_loses_and_doubles_nothing(azurite: Azurite) -> None:
    uri = azurite.container("upkeep") + "/lake"
    options = azurite.storage_options

    def reopen(store: Store | None = None) -> Lake:
        lake = Lake.open(uri, storage_options=options)
        return lake if store is None else Lake(store, lake.retry)

    plant.run(reopen(), UNTIL, flush_every=2)
    before = upkeep.rows(reopen())
    for at in itertools.count():
        store = Hooked(open_store(uri, storage_options=options), at // 2, upkeep.kill, after=at % 2 == 1)
        ended = upkeep.survive(lambda store=store: upkeep.squeeze(reopen(store)))  # type: ignore[misc]
        assert upkeep.rows(reopen()) == before
        if ended:
            break
    assert at > 2
    lake = reopen()
    with Lease(lake) as lease:
        with pytest.raises(ClaimLost, match="couldn't start maintenance"):
            Lease(reopen())
        assert lease.now_s() > 1_600_000_000
        upkeep.sweep(lake, lease=lease)
        done = trim(lake, lease, ["readings"], signed=None, days=0, age_s_min=0, known_s=0)
    assert done[0].commits == 14
    assert upkeep.rows(reopen()) == before
    upkeep.assert_whole(reopen())
    assert len(dict(archive.commits(lake.store, "readings"))) == 14
    # A flow that has put its files when vacuum starts, and commits them afterwards.
    store = Hooked(open_store(uri, storage_options=options), 8, lambda: upkeep.sweep(reopen()), after=True)
    plant.run(reopen(store), UNTIL + 4, flush_every=4)
    plant.assert_exact(reopen(), UNTIL + 4)
    upkeep.assert_whole(reopen())
    upkeep.squeeze(reopen(), lease=NoLease())
    plant.assert_exact(reopen(), UNTIL + 4)

"""The lake on the blob service of a storage account, through adlfs and delta-rs, against Azurite."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from alumicatalyst.errors import ClaimLost
from alumicatalyst.lake import Lake
from alumicatalyst.lake.doctor import examine
from alumicatalyst.lake.query import select
from alumicatalyst.lake.store import open_store
from tests.lake import plant
from tests.lake.faults import Faults, Killed
from tests.parts.azurite import Azurite, azurite

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["azurite"]


@pytest.mark.timeout(300)
def test_i5_append_and_resume_through_abfss(azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "connection"
    secret.write_text(azurite.connection_string)
    uri = azurite.container("resume") + "/plants/north"

    def reopen() -> Lake:
        return Lake.open(uri, credential=f"file:{secret}")

    former = reopen()
    with monkeypatch.context() as patch:
        Faults(patch, lambda count, _: "killed after" if count == 40 else None)
        with pytest.raises(Killed):
            plant.run(former, 48, flush_every=4)
    zombie = former.resume(plant.PARTITION, dictionary=plant.FakeDictionary(), first_sequence=0)
    operator = plant.operator_of(former, zombie)
    plant.run(reopen(), 48, flush_every=3)
    lake = reopen()
    plant.assert_exact(lake, 48)
    # More commits than a checkpoint interval, so that handles were opened from a checkpoint too.
    assert lake.table("batches").refresh().version > 15
    sink = plant.sink_of(former)
    sink.write(plant.item(zombie, operator.take(zombie.after + 1, 60)))
    with pytest.raises(ClaimLost):
        sink.flush()
    report = examine(lake)
    assert report.ok, report.checks
    (found,) = [row for batch in select(lake, "SELECT count(*) AS n FROM readings") for row in batch.to_pylist()]
    assert found == {"n": len(plant.undisturbed(48)["readings"])}


def test_an_object_is_created_once_and_read_back(azurite: Azurite) -> None:
    uri = azurite.container("objects") + "/a"
    store = open_store(uri, storage_options=azurite.storage_options)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda at: store.create_if_absent("b/one", bytes([at])), range(8)))
    assert sum(made) == 1
    assert store.get("b/one") == bytes([made.index(True)])
    store.put("b/two", b"2" * 5_000_000)
    store.put("b/two", b"22")
    store.sync("b/two")
    assert list(store.list("b")) == [("b/one", 1), ("b/two", 2)]
    assert list(store.list("nothing")) == []
    store.delete("b/one")
    store.delete("b/one")
    with pytest.raises(FileNotFoundError):
        store.get("b/one")

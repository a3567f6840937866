"""The ledger of a lake on the blob service of a storage account, against Azurite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from alumicatalyst import _core
from alumicatalyst.lake import Lake
from alumicatalyst.lake.store import open_store
from alumicatalyst.ledger import evidence, prove
from alumicatalyst.ledger.log import LogReader
from alumicatalyst.ledger.place import Place
from alumicatalyst.ledger.process import Ledger
from alumicatalyst.ledger.verify import verify
from alumicatalyst.ledger.verify_report import Report
from alumicatalyst.maintenance.compact import compact
from alumicatalyst.maintenance.lease import Lease
from tests.lake import plant
from tests.parts.azurite import Azurite, azurite

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["azurite"]


@pytest.mark.timeout(300)
def test_a_lake_on_a_storage_account_is_signed_verified_and_proven(
    azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_core, "state_info", plant.state_info)
    secret = tmp_path / "connection"
    secret.write_text(azurite.connection_string)
    uri = azurite.container("ledger") + "/plants/north"
    lake = Lake.open(uri, credential=f"file:{secret}")
    plant.run(lake, 80, flush_every=4)
    place = Place(tmp_path / "ledger", tmp_path / "keys" / "ledger", "example.com/plant")

    def sign_and_verify() -> Report:
        report = Report()
        Ledger(place, lambda: open_store(uri, credential=f"file:{secret}"), interval_s=0.01).run(once=True)
        store = open_store(uri, credential=f"file:{secret}")
        verify(place.folder, place.verifier_key(), [], store, report)
        return report

    report = sign_and_verify()
    assert report.is_ok(strict=True), report
    assert report.figures["checkpoints"] > 0
    with Lease(lake) as lease:
        (done,) = compact(lake, lease, ["readings"], target_mb=256, files_min=2)
    assert done.files_before > done.files_after > 0
    report = sign_and_verify()
    assert report.is_ok(strict=True), report
    assert report.figures["batches moved"] > 0
    made = prove.prove_row(lake, LogReader(place.folder), place.verifier_key(), "readings sequence_number=17 item=0")
    found = evidence.verify(made, place.verifier_key())
    assert found.row is not None
    assert found.row["sequence_number"] == 17
    victim = next(path for path, _ in lake.store.list("windows") if "part-" in path)
    lake.store.put(victim, b"PAR1")
    assert [each.file for each in sign_and_verify().wrong.first] == [victim]

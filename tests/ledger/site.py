"""A lake that the real flow has written, signed by a ledger: made once, and copied for whoever harms it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable

from alumicatalyst.lake import tables
from alumicatalyst.lake.store import LocalStore
from alumicatalyst.ledger.log import LogReader
from alumicatalyst.ledger.place import Place
from alumicatalyst.ledger.process import Ledger
from alumicatalyst.ledger.verify import verify
from alumicatalyst.ledger.verify_log import read_earlier
from alumicatalyst.ledger.verify_report import Report
from tests.kill.harness import LOOP, Ground, is_quiet, make_logs

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN = "example.com/plant"


@dataclass
class Site:
    """A lake, and the ledger of it, in one folder."""

    folder: Path

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def log(self) -> Path:
        return self.folder / "ledger"

    @property
    def place(self) -> Place:
        return Place(self.log, self.folder / "keys" / "ledger", ORIGIN)

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.lake)

    def sign(self) -> int:
        return Ledger(self.place, lambda: self.store, interval_s=0.01).run(once=True)

    def verify(self, *checkpoints: Path) -> Report:
        report = Report()
        vkey = self.place.verifier_key()
        verify(self.log, vkey, [read_earlier(each, vkey) for each in checkpoints], self.store, report)
        return report

    def reader(self) -> LogReader:
        return LogReader(self.log)

    def delta(self, table: str) -> DeltaTable:
        return DeltaTable(str(self.lake / table))

    def copy(self, folder: Path) -> Site:
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Site(folder)

    def views(self) -> dict[str, Any]:
        """Everything that readers are given: versions, files with their statistics, transactions, metadata, rows."""
        return {name: self._view(name) for name in tables.SPECS}

    def _view(self, name: str) -> tuple[Any, ...]:
        handle = self.delta(name)
        files = pa.table(handle.get_add_actions(flatten=True)).to_pylist()
        marks = {each: handle.transaction_version(each) for each in self._applications(name)}
        told, protocol = handle.metadata(), handle.protocol()
        properties = told.id, told.name, told.partition_columns, told.created_time, told.configuration, str(protocol)
        metadata = *properties, handle.schema().to_json()
        rows = pl.scan_delta(str(self.lake / name)).collect().sort("_batch", "_row").to_dicts()
        return handle.version(), sorted(files, key=lambda row: str(row["path"])), marks, metadata, rows

    def _applications(self, name: str) -> set[str]:
        partitions = {"kill/1/0", "kill/1/1"}
        return {prefix + each for each in partitions for prefix in ("", "claim/", "journal/")}


def make(folder: Path, envelopes: int = 150) -> Site:
    """Let the flow write a lake, and the ledger sign it in two groups."""
    ground = Ground(folder / "ground", make_logs(900, envelopes))
    for quota in (envelopes // 2, 0):
        # Most of it is never sealed before it is killed.
        order = {"unsealed_s": 0.8}
        child = ground.start(
            LOOP, quota=quota, pace_s=0.0, order=order, lake__flush_rows_max=12, lake__flush_interval_s=60
        )
        if quota:
            child.wait_until(is_quiet)
            ground.bury(child)
        else:
            assert child.end().code == 0
        made = folder / "site"
        shutil.copytree(ground.lake, made / "lake", dirs_exist_ok=True)
        Site(made).sign()
    return Site(made)

"""The journal: committed before it is applied, every row once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from alumicatalyst.errors import LakeError
from alumicatalyst.lake import JournalRow, Lake, journal
from alumicatalyst.lake.table import Table
from tests.lake import plant

if TYPE_CHECKING:
    from alumicatalyst.lake import Resume


def take(lake: Lake, partition: str = plant.PARTITION) -> Resume:
    return lake.resume(partition, dictionary=plant.FakeDictionary(), first_sequence=0)


def test_rows_have_ordinals_without_gaps_and_come_back_with_the_next_resume(lake: Lake) -> None:
    resume = take(lake)
    flush = lake.append_journal(resume, "flush", 9, '{"sequence_number":10}')
    tick = lake.append_journal(resume, "tick", 12, "{}")
    assert flush == JournalRow(1, 9, "flush", '{"sequence_number":10}')
    assert take(lake).journal == (*resume.journal, flush, tick)
    other = take(lake, "telemetry/1/1")
    assert lake.append_journal(other, "tick", 3, "{}").ordinal == 1
    assert journal.partitions(lake.table("journal")) == [plant.PARTITION, "telemetry/1/1"]


def test_i5_a_row_that_is_asked_for_again_is_the_same_row(lake: Lake) -> None:
    first = lake.append_journal(take(lake), "flush", 9, "{}")
    assert lake.append_journal(take(lake), "flush", 9, "{}") == first
    assert lake.append_journal(take(lake), "flush", 10, "{}").ordinal == 2
    assert plant.scan(lake, "journal").height == 3


@pytest.mark.parametrize("persisted", [False, True])
def test_i5_a_row_whose_commit_fails_is_there_once(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, *, persisted: bool
) -> None:
    resume, commit = take(lake), Table.commit
    failed: list[bool] = []

    def fails_once(self: Table, *given: Any) -> None:
        if failed:
            commit(self, *given)
            return
        failed.append(True)
        if persisted:
            commit(self, *given)
        raise OSError("the answer was lost")

    monkeypatch.setattr(Table, "commit", fails_once)
    row = lake.append_journal(resume, "flush", 9, "{}")
    assert take(lake).journal == (*resume.journal, row)


def test_rows_that_are_missing_are_a_clear_error(lake: Lake) -> None:
    resume = take(lake)
    row = JournalRow(2, 9, "tick", "{}")
    with pytest.raises(LakeError, match="its last ordinal is 0, not 1; the table was rolled back"):
        journal.write(lake.table("journal"), plant.PARTITION, resume.claim, row, lake.retry)


def test_a_journal_that_was_changed_by_hand_is_refused(lake: Lake) -> None:
    from deltalake import DeltaTable, write_deltalake

    take(lake)
    table = DeltaTable(f"{lake.store.root}/journal")
    write_deltalake(table, plant.scan(lake, "journal").to_arrow(), mode="append")
    with pytest.raises(LakeError, match=r"its ordinals are \[0, 0\]"):
        take(Lake.open(lake.store.root))

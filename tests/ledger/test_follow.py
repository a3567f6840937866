"""The ledger signs every commit once, waits for a store that fails, and refuses a lake that it has not signed."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable

from alumicatalyst import _core
from alumicatalyst.errors import ClaimLost, LakeError, LedgerError, SettingsError
from alumicatalyst.lake import Lake, tables
from alumicatalyst.lake.store import LocalStore, open_store
from alumicatalyst.ledger import entry, follow, process
from alumicatalyst.ledger.entry import Add, Entry
from alumicatalyst.ledger.log import LogReader, LogWriter
from alumicatalyst.ledger.note import SigningKey
from alumicatalyst.ledger.place import Place, read_vkey
from alumicatalyst.ledger.process import Ledger
from tests.lake import plant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def _states_of_the_plant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "state_info", plant.state_info)


class Works:
    """A lake of the small operator, and a ledger of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = Lake.open(f"file:{folder / 'lake'}")
        self.store: Any = LocalStore(folder / "lake")
        self.place = Place(folder / "ledger", folder / "keys" / "ledger", "example.com/plant")

    def ledger(self, **options: Any) -> Ledger:
        return Ledger(self.place, lambda: self.store, **{"interval_s": 0.001, **options})

    def sign(self, **options: Any) -> int:
        return self.ledger(**options).run(once=True)

    def entries(self) -> list[Entry]:
        reader = LogReader(self.place.folder)
        return [entry.parse(data) for data in reader.entries(0, reader.size)]

    def hold(self) -> None:
        """Assert that every commit of every table has one entry, in the order of versions."""
        found = [(each.table, each.version) for each in self.entries()]
        wanted = [(name, version) for name in tables.SPECS for version in range(self.version(name) + 1)]
        assert Counter(found) == Counter(wanted)
        for name in tables.SPECS:
            versions = [version for table, version in found if table == name]
            assert versions == sorted(versions)

    def version(self, name: str) -> int:
        version: int = DeltaTable(str(self.folder / "lake" / name)).version()
        return version

    def commit(self, name: str, version: int) -> Path:
        return self.folder / "lake" / name / "_delta_log" / f"{version:020d}.json"


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(tmp_path)


def test_i7_every_commit_of_every_table_has_one_entry(works: Works) -> None:
    assert works.sign() == len(tables.SPECS)
    plant.run(works.lake, 60)
    assert works.sign() > 20
    assert works.sign() == 0
    plant.run(works.lake, 90)
    works.sign()
    works.hold()
    order = [each.table for each in works.entries()[6:]]
    # Within a look, table after table in the order in which a flush commits them.
    first = order[: order.index("journal")]
    assert first == sorted(first, key=list(tables.SPECS).index)


def test_i7_a_long_history_is_signed_in_groups(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.run(works.lake, 60)
    monkeypatch.setattr(follow, "VERSIONS_MAX", 3)
    published: list[int] = []
    publish = LogWriter.publish

    def count(writer: LogWriter) -> Any:
        checkpoint = publish(writer)
        published.append(checkpoint.size)
        return checkpoint

    monkeypatch.setattr(LogWriter, "publish", count)
    works.sign()
    works.hold()
    assert len(published) > 2
    assert published[0] <= 3 * len(tables.SPECS)


def test_files_without_digests_are_read_and_hashed(works: Works) -> None:
    plant.run(works.lake, 60)
    handle = DeltaTable(str(works.folder / "lake" / "readings"))
    handle.optimize.compact()
    gone = DeltaTable(str(works.folder / "lake" / "windows"))
    gone.optimize.compact()
    (added,) = [each for each in gone.file_uris() if "part-00000" in each]
    (works.folder / "lake" / "windows" / added.partition("/windows/")[2]).unlink()
    works.sign()
    works.hold()
    by_name = {each.name: each for each in works.entries()}
    compacted, lost = by_name[f"readings@{handle.version()}"], by_name[f"windows@{gone.version()}"]
    assert compacted.operation == "OPTIMIZE"
    assert isinstance(compacted.adds, tuple)
    assert isinstance(lost.adds, tuple)
    assert [type(each) for each in compacted.adds] == [Add]
    assert compacted.adds[0].sha256 is not None
    assert lost.adds[0].sha256 is None


class Failing:
    """A store that fails at chosen calls."""

    def __init__(self, store: LocalStore, fails: Callable[[int], bool]) -> None:
        self.store, self.fails, self.calls = store, fails, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.store, name)

        def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.fails(self.calls):
                raise OSError("the connection was reset")
            return real(*arguments)

        return call


def test_i7_a_store_that_fails_now_and_then_is_tried_again_and_nothing_is_skipped(works: Works) -> None:
    plant.run(works.lake, 60)
    works.store = Failing(works.store, lambda call: call in {2, 7, 30, 90})
    works.sign()
    works.hold()


def test_a_store_that_fails_for_good_ends_a_single_run_and_not_the_process(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.run(works.lake, 20)
    works.store = Failing(works.store, lambda _: True)
    with pytest.raises(LakeError, match="nothing is skipped"):
        works.sign()
    monkeypatch.setattr(process, "PAUSE_MAX_S", 0.001)
    stop = threading.Event()

    def fails(call: int) -> bool:
        if call > 100:
            stop.set()
        return True

    works.store.fails = fails
    assert works.ledger().run(stop) == 0
    works.store = works.store.store
    works.sign()
    works.hold()


def test_a_lake_that_is_not_there_yet_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path / "ledger", tmp_path / "keys" / "ledger", "example.com/plant")
    monkeypatch.setattr(process, "PAUSE_MAX_S", 0.001)
    asked = 0

    def opened() -> Any:
        nonlocal asked
        asked += 1
        if asked == 3:
            Lake.open(f"file:{tmp_path / 'lake'}")
            stop.set()
        return open_store(f"file:{tmp_path / 'lake'}", create=False)

    stop = threading.Event()
    assert Ledger(place, opened, interval_s=0.001).run(stop) == len(tables.SPECS)


def test_told_to_stop_it_looks_once_more(works: Works) -> None:
    stop = threading.Event()
    stop.set()
    plant.run(works.lake, 20)
    assert works.ledger().run(stop) > 6
    works.hold()


def test_a_defect_is_not_taken_for_a_store_that_fails(works: Works) -> None:
    works.store = Failing(works.store, lambda _: bool(1 // 0))
    with pytest.raises(ZeroDivisionError):
        works.sign()


def test_two_processes_do_not_sign_one_log(works: Works) -> None:
    works.sign()
    with (
        LogWriter(works.place.folder, SigningKey.load(works.place.key), works.place.kept),
        pytest.raises(ClaimLost, match="another process holds"),
    ):
        works.sign()


# ---------------------------------------------------------------------- another lake than the one that was signed


def test_a_lake_that_is_older_than_the_ledger_is_refused(works: Works) -> None:
    plant.run(works.lake, 30)
    shutil.copytree(works.folder / "lake", works.folder / "backup")
    plant.run(works.lake, 60)
    works.sign()
    shutil.rmtree(works.folder / "lake")
    shutil.copytree(works.folder / "backup", works.folder / "lake")
    with pytest.raises(LedgerError, match="the lake is older than the ledger"):
        works.sign()


def test_a_table_that_was_replaced_is_refused(works: Works) -> None:
    plant.run(works.lake, 60)
    works.sign()
    shutil.rmtree(works.folder / "lake")
    plant.run(Lake.open(f"file:{works.folder / 'lake'}"), 200)
    with pytest.raises(LedgerError, match="is not the commit that the ledger has signed; the table was changed"):
        works.sign()


def test_a_table_that_is_replaced_under_a_process_at_work_is_refused(works: Works) -> None:
    plant.run(works.lake, 30)
    follower = follower_of(works)
    shutil.rmtree(works.folder / "lake" / "readings")
    other = Works(works.folder / "other")
    plant.run(other.lake, 60)
    shutil.copytree(other.folder / "lake" / "readings", works.folder / "lake" / "readings")
    with pytest.raises(LedgerError, match="not the commit that the ledger has signed"):
        follower.look()


def test_a_commit_that_gives_the_table_another_id_is_refused(works: Works) -> None:
    plant.run(works.lake, 30)
    follower = follower_of(works)
    other = Works(works.folder / "other")
    version = works.version("readings") + 1
    shutil.copy(other.commit("readings", 0), works.commit("readings", version))
    with pytest.raises(LedgerError, match=rf"at version {version} its id is .* the table was replaced"):
        follower.look()


def follower_of(works: Works) -> follow.Follower:
    works.sign()
    return follow.Follower(works.store, LogReader(works.place.folder))


def test_a_log_that_was_trimmed_ahead_of_the_ledger_is_refused(works: Works) -> None:
    plant.run(works.lake, 30)
    follower = follower_of(works)
    plant.run(works.lake, 60)
    works.commit("windows", works.version("windows") - 1).unlink()
    with pytest.raises(
        LedgerError, match=r"couldn't follow the table windows: version \d+ is missing and \d+ is there"
    ):
        works.sign()
    # A process at work finds it out at its next check.
    follower._checked_s = -follow.CHECK_INTERVAL_S
    with pytest.raises(LedgerError, match="trimmed before the ledger had read it"):
        follower.look()


def test_a_table_that_does_not_begin_with_its_metadata_is_refused(works: Works) -> None:
    works.commit("alarms", 0).write_bytes(b'{"commitInfo":{}}\n')
    with pytest.raises(LedgerError, match="has no metadata"):
        works.sign()


def test_a_log_that_was_trimmed_behind_the_ledger_is_followed_on(works: Works) -> None:
    plant.run(works.lake, 60)
    works.sign()
    last = works.version("readings")
    plant.run(works.lake, 90)
    for version in range(last + 1):
        works.commit("readings", version).unlink()
    assert works.sign() > 0
    assert [each.version for each in works.entries() if each.table == "readings"][-1] > last


def test_i9_a_commit_that_cannot_be_read_is_refused_and_nothing_of_the_look_is_lost(works: Works) -> None:
    plant.run(works.lake, 30)
    works.sign()
    plant.run(works.lake, 60)
    path = works.commit("rejected", works.version("rejected"))
    good = path.read_bytes()
    path.write_bytes(good[:-20])
    with pytest.raises(LedgerError, match="couldn't read the commit rejected@"):
        works.sign()
    path.write_bytes(good)
    works.sign()
    works.hold()


# ---------------------------------------------------------------------- keys


def test_the_key_is_made_once_and_never_again_where_something_was_signed(works: Works) -> None:
    works.sign()
    key = works.place.key.read_bytes()
    works.sign()
    assert works.place.key.read_bytes() == key
    works.place.key.unlink()
    with pytest.raises(LedgerError, match=r"only .*\.vkey is there"):
        works.sign()
    works.place.vkey.unlink()
    with pytest.raises(LedgerError, match="shows that something was signed with it"):
        works.sign()


def test_a_key_of_another_origin_is_refused(works: Works) -> None:
    works.sign()
    works.place = Place(works.place.folder, works.place.key, "example.com/another")
    with pytest.raises(LedgerError, match=r"of the log 'example.com/plant', ledger.origin says"):
        works.sign()


def test_a_verifier_key_is_read_from_its_file_or_its_text(works: Works) -> None:
    vkey = works.place.signing_key().verifier
    assert read_vkey(str(works.place.vkey)) == read_vkey(vkey.text()) == works.place.verifier_key() == vkey
    with pytest.raises(LedgerError, match="couldn't read the verifier key"):
        read_vkey(str(works.folder / "nowhere"))


def test_a_lost_kept_checkpoint_needs_a_word_of_the_operator(works: Works) -> None:
    works.sign()
    works.place.kept.unlink()
    with pytest.raises(LedgerError, match="--accept-unkept-log"):
        works.sign()
    assert works.sign(accept_unkept=True) == 0
    works.sign()


def test_settings_that_name_no_file_are_refused() -> None:
    from alumicatalyst.settings import load_settings

    with pytest.raises(SettingsError, match=r"ledger\.uri"):
        load_settings(ledger__uri="abfss://elsewhere")

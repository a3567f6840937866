"""What runs beside the flow in the long kill run and is killed as well: the ledger's process."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alumicatalyst.lake.store import TEMPORARY_SUFFIX
from alumicatalyst.ledger import entry
from alumicatalyst.ledger.log import LogReader
from alumicatalyst.ledger.note import Checkpoint, open_note
from alumicatalyst.ledger.place import Place
from alumicatalyst.ledger.verify import verify
from alumicatalyst.ledger.verify_log import Earlier, read_earlier
from alumicatalyst.ledger.verify_report import Report

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from tests.kill.harness import Child, Ground

ORIGIN = "example.com/chaos"
# A publication takes some twenty changes of the disk; a life has a few.
STEPS_MAX = 90
LIFE_S_MAX = 900.0


class Signer:
    """`ledger run`, one life after another, each of which ends at another change of the disk, or from outside."""

    def __init__(self, ground: Ground, rng: random.Random, *, interval_s: float) -> None:
        self._ground, self._rng = ground, rng
        self.place = Place(ground.folder / "ledger", ground.folder / "keys" / "ledger", ORIGIN)
        self.place.signing_key()
        self.settings: dict[str, Any] = {
            "ledger__uri": f"file:{self.place.folder}",
            "ledger__key": f"file:{self.place.key}",
            "ledger__origin": ORIGIN,
            "ledger__interval_s": interval_s,
        }
        self._shown: dict[str, None] = {}
        self._child: Child | None = None
        self.kills = 0

    def beat(self) -> None:
        """See to it that one is alive, and note what the dead have shown."""
        if self._child is not None and self._child.process.poll() is None:
            return
        self._bury()
        self._child = self._start("ledger run", self._rng.randrange(STEPS_MAX))

    def kill(self) -> None:
        """Kill it from outside, wherever it is."""
        if self._child is not None:
            self._child.kill()
            self._bury()

    def sign(self) -> None:
        """Let one sign what is left, in order."""
        self.kill()
        self._child = self._start("ledger run --once", -1)
        life = self._child.end(LIFE_S_MAX)
        self._child = None
        assert life.code == 0, f"the ledger did not sign: {life.code}: {life.output[-3_000:]}"
        self._note()

    def assert_whole(self, versions: Mapping[str, int], *, tidied: bool) -> None:
        """Every commit has one entry, and everything that was ever shown is part of what verifies.

        Args:
            versions: The last one of every table.
            tidied: Whether maintenance has been at the lake: it takes away what was signed, and tells so.
        """
        reader = LogReader(self.place.folder)
        entries = [entry.parse(data) for data in reader.entries(0, reader.size)]
        counted = Counter((each.table, each.version) for each in entries)
        wanted = Counter((name, version) for name, last in versions.items() for version in range(last + 1))
        assert counted == wanted, f"ledger: missing {wanted - counted}, surplus {counted - wanted}"
        vkey = self.place.verifier_key()
        earlier = [Earlier(Checkpoint.parse(open_note(note, [vkey])), "shown") for note in self._shown]
        sizes = [each.checkpoint.size for each in earlier]
        assert sizes == sorted(sizes), f"ledger: it was shown with the sizes {sizes}"
        report = Report()
        store = self._ground.address.store()
        verify(self.place.folder, vkey, [*earlier, read_earlier(self.place.kept, vkey)], store, report)
        found = [each.text() for each in (*report.wrong.first, *report.pending.first)]
        assert found == [], f"ledger: {found}"
        assert tidied or report.notes.count == 0, f"ledger: {report.notes.first}"
        # Kills leave files that were put and never committed, and such as are not complete; nothing else.
        left = [
            each.text()
            for each in report.unclaimed.first
            if each.what != "no commit names it" and not each.file.endswith(TEMPORARY_SUFFIX)
        ]
        assert left == [], f"ledger: {left}"

    def _start(self, runner: str, disk: int) -> Child:
        return self._ground.start(runner, order={"logs": "", "disk": disk}, **self.settings)

    def _bury(self) -> None:
        if self._child is None:
            return
        life = self._child.end()
        self._child = None
        assert life.code == -signal.SIGKILL, f"the ledger ended by itself: {life.code}: {life.output[-3_000:]}"
        self.kills += 1
        self._note()

    def _note(self) -> None:
        shown = Path(self.place.folder) / "checkpoint"
        if shown.exists():
            self._shown[shown.read_text()] = None

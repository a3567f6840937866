"""Where a ledger stands in a lake: the last version of each table that it has signed, for whoever must not go beyond.

Maintenance deletes and trims only what lies behind it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger.commits import Commits
from alumicatalyst.ledger.follow import tail
from alumicatalyst.ledger.log import CHECKPOINT, LogReader

if TYPE_CHECKING:
    from pathlib import Path

    from alumicatalyst.lake.lake import Lake


def cursor(lake: Lake, folder: Path) -> dict[str, int]:
    """Return the last version of each table that the ledger has signed.

    Args:
        lake: The lake.
        folder: The log's folder.

    Raises:
        LedgerError: There is no ledger, it cannot be read, or it is of another lake.
    """
    if not (folder / CHECKPOINT).is_file():
        raise LedgerError(
            f"couldn't find out what the ledger has signed: there is no log in {folder}; start `alumicatalyst ledger "
            "run`, name its folder with ledger.uri, or say --without-ledger for a lake that has none"
        )
    found = {}
    for name, last in tail(LogReader(folder)).items():
        data = Commits(lake.store, name).get(last.version)
        known = data is not None and hashlib.sha256(data).digest() == last.commit_sha256
        if not known or lake.table(name).metadata().get("id") != last.table_id:
            raise LedgerError(
                f"couldn't go by the ledger in {folder}: its last entry of {name}, version {last.version}, is not of "
                "this lake's table; name the lake's own ledger with ledger.uri, or ask `alumicatalyst ledger verify`"
            )
        found[name] = last.version
    return found

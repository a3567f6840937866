"""Whether a commit that says that rows have expired takes out just what it counts: whole days, too old to be kept."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

from alumicatalyst.lake.account import EXPIRED_PREFIX
from alumicatalyst.ledger import delta
from alumicatalyst.maintenance.expire import KINDS, OPERATION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alumicatalyst.ledger.delta import Commit
    from alumicatalyst.ledger.verify_replay import Replay


def judge(table: str, commit: Commit, before: Replay) -> str | None:
    """Return what is wrong with a commit that lets rows expire, "" for nothing; None for any other commit.

    Args:
        table: The table.
        commit: The commit.
        before: The table as it was before it.
    """
    if commit.info.get("operation") != OPERATION:
        return None
    try:
        return _judge(table, commit.info["expired"], commit, before)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"it says that rows have expired, and not which: {type(error).__name__} {error}"


def _judge(table: str, told: Any, commit: Commit, before: Replay) -> str:
    if table not in KINDS or commit.adds or commit.metadata or commit.protocol:
        return "it says that rows have expired, and does something else"
    counts: Mapping[str, Mapping[str, int]] = told["rows"]
    if not all(kind in KINDS[table] and count > 0 for each in counts.values() for kind, count in each.items()):
        return "it counts expired rows as what this table has not"
    days = {(each.get("partitionValues") or {}).get("date") for each in commit.removes.values()}
    first_kept = date.fromisoformat(told["before"])
    if days != set(told["days"]) or any(date.fromisoformat(str(each)) >= first_kept for each in days):
        return "it takes out other days than it says, or days that are kept"
    taken = [before.live.get(delta.encoded(path)) for path in commit.removes]
    if all(each is not None for each in taken):
        rows = sum(json.loads((each or {}).get("stats") or "{}").get("numRecords", 0) for each in taken)
        said = told["unsealed"] + sum(sum(each.values()) for each in counts.values())
        if rows != said:
            return f"it counts {said} expired rows, and takes out {rows}"
    if not before.whole:
        return ""  # How many had expired before, nobody knows any more.
    for partition, each in counts.items():
        for kind, count in each.items():
            app = f"{EXPIRED_PREFIX}{kind}/{partition}"
            former = (before.transactions.get(app) or {}).get("version", 0)
            if (commit.transactions.get(app) or {}).get("version") != former + count:
                return f"it counts {count} expired rows of {partition}, and not on from the {former} of before"
    return ""

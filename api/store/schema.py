"""The tables of the hot store, as the code of this version expects them; `migrations` makes them.

Times are microseconds since 1970 (UTC) in 64-bit integers: both databases order and compare them alike, and they
come from Arrow without a conversion. Texts compare by their bytes in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    desc,
)
from sqlalchemy.dialects.postgresql import TEXT

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

metadata = MetaData()

# The database's own collation would make a range over a path, and the order of a page, depend on where it was set up.
STRING = Text().with_variant(TEXT(collation="C"), "postgresql")
NUMBER = BigInteger()
REAL: Double[float] = Double()
# SQLite numbers rows by itself only where the type is exactly INTEGER.
ARRIVAL = BigInteger().with_variant(Integer, "sqlite")


def _some(name: str, kind: TypeEngine[Any]) -> Column[Any]:
    return Column(name, kind, nullable=False)


def _maybe(name: str, kind: TypeEngine[Any]) -> Column[Any]:
    return Column(name, kind, nullable=True)


# The process side, append-only. A row that the lake does not have is flagged with the seq of its retraction, which is
# part of its key, so that the lake's own row of that step can stand beside it; 0 is a row that stands.
transitions = Table(
    "transitions",
    metadata,
    _some("alarm_id", STRING),
    _some("step", NUMBER),
    _some("retracted_seq", NUMBER),
    _some("partition", STRING),
    _some("sequence_number", NUMBER),
    _some("item", NUMBER),
    _some("enqueued_time", NUMBER),
    _some("transition", STRING),
    _some("device", STRING),
    _some("metric", STRING),
    _maybe("asset", STRING),
    _some("alarm_rule", STRING),
    _some("priority", STRING),
    _some("onset_time", NUMBER),
    _some("event_time", NUMBER),
    _some("value", REAL),
    _maybe("threshold", REAL),
    _some("peak", REAL),
    _maybe("score", REAL),
    _some("message", STRING),
    _some("seq", NUMBER),
    _some("received_time", NUMBER),
    _maybe("retracted_time", NUMBER),
    PrimaryKeyConstraint("alarm_id", "step", "retracted_seq"),
    Index("transitions_by_cause", "partition", "sequence_number"),
)

# The operator side, append-only.
actions = Table(
    "actions",
    metadata,
    Column("id", ARRIVAL, primary_key=True, autoincrement=True),
    _some("alarm_id", STRING),
    _some("action", STRING),
    _some("actor", STRING),
    _some("comment", STRING),
    _some("time", NUMBER),
    _some("seq", NUMBER),
    Index("actions_by_alarm", "alarm_id", "id"),
)

# The fold of both, kept for listing: it can be made anew from them at any time.
alarms = Table(
    "alarms",
    metadata,
    Column("alarm_id", STRING, primary_key=True),
    _some("partition", STRING),
    _some("state", STRING),
    _some("device", STRING),
    _some("metric", STRING),
    _maybe("asset", STRING),
    _some("alarm_rule", STRING),
    _some("priority", STRING),
    _some("message", STRING),
    _some("onset_time", NUMBER),
    _some("raised_time", NUMBER),
    _maybe("cleared_time", NUMBER),
    _some("value", REAL),
    _maybe("threshold", REAL),
    _some("peak", REAL),
    _maybe("score", REAL),
    _some("first_step", NUMBER),
    _some("step", NUMBER),
    _some("sequence_last", NUMBER),
    _maybe("acknowledged_by", STRING),
    _maybe("acknowledged_time", NUMBER),
    _maybe("comment", STRING),
    _some("provisional", Boolean()),
    _some("seq", NUMBER),
    # Room in each page for an alarm's next versions: most then need no new entries in the indexes.
    postgresql_with={"fillfactor": 60},
)
Index("alarms_by_raised", desc(alarms.c.raised_time), alarms.c.alarm_id)
Index("alarms_by_state", alarms.c.state, alarms.c.priority, desc(alarms.c.raised_time), alarms.c.alarm_id)
Index("alarms_by_device", alarms.c.device, desc(alarms.c.raised_time), alarms.c.alarm_id)
Index("alarms_by_asset", alarms.c.asset, desc(alarms.c.raised_time), alarms.c.alarm_id)

windows = Table(
    "windows",
    metadata,
    _some("device", STRING),
    _some("metric", STRING),
    _some("window_name", STRING),
    _some("window_start", NUMBER),
    _some("partition", STRING),
    _some("sequence_number", NUMBER),
    _some("item", NUMBER),
    _some("enqueued_time", NUMBER),
    _some("window_end", NUMBER),
    _some("closed_by", STRING),
    _some("count", NUMBER),
    _maybe("mean", REAL),
    _maybe("min", REAL),
    _maybe("max", REAL),
    _maybe("first", REAL),
    _maybe("last", REAL),
    _maybe("std", REAL),
    _some("first_time", NUMBER),
    _some("last_time", NUMBER),
    _maybe("slope_per_s", REAL),
    _maybe("score_max", REAL),
    PrimaryKeyConstraint("device", "metric", "window_start", "window_name", "partition"),
    Index("windows_by_cause", "partition", "sequence_number"),
    Index("windows_by_start", "window_start", "device", "metric", "window_name", "partition"),
    sqlite_with_rowid=False,
)

latest = Table(
    "latest",
    metadata,
    _some("device", STRING),
    _some("metric", STRING),
    _some("partition", STRING),
    _some("sequence_number", NUMBER),
    _some("item", NUMBER),
    _some("enqueued_time", NUMBER),
    _some("event_time", NUMBER),
    _some("value", REAL),
    _some("quality", NUMBER),
    PrimaryKeyConstraint("device", "metric"),
    sqlite_with_rowid=False,
)

# A partition's last sequence number of each kind, and the last that the lake has confirmed. Its row is also the lock
# that makes replicas of the API take a partition in turn.
marks = Table(
    "marks",
    metadata,
    Column("partition", STRING, primary_key=True),
    _some("alarms", NUMBER),
    _some("windows", NUMBER),
    _some("latest", NUMBER),
    _some("committed", NUMBER),
)

# What streams send: each alarm as a transaction left it. The counter's row stays locked until the transaction that
# raised it ends, so seqs become visible in their order, whichever replica gave them out.
changes = Table(
    "changes",
    metadata,
    Column("seq", ARRIVAL, primary_key=True, autoincrement=False),
    _some("time", NUMBER),
    _some("alarm", STRING),
)
counters = Table("counters", metadata, Column("name", STRING, primary_key=True), _some("value", NUMBER))

audit = Table(
    "audit",
    metadata,
    Column("id", ARRIVAL, primary_key=True, autoincrement=True),
    _some("time", NUMBER),
    _some("actor", STRING),
    _some("action", STRING),
    _some("subject", STRING),
    _some("detail", STRING),
)

keys = Table(
    "keys",
    metadata,
    Column("id", STRING, primary_key=True),
    _some("name", STRING),
    _some("sha256", LargeBinary()),
    _some("scopes", STRING),
    _some("created", NUMBER),
    _maybe("expires", NUMBER),
    _maybe("revoked", NUMBER),
    Index("keys_by_name", "name"),
)

# The first answer to each idempotency key.
answers = Table(
    "answers",
    metadata,
    _some("actor", STRING),
    _some("key", STRING),
    _some("request_sha256", LargeBinary()),
    _some("answer", STRING),
    _some("time", NUMBER),
    PrimaryKeyConstraint("actor", "key"),
    Index("answers_by_time", "time"),
)

"""Makes the tables of the hot store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from alembic import op

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

revision = "0001"
down_revision = None

STRING = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")
NUMBER = sa.BigInteger()
REAL: sa.Double[float] = sa.Double()
ARRIVAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NEWEST: sa.ColumnClause[int] = sa.literal_column("raised_time DESC")


def some(name: str, kind: TypeEngine[Any]) -> sa.Column[Any]:
    """Return a column that is always filled."""
    return sa.Column(name, kind, nullable=False)


def maybe(name: str, kind: TypeEngine[Any]) -> sa.Column[Any]:
    """Return a column that may be empty."""
    return sa.Column(name, kind, nullable=True)


def upgrade() -> None:
    """Make every table."""
    _alarms()
    _values()
    _streams()
    _people()


def _alarms() -> None:
    """What the process and the operators did, and its fold."""
    op.create_table(
        "transitions",
        some("alarm_id", STRING),
        some("step", NUMBER),
        some("retracted_seq", NUMBER),
        some("partition", STRING),
        some("sequence_number", NUMBER),
        some("item", NUMBER),
        some("enqueued_time", NUMBER),
        some("transition", STRING),
        some("device", STRING),
        some("metric", STRING),
        maybe("asset", STRING),
        some("alarm_rule", STRING),
        some("priority", STRING),
        some("onset_time", NUMBER),
        some("event_time", NUMBER),
        some("value", REAL),
        maybe("threshold", REAL),
        some("peak", REAL),
        maybe("score", REAL),
        some("message", STRING),
        some("seq", NUMBER),
        some("received_time", NUMBER),
        maybe("retracted_time", NUMBER),
        sa.PrimaryKeyConstraint("alarm_id", "step", "retracted_seq"),
    )
    op.create_index("transitions_by_cause", "transitions", ["partition", "sequence_number"])
    op.create_table(
        "actions",
        sa.Column("id", ARRIVAL, autoincrement=True, nullable=False),
        some("alarm_id", STRING),
        some("action", STRING),
        some("actor", STRING),
        some("comment", STRING),
        some("time", NUMBER),
        some("seq", NUMBER),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("actions_by_alarm", "actions", ["alarm_id", "id"])
    op.create_table(
        "alarms",
        some("alarm_id", STRING),
        some("partition", STRING),
        some("state", STRING),
        some("device", STRING),
        some("metric", STRING),
        maybe("asset", STRING),
        some("alarm_rule", STRING),
        some("priority", STRING),
        some("message", STRING),
        some("onset_time", NUMBER),
        some("raised_time", NUMBER),
        maybe("cleared_time", NUMBER),
        some("value", REAL),
        maybe("threshold", REAL),
        some("peak", REAL),
        maybe("score", REAL),
        some("first_step", NUMBER),
        some("step", NUMBER),
        some("sequence_last", NUMBER),
        maybe("acknowledged_by", STRING),
        maybe("acknowledged_time", NUMBER),
        maybe("comment", STRING),
        some("provisional", sa.Boolean()),
        some("seq", NUMBER),
        sa.PrimaryKeyConstraint("alarm_id"),
        postgresql_with={"fillfactor": 60},
    )
    op.create_index("alarms_by_asset", "alarms", ["asset", NEWEST, "alarm_id"])
    op.create_index("alarms_by_device", "alarms", ["device", NEWEST, "alarm_id"])
    op.create_index("alarms_by_raised", "alarms", [NEWEST, "alarm_id"])
    op.create_index("alarms_by_state", "alarms", ["state", "priority", NEWEST, "alarm_id"])


def _values() -> None:
    """What is now, and was a moment ago."""
    op.create_table(
        "windows",
        some("device", STRING),
        some("metric", STRING),
        some("window_name", STRING),
        some("window_start", NUMBER),
        some("partition", STRING),
        some("sequence_number", NUMBER),
        some("item", NUMBER),
        some("enqueued_time", NUMBER),
        some("window_end", NUMBER),
        some("closed_by", STRING),
        some("count", NUMBER),
        maybe("mean", REAL),
        maybe("min", REAL),
        maybe("max", REAL),
        maybe("first", REAL),
        maybe("last", REAL),
        maybe("std", REAL),
        some("first_time", NUMBER),
        some("last_time", NUMBER),
        maybe("slope_per_s", REAL),
        maybe("score_max", REAL),
        sa.PrimaryKeyConstraint("device", "metric", "window_start", "window_name", "partition"),
        sqlite_with_rowid=False,
    )
    op.create_index("windows_by_cause", "windows", ["partition", "sequence_number"])
    op.create_index("windows_by_start", "windows", ["window_start", "device", "metric", "window_name", "partition"])
    op.create_table(
        "latest",
        some("device", STRING),
        some("metric", STRING),
        some("partition", STRING),
        some("sequence_number", NUMBER),
        some("item", NUMBER),
        some("enqueued_time", NUMBER),
        some("event_time", NUMBER),
        some("value", REAL),
        some("quality", NUMBER),
        sa.PrimaryKeyConstraint("device", "metric"),
        sqlite_with_rowid=False,
    )


def _streams() -> None:
    """How far each partition is, and what changed."""
    op.create_table(
        "marks",
        some("partition", STRING),
        some("alarms", NUMBER),
        some("windows", NUMBER),
        some("latest", NUMBER),
        some("committed", NUMBER),
        sa.PrimaryKeyConstraint("partition"),
    )
    op.create_table(
        "changes",
        sa.Column("seq", ARRIVAL, autoincrement=False, nullable=False),
        some("time", NUMBER),
        some("alarm", STRING),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_table("counters", some("name", STRING), some("value", NUMBER), sa.PrimaryKeyConstraint("name"))
    op.execute("INSERT INTO counters (name, value) VALUES ('changes', 0)")


def _people() -> None:
    """Who may do what, and who did."""
    op.create_table(
        "keys",
        some("id", STRING),
        some("name", STRING),
        some("sha256", sa.LargeBinary()),
        some("scopes", STRING),
        some("created", NUMBER),
        maybe("expires", NUMBER),
        maybe("revoked", NUMBER),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("keys_by_name", "keys", ["name"])
    op.create_table(
        "answers",
        some("actor", STRING),
        some("key", STRING),
        some("request_sha256", sa.LargeBinary()),
        some("answer", STRING),
        some("time", NUMBER),
        sa.PrimaryKeyConstraint("actor", "key"),
    )
    op.create_index("answers_by_time", "answers", ["time"])
    op.create_table(
        "audit",
        sa.Column("id", ARRIVAL, autoincrement=True, nullable=False),
        some("time", NUMBER),
        some("actor", STRING),
        some("action", STRING),
        some("subject", STRING),
        some("detail", STRING),
        sa.PrimaryKeyConstraint("id"),
    )

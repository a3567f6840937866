"""The hot store: alarms with their histories, recent windows, latest values, changes to stream, and API keys.

It holds what operators look at now and what they did; what happened is the lake's. SQLite by default, PostgreSQL when
several replicas share it.
"""

from api.store.contract import (
    KINDS,
    LIMIT_MAX,
    PRIORITIES,
    SCOPES,
    STATES,
    Accepted,
    AlarmFilter,
    Change,
    Key,
    Kind,
    Marks,
    Page,
    Position,
    Priority,
    Retention,
    Scope,
    SeriesFilter,
    State,
    WindowFilter,
)
from api.store.errors import (
    BadCursor,
    BadRows,
    Gap,
    KeyReused,
    Mismatch,
    NotAllowed,
    NotFound,
    StoreBusy,
    StoreError,
)
from api.store.migrate import migrate
from api.store.store import HotStore

__all__ = [
    "KINDS",
    "LIMIT_MAX",
    "PRIORITIES",
    "SCOPES",
    "STATES",
    "Accepted",
    "AlarmFilter",
    "BadCursor",
    "BadRows",
    "Change",
    "Gap",
    "HotStore",
    "Key",
    "KeyReused",
    "Kind",
    "Marks",
    "Mismatch",
    "NotAllowed",
    "NotFound",
    "Page",
    "Position",
    "Priority",
    "Retention",
    "Scope",
    "SeriesFilter",
    "State",
    "StoreBusy",
    "StoreError",
    "WindowFilter",
    "migrate",
]

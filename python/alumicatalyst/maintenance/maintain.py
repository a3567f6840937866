"""Maintenance as a whole: expiry, compaction, vacuum and trimming of a lake, one after the other, under one lease."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from alumicatalyst.lake import tables
from alumicatalyst.maintenance.compact import Compacted, compact
from alumicatalyst.maintenance.expire import Expired, expire
from alumicatalyst.maintenance.lease import today
from alumicatalyst.maintenance.trim import Trimmed, trim
from alumicatalyst.maintenance.vacuum import Vacuumed, vacuum

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from alumicatalyst.lake.lake import Lake
    from alumicatalyst.maintenance.lease import Lease
    from alumicatalyst.settings.maintenance import MaintenanceSettings

    Signed = Callable[[], Mapping[str, int] | None]


@dataclass(frozen=True, slots=True)
class Limits:
    """How large files become and how long things are kept; see the settings of the same names.

    Attributes:
        target_mb: Megabytes of a compacted file at most.
        vacuum_days: Days that files stay which no table needs.
        log_days: Days that commits stay in the log.
        expire_days: Table to days that its rows are kept; 0 or no entry: for ever.
    """

    target_mb: int = 256
    vacuum_days: float = 7.0
    log_days: float = 30.0
    expire_days: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: MaintenanceSettings) -> Self:
        """Return the limits that the settings name."""
        days = {name: int(getattr(settings, f"{name}_days")) for name in ("readings", "rejected", "windows")}
        return cls(settings.target_mb, settings.vacuum_days, settings.log_days, days)


@dataclass(slots=True)
class Maintained:
    """What a round of maintenance did, or would do, table by table."""

    expired: list[Expired] = field(default_factory=list)
    compacted: list[Compacted] = field(default_factory=list)
    vacuumed: list[Vacuumed] = field(default_factory=list)
    trimmed: list[Trimmed] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        kinds: dict[str, Sequence[Any]] = {
            "expired": self.expired,
            "compacted": self.compacted,
            "vacuumed": self.vacuumed,
            "trimmed": self.trimmed,
        }
        return {name: [each.as_dict() for each in found] for name, found in kinds.items()}


def maintain(
    lake: Lake,
    lease: Lease | None,
    limits: Limits,
    *,
    signed: Signed,
    names: Sequence[str] = tuple(tables.SPECS),
    threads: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> Maintained:
    """Do all of it in the order in which one makes work for the next.

    Args:
        lake: The lake.
        lease: Under which it is done; None for a dry run, which only tells what would be.
        limits: How much and how long.
        signed: Returns the last version of each table that the ledger has signed, None without a ledger. It is asked
            again before each step that must not go beyond.
        names: The tables.
        threads: Threads that sort.
        say: Told what is being done.

    Raises:
        ClaimLost: Another process maintains the lake now.
        Stopped: The lease was told to stop.
        LakeError, LedgerError: The store failed, or the ledger is not of this lake.

    Example:
        >>> with Lease(lake) as lease:
        ...     maintain(lake, lease, Limits(), signed=lambda: None)
    """
    done = Maintained()
    days = {name: kept for name, kept in limits.expire_days.items() if name in names and kept}
    if days:
        say("counting what has expired")
        done.expired = expire(lake, days=days, lease=lease, today=today(lease), dry_run=lease is None)
    done.compacted = compact(lake, lease, names, target_mb=limits.target_mb, threads=threads, say=say)
    done.vacuumed = vacuum(lake, lease, names, signed=signed(), days=limits.vacuum_days, say=say)
    done.trimmed = trim(lake, lease, names, signed=signed(), days=limits.log_days, say=say)
    return done

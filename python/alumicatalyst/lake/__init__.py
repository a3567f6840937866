"""The lake: Delta tables of Parquet on a directory or ADLS, with the marks, claims and states that make rows exact.

The public names are here; the modules behind them own one thing each.
"""

from __future__ import annotations

from alumicatalyst.lake.journal import JournalRow
from alumicatalyst.lake.lake import Lake
from alumicatalyst.lake.resume import Resume

__all__ = ["JournalRow", "Lake", "Resume"]

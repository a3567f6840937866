"""Chooses the source that the settings name; only that one's module, and with it its SDK, is imported."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from alumicatalyst._core import Dictionary
    from alumicatalyst.settings import Settings
    from alumicatalyst.sources import Source

# The simulated plant's log needs one beginning, or every restart would be another log.
_SIMULATION_START: Final = datetime(2026, 1, 1, tzinfo=UTC)


def source_of(settings: Settings, dictionary: Dictionary) -> Source:
    """Return the source of a flow.

    Args:
        settings: All settings; `source.kind` chooses.
        dictionary: What the envelopes mean: which of their properties are read, and the plant to simulate.

    Raises:
        SettingsError: A setting of the chosen source cannot be used.
        SourceError: The source cannot be reached.
        InputError: A file of a replay cannot be used.
    """
    chosen = settings.source
    match chosen.kind:
        case "eventhubs":
            from alumicatalyst.sources.eventhubs import EventHubsSource

            return EventHubsSource.from_settings(chosen, dictionary.properties)
        case "replay":
            from alumicatalyst.sources.replay import ReplaySource

            return ReplaySource(
                [Path(path) for path in chosen.paths],
                dictionary,
                name=chosen.name,
                batch_envelopes_max=chosen.batch_envelopes_max,
                batch_bytes_max=chosen.batch_bytes_max,
            )
        case "simulator":
            from alumicatalyst.simulator import Plan
            from alumicatalyst.sources.simulator import SimulatorSource

            named = chosen.start not in {"earliest", "latest"}
            start = datetime.fromisoformat(chosen.start) if named else _SIMULATION_START
            return SimulatorSource(
                dictionary,
                Plan(start_us=round(start.timestamp()) * 1_000_000),
                name=chosen.name,
                batch_envelopes_max=chosen.batch_envelopes_max,
            )

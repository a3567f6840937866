"""Chooses the source that the settings name; only that one's module, and with it its SDK, is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alumicatalyst.settings import Settings
    from alumicatalyst.sources import Source


def source_of(settings: Settings, properties: Sequence[str]) -> Source:
    """Return the source of a flow.

    Args:
        settings: All settings; `source.kind` chooses.
        properties: Envelope properties that the dictionary reads.

    Raises:
        SettingsError: A setting of the chosen source cannot be used.
        SourceError: The source cannot be reached.
    """
    match settings.source.kind:
        case "eventhubs":
            from alumicatalyst.sources.eventhubs import EventHubsSource

            return EventHubsSource.from_settings(settings.source, properties)
        case "replay":
            from alumicatalyst.sources.replay import ReplaySource

            return ReplaySource.from_settings(settings.source)

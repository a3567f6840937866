"""The settings: where this process reads, where it writes, and the limits of its buffers.

What the data means is never a setting; that is the data dictionary. A setting comes from, in this order: the command
line, the environment (`ALUMICATALYST_SOURCE__HUB` for `source.hub`), `alumicatalyst.toml`, the default. Nothing is
read at import: a process calls `load_settings` once.
"""

from alumicatalyst.settings.api import ApiSettings
from alumicatalyst.settings.ledger import LedgerSettings
from alumicatalyst.settings.load import SETTINGS_FILE, describe, load_settings
from alumicatalyst.settings.schema import LakeSettings, RunnerSettings, Settings, SourceSettings
from alumicatalyst.settings.secret import Secret

__all__ = [
    "SETTINGS_FILE",
    "ApiSettings",
    "LakeSettings",
    "LedgerSettings",
    "RunnerSettings",
    "Secret",
    "Settings",
    "SourceSettings",
    "describe",
    "load_settings",
]

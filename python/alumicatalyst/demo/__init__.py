"""Everything on this machine: a stand-in hub, a simulated plant, the flow, a lake, and the API with its alarms."""

from alumicatalyst.demo.alarms import Change
from alumicatalyst.demo.demo import Demo
from alumicatalyst.demo.status import Status

__all__ = ["Change", "Demo", "Status"]

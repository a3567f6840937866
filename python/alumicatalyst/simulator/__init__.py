"""A simulated plant: the devices of a dictionary, what they measure, and what goes wrong there and on the way."""

from alumicatalyst.simulator.clocks import Clocks
from alumicatalyst.simulator.engine import Released, Simulator
from alumicatalyst.simulator.plan import REASONS, Impairments, Plan, ProcessFaults
from alumicatalyst.simulator.spoil import Impaired

__all__ = ["REASONS", "Clocks", "Impaired", "Impairments", "Plan", "ProcessFaults", "Released", "Simulator"]

"""A simulated plant: the devices of a dictionary, what they measure, and what goes wrong on the way to the broker."""

from alumicatalyst.simulator.engine import Released, Simulator
from alumicatalyst.simulator.plan import REASONS, Impairments, Plan
from alumicatalyst.simulator.spoil import Impaired

__all__ = ["REASONS", "Impaired", "Impairments", "Plan", "Released", "Simulator"]

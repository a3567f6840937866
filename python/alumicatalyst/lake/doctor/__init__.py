"""Checks a lake as it lies, and says of whatever is wrong or could be better what to do about it."""

from alumicatalyst.lake.doctor.examine import Report, examine

__all__ = ["Report", "examine"]

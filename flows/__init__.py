"""Dataflows and the data dictionaries that they run with."""

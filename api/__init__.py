"""The hot store of alarms and recent values, and the HTTP interface in front of it."""

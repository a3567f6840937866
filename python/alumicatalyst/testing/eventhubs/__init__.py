"""A stand-in for Azure Event Hubs on the standard library alone, for tests and demonstrations without an account.

The AMQP 1.0 that the azure-eventhub SDK speaks, with hubs, partitions, consumer groups, owner levels, every starting
position, runtime metrics and shared access signatures; and faults to order: `Emulator.cut`, `Emulator.expire`, `stop`
and `start` again. What it does not have: the Kafka endpoint, AMQP over websockets, Entra tokens, geo-replication,
quotas.
"""

from alumicatalyst.testing.eventhubs.log import LogDamaged
from alumicatalyst.testing.eventhubs.server import Emulator

__all__ = ["Emulator", "LogDamaged"]

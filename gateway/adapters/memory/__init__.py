"""Fakes of every port: deterministic, without real time or randomness, held to the contract of the real adapters."""

from gateway.adapters.memory.boundary import Boundary, no_boundary
from gateway.adapters.memory.database import Database
from gateway.adapters.memory.directory import MemoryVault
from gateway.adapters.memory.host import MemoryHost
from gateway.adapters.memory.kafka import MemoryConsumer, MemoryDeadLetters, MemoryKafka, MemoryPublisher
from gateway.adapters.memory.keys import MemoryClock, MemoryKeySource, MemoryVerifier
from gateway.adapters.memory.network import Behaviour, Fate, MemoryCardNetwork
from gateway.adapters.memory.outbox import MemoryOutboxReader
from gateway.adapters.memory.store import MemoryStore

__all__ = [
    "Behaviour",
    "Boundary",
    "Database",
    "Fate",
    "MemoryCardNetwork",
    "MemoryClock",
    "MemoryConsumer",
    "MemoryDeadLetters",
    "MemoryHost",
    "MemoryKafka",
    "MemoryKeySource",
    "MemoryOutboxReader",
    "MemoryPublisher",
    "MemoryStore",
    "MemoryVault",
    "MemoryVerifier",
    "no_boundary",
]

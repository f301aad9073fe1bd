"""Fakes of every port: deterministic, without real time or randomness, held to the contract of the real adapters."""

from gateway.proving.memory.boundary import Boundary, no_boundary
from gateway.proving.memory.database import Database
from gateway.proving.memory.directory import MemoryVault
from gateway.proving.memory.disclosure import MemoryDisclosureLog
from gateway.proving.memory.host import MemoryHost
from gateway.proving.memory.kafka import MemoryConsumer, MemoryDeadLetters, MemoryKafka, MemoryPublisher
from gateway.proving.memory.keys import MemoryClock, MemoryKeySource, MemoryVerifier
from gateway.proving.memory.network import Behaviour, Fate, MemoryCardNetwork
from gateway.proving.memory.outbox import MemoryOutboxReader
from gateway.proving.memory.store import MemoryStore

__all__ = [
    "Behaviour",
    "Boundary",
    "Database",
    "Fate",
    "MemoryCardNetwork",
    "MemoryClock",
    "MemoryConsumer",
    "MemoryDeadLetters",
    "MemoryDisclosureLog",
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

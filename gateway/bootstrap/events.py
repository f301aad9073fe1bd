"""Relay and settlement."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.adapters.iso8583.config import load_networks
from gateway.adapters.kafka.consumer import BatchConsumer
from gateway.adapters.kafka.dead_letter import KafkaDeadLetters
from gateway.adapters.kafka.producer import KafkaPublisher
from gateway.adapters.postgres.outbox import PostgresOutboxReader
from gateway.bootstrap.process import Parts, dead_letters, publisher
from gateway.services.isolation import IsolatedBatch
from gateway.services.relay import RelayService, RelaySettings
from gateway.services.settlement import SettlementService, SettlementSettings
from schemas.topics import clearing_topic


@asynccontextmanager
async def relay_service(parts: Parts) -> AsyncIterator[RelayService]:
    """The outbox relay."""
    async with publisher(parts) as producer:
        yield RelayService(
            reader=PostgresOutboxReader(parts.dsn),
            publisher=producer,
            observer=parts.observer,
            clock=parts.clock,
            settings=RelaySettings(batch=parts.settings.relay_batch_max, idle_s=parts.settings.relay_idle_s),
        )


@dataclass(frozen=True, slots=True)
class SettlementParts:
    """What settles. ``networks``: ids of those that are configured."""

    networks: frozenset[str]
    consumer: BatchConsumer
    publisher: KafkaPublisher
    dead_letters: KafkaDeadLetters
    service: SettlementService
    isolated: IsolatedBatch


@asynccontextmanager
async def settlement_parts(parts: Parts) -> AsyncIterator[SettlementParts]:
    """Everything that settles all configured networks, started."""
    networks = load_networks(parts.settings.networks_dir)
    consumer = BatchConsumer(
        parts.kafka, parts.observer, topics=[clearing_topic(n) for n in networks], group_id="mypay-settlement"
    )
    async with publisher(parts) as producer:
        parked = dead_letters(parts, producer)
        service = SettlementService(
            store=parts.store,
            dead_letters=parked,
            observer=parts.observer,
            clock=parts.clock,
            settings=SettlementSettings(too_early_s=parts.settings.settlement_too_early_s),
        )
        await consumer.start()
        try:
            isolated = IsolatedBatch("settlement", dead_letters=parked, observer=parts.observer)
            yield SettlementParts(frozenset(networks), consumer, producer, parked, service, isolated)
        finally:
            await consumer.stop()

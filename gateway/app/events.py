"""Relay and settlement."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.app.errors import NotConfiguredError
from gateway.app.process import Parts, dead_letters, publisher
from gateway.app.settings import Settings
from gateway.messaging.consumer import BatchConsumer
from gateway.messaging.dead_letters import KafkaDeadLetters
from gateway.messaging.isolation import IsolatedBatch
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.records import DeadLetters, Publisher
from gateway.network.iso8583.config import load_networks
from gateway.outbox.postgres import PostgresOutboxReader
from gateway.outbox.relay import RelayService, RelaySettings
from gateway.settlement.files import ClearingImport
from gateway.settlement.inbox import ClearingInbox
from gateway.settlement.matching import SettlementService, SettlementSettings
from gateway.settlement.seals import ClearingKeysError, FileSeals
from schemas.primitives import NetworkId
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
    inbox: ClearingInbox | None


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
            inbox = _inbox(parts, frozenset(networks), producer, parked)
            yield SettlementParts(frozenset(networks), consumer, producer, parked, service, isolated, inbox)
        finally:
            await consumer.stop()


def clearing_seals(settings: Settings, networks: frozenset[str]) -> FileSeals:
    """The networks' keys for clearing files. Without a seal files are taken on the local stack, or where that is said.

    Raises:
        NotConfiguredError: a key cannot be read.
    """
    local = settings.kafka_bootstrap_servers is None and settings.postgres_dsn is None
    try:
        return FileSeals.load(settings.clearing_keys_dir, networks, allow_unsealed=local or settings.clearing_unsealed)
    except ClearingKeysError as error:
        raise NotConfiguredError(str(error)) from None


def _inbox(parts: Parts, networks: frozenset[str], producer: Publisher, parked: DeadLetters) -> ClearingInbox | None:
    settings = parts.settings
    if settings.clearing_inbox is None:
        return None
    seals = clearing_seals(settings, networks)
    for network_id in sorted(networks):
        if not seals.required(NetworkId(network_id)):
            parts.observer.note("clearing_files_need_no_seal", level="warning", network_id=network_id)
    importing = ClearingImport(
        publisher=producer,
        dead_letters=parked,
        observer=parts.observer,
        seals=seals,
        networks=networks,
    )
    try:
        return ClearingInbox(settings.clearing_inbox, settings.clearing_state_dir, importing, parts.observer)
    except ValueError as error:
        raise NotConfiguredError(str(error)) from None

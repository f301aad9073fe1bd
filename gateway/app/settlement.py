"""Settlement: clearing messages → SETTLED or breaks; and the inbox where networks' files arrive."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from gateway.app.errors import NotConfiguredError
from gateway.app.process import Process, consumer, dead_letters, publisher
from gateway.app.runtime import Runtime, work_until
from gateway.app.settings import Settings
from gateway.messaging.consuming import Consumer, ConsumerBatches, consume
from gateway.messaging.isolation import IsolatedBatch
from gateway.messaging.records import DeadLetters, Publisher
from gateway.network.iso8583.config import load_networks
from gateway.settlement.files import ClearingImport
from gateway.settlement.inbox import ClearingInbox
from gateway.settlement.matching import SettlementService, SettlementSettings
from gateway.settlement.seals import ClearingKeysError, FileSeals
from schemas.primitives import NetworkId
from schemas.topics import clearing_topic


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementConnections:
    """What settlement reaches others through.

    Attributes:
        consumer: of all networks' clearing messages.
        inbox: where clearing files arrive, if one is watched.
    """

    consumer: Consumer
    dead_letters: DeadLetters
    inbox: ClearingInbox | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementTerms:
    """How it is settled; each bound has its reason in :mod:`gateway.app.settings`.

    Attributes:
        networks: ids of those that are configured.
    """

    networks: frozenset[str]
    settlement: SettlementSettings = field(default_factory=SettlementSettings)
    batch_max: int = 10
    batch_wait_s: float = 0.1
    match_again_s: float = 5.0
    inbox_poll_s: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementStage:
    """Settles what networks clear."""

    runtime: Runtime
    terms: SettlementTerms
    consumer: Consumer
    inbox: ClearingInbox | None
    service: SettlementService
    isolated: IsolatedBatch

    async def run(self, stopping: asyncio.Event) -> None:
        """Settle until told to stop. A batch in hand may be cut: every message is one transaction, and comes again."""
        await self.consumer.start()
        try:
            workers = {"settlement": self._settle(), "breaks": self._match_again()}
            if self.inbox is not None:
                workers["clearing-inbox"] = self.inbox.watch(self.terms.networks, poll_s=self.terms.inbox_poll_s)
            await work_until(stopping, workers)
        finally:
            await self.consumer.stop()

    async def _settle(self) -> None:
        terms = self.terms
        watchdog = self.runtime.watch("settlement", self.consumer.lag)
        batches = ConsumerBatches(self.consumer, batch_max=terms.batch_max, batch_wait_s=terms.batch_wait_s)
        handle = partial(self.isolated.run, self.service.take)
        await consume(batches, handle, progress=watchdog.progress)

    async def _match_again(self) -> None:
        while True:
            if await self.service.match_again() == 0:
                await self.runtime.pause("breaks", self.terms.match_again_s)


def settlement(runtime: Runtime, connections: SettlementConnections, terms: SettlementTerms) -> SettlementStage:
    """Put settlement together."""
    parked = connections.dead_letters
    return SettlementStage(
        runtime=runtime,
        terms=terms,
        consumer=connections.consumer,
        inbox=connections.inbox,
        service=SettlementService(
            store=runtime.store,
            dead_letters=parked,
            observer=runtime.observer,
            clock=runtime.clock,
            settings=terms.settlement,
        ),
        isolated=IsolatedBatch("settlement", dead_letters=parked, observer=runtime.observer),
    )


# --- a process ---


@asynccontextmanager
async def settlement_process(process: Process) -> AsyncIterator[SettlementStage]:
    """Everything that settles all configured networks, over Kafka, PostgreSQL and the inbox."""
    settings = process.settings
    networks = frozenset(load_networks(settings.networks_dir))
    terms = SettlementTerms(
        networks=networks,
        settlement=SettlementSettings(too_early_s=settings.settlement_too_early_s),
        batch_max=settings.settlement_batch_max,
        batch_wait_s=settings.settlement_batch_wait_s,
        match_again_s=settings.settlement_match_again_s,
        inbox_poll_s=settings.clearing_inbox_poll_s,
    )
    async with publisher(process) as producer:
        parked = dead_letters(process, producer)
        connections = SettlementConnections(
            consumer=consumer(
                process,
                topics=[clearing_topic(NetworkId(n)) for n in sorted(networks)],
                group_id="mypay-settlement",
            ),
            dead_letters=parked,
            inbox=_inbox(process, networks, producer, parked),
        )
        yield settlement(process, connections, terms)


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


def _inbox(
    process: Process, networks: frozenset[str], producer: Publisher, parked: DeadLetters
) -> ClearingInbox | None:
    settings = process.settings
    if settings.clearing_inbox is None:
        return None
    seals = clearing_seals(settings, networks)
    for network_id in sorted(networks):
        if not seals.required(NetworkId(network_id)):
            process.observer.note("clearing_files_need_no_seal", level="warning", network_id=network_id)
    importing = ClearingImport(
        publisher=producer,
        dead_letters=parked,
        observer=process.observer,
        clock=process.clock,
        seals=seals,
        networks=networks,
    )
    try:
        return ClearingInbox(settings.clearing_inbox, settings.clearing_state_dir, importing, process.observer)
    except ValueError as error:
        raise NotConfiguredError(str(error)) from None

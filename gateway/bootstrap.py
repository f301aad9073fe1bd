"""The one place where parts are put together: settings in, use cases on real adapters out."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from gateway.adapters.crypto.assertion import JwsAssertionVerifier
from gateway.adapters.crypto.issuers import CachedTrustTable
from gateway.adapters.crypto.keys import CachedKeySource, Registry
from gateway.adapters.crypto.redaction import redact
from gateway.adapters.crypto.signature import JwsVerifier
from gateway.adapters.crypto.vault import CardSealer, MasterKeys, Sealed
from gateway.adapters.iso8583.config import NetworkConfig, load_networks
from gateway.adapters.iso8583.pool import Iso8583Network
from gateway.adapters.iso8583.reporting import LinkMetrics
from gateway.adapters.kafka.consumer import BatchConsumer
from gateway.adapters.kafka.dead_letter import KafkaDeadLetters
from gateway.adapters.kafka.probe import KafkaProbe
from gateway.adapters.kafka.producer import KafkaPublisher
from gateway.adapters.kafka.settings import KafkaSettings
from gateway.adapters.observability.health import Health, Watchdog
from gateway.adapters.observability.logging import configure_logging
from gateway.adapters.observability.observer import StageObserver
from gateway.adapters.observability.web import MetricsServer
from gateway.adapters.postgres.identities import PostgresRevocations
from gateway.adapters.postgres.outbox import PostgresOutboxReader
from gateway.adapters.postgres.store import PostgresStore
from gateway.adapters.postgres.vault import PostgresTokenVault
from gateway.domain.exchange import UnmatchedAnswer
from gateway.domain.routing import NetworkProfile
from gateway.ports import AssertionVerifier, Observer, StoreUnavailableError, TrustTable
from gateway.services.ended_consents import EndedConsentWatch
from gateway.services.execution import ExecutionService, ExecutionSettings
from gateway.services.initiation import InitiationService
from gateway.services.isolation import IsolatedBatch
from gateway.services.proofs import NoIdentityProviders
from gateway.services.relay import RelayService, RelaySettings
from gateway.services.retrying import until_done
from gateway.services.reversal import ReversalService, ReversalSettings
from gateway.services.settlement import SettlementService, SettlementSettings
from gateway.settings import Settings
from schemas.primitives import NetworkId
from schemas.topics import clearing_topic, dispatch_topic

READINESS_TIMEOUT_S = 2.0
"""Orchestrators ask every few seconds; an answer that takes longer is no answer."""

NETWORK_REPORT_FRESH_S = 5.0
"""Workers report every second: five missed reports mean that nobody executes on that network."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where Kafka and PostgreSQL are."""

    kafka_bootstrap_servers: str
    postgres_dsn: str


class NotConfiguredError(Exception):
    """Something that this process needs is not configured; the text says what to do."""


def addresses_of(settings: Settings) -> Addresses:
    """Addresses as given, or else those of the running local stack.

    Raises:
        NotConfiguredError: neither is there.
    """
    kafka = settings.kafka_bootstrap_servers
    dsn = settings.postgres_dsn.get_secret_value() if settings.postgres_dsn else None
    if kafka is None or dsn is None:
        from gateway.local import ServerState, status  # noqa: PLC0415 - an extra that production does not install

        local = status(settings.stack, home=settings.home)
        if local.kafka.state is ServerState.RUNNING:
            kafka = kafka or local.kafka.address
        if local.postgres.state is ServerState.RUNNING:
            dsn = dsn or local.postgres.address
    if not kafka or not dsn:
        raise NotConfiguredError(
            "MYPAY_KAFKA_BOOTSTRAP_SERVERS and MYPAY_POSTGRES_DSN are not set, and no local stack runs: "
            "set them, or start one with `mypay local up`"
        )
    return Addresses(kafka, dsn)


class SystemClock:
    """Implements :class:`gateway.ports.Clock`."""

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Parts:
    """What every process has.

    Attributes:
        worker: names this process in leases and reports; never two alike.
        store: started.
        health: add a stage's own checks here.
    """

    settings: Settings
    kafka: KafkaSettings
    dsn: str
    store: PostgresStore
    observer: Observer
    health: Health
    clock: SystemClock
    worker: str


def kafka_settings(settings: Settings, bootstrap_servers: str, *, client_id: str = "mypay") -> KafkaSettings:
    """How to reach Kafka."""
    return KafkaSettings(
        bootstrap_servers=bootstrap_servers,
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=settings.kafka_password,
        ssl_cafile=settings.kafka_ssl_cafile,
        client_id=client_id,
    )


def worker_name(stage: str) -> str:
    """A name that no other process has, now or after a restart."""
    return f"{stage}@{socket.gethostname()}/{os.getpid()}/{datetime.now(UTC):%Y%m%dT%H%M%S}"


@asynccontextmanager
async def process_parts(settings: Settings, stage: str) -> AsyncIterator[Parts]:
    """What every process needs, started: logs, metrics with health checks over HTTP, and the database.

    Raises:
        NotConfiguredError: Kafka or PostgreSQL have no address.
    """
    configure_logging(redact=redact, level=settings.log_level, fmt=settings.log_format)
    addresses = addresses_of(settings)
    registry = CollectorRegistry()
    for collect in (ProcessCollector, PlatformCollector, GCCollector):
        collect(registry=registry)
    observer = StageObserver(registry, stage=stage)
    health = Health()
    store = PostgresStore(addresses.postgres_dsn, pool_size=settings.execution_pool_size, name=f"mypay-{stage}")
    kafka = kafka_settings(settings, addresses.kafka_bootstrap_servers, client_id=f"mypay-{stage}")
    # Before anything is waited for: a process that still waits for a server to start with is not ready.
    health.readiness["postgres"] = partial(_postgres_answers, store)
    health.readiness["kafka"] = partial(_kafka_answers, KafkaProbe(kafka))
    web = MetricsServer(host=settings.http_host, port=settings.http_port, registry=registry, health=health)
    await web.start()
    observer.note("process_started", stage=stage, pid=os.getpid(), http_port=web.port)
    try:
        await until_done(store.start)
        yield Parts(
            settings=settings,
            kafka=kafka,
            dsn=addresses.postgres_dsn,
            store=store,
            observer=observer,
            health=health,
            clock=SystemClock(),
            worker=worker_name(stage),
        )
    finally:
        await store.stop()
        await web.stop()
        observer.note("process_stopped", stage=stage)


async def _postgres_answers(store: PostgresStore) -> str | None:
    try:
        async with asyncio.timeout(READINESS_TIMEOUT_S), store.connection() as connection:
            await connection.fetchval("SELECT 1")
    except (StoreUnavailableError, TimeoutError):
        return "no answer"
    return None


async def _kafka_answers(probe: KafkaProbe) -> str | None:
    return None if await probe.answers(timeout_s=READINESS_TIMEOUT_S) else "no answer"


@asynccontextmanager
async def publisher(parts: Parts) -> AsyncIterator[KafkaPublisher]:
    """A started producer."""
    producer = KafkaPublisher(parts.kafka, parts.observer)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def dead_letters(parts: Parts, producer: KafkaPublisher) -> KafkaDeadLetters:
    """Where this process parks what it cannot read."""
    return KafkaDeadLetters(producer, MasterKeys.load(parts.settings.master_keys_dir))


@dataclass(frozen=True, slots=True)
class Proving:
    """Who may sign: partners' keys and trusted identity providers, both kept fresh."""

    keys: CachedKeySource
    signatures: JwsVerifier
    trust: TrustTable
    assertions: AssertionVerifier


@asynccontextmanager
async def proving(parts: Parts) -> AsyncIterator[Proving]:
    """The registries of keys and identity providers, started."""
    keys = CachedKeySource(_registry_loader(parts.store), parts.observer)
    await until_done(partial(keys.start, parts.settings.registry_refresh_s))
    try:
        async with _trust(parts) as (trust, assertions):
            yield Proving(keys, JwsVerifier(keys), trust, assertions)
    finally:
        await keys.stop()


@asynccontextmanager
async def _trust(parts: Parts) -> AsyncIterator[tuple[TrustTable, AssertionVerifier]]:
    folder = parts.settings.issuers_dir
    if folder is None:
        parts.observer.note("no_identity_providers", level="warning")
        nobody = NoIdentityProviders()
        yield nobody, nobody
        return
    table = CachedTrustTable(folder, parts.observer, revocations=PostgresRevocations(parts.store))
    await until_done(table.start)
    try:
        yield table, JwsAssertionVerifier(table)
    finally:
        await table.stop()


@asynccontextmanager
async def initiation_service(parts: Parts) -> AsyncIterator[tuple[InitiationService, IsolatedBatch]]:
    """The intake, with its key registry and its view of the networks kept fresh."""
    networks = _NetworkView(parts, load_networks(parts.settings.networks_dir))
    await until_done(networks.start)
    try:
        async with proving(parts) as proofs, publisher(parts) as producer:
            parked = dead_letters(parts, producer)
            service = InitiationService(
                store=parts.store,
                keys=proofs.keys,
                verifier=proofs.signatures,
                trust=proofs.trust,
                assertions=proofs.assertions,
                networks=networks.profiles,
                publisher=producer,
                dead_letters=parked,
                observer=parts.observer,
                clock=parts.clock,
            )
            yield service, IsolatedBatch("initiation", dead_letters=parked, observer=parts.observer)
    finally:
        await networks.stop()


def _registry_loader(store: PostgresStore) -> Callable[[], Awaitable[Registry]]:
    async def load() -> Registry:
        async with store.reading() as uow:
            return await uow.directory.active_partners(), await uow.directory.partner_keys()

    return load


class _NetworkView:
    """What routing knows of the networks: their files, and which of them execution reports open."""

    def __init__(self, parts: Parts, networks: Mapping[str, NetworkConfig]) -> None:
        self._parts = parts
        self._networks = networks
        self._open: frozenset[str] = frozenset()
        self._task: asyncio.Task[None] | None = None

    def profiles(self) -> Sequence[NetworkProfile]:
        return [
            NetworkProfile(
                network_id=n.network_id,
                currencies=n.currencies,
                categories=n.categories or None,
                cost_fixed_minor=n.cost_fixed_minor,
                cost_basis_points=n.cost_basis_points,
                open=n.network_id in self._open,
            )
            for n in self._networks.values()
        ]

    async def start(self) -> None:
        await self._look()
        self._task = asyncio.create_task(self._keep_looking(), name="network-view")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            # Without news the last view stands: it is a preference, not a decision.
            with suppress(StoreUnavailableError):
                await self._look()

    async def _look(self) -> None:
        since = self._parts.clock.now() - timedelta(seconds=NETWORK_REPORT_FRESH_S)
        async with self._parts.store.reading() as uow:
            self._open = await uow.directory.open_networks(reported_since=since)


@dataclass(frozen=True, slots=True)
class ExecutionParts:
    """What executes one network."""

    network: Iso8583Network
    consumer: BatchConsumer
    service: ExecutionService
    reversals: ReversalService
    isolated: IsolatedBatch
    watch: EndedConsentWatch

    async def waiting(self) -> int:
        """Orders that could be executed now: none while the network is closed, for then they are meant to wait."""
        return await self.consumer.lag() if self.network.is_open else 0


@asynccontextmanager
async def execution_parts(parts: Parts, network_id: NetworkId) -> AsyncIterator[ExecutionParts]:
    """Everything that executes one network, started.

    Raises:
        NotConfiguredError: there is no file for this network, or no master key.
    """
    settings = parts.settings
    config = load_networks(settings.networks_dir).get(network_id)
    if config is None:
        raise NotConfiguredError(f"no network {network_id} in {settings.networks_dir}")
    vault = token_vault(parts)
    network = Iso8583Network(
        config,
        on_unmatched=partial(_note_unmatched, parts.observer),
        observer=LinkMetrics(parts.observer),
    )
    consumer = BatchConsumer(
        parts.kafka, parts.observer, topics=[dispatch_topic(network_id)], group_id=f"mypay-execution-{network_id}"
    )
    watch = EndedConsentWatch(
        store=parts.store,
        observer=parts.observer,
        clock=parts.clock,
        settle_s=settings.execution_intent_to_wire_s + config.answer_timeout_s,
    )
    async with proving(parts) as proofs, publisher(parts) as producer:
        parked = dead_letters(parts, producer)
        service = ExecutionService(
            network_id=network_id,
            terminals=config.terminals.ids,
            store=parts.store,
            vault=vault,
            network=network,
            dead_letters=parked,
            observer=parts.observer,
            clock=parts.clock,
            settings=_execution_settings(settings, config),
            signatures=proofs.signatures,
            trust=proofs.trust,
            assertions=proofs.assertions,
            watch=watch,
        )
        reversals = ReversalService(
            network_id=network_id,
            worker=parts.worker,
            store=parts.store,
            vault=vault,
            network=network,
            observer=parts.observer,
            clock=parts.clock,
            settings=_reversal_settings(settings, config),
        )
        await network.start()
        await consumer.start()
        try:
            isolated = IsolatedBatch("execution", dead_letters=parked, observer=parts.observer)
            yield ExecutionParts(network, consumer, service, reversals, isolated, watch)
        finally:
            await consumer.stop()
            await network.stop(drain_seconds=0)


def _execution_settings(settings: Settings, config: NetworkConfig) -> ExecutionSettings:
    # The longest that a live worker can hold a payment in SENT: from intent to wire, then the answer's time.
    held_s = settings.execution_intent_to_wire_s + config.answer_timeout_s
    return ExecutionSettings(
        intent_to_wire_s=settings.execution_intent_to_wire_s,
        results_max=settings.execution_results_max,
        results_wait_s=settings.execution_results_wait_s,
        abandoned_after_s=held_s + settings.recovery_margin_s,
    )


def _reversal_settings(settings: Settings, config: NetworkConfig) -> ReversalSettings:
    return ReversalSettings(
        batch=settings.reversal_batch,
        repeat_interval_s=config.reversal_repeat_interval_s,
        alert_after_s=config.reversal_alert_after_s,
        # Waiting for the socket takes at most a quarter of it, the answer its time-out: twice that is never lost alive.
        lease_s=4 * config.answer_timeout_s,
    )


def token_vault(parts: Parts) -> PostgresTokenVault:
    """The vault over the installation's master keys.

    Raises:
        NotConfiguredError: there is no master key.
    """
    keys = MasterKeys.load(parts.settings.master_keys_dir)
    if not len(keys):
        raise NotConfiguredError(
            f"no master key in {parts.settings.master_keys_dir}: make one with `mypay keys master create`"
        )
    sealer = CardSealer(keys)
    return PostgresTokenVault(
        parts.store,
        lambda token, key_id, nonce, ciphertext: sealer.open_card(token, Sealed(key_id, nonce, ciphertext)),
    )


def watch_consumer(
    parts: Parts, stage: str, lag: Callable[[], Awaitable[int]], *, stall_after_s: float | None = None
) -> Watchdog:
    """Make the process's liveness fail when ``stage`` stands still while records wait."""
    watchdog = Watchdog(stall_after_s=stall_after_s or parts.settings.stall_after_s, waiting=lag)
    parts.health.liveness[stage] = watchdog.check
    return watchdog


def _note_unmatched(observer: Observer, answer: UnmatchedAnswer) -> None:
    # The payment's state needs no change: what is unknown is being reversed, and a reversal undoes a late approval.
    observer.count("execution", "unmatched_answer", reason=answer.answer.response_code)
    observer.note(
        "unmatched_answer",
        level="warning",
        network_id=answer.network_id,
        mti=answer.mti,
        terminal_id=answer.terminal_id,
        stan=answer.stan,
        code=answer.answer.response_code,
    )


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

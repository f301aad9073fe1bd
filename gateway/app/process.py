"""Starting a process: addresses, logs, metrics, health, the database, a producer."""

import asyncio
import os
import platform
import socket
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from gateway.app import database
from gateway.app.addresses import kafka_address
from gateway.app.belonging import Together, belonging_together
from gateway.app.clock import SteadyClock
from gateway.app.clock_watch import watch_clock
from gateway.app.errors import NoAddressError, NotConfiguredError
from gateway.app.kafka import kafka_settings
from gateway.app.keys import RINGS_OF, Ring, load_ring
from gateway.app.policy import JUDGING, read_policy
from gateway.app.postgres import PostgresStore
from gateway.app.runtime import Runtime
from gateway.app.settings import Settings
from gateway.app.tracing import start_traces
from gateway.app.watching import (
    kafka_answers,
    look_around,
    postgres_answers,
    topics_of,
    watch_certificates,
    watch_disks,
    watch_group,
    watch_pool,
)
from gateway.base.errors import StoreUnavailableError
from gateway.base.process import Observer
from gateway.base.retrying import until_done
from gateway.database.dsn import place_of
from gateway.database.roles import Role as DatabaseRole
from gateway.messaging.consumer import BatchConsumer
from gateway.messaging.fetch_waits import FETCH_WAIT_MS
from gateway.messaging.parking import KafkaDeadLetters
from gateway.messaging.probe import KafkaProbe
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.settings import KafkaSettings
from gateway.network.iso8583.config import NetworkConfig, NetworkConfigError, load_networks
from gateway.observability.health import Health
from gateway.observability.logging import configure_logging
from gateway.observability.observer import StageObserver
from gateway.observability.web import MetricsServer
from gateway.sealing.redaction import redact
from schemas.principals import Principal, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Process(Runtime):
    """A process of the gateway: what its stage stands on, and what its connections are made from.

    Attributes:
        dsn: of this process's own user in the database; it can hold a password.
        store: started.
        together: waited for before anything is read from Kafka or written to it.
    """

    settings: Settings
    kafka: KafkaSettings
    dsn: str = field(repr=False)
    store: PostgresStore
    together: Together


def worker_name(stage: str) -> str:
    """A name that no other process has, now or after a restart."""
    return f"{stage}@{socket.gethostname()}/{os.getpid()}/{datetime.now(UTC):%Y%m%dT%H%M%S}"


@asynccontextmanager
async def started_process(settings: Settings, stage: str, *, network_id: str = "") -> AsyncIterator[Process]:
    """A process, started: logs, metrics with health checks over HTTP, and the database.

    ``network_id`` is given of execution, whose principal is its network's.

    Raises:
        NotConfiguredError: Kafka or PostgreSQL have no address, Kafka asks for what is not configured, the stage lacks
            a key, it judges proofs and was not told whose, or the database is not fit for it or belongs to another
            Kafka.
    """
    configure_logging(redact=redact, level=settings.log_level, fmt=settings.log_format)
    user = DatabaseRole(stage)
    at, dsn = kafka_address(settings), database.database_dsn(settings, user)
    if at is None:
        raise NoAddressError(
            "MYPAY_KAFKA_BOOTSTRAP_SERVERS is not set, and no local stack runs: "
            "set it, or start one with `mypay local up`"
        )
    kafka = kafka_settings(settings, at, Principal(Role(stage), network_id).name, client_id=f"mypay-{stage}")
    # Before anything is waited for: who lacks a key says so, and does not first wait for the database.
    for ring in RINGS_OF.get(stage, ()):
        load_ring(settings, ring)
    if stage in JUDGING:
        read_policy(settings)
    registry = process_registry()
    observer = StageObserver(
        registry,
        stage=stage,
        network=network_id,
        networks=_networks(settings, stage, network_id),
        every_step=settings.log_every_step,
    )
    worker = worker_name(stage)
    spans = start_traces(settings, observer, stage=stage, worker=worker)
    health = Health()
    store = PostgresStore(dsn, pool_size=settings.execution_pool_size, name=f"mypay-{stage}")
    # Before anything is waited for: a process that still waits for a server to start with is not ready.
    _ask_readiness(health, store, kafka, topics_of(stage, _networks(settings, stage, network_id)))
    watch_disks(settings, stage, health, observer)
    watch_pool(store, observer)
    watch_certificates(_certificates(settings, stage, network_id, kafka), observer)
    try:
        async with told_over_http(settings, stage, registry, health, observer, exemplars=spans is not None):
            await _connected(store, dsn, observer)
            # A server that answers is not yet one to work with: a standby, or one with another time than ours.
            health.readiness["start"] = _still_waits
            await until_done(partial(database.check_database, store, settings, user, dsn, observer))
            clock = SteadyClock()
            watch_clock(store, clock, health, observer)
            async with belonging_together(store, kafka) as together:
                del health.readiness["start"]
                yield Process(
                    settings=settings,
                    kafka=kafka,
                    together=together,
                    dsn=dsn,
                    store=store,
                    observer=observer,
                    health=health,
                    clock=clock,
                    worker=worker,
                    stall_after_s=settings.stall_after_s,
                )
    finally:
        await store.stop()
        if spans is not None:
            await spans.stop()


def _ask_readiness(health: Health, store: PostgresStore, kafka: KafkaSettings, topics: Sequence[str]) -> None:
    health.readiness["postgres"] = partial(postgres_answers, store)
    health.readiness["kafka"] = partial(kafka_answers, KafkaProbe(kafka))
    health.readiness["topics"] = partial(kafka_answers, KafkaProbe(kafka, topics))


def process_registry() -> CollectorRegistry:
    """Where a process registers its metrics; those of the process itself are there."""
    registry = CollectorRegistry()
    for collect in (ProcessCollector, PlatformCollector, GCCollector):
        collect(registry=registry)
    return registry


@asynccontextmanager
async def told_over_http(
    settings: Settings,
    stage: str,
    registry: CollectorRegistry,
    health: Health,
    observer: StageObserver,
    *,
    exemplars: bool = False,
) -> AsyncIterator[None]:
    """Serve ``/metrics``, ``/healthz`` and ``/readyz``, and look around, for as long as the block lasts.

    Raises:
        NotConfiguredError: the port cannot be listened on.
    """
    observer.level("build_info", 1, version=version("mypay-gateway"), stage=stage, python=platform.python_version())
    web = MetricsServer(
        host=settings.http_host, port=settings.http_port, registry=registry, health=health, exemplars=exemplars
    )
    try:
        await web.start()
    except OSError as error:
        raise NotConfiguredError(
            f"port {settings.http_port} of {settings.http_host} cannot be listened on "
            f"({os.strerror(error.errno or 0)}): MYPAY_HTTP_PORT says which one, 0 takes a free one; MYPAY_HTTP_HOST "
            "says where"
        ) from None
    looking = asyncio.create_task(look_around(health, observer), name="looking-around")
    observer.note("process_started", stage=stage, pid=os.getpid(), http_port=web.port)
    try:
        yield
    finally:
        looking.cancel()
        await asyncio.wait([looking])
        await web.stop()
        observer.note("process_stopped", stage=stage)


_OF_NETWORKS = frozenset({"initiation", "schedule", "settlement"})
"""Stages that report on payments of all networks."""


def _networks(settings: Settings, stage: str, network_id: str) -> tuple[str, ...]:
    if network_id:
        return (network_id,)
    return tuple(_configured(settings)) if stage in _OF_NETWORKS else ()


def _configured(settings: Settings) -> dict[str, NetworkConfig]:
    try:
        return load_networks(settings.networks_dir)
    except NetworkConfigError:
        return {}  # what needs them says what is wrong with them


def _certificates(settings: Settings, stage: str, network_id: str, kafka: KafkaSettings) -> dict[str, Path | None]:
    found = {"kafka": kafka.ssl_certfile}
    if stage == "portability_api":
        found["portability_api"] = settings.portability_api_certificate_file
    network = _configured(settings).get(network_id) if network_id else None
    if network is not None and network.tls is not None:
        found["network"] = network.tls.certificate
    return found


async def _still_waits() -> str:
    return "it has not found the database fit yet"


async def _connected(store: PostgresStore, dsn: str, observer: Observer) -> None:
    """Connect, however long the server is away, and say once that it is waited for."""
    try:
        await database.connect(store)
    except StoreUnavailableError as error:
        observer.note("waiting_for_postgres", level="warning", address=place_of(dsn), reason=str(error))
        await until_done(partial(database.connect, store))


def consumer(
    process: Process,
    *,
    topics: Collection[str],
    group_id: str,
    in_turns: bool = False,
    fetch_wait_ms: int = FETCH_WAIT_MS,
) -> BatchConsumer:
    """A consumer that is watched: see :mod:`gateway.app.watching`."""
    made = BatchConsumer(
        process.kafka,
        process.observer,
        topics=topics,
        group_id=group_id,
        in_turns=in_turns,
        fetch_wait_ms=fetch_wait_ms,
        before=process.together,
    )
    watch_group(process, group_id, problem=made.problem, lag=made.lag, taken_ms=lambda: made.taken_ms)
    return made


@asynccontextmanager
async def publisher(process: Process, of: KafkaPublisher | None = None) -> AsyncIterator[KafkaPublisher]:
    """A producer that connects in the background; ``of``: one with bounds of its own.

    A process that starts while Kafka is away does at once what needs no Kafka: what a dead worker left in flight is
    settled with PostgreSQL and the network alone. Whoever publishes before waits for the connection, and fails by what
    makes it impossible.
    """
    producer = of or KafkaPublisher(process.kafka, process.observer, before=process.together)

    async def connect() -> None:
        try:
            await until_done(producer.start)
        except Exception as error:  # noqa: BLE001 - told here, raised to whoever publishes
            process.observer.note("publisher_cannot_connect", level="error", reason=type(error).__name__)

    connecting = asyncio.create_task(connect(), name="publisher")
    try:
        yield producer
    finally:
        connecting.cancel()
        await asyncio.wait([connecting])
        await producer.stop()


def dead_letters(process: Process, producer: KafkaPublisher) -> KafkaDeadLetters:
    """Where this process parks what it cannot read.

    Raises:
        NotConfiguredError: there is no key for dead letters.
    """
    return KafkaDeadLetters(producer, load_ring(process.settings, Ring.DEAD_LETTER))

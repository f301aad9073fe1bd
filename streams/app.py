"""The Faust application of the stages that run on Faust: raw bytes in, batches out, nothing else of Faust's."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import faust
from faust.auth import SASLCredentials, SSLCredentials

from gateway.app.process import Parts, watch_consumer
from gateway.app.settings import Settings
from gateway.messaging.consumer import PARTITION_FETCH_BYTES, REBALANCE_TIMEOUT_MS, SESSION_TIMEOUT_MS
from gateway.messaging.fetching import guard_fetches, record_of
from gateway.messaging.probe import KafkaProbe
from gateway.messaging.records import Record
from gateway.messaging.settings import KafkaSettings
from streams.batches import BatchReader
from streams.open_transactions import OpenTransactions
from streams.transport import DirectConsumer, DirectTransport

LOOK_S = 1.0
KAFKA_ANSWERS_S = 2.0
"""How often a stage makes sure that it is still a member of its group."""

TakeBatch = Callable[[Sequence[Record]], Awaitable[None]]


def build_app(name: str, settings: Settings, kafka: KafkaSettings) -> faust.App:
    """Build an app that reads topics in batches. Call it inside the running event loop.

    Faust's tables, web views, topic creation and exactly-once mode stay off: Postgres decides, and ``mypay topics``
    owns the topics.
    """
    # One record that cannot be read, or a batch that unpacks without end, would stop its partition for good.
    guard_fetches()
    datadir = settings.home / "faust" / name
    datadir.parent.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        f"mypay-{name}",
        broker=[f"kafka://{server}" for server in kafka.addresses],
        broker_credentials=_credentials(kafka),
        autodiscover=False,
        web_enabled=False,
        web_tables_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        store="memory://",
        datadir=datadir,
        # Offsets go to Kafka this often; what is handled and not committed comes again and does nothing.
        broker_commit_interval=0.5,
        broker_commit_every=100_000,
        broker_max_poll_records=settings.initiation_batch_max,
        # As long as execution's: until a killed worker counts as dead, nobody has its partitions. Faust's own default
        # is a minute.
        broker_session_timeout=SESSION_TIMEOUT_MS / 1000,
        broker_heartbeat_interval=SESSION_TIMEOUT_MS / 1000 / 5,
        broker_rebalance_timeout=REBALANCE_TIMEOUT_MS / 1000,
        # Two batches: one being handled, one waiting; more would only be memory.
        stream_buffer_maxsize=2 * settings.initiation_look_max,
        # On shutdown the batch in hand is finished before offsets are committed.
        stream_wait_empty=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=PARTITION_FETCH_BYTES,
    )
    app.transport = DirectTransport(app.conf.broker_consumer, app)
    return app


def read_batches(app: faust.App, topic: str, take: TakeBatch, *, batch_max: int, batch_wait_s: float) -> None:
    """Register the agent of one topic: each batch is acknowledged when ``take`` returns.

    Concurrency is one: Faust commits past unfinished records otherwise. Scale by partitions and workers. ``take``
    must not raise: the app then crashes, for an agent that is started again would commit past what was not handled.
    """
    source = app.topic(topic, key_serializer="raw", value_serializer="raw", key_type=bytes, value_type=bytes)

    async def agent(stream: Any) -> None:
        reader = BatchReader(app, stream, batch_max=batch_max, batch_wait_s=batch_wait_s)
        cast("DirectConsumer", app.consumer).enter_through(reader.doorway)
        while True:
            try:
                messages = await reader.take()
            except StopAsyncIteration:
                # How Faust tells an agent that it is stopping.
                return
            if not messages:
                continue
            try:
                await take([_record(message) for message in messages])
            except Exception as error:
                await app.crash(error)
                raise
            reader.acknowledge(messages)

    app.agent(source, name=f"{topic}.agent", concurrency=1)(agent)


@dataclass(frozen=True, slots=True)
class FaustStage:
    """A stage that reads one topic through Faust, in batches of at most ``batch_max``.

    Attributes:
        on_assigned: awaited before the first batch of each assignment.
    """

    name: str
    topic: str
    batch_max: int
    batch_wait_s: float
    on_assigned: Callable[[], Awaitable[None]] | None = None


async def run_stage(parts: Parts, stage: FaustStage, take: TakeBatch, stopping: asyncio.Event) -> None:
    """Run a stage until told to stop, under the watchdog. ``take`` must not raise: see :func:`read_batches`.

    Raises:
        AppCrashedError: see :func:`run_until`.
    """
    if not await _kafka_answers(parts, stopping):
        return
    app = build_app(stage.name, parts.settings, parts.kafka)
    watchdog = watch_consumer(parts, stage.name, partial(waiting, app))

    generation: list[Any] = []

    async def take_and_tell(records: Sequence[Record]) -> None:
        if stage.on_assigned is not None and generation != [app.consumer_generation_id]:
            generation[:] = [app.consumer_generation_id]
            await stage.on_assigned()
        await take(records)
        watchdog.progress()

    read_batches(app, stage.topic, take_and_tell, batch_max=stage.batch_max, batch_wait_s=stage.batch_wait_s)
    watching = asyncio.create_task(_watch_transactions(parts, app), name="transactions")
    try:
        await run_until(app, stopping)
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def _kafka_answers(parts: Parts, stopping: asyncio.Event) -> bool:
    """Wait until Kafka answers, for as long as it takes; False if told to stop before.

    Faust gives up where no broker answers when it starts; what keeps us out is told by ``/readyz``.
    """
    probe = KafkaProbe(parts.kafka)
    # Of the event itself: a stage that waits here has not started.
    told = asyncio.ensure_future(asyncio.Event.wait(stopping))
    try:
        while not told.done():
            if await probe.problem(timeout_s=KAFKA_ANSWERS_S) is None:
                return True
            await asyncio.wait({told}, timeout=LOOK_S)
        return False
    finally:
        told.cancel()


class AppCrashedError(Exception):
    """A part of Faust has crashed: the process must end, to be started again."""


async def run_until(app: faust.App, stopping: asyncio.Event) -> None:
    """Run the app until told to stop.

    Raises:
        AppCrashedError: Faust does not end by itself when a part of it has crashed, nor when it has left its group; it
            stays, consuming nothing.
    """
    await app.start()
    crashed = asyncio.ensure_future(app._crashed.wait())  # noqa: SLF001 - mode tells it nowhere else
    left = asyncio.ensure_future(_left(app))
    told = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({crashed, left, told}, return_when=asyncio.FIRST_COMPLETED)
        if not told.done():
            raise AppCrashedError("left its group" if left.done() else type(app.crash_reason).__name__)
    finally:
        for task in (crashed, left, told):
            task.cancel()
        await app.stop()


async def _left(app: faust.App) -> None:
    consumer = cast("DirectConsumer", app.consumer)
    while not consumer.has_left():  # noqa: ASYNC110 - aiokafka tells nobody
        await asyncio.sleep(LOOK_S)


async def _watch_transactions(parts: Parts, app: faust.App) -> None:
    watch = OpenTransactions(parts.observer)
    while True:
        await asyncio.sleep(LOOK_S)
        watch.look(cast("DirectConsumer", app.consumer).held_back(), asyncio.get_running_loop().time())


async def waiting(app: faust.App) -> int:
    """Records in the app's partitions that could be taken and were not yet, as far as the brokers have told.

    What stands behind an open transaction cannot be: no restart would help.
    """
    consumer = cast("DirectConsumer", app.consumer)
    stable = consumer.held_back()
    total = 0
    for partition in consumer.assignment():
        end, _ = stable.get((partition.topic, partition.partition), (0, 0))
        total += max(0, end - (await consumer.position(partition) or 0))
    return total


def _record(message: Any) -> Record:
    headers = message.headers
    if isinstance(headers, Mapping):
        # Two headers of one name would have become one without a trace: Faust must hand on what Kafka delivered.
        raise TypeError("Faust gave headers as a mapping")
    # The oldest message format has no times.
    return record_of(message, round((message.timestamp or 0) * 1000))


def _credentials(kafka: KafkaSettings) -> Any:
    """The same as every other client's."""
    context = kafka.ssl_context()
    if kafka.security_protocol.startswith("SASL"):
        return SASLCredentials(
            username=kafka.username,
            password=kafka.password.get_secret_value() if kafka.password else None,
            ssl_context=context,
            mechanism=kafka.sasl_mechanism,
        )
    return None if context is None else SSLCredentials(context)

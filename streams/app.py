"""The Faust application of the stages that run on Faust: raw bytes in, batches out, nothing else of Faust's."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import faust
from faust.auth import SASLCredentials, SSLCredentials

from gateway.app.process import Process
from gateway.app.settings import Settings
from gateway.app.watching import watch_group
from gateway.messaging.consumer import PARTITION_FETCH_BYTES, REBALANCE_TIMEOUT_MS
from gateway.messaging.consuming import Handle, consume
from gateway.messaging.fetching import guard_fetches
from gateway.messaging.probe import KafkaProbe
from gateway.messaging.records import Record
from gateway.messaging.settings import KafkaSettings
from streams.batches import BatchReader, in_parts
from streams.consumer_thread import is_cancelled
from streams.open_transactions import OpenTransactions
from streams.transport import DirectConsumer, DirectTransport

LOOK_S = 1.0
"""How often a stage makes sure that it is still a member of its group."""

KAFKA_ANSWERS_S = 2.0
"""How long a broker may take to answer before the stage starts."""


SWITCH_S = 0.001
"""How long one thread computes while another has something to do: Faust's consumer has one of its own, and each step of
a fetch waits for so long where a batch is worked on. Python's default is five times that."""


def _unwatched() -> None:
    """Nobody watches."""


def _untold(_: int) -> None:
    """Nobody asks how old it was."""


class _App(faust.App):
    """Writes no file: nothing of its is on disk, and where it is deployed nothing can be written."""

    def _create_directories(self) -> None:
        """Make none of the folders that Faust would keep tables in."""


def build_app(name: str, settings: Settings, kafka: KafkaSettings) -> faust.App:
    """Build an app that reads topics in batches. Call it inside the running event loop.

    Faust's tables, web views, topic creation and exactly-once mode stay off: Postgres decides, and ``mypay topics``
    owns the topics.
    """
    # One record that cannot be read, or a batch that unpacks without end, would stop its partition for good.
    guard_fetches()
    app = _App(
        f"mypay-{name}",
        broker=[f"kafka://{server}" for server in kafka.addresses],
        broker_credentials=_credentials(kafka),
        autodiscover=False,
        web_enabled=False,
        web_tables_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        store="memory://",
        datadir=settings.home / "faust" / name,
        # Offsets go to Kafka this often; what is handled and not committed comes again and does nothing.
        broker_commit_interval=0.5,
        broker_commit_every=100_000,
        broker_max_poll_records=settings.initiation_batch_max,
        # As our other consumers'. Faust's own default is a minute.
        broker_session_timeout=kafka.session_s,
        broker_heartbeat_interval=kafka.heartbeat_s,
        consumer_group_instance_id=kafka.worker,
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


class FaustBatches:
    """Implements :class:`gateway.messaging.consuming.Batches` over what Faust's consumer delivers to one stream."""

    def __init__(
        self, app: faust.App, reader: BatchReader, batch_max: int, taken: Callable[[int], None] = _untold
    ) -> None:
        self._app = app
        self._taken = taken
        self._reader = reader
        self._batch_max = batch_max
        self._messages: Sequence[Any] = ()
        self._parts: Iterator[list[Record]] = iter(())
        self._part: Sequence[Record] = ()

    @property
    def generation(self) -> object:
        """Of the consumer group."""
        return self._app.consumer_generation_id

    async def take(self) -> Sequence[Record] | None:
        """The next batch; None once the agent is stopping."""
        if self._part:
            return self._part
        try:
            self._messages = await self._reader.take()
        except StopAsyncIteration:
            # How Faust tells an agent that it is stopping.
            return None
        self._parts = in_parts(self._messages, records_max=self._batch_max)
        self._go_on()
        if self._part:
            self._taken(self._part[-1].timestamp_ms)
        return self._part

    async def finished(self, records: Sequence[Record]) -> None:  # noqa: ARG002 - those of the batch that was taken
        """Acknowledge the messages whose last records these were: Faust commits their offsets before long."""
        self._go_on()

    def _go_on(self) -> None:
        """To the next part of what was taken: messages are unpacked one after another."""
        self._part = next(self._parts, [])
        if not self._part:
            self._reader.acknowledge(self._messages)
            self._messages = ()


def read_batches(
    app: faust.App,
    topic: str,
    handle: Handle,
    *,
    batch_max: int,
    batch_wait_s: float,
    progress: Callable[[], None] = _unwatched,
    on_assigned: Callable[[], Awaitable[None]] | None = None,
    taken: Callable[[int], None] = _untold,
) -> None:
    """Register the agent of one topic: each batch is acknowledged when ``handle`` returns.

    Concurrency is one: Faust commits past unfinished records otherwise. Scale by partitions and workers. Where
    ``handle`` raises the app crashes, for an agent that is started again would commit past what was not handled.
    """
    source = app.topic(topic, key_serializer="raw", value_serializer="raw", key_type=bytes, value_type=bytes)

    async def agent(stream: Any) -> None:
        reader = BatchReader(app, stream, batch_max=batch_max, batch_wait_s=batch_wait_s)
        cast("DirectConsumer", app.consumer).enter_through(reader.doorway)
        try:
            await consume(
                FaustBatches(app, reader, batch_max, taken), handle, progress=progress, on_assigned=on_assigned
            )
        except Exception as error:
            await app.crash(error)
            raise

    app.agent(source, name=f"{topic}.agent", concurrency=1)(agent)


class FaustSubscription:
    """Implements :class:`gateway.app.subscription.Subscription`: a topic that is read through Faust.

    Args:
        batch_max: records a batch at most.
        batch_wait_s: how long a batch waits for more records after its first.
    """

    def __init__(self, process: Process, name: str, topic: str, *, batch_max: int, batch_wait_s: float) -> None:
        self._process = process
        self._name = name
        self._topic = topic
        self._batch_max = batch_max
        self._batch_wait_s = batch_wait_s

    async def run(
        self,
        handle: Handle,
        stopping: asyncio.Event,
        *,
        on_assigned: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Handle batches until told to stop, under the watchdog.

        Raises:
            AppCrashedError: see :func:`run_until`.
        """
        process = self._process
        if not await _kafka_answers(process, stopping):
            return
        sys.setswitchinterval(SWITCH_S)
        app = build_app(self._name, process.settings, process.kafka)
        watchdog = process.watch(self._name, partial(waiting, app))
        taken_ms: list[int] = []

        def taken(at_ms: int) -> None:
            taken_ms[:] = [at_ms]

        watch_group(
            process,
            app.conf.id,
            problem=lambda: cast("DirectConsumer", app.consumer).problem() if app.started else "not started",
            lag=partial(waiting, app),
            taken_ms=lambda: taken_ms[0] if taken_ms else None,
        )
        read_batches(
            app,
            self._topic,
            handle,
            batch_max=self._batch_max,
            batch_wait_s=self._batch_wait_s,
            progress=watchdog.progress,
            on_assigned=on_assigned,
            taken=taken,
        )
        watching = asyncio.create_task(_watch_transactions(process, app), name="transactions")
        try:
            await run_until(app, stopping)
        finally:
            watching.cancel()
            await asyncio.wait([watching])


async def _kafka_answers(process: Process, stopping: asyncio.Event) -> bool:
    """Wait until Kafka answers, for as long as it takes; False if told to stop before.

    Faust gives up where no broker answers when it starts; what keeps us out is told by ``/readyz``.

    Raises:
        AnothersKafkaError: the database belongs to another Kafka.
    """
    probe = KafkaProbe(process.kafka)
    # Of the event itself: a stage that waits here has not started.
    told = asyncio.ensure_future(asyncio.Event.wait(stopping))
    together = asyncio.ensure_future(process.together())
    try:
        await asyncio.wait({told, together}, return_when=asyncio.FIRST_COMPLETED)
        while not told.done():
            together.result()
            if await probe.problem(timeout_s=KAFKA_ANSWERS_S) is None:
                return True
            await asyncio.wait({told}, timeout=LOOK_S)
        return False
    finally:
        told.cancel()
        together.cancel()


class AppCrashedError(Exception):
    """A part of Faust has crashed: the process must end, to be started again."""


async def run_until(app: faust.App, stopping: asyncio.Event) -> None:
    """Run the app until told to stop.

    Args:
        app: what is run.
        stopping: set where a part has crashed, too: what stops then is waited for no longer than any other stop.

    Raises:
        AppCrashedError: Faust does not end by itself when a part of it has crashed, nor when it has left its group; it
            stays, consuming nothing.
    """
    await app.start()
    crashed = asyncio.ensure_future(app._crashed.wait())  # noqa: SLF001 - mode tells it nowhere else
    left = asyncio.ensure_future(_left(app))
    told = asyncio.ensure_future(stopping.wait())
    why: AppCrashedError | None = None
    try:
        await asyncio.wait({crashed, left, told}, return_when=asyncio.FIRST_COMPLETED)
        if not told.done():
            why = AppCrashedError("left its group" if left.done() else type(app.crash_reason).__name__)
            stopping.set()
            raise why
    finally:
        for task in (crashed, left, told):
            task.cancel()
        await _stop(app, why)


async def _stop(app: faust.App, why: AppCrashedError | None) -> None:
    """Stop it; what has crashed may be unable to stop in order, which hides from nobody that and why it has crashed.

    Its consumer's thread hands on that it was cancelled where a commit was under way. Nobody has cancelled whoever
    stops it: a task that ends so is taken for one that was told to.
    """
    try:
        await app.stop()
    except asyncio.CancelledError as error:
        if is_cancelled():
            raise
        if why is None:
            raise AppCrashedError("did not stop in order") from error
        why.add_note("It did not stop in order either: a part of it was cancelled")
    except Exception as error:
        if why is None:
            raise
        # Its consumer's event loop is closed, for one.
        why.add_note(f"It did not stop in order either: {type(error).__name__}")


async def _left(app: faust.App) -> None:
    consumer = cast("DirectConsumer", app.consumer)
    while not consumer.has_left():  # noqa: ASYNC110 - aiokafka tells nobody
        await asyncio.sleep(LOOK_S)


async def _watch_transactions(process: Process, app: faust.App) -> None:
    watch = OpenTransactions(process.observer)
    while True:
        await asyncio.sleep(LOOK_S)
        consumer = cast("DirectConsumer", app.consumer)
        watch.look(consumer.held_back(), asyncio.get_running_loop().time())
        consumer.tell_gaps(process.observer)


async def waiting(app: faust.App) -> int:
    """Records in the app's partitions that could be taken and were not yet, as far as the brokers have told.

    What stands behind an open transaction cannot be: no restart would help.
    """
    consumer = cast("DirectConsumer", app.consumer)
    stable = consumer.held_back()
    total = 0
    for partition in consumer.assignment():
        end, _ = stable.get((partition.topic, partition.partition), (0, 0))
        place = consumer.place(partition)
        # None can be taken where it is not known where to begin.
        total += 0 if place is None else max(0, end - place)
    return total


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

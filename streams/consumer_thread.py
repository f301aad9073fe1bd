"""The thread in which a Faust consumer talks to Kafka: fetches as our other consumers do, and answers whoever calls it.

Faust lets a fetch wait for 1.5 s, and with it whatever a broker is asked beside it: ours wait as those of our other
consumers do (:mod:`gateway.messaging.fetch_waits`).

The stage and this thread call each other through queues, and wait for what comes of it. A part that crashes ends the
work on both queues; what was put there later was neither done nor answered. So the last commit of a stage that stopped
waited without end for the thread, and the thread, as it left the group, for the stage to let go of its partitions.
:class:`AnsweringQueue` answers, and where nothing was done there is nothing to wait for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Transport
from mode.threads import MethodQueue

from gateway.messaging.consumer import FETCH_BYTES, ISOLATION_LEVEL
from gateway.messaging.fetch_waits import FETCH_WAIT_MS
from gateway.messaging.fetching import whole_batches

T = TypeVar("T")


class AnsweringQueue(MethodQueue):
    """Answers every call: with what it gave or raised, or as cancelled where it is not made because a part has crashed.

    Args:
        callers: the event loop in which all who call stand.
    """

    def __init__(self, *, callers: asyncio.AbstractEventLoop, **more: Any) -> None:
        super().__init__(**more)
        self._callers = callers
        self._ended = False
        self._not_begun: set[asyncio.Future[Any]] = set()

    async def call(
        self, promise: asyncio.Future[Any], fun: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
    ) -> asyncio.Future[Any]:
        """Have it done; the promise is what it gives, and cancelled where it is not done any more."""
        if self._ended:
            promise.cancel()
            return promise
        self._not_begun.add(promise)
        return await super().call(promise, fun, *args, **kwargs)

    async def _process_enqueued(self, p: Any) -> asyncio.Future[Any]:
        # What has begun is answered by whoever does it, who may be cancelled himself.
        self._not_begun.discard(p.promise)
        return await super()._process_enqueued(p)

    def _crash(self, reason: BaseException) -> None:
        super()._crash(reason)
        self._end_in_time()

    async def on_shutdown(self) -> None:
        """Nothing is done any more."""
        self._end_in_time()

    def _end_in_time(self) -> None:
        # Where their loop is closed nobody waits.
        with suppress(RuntimeError):
            # Behind the answers to what was done, which go the same way.
            self._callers.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._ended = True
        for promise in tuple(self._not_begun):
            promise.cancel()
        self._not_begun.clear()


async def answered(call: Awaitable[T], otherwise: T) -> T:
    """What the call gives, or ``otherwise`` where it was not made because a part has crashed."""
    try:
        return await call
    except asyncio.CancelledError:
        if is_cancelled():
            raise
        return otherwise


def is_cancelled() -> bool:
    """True of a task that somebody has cancelled; not of one whose call was not made, which looks the same."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class PromptConsumerThread(AIOKafkaConsumerThread):
    """Fetches as our other consumers do: no longer waits, no more bytes, and nothing that is not committed."""

    @property
    def method_queue(self) -> MethodQueue:
        """What is to be done in the thread."""
        if self._method_queue is None:
            self._method_queue = AnsweringQueue(callers=self.parent_loop, loop=self.thread_loop, beacon=self.beacon)
        return self._method_queue

    async def commit(self, offsets: Mapping[Any, int]) -> bool:
        """Commit; False where it was not done."""
        return await answered(super().commit(offsets), False)  # noqa: FBT003 - what Faust gives

    async def seek_to_committed(self) -> Any:
        """Go back to what is committed in each partition that is held, and to its beginning where nothing is."""
        return await self.call_thread(_go_back, self._ensure_consumer())

    def _create_worker_consumer(self, transport: Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust has no settings for these; aiokafka reads them when it starts.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001
        consumer._fetch_max_bytes = FETCH_BYTES  # noqa: SLF001
        consumer._isolation_level = ISOLATION_LEVEL  # noqa: SLF001
        consumer._value_deserializer = whole_batches  # noqa: SLF001
        return consumer


async def _go_back(consumer: AIOKafkaConsumer) -> Mapping[Any, int | None]:
    if not consumer.assignment():
        return {}
    committed: dict[Any, int | None] = await consumer.seek_to_committed()
    # Of these aiokafka changes nothing.
    if unmoved := [partition for partition, offset in committed.items() if not offset]:
        await consumer.seek_to_beginning(*unmoved)
    return committed

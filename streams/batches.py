"""Batches of a topic's records, straight from the queue that Faust's consumer fills.

``Stream.take_events`` gives the same batches, but walks every message through a second task, processors, sensors and
a buffer: about a tenth of the intake's processor time, and batches that are half full. What of Faust's stream matters
is kept: a message of an earlier assignment, or one that comes while the flow is suspended, is passed over (it comes
again); a message counts as unacknowledged from here on, so that a stop and a rebalance wait for it.

Unlike Faust's, a batch that was not handled to its end is never acknowledged.

What waits is bounded by bytes, not only by records: a partner's largest bulks would otherwise be a gigabyte.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import faust

from gateway.base.pace import Pace
from gateway.messaging.fetching import count_of, records_of
from gateway.messaging.records import Record

WAITING_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of records that were delivered and not taken: several batches of orders, or eight of the largest bulks."""

BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of one batch, and at least one message: four of the largest bulks. What is packed tighter is handled in parts."""

_LOOK_S: Final = 0.2


class Doorway:
    """Lets as many bytes wait in a stream's queue as there is room for; one record always.

    Args:
        queue: of the stream. When Faust empties it, there is room again.
    """

    def __init__(self, queue: "asyncio.Queue[Any]", *, bytes_max: int = WAITING_BYTES_MAX) -> None:
        self._queue = queue
        self._bytes_max = bytes_max
        self._waiting = 0
        self._taken = asyncio.Event()

    async def enter(self, size: int) -> None:
        """Return when there is room for so many bytes."""
        while self._waiting and self._waiting + size > self._bytes_max and not self._queue.empty():
            self._taken.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._taken.wait(), _LOOK_S)
        self._waiting = size + (0 if self._queue.empty() else self._waiting)

    def leave(self, size: int) -> None:
        """So many bytes were taken."""
        self._waiting = max(0, self._waiting - size)
        self._taken.set()


def size_of(message: Any) -> int:
    """Bytes of a message, about: its key, value and headers."""
    size = len(message.value or b"") + len(message.key or b"")
    return size + sum(len(name) + len(value or b"") for name, value in message.headers or ())


def in_parts(messages: Iterable[Any], *, records_max: int) -> Iterator[list[Record]]:
    """The messages' records, unpacked as they are asked for, in parts of bounded size.

    Args:
        messages: of Faust.
        records_max: of a part; it has about :data:`BATCH_BYTES_MAX` bytes at most, too, and one record at least.
    """
    part: list[Record] = []
    size = 0
    for message in messages:
        if isinstance(message.headers, Mapping):
            # Two headers of one name would have become one without a trace: Faust must hand on what Kafka delivered.
            raise TypeError("Faust gave headers as a mapping")
        # The oldest message format has no times.
        for record in records_of(message, round((message.timestamp or 0) * 1000)):
            part.append(record)
            size += len(record.value) + len(record.key or b"")
            if len(part) >= records_max or size >= BATCH_BYTES_MAX:
                yield part
                part, size = [], 0
    if part:
        yield part


class BatchReader:
    """Takes batches of one stream's channel.

    Args:
        app: whose consumer fills the channel.
        stream: the agent's own; it is never iterated.
        batch_max: records that a batch has at most before one more message is added.
        batch_wait_s: from the beginning of one batch to that of the next at least, unless that one is full before.
            After a batch others are gathered for as long as it took, and for no longer than twice this.

    Attributes:
        doorway: through which the queue must be filled.
    """

    def __init__(self, app: faust.App, stream: Any, *, batch_max: int, batch_wait_s: float) -> None:
        self._app = app
        self._queue = stream.channel.queue
        self.doorway = Doorway(self._queue)
        self._batch_max = batch_max
        self._pace = Pace(batch_wait_s, rest_s_max=2 * batch_wait_s)

    async def take(self) -> Sequence[Any]:
        """Faust's messages of the next batch; waits for the first of them, and then for others as the pace says."""
        messages = self._wanted([await self._queue.get()])
        messages = await self._in_company(messages)
        self._pace.begin()
        return messages

    async def _in_company(self, messages: list[Any]) -> list[Any]:
        loop, deadline = asyncio.get_running_loop(), self._pace.due
        size, count = sum(map(size_of, messages)), sum(map(count_of, messages))
        while True:
            events: list[Any] = []
            while count < self._batch_max and size < BATCH_BYTES_MAX and not self._queue.empty():
                events.append(self._queue.get_nowait())
                size += size_of(events[-1].message)
                count += count_of(events[-1].message)
            messages += self._wanted(events)
            if count >= self._batch_max or size >= BATCH_BYTES_MAX or loop.time() >= deadline:
                return messages
            try:
                async with asyncio.timeout_at(deadline):
                    more = self._wanted([await self._queue.get()])
            except TimeoutError:
                return messages
            messages += more
            size += sum(map(size_of, more))
            count += sum(map(count_of, more))

    def acknowledge(self, messages: Sequence[Any]) -> None:
        """Let the messages' offsets be committed.

        In the order in which they were taken, and all of them: see :mod:`streams.transport`.
        """
        consumer = self._app.consumer
        for message in messages:
            message.ack(consumer)
        self._pace.end()

    def _wanted(self, events: Sequence[Any]) -> list[Any]:
        app, consumer = self._app, self._app.consumer
        messages = []
        for event in events:
            message = event.message
            self.doorway.leave(size_of(message))
            if not app.flow_control.is_active() or message.generation_id != app.consumer_generation_id:
                continue
            if not message.tracked:
                message.tracked = True
                consumer.track_message(message)
            messages.append(message)
        return messages

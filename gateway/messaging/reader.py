"""Reading a topic outside of any group: for tools that look at what is there, or follow what comes. Commits nothing."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from gateway.base.errors import UnansweredError
from gateway.messaging.administration import answering_within, unanswered
from gateway.messaging.consumer import ISOLATION_LEVEL
from gateway.messaging.fetching import guard_fetches, record_of
from gateway.messaging.records import Record
from gateway.messaging.settings import START_S, KafkaSettings

_POLL_MS: Final = 500
_CLOSE_SECONDS: Final = 5.0


class TopicMissingError(Exception):
    """There is no such topic."""


class KafkaUnavailableError(UnansweredError):
    """No broker answers."""


class TopicReader:
    """All partitions of one topic, without what cannot be read. Get one from :func:`open_reader`."""

    def __init__(self, consumer: Any, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic

    async def read_all(self) -> AsyncIterator[Record]:
        """Yield every record from the reader's place to what is the end now; partition by partition."""
        partitions = sorted(self._consumer.assignment())
        with _told(self._topic):
            ends = await self._consumer.end_offsets(partitions)
        for partition in partitions:
            self._consumer.pause(partition)
        for partition in partitions:
            self._consumer.resume(partition)
            # The position moves past what is no record too: transaction markers, compacted places.
            while await self._position(partition) < ends[partition]:
                for message in await self._poll(partition):
                    record = record_of(message, message.timestamp)
                    if record.offset < ends[partition] and record.unread is None:
                        yield record
            self._consumer.pause(partition)

    async def go_to(self, since: datetime) -> None:
        """Stand at the first record of that time; of a partition that has none, at its end."""
        partitions = sorted(self._consumer.assignment())
        with _told(self._topic):
            found = await self._consumer.offsets_for_times(dict.fromkeys(partitions, int(since.timestamp() * 1000)))
            ends = await self._consumer.end_offsets(partitions)
        for partition in partitions:
            place = found.get(partition)
            # The place was found before (open_reader): nothing else moves it.
            self._consumer.seek(partition, ends[partition] if place is None else place.offset)

    async def follow(self) -> AsyncIterator[list[Record]]:
        """Yield what comes from the reader's place on, batch by batch; an empty one every half second without any."""
        while True:
            with _told(self._topic):
                polled = await self._consumer.getmany(timeout_ms=_POLL_MS)
            records = [record_of(m, m.timestamp) for messages in polled.values() for m in messages]
            yield [r for r in records if r.unread is None]

    async def _position(self, partition: TopicPartition) -> int:
        with _told(self._topic):
            position: int = await self._consumer.position(partition)
            return position

    async def _poll(self, partition: TopicPartition) -> Sequence[Any]:
        with _told(self._topic):
            messages: Sequence[Any] = (await self._consumer.getmany(partition, timeout_ms=_POLL_MS)).get(partition, ())
            return messages


@contextmanager
def _told(topic: str) -> Iterator[None]:
    """Around calls of the consumer alone: what whoever reads does with the records has errors of its own."""
    try:
        yield
    except UnknownTopicOrPartitionError:
        raise TopicMissingError(f"there is no topic {topic}") from None
    except (KafkaError, OSError) as error:
        raise KafkaUnavailableError(unanswered(error)) from error


async def read_since(settings: KafkaSettings, topic: str, since: datetime) -> AsyncIterator[Record]:
    """Every record of a topic from that time on, to what is its end now; raises as :func:`open_reader`."""
    since_ms = int(since.timestamp() * 1000)
    async with open_reader(settings, topic) as reader:
        await reader.go_to(since)
        async for record in reader.read_all():
            # Behind the first of that time there may be older ones: times are the producers'.
            if record.timestamp_ms >= since_ms:
                yield record


@asynccontextmanager
async def open_reader(settings: KafkaSettings, topic: str, *, at_end: bool = False) -> AsyncIterator[TopicReader]:
    """Connect for as long as the block lasts.

    Args:
        settings: the cluster.
        topic: what to read.
        at_end: stand at the end, so that what is produced from now on is followed; else at the beginning.

    Raises:
        TopicMissingError, KafkaUnavailableError: from here or from any call of the reader.
    """
    guard_fetches()
    consumer = AIOKafkaConsumer(
        topic,
        **settings.client_arguments(),
        group_id=None,
        enable_auto_commit=False,
        # The place is found by this rule alone: a seek races with it (aiokafka 0.14, ran).
        auto_offset_reset="latest" if at_end else "earliest",
        isolation_level=ISOLATION_LEVEL,
    )
    try:
        with _told(topic):
            async with answering_within(START_S):
                await consumer.start()
                for partition in consumer.assignment():
                    # Finding it is lazy: a record that comes before would be passed over.
                    await consumer.position(partition)
        yield TopicReader(consumer, topic)
    finally:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await consumer.stop()
        except (KafkaError, TimeoutError):
            pass  # it committed nothing, so nothing is lost with it

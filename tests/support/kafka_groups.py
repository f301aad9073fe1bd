"""Topics, publishers and consumer groups of a test's own on a real Kafka, and numbered records to send through them."""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from gateway.messaging.consumer import BatchConsumer
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.records import Outgoing, Record
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from gateway.observability.recording import RecordingObserver
from schemas.topics import TOPICS

ORDERS_TOPIC = TOPICS[0]


async def fresh_topic(
    settings: KafkaSettings, partitions: int = 4, *, max_message_bytes: int = ORDERS_TOPIC.max_message_bytes
) -> str:
    name = f"t-{uuid.uuid4().hex}"
    wanted = replace(ORDERS_TOPIC, name=name, partitions=partitions, max_message_bytes=max_message_bytes)
    await ensure_topics(settings, [wanted], replication_factor=1, apply=True)
    return wanted.name


@asynccontextmanager
async def publisher_of(
    settings: KafkaSettings, observer: RecordingObserver, *, deadline_seconds: float = 30.0
) -> AsyncIterator[KafkaPublisher]:
    publisher = KafkaPublisher(settings, observer, deadline_seconds=deadline_seconds)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


class Group:
    """Makes members of one consumer group and stops them all."""

    def __init__(self, settings: KafkaSettings, observer: RecordingObserver, topic: str) -> None:
        self._settings, self._observer, self._topic = settings, observer, topic
        self.name = uuid.uuid4().hex
        self.session_s = settings.session_s
        self._members: list[BatchConsumer] = []

    async def join(self, *, drain_seconds: float = 15.0, worker: str | None = None) -> BatchConsumer:
        member = BatchConsumer(
            replace(self._settings, worker=worker, session_s=self.session_s),
            self._observer,
            topics=[self._topic],
            group_id=self.name,
            drain_seconds=drain_seconds,
        )
        self._members.append(member)
        await member.start()
        return member

    async def stop(self) -> None:
        for member in self._members:
            await member.stop()


def numbered(topic: str, count: int, *, keys: int = 7, start: int = 0) -> list[Outgoing]:
    return [Outgoing(topic, b"key-%d" % (n % keys), b"%d" % n, [("n", b"%d" % n)]) for n in range(start, start + count)]


async def take_until(consumer: BatchConsumer, count: int) -> list[Record]:
    taken: list[Record] = []
    async with asyncio.timeout(60):
        while len(taken) < count:
            taken += await consumer.take(count - len(taken), max_wait=0.5)
    return taken


def by_key(records: Sequence[Record | Outgoing]) -> dict[bytes | None, list[int]]:
    found: defaultdict[bytes | None, list[int]] = defaultdict(list)
    for record in records:
        found[record.key].append(int(record.value))
    return dict(found)


def first_seen(numbers: Sequence[int]) -> list[int]:
    """Without repeats, as a consumer that deduplicates sees them."""
    return list(dict.fromkeys(numbers))


async def eventually(met: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await met():  # noqa: ASYNC110 - the cluster tells nobody when it is so far
            await asyncio.sleep(0.02)


async def take_all(members: Sequence[BatchConsumer], numbers: Collection[int]) -> list[Record]:
    """Take and commit until each of these numbers has come, and once more what comes besides."""
    taken: list[Record] = []
    missing = set(numbers)
    async with asyncio.timeout(60):
        while missing:
            for member in members:
                records = await member.take(100, max_wait=0.1)
                await member.commit(records)
                taken += records
                missing -= {int(r.value) for r in records}
    for member in members:
        taken += await member.take(1_000, max_wait=0.5)
    return taken

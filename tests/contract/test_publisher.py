"""What every publisher does, in memory and on a real broker."""

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from gateway.base.errors import PublisherUnavailableError
from gateway.messaging.consumer import BatchConsumer
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.records import Outgoing, Publisher, Record
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from gateway.observability.recording import RecordingObserver
from gateway.proving.memory.kafka import MemoryKafka, MemoryPublisher
from schemas.topics import EXPORT_LATE_MS, TOPICS, exports_topic


@dataclass(frozen=True)
class Cluster:
    """A publisher, a topic of four partitions, and what the topic holds (at least so many records)."""

    publisher: Publisher
    topic: str
    read: Callable[[int], Awaitable[list[Record]]]
    now_ms: Callable[[], float]


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
async def memory() -> Cluster:
    kafka = MemoryKafka(FixedClock())
    topic = exports_topic(uuid.uuid4().hex)

    async def read(_: int) -> list[Record]:
        return kafka.records(topic)

    return Cluster(MemoryPublisher(kafka), topic, read, lambda: FixedClock().now().timestamp() * 1000)


@pytest.fixture
async def real(kafka: str) -> AsyncIterator[Cluster]:
    settings, observer = KafkaSettings(kafka), RecordingObserver()
    # One that takes nothing old: what does not tell when it was decided goes there as anywhere.
    exports = next(t for t in TOPICS if t.late_ms == EXPORT_LATE_MS)
    topic = replace(exports, name=exports_topic(uuid.uuid4().hex), partitions=4)
    await ensure_topics(settings, [topic], replication_factor=1, apply=True)
    publisher = KafkaPublisher(settings, observer)
    await publisher.start()
    consumer = BatchConsumer(settings, observer, topics=[topic.name], group_id=uuid.uuid4().hex)

    async def read(at_least: int) -> list[Record]:
        await consumer.start()
        received: list[Record] = []
        async with asyncio.timeout(60):
            while len(received) < at_least:
                received += await consumer.take(1_000, max_wait=0.5)
        return [*received, *await consumer.take(1_000, max_wait=0.2)]

    yield Cluster(publisher, topic.name, read, lambda: time.time() * 1000)
    await consumer.stop()
    await publisher.stop()


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.integration)])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def numbered(topic: str, count: int, *, keys: int) -> list[Outgoing]:
    return [Outgoing(topic, b"key-%d" % (n % keys), b"%d" % n, [("n", b"%d" % n), ("n", b"")]) for n in range(count)]


async def test_nothing_to_publish_is_fine(cluster: Cluster) -> None:
    await cluster.publisher.publish([])
    await cluster.publisher.publish(numbered(cluster.topic, 1, keys=1))
    assert len(await cluster.read(1)) == 1


async def test_everything_is_there_once_when_publish_returns(cluster: Cluster) -> None:
    sent = numbered(cluster.topic, 2_500, keys=11)
    await cluster.publisher.publish(sent[:1_000])
    await cluster.publisher.publish(sent[1_000:])
    found = await cluster.read(len(sent))
    assert sorted((r.key, r.value, r.headers) for r in found) == sorted(
        (s.key, s.value, tuple(s.headers)) for s in sent
    )


async def test_one_key_stays_in_one_partition_in_order(cluster: Cluster) -> None:
    sent = numbered(cluster.topic, 600, keys=13)
    for begin in range(0, 600, 70):
        await cluster.publisher.publish(sent[begin : begin + 70])
    by_key: defaultdict[bytes | None, list[Record]] = defaultdict(list)
    for record in await cluster.read(600):
        by_key[record.key].append(record)
    assert len(by_key) == 13
    for records in by_key.values():
        assert len({r.partition for r in records}) == 1
        numbers = [int(r.value) for r in records]
        assert numbers == sorted(numbers)
        offsets = [r.offset for r in records]
        assert offsets == sorted(set(offsets))


async def test_simultaneous_publications_do_not_mix_up_a_key(cluster: Cluster) -> None:
    batches = [[Outgoing(cluster.topic, b"key-%d" % b, b"%d" % n, ()) for n in range(200)] for b in range(6)]
    await asyncio.gather(*(cluster.publisher.publish(batch) for batch in batches))
    by_key: defaultdict[bytes | None, list[int]] = defaultdict(list)
    for record in await cluster.read(1_200):
        by_key[record.key].append(int(record.value))
    assert dict(by_key) == {b"key-%d" % b: list(range(200)) for b in range(6)}


async def test_what_was_decided_too_long_ago_is_taken_no_more_and_what_follows_is(cluster: Cluster) -> None:
    """The bound is the broker's: whatever held a record up, and wherever it waited meanwhile."""

    async def publish(value: bytes, age_ms: int) -> None:
        record = Outgoing(cluster.topic, b"key", value, (), at_ms=int(cluster.now_ms()) - age_ms)
        await cluster.publisher.publish([record])

    # Of a whole tenth of the time, which leaves a busy broker the rest.
    await publish(b"1", EXPORT_LATE_MS // 10)
    for value in (b"late", b"later"):
        with pytest.raises(PublisherUnavailableError):
            await publish(value, EXPORT_LATE_MS + 1000)
    await publish(b"2", 0)
    assert [r.value for r in await cluster.read(2)] == [b"1", b"2"]


async def test_bytes_are_kept_as_they_are(cluster: Cluster) -> None:
    sent = [
        Outgoing(cluster.topic, None, bytes(range(256)), [("empty", b""), ("bytes", bytes(range(256)))]),
        Outgoing(cluster.topic, b"", b"", []),
        Outgoing(cluster.topic, b"\x00", b"x" * 700_000, [("same", b"1"), ("same", b"2")]),
    ]
    await cluster.publisher.publish(sent)
    found = {(r.key, r.value, r.headers) for r in await cluster.read(3)}
    assert found == {(s.key, s.value, tuple(s.headers)) for s in sent}

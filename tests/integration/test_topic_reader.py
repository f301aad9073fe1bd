"""Reading a topic outside of any group, on a real broker."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import AIOKafkaProducer

from gateway.messaging.reader import KafkaUnavailableError, TopicMissingError, open_reader, read_since
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from schemas.topics import Topic
from tests.support.kafka_groups import eventually


@pytest.fixture
async def topic(kafka: str) -> str:
    name = f"reader.{uuid.uuid4().hex}"
    made = Topic(name, "", {}, partitions=3, retention_ms=-1, writers="", readers="", description="")
    await ensure_topics(KafkaSettings(kafka), [made], replication_factor=1, apply=True)
    return name


@asynccontextmanager
async def producing(kafka: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def fill(kafka: str, topic: str, begin: int, end: int) -> None:
    async with producing(kafka) as producer:
        await asyncio.gather(*[await producer.send(topic, b"%d" % n, partition=n % 3) for n in range(begin, end)])


async def test_everything_up_to_now_is_read_in_each_partition_s_order(kafka: str, topic: str) -> None:
    await fill(kafka, topic, 0, 3_000)
    async with open_reader(KafkaSettings(kafka), topic) as reader:
        seen = [(r.partition, int(r.value)) async for r in reader.read_all()]
    assert seen == [(p, n) for p in range(3) for n in range(p, 3_000, 3)]


async def test_a_reader_goes_on_from_where_it_stood(kafka: str, topic: str) -> None:
    """Who counts dead letters looks again and again: nothing is read twice, and nothing is passed over."""
    async with open_reader(KafkaSettings(kafka), topic) as reader:
        seen = [[int(r.value) async for r in reader.read_all()]]
        for begin in range(0, 90, 30):
            await fill(kafka, topic, begin, begin + 30)
            seen.append([int(r.value) async for r in reader.read_all()])
        seen.append([int(r.value) async for r in reader.read_all()])
    assert [sorted(s) for s in seen] == [[], list(range(30)), list(range(30, 60)), list(range(60, 90)), []]


async def test_from_a_time_on_only_what_came_since_is_fetched_and_told(kafka: str, topic: str) -> None:
    settings, since = KafkaSettings(kafka), datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
    at_ms = int(since.timestamp() * 1000)

    async def fill_at(begin: int, end: int, *, ms: int, partitions: int = 3) -> None:
        async with producing(kafka) as producer:
            for n in range(begin, end):
                await producer.send_and_wait(topic, b"%d" % n, partition=n % partitions, timestamp_ms=ms)

    # Partition 2 has nothing since; in the others something older stands behind the first of that time.
    await fill_at(0, 30, ms=at_ms - 1)
    await fill_at(30, 40, ms=at_ms, partitions=2)
    await fill_at(40, 44, ms=at_ms - 5, partitions=2)
    await fill_at(44, 48, ms=at_ms + 5, partitions=2)
    wanted = [n for p in range(2) for n in [*range(30, 40), *range(44, 48)] if n % 2 == p]
    assert [int(r.value) async for r in read_since(settings, topic, since)] == wanted
    async with open_reader(settings, topic) as reader:
        await reader.go_to(since)
        fetched = [int(r.value) async for r in reader.read_all()]
    assert sorted(fetched) == list(range(30, 48))
    assert [r async for r in read_since(settings, topic, since + timedelta(hours=1))] == []


async def test_an_empty_topic_is_read_at_once(kafka: str, topic: str) -> None:
    async with open_reader(KafkaSettings(kafka), topic) as reader:
        assert [r async for r in reader.read_all()] == []


async def test_at_the_end_only_what_is_new_is_followed(kafka: str, topic: str) -> None:
    await fill(kafka, topic, 0, 300)
    async with open_reader(KafkaSettings(kafka), topic, at_end=True) as reader:
        await fill(kafka, topic, 300, 310)
        seen: list[int] = []
        async for batch in reader.follow():
            seen += [int(r.value) for r in batch]
            if len(seen) >= 10:
                break
    assert sorted(seen) == list(range(300, 310))


async def test_a_topic_that_is_not_there(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = KafkaSettings.client_arguments
    # As long as a request may take, it is waited for somebody who makes it: nobody does, here.
    monkeypatch.setattr(KafkaSettings, "client_arguments", lambda self: {**given(self), "request_timeout_ms": 5_000})

    async def is_read() -> bool:
        try:
            async with open_reader(KafkaSettings(kafka), "reader.none"):
                return True
        except KafkaUnavailableError:
            # A busy broker may answer later than that.
            return False

    with pytest.raises(TopicMissingError, match=r"reader\.none"):
        await eventually(is_read)


async def test_a_cluster_that_is_not_there() -> None:
    with pytest.raises(KafkaUnavailableError):
        async with open_reader(KafkaSettings("127.0.0.1:1"), "any"):
            pass


async def test_an_error_of_whoever_reads_stays_what_it_is(kafka: str, topic: str) -> None:
    await fill(kafka, topic, 0, 1)

    async def read() -> None:
        async with open_reader(KafkaSettings(kafka), topic) as reader:
            async for record in reader.read_all():
                raise FileNotFoundError(record.reference)

    with pytest.raises(FileNotFoundError):
        await read()

"""Topics are made, checked and grown as the table says."""

import asyncio
import time
import uuid
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.errors import MessageSizeTooLargeError

from gateway.messaging.administration import administration
from gateway.messaging.reader import open_reader
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import TopicAdminError, TopicState, TopicStatus, ensure_topics, topic_configuration
from schemas.topics import TimestampType, Topic
from tests.support.kafka_groups import ORDERS_TOPIC, eventually


async def ensured(settings: KafkaSettings, topic: Topic, *, apply: bool) -> TopicStatus:
    [status] = await ensure_topics(settings, [topic], replication_factor=1, apply=apply)
    return status


async def test_topics_are_created_once_checked_and_only_grown(settings: KafkaSettings) -> None:
    wanted = replace(ORDERS_TOPIC, name=f"t-{uuid.uuid4().hex}", partitions=2)
    assert (await ensured(settings, wanted, apply=False)).state is TopicState.MISSING
    assert (await ensured(settings, wanted, apply=False)).state is TopicState.MISSING
    assert (await ensured(settings, wanted, apply=True)).state is TopicState.CREATED
    assert (await ensured(settings, wanted, apply=True)).state is TopicState.OK
    larger = replace(wanted, partitions=3)
    told = await ensured(settings, larger, apply=False)
    assert (told.state, told.differences) == (TopicState.DIFFERS, ("partitions is 2, should be 3",))
    assert (await ensured(settings, larger, apply=True)).state is TopicState.GROWN
    assert (await ensured(settings, larger, apply=False)).state is TopicState.OK
    shrunk = await ensured(settings, wanted, apply=True)
    assert (shrunk.state, shrunk.differences) == (TopicState.DIFFERS, ("partitions is 3, should be 2",))
    other = await ensured(settings, replace(larger, retention_ms=1), apply=True)
    assert other.differences == ("retention.ms is 604800000, should be 1",)
    assert (await ensured(settings, larger, apply=False)).state is TopicState.OK


async def test_a_bound_on_what_is_kept_is_told(settings: KafkaSettings) -> None:
    """Made by hand, or by brokers with a default of their own: orders that nobody had read yet were dropped, untold."""
    wanted = replace(ORDERS_TOPIC, name=f"t-{uuid.uuid4().hex}", partitions=1)
    for changed in ({"retention.bytes": "1000000"}, {"unclean.leader.election.enable": "true"}):
        by_hand = replace(wanted, name=f"t-{uuid.uuid4().hex}")
        configured = topic_configuration(by_hand, 1) | changed
        async with administration(settings) as client:
            await client.create_topics([NewTopic(by_hand.name, 1, 1, topic_configs=configured)])
        [(name, value)] = changed.items()
        should = {"retention.bytes": "-1"}.get(name, "false")
        # Brokers hear of a topic a moment after the controller has it.
        async with asyncio.timeout(30):
            while (told := await ensured(settings, by_hand, apply=False)).state is TopicState.MISSING:
                pass
        assert told.differences == (f"{name} is {value}, should be {should}",)
    assert (await ensured(settings, wanted, apply=True)).state is TopicState.CREATED
    assert (await ensured(settings, wanted, apply=False)).state is TopicState.OK


async def test_how_large_a_record_may_be_is_checked_and_set(settings: KafkaSettings) -> None:
    """A topic of before a larger message kept its limit: what was told on it was set aside for ever."""
    wanted = replace(ORDERS_TOPIC, name=f"t-{uuid.uuid4().hex}", partitions=1)
    before = replace(wanted, max_message_bytes=1_000)
    assert (await ensured(settings, before, apply=True)).state is TopicState.CREATED
    async with AIOKafkaProducer(**settings.client_arguments()) as producer:

        async def is_taken() -> bool:
            try:
                await producer.send_and_wait(wanted.name, b"v" * 2_000)
            except MessageSizeTooLargeError:
                return False
            return True

        assert not await is_taken()
        told = await ensured(settings, wanted, apply=False)
        assert (told.differences, told.settles) == (("max.message.bytes is 1000, should be 1048576",), True)
        assert (await ensured(settings, wanted, apply=True)).state is TopicState.CHANGED
        # The broker hears of it a moment after the controller has it.
        await eventually(is_taken)

        async def is_set() -> bool:
            return (await ensured(settings, wanted, apply=False)).state is TopicState.OK

        await eventually(is_set)


async def test_whose_clock_counts_is_checked_and_set(settings: KafkaSettings) -> None:
    """A partner must not say when its order came: hours ago, or in a year, which keeps a segment for as long."""
    assert ORDERS_TOPIC.timestamp_type is TimestampType.APPEND
    wanted = replace(ORDERS_TOPIC, name=f"t-{uuid.uuid4().hex}", partitions=1)
    before = replace(wanted, timestamp_type=TimestampType.CREATE)
    assert (await ensured(settings, before, apply=True)).state is TopicState.CREATED
    told = await ensured(settings, wanted, apply=False)
    assert told.differences == ("message.timestamp.type is CreateTime, should be LogAppendTime",)
    an_hour_ago = (time.time_ns() // 1_000_000) - 3_600_000
    async with AIOKafkaProducer(**settings.client_arguments()) as producer:
        believed = await producer.send_and_wait(wanted.name, b"v", timestamp_ms=an_hour_ago)
        assert (await ensured(settings, wanted, apply=True)).state is TopicState.CHANGED

        async def is_set() -> bool:
            return (await ensured(settings, wanted, apply=False)).state is TopicState.OK

        await eventually(is_set)
        sent = [believed]
        # The broker hears of it a moment after the controller has it.
        async with asyncio.timeout(60):
            while sent[-1].timestamp == an_hour_ago:
                sent.append(await producer.send_and_wait(wanted.name, b"v", timestamp_ms=an_hour_ago))
    async with open_reader(settings, wanted.name) as reader:
        records = [r async for r in reader.read_all()]
    assert believed.timestamp == an_hour_ago
    assert [r.timestamp_ms for r in records] == [s.timestamp for s in sent]
    assert sent[-1].timestamp >= an_hour_ago + 3_600_000


async def test_refused_topics_are_told(settings: KafkaSettings) -> None:
    topic = replace(ORDERS_TOPIC, name=f"t-{uuid.uuid4().hex}")
    with pytest.raises(TopicAdminError, match="InvalidReplicationFactor"):
        await ensure_topics(settings, [topic], replication_factor=3, apply=True)


async def test_simultaneous_creation_is_no_failure(settings: KafkaSettings) -> None:
    topic = replace(ORDERS_TOPIC, name=f"t-{uuid.uuid4().hex}")
    results = await asyncio.gather(
        *(ensure_topics(settings, [topic], replication_factor=1, apply=True) for _ in range(4))
    )
    assert {s.state for [s] in results} <= {TopicState.CREATED, TopicState.OK}

"""A broker that is killed, stays away or was never there: nothing is lost or reordered, and everything ends."""

import asyncio
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.base.errors import PublisherUnavailableError
from gateway.messaging.consumer import BatchConsumer
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.records import Outgoing, Record
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import TopicAdminError, ensure_topics
from gateway.observability.recording import RecordingObserver
from tests.support.kafka_groups import (
    ORDERS_TOPIC,
    Group,
    by_key,
    eventually,
    first_seen,
    numbered,
    publisher_of,
    take_all,
)
from tests.support.stack import Stack


async def test_broker_restart_loses_and_reorders_nothing(
    stack: Stack, publisher: KafkaPublisher, group: Group, topic: str
) -> None:
    consumer = await group.join()
    sent = numbered(topic, 6_000)
    taken: list[Record] = []
    halfway, killed = asyncio.Event(), asyncio.Event()

    async def feed() -> None:
        for begin in range(0, len(sent), 100):
            if begin == 3_000:
                halfway.set()
            if begin == 5_000:
                # However fast it is: some of them meet the outage.
                await killed.wait()
            await publisher.publish(sent[begin : begin + 100])

    async def read() -> None:
        missing = {int(s.value) for s in sent}
        while missing:
            records = await consumer.take(500, max_wait=0.2)
            await consumer.commit(records)
            taken.extend(records)
            missing -= {int(r.value) for r in records}

    async with asyncio.timeout(110), asyncio.TaskGroup() as tasks:
        tasks.create_task(feed())
        tasks.create_task(read())
        await halfway.wait()
        await asyncio.to_thread(stack.kill_kafka)
        # They meet the outage while it starts, which takes a process of its own.
        killed.set()
        await asyncio.to_thread(stack.start_kafka)
    assert {k: first_seen(v) for k, v in by_key(taken).items()} == by_key(sent)


async def test_an_outage_longer_than_the_deadline_is_told_and_ends(
    stack: Stack, settings: KafkaSettings, group: Group, topic: str, observer: RecordingObserver
) -> None:
    sent = numbered(topic, 500)
    async with publisher_of(settings, observer, deadline_seconds=1.0) as publisher:
        attempts: Counter[int] = Counter()

        async def publishes(records: Sequence[Outgoing]) -> bool:
            attempts[len(records)] += 1
            try:
                await publisher.publish(records)
            except PublisherUnavailableError:
                return False
            return True

        # Its time is short also for a busy machine.
        await eventually(lambda: publishes(sent[:100]))
        await asyncio.to_thread(stack.kill_kafka)
        try:
            for _ in range(3):
                assert not await publishes(sent[100:])
        finally:
            await asyncio.to_thread(stack.start_kafka)
        await eventually(lambda: publishes(sent[100:]))
    consumer = await group.join()
    taken = await take_all([consumer], range(500))
    assert {k: first_seen(v) for k, v in by_key(taken).items()} == by_key(sent)
    # Each of the refused attempts may have left its records once, and no more.
    assert len(taken) <= sum(records * times for records, times in attempts.items())


async def test_a_publisher_stops_in_time_during_an_outage(
    stack: Stack, settings: KafkaSettings, observer: RecordingObserver, topic: str
) -> None:
    begun = asyncio.Event()

    class Watched(KafkaPublisher):
        async def _publish_groups(self, *arguments: Any) -> Any:
            begun.set()
            return await super()._publish_groups(*arguments)

    publisher = Watched(settings, observer, deadline_seconds=60.0)
    await publisher.start()
    await publisher.publish(numbered(topic, 10))
    await asyncio.to_thread(stack.kill_kafka)
    try:
        begun.clear()
        waiting = asyncio.create_task(publisher.publish(numbered(topic, 10, start=10)))
        async with asyncio.timeout(60):
            await begun.wait()
        async with asyncio.timeout(60):
            await publisher.stop()
            with pytest.raises(PublisherUnavailableError):
                await waiting
    finally:
        await asyncio.to_thread(stack.start_kafka)


async def test_unreachable_cluster(observer: RecordingObserver) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        nowhere = KafkaSettings(f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(PublisherUnavailableError):
            await KafkaPublisher(nowhere, observer, deadline_seconds=0.5).start()
        with pytest.raises(TopicAdminError):
            await ensure_topics(nowhere, [ORDERS_TOPIC], replication_factor=1, apply=True)
        consumer = BatchConsumer(nowhere, observer, topics=["t"], group_id="g")
        starting = asyncio.create_task(consumer.start())

        async def has_tried_twice() -> bool:
            return observer.counted("consumer", "consumer_replaced") >= 2

        await eventually(has_tried_twice)
        async with asyncio.timeout(60):
            await consumer.stop()
            await starting

"""Records that are dropped from a topic before they are read: who would have read them tells where, and how many."""

import asyncio
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from gateway.app.settings import Settings
from gateway.messaging.administration import administration
from gateway.messaging.settings import KafkaSettings
from gateway.observability.recording import Note, RecordingObserver
from streams.app import build_app, read_batches, run_until
from streams.transport import DirectConsumer
from tests.integration.kafka.test_topics_made_again import make_again
from tests.support.kafka_groups import Group, eventually, fresh_topic, numbered, publisher_of, take_until


async def drop(settings: KafkaSettings, topic: str, before: int) -> None:
    """As ``retention.ms`` does where an operator lowers it, or who reads is away for longer."""
    async with administration(settings) as client:
        await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(before)})


def told(observer: RecordingObserver) -> list[tuple[Any, Any]]:
    notes: list[Note] = [n for n in observer.notes if n.event == "records_gone_unread"]
    assert observer.counted("consumer", "gone_unread") == sum(int(str(n.fields["count"])) for n in notes)
    return [(n.fields["reference"], n.fields["count"]) for n in notes]


async def test_what_is_gone_before_it_was_read_is_told_once(
    settings: KafkaSettings, observer: RecordingObserver
) -> None:
    topic = await fresh_topic(settings, partitions=1)
    group = Group(settings, observer, topic)
    async with publisher_of(settings, observer) as publisher:
        await publisher.publish(numbered(topic, 100))
        first = await group.join()
        assert await first.commit(await take_until(first, 10))
        await first.stop()
        # One that was away.
        await drop(settings, topic, 50)
        second = await group.join()
        assert await second.commit(rest := await take_until(second, 50))
        assert rest[0].offset == 50
        assert told(observer) == [(f"{topic}/0/10", 40)]
        # One that stands still.
        second.pause()
        await publisher.publish(numbered(topic, 30))
        await drop(settings, topic, 120)
        second.resume()
        await second.commit(await take_until(second, 10))
        assert told(observer) == [(f"{topic}/0/10", 40), (f"{topic}/0/100", 20)]
    # One that begins anew has lost nothing that anybody could know of.
    await make_again(settings, topic, 1)
    async with publisher_of(settings, observer) as publisher:
        await publisher.publish(numbered(topic, 5))
    assert len(await take_until(second, 5)) == 5
    assert len(told(observer)) == 2
    await group.stop()


async def test_stages_of_faust_tell_it_too(
    settings: KafkaSettings, observer: RecordingObserver, kafka: str, tmp_path: Path
) -> None:
    topic = await fresh_topic(settings, partitions=1)
    taken: list[int] = []

    async def take(records: Any) -> None:
        taken.extend(r.offset for r in records)

    for before in (0, 50):
        app: Any = build_app(topic, Settings(home=tmp_path), settings)
        read_batches(app, topic, take, batch_max=10, batch_wait_s=0.02)
        stopping = asyncio.Event()
        if before:
            async with publisher_of(settings, observer) as publisher:
                # A batch each: stages of Faust are given batches whole.
                await publisher.publish(numbered(topic, 40))
                await publisher.publish(numbered(topic, 20))
            await drop(settings, topic, before)
        else:
            async with publisher_of(settings, observer) as publisher:
                await publisher.publish(numbered(topic, 10))
        running = asyncio.ensure_future(run_until(app, stopping))

        async def has_all(last: int = 69 if before else 9) -> bool:
            return last in taken

        await eventually(has_all)
        consumer = app.consumer
        assert isinstance(consumer, DirectConsumer)
        consumer.tell_gaps(observer)
        stopping.set()
        await running
    assert taken == [*range(10), *range(50, 70)]
    # A partition that is assigned anew before anything is committed is asked for the same place again, and it is told.
    assert set(told(observer)) == {(f"{topic}/0/10", 40)}

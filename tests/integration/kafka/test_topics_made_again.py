"""A topic that an operator makes again, or gives more partitions, under those who read it: they begin anew with it."""

from dataclasses import replace

import pytest

from gateway.messaging import backlog
from gateway.messaging.administration import administration
from gateway.messaging.backlog import Backlogs
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.records import Record
from gateway.messaging.rewinding import committed
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from gateway.observability.recording import RecordingObserver
from tests.support.kafka_groups import ORDERS_TOPIC, Group, eventually, numbered, publisher_of, take_until


async def make(settings: KafkaSettings, topic: str, partitions: int) -> None:
    wanted = replace(ORDERS_TOPIC, name=topic, partitions=partitions)
    await ensure_topics(settings, [wanted], replication_factor=1, apply=True)


async def make_again(settings: KafkaSettings, topic: str, partitions: int) -> None:
    async with administration(settings) as client:
        await client.delete_topics([topic])

        async def is_gone() -> bool:
            return topic not in await client.list_topics()

        await eventually(is_gone)
    await make(settings, topic, partitions)


async def test_what_is_taken_of_a_topic_that_was_made_again_is_committed(
    settings: KafkaSettings, observer: RecordingObserver, group: Group, topic: str
) -> None:
    """Nothing was up to the place where the old one had ended: to the intake, execution was behind for good."""
    async with publisher_of(settings, observer) as publisher:
        await publisher.publish(numbered(topic, 400))
    member = await group.join()
    old = await take_until(member, 400)
    assert await member.commit(old)
    await make_again(settings, topic, 4)
    async with publisher_of(settings, observer) as publisher:
        await publisher.publish(numbered(topic, 20))
    new: list[Record] = await take_until(member, 20)
    assert not await member.commit(old)
    assert await member.commit(new)
    at = await committed(settings, group.name)
    assert at == {(topic, p): 1 + max(r.offset for r in new if r.partition == p) for p in {r.partition for r in new}}
    backlogs = Backlogs(settings, observer)
    assert await backlogs.of([(topic, group.name)]) == {}
    await backlogs.stop()


async def test_a_topic_that_was_away_for_a_while_is_read_again_at_once(
    settings: KafkaSettings, observer: RecordingObserver, group: Group, topic: str
) -> None:
    """A member that had noticed looked for it every five minutes, and meanwhile nothing seemed to wait."""
    async with publisher_of(settings, observer) as publisher:
        await publisher.publish(numbered(topic, 40))
    member = await group.join()
    assert await member.commit(await take_until(member, 40))
    async with administration(settings) as client:
        await client.delete_topics([topic])

    async def is_let_go() -> bool:
        return await member.take(10, max_wait=0.1) == [] and not member.assignment

    await eventually(is_let_go)
    await make(settings, topic, 6)
    async with publisher_of(settings, observer) as publisher:
        await publisher.publish(numbered(topic, 20))
    assert len(await take_until(member, 20)) == 20


@pytest.mark.parametrize("again", [False, True], ids=["grown", "made again"])
async def test_what_waits_is_told_of_the_partitions_that_there_are(
    settings: KafkaSettings,
    observer: RecordingObserver,
    publisher: KafkaPublisher,
    topic: str,
    again: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backlogs = Backlogs(settings, observer)
    assert await backlogs.of([(topic, "nobody")]) == {}
    if again:
        await make_again(settings, topic, 2)
        # One look fails at the partitions that are gone.
        assert await backlogs.of([(topic, "nobody")]) is None
    else:
        await make(settings, topic, 16)
        monkeypatch.setattr(backlog, "_KNOWN_S", -1.0)
    async with publisher_of(settings, observer) as another:
        await another.publish(numbered(topic, 300, keys=100))
    waiting = await backlogs.of([(topic, "nobody")])
    assert waiting is not None
    assert sum(waiting.values()) == 300
    assert {p for _, p in waiting} == set(range(2 if again else 16))
    await backlogs.stop()

"""Publishing: every record arrives once, in its key's order and with its bytes; what cannot be taken is told."""

import random
import uuid

import pytest
from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from gateway.base.errors import PublisherUnavailableError, TooLargeForTopicError, TopicClosedError
from gateway.messaging.dead_letters import (
    DEAD_LETTER_BYTES_MAX,
    ORIGINAL_BYTES_MAX,
    LetterKeys,
    restore,
)
from gateway.messaging.parking import KafkaDeadLetters
from gateway.messaging.producer import RECORD_BYTES_MAX, KafkaPublisher, RecordTooLargeError
from gateway.messaging.records import Outgoing, Record
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from gateway.observability.recording import RecordingObserver
from gateway.sealing.sealing import MasterKeys
from schemas.topics import DEAD_LETTER, TOPICS
from tests.support.builders import outbox_event
from tests.support.deadline import in_time
from tests.support.kafka_groups import (
    Group,
    by_key,
    eventually,
    first_seen,
    fresh_topic,
    numbered,
    publisher_of,
    take_until,
)
from tests.support.rig import Rig


async def test_every_record_arrives_once_and_in_its_keys_order(
    publisher: KafkaPublisher, group: Group, topic: str
) -> None:
    sent = numbered(topic, 5_000)
    for begin in range(0, len(sent), 1_700):
        await publisher.publish(sent[begin : begin + 1_700])
    taken = await take_until(await group.join(), len(sent))
    assert by_key(taken) == by_key(sent)
    assert {r.partition for r in taken} == {0, 1, 2, 3}
    assert all(r.headers == (("n", r.value),) for r in taken)


async def test_bytes_arrive_as_they_were(publisher: KafkaPublisher, group: Group, topic: str) -> None:
    sent = [
        Outgoing(topic, None, b"\x00\xff", [("a", b""), ("a", b"\xff\x00"), ("한", b"x")]),
        Outgoing(topic, b"", b"", []),
        Outgoing(topic, b"\xff", b"x" * (1024 * 1024 - 4096), ()),
    ]
    for record in sent:
        await publisher.publish([record])
    taken = await take_until(await group.join(), 3)
    assert {(r.key, r.value, r.headers) for r in taken} == {(r.key, r.value, tuple(r.headers)) for r in sent}


async def test_keys_go_where_a_java_producer_puts_them(publisher: KafkaPublisher, group: Group, topic: str) -> None:
    sent = numbered(topic, 50, keys=50)
    await publisher.publish(sent)
    ours = {r.key: r.partition for r in await take_until(await group.join(), 50)}
    # aiokafka's default partitioner is the Java client's.
    async with AIOKafkaProducer(bootstrap_servers=group._settings.bootstrap_servers) as producer:
        theirs = {r.key: (await producer.send_and_wait(topic, b"x", key=r.key)).partition for r in sent}
    assert ours == theirs


async def test_a_record_that_no_topic_can_hold_is_refused_before_any_is_published(
    publisher: KafkaPublisher, group: Group, topic: str
) -> None:
    with pytest.raises(RecordTooLargeError):
        await publisher.publish([*numbered(topic, 3), Outgoing(topic, b"k", b"x" * RECORD_BYTES_MAX, ())])
    consumer = await group.join()
    assert await consumer.take(10, max_wait=0.5) == []


async def test_what_packs_larger_than_its_topic_takes_is_told_at_once(
    publisher: KafkaPublisher, group: Group, topic: str, observer: RecordingObserver
) -> None:
    """Within a topic's limit as it came, and beyond it as lz4 packs what cannot be compressed."""
    large = Outgoing(topic, b"k", random.Random(1).randbytes(ORIGINAL_BYTES_MAX - 1), ())
    with pytest.raises(TooLargeForTopicError) as refused:
        await publisher.publish([large])
    assert (refused.value.topic, refused.value.confirmed) == (topic, frozenset())
    assert observer.counted("publisher", "too_large") == 1
    await publisher.publish(numbered(topic, 3))
    assert len(await take_until(await group.join(), 3)) == 3


def noise(topic: str, number: int, size: int) -> Outgoing:
    """A record that nothing packs smaller."""
    return Outgoing(topic, b"k", random.Random(number).randbytes(size), [("n", b"%d" % number)])


async def test_batches_larger_than_a_topic_takes_go_one_by_one(
    settings: KafkaSettings, publisher: KafkaPublisher, observer: RecordingObserver
) -> None:
    """A topic that takes each record and not many at once is not away."""
    topic = await fresh_topic(settings, 1, max_message_bytes=4096)
    sent = [noise(topic, n, 1000) for n in range(20)]
    receipts = await publisher.deliver(sent)
    assert [r.offset for r in receipts] == sorted({r.offset for r in receipts})
    group = Group(settings, observer, topic)
    taken = await take_until(await group.join(), len(sent))
    await group.stop()
    assert [r.value for r in taken] == [r.value for r in sent]
    assert observer.counted("publisher", "too_large") == 0


async def test_what_a_topic_takes_at_once_is_found_out_and_remembered(
    settings: KafkaSettings, publisher: KafkaPublisher, observer: RecordingObserver
) -> None:
    """Each refusal costs the producer. Ten of these records are too many, and three are not."""
    topic, usual = await fresh_topic(settings, 1, max_message_bytes=4096), await fresh_topic(settings, 1)
    for _ in range(6):
        await publisher.publish([noise(t, n, 1000) for n in range(10) for t in (topic, usual)])
    refused = observer.counts["publisher", "producer_replaced", "MessageSizeTooLargeError"]
    assert 1 <= refused <= 3
    group = Group(settings, observer, topic)
    taken = await take_until(await group.join(), 60)
    await group.stop()
    assert [r.value for r in taken] == [noise(topic, n, 1000).value for n in range(10)] * 6


async def test_one_record_that_is_too_large_makes_no_topic_narrow(
    settings: KafkaSettings, publisher: KafkaPublisher, observer: RecordingObserver
) -> None:
    topic = await fresh_topic(settings, 1, max_message_bytes=8192)
    for _ in range(3):
        with pytest.raises(TooLargeForTopicError):
            await publisher.publish([noise(topic, n, 9000 if n == 1 else 1000) for n in range(3)])
    assert publisher._narrow.most(topic, 0.0) is None


async def test_which_record_is_too_large_is_told_and_those_before_it_are_there(
    settings: KafkaSettings, publisher: KafkaPublisher, observer: RecordingObserver
) -> None:
    topic = await fresh_topic(settings, 1, max_message_bytes=4096)
    sent = [noise(topic, n, 5000 if n == 3 else 1000) for n in range(8)]
    with pytest.raises(TooLargeForTopicError) as refused:
        await publisher.publish(sent)
    assert (refused.value.topic, refused.value.numbers) == (topic, {3})
    assert refused.value.confirmed == {0, 1, 2}
    assert observer.counted("publisher", "too_large") == 1


async def test_an_event_too_large_for_its_topic_holds_up_no_other(
    settings: KafkaSettings, publisher: KafkaPublisher, observer: RecordingObserver
) -> None:
    """The relay tried it for ever, and nothing behind it was told to anybody."""
    narrow, usual = await fresh_topic(settings, 1, max_message_bytes=4096), await fresh_topic(settings, 1)
    rig = Rig()
    rig.publisher = publisher  # type: ignore[assignment]
    sent = [noise(narrow if n % 2 else usual, n, 9000 if n in (3, 4, 9) else 1000) for n in range(12)]
    events = [replace(outbox_event(str(n)), topic=r.topic, body=r.value) for n, r in enumerate(sent)]
    async with rig.store.transaction() as uow:
        await uow.outbox.append(events)
    assert await rig.relay_all() == len(sent)
    assert [row.event.event_id for row, _ in rig.database.outbox_parked.values()] == ["3", "9"]
    for topic in (narrow, usual):
        wanted = [e.body for e in events if e.topic == topic and e.event_id not in ("3", "9")]
        group = Group(settings, observer, topic)
        consumer, taken = await group.join(), list[bytes]()
        async with in_time("all others"):
            while len(set(taken)) < len(wanted):
                taken += [r.value for r in await consumer.take(20, max_wait=0.5)]
        await group.stop()
        assert list(dict.fromkeys(taken)) == wanted


async def test_an_unknown_topic_is_told_apart_from_a_kafka_that_is_away(
    settings: KafkaSettings, observer: RecordingObserver
) -> None:
    async with publisher_of(settings, observer, deadline_seconds=5.0) as publisher:
        missing = f"t-{uuid.uuid4().hex}"
        told: list[str] = []

        async def is_told() -> bool:
            with pytest.raises(PublisherUnavailableError) as refused:
                await publisher.publish([Outgoing(missing, b"k", b"v", ())])
            told.extend([refused.value.topic] if isinstance(refused.value, TopicClosedError) else [])
            return bool(told)

        # On a busy machine the brokers may not answer in the short time that there is to ask them.
        await eventually(is_told)
        assert told == [missing]


async def test_dead_letters_of_the_largest_size_fit_their_topic(
    settings: KafkaSettings, publisher: KafkaPublisher, observer: RecordingObserver
) -> None:
    table = next(t for t in TOPICS if t.name == DEAD_LETTER)
    await ensure_topics(settings, [table], replication_factor=1, apply=True)
    keys = MasterKeys({"k": bytes(32)})
    value = b"4111111111111111" + uuid.uuid4().bytes * (ORIGINAL_BYTES_MAX // 16 - 100)
    record = Record("mypay.orders", 0, 1, 1, b"k", value, (("ce_id", b"e"),))
    await KafkaDeadLetters(publisher, keys).park("initiation", [(record, ValueError("x"))])
    readers = Group(settings, observer, DEAD_LETTER)
    [letter] = await take_until(await readers.join(), 1)
    await readers.stop()
    assert ORIGINAL_BYTES_MAX < len(letter.value) <= DEAD_LETTER_BYTES_MAX
    assert restore(letter, LetterKeys(keys)).value == value


async def test_out_of_sequence_producer_is_replaced(
    publisher: KafkaPublisher, group: Group, topic: str, observer: RecordingObserver
) -> None:
    sent = numbered(topic, 400)
    await publisher.publish(sent[:200])
    manager = publisher._live._producer._txn_manager
    for partition in list(manager._sequence_numbers):
        manager._sequence_numbers[partition] += 1_000
    await publisher.publish(sent[200:])
    assert observer.counts["publisher", "producer_replaced", "OutOfOrderSequenceNumber"] == 1
    taken = await take_until(await group.join(), 400)
    assert {k: first_seen(v) for k, v in by_key(taken).items()} == by_key(sent)

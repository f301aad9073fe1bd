import asyncio
import socket
import struct
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record._crc32c import crc as crc32c

from gateway.base.errors import PublisherUnavailableError, TopicClosedError
from gateway.messaging.backlog import Backlogs
from gateway.messaging.consumer import BatchConsumer
from gateway.messaging.dead_letters import (
    DEAD_LETTER_BYTES_MAX,
    ORIGINAL_BYTES_MAX,
    KafkaDeadLetters,
    LetterKeys,
    restore,
)
from gateway.messaging.group_sessions import ALLOWED_SESSION_MS
from gateway.messaging.producer import RECORD_BYTES_MAX, KafkaPublisher, RecordTooLargeError
from gateway.messaging.reader import open_reader
from gateway.messaging.records import Outgoing, Record
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import TopicAdminError, TopicState, TopicStatus, ensure_topics
from gateway.observability.recording import RecordingObserver
from gateway.sealing.sealing import MasterKeys
from schemas.topics import DEAD_LETTER, TOPICS, TimestampType, Topic
from tests.support.stack import Stack

pytestmark = pytest.mark.integration

ORDERS_TOPIC = TOPICS[0]


@pytest.fixture
def settings(kafka: str) -> KafkaSettings:
    return KafkaSettings(kafka)


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
async def topic(settings: KafkaSettings) -> str:
    return await fresh_topic(settings)


async def fresh_topic(settings: KafkaSettings, partitions: int = 4) -> str:
    wanted = replace(ORDERS_TOPIC, name=f"t-{uuid.uuid4().hex}", partitions=partitions)
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


@pytest.fixture
async def publisher(settings: KafkaSettings, observer: RecordingObserver) -> AsyncIterator[KafkaPublisher]:
    async with publisher_of(settings, observer) as started:
        yield started


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


@pytest.fixture
async def group(settings: KafkaSettings, observer: RecordingObserver, topic: str) -> AsyncIterator[Group]:
    made = Group(settings, observer, topic)
    yield made
    await made.stop()


def numbered(topic: str, count: int, *, keys: int = 7, start: int = 0) -> list[Outgoing]:
    return [Outgoing(topic, b"key-%d" % (n % keys), b"%d" % n, [("n", b"%d" % n)]) for n in range(start, start + count)]


async def take_until(consumer: BatchConsumer, count: int) -> list[Record]:
    taken: list[Record] = []
    async with asyncio.timeout(30):
        while len(taken) < count:
            taken += await consumer.take(count - len(taken), max_wait=0.5)
    return taken


def by_key(records: Sequence[Record]) -> dict[bytes | None, list[int]]:
    found: defaultdict[bytes | None, list[int]] = defaultdict(list)
    for record in records:
        found[record.key].append(int(record.value))
    return dict(found)


def expected(sent: Sequence[Outgoing]) -> dict[bytes | None, list[int]]:
    found: defaultdict[bytes | None, list[int]] = defaultdict(list)
    for record in sent:
        found[record.key].append(int(record.value))
    return dict(found)


def first_seen(numbers: Sequence[int]) -> list[int]:
    """Without repeats, as a consumer that deduplicates sees them."""
    return list(dict.fromkeys(numbers))


async def eventually(met: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await met():  # noqa: ASYNC110 - the cluster tells nobody when it is so far
            await asyncio.sleep(0.02)


# --- publishing and taking --------------------------------------------------------------------------------------------


async def test_every_record_arrives_once_and_in_its_keys_order(
    publisher: KafkaPublisher, group: Group, topic: str
) -> None:
    sent = numbered(topic, 5_000)
    for begin in range(0, len(sent), 1_700):
        await publisher.publish(sent[begin : begin + 1_700])
    taken = await take_until(await group.join(), len(sent))
    assert by_key(taken) == expected(sent)
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


async def test_an_unknown_topic_is_told_apart_from_a_kafka_that_is_away(
    settings: KafkaSettings, observer: RecordingObserver
) -> None:
    async with publisher_of(settings, observer, deadline_seconds=1.0) as publisher:
        missing = f"t-{uuid.uuid4().hex}"
        with pytest.raises(TopicClosedError) as refused:
            await publisher.publish([Outgoing(missing, b"k", b"v", ())])
        assert refused.value.topic == missing


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


# --- committing -------------------------------------------------------------------------------------------------------


async def test_what_was_committed_does_not_come_again_and_the_rest_does(
    publisher: KafkaPublisher, group: Group, topic: str
) -> None:
    sent = numbered(topic, 300)
    await publisher.publish(sent)
    first = await group.join()
    done = await take_until(first, 100)
    assert await first.commit(done)
    in_hand = await take_until(first, 50)
    await first.stop()
    rest = await take_until(await group.join(), 200)
    assert {int(r.value) for r in rest} == {int(s.value) for s in sent} - {int(r.value) for r in done}
    assert {int(r.value) for r in in_hand} <= {int(r.value) for r in rest}


async def test_commits_never_go_back(publisher: KafkaPublisher, group: Group, topic: str) -> None:
    await publisher.publish(numbered(topic, 20, keys=1))
    first = await group.join()
    taken = await take_until(first, 20)
    assert await first.commit(taken)
    assert await first.commit(taken[:5])
    await first.stop()
    second = await group.join()
    assert await second.take(10, max_wait=0.5) == []


async def test_rewound_records_come_again(publisher: KafkaPublisher, group: Group, topic: str) -> None:
    sent = numbered(topic, 100)
    await publisher.publish(sent)
    consumer = await group.join()
    first = await take_until(consumer, 100)
    await consumer.rewind(first)
    assert not await consumer.commit(first)
    again = await take_until(consumer, 100)
    assert by_key(again) == by_key(first)
    assert await consumer.commit(again)


async def test_a_cancelled_take_loses_nothing(publisher: KafkaPublisher, group: Group, topic: str) -> None:
    consumer = await group.join()
    sent = numbered(topic, 2_000)
    taken: list[Record] = []
    cancelled = 0
    feeding = asyncio.create_task(_feed(publisher, sent, size=20))
    async with asyncio.timeout(30):
        while len(taken) < len(sent):
            take = asyncio.create_task(consumer.take(50, max_wait=0.5))
            # Cancelled after every possible number of turns of the loop, among others when the records just came.
            for _ in range(cancelled % 7):
                await asyncio.sleep(0)
            if len(taken) % 3:
                taken += await take
                cancelled += 1
                continue
            take.cancel()
            cancelled += 1
            try:
                taken += await take
            except asyncio.CancelledError:
                taken += await consumer.take(1, max_wait=0.5)
    await feeding
    assert by_key(taken) == expected(sent)


async def _feed(publisher: KafkaPublisher, sent: Sequence[Outgoing], *, size: int) -> None:
    for begin in range(0, len(sent), size):
        await publisher.publish(sent[begin : begin + size])


async def test_a_paused_consumer_takes_nothing_and_keeps_its_place(
    publisher: KafkaPublisher, group: Group, topic: str
) -> None:
    consumer = await group.join()
    sent = numbered(topic, 100)
    await publisher.publish(sent[:50])
    early = await take_until(consumer, 20)
    consumer.pause()
    await publisher.publish(sent[50:])
    assert await consumer.take(100, max_wait=0.3) == []
    assert len(consumer.assignment) == 4
    consumer.resume()
    assert by_key([*early, *await take_until(consumer, 80)]) == expected(sent)


async def test_lag_counts_what_was_not_taken(publisher: KafkaPublisher, group: Group, topic: str) -> None:
    await publisher.publish(numbered(topic, 100))
    consumer = await group.join()
    await take_until(consumer, 40)

    async def lags_sixty() -> bool:
        return await consumer.lag() == 60

    await eventually(lags_sixty)
    await take_until(consumer, 60)
    assert await consumer.lag() == 0


async def test_lag_counts_what_comes_while_it_is_paused(publisher: KafkaPublisher, group: Group, topic: str) -> None:
    consumer = await group.join()
    await publisher.publish(numbered(topic, 10))
    await take_until(consumer, 10)
    assert consumer.problem() is None
    consumer.pause()
    await publisher.publish(numbered(topic, 30))

    async def lags_thirty() -> bool:
        await consumer.take(1, max_wait=0.05)
        return await consumer.lag() == 30

    await eventually(lags_thirty)


async def test_what_comes_while_a_small_batch_is_in_hand_is_the_next_batch_as_a_whole(
    publisher: KafkaPublisher, group: Group, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of it is fetched ahead, alone: the rest would be a batch later."""
    monkeypatch.setattr("gateway.messaging.fetch_waits.HELD_S", 30.0)
    consumer = await group.join()
    for round_ in range(3):
        await publisher.publish([Outgoing(topic, b"key-0", b"first", [])])
        assert len(await consumer.take(100, max_wait=30)) == 1, round_
        for number in range(5):
            # Each is confirmed before the next is sent: a fetch that waited would end with the first.
            await publisher.publish([Outgoing(topic, b"key-%d" % number, b"later", [])])
        assert len(await consumer.take(100, max_wait=30)) == 5, round_


async def test_stopping_ends_a_waiting_take(group: Group) -> None:
    consumer = await group.join()
    take = asyncio.create_task(consumer.take(10, max_wait=60))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await consumer.stop()
        assert await take == []


# --- rebalances -------------------------------------------------------------------------------------------------------


async def test_a_rebalance_waits_for_what_is_in_hand(
    publisher: KafkaPublisher, group: Group, topic: str, observer: RecordingObserver
) -> None:
    sent = numbered(topic, 400)
    await publisher.publish(sent)
    first = await group.join()
    in_hand = await take_until(first, 200)
    joining = asyncio.create_task(group.join())

    async def is_asked_to_give_up() -> bool:
        return first._consumer._subscription.reassignment_in_progress

    await eventually(is_asked_to_give_up)
    assert not joining.done()
    assert await first.commit(in_hand)
    rest_of_first = asyncio.create_task(_drain(first))
    rest = await _drain(await joining)
    rest += await rest_of_first
    assert sorted(int(r.value) for r in [*in_hand, *rest]) == list(range(400))
    assert observer.counted("consumer", "drain_timeout") == 0


async def _drain(consumer: BatchConsumer) -> list[Record]:
    """Take and commit until nothing comes for a while."""
    taken: list[Record] = []
    quiet = 0
    while quiet < 3:
        records = await consumer.take(100, max_wait=0.5)
        await consumer.commit(records)
        taken += records
        quiet = 0 if records else quiet + 1
    return taken


async def test_what_is_held_too_long_comes_again_and_its_commit_is_lost(
    publisher: KafkaPublisher, group: Group, topic: str, observer: RecordingObserver
) -> None:
    await publisher.publish(numbered(topic, 40))
    first = await group.join(drain_seconds=0.1)
    in_hand = await take_until(first, 40)
    joining = asyncio.create_task(group.join())
    polling = asyncio.create_task(first.take(1, max_wait=10))
    second = await joining
    assert not await first.commit(in_hand)
    repeated = await polling + await _drain(second) + await _drain(first)
    assert {int(r.value) for r in repeated} == set(range(40))
    assert observer.counted("consumer", "drain_timeout") >= 1
    assert observer.counted("consumer", "commit_lost") >= 1


async def test_owner_is_told_of_partitions_that_come_and_go(
    settings: KafkaSettings, observer: RecordingObserver, topic: str
) -> None:
    events: list[tuple[str, int]] = []

    async def note(kind: str, count: int) -> None:
        events.append((kind, count))

    group_id = uuid.uuid4().hex
    first, second = (
        BatchConsumer(
            settings,
            observer,
            topics=[topic],
            group_id=group_id,
            on_assigned=lambda partitions, kind=kind: note(f"{kind}+", len(partitions)),  # type: ignore[misc]
            on_revoked=lambda partitions, kind=kind: note(f"{kind}-", len(partitions)),  # type: ignore[misc]
        )
        for kind in ("first", "second")
    )
    await first.start()
    polling = asyncio.create_task(first.take(1, max_wait=15))
    await second.start()
    await first.stop()
    await polling
    await second.stop()
    assert events[:2] == [("first+", 4), ("first-", 4)]
    assert sorted(events[2:4]) == [("first+", 2), ("second+", 2)]


async def test_who_starts_again_under_its_name_has_its_partitions_back_and_nobody_else_hears_of_it(
    publisher: KafkaPublisher, group: Group, topic: str, observer: RecordingObserver
) -> None:
    # Longer than this test waits for anything: nobody is found dead meanwhile.
    group.session_s = 60.0
    first, other = await group.join(worker="first"), await _beside(group)
    sent = numbered(topic, 200)
    await publisher.publish(sent)
    in_hand = await take_until(first, sum(1 for _ in first.assignment))
    having = other.assignment, first.assignment
    assigned = len([n for n in observer.notes if n.event == "partitions_assigned"])
    # It says no word to the brokers, as if it had been killed.
    await first.stop()
    again = await group.join(worker="first")
    assert (other.assignment, again.assignment) == having
    assert len([n for n in observer.notes if n.event == "partitions_assigned"]) == assigned + 1
    taken = [record for member in (other, again) for record in await _drain(member)]
    assert {int(r.value) for r in in_hand} <= {int(r.value) for r in taken}
    assert sorted(int(r.value) for r in taken) == list(range(200))


async def _beside(group: Group) -> BatchConsumer:
    """A second member, once the first has given it its half."""
    [first] = group._members
    joining = asyncio.create_task(group.join(worker="other"))
    while not joining.done():
        await first.take(1, max_wait=0.1)
    other = await joining

    async def is_shared_out() -> bool:
        await first.take(1, max_wait=0.1)
        return len(first.assignment) == len(other.assignment) == 2

    await eventually(is_shared_out)
    return other


async def test_brokers_that_refuse_a_short_session_get_a_longer_one(
    publisher: KafkaPublisher, group: Group, topic: str, observer: RecordingObserver
) -> None:
    # Below what even this stack's broker allows.
    group.session_s = 0.5
    await publisher.publish(numbered(topic, 20))
    member = await group.join()
    assert len(await take_until(member, 20)) == 20
    assert member._consumer._coordinator._session_timeout_ms == ALLOWED_SESSION_MS
    assert observer.counted("consumer", "consumer_replaced") == 0


async def test_who_was_replaced_under_its_name_and_lives_on_commits_nothing(
    publisher: KafkaPublisher, group: Group, topic: str
) -> None:
    group.session_s = 60.0
    await publisher.publish(numbered(topic, 40))
    first = await group.join(worker="same")
    in_hand = await take_until(first, 40)
    second = await group.join(worker="same")
    assert not await first.commit(in_hand)
    await first.stop()
    assert {int(r.value) for r in await _drain(second)} == set(range(40))


# --- bad records ------------------------------------------------------------------------------------------------------


async def test_a_header_name_that_is_not_utf8_stops_nothing(kafka: str, group: Group, topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        batch = producer.create_batch()
        for n in range(3):
            batch.append(timestamp=None, key=b"k", value=b"%d" % n, headers=[("AAAA", b"v")] if n == 1 else [])
        build = batch._build

        def tampered() -> bytes:
            data = bytearray(build())
            place = data.index(b"AAAA")
            data[place : place + 4] = b"\xff\xfe\xff\xfe"
            struct.pack_into(">I", data, 17, crc32c(bytes(data[21:])))
            return bytes(data)

        batch._build = tampered
        await (await producer.send_batch(batch, topic, partition=0))
    taken = await take_until(await group.join(), 3)
    assert [r.value for r in taken] == [b"0", b"1", b"2"]
    assert taken[1].headers == (("\\xff\\xfe\\xff\\xfe", b"v"),)


# --- outages ----------------------------------------------------------------------------------------------------------


async def test_out_of_sequence_producer_is_replaced(
    publisher: KafkaPublisher, group: Group, topic: str, observer: RecordingObserver
) -> None:
    sent = numbered(topic, 400)
    await publisher.publish(sent[:200])
    manager = publisher._producer._txn_manager
    for partition in list(manager._sequence_numbers):
        manager._sequence_numbers[partition] += 1_000
    await publisher.publish(sent[200:])
    assert observer.counts["publisher", "producer_replaced", "OutOfOrderSequenceNumber"] == 1
    taken = await take_until(await group.join(), 400)
    assert {k: first_seen(v) for k, v in by_key(taken).items()} == expected(sent)


async def test_broker_restart_loses_and_reorders_nothing(
    stack: Stack, publisher: KafkaPublisher, group: Group, topic: str
) -> None:
    consumer = await group.join()
    sent = numbered(topic, 6_000)
    taken: list[Record] = []
    halfway, done = asyncio.Event(), asyncio.Event()

    async def feed() -> None:
        for begin in range(0, len(sent), 100):
            if begin == 3_000:
                halfway.set()
            await publisher.publish(sent[begin : begin + 100])
        done.set()

    async def read() -> None:
        missing = {int(s.value) for s in sent}
        while missing:
            records = await consumer.take(500, max_wait=0.2)
            await consumer.commit(records)
            taken.extend(records)
            missing -= {int(r.value) for r in records}

    async with asyncio.timeout(90), asyncio.TaskGroup() as tasks:
        tasks.create_task(feed())
        tasks.create_task(read())
        await halfway.wait()
        await asyncio.to_thread(stack.kill_kafka)
        await asyncio.sleep(1)  # an outage of some length, not a wait for something
        assert not done.is_set()
        await asyncio.to_thread(stack.start_kafka)
    assert {k: first_seen(v) for k, v in by_key(taken).items()} == expected(sent)


async def test_an_outage_longer_than_the_deadline_is_told_and_ends(
    stack: Stack, settings: KafkaSettings, group: Group, topic: str, observer: RecordingObserver
) -> None:
    sent = numbered(topic, 500)
    async with publisher_of(settings, observer, deadline_seconds=1.0) as publisher:
        await publisher.publish(sent[:100])
        await asyncio.to_thread(stack.kill_kafka)
        try:
            for _ in range(3):
                with pytest.raises(PublisherUnavailableError):
                    await publisher.publish(sent[100:])
        finally:
            await asyncio.to_thread(stack.start_kafka)

        async def publishes() -> bool:
            try:
                await publisher.publish(sent[100:])
            except PublisherUnavailableError:
                return False
            return True

        await eventually(publishes)
    consumer = await group.join()
    taken = await _drain(consumer)
    assert {k: first_seen(v) for k, v in by_key(taken).items()} == expected(sent)
    # Each of the refused attempts may have left its records once, and no more.
    assert len(taken) <= 100 + 4 * 400


async def test_a_publisher_stops_in_time_during_an_outage(
    stack: Stack, settings: KafkaSettings, observer: RecordingObserver, topic: str
) -> None:
    publisher = KafkaPublisher(settings, observer, deadline_seconds=60.0)
    await publisher.start()
    await publisher.publish(numbered(topic, 10))
    await asyncio.to_thread(stack.kill_kafka)
    try:
        waiting = asyncio.create_task(publisher.publish(numbered(topic, 10, start=10)))
        await asyncio.sleep(0.2)
        async with asyncio.timeout(10):
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
        async with asyncio.timeout(5):
            await consumer.stop()
            await starting


# --- topics -----------------------------------------------------------------------------------------------------------


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
    other = await ensured(settings, replace(larger, retention_ms=1, max_message_bytes=2), apply=True)
    assert set(other.differences) == {
        "retention.ms is 604800000, should be 1",
        "max.message.bytes is 1048576, should be 2",
    }
    assert (await ensured(settings, larger, apply=False)).state is TopicState.OK


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
        assert (await ensured(settings, wanted, apply=False)).state is TopicState.OK
        stamped = await producer.send_and_wait(wanted.name, b"v", timestamp_ms=an_hour_ago)
    async with open_reader(settings, wanted.name) as reader:
        records = [r async for r in reader.read_all()]
    assert [r.timestamp_ms for r in records] == [believed.timestamp, stamped.timestamp]
    assert believed.timestamp == an_hour_ago
    assert stamped.timestamp >= an_hour_ago + 3_600_000


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


# --- how much waits, and turns ----------------------------------------------------------------------------------------


async def test_how_much_waits_for_a_group_is_told_from_outside(
    settings: KafkaSettings, observer: RecordingObserver, publisher: KafkaPublisher, group: Group, topic: str
) -> None:
    backlogs = Backlogs(settings, observer)

    async def known() -> bool:
        return await backlogs.of([(topic, group.name)]) is not None

    try:
        # A new cluster makes its topic of offsets when it is first asked for a group.
        await eventually(known)
        assert await backlogs.of([(topic, group.name), ("no-such-topic", group.name)]) == {}
        await publisher.publish([Outgoing(topic, b"k", b"%d" % n, [], partition=2) for n in range(5)])
        assert await backlogs.of([(topic, group.name)]) == {(topic, 2): 5}
        consumer = await group.join()
        taken = await take_until(consumer, 5)
        assert await consumer.commit(taken[:3])
        # Several at once, as the intake's two tasks ask.
        assert await asyncio.gather(*(backlogs.of([(topic, group.name)]) for _ in range(3))) == [{(topic, 2): 2}] * 3
        assert await consumer.commit(taken)
        assert await backlogs.of([(topic, group.name)]) == {}
    finally:
        await backlogs.stop()
    nowhere = Backlogs(KafkaSettings("127.0.0.1:1"), observer)
    assert await nowhere.of([(topic, group.name)]) is None
    assert observer.counts["backlog", "unknown", "KafkaConnectionError"] == 1, observer.counts


async def test_in_turns_no_partition_waits_for_anothers_flood(
    settings: KafkaSettings, observer: RecordingObserver, publisher: KafkaPublisher, topic: str
) -> None:
    flood = [Outgoing(topic, b"", b"%d" % n, [], partition=0) for n in range(2_000)]
    await publisher.publish([*flood, *(Outgoing(topic, b"", b"quiet-%d" % p, [], partition=p) for p in (1, 2, 3))])
    consumer = BatchConsumer(settings, observer, topics=[topic], group_id=uuid.uuid4().hex, in_turns=True)
    await consumer.start()
    try:
        taken: list[Record] = []
        async with asyncio.timeout(30):
            while len({r.partition for r in taken}) < 4:
                taken += await consumer.take(40, max_wait=0.5)
        # What one partition leaves of a take is the others'.
        assert len(taken) <= 400
        taken += await take_until(consumer, len(flood) + 3 - len(taken))
        assert [int(r.value) for r in taken if r.partition == 0] == list(range(2_000))
        assert await consumer.commit(taken)
    finally:
        await consumer.stop()

"""Taking and committing: what was not committed comes again; what waits is counted; no partition waits for another."""

import asyncio
import uuid
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer

from gateway.messaging.backlog import Backlogs
from gateway.messaging.consumer import BatchConsumer
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.records import Outgoing, Record
from gateway.messaging.settings import KafkaSettings
from gateway.observability.recording import RecordingObserver
from tests.support.batches import rename_header
from tests.support.kafka_groups import Group, by_key, eventually, numbered, take_until


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
    async with asyncio.timeout(60):
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
    assert by_key(taken) == by_key(sent)


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
    assert by_key([*early, *await take_until(consumer, 80)]) == by_key(sent)


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
    async with asyncio.timeout(60):
        await consumer.stop()
        assert await take == []


async def test_a_header_name_that_is_not_utf8_stops_nothing(kafka: str, group: Group, topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        batch = producer.create_batch()
        for n in range(3):
            batch.append(timestamp=None, key=b"k", value=b"%d" % n, headers=[("AAAA", b"v")] if n == 1 else [])
        rename_header(batch, b"AAAA", b"\xff\xfe\xff\xfe")
        await (await producer.send_batch(batch, topic, partition=0))
    taken = await take_until(await group.join(), 3)
    assert [r.value for r in taken] == [b"0", b"1", b"2"]
    assert taken[1].headers == (("\\xff\\xfe\\xff\\xfe", b"v"),)


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
        async with asyncio.timeout(60):
            while len({r.partition for r in taken}) < 4:
                taken += await consumer.take(40, max_wait=0.5)
        # What one partition leaves of a take is the others'.
        assert len(taken) <= 400
        taken += await take_until(consumer, len(flood) + 3 - len(taken))
        assert [int(r.value) for r in taken if r.partition == 0] == list(range(2_000))
        assert await consumer.commit(taken)
    finally:
        await consumer.stop()

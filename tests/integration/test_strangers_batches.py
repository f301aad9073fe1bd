"""What partners do to Kafka itself: batches that unpack without end, transactions that are aborted or never end."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaProducer

from gateway.messaging import fetching, unpacking
from gateway.messaging.consumer import BatchConsumer
from gateway.messaging.dead_letters import LetterKeys, Omitted, read_fate
from gateway.messaging.reader import open_reader
from gateway.messaging.records import Record, Unread
from gateway.messaging.settings import KafkaSettings
from gateway.observability.recording import RecordingObserver
from gateway.proving.collect.topics import read_topics
from schemas.topics import DEAD_LETTER, ORDERS
from tests.support.batches import CODECS, GZIP, LZ4, SNAPPY, ZSTD, bomb, send_raw, small_batch
from tests.support.entries import Entry
from tests.support.kafka_groups import fresh_topic
from tests.support.scene import Scene

MIB: Final = 1 << 20

BOMBS: Final = {GZIP: 990 * MIB, SNAPPY: 19 * MIB, LZ4: 230 * MIB, ZSTD: 990 * MIB}
"""What a batch of less than a MiB unpacks to at most, by codec."""

RSS_MAX: Final = 300 * MIB
"""That a process may grow by: what waits, unpacked and not, and what is left of it in the allocator."""


def raw_bomb(codec: int) -> bytes:
    raw = bomb(codec, BOMBS[codec])
    assert len(raw) < MIB
    return raw


def test_each_codec_has_its_bomb() -> None:
    assert set(BOMBS) == set(CODECS.values())


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
async def test_our_consumer_reads_on_behind_a_bomb(kafka: str, codec: int) -> None:
    settings, observer = KafkaSettings(kafka), RecordingObserver()
    topic = await fresh_topic(settings, partitions=1)
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for raw in (small_batch([b"before"]), raw_bomb(codec), small_batch([b"behind"], codec=codec)):
            await send_raw(producer, raw, topic)
    before = peak_rss("self")
    consumer = BatchConsumer(settings, observer, topics=[topic], group_id=uuid.uuid4().hex)
    await consumer.start()
    try:
        taken: list[Record] = []
        async with asyncio.timeout(60):
            while len(taken) < 3:
                taken += await consumer.take(10, max_wait=0.5)
        assert await consumer.commit(taken)
    finally:
        await consumer.stop()
    assert [r.unread or r.value for r in taken] == [b"before", Unread(1, 1, unpacking.TOO_LARGE), b"behind"]
    assert peak_rss("self") - before < RSS_MAX
    assert not [n for n in observer.notes if n.level in ("warning", "error")]
    # Tools pass over it, too.
    async with open_reader(settings, topic) as reader:
        assert [r.value async for r in reader.read_all()] == [b"before", b"behind"]


async def test_bombs_among_orders_are_parked_by_their_place_and_every_order_is_settled(scene: Scene) -> None:
    pid = scene.process("initiation").pid
    before, counted = peak_rss(pid), await scene.outcomes("initiation")
    entries: list[Entry] = []
    places: list[int] = []
    # Of its own: raw batches have no sequence numbers.
    async with AIOKafkaProducer(bootstrap_servers=scene.world.kafka_bootstrap_servers) as producer:
        for codec in CODECS.values():
            entries += await send_to(scene, 0, scene.payments(2))
            places.append(await send_raw(producer, raw_bomb(codec), ORDERS, 0))
    entries += await send_to(scene, 0, scene.payments(2))
    scene.planted.update((ORDERS, 0, place) for place in places)
    await scene.until_states(entries, "approved")
    assert scene.process("initiation").pid == pid
    assert await scene.healthz("initiation") == 200
    told = (await scene.outcomes("initiation")) - counted
    assert told["initiation", "unread", ""] == len(places)
    fates = {}
    async for message in read_topics(scene.world.kafka_bootstrap_servers, [DEAD_LETTER]):
        fate = read_fate(fetching.record_of(message, message.timestamp), LetterKeys(scene.world.dead_letter_keys))
        fates[fate.topic, fate.partition, fate.offset] = fate
        if (fate.topic, fate.partition) == (ORDERS, 0) and fate.offset in places:
            assert message.value == b""
    for place in places:
        fate = fates[ORDERS, 0, place]
        assert fate.message == f"offset {place}: what stands there {unpacking.TOO_LARGE}"
        assert fate.omitted is Omitted.UNREAD
    grown = peak_rss(pid) - before
    print(f"peak RSS of initiation: {peak_rss(pid) / MIB:.0f} MiB, {grown / MIB:.0f} MiB more than before the bombs")  # noqa: T201
    assert grown < RSS_MAX
    await scene.settle()
    await scene.check_books()


async def test_an_order_in_a_transaction_is_paid_once_it_is_committed_and_never_when_it_is_aborted(
    scene: Scene,
) -> None:
    aborted, undecided, behind, elsewhere = (scene.payments(2) for _ in range(4))
    async with transactional(scene) as producer:
        await producer.begin_transaction()
        await send_all(producer, aborted, 1)
        await producer.abort_transaction()
        await producer.begin_transaction()
        places = await send_all(producer, undecided, 1)
        await producer.flush()
        await send_to(scene, 1, behind)
        await send_to(scene, 2, elsewhere)
        await scene.until_states(elsewhere, "approved")
        await scene.until(lambda: held_back(scene), "what waits behind the open transaction is told")
        assert not await scene.rows_of([*aborted, *undecided, *behind])
        assert await scene.healthz("initiation") == 200
        await producer.commit_transaction()
        scene.sent(undecided, [(at.partition, at.offset, at.timestamp) for at in places])
    await scene.until_states([*undecided, *behind], "approved")
    # Past the mark that ends a transaction nothing is committed before the next order.
    last = await send_to(scene, 1, scene.payments(1))
    await scene.until_states(last, "approved")
    assert not await scene.rows_of(aborted)
    await scene.settle()
    await scene.check_books()


async def held_back(scene: Scene) -> bool:
    text = await scene.metrics_text("initiation")
    lines = [line for line in text.splitlines() if line.startswith("mypay_open_transaction_records ")]
    return bool(lines) and float(lines[0].split()[-1]) >= 4


@asynccontextmanager
async def transactional(scene: Scene) -> AsyncIterator[Any]:
    producer = AIOKafkaProducer(
        bootstrap_servers=scene.world.kafka_bootstrap_servers, transactional_id=uuid.uuid4().hex
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send_all(producer: Any, entries: Sequence[Entry], partition: int) -> list[Any]:
    futures = [
        await producer.send(
            ORDERS,
            value=e.record.value,
            key=e.record.key,
            headers=list(e.record.headers),
            partition=partition,
        )
        for e in entries
    ]
    return list(await asyncio.gather(*futures))


async def send_to(scene: Scene, partition: int, entries: list[Entry]) -> list[Entry]:
    places = await send_all(scene.producer, entries, partition)
    scene.sent(entries, [(at.partition, at.offset, at.timestamp) for at in places])
    return entries


def peak_rss(pid: int | str) -> int:
    """Bytes: the most that a process ever had in memory."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such line")

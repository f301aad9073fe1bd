"""A Faust stage takes every record, also what Faust fetched and dropped because its flow had stopped meanwhile."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaTimeoutError

from gateway.app.settings import Settings
from gateway.messaging.records import Record
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from schemas.topics import TOPICS
from streams.app import build_app, read_batches, run_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

WAIT_S = 60.0


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110 - neither Faust nor aiokafka tells
            await asyncio.sleep(0.02)


async def send(kafka: str, topic: str, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def commit(kafka: str, group: str, topic: str, offset: int) -> None:
    """As somebody who rewinds a group does."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.commit({TopicPartition(topic, 0): offset})
    finally:
        await consumer.stop()


@pytest.fixture
async def topic(kafka: str) -> str:
    wanted = replace(TOPICS[0], name=f"t-{uuid.uuid4().hex}", partitions=1)
    await ensure_topics(KafkaSettings(kafka), [wanted], replication_factor=1, apply=True)
    return wanted.name


class Stage:
    """A stage, and what it took; its flow stops as the first records come, as it does where partitions are revoked."""

    def __init__(self, kafka: str, topic: str, home: Path) -> None:
        self.app: Any = build_app(topic, Settings(home=home), KafkaSettings(kafka))
        self.taken: list[bytes] = []
        self.dropped = False
        read_batches(self.app, topic, self._take, batch_max=10, batch_wait_s=0.02)

    async def _take(self, records: Sequence[Record]) -> None:
        self.taken.extend(r.value for r in records)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        running = asyncio.ensure_future(run_until(self.app, stopping))
        await until(lambda: self.app.started)
        consumer = self.app.consumer
        fetch = consumer._getmany

        async def fetch_as_it_stops(**more: Any) -> Any:
            records = await fetch(**more)
            if records and not self.dropped:
                self.dropped = True
                consumer.stop_flow()
            return records

        consumer._getmany = fetch_as_it_stops
        try:
            yield
        finally:
            stopping.set()
            await running


@pytest.mark.parametrize("committed", [None, 0, 1], ids=["nothing was committed", "rewound", "one was committed"])
async def test_what_was_dropped_comes_again(kafka: str, topic: str, tmp_path: Path, committed: int | None) -> None:
    stage = Stage(kafka, topic, tmp_path)
    if committed is not None:
        await commit(kafka, stage.app.conf.id, topic, committed)
    wanted = [b"1", b"2", b"3"][committed or 0 :]
    await send(kafka, topic, b"1", b"2")
    async with stage.running():
        await until(lambda: stage.dropped)
        stage.app.consumer.resume_flow()
        await send(kafka, topic, b"3")
        await until(lambda: b"3" in stage.taken)
    assert stage.taken == wanted


@pytest.mark.parametrize(
    ("refusals", "taken"),
    [
        ([KafkaTimeoutError()], [b"1", b"2", b"3"]),
        # Other partitions were given out meanwhile (here they were not): nothing is to be gone back to, and it goes on.
        ([KafkaTimeoutError(), IllegalStateError("not assigned")], [b"3"]),
    ],
    ids=["not told", "not held any more"],
)
async def test_a_place_that_could_not_be_asked_for_is_asked_for_again(
    kafka: str, topic: str, tmp_path: Path, refusals: list[Exception], taken: list[bytes]
) -> None:
    stage = Stage(kafka, topic, tmp_path)
    await send(kafka, topic, b"1", b"2")
    async with stage.running():
        thread = stage.app.consumer._thread
        seek = thread.seek_to_committed
        left = list(refusals)

        async def refuse() -> Any:
            if stage.dropped and left:
                raise left.pop(0)
            return await seek()

        thread.seek_to_committed = refuse
        await until(lambda: len(left) < len(refusals) and stage.app.consumer.can_resume_flow._waiters)
        stage.app.consumer.resume_flow()
        await send(kafka, topic, b"3")
        await until(lambda: b"3" in stage.taken)
    assert stage.taken == taken

"""Two programs to compare with: one that does the least that is durable, and one that takes messages one at a time.

- **Floor**: consume 2,000 records, COPY them into PostgreSQL (committed to disk), produce them again (acks=all), commit
  the offsets. No decoding, no signatures, no limits, no network: nothing as durable can be faster by much.
- **Naive**: the same with one record at a time, as a first version of a gateway is often written.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from gateway.base.process import SilentObserver
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.records import Outgoing
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from gateway.proving.traffic.load import BATCH
from schemas.topics import Topic

FLOOR_BATCH: Final = 2000
_IN, _OUT = "bench.baseline.in", "bench.baseline.out"
_TABLE: Final = "CREATE TABLE IF NOT EXISTS bench_baseline (partition integer, place bigint, key bytea, value bytea)"


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a program reached."""

    records: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Records a second."""
        return self.records / self.seconds if self.seconds else 0.0


async def prepare(kafka: KafkaSettings, dsn: str, records: Sequence[Outgoing], *, copies: int) -> None:
    """Make topics and table, and produce what the programs will read: ``copies`` times the records."""
    topics = [_topic(_IN), _topic(_OUT)]
    await ensure_topics(kafka, topics, replication_factor=1, apply=True)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_TABLE)
    finally:
        await connection.close()
    publisher = KafkaPublisher(kafka, SilentObserver())
    await publisher.start()
    try:
        for _ in range(copies):
            for begin in range(0, len(records), BATCH * 10):
                await publisher.publish(_moved(records[begin : begin + BATCH * 10], _IN))
    finally:
        await publisher.stop()


async def floor(kafka: KafkaSettings, dsn: str, *, seconds: float) -> Baseline:
    """Run the floor for ``seconds``, or until everything prepared is through."""
    publisher = KafkaPublisher(kafka, SilentObserver())
    await publisher.start()
    connection = await asyncpg.connect(dsn)
    try:
        async with _consumer(kafka, "bench-floor") as consumer:
            done = 0
            began = last = time.monotonic()
            while last - began < seconds:
                polled = await consumer.getmany(timeout_ms=500, max_records=FLOOR_BATCH)
                messages = [m for batch in polled.values() for m in batch]
                if not messages:
                    break
                await connection.copy_records_to_table(
                    "bench_baseline", records=[(m.partition, m.offset, m.key, m.value) for m in messages]
                )
                await publisher.publish([Outgoing(_OUT, m.key, m.value, m.headers) for m in messages])
                await consumer.commit()
                done += len(messages)
                last = time.monotonic()
            return Baseline(done, last - began)
    finally:
        await connection.close()
        await publisher.stop()


async def naive(kafka: KafkaSettings, dsn: str, *, seconds: float) -> Baseline:
    """Run the naive program for ``seconds``."""
    producer = AIOKafkaProducer(**kafka.client_arguments(), enable_idempotence=True, acks="all")
    await producer.start()
    connection = await asyncpg.connect(dsn)
    try:
        async with _consumer(kafka, "bench-naive") as consumer:
            done = 0
            began = last = time.monotonic()
            while last - began < seconds:
                message = await consumer.getone()
                await connection.execute(
                    "INSERT INTO bench_baseline VALUES ($1, $2, $3, $4)",
                    message.partition,
                    message.offset,
                    message.key,
                    message.value,
                )
                await producer.send_and_wait(_OUT, message.value, key=message.key, headers=list(message.headers))
                await consumer.commit()
                done += 1
                last = time.monotonic()
            return Baseline(done, last - began)
    finally:
        await connection.close()
        await producer.stop()


@asynccontextmanager
async def _consumer(kafka: KafkaSettings, group: str) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(
        _IN,
        **kafka.client_arguments(),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


def _moved(records: Sequence[Outgoing], topic: str) -> list[Outgoing]:
    return [Outgoing(topic, r.key, r.value, r.headers) for r in records]


def _topic(name: str) -> Topic:
    return Topic(
        name=name,
        key="consent_id",
        messages={},
        partitions=8,
        retention_ms=3_600_000,
        writers=(),
        readers=(),
        description="A baseline's.",
    )

"""A Faust stage whose membership in its group has silently ended: it must end as well, to be started again."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from gateway.app.settings import Settings
from gateway.messaging.records import Record
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from schemas.topics import TOPICS
from streams.app import AppCrashedError, build_app, read_batches, run_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

WAIT_S = 120.0


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110 - neither Faust nor aiokafka tells
            await asyncio.sleep(0.05)


async def sent(kafka: str, topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        await producer.send_and_wait(topic, b"x")
    finally:
        await producer.stop()


@pytest.fixture
async def topic(kafka: str) -> str:
    wanted = replace(TOPICS[0], name=f"t-{uuid.uuid4().hex}", partitions=1)
    await ensure_topics(KafkaSettings(kafka), [wanted], replication_factor=1, apply=True)
    return wanted.name


async def test_a_stage_that_kafka_has_left_without_a_word_ends(kafka: str, topic: str, tmp_path: Path) -> None:
    app: Any = build_app(topic, Settings(home=tmp_path), KafkaSettings(kafka))
    taken: list[Record] = []

    async def take(records: Sequence[Record]) -> None:
        taken.extend(records)

    read_batches(app, topic, take, batch_max=10, batch_wait_s=0.02)
    running: Awaitable[None] = asyncio.ensure_future(run_until(app, asyncio.Event()))
    await sent(kafka, topic)
    await until(lambda: taken)

    # What a broker that has just started does: it answers without naming a broker, itself included.
    coordinator = app.consumer._thread._consumer._coordinator
    coordinator._client.get_random_node = lambda: None
    coordinator.coordinator_dead()
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(AppCrashedError):
            await running

"""Three brokers and a synchronous standby: nothing that was confirmed is lost with one of them."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from gateway.base.process import SilentObserver
from gateway.messaging.producer import KafkaPublisher
from gateway.messaging.records import Outgoing
from gateway.messaging.settings import KafkaSettings
from gateway.messaging.topics_admin import ensure_topics
from gateway.proving import stack as local
from gateway.proving.collect.topics import read_topics
from schemas.topics import ORDERS, concrete_topics

pytestmark = pytest.mark.integration

NAME = "replicated"


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[local.StackAddresses]:
    monkeypatch.delenv("MYPAY_KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.delenv("MYPAY_POSTGRES_DSN", raising=False)
    try:
        yield local.up(NAME, home=tmp_path, replicated=True)
    finally:
        local.reset(NAME, home=tmp_path)


async def publish(kafka: KafkaSettings, *values: bytes) -> None:
    publisher = KafkaPublisher(kafka, SilentObserver())
    await publisher.start()
    try:
        await publisher.publish([Outgoing(ORDERS, b"key", value, []) for value in values])
    finally:
        await publisher.stop()


@pytest.mark.timeout(180)
async def test_what_was_confirmed_outlives_a_broker_and_the_primary(
    stack: local.StackAddresses, tmp_path: Path
) -> None:
    kafka = KafkaSettings(stack.kafka_bootstrap_servers)
    topics = [t for t in concrete_topics(partners=["p"], networks=["n"]) if t.name == ORDERS]
    await ensure_topics(kafka, topics, replication_factor=3, apply=True)
    connection = await asyncpg.connect(stack.postgres_dsn)
    await connection.execute("CREATE TABLE paid (n integer)")
    await connection.execute("INSERT INTO paid VALUES (1)")
    states = await connection.fetch("SELECT sync_state FROM pg_stat_replication")
    assert [r["sync_state"] for r in states] == ["sync"]
    await connection.close()
    await publish(kafka, b"before")

    local.kill_broker(NAME, 2, home=tmp_path)
    promoted = local.fail_over(NAME, home=tmp_path)

    await publish(kafka, b"after")
    values = sorted([r.value async for r in read_topics(stack.kafka_bootstrap_servers, [ORDERS])])
    assert values == [b"after", b"before"]
    connection = await asyncpg.connect(promoted)
    await connection.execute("INSERT INTO paid VALUES (2)")
    assert [r["n"] for r in await connection.fetch("SELECT n FROM paid ORDER BY n")] == [1, 2]
    await connection.close()

"""A connection to Kafka that has ended, under uvloop as in every stage: what asks there goes on by another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from gateway.messaging.settings import KafkaSettings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

WAIT_S = 60.0


@asynccontextmanager
async def consumer_of(kafka: str) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(**KafkaSettings(kafka).client_arguments(), request_timeout_ms=5_000)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def end(connection: Any) -> None:
    """As the moment between a transport's end and the one in which aiokafka has read that it ended."""
    connection._read_task.cancel()
    connection._writer.transport.abort()
    await connection._writer.wait_closed()


async def run(scenario: Callable[[str], Awaitable[None]], kafka: str) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WAIT_S):
            await scenario(kafka)

    await asyncio.to_thread(uvloop.run, bounded())


async def _ask_on_an_ended_connection(kafka: str) -> None:
    async with consumer_of(kafka) as consumer:
        client = consumer._client
        connection = await client._get_conn(client.get_random_node())
        await end(connection)
        with pytest.raises(KafkaConnectionError):
            await connection.send(MetadataRequest(None))
        assert not connection.connected()


async def test_who_asks_on_a_connection_that_has_ended_is_told_that_it_is_broken(kafka: str) -> None:
    await run(_ask_on_an_ended_connection, kafka)


def _ends_under(client: Any) -> None:
    """The next connection that is asked for ends before anything is sent."""
    connect = client._get_conn

    async def once(*args: Any, **more: Any) -> Any:
        client._get_conn = connect
        connection = await connect(*args, **more)
        await end(connection)
        return connection

    client._get_conn = once


def _fails_under(client: Any) -> None:
    """The next answer cannot be taken."""
    update = client.cluster.update_metadata

    def once(metadata: Any) -> None:
        client.cluster.update_metadata = update
        raise ValueError

    client.cluster.update_metadata = once


@pytest.mark.parametrize("spoil", [_ends_under, _fails_under], ids=["connection ended", "not understood"])
async def test_metadata_that_could_not_be_asked_for_are_asked_for_again(
    kafka: str, spoil: Callable[[Any], None]
) -> None:
    async def ask(kafka: str) -> None:
        async with consumer_of(kafka) as consumer:
            spoil(consumer._client)
            assert not await consumer._client.force_metadata_update()
            assert await consumer._client.force_metadata_update()

    await run(ask, kafka)

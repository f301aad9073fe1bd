"""A client that asks Kafka about topics, groups and rights, and changes them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError

from gateway.base.errors import SilentServerError
from gateway.messaging.settings import START_S, KafkaSettings


@asynccontextmanager
async def administration(settings: KafkaSettings) -> AsyncIterator[Any]:
    """Connect, within :data:`START_S`: a broker that takes the connection may say nothing.

    Raises:
        SilentServerError: it says nothing.
        KafkaError, TimeoutError, OSError: as aiokafka raises them, while connecting or later.
    """
    client = AIOKafkaAdminClient(**settings.client_arguments())
    try:
        async with answering_within(START_S):
            await client.start()
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def answering_within(seconds: float) -> AsyncIterator[None]:
    """Bound what is asked of Kafka in the block.

    Raises:
        SilentServerError: it takes longer.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise SilentServerError("Kafka", seconds) from None


def unanswered(error: Exception) -> str:
    """Why Kafka did not do what it was asked, of an error of aiokafka's or of ours, for people."""
    match error:
        case SilentServerError():
            return str(error)
        case TimeoutError():
            return "Kafka did not answer in time"
        case KafkaConnectionError():
            return "Kafka cannot be reached"
        case _:
            return f"Kafka refused or did not answer: {type(error).__name__}"

"""A client that asks Kafka about topics, groups and rights, and changes them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from gateway.messaging.settings import START_S, KafkaSettings


@asynccontextmanager
async def administration(settings: KafkaSettings) -> AsyncIterator[Any]:
    """Connect, within :data:`START_S`: a broker that takes the connection may say nothing.

    Raises:
        KafkaError, TimeoutError, OSError: as aiokafka raises them, while connecting or later.
    """
    client = AIOKafkaAdminClient(**settings.client_arguments())
    try:
        async with asyncio.timeout(START_S):
            await client.start()
        yield client
    finally:
        await client.close()
